//! Answers with a stored object or parts of it, from a local file or from any storage that
//! can be asked for ranges. An answer that was begun either comes through complete or breaks
//! the connection. Transfers take as long as they take: there is no total time limit.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use actix_web::body::{BoxBody, None as NoBody, SizedStream};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use rand::RngExt;

use super::blocks::FileBlocks;
use super::disposition;
use super::json::Announced;
use super::range::{ByteRange, Plan, plan};
use crate::backup::Key;
use crate::error::{Context, Error, Kind, Result};
use crate::storage::{ByteStream, Storage};

/// Backups hold everything: no cache may keep them (PocketBase lets caches keep them 30 days).
const CACHE_CONTROL: &str = "no-store";
const SECURITY_POLICY: &str =
    "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// What is sent, but for its bytes.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its file name, without folders.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was stored.
    pub modified: DateTime<Utc>,
    /// The media type that was stored with it.
    pub content_type: String,
}

/// Opens a range of the object; called once per range, in the order they are sent.
pub type Opener = Box<dyn FnMut(Range<u64>) -> BoxFuture<'static, Result<ByteStream>>>;

/// Where the bytes come from.
pub enum Source {
    /// A file on a local disk.
    File(File),
    /// Anything else.
    Ranges(Opener),
}

impl Source {
    /// The bytes of a stored backup.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: it was deleted since it was looked up. It cannot be opened.
    pub async fn stored(storage: Arc<dyn Storage>, key: &Key) -> Result<Self> {
        let Some(path) = storage.local_path(key) else {
            let key = key.clone();
            return Ok(Self::Ranges(Box::new(move |range| {
                let (storage, key) = (storage.clone(), key.clone());
                Box::pin(async move { storage.get(&key, Some(range)).await })
            })));
        };
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        opened.context("a thread stopped")?.map(Self::File).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::Internal,
            };
            Error::new(kind, "cannot open the backup").because(error)
        })
    }
}

/// The answer to a GET or HEAD request for an object.
///
/// # Errors
/// The source cannot be opened; nothing was sent then.
pub async fn respond(
    request: &HttpRequest,
    object: &Object,
    source: Source,
) -> Result<HttpResponse> {
    let plan = plan(request.headers(), object.size_bytes, object.modified);
    let head = request.method() == Method::HEAD;
    let mut response = HttpResponse::build(status(&plan));
    common_headers(request, object, &mut response);
    let (segments, content_type) = match &plan {
        Plan::NotModified => {
            cache_headers(object, &mut response);
            return Ok(response.finish());
        }
        Plan::PreconditionFailed => {
            cache_headers(object, &mut response);
            response.content_type(disposition::sent_type(&object.name, &object.content_type));
            return Ok(refused(response, "", head));
        }
        Plan::Unsatisfiable => {
            let range = format!("bytes */{}", object.size_bytes);
            response.insert_header((header::CONTENT_RANGE, range));
            response.content_type("text/plain; charset=utf-8");
            return Ok(refused(response, "invalid range: failed to overlap\n", head));
        }
        Plan::Malformed => {
            response.content_type("text/plain; charset=utf-8");
            return Ok(refused(response, "invalid range\n", head));
        }
        Plan::Whole => {
            let whole = ByteRange { start: 0, len: object.size_bytes };
            (
                vec![Segment::Part(whole)],
                disposition::sent_type(&object.name, &object.content_type).to_owned(),
            )
        }
        Plan::Single(range) => {
            let value = range.content_range(object.size_bytes);
            response.insert_header((header::CONTENT_RANGE, value));
            (
                vec![Segment::Part(*range)],
                disposition::sent_type(&object.name, &object.content_type).to_owned(),
            )
        }
        Plan::Multi(ranges) => parts(object, ranges),
    };
    cache_headers(object, &mut response);
    response.insert_header((header::ACCEPT_RANGES, "bytes")).content_type(content_type);
    let len = segments.iter().map(Segment::len).sum();
    if head {
        return Ok(response.finish().set_body(Announced(len)).map_into_boxed_body());
    }
    let body = SizedStream::new(len, content(segments, source).await?);
    Ok(response.finish().set_body(BoxBody::new(body)))
}

fn status(plan: &Plan) -> StatusCode {
    match plan {
        Plan::Whole => StatusCode::OK,
        Plan::Single(_) | Plan::Multi(_) => StatusCode::PARTIAL_CONTENT,
        Plan::NotModified => StatusCode::NOT_MODIFIED,
        Plan::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Plan::Unsatisfiable | Plan::Malformed => StatusCode::RANGE_NOT_SATISFIABLE,
    }
}

fn common_headers(request: &HttpRequest, object: &Object, response: &mut HttpResponseBuilder) {
    let disposition = disposition::of(&object.name, &object.content_type, request.query_string());
    response
        .insert_header((header::CONTENT_DISPOSITION, disposition))
        .insert_header((header::CONTENT_SECURITY_POLICY, SECURITY_POLICY));
}

fn cache_headers(object: &Object, response: &mut HttpResponseBuilder) {
    response.insert_header((header::CACHE_CONTROL, CACHE_CONTROL));
    // The epoch stands for "unknown".
    if object.modified.timestamp() != 0 {
        let modified = httpdate::fmt_http_date(object.modified.into());
        response.insert_header((header::LAST_MODIFIED, modified));
    }
}

/// Errors tell their length to GET only.
fn refused(mut response: HttpResponseBuilder, text: &'static str, head: bool) -> HttpResponse {
    if head {
        return response.finish().set_body(NoBody::new()).map_into_boxed_body();
    }
    response.body(text)
}

/// A piece of the answer's body.
enum Segment {
    Text(Bytes),
    Part(ByteRange),
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Part(range) => range.len,
        }
    }
}

/// The body of a `multipart/byteranges` answer and its content type.
fn parts(object: &Object, ranges: &[ByteRange]) -> (Vec<Segment>, String) {
    let boundary: String =
        std::iter::repeat_with(|| format!("{:02x}", rand::rng().random::<u8>())).take(30).collect();
    let mut segments = Vec::with_capacity(ranges.len() * 2 + 1);
    for (n, range) in ranges.iter().enumerate() {
        let line_end = if n == 0 { "" } else { "\r\n" };
        let head = format!(
            "{line_end}--{boundary}\r\nContent-Range: {}\r\nContent-Type: {}\r\n\r\n",
            range.content_range(object.size_bytes),
            disposition::sent_type(&object.name, &object.content_type),
        );
        segments.extend([Segment::Text(head.into()), Segment::Part(*range)]);
    }
    segments.push(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
    (segments, format!("multipart/byteranges; boundary={boundary}"))
}

type Content = LocalBoxStream<'static, Result<Bytes>>;

/// The first part is opened here, while an error can still be answered.
async fn content(segments: Vec<Segment>, source: Source) -> Result<Content> {
    let mut open = match source {
        Source::File(file) => {
            let file = Arc::new(file);
            let pieces = stream::iter(segments).map(move |segment| match segment {
                Segment::Text(text) => stream::iter([Ok(text)]).left_stream(),
                Segment::Part(range) => FileBlocks::new(file.clone(), range).right_stream(),
            });
            return Ok(pieces.flatten().boxed_local());
        }
        Source::Ranges(open) => open,
    };
    let mut open = move |range: ByteRange| match range.len {
        // Storages refuse empty ranges.
        0 => future::ready(Ok(stream::empty().boxed())).boxed(),
        len => open(range.start..range.start + len),
    };
    let first = segments.iter().find_map(|segment| match segment {
        Segment::Text(_) => None,
        Segment::Part(range) => Some(*range),
    });
    let mut opened = match first {
        Some(range) => Some(open(range).await?),
        None => None,
    };
    let pieces = stream::iter(segments).then(move |segment| match segment {
        Segment::Text(text) => {
            let text: Content = stream::iter([Ok(text)]).boxed_local();
            future::ready(Ok(text)).boxed_local()
        }
        Segment::Part(range) => {
            let bytes = match opened.take() {
                Some(bytes) => future::ready(Ok(bytes)).boxed(),
                None => open(range),
            };
            bytes.map_ok(move |bytes| exactly(bytes, range.len)).boxed_local()
        }
    });
    Ok(pieces.try_flatten().boxed_local())
}

/// The same bytes, ending with an error unless there are `len` of them.
fn exactly(bytes: ByteStream, len: u64) -> Content {
    let checked = stream::try_unfold((bytes, len), |(mut bytes, left)| async move {
        let Some(block) = bytes.try_next().await? else {
            return match left {
                0 => Ok(None),
                _ => Err(Error::internal("the object ended too early")),
            };
        };
        let left = left.checked_sub(block.len() as u64);
        let left = left.ok_or_else(|| Error::internal("the object is longer than expected"))?;
        Ok(Some((block, (bytes, left))))
    });
    checked.boxed_local()
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
