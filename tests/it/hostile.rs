//! What a hostile or broken client may send: each attempt gets its documented answer, nothing
//! panics, nothing is left behind, and the server goes on serving.
//!
//! Each area is a table in a module of its own. An attempt is bytes on a connection of its
//! own; where our answer is PocketBase's, the tables pass against a real one, too
//! (`POCKETVAULT_WIRE_BIN`, see `wire`); the other tests start our server in any case.

mod archives;
mod bodies;
mod connections;
mod keys;
mod races;
mod sizes;
mod tokens;
mod uploads;

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::raw::{Request, Response, connect, read_response};

/// Fewest attempts that all tables together must hold.
const ATTEMPTS_MIN: usize = 500;
/// How long an attempt may wait for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long the server may need to notice that clients have left.
const SETTLE_MAX: Duration = Duration::from_secs(5);

const UNREADABLE: Want = Want::Error(400, "An error occurred while loading the submitted data.");
const UNAUTHENTICATED: Want =
    Want::Error(401, "The request requires valid record authorization token.");
const FORBIDDEN_FILE: Want = Want::Error(403, "Insufficient permissions to access the resource.");
const UNKNOWN: Want = Want::Error(404, "The requested resource wasn't found.");

/// One thing that a hostile client tries.
struct Attempt {
    name: String,
    bytes: Vec<u8>,
    want: Want,
}

/// What the documents say about the answer.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// An error in PocketBase's form: status and message, no data.
    Error(u16, &'static str),
    /// A 400 for one field: its name and the code under it.
    Invalid(&'static str, &'static str),
    /// One of these, with whatever body.
    Status(&'static [u16]),
    /// One of these, or a closed connection: the bytes are no whole request.
    Refused(&'static [u16]),
    /// Nothing: the client leaves at once.
    Left,
}

impl Attempt {
    fn new(name: impl Into<String>, server: &Server, request: &Request, want: Want) -> Self {
        Self::raw(name, request.bytes(server.address()), want)
    }

    fn raw(name: impl Into<String>, bytes: impl Into<Vec<u8>>, want: Want) -> Self {
        Self { name: name.into(), bytes: bytes.into(), want }
    }

    /// What went wrong, in words.
    fn fault(&self, server: &Server) -> Option<String> {
        let outcome = self.answer(server);
        let fault = match (&self.want, outcome) {
            (Want::Left, _) => None,
            (Want::Refused(_), Err(_)) => None,
            (_, Err(error)) => Some(format!("no answer: {error}")),
            (want, Ok(answer)) => want.fault(&answer),
        };
        fault.map(|fault| format!("{}: {fault}", self.name))
    }

    fn answer(&self, server: &Server) -> std::io::Result<Response> {
        let mut stream = connect(server.address())?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(&self.bytes);
        match self.want {
            Want::Left => return Err(std::io::ErrorKind::ConnectionAborted.into()),
            Want::Refused(_) => stream.shutdown(Shutdown::Write)?,
            _ => {}
        }
        read_response(&mut stream, self.bytes.starts_with(b"HEAD "))
    }
}

impl Want {
    fn fault(&self, answer: &Response) -> Option<String> {
        let got = || format!("got {} {:.300}", answer.status, answer.text());
        match self {
            Self::Left => None,
            Self::Status(statuses) | Self::Refused(statuses) => (!statuses
                .contains(&answer.status))
            .then(|| format!("wanted {statuses:?}, {}", got())),
            Self::Error(status, message) => {
                let want = json!({"data": {}, "message": message, "status": status});
                let same = answer.status == *status && parsed(answer) == Some(want);
                (!same).then(|| format!("wanted {status} {message}, {}", got()))
            }
            Self::Invalid(field, code) => {
                let pointer = format!("/data/{field}/code");
                let came = parsed(answer).and_then(|body| body.pointer(&pointer).cloned());
                let same = answer.status == 400 && came == Some(Value::from(*code));
                (!same).then(|| format!("wanted {field}: {code}, {}", got()))
            }
        }
    }
}

fn parsed(answer: &Response) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

/// Runs a table, and checks afterwards that the server is as good as new.
fn run(server: &Server, attempts: &[Attempt]) {
    let faults: Vec<String> = attempts.iter().filter_map(|attempt| attempt.fault(server)).collect();
    assert!(
        faults.is_empty(),
        "{} of {} attempts:\n{}\n{}",
        faults.len(),
        attempts.len(),
        faults.join("\n"),
        server.log()
    );
    assert_sound(server);
}

/// The server answers, lets its superuser in, and has left nothing lying about.
fn assert_sound(server: &Server) {
    let health = server.send(&Request::new("GET /api/health"));
    assert_eq!(health.status, 200, "{}", health.text());
    let token = server.login();
    let list = server.send(&Request::new("GET /api/backups").auth(&token));
    assert_eq!(list.status, 200, "{}", list.text());
    assert!(!server.log().contains("panicked at"), "{}", server.log());
    let end = Instant::now() + SETTLE_MAX;
    while !server.leftovers().is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.leftovers(), Vec::<String>::new());
}

/// The keys that are listed.
fn keys_listed(server: &Server, token: &str) -> Vec<String> {
    let list = server.send(&Request::new("GET /api/backups").auth(token)).json();
    let keys = list.as_array().expect("a list").iter();
    keys.map(|backup| backup["key"].as_str().expect("a key").to_owned()).collect()
}

/// An upload of `content` under a raw `filename`.
pub(crate) fn upload(filename: &str, content: &[u8]) -> Request {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
         Content-Type: application/zip\r\n\r\n"
    )
    .into_bytes();
    body.extend(content);
    body.extend(b"\r\n--XX--\r\n");
    Request::new("POST /api/backups/upload").body("multipart/form-data; boundary=XX", body)
}

/// A fresh file token.
fn file_token(server: &Server, token: &str) -> String {
    let answer = server.send(&Request::new("POST /api/files/token").auth(token));
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[test]
fn there_are_enough_of_them() {
    let attempts = bodies::COUNT
        + connections::COUNT
        + keys::COUNT
        + sizes::COUNT
        + tokens::COUNT
        + uploads::COUNT;
    assert!(attempts >= ATTEMPTS_MIN, "only {attempts}");
}
