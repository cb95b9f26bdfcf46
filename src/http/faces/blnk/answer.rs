//! The answers: Blnk's bodies and codes, with what it leaves out (the cause, the name, the sum).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_FRAME_OPTIONS};
use serde_json::{Value, json};

use crate::error::{Error, Kind};
use crate::http::call::Call;
use crate::vault::blnk::{Failure, Made, Place};

/// What Blnk's clients read.
const DONE: &str = "backup successful";
const FAILED: &str = "error creating backup";
/// The media type of whoever wants an object.
const OBJECT: &str = "application/vnd.pocketvault+json";
const JSON: &str = "application/json; charset=utf-8";

/// Why a caller may not.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no key.
    Missing,
    /// Nobody has that key.
    Invalid,
    /// It was revoked, or its time is over.
    Ended,
    /// It may do other things.
    Insufficient,
    /// Too many wrong ones came from there.
    TooMany,
    /// The database that knows cannot be asked.
    Unknowable(Error),
}

/// The backup is made.
pub(super) fn made(call: &Call, place: Place, made: &Made) -> HttpResponse {
    let wants_object = call.values_of(ACCEPT.as_str()).iter().any(|value| {
        let kinds = value.split(|byte| *byte == b',').filter_map(|kind| {
            Some(kind.split(|byte| *byte == b';').next()?.trim_ascii().to_ascii_lowercase())
        });
        kinds.into_iter().any(|kind| kind == OBJECT.as_bytes())
    });
    let body = match wants_object {
        false => json!(DONE),
        true => json!({
            "message": DONE,
            "name": made.key.as_str(),
            "size": made.size_bytes,
            "sha256": made.sha256,
            "disk": made.on_disk,
            "s3": place == Place::Bucket,
            "job": made.job,
        }),
    };
    let mut answer = respond(StatusCode::OK, &body);
    let facts = [
        ("x-backup-name", made.key.to_string()),
        ("x-backup-size", made.size_bytes.to_string()),
        ("x-backup-sha256", made.sha256.clone()),
    ];
    for (name, value) in facts {
        if let Ok(value) = value.parse() {
            let name = actix_web::http::header::HeaderName::from_static(name);
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// There is no backup.
pub(super) fn failed(failure: &Failure) -> HttpResponse {
    match failure {
        Failure::Missing(names) => {
            let message = format!("backup is not configured: {} missing", names.join(", "));
            misconfigured(&message, &json!({ "missing": names }))
        }
        Failure::Unusable(what) => {
            let message = format!("backup is not configured: {what}");
            misconfigured(&message, &json!({ "cause": what }))
        }
        Failure::Failed(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let codes = ("INTERNAL_SERVER_ERROR", "ADMIN_BACKUP_FAILED");
            respond(status, &nested(codes, FAILED, &details(error)))
        }
    }
}

/// The caller may not.
pub(super) fn refused(refusal: &Refusal) -> HttpResponse {
    let (status, code, message) = match refusal {
        Refusal::Missing => (
            StatusCode::UNAUTHORIZED,
            "AUTH_MISSING_API_KEY",
            "Authentication required. Use X-Blnk-Key header",
        ),
        Refusal::Invalid => (StatusCode::UNAUTHORIZED, "AUTH_INVALID_API_KEY", "Invalid API key"),
        Refusal::Ended => {
            (StatusCode::UNAUTHORIZED, "AUTH_EXPIRED_API_KEY", "API key is expired or revoked")
        }
        Refusal::Insufficient => (
            StatusCode::FORBIDDEN,
            "AUTH_INSUFFICIENT_PERMISSIONS",
            "Insufficient permissions for backup:read",
        ),
        Refusal::TooMany => {
            (StatusCode::TOO_MANY_REQUESTS, "GEN_RATE_LIMITED", "Too many invalid API keys")
        }
        Refusal::Unknowable(error) => {
            tracing::error!(error = error.full(), "an API key of Blnk's could not be looked up");
            let codes = ("INTERNAL_SERVER_ERROR", "GEN_INTERNAL");
            let body = nested(codes, "error checking the API key", &details(error));
            return respond(StatusCode::INTERNAL_SERVER_ERROR, &body);
        }
    };
    let detail = json!({ "code": code, "message": message });
    respond(status, &json!({ "error": message, "error_detail": detail }))
}

/// No such route, as Blnk's router says it.
pub(super) fn not_found() -> HttpResponse {
    let mut answer = HttpResponse::build(StatusCode::NOT_FOUND);
    answer.content_type("text/plain").body("404 page not found")
}

fn misconfigured(message: &str, details: &Value) -> HttpResponse {
    let body = nested(("BAD_REQUEST", "GEN_BAD_REQUEST"), message, details);
    respond(StatusCode::BAD_REQUEST, &body)
}

/// Blnk's envelope of failures: the old form and the new one in one object.
fn nested((old, new): (&str, &str), message: &str, details: &Value) -> Value {
    json!({
        "error": { "code": old, "message": message, "details": details },
        "error_detail": { "code": new, "message": message, "details": details },
    })
}

/// What a client may know of a failure: no places on the server's disk.
fn details(error: &Error) -> Value {
    let cause = match error.kind() {
        _ if !error.message().contains('/') => error.message().to_owned(),
        Kind::NoSpace => "There is not enough room on the disk.".to_owned(),
        _ => "The log of the server says what failed.".to_owned(),
    };
    match error.operator_hint() {
        Some(hint) => json!({ "cause": cause, "hint": hint }),
        None => json!({ "cause": cause }),
    }
}

fn respond(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .content_type(JSON)
        .body(body.to_string())
}
