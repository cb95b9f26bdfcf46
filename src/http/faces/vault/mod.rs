//! Our own API below `/api/vault`, for superusers only.

mod backups;
mod care;
mod databases;
mod events;
mod jobs;
mod metrics;
mod notify;
pub mod openapi;
pub mod page;
mod program;
mod restore;
mod schedules;
mod tokens;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::backup::Key;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::http::routes::vault::VaultRoute;
use crate::vault::catalog::{Known, ProofKind};
use crate::vault::{Job, Spread};

/// Hands a request to its handler.
///
/// # Errors
/// What the client is told.
pub async fn dispatch(call: &mut Call, route: VaultRoute) -> Answer<HttpResponse> {
    if route == VaultRoute::Metrics {
        return metrics::get(call).await;
    }
    let superuser = Superuser::of(call)?;
    match route {
        VaultRoute::Database(route) => databases::dispatch(call, &superuser, route).await,
        VaultRoute::BackupList => backups::list(call, &superuser).await,
        VaultRoute::Events => events::events(call, &superuser).await,
        VaultRoute::JobCancel(id) => jobs::cancel(call, &superuser, &id).await,
        VaultRoute::JobList => jobs::list(call, &superuser).await,
        VaultRoute::JobGet(id) => jobs::get(call, &superuser, &id).await,
        VaultRoute::Metrics => metrics::get(call).await,
        VaultRoute::NotifyList => notify::list(call, &superuser).await,
        VaultRoute::NotifyTest => notify::test(call, &superuser).await,
        VaultRoute::Program => program::get(call, &superuser).await,
        VaultRoute::RestoreStatus => restore::status(call, &superuser).await,
        VaultRoute::RestoreUndo => restore::undo(call, &superuser).await,
        VaultRoute::BackupCreate => care::create(call, &superuser).await,
        VaultRoute::BackupVerify(key) => care::prove(call, &superuser, &key, ProofKind::Read).await,
        VaultRoute::BackupDrill(key) => care::prove(call, &superuser, &key, ProofKind::Drill).await,
        VaultRoute::BackupPin(key) => care::pin(call, &superuser, &key, true).await,
        VaultRoute::BackupUnpin(key) => care::pin(call, &superuser, &key, false).await,
        VaultRoute::Schedules => schedules::list(call, &superuser).await,
        VaultRoute::ScheduleRun(name) => schedules::run(call, &superuser, &name).await,
        VaultRoute::Tokens => tokens::list(call, &superuser).await,
        VaultRoute::TokenCreate => tokens::create(call, &superuser).await,
        VaultRoute::TokenRevoke(id) => tokens::revoke(call, &superuser, &id).await,
        VaultRoute::Audit => tokens::audit(call, &superuser).await,
        VaultRoute::Status => care::status(call, &superuser).await,
        VaultRoute::PruneGet => care::pruning(call, &superuser).await,
        VaultRoute::Prune => care::prune(call, &superuser).await,
        VaultRoute::BackupPlan(key) => restore::plan(call, &superuser, &key).await,
        VaultRoute::BackupRestore(key) => restore::restore(call, &superuser, &key).await,
    }
}

/// What is known of a backup as the API shows it, for commands that answer as a server would.
pub fn backup_json(known: Known) -> Value {
    json!(backups::Shown::from(known))
}

/// A backup and where it is, as the API lists it.
pub fn listed_json(spread: Spread) -> Value {
    json!(backups::Listed::from(spread))
}

/// A job as the API shows it at `now`.
pub fn job_json(job: Job, now: DateTime<Utc>) -> Value {
    json!(jobs::Shown::new(job, now))
}

/// The answer to work that goes on by itself: where its job is watched.
fn accepted(job: u64) -> HttpResponse {
    let mut response = respond::empty(StatusCode::ACCEPTED);
    if let Ok(location) = HeaderValue::from_str(&format!("/api/vault/jobs/{job}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The backup that a path names.
fn key_of(segment: &[u8]) -> Answer<Key> {
    let name = std::str::from_utf8(segment).ok();
    name.and_then(|name| Key::existing(name).ok()).ok_or_else(|| ApiError::not_found(NOT_FOUND))
}
