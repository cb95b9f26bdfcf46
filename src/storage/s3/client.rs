//! Signed requests to one bucket, asked again while that can help.
//!
//! object_store gives the connections, the credentials (also those of roles) and the signing.
//! The requests are our own: its client has no conditional completion, no listing of uploads,
//! and hides the status of what failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, RetryConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use crate::error::{Error, Kind, Result, chain};
use crate::storage::s3::failure::Failure;
use crate::storage::s3::options::{Credentials, S3Options};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent, beside the time that a request's body takes.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The slowest line at the first try; each further try allows for half of it.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// First wait before asking again; it doubles each time.
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Tries that are made however long each takes.
const TRIES_MIN: u32 = 3;
/// Longest time without success for what somebody waits for.
const BRIEFLY: Duration = Duration::from_secs(10);
/// Longest answer that is read as a whole, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What S3 calls unreserved stays, all else is escaped.
pub(super) const STRICT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const STRICT_PATH: &AsciiSet = &STRICT.remove(b'/');

/// A client of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Client {
    store: AmazonS3,
    http: HttpClient,
    bucket_url: String,
    region: String,
    retry_for: Duration,
    /// Whether nobody can change what is sent on its way: TLS, or this very machine.
    is_private: bool,
}

/// A request before it is signed.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    /// The object's full name; empty for the bucket itself.
    object: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Whether a sum of the body that the store checks is among the headers.
    is_summed: bool,
}

impl Call {
    pub(super) fn new(method: Method, object: &str) -> Self {
        Self {
            method,
            object: object.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            is_summed: false,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn headers(mut self, headers: &[(&'static str, String)]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// A header says the sum of the body, and is signed: on a line that nobody else can write to
    /// the body itself needs no signature.
    pub(super) fn with_payload_summed(mut self) -> Self {
        self.is_summed = true;
        self
    }

    pub(super) fn into_body(self) -> Bytes {
        self.body
    }
}

/// An answer that was a success, read as a whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A header's text, empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The ETag without its quotes.
    pub(super) fn etag(&self) -> &str {
        self.header("etag").trim_start_matches("W/").trim_matches('"')
    }
}

impl Client {
    /// A client; nothing is sent yet.
    pub(super) fn new(options: &S3Options) -> Result<Self> {
        let bucket_url = options.bucket_url()?;
        // Time limits are ours, by the size of what is sent: a timeout of the whole request
        // or of its silence would also cut a slow upload that is going well.
        let limits = ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(bucket_url.starts_with("http://"));
        let builder = match &options.credentials {
            Credentials::Keys(access_key, secret) => AmazonS3Builder::new()
                .with_access_key_id(access_key)
                .with_secret_access_key(secret.expose()),
            Credentials::Environment => AmazonS3Builder::from_env(),
        };
        let unusable = |error: object_store::Error| {
            Error::new(Kind::Unavailable, "the S3 client cannot be set up").because(error)
        };
        let store = builder
            .with_bucket_name(&options.bucket)
            .with_region(options.region())
            .with_config(object_store::aws::AmazonS3ConfigKey::S3Endpoint, &bucket_url)
            .with_virtual_hosted_style_request(true)
            .with_client_options(limits.clone())
            .with_retry(RetryConfig::default())
            .build()
            .map_err(unusable)?;
        let http = ReqwestConnector::default().connect(&limits).map_err(unusable)?;
        let region = options.region().to_owned();
        let (is_private, retry_for) = (is_private(&bucket_url), options.extras.retry_for);
        Ok(Self { store, http, bucket_url, region, retry_for, is_private })
    }

    /// The same client for what somebody waits for: a dead store is told within seconds.
    pub(super) fn brief(&self) -> Self {
        Self { retry_for: self.retry_for.min(BRIEFLY), ..self.clone() }
    }

    /// Which bucket it is, for comparing.
    pub(super) fn bucket_url(&self) -> &str {
        &self.bucket_url
    }

    /// An address from which an object can be read without credentials until `valid` is over.
    pub(super) async fn presign(&self, object: &str, valid: Duration) -> Result<Url> {
        let failed = |error: object_store::Error| {
            Error::new(Kind::Unavailable, "an address cannot be signed").because(error)
        };
        let path = Path::parse(object).map_err(|error| failed(error.into()))?;
        self.store.signed_url(Method::GET, &path, valid).await.map_err(failed)
    }

    /// Sends, and asks again while what fails may pass.
    pub(super) async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        self.send_checked(call, |_| Ok(())).await
    }

    /// As [`Client::send`], for answers that can be wrong in a way that asking again may cure.
    pub(super) async fn send_checked(
        &self,
        call: &Call,
        check: impl Fn(&Reply) -> Result<(), Failure>,
    ) -> Result<Reply, Failure> {
        let mut patience = Patience::new(self.retry_for);
        loop {
            let limit = time_limit(call.body.len(), patience.tries);
            let failure = match tokio::time::timeout(limit, self.once(call)).await {
                Ok(Ok(reply)) => match check(&reply) {
                    Ok(()) => return Ok(reply),
                    Err(failure) => failure,
                },
                Ok(Err(failure)) => failure,
                Err(_) => Failure::transport(format!("no answer within {limit:?}")),
            };
            patience.wait(failure).await?;
        }
    }

    /// One try, for what is not worth waiting for.
    pub(super) async fn send_once(&self, call: &Call) -> Result<Reply, Failure> {
        let tried = tokio::time::timeout(SILENCE_MAX, self.once(call)).await;
        tried.unwrap_or_else(|_| Err(Failure::transport("no answer in time")))
    }

    /// One try, up to the head of the answer; its body is the caller's.
    pub(super) async fn open(&self, call: &Call) -> Result<HttpResponse, Failure> {
        let response = tokio::time::timeout(SILENCE_MAX, self.execute(call)).await;
        let response = response.map_err(|_| Failure::transport("no answer in time"))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(SILENCE_MAX, collect(body.bytes_stream())).await;
        // Without its body the status must do.
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        Err(Failure::answered(parts.status, &parts.headers, &body))
    }

    /// How patient its requests are.
    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.retry_for)
    }

    async fn once(&self, call: &Call) -> Result<Reply, Failure> {
        let (parts, body) = self.execute(call).await?.into_parts();
        let body = collect(body.bytes_stream()).await;
        if !parts.status.is_success() {
            let body = body.unwrap_or_default();
            return Err(Failure::answered(parts.status, &parts.headers, &body));
        }
        let body = body?;
        // S3 begins some answers before it knows how they end.
        if body.windows(7).take(256).any(|found| found == b"<Error>") {
            return Err(Failure::answered(parts.status, &parts.headers, &body));
        }
        Ok(Reply { headers: parts.headers, body })
    }

    async fn execute(&self, call: &Call) -> Result<HttpResponse, Failure> {
        let request = self.signed(call).await?;
        self.http.execute(request).await.map_err(|error| Failure::transport(chain(&error)))
    }

    /// Signed anew for each try: signatures and a role's credentials age.
    async fn signed(&self, call: &Call) -> Result<HttpRequest, Failure> {
        let unusable = |error: &dyn std::error::Error| Failure::final_one(chain(error));
        let credential = self.store.credentials().get_credential().await;
        let credential = credential.map_err(|error| Failure::transport(chain(&error)))?;
        let mut url = self.bucket_url.clone();
        url.push('/');
        url.extend(utf8_percent_encode(&call.object, STRICT_PATH));
        for (index, (name, value)) in call.query.iter().enumerate() {
            let between = if index == 0 { '?' } else { '&' };
            url.push_str(&format!("{between}{name}={}", utf8_percent_encode(value, STRICT)));
        }
        let mut request = Request::new(HttpRequestBody::from(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = url.parse().map_err(|error| unusable(&error))?;
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value).map_err(|error| unusable(&error))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        if matches!(call.method, Method::PUT | Method::POST) {
            request.headers_mut().insert(CONTENT_LENGTH, call.body.len().into());
        }
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(!(call.is_summed && self.is_private))
            .try_authorize(&mut request, None)
            .map_err(|error| unusable(&error))?;
        Ok(request)
    }
}

fn is_private(bucket_url: &str) -> bool {
    let Ok(url) = Url::parse(bucket_url) else { return false };
    let is_here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    url.scheme() == "https" || is_here
}

/// When to stop asking again.
#[derive(Debug)]
pub(super) struct Patience {
    since: Instant,
    tries: u32,
    limit: Duration,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { since: Instant::now(), tries: 0, limit }
    }

    /// Something went well: from here on it is counted anew.
    pub(super) fn renew(&mut self) {
        (self.since, self.tries) = (Instant::now(), 0);
    }

    /// Waits before the next try, or gives the failure back.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        self.tries += 1;
        let doubled = WAIT_FIRST.saturating_mul(1 << self.tries.min(16)) / 2;
        // Between half and all of it: what failed together shall not come back together.
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        let wait = doubled.min(WAIT_MAX).mul_f64(jitter);
        let wait = failure.retry_after.map_or(wait, |asked| asked.max(wait));
        let over = self.since.elapsed() + wait > self.limit;
        // A line that is only slow gets its tries, unless no patience is wanted at all.
        let tried_enough = self.tries >= TRIES_MIN || wait > self.limit;
        if !failure.passing || (over && tried_enough) {
            return Err(failure);
        }
        tracing::info!(?failure, tries = self.tries, ?wait, "asking the S3 server again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn time_limit(body_bytes: usize, tries: u32) -> Duration {
    let slowest = (BYTES_PER_SECOND_MIN >> tries.min(6)).max(1);
    SILENCE_MAX + Duration::from_secs(body_bytes as u64 / slowest)
}

async fn collect<E: std::error::Error>(
    mut body: impl futures_util::Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Bytes, Failure> {
    let mut whole = Vec::new();
    while let Some(block) = body.next().await {
        whole.extend_from_slice(&block.map_err(|error| Failure::transport(chain(&error)))?);
        if whole.len() > ANSWER_BYTES_MAX {
            return Err(Failure::final_one("the answer does not end"));
        }
    }
    Ok(whole.into())
}

/// Shared by the storage and its uploads.
pub(super) type SharedClient = Arc<Client>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_lines_get_more_time_at_each_try() {
        let first = time_limit(8 << 20, 0);
        assert_eq!(first, SILENCE_MAX + Duration::from_secs(128));
        assert_eq!(time_limit(8 << 20, 1), SILENCE_MAX + Duration::from_secs(256));
        assert_eq!(time_limit(0, 9), SILENCE_MAX);
    }

    #[tokio::test]
    async fn patience_ends_for_what_does_not_pass_and_with_time() {
        let mut patience = Patience::new(Duration::from_secs(60));
        assert!(patience.wait(Failure::final_one("refused")).await.is_err());
        let mut impatient = Patience::new(Duration::ZERO);
        assert!(impatient.wait(Failure::transport("reset")).await.is_err());
        let mut patience = Patience::new(Duration::from_secs(60));
        assert!(patience.wait(Failure::transport("reset")).await.is_ok());
    }

    #[test]
    fn only_over_tls_or_to_this_machine_may_a_payload_be_unsigned() {
        for (url, expected) in [
            ("https://s3.eu-west-1.amazonaws.com/b", true),
            ("http://127.0.0.1:9000/b", true),
            ("http://[::1]:9000/b", true),
            ("http://192.168.1.7:9000/b", false),
            ("http://minio:9000/b", false),
            ("http://localhost.example.com/b", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_private(url), expected, "{url}");
        }
    }
}
