//! Just enough of HTTP/1.1 to read requests and to break answers in chosen places.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes per read and write of a body.
const BLOCK_BYTES: usize = 64 * 1024;

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// As sent.
    pub(crate) path: String,
    /// Decoded, in the order sent.
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn content_length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Bucket and key of the path, decoded.
    pub(crate) fn target(&self) -> (String, String) {
        let decoded = percent_decode_str(self.path.trim_start_matches('/')).decode_utf8_lossy();
        let (bucket, key) = decoded.split_once('/').unwrap_or((&decoded, ""));
        (bucket.to_owned(), key.to_owned())
    }
}

/// A connection with what was read ahead of it.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    stream: &'a TcpStream,
    ahead: Vec<u8>,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(stream: &'a TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// The next head, `None` when the client is gone.
    pub(crate) fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 4);
                return parse(&text);
            }
            let mut block = [0; 4096];
            match self.stream.read(&mut block) {
                Ok(read) if read > 0 && self.ahead.len() < HEAD_BYTES_MAX => {
                    self.ahead.extend_from_slice(&block[..read]);
                }
                _ => return None,
            }
        }
    }

    /// The body, or its first `limit` bytes; at a pace.
    pub(crate) fn body(
        &mut self,
        head: &Head,
        limit: usize,
        bytes_per_second: Option<u64>,
    ) -> io::Result<Vec<u8>> {
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = head.content_length().min(limit);
        let mut body = Vec::with_capacity(length);
        let taken = self.ahead.len().min(length);
        body.extend(self.ahead.drain(..taken));
        let started = Instant::now();
        while body.len() < length {
            let mut block = vec![0; BLOCK_BYTES.min(length - body.len())];
            let read = self.stream.read(&mut block)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body.extend_from_slice(&block[..read]);
            pace(started, body.len(), bytes_per_second);
        }
        Ok(body)
    }

    /// Sends an answer; `limit` cuts its body short.
    pub(crate) fn answer(
        &mut self,
        reply: &Reply,
        with_body: bool,
        limit: Option<usize>,
        bytes_per_second: Option<u64>,
    ) -> io::Result<()> {
        let length = reply.length.unwrap_or(reply.body.len() as u64);
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())?;
        if with_body {
            let end = limit.unwrap_or(reply.body.len()).min(reply.body.len());
            let (started, mut sent) = (Instant::now(), 0);
            for block in reply.body[..end].chunks(BLOCK_BYTES) {
                self.stream.write_all(block)?;
                sent += block.len();
                pace(started, sent, bytes_per_second);
            }
        }
        self.stream.flush()
    }

    /// Ends the connection with a reset, as a crashing server or a cut line would.
    pub(crate) fn reset(&self) {
        let linger = rustix::net::sockopt::set_socket_linger(self.stream, Some(Duration::ZERO));
        linger.expect("a reset");
    }
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The length to tell, where it is not that of the body.
    pub(crate) length: Option<u64>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn xml(status: u16, body: String) -> Self {
        let declaration = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let mut reply = Self::new(status).header("Content-Type", "application/xml");
        reply.body = format!("{declaration}\n{body}").into_bytes();
        reply
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let message = format!("refused by the test server: {code}");
        Self::xml(status, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
    }
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some(Head { method, path: path.to_owned(), query: query.collect(), headers: headers.collect() })
}

fn pace(started: Instant, bytes: usize, bytes_per_second: Option<u64>) {
    if let Some(rate) = bytes_per_second {
        let due = Duration::from_millis(bytes as u64 * 1000 / rate.max(1));
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
}
