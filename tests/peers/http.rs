//! A small HTTP client that sends exactly the bytes it is given, and hides nothing that comes back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any answer may take, so that a hanging server fails the test and not the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// The boundary of all multipart bodies made here.
pub(crate) const BOUNDARY: &str = "peer-boundary-7d1c";

/// One answer, with its body already out of its chunks.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Sends the bytes on a new connection and reads the answer to the end of the connection.
pub(crate) fn exchange(base: &str, request: &[u8]) -> io::Result<Reply> {
    let mut stream = connect(base)?;
    // A server may answer before it has read everything; what counts is the answer.
    let _ = stream.write_all(request);
    let mut raw = Vec::new();
    match stream.read_to_end(&mut raw) {
        Err(error) if raw.is_empty() => return Err(error),
        _ => {}
    }
    let _ = stream.shutdown(Shutdown::Both);
    parse(&raw)
}

/// As [`exchange`], but the body follows only after the server has asked for it.
pub(crate) fn exchange_after_100(base: &str, head: &[u8], body: &[u8]) -> io::Result<Reply> {
    let mut stream = connect(base)?;
    stream.write_all(head)?;
    let mut interim = Vec::new();
    while !interim.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        interim.push(byte[0]);
    }
    if !interim.starts_with(b"HTTP/1.1 100") {
        return Err(io::Error::other(String::from_utf8_lossy(&interim).into_owned()));
    }
    stream.write_all(body)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&raw)
}

/// A client with a token, for the calls that several tests make.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) base: String,
    pub(crate) token: String,
}

impl Client {
    /// Logs in as a superuser.
    pub(crate) fn login(base: &str, email: &str, password: &str) -> Result<Self, String> {
        Self::login_to("_superusers", base, email, password)
    }

    pub(crate) fn login_to(
        collection: &str,
        base: &str,
        email: &str,
        password: &str,
    ) -> Result<Self, String> {
        let anonymous = Self { base: base.to_owned(), token: String::new() };
        let path = format!("/api/collections/{collection}/auth-with-password");
        let body = json!({ "identity": email, "password": password });
        let reply =
            anonymous.try_send("POST", &path, "application/json", body.to_string().as_bytes());
        let reply = reply.map_err(|error| error.to_string())?;
        if reply.status != 200 {
            return Err(format!("{} {}", reply.status, reply.text()));
        }
        let token = reply.json()["token"].as_str().expect("a login has a token").to_owned();
        Ok(Self { token, ..anonymous })
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send("PATCH", path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "", b"")
    }

    /// Sends fields and one file as a form.
    pub(crate) fn post_form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        file: (&str, &str, &[u8]),
    ) -> Reply {
        let mut body = Vec::new();
        for (name, value) in fields {
            body.extend(part(&format!("form-data; name=\"{name}\""), None, value.as_bytes()));
        }
        let (field, filename, bytes) = file;
        let disposition = format!("form-data; name=\"{field}\"; filename=\"{filename}\"");
        body.extend(part(&disposition, Some("application/octet-stream"), bytes));
        body.extend(end_of_parts());
        self.send("POST", path, &format!("multipart/form-data; boundary={BOUNDARY}"), &body)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let list = self.get("/api/backups").expect(200).json();
        let keys = list.as_array().expect("a list").iter().map(|item| item["key"].as_str());
        keys.map(|key| key.expect("a key").to_owned()).collect()
    }

    pub(crate) fn file_token(&self) -> String {
        let reply = self.send("POST", "/api/files/token", "", b"").expect(200);
        reply.json()["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn download(&self, key: &str) -> Vec<u8> {
        let path = format!("/api/backups/{key}?token={}", self.file_token());
        Self { token: String::new(), ..self.clone() }.get(&path).expect(200).body
    }

    pub(crate) fn upload(&self, key: &str, bytes: &[u8]) {
        self.post_form("/api/backups/upload", &[], ("file", key, bytes)).expect(204);
    }

    pub(crate) fn app_name(&self) -> String {
        let settings = self.get("/api/settings").expect(200).json();
        settings["meta"]["appName"].as_str().expect("a name").to_owned()
    }

    pub(crate) fn set_app_name(&self, name: &str) {
        self.patch("/api/settings", &json!({ "meta": { "appName": name } })).expect(200);
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Reply {
        self.try_send(method, path, content_type, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", host(&self.base));
        head.push_str("Connection: close\r\n");
        if !self.token.is_empty() {
            head.push_str(&format!("Authorization: {}\r\n", self.token));
        }
        if !content_type.is_empty() {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        if !body.is_empty() || method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        exchange(&self.base, &[head.as_bytes(), body].concat())
    }
}

/// One part of a multipart body, with the disposition as it is given.
pub(crate) fn part(disposition: &str, content_type: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut head = format!("--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n");
    if let Some(kind) = content_type {
        head.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

pub(crate) fn end_of_parts() -> Vec<u8> {
    format!("--{BOUNDARY}--\r\n").into_bytes()
}

/// Host and port of a base address.
pub(crate) fn host(base: &str) -> &str {
    base.strip_prefix("http://").expect("servers here speak plain HTTP")
}

fn connect(base: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host(base))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn parse(raw: &[u8]) -> io::Result<Reply> {
    let broken = || io::Error::other(format!("not an answer: {:?}", String::from_utf8_lossy(raw)));
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let rest = &raw[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(broken)?;
    let status: u16 = status.parse().map_err(|_| broken())?;
    if status == 100 {
        return parse(rest);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: rest.to_vec() };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = unchunk(rest).ok_or_else(broken)?;
    } else if let Some(length) = reply.header("content-length") {
        let length: usize = length.parse().map_err(|_| broken())?;
        if rest.len() < length && !rest.is_empty() {
            return Err(io::Error::other(format!("{} of {length} bytes came", rest.len())));
        }
    }
    Ok(reply)
}

/// `None` when the stream of chunks is cut.
fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).ok()?, 16).ok()?;
        let chunk = raw.get(end + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk.get(..size)?);
        raw = chunk.get(size + 2..)?;
    }
}
