//! Takes the one file out of an upload while it arrives. The file is the first part named
//! `file` that has a file name; all other parts are passed over, whatever they hold. The
//! stream of its bytes ends cleanly only if the whole body was well-formed to its last
//! boundary, so a cut-off upload is never stored.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::multipart::{Broken, Part, Parts};
use super::sniff;

/// The name of the part that is stored.
const FIELD: &[u8] = b"file";
/// Bytes that are handed on at once.
const BATCH_BYTES: usize = 1 << 20;

/// Why an upload holds no usable file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a multipart form, no such part, malformed, cut off, or the client went away. To
    /// clients all of these are the same: the field is blank.
    Blank,
    /// More bytes than are read of an upload that is not wanted.
    Refused,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blank => "the upload holds no complete file",
            Self::Refused => "the upload is too large to be read to its end",
        })
    }
}

impl std::error::Error for Fault {}

/// The file of an upload; its bytes are still arriving.
#[derive(Debug)]
pub struct FilePart {
    // Above `parts`, so that it is dropped first.
    file: Part,
    parts: Parts,
    head: Bytes,
    batch: BytesMut,
}

impl FilePart {
    /// Reads up to the first bytes of the file, enough of them to tell what it is.
    ///
    /// # Errors
    /// [`Fault::Blank`].
    pub async fn open<S, E>(content_type: &[u8], body: S) -> Result<Self, Fault>
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
    {
        let mut parts = Parts::open(content_type, body)?;
        let file = loop {
            let part = parts.next().await?.ok_or(Fault::Blank)?;
            if part.name == FIELD && part.file_name.is_some() {
                break part;
            }
        };
        let mut part = Self { file, parts, head: Bytes::new(), batch: BytesMut::new() };
        part.fill(sniff::SNIFF_BYTES).await?;
        let sniffed = part.batch.len().min(sniff::SNIFF_BYTES);
        part.head = Bytes::copy_from_slice(&part.batch[..sniffed]);
        Ok(part)
    }

    /// The file's name: the last path element; `None` when it is not UTF-8 (no storage can
    /// hold such a name).
    pub fn file_name(&self) -> Option<&str> {
        std::str::from_utf8(self.name()).ok()
    }

    /// Whether the first bytes are those of a plain zip archive.
    pub fn is_zip(&self) -> bool {
        sniff::is_zip(&self.head)
    }

    /// What the field's error says when [`FilePart::is_zip`] is false.
    pub fn type_message(&self) -> String {
        let name = sniff::mangled(&String::from_utf8_lossy(self.name()), &self.head);
        format!("{} mime type must be one of: application/zip.", super::disposition::quoted(&name))
    }

    /// The next bytes of the file, about 1 MiB; `None` when the whole body was read and was
    /// well-formed.
    ///
    /// # Errors
    /// [`Fault::Blank`]; the bytes so far are worth nothing then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.fill(BATCH_BYTES).await?;
        if !self.batch.is_empty() {
            return Ok(Some(std::mem::take(&mut self.batch).freeze()));
        }
        while self.parts.next().await?.is_some() {}
        Ok(None)
    }

    /// Reads on and drops what comes, so that the client hears an answer instead of a broken
    /// connection; no more than `bytes_max`.
    ///
    /// # Errors
    /// [`Fault::Blank`], as if the file had been wanted; [`Fault::Refused`] above the limit.
    pub async fn drain(&mut self, bytes_max: u64) -> Result<(), Fault> {
        let mut dropped = 0;
        while let Some(batch) = self.next().await? {
            dropped += batch.len() as u64;
            if dropped > bytes_max {
                return Err(Fault::Refused);
            }
        }
        Ok(())
    }

    fn name(&self) -> &[u8] {
        self.file.file_name.as_deref().unwrap_or_default()
    }

    /// Gathers bytes of the file until there are `bytes` or it is complete.
    async fn fill(&mut self, bytes: usize) -> Result<(), Fault> {
        while self.batch.len() < bytes {
            let Some(piece) = self.file.next().await? else { return Ok(()) };
            if self.batch.is_empty() {
                self.batch.reserve(BATCH_BYTES + piece.len());
            }
            self.batch.extend_from_slice(&piece);
        }
        Ok(())
    }
}

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Self::Blank
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=B";
    const LARGE: usize = 5 * BATCH_BYTES / 2;

    fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
        let head = format!("--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    }

    fn file(disposition: &str, content: &[u8]) -> Vec<u8> {
        [part(disposition, content), b"--B--\r\n".to_vec()].concat()
    }

    /// Name, size, number of batches, and whether it is a zip.
    async fn take(body: &[u8]) -> Result<(String, usize, usize, bool), Fault> {
        let chunks: Vec<_> =
            body.chunks(60_000).map(|c| Ok::<_, ()>(Bytes::copy_from_slice(c))).collect();
        let mut part = FilePart::open(TYPE, stream::iter(chunks)).await?;
        let name = part.file_name().unwrap_or("not UTF-8").to_owned();
        let (mut size, mut batches) = (0, 0);
        while let Some(batch) = part.next().await? {
            size += batch.len();
            batches += 1;
        }
        Ok((name, size, batches, part.is_zip()))
    }

    #[actix_web::test]
    async fn the_first_file_is_found_among_other_parts() {
        let zip = b"PK\x03\x04";
        let named = |name: &str| Ok((name.to_owned(), 4, 1, true));
        let large = [zip.to_vec(), vec![b'\r'; LARGE]].concat();
        let payload = |json: &str| part("name=\"@jsonPayload\"", json.as_bytes());
        let wanted = file("name=\"file\"; filename=\"a.zip\"", zip);
        let second = part("name=\"file\"; filename=\"b.zip\"", b"no");
        let cases: Vec<(Vec<u8>, Result<_, Fault>)> = vec![
            (wanted.clone(), named("a.zip")),
            ([payload("[]"), wanted.clone()].concat(), named("a.zip")),
            (
                [part("name=\"note\"; filename=\"n\"", b"x"), wanted.clone()].concat(),
                named("a.zip"),
            ),
            ([part("name=\"file\"", b"x"), wanted.clone()].concat(), named("a.zip")),
            (
                [part("name=\"file\"; filename=\"a.zip\"", zip), second, wanted].concat(),
                named("a.zip"),
            ),
            (file("name=file; filename=unq.zip", zip), named("unq.zip")),
            (file("name=file; filename=a.zip; filename*=utf-8''b.zip", zip), named("b.zip")),
            (file("name=\"file\"; filename=\"/abs/abs.zip\"", zip), named("abs.zip")),
            (file("name=\"file\"; filename=\"../trav.zip\"", zip), named("trav.zip")),
            (file("name=\"file\"; filename=\"..\\\\win.zip\"", zip), named("..\\win.zip")),
            (file("name=\"file\"; filename=\"%2e%2e%2fx.zip\"", zip), named("%2e%2e%2fx.zip")),
            (file("name=\"file\"; filename=\"..\"", zip), named("..")),
            (
                file("name=\"file\"; filename=\"l.zip\"", &large),
                Ok(("l.zip".to_owned(), LARGE + 4, 3, true)),
            ),
            (file("name=\"file\"; filename=\"e.zip\"", b""), Ok(("e.zip".to_owned(), 0, 0, false))),
            (file("name=\"file\"; filename=\"\"", zip), Err(Fault::Blank)),
            (file("name=\"File\"; filename=\"w.zip\"", zip), Err(Fault::Blank)),
            (file("name=\"files\"; filename=\"w.zip\"", zip), Err(Fault::Blank)),
            (file("name=\"file\"; filename=\"t.zip\"", zip)[..80].to_vec(), Err(Fault::Blank)),
            (
                file("name=\"file\"; filename=\"t.zip\"", &large)[..LARGE].to_vec(),
                Err(Fault::Blank),
            ),
            (b"garbage".to_vec(), Err(Fault::Blank)),
            (vec![], Err(Fault::Blank)),
        ];
        for (body, expected) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(90)]).into_owned();
            assert_eq!(take(&body).await, expected, "{shown}");
        }
        let latin1 = [b"name=\"file\"; filename=\"\xff.zip\"".to_vec(), zip.to_vec()].concat();
        assert!(take(&latin1).await.is_err());
    }

    #[actix_web::test]
    async fn a_part_behind_the_file_can_spoil_the_upload() {
        let good = part("name=\"file\"; filename=\"a.zip\"", b"PK\x03\x04");
        let broken = [good, b"--B\r\nno header".to_vec()].concat();
        assert_eq!(take(&broken).await, Err(Fault::Blank));
    }

    #[actix_web::test]
    async fn what_is_not_wanted_is_read_up_to_a_limit() {
        let body = file("name=\"file\"; filename=\"a.zip\"", &vec![1; LARGE]);
        let cases = [
            (body.len(), u64::MAX, Ok(())),
            (body.len(), LARGE as u64, Ok(())),
            (body.len(), LARGE as u64 - 1, Err(Fault::Refused)),
            (LARGE, u64::MAX, Err(Fault::Blank)),
        ];
        for (cut, bytes_max, expected) in cases {
            let chunk = Ok::<_, ()>(Bytes::copy_from_slice(&body[..cut]));
            let mut part = FilePart::open(TYPE, stream::iter([chunk])).await.expect("a file");
            assert_eq!(part.drain(bytes_max).await, expected);
        }
    }

    #[actix_web::test]
    async fn the_refusal_of_a_type_shows_a_made_up_name() {
        let chunk =
            Ok::<_, ()>(Bytes::from(file("name=\"file\"; filename=\"text.zip\"", b"hello")));
        let part = FilePart::open(TYPE, stream::iter([chunk])).await.expect("a file");
        let message = part.type_message();
        assert!(message.starts_with("\"text_") && message.len() == 64, "{message}");
        assert!(message.ends_with(".zip\" mime type must be one of: application/zip."));
    }
}
