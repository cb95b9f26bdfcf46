//! How the program behind us is.

use actix_web::HttpResponse;
use serde::Serialize;

use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;

#[derive(Debug, Serialize)]
struct Shown {
    /// Whether it takes requests.
    ready: bool,
    /// Its process, while there is one.
    pid: Option<u32>,
    /// What it answered last when it was asked for its health, since its start.
    answered: Option<u16>,
    /// How often in a row it died before an answer.
    deaths: u32,
    /// How it ended last, or why it could not be started.
    ended: Option<String>,
}

/// `GET /api/vault/program`
pub(super) async fn get(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let program = call.services.program.as_ref();
    let program = program.ok_or_else(|| ApiError::not_found(NOT_FOUND))?;
    let status = program.front.status();
    respond::ok(
        call,
        &Shown {
            ready: status.address.is_some(),
            pid: status.pid,
            answered: status.answered,
            deaths: status.deaths,
            ended: status.ended,
        },
    )
}
