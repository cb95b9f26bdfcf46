//! Reads request bodies as leniently, and as strictly, as PocketBase 0.40 does: JSON, forms,
//! multipart forms and XML, chosen by a case-sensitive prefix of the content type. What the
//! fields mean, and which of them there are, is the business of [`super::bind`].

use std::convert::Infallible;
use std::fmt;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;

use super::multipart::Parts;
use super::{media::Media, query, strict, xml};

/// Most bytes of a body on every route but the upload.
pub const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most bytes of a url-encoded form (Go's own limit).
const FORM_BYTES_MAX: usize = 10 * 1024 * 1024;
/// The form field that holds JSON.
pub(super) const JSON_PAYLOAD: &str = "@jsonPayload";

/// Why a body cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// A content type that is not read; some routes have a message of their own for it.
    UnsupportedType,
    /// Not well-formed, or of the wrong shape; the text is for the log.
    Malformed(&'static str),
    /// More bytes than the limit.
    TooLarge,
    /// The client went away.
    Interrupted,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedType => f.write_str("unsupported content type"),
            Self::Malformed(what) => write!(f, "malformed body: {what}"),
            Self::TooLarge => f.write_str("the body is too large"),
            Self::Interrupted => f.write_str("the client went away"),
        }
    }
}

impl std::error::Error for BodyError {}

/// What of a request's head decides how its body is read.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    /// The `Content-Type`, empty when absent.
    pub content_type: &'a [u8],
    /// The query without its question mark; forms are merged with it.
    pub query: &'a str,
    /// Whether a body is announced: a length above 0, or chunks (of which there may be none).
    pub announced: bool,
}

impl<'a> Head<'a> {
    /// Takes it from a request.
    pub fn of(request: &'a HttpRequest) -> Self {
        let header = |name| request.headers().get(name).map(|value| value.as_bytes());
        Self {
            content_type: header(CONTENT_TYPE).unwrap_or_default(),
            query: request.query_string(),
            announced: header(TRANSFER_ENCODING).is_some()
                || header(CONTENT_LENGTH).is_some_and(|len| len.iter().any(|b| *b != b'0')),
        }
    }
}

/// A body that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// None was sent; everything keeps its default.
    Absent,
    /// The first JSON value of the body, of any kind.
    Json(Value),
    /// Name and value pairs; of equal names the first counts.
    Form(Vec<(String, String)>),
    /// The root element.
    Xml(xml::Element),
}

/// Collects a payload.
///
/// # Errors
/// [`BodyError::TooLarge`] above `limit` bytes, [`BodyError::Interrupted`].
pub async fn read<S, E>(payload: &mut S, limit: u64) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Interrupted)?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Understands a body. A body that was not announced is not looked at.
///
/// # Errors
/// [`BodyError::UnsupportedType`] or [`BodyError::Malformed`].
pub async fn parse(head: &Head<'_>, bytes: Bytes) -> Result<Body, BodyError> {
    if !head.announced {
        return Ok(Body::Absent);
    }
    let is = |prefix: &str| head.content_type.starts_with(prefix.as_bytes());
    if is("application/json") {
        strict::first_value(&bytes).map(Body::Json)
    } else if is("multipart/form-data") {
        multipart(head, bytes).await.map(Body::Form)
    } else if is("application/x-www-form-urlencoded") {
        form(head, &bytes).map(Body::Form)
    } else if is("text/xml") || is("application/xml") {
        xml::root(&bytes).map(Body::Xml)
    } else {
        Err(BodyError::UnsupportedType)
    }
}

/// The body's pairs, then the query's.
fn form(head: &Head<'_>, bytes: &[u8]) -> Result<Vec<(String, String)>, BodyError> {
    let mut found = Vec::new();
    // The prefix alone brought us here: only the exact type has pairs in its body.
    let exact = Media::parse(head.content_type)
        .is_some_and(|media| media.kind == "application/x-www-form-urlencoded");
    if exact {
        if bytes.len() > FORM_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        found = sound_pairs(bytes)?;
    }
    found.extend(sound_pairs(head.query.as_bytes())?);
    Ok(found)
}

/// The query's pairs, then the body's: the other way round than with [`form`], as in Go.
async fn multipart(head: &Head<'_>, bytes: Bytes) -> Result<Vec<(String, String)>, BodyError> {
    let mut found = sound_pairs(head.query.as_bytes())?;
    let broken = |_| BodyError::Malformed("multipart");
    let body = stream::iter([Ok::<_, Infallible>(bytes)]);
    let mut parts = Parts::open(head.content_type, body).map_err(broken)?;
    while let Some(mut part) = parts.next().await.map_err(broken)? {
        if part.file_name.is_some() || part.name.is_empty() {
            continue;
        }
        let mut value = Vec::new();
        while let Some(piece) = part.next().await.map_err(broken)? {
            value.extend_from_slice(&piece);
        }
        let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        found.push((lossy(&part.name), lossy(&value)));
    }
    Ok(found)
}

fn sound_pairs(text: &[u8]) -> Result<Vec<(String, String)>, BodyError> {
    match query::pairs(text) {
        (pairs, true) => Ok(pairs),
        (_, false) => Err(BodyError::Malformed("form")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn parsed(content_type: &str, query: &str, body: &str) -> Result<Body, BodyError> {
        let head = Head { content_type: content_type.as_bytes(), query, announced: true };
        parse(&head, Bytes::copy_from_slice(body.as_bytes())).await
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Body, BodyError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Ok(Body::Form(pairs.iter().map(own).collect()))
    }

    #[actix_web::test]
    async fn the_content_type_decides_by_a_case_sensitive_prefix() {
        let json = Ok(Body::Json(json!({"name": "a"})));
        let text = r#"{"name":"a"}"#;
        assert_eq!(parsed("application/json", "", text).await, json);
        assert_eq!(parsed("application/json; charset=utf-8", "", text).await, json);
        assert_eq!(parsed("application/jsonp", "", text).await, json);
        for other in ["APPLICATION/JSON", "text/plain", "", " application/json"] {
            assert_eq!(parsed(other, "", text).await, Err(BodyError::UnsupportedType), "{other}");
        }
    }

    #[actix_web::test]
    async fn a_form_is_merged_with_the_query_body_first() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(parsed(form, "name=g", "x=1").await, pairs(&[("x", "1"), ("name", "g")]));
        assert_eq!(parsed(form, "", "a=%zz").await, Err(BodyError::Malformed("form")));
        assert_eq!(parsed(form, "", "a=1;b=2").await, Err(BodyError::Malformed("form")));
        assert_eq!(parsed(&format!("{form}z"), "a=q", "a=1").await, pairs(&[("a", "q")]));
    }

    #[actix_web::test]
    async fn a_multipart_form_gives_its_plain_fields_query_first() {
        let part = |rest: &str| format!("--B\r\nContent-Disposition: form-data; {rest}\r\n");
        let body =
            part("name=name\r\n\r\nb.zip") + &part("name=f; filename=x\r\n\r\nbin") + "--B--";
        let form = "multipart/form-data; boundary=B";
        assert_eq!(parsed(form, "q=1", &body).await, pairs(&[("q", "1"), ("name", "b.zip")]));
        assert_eq!(
            parsed("multipart/form-data", "", "x").await,
            Err(BodyError::Malformed("multipart"))
        );
        assert!(parsed(form, "", body.trim_end_matches('-')).await.is_err());
    }

    #[actix_web::test]
    async fn a_body_that_was_not_announced_is_not_looked_at() {
        let head = Head { content_type: b"text/plain", ..Head::default() };
        assert_eq!(parse(&head, Bytes::from_static(b"x")).await, Ok(Body::Absent));
        assert!(parsed("application/json", "", "").await.is_err());
    }

    #[actix_web::test]
    async fn reading_stops_at_the_limit_and_at_faults() {
        let chunks = |chunks: &[Result<&'static str, ()>]| {
            stream::iter(
                chunks
                    .iter()
                    .map(|c| c.map(|c| Bytes::from_static(c.as_bytes())))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(&mut chunks(&[Ok("ab"), Ok("c")]), 3).await, Ok(Bytes::from("abc")));
        assert_eq!(read(&mut chunks(&[Ok("ab"), Ok("cd")]), 3).await, Err(BodyError::TooLarge));
        assert_eq!(read(&mut chunks(&[Ok("a"), Err(())]), 3).await, Err(BodyError::Interrupted));
    }

    #[test]
    fn the_head_tells_an_announced_body_from_none() {
        use actix_web::test::TestRequest;
        let announced = |name: &str, value: &str| {
            let request = TestRequest::post().insert_header((name, value)).to_http_request();
            Head::of(&request).announced
        };
        assert!(announced("transfer-encoding", "chunked"));
        assert!(announced("content-length", "10"));
        assert!(!announced("content-length", "0"));
        assert!(!announced("content-type", "application/json"));
    }
}
