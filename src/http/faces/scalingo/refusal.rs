//! How an error looks to Scalingo's clients: each status has an object of its own.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind};
use crate::http::fault::{ApiError, SOMETHING};
use crate::http::json;

/// What handlers of this face return.
pub(super) type Reply = Result<HttpResponse, Refusal>;

/// An error as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    /// 400, with a word for programs.
    pub(super) fn bad_request(code: &str, message: &str) -> Self {
        Self::coded(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401.
    pub(super) fn unauthorized(message: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, body: json!({ "error": message }) }
    }

    /// 403, with a word for programs.
    pub(super) fn forbidden(message: &str) -> Self {
        Self::coded(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404 for a thing of that kind; some kinds are words that clients know.
    pub(super) fn not_found(resource: &str) -> Self {
        let body = json!({ "resource": resource, "error": "not found" });
        Self { status: StatusCode::NOT_FOUND, body }
    }

    /// 422 for one field.
    pub(super) fn unprocessable(field: &str, message: &str) -> Self {
        let body = json!({ "errors": { field: [message] } });
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body }
    }

    fn coded(status: StatusCode, code: &str, message: &str) -> Self {
        Self { status, body: json!({ "error": message, "code": code }) }
    }

    /// The answer.
    pub(super) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        json::respond_error(request, self.status, &self.body)
    }
}

/// What an error means where a handler has no better words for it.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.message();
        match error.kind() {
            Kind::NotFound => return Self::not_found("backup"),
            Kind::Unauthenticated => return Self::unauthorized(message),
            Kind::Denied => return Self::forbidden(message),
            Kind::Throttled => {
                return Self::coded(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
            }
            Kind::Busy | Kind::InUse | Kind::Exists => {
                return Self { status: StatusCode::CONFLICT, body: json!({ "error": message }) };
            }
            Kind::Invalid(violations) => {
                let mut errors = Map::new();
                for violation in violations {
                    errors.insert(violation.field.clone(), json!([violation.message]));
                }
                if errors.is_empty() {
                    errors.insert("base".to_owned(), json!([message]));
                }
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Self { status, body: json!({ "errors": errors }) };
            }
            _ => {}
        }
        tracing::error!(error = error.full(), "a request failed");
        let (status, message) = match error.kind() {
            Kind::Unavailable if !message.contains('/') => {
                (StatusCode::SERVICE_UNAVAILABLE, message)
            }
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, SOMETHING),
            Kind::Corrupt if !message.contains('/') => {
                return Self::bad_request("damaged", message);
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, SOMETHING),
        };
        Self { status, body: json!({ "error": message }) }
    }
}

/// An error from before the routes.
impl From<&ApiError> for Refusal {
    fn from(error: &ApiError) -> Self {
        match error.status {
            StatusCode::NOT_FOUND => Self::not_found("route"),
            status => Self::coded(status, "refused", &error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Violation;

    #[test]
    fn each_status_has_the_form_that_clients_read() {
        let (busy, gone) = (Error::new(Kind::Busy, "Later."), Error::new(Kind::NotFound, "no x"));
        let broken = Error::invalid(Violation::new("name", "c", "Too long."));
        let place = Error::new(Kind::Unavailable, "cannot open /secret/place");
        for (error, status, body) in [
            (busy, 409, json!({ "error": "Later." })),
            (gone, 404, json!({ "resource": "backup", "error": "not found" })),
            (broken, 422, json!({ "errors": { "name": ["Too long."] } })),
            (
                Error::new(Kind::Invalid(vec![]), "No."),
                422,
                json!({ "errors": { "base": ["No."] } }),
            ),
            (
                Error::new(Kind::Throttled, "Slow."),
                429,
                json!({
                "error": "Slow.", "code": "too_many_requests" }),
            ),
            (place, 503, json!({ "error": SOMETHING })),
            (Error::internal("x"), 500, json!({ "error": SOMETHING })),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!((refusal.status.as_u16(), refusal.body), (status, body));
        }
    }
}
