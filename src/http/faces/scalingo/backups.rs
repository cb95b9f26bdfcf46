//! Backups of a database.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::call::Call;
use crate::http::faces::scalingo::account::{ok, reply};
use crate::http::faces::scalingo::guard::Grant;
use crate::http::faces::scalingo::refusal::{Refusal, Reply};
use crate::http::faces::scalingo::shapes::Backup;
use crate::http::faces::scalingo::{Scalingo, target_of};
use crate::http::respond;
use crate::vault::Method;
use crate::vault::orders::OrderState;

/// `GET /api/databases/{db}/backups`
pub(super) async fn list(call: &Call, face: &Scalingo, db: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    let orders = face.orders.list(target_of(grant.addon)).await?;
    let backups: Vec<_> = orders.iter().map(|order| Backup::new(grant.addon, order)).collect();
    Ok(ok(call, &json!({ "database_backups": backups })))
}

/// `POST /api/databases/{db}/backups`
pub(super) async fn create(call: &Call, face: &Scalingo, db: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    let order = face.orders.place(target_of(grant.addon), Method::Api).await?;
    tracing::info!(database = grant.addon.database, ip = call.real_ip, "a backup was ordered");
    let backup = Backup::placed(grant.addon, &order);
    Ok(reply(call, StatusCode::CREATED, &json!({ "database_backup": backup })))
}

/// `GET /api/databases/{db}/backups/{id}` and `GET /api/backups/{id}`
pub(super) async fn show(call: &Call, face: &Scalingo, db: Option<&str>, id: &str) -> Reply {
    let grant = Grant::of(call, face, db)?;
    let order = face.orders.find(target_of(grant.addon), id).await?;
    Ok(ok(call, &json!({ "database_backup": Backup::new(grant.addon, &order) })))
}

/// `GET /api/databases/{db}/backups/{id}/archive`
pub(super) async fn archive(call: &Call, face: &Scalingo, db: &str, id: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    let order = face.orders.find(target_of(grant.addon), id).await?;
    if order.state != OrderState::Done {
        let message = "The backup is not done, it cannot be downloaded.";
        return Err(Refusal::bad_request("backup_not_done", message));
    }
    Ok(ok(call, &json!({ "download_url": grant.link(call, face, id) })))
}

/// `DELETE /api/databases/{db}/backups/{id}`
pub(super) async fn delete(
    call: &Call,
    face: &Scalingo,
    db: &str,
    id: &str,
) -> Result<HttpResponse, Refusal> {
    let grant = Grant::of(call, face, Some(db))?;
    face.orders.delete(target_of(grant.addon), id).await?;
    tracing::info!(database = grant.addon.database, id, ip = call.real_ip, "deleted a backup");
    Ok(respond::no_content())
}
