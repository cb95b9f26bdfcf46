//! Splits `multipart/form-data` into parts while it arrives, with Go's leniency: text before
//! the first boundary, blanks after a boundary, bare line feeds throughout, a last boundary
//! without a line end. Data passes through uncopied. Does no input or output itself.
//!
//! Not known here: `Content-Transfer-Encoding` (browsers and HTTP libraries never send it).

use std::fmt;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::media::Media;

/// Most bytes of one part's header block, and of a line before the first boundary.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most parts of one body (Go's limit).
const PARTS_MAX: usize = 1000;
/// Longest boundary; RFC 2046 allows 70.
const BOUNDARY_BYTES_MAX: usize = 1024;

/// The body is not well-formed, or ended too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken multipart body: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// The form field's name; empty when there is none.
    pub name: Vec<u8>,
    /// The last path element of the file's name; `None` for ordinary fields. Not always UTF-8.
    pub file_name: Option<Vec<u8>>,
}

/// What comes next in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(Part),
    /// A piece of the part's content, never empty.
    Data(Bytes),
    /// The part is complete.
    PartEnd,
    /// The last boundary was read; what follows is of no interest.
    End,
    /// Nothing to tell before [`Parser::feed`] or [`Parser::finish`] is called.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    Headers,
    /// `true` while no byte of the content was seen.
    Data(bool),
    /// After a part: its line end, then a boundary line.
    Boundary,
    End,
}

/// The parser; see the module.
#[derive(Debug)]
pub struct Parser {
    /// `\r\n--boundary`, or `\n--boundary` once a bare line feed ended the first boundary.
    delimiter: Vec<u8>,
    finder: Finder<'static>,
    line_end: &'static [u8],
    buffer: Bytes,
    state: State,
    parts: usize,
    finished: bool,
}

impl Parser {
    /// A parser for the body that a `Content-Type` value announces.
    ///
    /// # Errors
    /// It is not `multipart/form-data` with a boundary.
    pub fn of_content_type(value: &[u8]) -> Result<Self, Broken> {
        let media = Media::parse(value).ok_or(Broken("unreadable content type"))?;
        if media.kind != "multipart/form-data" {
            return Err(Broken("not multipart/form-data"));
        }
        let boundary = media.param("boundary").ok_or(Broken("no boundary"))?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return Err(Broken("unusable boundary"));
        }
        let delimiter = [b"\r\n--", boundary].concat();
        Ok(Self {
            finder: Finder::new(&delimiter).into_owned(),
            delimiter,
            line_end: b"\r\n",
            buffer: Bytes::new(),
            state: State::Preamble,
            parts: 0,
            finished: false,
        })
    }

    /// Hands over the next bytes of the body.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = chunk;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.buffer.len() + chunk.len());
        joined.extend_from_slice(&self.buffer);
        joined.extend_from_slice(&chunk);
        self.buffer = joined.freeze();
    }

    /// Says that the body has ended.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What comes next.
    ///
    /// # Errors
    /// The body is not well-formed, or it has ended before its last boundary.
    pub fn next_event(&mut self) -> Result<Event, Broken> {
        match self.state {
            State::Preamble => self.preamble(),
            State::Headers => self.headers(),
            State::Data(fresh) => self.data(fresh),
            State::Boundary => self.boundary(),
            State::End => Ok(Event::End),
        }
    }

    fn preamble(&mut self) -> Result<Event, Broken> {
        loop {
            let Some(line) = self.line()? else { return Ok(Event::More) };
            if self.is_last(&line) {
                self.state = State::End;
                return Ok(Event::End);
            }
            if let Some(rest) = self.after_dashes(&line) {
                if rest == b"\n" {
                    self.line_end = b"\n";
                    self.delimiter.remove(0);
                    self.finder = Finder::new(&self.delimiter).into_owned();
                }
                if rest == self.line_end {
                    return self.begin_part();
                }
            }
            if self.finished && self.buffer.is_empty() {
                return Err(Broken("no boundary found"));
            }
        }
    }

    fn begin_part(&mut self) -> Result<Event, Broken> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(Broken("too many parts"));
        }
        self.state = State::Headers;
        self.headers()
    }

    fn headers(&mut self) -> Result<Event, Broken> {
        let Some(len) = header_block_len(&self.buffer) else {
            return match (self.finished, self.buffer.len() > HEADER_BYTES_MAX) {
                (true, _) => Err(Broken("ends within a part's header")),
                (_, true) => Err(Broken("a part's header is too long")),
                _ => Ok(Event::More),
            };
        };
        if len > HEADER_BYTES_MAX {
            return Err(Broken("a part's header is too long"));
        }
        let block = self.buffer.split_to(len);
        self.state = State::Data(true);
        Ok(Event::Part(part_of(&block)?))
    }

    fn data(&mut self, fresh: bool) -> Result<Event, Broken> {
        // A boundary right after the header ends an empty part.
        let opening = self.delimiter.get(self.line_end.len()..).unwrap_or_default().to_vec();
        if fresh && self.buffer.starts_with(&opening) {
            match self.follows(opening.len()) {
                Some(true) => return Ok(self.end_part()),
                Some(false) => {}
                None => return self.more_data(),
            }
        } else if fresh && opening.starts_with(&self.buffer) {
            return self.more_data();
        }
        let mut sure = self.buffer.len();
        if let Some(at) = self.finder.find(&self.buffer) {
            match self.follows(at + self.delimiter.len()) {
                Some(true) if at == 0 => return Ok(self.end_part()),
                Some(true) => sure = at,
                // It only looks like the boundary: its first byte is content.
                Some(false) => sure = at + 1,
                None => sure = at,
            }
        } else if let Some(at) = memchr::memrchr(self.line_end[0], &self.buffer)
            && self.delimiter.starts_with(&self.buffer[at..])
        {
            sure = at;
        }
        if sure == 0 {
            return self.more_data();
        }
        self.state = State::Data(false);
        Ok(Event::Data(self.buffer.split_to(sure)))
    }

    fn more_data(&self) -> Result<Event, Broken> {
        if self.finished { Err(Broken("ends within a part")) } else { Ok(Event::More) }
    }

    fn end_part(&mut self) -> Event {
        self.state = State::Boundary;
        Event::PartEnd
    }

    /// Whether what stands at `at` completes a boundary; `None` when it has not arrived yet.
    fn follows(&self, at: usize) -> Option<bool> {
        match self.buffer.get(at..).unwrap_or_default() {
            [] => self.finished.then_some(true),
            [b' ' | b'\t' | b'\r' | b'\n', ..] | [b'-', b'-', ..] => Some(true),
            [b'-'] => self.finished.then_some(false),
            _ => Some(false),
        }
    }

    fn boundary(&mut self) -> Result<Event, Broken> {
        if self.buffer.len() < self.line_end.len() && !self.finished {
            return Ok(Event::More);
        }
        // Both lines are taken together, so that this can be asked again when more has come.
        let skip = if self.buffer.starts_with(self.line_end) { self.line_end.len() } else { 0 };
        let Some(len) = self.line_len(skip)? else { return Ok(Event::More) };
        let line = self.buffer.split_to(skip + len).slice(skip..);
        if self.is_last(&line) {
            self.state = State::End;
            return Ok(Event::End);
        }
        match self.after_dashes(&line) {
            Some(rest) if rest == self.line_end => self.begin_part(),
            _ => Err(Broken("text behind a boundary")),
        }
    }

    fn line(&mut self) -> Result<Option<Bytes>, Broken> {
        Ok(self.line_len(0)?.map(|len| self.buffer.split_to(len)))
    }

    /// The length of the line at `from`, with its line feed; the last one may have none.
    fn line_len(&self, from: usize) -> Result<Option<usize>, Broken> {
        let rest = self.buffer.get(from..).unwrap_or_default();
        match memchr::memchr(b'\n', rest) {
            Some(at) => Ok(Some(at + 1)),
            None if rest.len() > HEADER_BYTES_MAX => Err(Broken("a line is too long")),
            None if !self.finished => Ok(None),
            None if self.is_last(rest) => Ok(Some(rest.len())),
            None => Err(Broken("ends without its last boundary")),
        }
    }

    fn is_last(&self, line: &[u8]) -> bool {
        let rest = self.dashes(line).and_then(|rest| rest.strip_prefix(b"--"));
        rest.map(without_blanks).is_some_and(|rest| rest.is_empty() || rest == self.line_end)
    }

    fn after_dashes<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        self.dashes(line).map(without_blanks)
    }

    fn dashes<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        line.strip_prefix(self.delimiter.get(self.line_end.len()..)?)
    }
}

fn without_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    text.get(blanks..).unwrap_or_default()
}

/// The length of a header block with the blank line that ends it.
fn header_block_len(buffer: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let end = from + memchr::memchr(b'\n', buffer.get(from..)?)? + 1;
        if matches!(&buffer[from..end], b"\n" | b"\r\n") {
            return Some(end);
        }
        from = end;
    }
}

fn part_of(block: &[u8]) -> Result<Part, Broken> {
    let mut headers: Vec<Vec<u8>> = Vec::new();
    for line in block.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        match (line.first(), headers.last_mut()) {
            (None, _) => {}
            (Some(b' ' | b'\t'), Some(last)) => {
                last.push(b' ');
                last.extend_from_slice(line.trim_ascii());
            }
            (Some(b' ' | b'\t' | b':'), _) => return Err(Broken("a malformed header line")),
            _ if !line.contains(&b':') => return Err(Broken("a malformed header line")),
            _ => headers.push(line.to_vec()),
        }
    }
    let disposition = headers.iter().find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let named = line[..colon].eq_ignore_ascii_case(b"content-disposition");
        named.then(|| line[colon + 1..].trim_ascii())
    });
    let media = disposition.and_then(Media::parse).unwrap_or_default();
    let name = media.param("name").filter(|_| media.kind == "form-data").unwrap_or_default();
    let file_name = media.param("filename").filter(|name| !name.is_empty()).map(last_element);
    Ok(Part { name: name.to_vec(), file_name: file_name.map(<[u8]>::to_vec) })
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
