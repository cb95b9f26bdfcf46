//! What a server that serves people owes them: it slows guessing down, and it stops when told.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::{Request, connect};

/// Wrong passwords that cost nothing.
const FREE: u32 = 10;
/// How long a stop may take, whatever clients hold open.
const STOP_MAX: Duration = Duration::from_secs(20);

/// The status of a login.
fn login(server: &Server, password: &str) -> u16 {
    let path = "POST /api/collections/_superusers/auth-with-password";
    let body = json!({"identity": EMAIL, "password": password});
    let answer = server.send(&Request::new(path).json(&body));
    let wait = answer.header("Retry-After").map(|seconds| seconds.parse::<u64>());
    assert_eq!(answer.status == 429, matches!(wait, Some(Ok(1..=900))), "{wait:?}");
    answer.status
}

#[test]
fn guessing_passwords_is_slowed_down() {
    let server = Server::start_ours();
    let mut wrong = 0;
    loop {
        let began = Instant::now();
        match login(&server, "wrong") {
            400 => wrong += 1,
            429 if wrong >= FREE => {
                thread::sleep(Duration::from_millis(200));
                continue;
            }
            status => panic!("{status} after {wrong} wrong ones"),
        }
        if wrong < FREE {
            continue;
        }
        // A second after the tenth, twice as long after each further one. On a busy machine
        // the wait may be over before it is seen.
        let wait = Duration::from_secs(1 << (wrong - FREE));
        let (again, right) = (login(&server, "wrong"), login(&server, PASSWORD));
        if began.elapsed() < wait {
            assert_eq!((again, right), (429, 429), "after {wrong} wrong ones");
            thread::sleep(wait);
            assert_eq!(login(&server, PASSWORD), 200, "the wait is over");
            assert_eq!(login(&server, "wrong"), 400, "the count is gone");
            return;
        }
        assert!(wrong < FREE + 5, "no wait was seen");
        wrong += u32::from(again == 400);
        if right == 200 {
            wrong = 0;
        }
    }
}

#[test]
fn the_throttle_can_be_switched_off() {
    let server = Server::start_ours_with(&["--no-login-throttle"]);
    for _ in 0..FREE + 2 {
        assert_eq!(login(&server, "wrong"), 400);
    }
    assert_eq!(login(&server, PASSWORD), 200);
}

#[test]
fn half_finished_requests_do_not_keep_it_from_stopping() {
    let mut server = Server::start_ours();
    let token = server.login();
    let auth = format!("HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n");
    let upload = "Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 100000\r\n\r\n\
        --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"half.zip\"\r\n\r\n\
        PK\x03\x04";
    let held: Vec<_> = [
        String::new(),
        "GET /api/health HTTP/1.1\r\nHost: x\r\nAuthor".to_owned(),
        format!("POST /api/backups {auth}Content-Length: 9\r\n\r\n{{"),
        format!("POST /api/backups/upload {auth}{upload}"),
    ]
    .iter()
    .map(|bytes| {
        let mut stream = connect(server.address()).expect("a connection");
        stream.write_all(bytes.as_bytes()).expect("sent");
        stream
    })
    .collect();
    // They have arrived when a later one was answered.
    assert_eq!(server.send(&Request::new("GET /api/health")).status, 200);
    assert_eq!(server.stop(STOP_MAX), Some(true), "{}", server.log());
    drop(held);
}
