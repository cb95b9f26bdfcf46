//! Who is told of what, by the whole program: real receivers of webhooks, pings and mails.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::raw::Request;

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every request with 200; gives back the path and the body of each.
fn web() -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, seen) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().expect("a length");
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = reader.get_mut().write_all(answer);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let body = String::from_utf8(body).expect("text");
            if sender.send((path, body)).is_err() {
                return;
            }
        }
    });
    (url, seen)
}

/// Takes every mail; gives back its text.
fn mail() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (sender, seen) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut text, mut in_mail) = (String::new(), false);
            let _ = reader.get_mut().write_all(b"220 test ESMTP\r\n");
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 0 {
                let answer = match (in_mail, line.trim_end()) {
                    (true, ".") => {
                        in_mail = false;
                        let _ = sender.send(std::mem::take(&mut text));
                        "250 taken"
                    }
                    (true, _) => {
                        text.push_str(&line);
                        ""
                    }
                    (false, "DATA") => {
                        in_mail = true;
                        "354 go on"
                    }
                    (false, "QUIT") => "221 bye",
                    _ => "250 fine",
                };
                if !answer.is_empty() {
                    let _ = reader.get_mut().write_all(format!("{answer}\r\n").as_bytes());
                }
                line.clear();
            }
        }
    });
    (port, seen)
}

/// The next request to this path.
fn next(seen: &Receiver<(String, String)>, path: &str) -> String {
    let end = Instant::now() + PATIENCE;
    while let Ok((came, body)) = seen.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if came == path {
            return body;
        }
    }
    panic!("nothing came to {path}");
}

fn event(body: &str) -> Value {
    serde_json::from_str::<Value>(body).expect("JSON")["event"].clone()
}

fn create(server: &Server, name: &str) -> u16 {
    let token = server.login();
    let request = Request::new("POST /api/backups").auth(&token).json(&json!({"name": name}));
    server.send(&request).status
}

#[test]
fn a_failure_is_told_by_every_way_once_and_so_is_the_recovery_after_a_restart() {
    let (url, hooks) = web();
    let (beat_url, beats) = web();
    let (port, mails) = mail();
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("pocketvault.toml");
    let file = format!(
        "[alarms]\nname = 'test'\n\
         [[notify]]\ntype = 'webhook'\nname = 'ops'\nurl = '{url}/hook-s3cret'\nsecret = 'k3y'\n\
         [[notify]]\ntype = 'heartbeat'\nurl = '{beat_url}/uuid'\n\
         [[notify]]\ntype = 'mail'\nto = ['ops@example.com']\n\
         smtp = {{ host = '127.0.0.1', port = {port}, from = 'vault@example.com' }}\n"
    );
    fs::write(&config, file).expect("written");
    let config = config.to_str().expect("a path").to_owned();
    let server = Server::start_ours().again_with(&["--config", &config]);
    assert_eq!(create(&server, "good.zip"), 204);
    assert!(next(&beats, "/uuid").contains("good.zip"));

    // The local storage cannot be written to.
    let folder = server.data_dir().join("backups");
    let aside = server.data_dir().join("backups-aside");
    fs::rename(&folder, &aside).expect("moved");
    fs::write(&folder, "no folder").expect("written");
    assert_eq!(create(&server, "bad.zip"), 400);
    let body = next(&hooks, "/hook-s3cret");
    assert_eq!((event(&body), body.contains("\"test: ")), (json!("failure"), true), "{body}");
    assert!(next(&beats, "/uuid/fail").contains("bad.zip"));
    let text = mails.recv_timeout(PATIENCE).expect("a mail");
    assert!(text.contains("Subject: test: A backup failed"), "{text}");
    assert_eq!(create(&server, "worse.zip"), 400);
    next(&beats, "/uuid/fail");

    fs::remove_file(&folder).expect("removed");
    fs::rename(&aside, &folder).expect("moved back");
    let server = server.again_with(&["--config", &config]);
    assert_eq!(create(&server, "better.zip"), 204);
    let body = next(&hooks, "/hook-s3cret");
    assert_eq!(event(&body), "recovery", "the second failure was no news: {body}");
    let log = server.log();
    assert!(!log.contains("s3cret") && !log.contains("k3y"), "{log}");
}

#[test]
fn receivers_are_tried_out_and_those_of_the_api_lie_outside() {
    let (url, hooks) = web();
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("pocketvault.toml");
    let file = format!("[[notify]]\ntype = 'webhook'\nname = 'ops'\nurl = '{url}/hook'\n");
    fs::write(&config, file).expect("written");
    let server = Server::start_ours_with(&["--config", config.to_str().expect("a path")]);
    let token = server.login();
    let test = |body: Value| {
        let request = Request::new("POST /api/vault/notify/test").auth(&token).json(&body);
        server.send(&request)
    };
    assert_eq!(test(json!({"name": "ops"})).status, 204);
    assert_eq!(event(&next(&hooks, "/hook")), "test");
    assert_eq!(test(json!({"name": "none"})).status, 404);
    for (body, status) in [
        (json!({"type": "webhook", "url": url}), 403),
        (json!({"type": "webhook", "url": "http://[::ffff:127.0.0.1]/"}), 403),
        (json!({"type": "heartbeat", "url": "http://169.254.169.254/latest"}), 403),
        (json!({"type": "webhook", "url": "http://localhost:1/"}), 502),
        (json!({"type": "webhook", "url": "file:///etc/passwd"}), 400),
        (json!({"type": "pigeon"}), 400),
        (json!({"type": "mail", "smtp": {"host": "127.0.0.1", "from": "a@b.c"}}), 403),
        (json!({"name": 7}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(test(body.clone()).status, status, "{body}");
    }
    let list = server.send(&Request::new("GET /api/vault/notify").auth(&token));
    assert!(!list.text().contains("/hook"), "{}", list.text());
    assert_eq!(list.json()["channels"][0]["name"], "ops");
    assert_eq!(server.send(&Request::new("POST /api/vault/notify/test")).status, 401);
}
