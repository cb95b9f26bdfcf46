//! The answers of this face.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::fault::{Answer, ApiError, SOMETHING};
use crate::http::call::Call;
use crate::http::json;

/// 200 with JSON, of which the client's `fields` picks.
pub(super) fn ok(call: &Call, body: &impl Serialize) -> Answer<HttpResponse> {
    json(call, StatusCode::OK, body)
}

/// JSON with any status.
pub(super) fn json(call: &Call, status: StatusCode, body: &impl Serialize) -> Answer<HttpResponse> {
    json::respond(&call.request, status, body).map_err(|_| ApiError::bad_request(SOMETHING))
}

/// 204.
pub(super) fn no_content() -> HttpResponse {
    empty(StatusCode::NO_CONTENT)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> HttpResponse {
    json::respond_empty(status)
}
