//! What can go wrong with one request, and whether to ask again.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use quick_xml::de::from_str;
use serde::Deserialize;

use crate::error::{Error, Kind};

/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Codes that S3 sends with a status of 4xx (or inside a 200) and that pass.
const PASSING: [&str; 9] = [
    "InternalError",
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
    "ConditionalRequestConflict",
];

/// A request that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// The answer's status; `None` when there was no answer.
    pub(super) status: Option<StatusCode>,
    /// S3's code for it; empty when there is none.
    pub(super) code: String,
    /// What else is known, for the log.
    message: String,
    /// Whether it may pass.
    pub(super) passing: bool,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorBody {
    code: String,
    message: String,
}

impl Failure {
    /// An answer that is no success, or a success with an error inside.
    pub(super) fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let ErrorBody { code, message } = from_str(&text).unwrap_or_default();
        let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            status: Some(status),
            passing: again || PASSING.contains(&code.as_str()),
            code,
            message,
            retry_after: asked.map(|s| Duration::from_secs(s).min(RETRY_AFTER_MAX)),
        }
    }

    /// No answer, or one that broke off or makes no sense.
    pub(super) fn transport(message: impl Into<String>) -> Self {
        Self {
            status: None,
            code: String::new(),
            message: message.into(),
            passing: true,
            retry_after: None,
        }
    }

    /// Something that asking again will not change.
    pub(super) fn final_one(message: impl Into<String>) -> Self {
        Self { passing: false, ..Self::transport(message) }
    }

    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// Whether the server does not know the header that makes a write conditional.
    pub(super) fn refuses_conditions(&self) -> bool {
        self.is(StatusCode::NOT_IMPLEMENTED) || self.code == "NotImplemented"
    }

    /// Whether the server may not know the header that asks for checksums.
    pub(super) fn refuses_checksums(&self) -> bool {
        self.is(StatusCode::BAD_REQUEST) || self.refuses_conditions()
    }

    /// Our error for it. `what` says what was tried, with the key.
    pub(super) fn into_error(self, what: &str) -> Error {
        let (kind, said, hint) = self.worded();
        let status = self.status.map_or_else(|| "no answer".to_owned(), |s| s.as_u16().to_string());
        let cause = format!("{status} {} {}", self.code, self.message);
        let error = Error::new(kind, format!("{what}: {said}")).because(cause.trim().to_owned());
        if hint.is_empty() { error } else { error.hint(hint) }
    }

    fn worded(&self) -> (Kind, &'static str, &'static str) {
        match (self.code.as_str(), self.status.map(|status| status.as_u16())) {
            ("NoSuchBucket", _) => (
                Kind::Unavailable,
                "the bucket does not exist",
                "create it, or correct its name in the S3 settings",
            ),
            ("RequestTimeTooSkewed", _) => (
                Kind::Unavailable,
                "the clocks of this machine and the S3 server differ too much",
                "set this machine's clock (NTP)",
            ),
            ("InvalidAccessKeyId", _) => (
                Kind::Unavailable,
                "the S3 server does not know the access key",
                "check the access key in the S3 settings",
            ),
            ("SignatureDoesNotMatch", _) => (
                Kind::Unavailable,
                "the S3 server does not accept the signature",
                "check secret and region in the S3 settings",
            ),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, Some(301)) => (
                Kind::Unavailable,
                "the bucket is in another region",
                "correct region and endpoint in the S3 settings",
            ),
            ("EntityTooLarge" | "QuotaExceeded" | "StorageFull" | "XMinioStorageFull", _) => {
                (Kind::NoSpace, "the S3 server has no room for it", "")
            }
            (_, Some(401 | 403)) => (
                Kind::Unavailable,
                "the S3 server refused the credentials",
                "the key must be allowed to list, read, write and delete in the bucket",
            ),
            (_, Some(404)) => (Kind::NotFound, "not found", ""),
            (_, Some(409 | 412)) => (Kind::Exists, "exists already", ""),
            (_, Some(507)) => (Kind::NoSpace, "the S3 server has no room for it", ""),
            (_, Some(_)) => (Kind::Unavailable, "the S3 server does not answer as it should", ""),
            (_, None) => (Kind::Unavailable, "the S3 server does not answer", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).expect("a status");
        Failure::answered(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><X/></Error>");
        for (status, body, passing) in [
            (500, String::new(), true),
            (503, error("SlowDown"), true),
            (429, String::new(), true),
            (400, error("RequestTimeout"), true),
            (400, error("BadDigest"), true),
            (409, error("ConditionalRequestConflict"), true),
            (200, error("InternalError"), true),
            (400, error("EntityTooSmall"), false),
            (403, error("AccessDenied"), false),
            (404, "not even XML <".to_owned(), false),
            (501, error("NotImplemented"), false),
        ] {
            assert_eq!(answered(status, &body).passing, passing, "{status} {body}");
        }
        assert!(Failure::transport("reset").passing);
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_asks_within_reason() {
        let mut headers = HeaderMap::new();
        let asked = |headers: &HeaderMap| {
            Failure::answered(StatusCode::SERVICE_UNAVAILABLE, headers, b"").retry_after
        };
        assert_eq!(asked(&headers), None);
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static("7"));
        assert_eq!(asked(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static("86400"));
        assert_eq!(asked(&headers), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn messages_say_what_to_do_and_causes_stay_for_the_log() {
        let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>secret</Message></Error>";
        let error = answered(403, body).into_error("put a.zip");
        assert!(error.message().contains("clocks") && !error.message().contains("secret"));
        assert!(error.full().contains("403 RequestTimeTooSkewed secret"), "{}", error.full());
        assert_eq!(answered(404, "").into_error("x").kind(), &Kind::NotFound);
        assert_eq!(answered(412, "").into_error("x").kind(), &Kind::Exists);
        let moved = answered(301, "<Error><Code>PermanentRedirect</Code></Error>");
        assert!(moved.into_error("x").message().contains("another region"));
        let gone = answered(404, "<Error><Code>NoSuchBucket</Code></Error>").into_error("x");
        assert_eq!(gone.kind(), &Kind::Unavailable);
    }
}
