//! Answers in the form of PocketBase and of our own API.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, SOMETHING};
use crate::http::json;

/// 200 with JSON, of which the client's `fields` picks.
pub fn ok(call: &Call, body: &impl Serialize) -> Answer<HttpResponse> {
    json(call, StatusCode::OK, body)
}

/// JSON with any status.
pub fn json(call: &Call, status: StatusCode, body: &impl Serialize) -> Answer<HttpResponse> {
    json::respond(&call.request, status, body).map_err(|_| ApiError::bad_request(SOMETHING))
}

/// 204.
pub fn no_content() -> HttpResponse {
    empty(StatusCode::NO_CONTENT)
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> HttpResponse {
    json::respond_empty(status)
}
