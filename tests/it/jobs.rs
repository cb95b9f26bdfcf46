//! Jobs as a client sees them: followed live, cancelled, and remembered after a restart.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::raw::{Request, connect};

/// An open stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server, token: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let mut stream = connect(server.address()).expect("a connection");
        let request = format!(
            "GET /api/vault/events HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{last}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let mut events = Self(BufReader::new(stream));
        let (name, _, _) = events.next().expect("an event");
        assert_eq!(name, "ready");
        events
    }

    /// The next event: its name, its id and its data; `None` at the end.
    fn next(&mut self) -> Option<(String, Option<String>, Value)> {
        let (mut name, mut id) = (None, None);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("a line in time") == 0 {
                return None;
            }
            assert!(Instant::now() < end, "nothing happens");
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("event: ") {
                name = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(text).expect("JSON");
                return Some((name.expect("named"), id, data));
            }
        }
    }

    /// Waits for a job of this kind in this state; the id of the event and the job.
    fn wait_for(&mut self, kind: &str, state: &str) -> (String, Value) {
        loop {
            let (_, id, job) = self.next().expect("not the end");
            if let Some(id) = id
                && job["kind"] == kind
                && job["state"] == state
            {
                return (id, job);
            }
        }
    }
}

fn create(server: &Server, token: &str, name: &str) {
    let request = Request::new("POST /api/backups").auth(token).json(&json!({"name": name}));
    assert_eq!(server.send(&request).status, 204);
}

fn jobs(server: &Server, token: &str) -> Value {
    server.send(&Request::new("GET /api/vault/jobs").auth(token)).json()
}

#[test]
fn jobs_are_followed_live_and_through_the_restart_of_a_restore() {
    let server = Server::start_ours();
    let token = server.login();
    let mut events = Events::open(&server, &token, None);
    create(&server, &token, "a.zip");
    let (seen, job) = events.wait_for("create", "done");
    assert_eq!((&job["id"], &job["key"]), (&json!(1), &json!("a.zip")));
    assert_eq!(job["method"], "api");
    assert!(job["bytes"].as_u64() > Some(0) && job["ended"].is_string(), "{job}");

    let restore = Request::new("POST /api/backups/a.zip/restore").auth(&token);
    assert_eq!(server.send(&restore).status, 204);
    while let Some((_, _, job)) = events.next() {
        assert_ne!(job["state"], "failed", "{job} {}", server.log());
    }
    server.wait_until_idle(&token);
    let token = server.login();
    let mut events = Events::open(&server, &token, Some(&seen));
    let (_, job) = events.wait_for("restore", "done");
    assert_eq!(job["step"], "finished");
    create(&server, &token, "b.zip");
    let (_, job) = events.wait_for("create", "done");
    assert!(job["id"].as_u64() >= Some(3), "numbers go on after a restart");
    let kinds: Vec<Value> = jobs(&server, &token)
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| job["kind"].clone())
        // Each backup is read back by itself, at some time after it was made.
        .filter(|kind| kind != "verify")
        .collect();
    assert_eq!(kinds, ["create", "restore", "create"]);
}

#[test]
fn a_cancelled_job_stops_and_leaves_nothing() {
    let server = Server::start_ours();
    let token = server.login();
    let mut upload = connect(server.address()).expect("a connection");
    let head = format!(
        "POST /api/backups/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\
         Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 90000000\r\n\r\n--XX\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"half.zip\"\r\n\r\nPK\x03\x04"
    );
    upload.write_all(head.as_bytes()).expect("sent");
    upload.write_all(&vec![7; 3 << 20]).expect("sent");
    let mut events = Events::open(&server, &token, Some("0"));
    let (_, job) = events.wait_for("upload", "running");
    let target = format!("DELETE /api/vault/jobs/{}", job["id"]);
    let answer = server.send(&Request::new(&target).auth(&token));
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(server.send(&Request::new(&target).auth(&token)).status, 400, "it has ended");
    let list = server.send(&Request::new("GET /api/backups").auth(&token)).json();
    assert_eq!(list, json!([]));
    assert_eq!(server.leftovers(), Vec::<String>::new());
    for (line, status) in [
        ("DELETE /api/vault/jobs/99", 404),
        ("DELETE /api/vault/jobs/x", 404),
        ("GET /api/vault/jobs/99", 404),
    ] {
        assert_eq!(server.send(&Request::new(line).auth(&token)).status, status, "{line}");
    }
    assert_eq!(server.send(&Request::new("DELETE /api/vault/jobs/1")).status, 401);
    assert_eq!(server.send(&Request::new("GET /api/vault/events")).status, 401);
}

#[test]
fn watchers_do_not_keep_the_server_from_stopping() {
    let mut server = Server::start_ours();
    let token = server.login();
    let mut events = Events::open(&server, &token, None);
    assert_eq!(server.stop(Duration::from_secs(5)), Some(true), "{}", server.log());
    assert!(events.next().is_none());
}
