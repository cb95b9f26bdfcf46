//! JSON answers with PocketBase 0.40's bytes and framing: compact, no final newline, only
//! what JSON itself demands is escaped; a length up to [`LENGTH_BYTES_MAX`], chunks above.
//! HEAD answers tell the length when all is well and nothing when not.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody, None as NoBody};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;

use super::fields::{self, BadFields};
use super::query;

/// Bodies up to this size carry a length; longer ones are sent in chunks (HTTP/1.1).
pub const LENGTH_BYTES_MAX: usize = 2048;

/// A JSON answer. Of a 2xx answer only what the request's `fields` names is sent.
///
/// # Errors
/// [`BadFields`]; the face answers with an error of its own.
pub fn respond(
    request: &HttpRequest,
    status: StatusCode,
    body: &impl Serialize,
) -> Result<HttpResponse, BadFields> {
    let fields = query::first(request.query_string(), "fields").unwrap_or_default();
    if fields.is_empty() || !status.is_success() {
        return Ok(framed(request, status, to_bytes(body)));
    }
    let mut value = serde_json::to_value(body).unwrap_or(Value::Null);
    fields::pick(&mut value, &fields)?;
    Ok(framed(request, status, to_bytes(&value)))
}

/// A JSON error answer; `fields` does not apply to these.
pub fn respond_error(
    request: &HttpRequest,
    status: StatusCode,
    body: &impl Serialize,
) -> HttpResponse {
    framed(request, status, to_bytes(body))
}

/// An answer without a body and, for 204 and 304, without a length.
pub fn respond_empty(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status).finish()
}

/// Our own types serialize; a failure would be a bug, and an empty body shows it.
fn to_bytes(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).map(Bytes::from).unwrap_or_default()
}

fn framed(request: &HttpRequest, status: StatusCode, body: Bytes) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.content_type("application/json");
    frame(request, response, body)
}

/// Gives an answer its body with the length or chunks it should have.
pub fn frame(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    body: Bytes,
) -> HttpResponse {
    let chunked = body.len() > LENGTH_BYTES_MAX && request.version() >= Version::HTTP_11;
    if request.method() == Method::HEAD {
        let head = response.finish();
        return match (head.status().is_success(), chunked) {
            (true, false) => head.set_body(Announced(body.len() as u64)).map_into_boxed_body(),
            // Go announces no length for what it would have sent in chunks.
            (true, true) | (false, _) => head.set_body(NoBody::new()).map_into_boxed_body(),
        };
    }
    if chunked {
        return response.streaming(stream::iter([Ok::<_, Infallible>(body)]));
    }
    response.body(body)
}

/// The body of a HEAD answer: a length, and nothing to send.
#[derive(Debug, Clone, Copy)]
pub struct Announced(pub u64);

impl MessageBody for Announced {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes as collected;
    use actix_web::test::TestRequest;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_json_demands_is_escaped() {
        // The expected bytes are those of Go 1.27's encoding/json/v2 for the same text.
        let text = "\u{2028}\u{2029}<>&\0\u{1}\u{8}\u{c}\n\r\t\u{1f}\u{7f}\"\\/é😀";
        let expected =
            "\"\u{2028}\u{2029}<>&\\u0000\\u0001\\b\\f\\n\\r\\t\\u001f\u{7f}\\\"\\\\/é😀\"";
        assert_eq!(to_bytes(&text), expected.as_bytes());
    }

    #[actix_web::test]
    async fn fields_apply_to_good_answers_only() {
        let body = json!({"a": 1, "b": 2});
        let cases = [
            ("/", 200, Some(r#"{"a":1,"b":2}"#)),
            ("/?fields=", 200, Some(r#"{"a":1,"b":2}"#)),
            ("/?fields=a", 200, Some(r#"{"a":1}"#)),
            ("/?fields=a", 400, Some(r#"{"a":1,"b":2}"#)),
            ("/?fields=a:x()", 200, None),
            ("/?fields=a:x()", 400, Some(r#"{"a":1,"b":2}"#)),
        ];
        for (uri, status, expected) in cases {
            let request = TestRequest::with_uri(uri).to_http_request();
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match respond(&request, status, &body) {
                Ok(response) => Some(collected(response.into_body()).await.expect("a body")),
                Err(BadFields) => None,
            };
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{uri} {status}");
        }
    }

    #[test]
    fn the_framing_follows_size_method_and_outcome() {
        let size = |method: Method, version, status, len: usize| {
            let request = TestRequest::with_uri("/").method(method).version(version);
            let response = HttpResponse::build(status);
            let body = Bytes::from(vec![b'x'; len]);
            frame(&request.to_http_request(), response, body).body().size()
        };
        let (get, head) = (|| Method::GET, || Method::HEAD);
        let (ok, bad) = (StatusCode::OK, StatusCode::NOT_FOUND);
        let http = Version::HTTP_11;
        assert_eq!(size(get(), http, ok, 2048), BodySize::Sized(2048));
        assert_eq!(size(get(), http, ok, 2049), BodySize::Stream);
        assert_eq!(size(get(), Version::HTTP_10, ok, 2049), BodySize::Sized(2049));
        assert_eq!(size(head(), http, ok, 2), BodySize::Sized(2));
        assert_eq!(size(head(), http, ok, 2049), BodySize::None);
        assert_eq!(size(head(), http, bad, 2), BodySize::None);
    }
}
