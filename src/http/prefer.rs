//! How long a client wants to wait for the end of a job: `Prefer` of RFC 7240.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, LOCATION};

use crate::http::call::Call;
use crate::http::respond;

/// Longest time that a client may ask us to wait, in seconds.
const WAIT_S_MAX: u64 = 24 * 3600;

/// What a client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// It says nothing.
    None,
    /// Not to wait.
    Async,
    /// To wait so long.
    Wait(Duration),
}

impl Preference {
    /// That of a request.
    pub fn of(call: &Call) -> Self {
        let values = call.values_of("Prefer");
        let values: Vec<&str> =
            values.iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
        Self::parse(&values.join(","))
    }

    /// The first preference that we know counts.
    fn parse(text: &str) -> Self {
        for preference in text.split(',').map(str::trim) {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            if name.trim().eq_ignore_ascii_case("respond-async") {
                return Self::Async;
            }
            if name.trim().eq_ignore_ascii_case("wait")
                && let Ok(seconds) = value.trim().trim_matches('"').parse::<u64>()
            {
                return Self::Wait(Duration::from_secs(seconds.min(WAIT_S_MAX)));
            }
        }
        Self::None
    }

    /// How long to wait, where `unless_told` is the time for clients that say nothing.
    pub fn wait(self, unless_told: Duration) -> Duration {
        match self {
            Self::None => unless_told,
            Self::Async => Duration::ZERO,
            Self::Wait(wait) => wait,
        }
    }

    /// An answer without a body that points to a job which goes on.
    pub fn let_go(self, status: StatusCode, job: u64) -> HttpResponse {
        let mut response = respond::empty(status);
        if let Ok(location) = HeaderValue::from_str(&format!("/api/vault/jobs/{job}")) {
            response.headers_mut().insert(LOCATION, location);
        }
        let applied = match self {
            Self::None => return response,
            Self::Async => "respond-async".to_owned(),
            Self::Wait(wait) => format!("wait={}", wait.as_secs()),
        };
        if let Ok(applied) = HeaderValue::from_str(&applied) {
            let name = HeaderName::from_static("preference-applied");
            response.headers_mut().insert(name, applied);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read() {
        let wait = |seconds| Preference::Wait(Duration::from_secs(seconds));
        for (text, expected) in [
            ("", Preference::None),
            ("respond-async", Preference::Async),
            ("Respond-Async, wait=5", Preference::Async),
            ("handling=lenient, wait=5", wait(5)),
            ("wait=\"7\"", wait(7)),
            ("wait=x", Preference::None),
            ("wait=99999999999", wait(WAIT_S_MAX)),
        ] {
            assert_eq!(Preference::parse(text), expected, "{text}");
        }
    }
}
