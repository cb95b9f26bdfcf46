//! Splits `multipart/form-data` into parts while it arrives. `actix_multipart` does the
//! splitting; what a part's header says is read here as Go reads it, which knows the unquoted
//! and the `filename*=` dispositions of real clients. Stores nothing, and knows no field.
//!
//! Not known here: `Content-Transfer-Encoding` (browsers and HTTP libraries never send it).

use std::fmt;

use actix_multipart::{Field, Multipart};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::media::Media;

/// Most parts of one body (Go's limit).
const PARTS_MAX: usize = 1000;
/// Longest boundary; RFC 2046 allows 70.
const BOUNDARY_BYTES_MAX: usize = 1024;
/// What is said to those who go on after a fault.
const BEHIND: &str = "it was broken before";

/// The body is not well-formed, it ended too early, or its sender went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken multipart body: {}", self.0)
    }
}

impl std::error::Error for Broken {}

fn broken(what: impl fmt::Display) -> Broken {
    Broken(what.to_string())
}

/// The parts of a body. Memory: about 64 KiB of it are held, whatever its size; a part's
/// header must fit in there too.
pub struct Parts {
    /// `None` after a fault, so that nobody reads on behind it and finds a last boundary.
    multipart: Option<Multipart>,
    count: usize,
}

impl Parts {
    /// Begins to read the body that a `Content-Type` value announces.
    ///
    /// # Errors
    /// It is not `multipart/form-data` with a boundary.
    pub fn open<S, E>(content_type: &[u8], body: S) -> Result<Self, Broken>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
    {
        let media = Media::parse(content_type).ok_or_else(|| broken("unreadable content type"))?;
        if media.kind != "multipart/form-data" {
            return Err(broken("not multipart/form-data"));
        }
        let boundary = media.param("boundary").unwrap_or_default();
        let sound = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte) || *byte == b' ';
        let len_fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len());
        if !len_fits || !boundary.iter().all(sound) {
            return Err(broken("unusable boundary"));
        }
        // `multipart/mixed` because of the crate's own, stricter reading of dispositions: it
        // refuses a whole `form-data` body for one part without a name, and Go does not.
        let announced = [b"multipart/mixed; boundary=\"", boundary, b"\""].concat();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(&announced).map_err(broken)?);
        let body = body.map(|chunk| chunk.map_err(|_| PayloadError::Incomplete(None)));
        Ok(Self { multipart: Some(Multipart::new(&headers, body.fuse())), count: 0 })
    }

    /// The next part, `None` after the last boundary. What is left of the part before it is
    /// passed over.
    ///
    /// # Errors
    /// The body is not well-formed, or it ended before its last boundary. It stays so.
    pub async fn next(&mut self) -> Result<Option<Part>, Broken> {
        let Some(mut multipart) = self.multipart.take() else { return Err(broken(BEHIND)) };
        let field = multipart.next().await.transpose().map_err(broken)?;
        self.count += usize::from(field.is_some());
        if self.count > PARTS_MAX {
            return Err(broken("too many parts"));
        }
        self.multipart = Some(multipart);
        let Some(field) = field else { return Ok(None) };
        let disposition = field.headers().get(CONTENT_DISPOSITION);
        let media = disposition.and_then(|value| Media::parse(value.as_bytes()));
        let media = media.unwrap_or_default();
        let name = media.param("name").filter(|_| media.kind == "form-data").unwrap_or_default();
        let file_name = media.param("filename").filter(|name| !name.is_empty()).map(last_element);
        let (name, file_name) = (name.to_vec(), file_name.map(<[u8]>::to_vec));
        Ok(Some(Part { name, file_name, content: Content::Coming(Box::new(field)) }))
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What a part says of itself, and its content. Drop it before asking for the next one.
#[derive(Debug)]
pub struct Part {
    /// The form field's name; empty when there is none.
    pub name: Vec<u8>,
    /// The last path element of the file's name; `None` for ordinary fields. Not always UTF-8.
    pub file_name: Option<Vec<u8>>,
    content: Content,
}

/// The crate does not allow to ask a field again after its end.
#[derive(Debug)]
enum Content {
    Coming(Box<Field>),
    Over,
    Broken,
}

impl Part {
    /// The next piece of the content, never empty and at most 64 KiB; `None` at its end, and
    /// from then on.
    ///
    /// # Errors
    /// As [`Parts::next`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let field = match &mut self.content {
            Content::Coming(field) => field,
            Content::Over => return Ok(None),
            Content::Broken => return Err(broken(BEHIND)),
        };
        let piece = field.next().await.transpose().map_err(broken);
        match &piece {
            Ok(Some(_)) => {}
            Ok(None) => self.content = Content::Over,
            Err(_) => self.content = Content::Broken,
        }
        piece
    }
}

/// The last element of a path; only `/` parts them, so a backslash stays in the name.
fn last_element(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let trimmed = &path[..end];
    if trimmed.is_empty() {
        return b"/";
    }
    trimmed.rsplit(|b| *b == b'/').next().unwrap_or(trimmed)
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
