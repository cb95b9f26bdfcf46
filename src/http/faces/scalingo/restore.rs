//! Restoring a backup, in the words of Scalingo's JavaScript client.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::config::scalingo::Addon;
use crate::error::{Error, Kind};
use crate::http::call::Call;
use crate::http::faces::scalingo::account::{ok, reply};
use crate::http::faces::scalingo::guard::Grant;
use crate::http::faces::scalingo::refusal::{Refusal, Reply};
use crate::http::faces::scalingo::{Scalingo, shapes, target_of};
use crate::restore::Scope;
use crate::restore::postgres::Wish;
use crate::vault::orders::{OrderState, Target};
use crate::vault::{Job, JobKind, Method, State};

/// Digits of a restoration's id that say of which database it is; the others are its job.
const OF_DATABASE: usize = 8;

/// `POST /api/databases/{db}/backups/{id}/restore`
pub(super) async fn begin(call: &Call, face: &Scalingo, db: &str, id: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    let name = target_of(grant.addon);
    let order = face.orders.find(name, id).await?;
    let not_done = || Refusal::bad_request("backup_not_done", "The backup is not done.");
    let key = order.key.filter(|_| order.state == OrderState::Done).ok_or_else(not_done)?;
    let job = match face.orders.target(name) {
        Some(Target::Database(vault)) => {
            let begun = vault.begin_restore(&key, &Wish::default(), Method::Api).await;
            let restoring = begun.map_err(told)?;
            let job = restoring.job();
            // How it ends is in the job record.
            drop(restoring.spawn());
            job
        }
        Some(Target::Folder(vault, _)) => {
            call.services.require_restorable()?;
            let restoring = vault.begin_restore(&key, Scope::All).await.map_err(told)?;
            let job = restoring.job();
            drop(restoring.spawn());
            job
        }
        None => return Err(Refusal::not_found("database")),
    };
    tracing::info!(%key, ip = call.real_ip, "a restore was ordered");
    let job = call.services.vault.jobs().find_ever(job).await?;
    let job = job.ok_or_else(|| Refusal::not_found("backup_restoration"))?;
    let shown = shown(grant.addon, &job, Some(id));
    Ok(reply(call, StatusCode::CREATED, &json!({ "backup_restoration": shown })))
}

/// `GET /api/databases/{db}/backup_restorations/{id}`
pub(super) async fn show(call: &Call, face: &Scalingo, db: &str, id: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    let none = || Refusal::not_found("backup_restoration");
    let job = id.strip_prefix(&grant.addon.database_id[..OF_DATABASE]).ok_or_else(none)?;
    let job = u64::from_str_radix(job, 16).map_err(|_| none())?;
    let job = call.services.vault.jobs().find_ever(job).await?;
    let job = job.filter(|job| job.kind == JobKind::Restore).ok_or_else(none)?;
    let orders = face.orders.list(target_of(grant.addon)).await?;
    let source = orders.iter().find(|order| order.key.as_ref() == Some(&job.key));
    let shown = shown(grant.addon, &job, source.map(|order| order.id.as_str()));
    Ok(ok(call, &json!({ "backup_restoration": shown })))
}

fn shown(addon: &Addon, job: &Job, source: Option<&str>) -> Value {
    json!({
        "id": format!("{}{:016x}", &addon.database_id[..OF_DATABASE], job.id),
        "created_at": shapes::time(job.started),
        "started_at": shapes::time(job.started),
        "ended_at": job.ended.map(shapes::time),
        "method": "backup",
        "status": match job.state {
            State::Running => "running",
            State::Done => "done",
            _ => "error",
        },
        "database_id": addon.database_id,
        "source_backup_id": source,
    })
}

/// What a plan says against a restore is for the client.
fn told(error: Error) -> Refusal {
    match error.kind() {
        Kind::Unavailable | Kind::Denied if !error.message().contains('/') => {
            Refusal::bad_request("not_restorable", error.message())
        }
        _ => Refusal::from(error),
    }
}
