//! HTTP by hand: a request goes out byte for byte on a connection of its own, and the answer
//! is taken apart without cleaning anything up. Real clients would repair what is tested here.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one read or write may stall before the exchange counts as failed.
const STALL: Duration = Duration::from_secs(60);

/// A request to be sent as it stands; only `Host`, `Connection: close` and the framing of the
/// body are added, and those only where they are not given.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) chunked: bool,
    pub(crate) no_host: bool,
    pub(crate) no_length: bool,
}

impl Request {
    /// A request from its first two words, such as `GET /api/health`.
    pub(crate) fn new(line: &str) -> Self {
        let (method, target) = line.split_once(' ').expect("METHOD /target");
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: Vec::new(),
            body: None,
            chunked: false,
            no_host: false,
            no_length: false,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn auth(self, token: &str) -> Self {
        self.header("Authorization", token)
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string())
    }

    pub(crate) fn body(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = self.header("Content-Type", media_type);
        request.body = Some(body.into());
        request
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name))
    }

    /// The bytes that go out.
    pub(crate) fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        if !self.no_host && !self.has_header("Host") {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        if !self.has_header("Connection") {
            head.push_str("Connection: close\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut payload = Vec::new();
        if let Some(body) = &self.body {
            if self.chunked {
                head.push_str("Transfer-Encoding: chunked\r\n");
                for part in body.chunks(1 << 16) {
                    payload.extend(format!("{:x}\r\n", part.len()).bytes());
                    payload.extend(part);
                    payload.extend(b"\r\n");
                }
                payload.extend(b"0\r\n\r\n");
            } else {
                if !self.no_length && !self.has_header("Content-Length") {
                    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                payload.extend(body);
            }
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(payload);
        bytes
    }

    /// Sends it and waits for the whole answer.
    pub(crate) fn send(&self, host: SocketAddr) -> io::Result<Response> {
        exchange(host, &self.bytes(host), self.method == "HEAD")
    }
}

/// An answer: header values in the order in which they came.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }
}

/// Sends `bytes` and reads one answer. A server may answer and close before it has read
/// everything, so a failed write is no failure yet.
pub(crate) fn exchange(host: SocketAddr, bytes: &[u8], head: bool) -> io::Result<Response> {
    let mut stream = connect(host)?;
    let _ = stream.write_all(bytes);
    read_response(&mut stream, head)
}

/// A connection with time limits.
pub(crate) fn connect(host: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&host, STALL)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer off a connection; interim (1xx) answers are passed over.
pub(crate) fn read_response(stream: &mut TcpStream, head: bool) -> io::Result<Response> {
    let mut incoming = Incoming { stream, buffer: Vec::new() };
    loop {
        let mut response = incoming.head()?;
        if (100..200).contains(&response.status) {
            continue;
        }
        if !head && response.status != 204 && response.status != 304 {
            response.body = incoming.body(&response)?;
        }
        return Ok(response);
    }
}

struct Incoming<'a> {
    stream: &'a mut TcpStream,
    buffer: Vec<u8>,
}

impl Incoming<'_> {
    fn head(&mut self) -> io::Result<Response> {
        let bad = |what: &str| io::Error::other(format!("not an HTTP answer: {what}"));
        let status_line = self.line()?;
        let mut words = status_line.split(' ');
        let version = words.next().unwrap_or_default();
        if !version.starts_with("HTTP/1.") {
            return Err(bad(&status_line));
        }
        let status =
            words.next().and_then(|word| word.parse().ok()).ok_or_else(|| bad(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    fn body(&mut self, head: &Response) -> io::Result<Vec<u8>> {
        let encoding = head.header("Transfer-Encoding").unwrap_or_default();
        if encoding.eq_ignore_ascii_case("chunked") {
            let mut body = Vec::new();
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16)
                    .map_err(|error| io::Error::other(format!("chunk size: {error}")))?;
                body.extend(self.take(size)?);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        if let Some(length) = head.header("Content-Length") {
            let length = length
                .parse()
                .map_err(|error| io::Error::other(format!("Content-Length: {error}")))?;
            return self.take(length);
        }
        let mut body = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut body)?;
        Ok(body)
    }

    /// The next line without its end; UTF-8 where it is that, Latin-1 otherwise.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(String::from_utf8(line).unwrap_or_else(|error| latin1(error.as_bytes())));
            }
            self.fill()?;
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 1 << 16];
        match self.stream.read(&mut part)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend(&part[..n]);
                Ok(())
            }
        }
    }
}

/// Each byte as the character of the same number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
