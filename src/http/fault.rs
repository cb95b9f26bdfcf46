//! How an error looks to PocketBase's clients: `{"data":{},"message":"…","status":400}`. Our own
//! routes answer in the same form, so that the same clients understand them.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Violation};
use crate::http::json;

/// The message of failed validations.
pub const VALIDATION: &str = "An error occurred while validating the submitted data.";
/// The message of bodies that cannot be read.
pub const LOADING: &str = "An error occurred while loading the submitted data.";
/// The message for things that are not there.
pub const NOT_FOUND: &str = "The requested resource wasn't found.";
/// The message when there is nothing better to say.
pub const SOMETHING: &str = "Something went wrong while processing your request.";

/// When who waited in vain should come again, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// An error as PocketBase answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// A sentence, upper case first and with a final dot.
    pub message: String,
    /// Broken rules by field, nested like the input; `{}` when there are none.
    pub data: Value,
    /// When to come again, in seconds.
    pub retry_after_s: Option<u64>,
}

/// What handlers of this face return.
pub type Answer<T> = Result<T, ApiError>;

impl ApiError {
    /// An error without field errors.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), data: json!({}), retry_after_s: None }
    }

    /// A 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A 401.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "The request requires valid record authorization token.",
        )
    }

    /// A 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// A 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A 429 for who has to wait.
    pub fn too_many(wait: Duration) -> Self {
        let refused = Self::from(Error::new(Kind::Throttled, "Too often."));
        Self { retry_after_s: Some(wait.as_secs().max(1)), ..refused }
    }

    /// A 400 for broken rules.
    pub fn invalid(message: impl Into<String>, violations: &[Violation]) -> Self {
        Self { data: nested(violations), ..Self::bad_request(message) }
    }

    /// The answer; a 503 always says when to come again.
    pub fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let mut answer = json::respond_error(request, self.status, &self.body());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
        }
        if let Some(seconds) = self.retry_after_s {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }

    /// The body.
    pub fn body(&self) -> Value {
        json!({ "data": self.data, "message": self.message, "status": self.status.as_u16() })
    }
}

/// What an error means where a handler has no better words for it.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid(violations) => return Self::invalid(VALIDATION, violations),
            Kind::Busy | Kind::InUse => return Self::bad_request(error.message()),
            Kind::Denied => return Self::forbidden(error.message()),
            Kind::Unauthenticated => return Self::unauthorized(),
            Kind::NotFound => return Self::not_found(NOT_FOUND),
            Kind::Throttled => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests.");
            }
            Kind::Cancelled
            | Kind::Corrupt
            | Kind::Exists
            | Kind::NoSpace
            | Kind::Internal
            | Kind::Unavailable => StatusCode::BAD_REQUEST,
        };
        tracing::error!(error = error.full(), "a request failed");
        Self::new(status, SOMETHING)
    }
}

/// `a.b` becomes `{"a":{"b":{…}}}`.
fn nested(violations: &[Violation]) -> Value {
    let mut root = Map::new();
    for violation in violations {
        let mut leaf = json!({ "code": violation.code, "message": violation.message });
        if !violation.params.is_empty() {
            let params: Map<String, Value> =
                violation.params.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
            leaf["params"] = Value::Object(params);
        }
        let mut parts: Vec<&str> = violation.field.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        let mut level = &mut root;
        for part in parts {
            let next = level.entry(part).or_insert_with(|| json!({}));
            match next {
                Value::Object(map) => level = map,
                _ => return Value::Object(root),
            }
        }
        level.insert(last.to_owned(), leaf);
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_nest_like_their_input() {
        let violations = [
            Violation::new("backups.s3.bucket", "validation_required", "Cannot be blank."),
            Violation::new("backups.cronMaxKeep", "c", "m").with("threshold", 1),
        ];
        let error = ApiError::invalid("No.", &violations);
        let keep = json!({ "code": "c", "message": "m", "params": { "threshold": 1 } });
        let bucket = json!({ "code": "validation_required", "message": "Cannot be blank." });
        let data = json!({ "backups": { "cronMaxKeep": keep, "s3": { "bucket": bucket } } });
        assert_eq!(error.body(), json!({ "data": data, "message": "No.", "status": 400 }));
    }

    #[test]
    fn causes_never_reach_the_client() {
        let error = Error::internal("cannot open /secret/place").because("device gone");
        assert_eq!(ApiError::from(error).message, SOMETHING);
    }
}
