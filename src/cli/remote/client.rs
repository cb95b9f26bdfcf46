//! One server, spoken to through its public API.

use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};

use crate::config::storage::Secret;
use crate::error::{Context, Error, Kind, Result, Violation};

/// What may stand in a segment of a path as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@');
/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take: a restart keeps requests waiting.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// How long nothing may come of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const LOGIN: &str = "api/collections/_superusers/auth-with-password";

/// A server, and the token that opens it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl Client {
    /// A client of the server at `base`, which ends with `/`.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub(super) fn new(base: Url, token: Option<Secret>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("pocketvault/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .read_timeout(SILENCE_MAX)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self { http, base, token })
    }

    /// The same with a fresh token of a superuser.
    ///
    /// # Errors
    /// The login is refused; nobody answers.
    pub(super) async fn logged_in(mut self, email: &str, password: &str) -> Result<Self> {
        let body = json!({"identity": email, "password": password});
        let answer =
            self.call(Method::POST, LOGIN, Some(&body)).await.map_err(|error| {
                match error.kind() {
                    Kind::Unavailable | Kind::Throttled => error,
                    _ => Error::new(Kind::Unauthenticated, format!("{email} cannot log in"))
                        .because(error)
                        .hint(
                            "are POCKETVAULT_EMAIL and POCKETVAULT_PASSWORD right? with a second \
                           factor, use a token",
                        ),
                }
            })?;
        let token = answer["token"].as_str().unwrap_or_default();
        self.token = Some(Secret::new(token));
        Ok(self)
    }

    /// The JSON of `GET path`.
    ///
    /// # Errors
    /// What the server says, as the [`Kind`] that fits; nobody answers.
    pub(in crate::cli) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Sends a request: the JSON of the answer, `null` for an empty one.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(in crate::cli) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let mut request = self.request(method, path)?.timeout(ANSWER_MAX);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let text = self.send(request).await?.text().await.map_err(|error| self.silent(error))?;
        match text.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_str(&text).map_err(|error| {
                let message = format!("{self} answers something else than JSON");
                Error::new(Kind::Unavailable, message)
                    .because(error)
                    .hint("is it a pocketvault? give its address without /api")
            }),
        }
    }

    /// Begins work that goes on by itself: the number of its job.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(in crate::cli) async fn begin(&self, path: &str, body: Option<&Value>) -> Result<u64> {
        let mut request = self.request(Method::POST, path)?.timeout(ANSWER_MAX);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = self.send(request).await?;
        let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let id = place.and_then(|place| place.rsplit('/').next()?.parse().ok());
        id.ok_or_else(|| {
            let message = format!("{self} does not say which job it began");
            Error::new(Kind::Unavailable, message).hint("is it a pocketvault of this version?")
        })
    }

    /// A request with the token; `path` is relative to the server's address.
    ///
    /// # Errors
    /// The path is not usable.
    pub(in crate::cli) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self.base.join(path).context("the address is not usable")?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.expose()),
            None => request,
        })
    }

    /// Sends it: an answer of 200 to 299.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(in crate::cli) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let answer = request.send().await.map_err(|error| self.silent(error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_redirection() {
            let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
            let message = format!("{self} sends us to {}", place.unwrap_or("elsewhere"));
            return Err(Error::new(Kind::Unavailable, message).hint("name that address"));
        }
        let text = answer.text().await.unwrap_or_default();
        Err(refused(status, &serde_json::from_str(&text).unwrap_or_default()))
    }

    fn silent(&self, error: reqwest::Error) -> Error {
        // Its own text holds the address, which may hold a file token.
        Error::new(Kind::Unavailable, format!("{self} does not answer"))
            .because(error.without_url())
            .hint("does the server run, and is the address right?")
    }
}

/// A key as a segment of a path.
pub(in crate::cli) fn segment(key: &str) -> String {
    utf8_percent_encode(key, PLAIN).to_string()
}

/// What a server refused, in our kinds: the exit status follows from them.
fn refused(status: StatusCode, body: &Value) -> Error {
    let message = match body["message"].as_str() {
        Some(message) if !message.is_empty() => message.to_owned(),
        _ => format!("the server answers {status}"),
    };
    let mut violations = Vec::new();
    flatten("", &body["data"], &mut violations);
    let taken = |violation: &Violation| violation.code == "validation_backup_name_exists";
    let kind = match status.as_u16() {
        401 => Kind::Unauthenticated,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        429 => Kind::Throttled,
        502..=504 => Kind::Unavailable,
        507 => Kind::NoSpace,
        _ if message.starts_with("Try again later") => Kind::Busy,
        _ if message.contains("currently being used") => Kind::InUse,
        _ if violations.iter().any(taken) || message.ends_with("exists already") => Kind::Exists,
        _ if message.contains("cannot be restored") => Kind::Corrupt,
        400..=499 => Kind::Invalid(violations),
        _ => Kind::Internal,
    };
    let error = Error::new(kind, message);
    match status.as_u16() {
        401 => error.hint("the token is none of a superuser's, or has expired"),
        403 => error.hint("the token is good, but not for this"),
        _ => error,
    }
}

/// `{"a":{"b":{"code":…}}}` as violations of dotted fields.
fn flatten(path: &str, data: &Value, violations: &mut Vec<Violation>) {
    let Value::Object(fields) = data else { return };
    if let (Some(code), Some(message)) = (data["code"].as_str(), data["message"].as_str()) {
        violations.push(Violation::new(path, code.to_owned(), message.to_owned()));
        return;
    }
    for (name, inner) in fields {
        let dot = if path.is_empty() { "" } else { "." };
        flatten(&format!("{path}{dot}{name}"), inner, violations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refuses_has_the_kind_that_it_has_here() {
        let taken = json!({"code": "validation_backup_name_exists", "message": "Taken."});
        for (status, body, kind) in [
            (401, json!({}), Kind::Unauthenticated),
            (404, json!({"message": "x"}), Kind::NotFound),
            (400, json!({"message": "Try again later - another"}), Kind::Busy),
            (400, json!({"message": "x", "data": {"name": taken}}), Kind::Exists),
            (400, json!({"message": "a backup a.zip exists already"}), Kind::Exists),
            (507, json!({}), Kind::NoSpace),
            (503, json!({}), Kind::Unavailable),
            (500, json!({}), Kind::Internal),
            (400, json!({"message": "x"}), Kind::Invalid(Vec::new())),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(refused(status, &body).kind(), &kind, "{status} {body}");
        }
    }

    #[test]
    fn keys_are_one_segment() {
        assert_eq!(segment("@auto_a-b.zip"), "@auto_a-b.zip");
        assert_eq!(segment("../ä?"), "..%2F%C3%A4%3F");
    }
}
