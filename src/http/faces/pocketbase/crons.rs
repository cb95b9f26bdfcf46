//! `/api/crons`

use actix_web::HttpResponse;
use serde::Serialize;

use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError};
use crate::http::guard::Superuser;
use crate::http::respond;

#[derive(Debug, Serialize)]
struct Listed {
    id: &'static str,
    expression: String,
}

/// `GET /api/crons`
pub(super) async fn list(call: &Call, superuser: &Superuser) -> Answer<HttpResponse> {
    if let Some(program) = &call.services.program {
        return super::behind::crons(call, program, superuser).await;
    }
    let listed: Vec<Listed> = call
        .services
        .scheduler
        .crons()
        .await?
        .into_iter()
        .map(|cron| Listed { id: cron.task.id(), expression: cron.expression })
        .collect();
    respond::ok(call, &listed)
}

/// `POST /api/crons/{id}`
pub(super) async fn run(call: &Call, _: &Superuser, id: &[u8]) -> Answer<HttpResponse> {
    let crons = call.services.scheduler.crons().await?;
    let cron = crons.into_iter().find(|cron| cron.task.id().as_bytes() == id);
    let cron = cron.ok_or_else(|| ApiError::not_found("Missing or invalid cron job."))?;
    call.services.scheduler.clone().spawn(cron.task);
    Ok(respond::no_content())
}
