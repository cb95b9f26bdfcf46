//! What Go's server says when it refuses a request before any handler sees it, and how the
//! HTTP library's own refusals, which say nothing, are recognized.

use actix_http::error::ParseError;

/// A refusal in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    status: &'static str,
    body: &'static str,
}

const BAD: Refusal = Refusal::new("400 Bad Request");
const BAD_NAME: Refusal = Refusal::new("400 Bad Request: invalid header name");
const NO_HOST: Refusal = Refusal::new("400 Bad Request: missing required Host header");
const TOO_LARGE: Refusal = Refusal::new("431 Request Header Fields Too Large");
const CODING: Refusal =
    Refusal { status: "501 Not Implemented", body: "Unsupported transfer encoding" };
const VERSION: Refusal =
    Refusal::new("505 HTTP Version Not Supported: unsupported protocol version");

impl Refusal {
    const fn new(text: &'static str) -> Self {
        Self { status: text, body: text }
    }

    /// The refusal of a request that could not be parsed. `seen` begins at its head, or at an
    /// earlier one's; where it does not reach to the fault, the words are general ones.
    pub fn of(error: &ParseError, seen: &[u8]) -> Self {
        match error {
            ParseError::TooLarge => TOO_LARGE,
            ParseError::Version => first_fault(seen).unwrap_or(VERSION),
            _ => first_fault(seen).unwrap_or(BAD),
        }
    }

    /// All of the answer. The connection's end is its end.
    pub fn answer(self) -> String {
        let Self { status, body } = self;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }
}

/// Where the HTTP library's refusals begin with which `written` ends; its length when there
/// are none. For one bad request it may write several.
pub fn start_of_refusals(written: &[u8]) -> usize {
    let mut end = written.len();
    while let Some(start) = last_refusal(&written[..end]) {
        end = start;
    }
    end
}

/// A head of the library's own: none of our answers has lower-case names.
fn last_refusal(written: &[u8]) -> Option<usize> {
    const DATE: &[u8] = b"\r\ndate: ";
    let head = written.strip_suffix(b"\r\n\r\n")?;
    let (head, date) = head.split_at(head.len().checked_sub(DATE.len() + 29)?);
    if !date.starts_with(DATE) {
        return None;
    }
    let connection: [&[u8]; 3] =
        [b"\r\nconnection: close", b"\r\nconnection: keep-alive", b"\r\nconnection: upgrade"];
    let head = connection.iter().find_map(|line| head.strip_suffix(*line)).unwrap_or(head);
    let head = head.strip_suffix(b"\r\ncontent-length: 0")?;
    let head = head
        .strip_suffix(b"400 Bad Request")
        .or_else(|| head.strip_suffix(b"431 Request Header Fields Too Large"))?;
    let head = head.strip_suffix(b"HTTP/1.1 ").or_else(|| head.strip_suffix(b"HTTP/1.0 "))?;
    Some(head.len())
}

/// The fault of the first head that has one.
fn first_fault(mut seen: &[u8]) -> Option<Refusal> {
    loop {
        let (head, rest) = Head::take(seen)?;
        if let Some(fault) = head.fault() {
            return Some(fault);
        }
        // The next head follows the body; where that ends is only told by a length.
        seen = match head.codings.is_empty() {
            true => rest.get(usize::try_from(head.length()?).ok()?..)?,
            false => return None,
        };
    }
}

/// A whole request head, as far as refusals depend on it.
#[derive(Default)]
struct Head<'a> {
    malformed: bool,
    connect: bool,
    /// Major and minor.
    version: (u8, u8),
    hosts: usize,
    codings: Vec<&'a [u8]>,
    lengths: Vec<&'a [u8]>,
    /// A blank in a name: Go has words of its own for it.
    blank: bool,
}

impl<'a> Head<'a> {
    /// `None` when the head has no end.
    fn take(seen: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut head = Self::default();
        let mut rest = seen;
        let mut next = || {
            let (line, after) = rest.split_at(memchr::memchr(b'\n', rest)? + 1);
            rest = after;
            let line = &line[..line.len() - 1];
            Some(line.strip_suffix(b"\r").unwrap_or(line))
        };
        head.request_line(next()?);
        loop {
            match next()? {
                b"" => return Some((head, rest)),
                line => head.header(line),
            }
        }
    }

    fn request_line(&mut self, line: &'a [u8]) {
        let mut words = line.splitn(3, |b| *b == b' ');
        self.connect = words.next() == Some(b"CONNECT");
        match words.nth(1) {
            Some(
                [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'],
            ) => {
                self.version = (major - b'0', minor - b'0');
            }
            _ => self.malformed = true,
        }
    }

    fn header(&mut self, line: &'a [u8]) {
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~ ".contains(b);
        let control = |b: &u8| b.is_ascii_control() && *b != b'\t';
        let Some(colon) = memchr::memchr(b':', line) else {
            self.malformed = true;
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let leading = name.first().is_none_or(|b| *b == b' ');
        if leading || !name.iter().all(token) || value.iter().any(control) {
            self.malformed = true;
        }
        self.blank |= name.contains(&b' ');
        match name.to_ascii_lowercase().as_slice() {
            b"host" => self.hosts += 1,
            b"transfer-encoding" => self.codings.push(value),
            b"content-length" => self.lengths.push(value),
            _ => {}
        }
    }

    /// In the order in which Go looks.
    fn fault(&self) -> Option<Refusal> {
        let modern = self.version >= (1, 1);
        let chunked = |codings: &[&[u8]]| match codings {
            [coding] => coding.eq_ignore_ascii_case(b"chunked"),
            _ => false,
        };
        if self.malformed || self.hosts > 1 {
            Some(BAD)
        } else if modern && !self.codings.is_empty() && !chunked(&self.codings) {
            Some(CODING)
        } else if self.length().is_none() {
            Some(BAD)
        } else if self.version.0 != 1 {
            Some(VERSION)
        } else if modern && self.hosts == 0 && !self.connect {
            Some(NO_HOST)
        } else {
            self.blank.then_some(BAD_NAME)
        }
    }

    /// Of its body; 0 when none is given, `None` when it is nonsense.
    fn length(&self) -> Option<u64> {
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
        match self.lengths.as_slice() {
            [] => Some(0),
            [length] if length.first() != Some(&b'+') => u64::try_from(number(length)?).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\
        connection: close\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

    #[test]
    fn only_the_librarys_own_refusals_are_recognized() {
        let at = |text: &str| start_of_refusals(text.as_bytes());
        assert_eq!(at(REFUSAL), 0);
        assert_eq!(at(&format!("answer{REFUSAL}")), 6);
        assert_eq!(at(&format!("answer{REFUSAL}{REFUSAL}")), 6);
        assert_eq!(at(&REFUSAL.replace("connection: close\r\n", "")), 0);
        assert_eq!(at(&REFUSAL.replace("close", "keep-alive").replace("/1.1", "/1.0")), 0);
        let large = "431 Request Header Fields Too Large";
        assert_eq!(at(&REFUSAL.replace("400 Bad Request", large)), 0);
        for other in [
            String::new(),
            "\r\n\r\n".to_owned(),
            format!("{REFUSAL}x"),
            REFUSAL[1..].to_owned(),
            REFUSAL.replace("content-length", "Content-Length"),
            REFUSAL.replace("date", "Date"),
            REFUSAL.replace("length: 0", "length: 10"),
            REFUSAL.replace("400 Bad Request", "404 Not Found"),
        ] {
            assert_eq!(at(&other), other.len(), "{other:?}");
        }
    }

    /// What cannot be seen over the wire, because the library takes or answers it otherwise;
    /// the words themselves are compared in tests/it.
    #[test]
    fn words_fit_what_was_seen() {
        let of = |error: ParseError, seen: &str| Refusal::of(&error, seen.as_bytes());
        assert_eq!(of(ParseError::TooLarge, "GET / HTTP/1.1\r\n"), TOO_LARGE);
        assert_eq!(of(ParseError::Header, ""), BAD);
        assert_eq!(of(ParseError::Header, "GET / HTTP/1.1\r\nTransfer-Encoding: x\r\n"), BAD);
        assert_eq!(of(ParseError::Version, "GET / HTTP/2.0\r\n"), VERSION);
        assert_eq!(of(ParseError::Version, "GET / HTTP/x.0\r\n\r\n"), BAD);
        assert_eq!(of(ParseError::Version, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"), VERSION);
        let good = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab\n";
        assert_eq!(of(ParseError::Header, &format!("{good}{good}GET / HTTP/1.1\n\n")), NO_HOST);
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(of(ParseError::Header, &format!("{chunked}GET / HTTP/1.1\n\n")), BAD);
        assert_eq!(of(ParseError::Header, "POST / HTTP/1.0\r\nTransfer-Encoding: x\r\n\r\n"), BAD);
    }
}
