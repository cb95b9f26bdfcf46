//! Passes a request on to the program behind us and its answer back, byte for byte but for the
//! headers of the connection. Bodies are never gathered, in neither direction.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodyStream, None as NoBody, SizedStream};
use actix_web::dev::Payload;
use actix_web::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::error::Error;
use crate::front::headers::{self, Origin};
use crate::front::proxy::{Block, ClientGone};
use crate::front::{Answer, Front, Outgoing, Unanswered};
use crate::http::connection::Departure;
use crate::http::door;
use crate::http::fault::{ApiError, SOMETHING};
use crate::http::json::Announced;
use crate::http::server;
use crate::http::services::Services;

/// What an answer has that goes on until somebody leaves.
const EVENTS: &[u8] = b"text/event-stream";
/// How long a client that has closed its side may still want an answer.
const ABANDONED_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are read from a tunnel at a time.
const TUNNEL_BYTES: usize = 16 * 1024;

/// Passes a request on. An error is an answer of ours.
///
/// # Errors
/// The program cannot be reached, or breaks off.
pub async fn forward(
    request: &HttpRequest,
    payload: Payload,
    services: &Arc<Services>,
    front: &Front,
) -> Result<HttpResponse, HttpResponse> {
    let bad = || ApiError::bad_request(SOMETHING).respond(request);
    let mut head = head(request, services).await.map_err(|error| error.respond(request))?;
    let upgrade = headers::asks_for_upgrade(head.headers());
    if upgrade && request_has_body(request) {
        // What follows the head is the tunnel's. A length would make a body of the next request
        // on that connection, if the program does not follow.
        return Err(bad());
    }
    let mut payload = Some(payload);
    let body = match (upgrade, announced(request), payload.take()) {
        (false, Some(length), Some(payload)) => sent_on(payload, length),
        (_, _, kept) => {
            payload = kept;
            Outgoing::empty()
        }
    };
    if !upgrade {
        head.headers_mut().remove(http::header::UPGRADE);
    }
    let (parts, ()) = head.into_parts();
    let answer = tokio::select! {
        answer = front.pass(http::Request::from_parts(parts, body)) => answer,
        // Nobody will read what is said here; what was begun behind us is taken back.
        () = abandoned(request) => return Err(door::try_later(request)),
    };
    let answer = answer.map_err(|unanswered| match unanswered {
        Unanswered::Down => door::try_later(request),
        Unanswered::Broken(why) => {
            tracing::warn!(why, path = request.path(), "the program broke off a request");
            broke_off().respond(request)
        }
    })?;
    match (answer.status(), payload) {
        (http::StatusCode::SWITCHING_PROTOCOLS, Some(payload)) if upgrade => {
            tunnel(answer, payload, front.leaving()).await.ok_or_else(bad)
        }
        (http::StatusCode::SWITCHING_PROTOCOLS, _) => Err(bad()),
        _ => relayed(request, answer, front.leaving()).ok_or_else(bad),
    }
}

/// The error when the program broke off, and may have done what was asked.
pub fn broke_off() -> ApiError {
    let message = "The server broke off. Whether it did what was asked is not known.";
    ApiError::new(StatusCode::BAD_GATEWAY, message)
}

/// The head of a request as the program gets it.
///
/// # Errors
/// The head cannot be passed on.
pub async fn head(
    request: &HttpRequest,
    services: &Arc<Services>,
) -> Result<http::Request<()>, ApiError> {
    let bad = |_| ApiError::bad_request(SOMETHING);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let method = http::Method::from_bytes(request.method().as_str().as_bytes());
    let method = method.map_err(|error| bad(error.into()))?;
    let settings = services.recent_settings().await;
    let client = server::address_of(request, &settings).ip().to_string();
    let behind_proxy = !settings.values().trusted_proxy.headers.is_empty();
    let mut head = http::Request::builder().method(method).uri(target).body(()).map_err(bad)?;
    for (name, value) in request.headers() {
        if let Some((name, value)) = carried(name.as_str(), value.as_bytes()) {
            head.headers_mut().append(name, value);
        }
    }
    headers::outgoing(head.headers_mut(), Origin { client: &client, behind_proxy });
    if let Some(program) = &services.program {
        // The one that it believes; clients do not know its name.
        let believed = carried(&program.keeper.client_header(), client.as_bytes());
        head.headers_mut().extend(believed.map(|(name, value)| (Some(name), value)));
    }
    Ok(head)
}

fn carried(name: &str, value: &[u8]) -> Option<(http::HeaderName, http::HeaderValue)> {
    let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, http::HeaderValue::from_bytes(value).ok()?))
}

/// Whether the head says that a body follows, in whatever way; a length of 0 says that none
/// does.
fn request_has_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).any(|length| length.as_bytes() != b"0")
}

/// Whether a body follows, and of how many bytes if that is said.
fn announced(request: &HttpRequest) -> Option<Option<u64>> {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        return Some(None);
    }
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (length > 0).then_some(Some(length))
}

/// The client's body as the program's; what the program does not take is not read.
fn sent_on(mut payload: Payload, length: Option<u64>) -> Outgoing {
    let (sender, body) = Outgoing::stream(length);
    actix_web::rt::spawn(async move {
        while let Some(block) = payload.next().await {
            let block: Block = block.map_err(|_| ClientGone);
            let broken = block.is_err();
            if sender.send(block).await.is_err() || broken {
                return;
            }
        }
    });
    body
}

/// The program's answer as ours.
fn relayed(
    request: &HttpRequest,
    answer: Answer,
    leaving: watch::Receiver<bool>,
) -> Option<HttpResponse> {
    let (mut parts, body) = answer.into_parts();
    let said = parts.headers.remove(http::header::CONTENT_LENGTH);
    headers::incoming(&mut parts.headers);
    let status = StatusCode::from_u16(parts.status.as_u16()).ok()?;
    let mut response = HttpResponse::build(status);
    copy(&parts.headers, &mut response);
    if *request.method() == Method::HEAD {
        let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
        let head = response.finish();
        return Some(match said {
            Some(length) => head.set_body(Announced(length)).map_into_boxed_body(),
            None => head.set_body(NoBody::new()).map_into_boxed_body(),
        });
    }
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(response.finish());
    }
    let length = body.size_hint().exact();
    let events = parts.headers.get(http::header::CONTENT_TYPE);
    let events = events.is_some_and(|kind| kind.as_bytes().starts_with(EVENTS));
    let blocks = Blocks { body, until: events.then(|| over(request, leaving)) };
    let response = response.finish();
    Some(match length {
        Some(length) => response.set_body(SizedStream::new(length, blocks)).map_into_boxed_body(),
        None => {
            let mut response = response.set_body(BodyStream::new(blocks)).map_into_boxed_body();
            if request.version() < Version::HTTP_11 {
                response.head_mut().no_chunking(true);
                response.head_mut().set_connection_type(actix_http::ConnectionType::Close);
            }
            response
        }
    })
}

fn copy(headers: &HeaderMap, response: &mut HttpResponseBuilder) {
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            response.append_header((name, value));
        }
    }
}

/// When it is clear that the client of a request has gone. Who only ends its own side, as some
/// scripts do, gets a moment for the answer.
async fn abandoned(request: &HttpRequest) {
    match request.conn_data::<Departure>().cloned() {
        Some(departure) => departure.wait().await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(ABANDONED_PATIENCE).await;
}

/// When a stream of events is over: its client has gone, or we go.
fn over(request: &HttpRequest, mut leaving: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
    let departure = request.conn_data::<Departure>().cloned();
    async move {
        let gone = async {
            match departure {
                Some(departure) => departure.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = gone => {}
            _ = leaving.wait_for(|leaving| *leaving) => {}
        }
    }
    .boxed()
}

/// The blocks of an answer's body, until its end or until something happens.
struct Blocks {
    body: Incoming,
    until: Option<BoxFuture<'static, ()>>,
}

impl Stream for Blocks {
    type Item = Result<Bytes, hyper::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(until) = &mut self.until
            && until.poll_unpin(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Trailers are passed over: the answer's chunks have none of ours.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => {}
                },
            }
        }
    }
}

/// Joins the two connections after a 101.
async fn tunnel(
    mut answer: Answer,
    mut payload: Payload,
    mut leaving: watch::Receiver<bool>,
) -> Option<HttpResponse> {
    let protocol = answer.headers().get(http::header::UPGRADE).cloned();
    let upgraded = hyper::upgrade::on(&mut answer).await.ok()?;
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
    actix_web::rt::spawn(async move {
        while let Some(Ok(block)) = payload.next().await {
            if writer.write_all(&block).await.is_err() {
                return;
            }
        }
        // The program sees the end, and ends its side.
        let _ = writer.shutdown().await;
    });
    let (sender, received) = tokio::sync::mpsc::channel::<Result<Bytes, Error>>(1);
    actix_web::rt::spawn(async move {
        let mut block = vec![0; TUNNEL_BYTES];
        loop {
            let read = tokio::select! {
                read = reader.read(&mut block) => read,
                _ = leaving.wait_for(|leaving| *leaving) => return,
            };
            let Ok(read @ 1..) = read else { return };
            if sender.send(Ok(Bytes::copy_from_slice(&block[..read]))).await.is_err() {
                return;
            }
        }
    });
    let blocks = stream::unfold(received, |mut received| async move {
        received.recv().await.map(|block| (block, received))
    });
    let mut response = HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS);
    let (mut parts, _) = answer.into_parts();
    headers::incoming(&mut parts.headers);
    copy(&parts.headers, &mut response);
    let protocol = protocol.and_then(|value| value.to_str().ok().map(str::to_owned));
    response.upgrade(protocol?);
    Some(response.streaming(Box::pin(blocks)))
}

/// An answer of the program that was read whole, sent on as it is.
pub fn repeated(status: http::StatusCode, body: Bytes) -> HttpResponse {
    let status = StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/json")).body(body)
}

/// Whether an answer leaves HTTP behind: its connection is nobody's to close.
pub fn is_tunnel(response: &HttpResponse) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS || response.headers().contains_key(UPGRADE)
}
