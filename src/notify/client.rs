//! Our own HTTP requests to receivers: with a time limit, without redirects, and with an
//! answer that says whether another try can help.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::error::{Context, Error, Kind, Result};

use super::guard::{self, OutsideOnly};

const USER_AGENT: &str = concat!("pocketvault/", env!("CARGO_PKG_VERSION"));
/// How much of an answer is read, to tell what a receiver had against a request.
const ANSWER_BYTES_MAX: usize = 200;

/// Who chose the address that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The operator of the machine: it may be any.
    File,
    /// A client of the API: it may be none inside the house.
    Api,
}

/// Sends requests.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    origin: Origin,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// GET without a body, POST with one.
    pub body: Option<String>,
    /// Its own headers.
    pub headers: HeaderMap,
    /// Longest time for the whole.
    pub timeout: Duration,
}

/// Why something was not taken.
#[derive(Debug)]
pub struct Refused {
    /// What happened. It never holds the address, which may hold a secret.
    pub error: Error,
    /// Whether another try can help.
    pub again: bool,
    /// When the receiver wants to be asked again.
    pub after: Option<Duration>,
}

impl Refused {
    /// One that no other try helps.
    pub fn finally(error: Error) -> Self {
        Self { error, again: false, after: None }
    }
}

impl Client {
    /// A client for addresses of that origin.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(origin: Origin) -> Result<Self> {
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            // A redirect could lead inside, and would lose the body.
            .redirect(Policy::none())
            // Notes are rare; an idle connection would be a dead one.
            .pool_max_idle_per_host(0);
        let builder = match origin {
            Origin::File => builder,
            Origin::Api => builder.no_proxy().dns_resolver(OutsideOnly),
        };
        let http = builder.build().context("cannot set up the HTTP client")?;
        Ok(Self { http, origin })
    }

    /// Sends one request, once.
    ///
    /// # Errors
    /// [`Refused`] unless the receiver answers with a status of 200 to 299.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<(), Refused> {
        let bad = || Error::new(Kind::Invalid(Vec::new()), "the address is not usable");
        let url = Url::parse(outgoing.url).map_err(|_| Refused::finally(bad()))?;
        if self.origin == Origin::Api && !guard::may_be_asked(&url) {
            return Err(Refused::finally(inside()));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let method = if outgoing.body.is_some() { Method::POST } else { Method::GET };
        let mut request = self.http.request(method, url).timeout(outgoing.timeout);
        request = request.headers(outgoing.headers);
        if let Some(body) = outgoing.body {
            request = request.body(body);
        }
        let answer = request.send().await.map_err(|error| Refused {
            // A name that leads inside is not looked up again either.
            again: self.origin == Origin::File,
            after: None,
            error: Error::new(Kind::Unavailable, format!("{host} does not answer"))
                .because(error.without_url()),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get(RETRY_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let said = beginning(answer).await;
        let message = format!("{host} answered {status}");
        Err(Refused {
            error: Error::new(Kind::Unavailable, message).because(said),
            again: may_help(status),
            after: after.map(Duration::from_secs),
        })
    }
}

fn inside() -> Error {
    Error::new(Kind::Denied, "The address lies inside this network.")
        .hint("addresses inside are for the configuration file only")
}

/// Whether the same request can be answered otherwise later.
fn may_help(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status)
}

async fn beginning(mut answer: reqwest::Response) -> String {
    let mut said = Vec::new();
    while said.len() < ANSWER_BYTES_MAX {
        match answer.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk),
            _ => break,
        }
    }
    said.truncate(ANSWER_BYTES_MAX);
    String::from_utf8_lossy(&said).replace(char::is_control, " ")
}
