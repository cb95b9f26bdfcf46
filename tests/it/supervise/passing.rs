//! What is passed on, and how.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{before_the_stand_in, server, stand_in};
use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::{Request, connect, read_response};

#[test]
fn the_program_s_answers_come_back_as_they_are() {
    let (server, _) = server();
    let get = server.send(&Request::new("GET /head?a=%zz&b//c"));
    assert_eq!(get.status, 203);
    let cookies: Vec<_> = get.headers.iter().filter(|(name, _)| name == "Set-Cookie").collect();
    assert_eq!(cookies.len(), 2, "{:?}", get.headers);
    assert_eq!(get.header("X-Odd-Name"), Some("kept"));
    assert_eq!(get.header("Keep-Alive"), None, "it is about another connection");
    assert!(get.text().starts_with("GET /head?a=%zz&b//c HTTP/1.1\n"), "{}", get.text());

    let head = server.send(&Request::new("HEAD /head?a=%zz&b//c"));
    assert_eq!((head.status, head.body.len()), (203, 0));
    assert!(head.header("Content-Length").is_some(), "{:?}", head.headers);
    let none = server.send(&Request::new("GET /none"));
    assert_eq!((none.status, none.header("Content-Length")), (204, None));
    // Odd paths are the program's own affair, and so is who logs in.
    for line in ["GET //x/../y", "OPTIONS /api/settings", "DELETE /x"] {
        assert_eq!(server.send(&Request::new(line)).status, 418, "{line}");
    }
    let login = Request::new("POST /api/collections/_superusers/auth-with-password");
    let login = login.json(&json!({ "identity": EMAIL, "password": PASSWORD }));
    assert_eq!(server.send(&login).status, 418);
}

#[test]
fn backups_stay_ours_whatever_the_spelling() {
    let (server, token) = server();
    for (line, status) in [
        ("GET /api/backups", 200),
        ("PUT /api/backups", 404),
        ("GET /api/%62ackups", 200),
        ("POST /api/backups/none.zip/restore", 400),
        ("GET /api/vault/jobs", 200),
        ("GET /api/vault/none", 404),
    ] {
        assert_eq!(server.send(&Request::new(line).auth(&token)).status, status, "{line}");
        let anonymous = server.send(&Request::new(line)).status;
        assert!(matches!(anonymous, 401 | 404), "{line}: {anonymous}");
    }
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    assert!(server.send(&Request::new("GET /api/backups").auth(&token)).text().contains("a.zip"));
}

#[test]
fn the_program_learns_the_client_s_address_from_us_alone() {
    let (server, _) = server();
    let request = Request::new("GET /head")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Proto", "https")
        .header("X-Mine", "1")
        .header("Connection", "close, X-Mine")
        .header("Host", "app.example");
    let text = server.send(&request).text().to_ascii_lowercase();
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "host: app.example",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: app.example",
    ] {
        assert!(lines.contains(&expected), "{expected} in {text}");
    }
    assert!(!text.contains("6.6.6.6") && !text.contains("x-mine"), "{text}");
    let believed = lines.iter().find(|line| line.starts_with("x-pocketvault-client-"));
    let (name, address) = believed.and_then(|line| line.split_once(": ")).expect("a header");
    assert!(name.len() > 50 && address == "127.0.0.1", "{name}: {address}");
    let again = server.send(&request.header(name, "6.6.6.6")).text().to_ascii_lowercase();
    assert!(again.contains(name) && !again.contains("6.6.6.6"), "{again}");
}

/// The bytes behind such a head are the tunnel's: were they also a body, whoever sends them
/// could write the next request on the connection to the program.
#[test]
fn an_upgrade_that_announces_a_body_is_refused() {
    let (server, _) = server();
    let upgrade = |header: &str| {
        let mut stream = connect(server.address()).expect("a connection");
        let head = format!(
            "GET /head HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             {header}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        read_response(&mut stream, false).expect("an answer").status
    };
    for header in ["Content-Length: 40\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(upgrade(header), 400, "{header:?}");
    }
    for header in ["", "Content-Length: 0\r\n"] {
        assert_eq!(upgrade(header), 203, "{header:?}");
    }
}

#[test]
fn a_proxy_that_the_settings_trust_is_believed_and_its_word_passed_on() {
    let alone = Server::start_ours();
    let token = alone.login();
    let trust = json!({ "trustedProxy": { "headers": ["X-Real-IP"] } });
    let patched = alone.send(&Request::new("PATCH /api/settings").auth(&token).json(&trust));
    assert_eq!(patched.status, 200);
    let server = before_the_stand_in(alone, &[]);
    let request = Request::new("GET /head")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Proto", "https")
        .header("X-Real-IP", "10.1.2.3");
    let text = server.send(&request).text().to_ascii_lowercase();
    assert!(text.contains("x-forwarded-for: 10.1.2.3\n"), "{text}");
    assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
}

#[test]
fn bodies_go_both_ways_piece_by_piece() {
    let (server, _) = server();
    let mut stream = connect(server.address()).expect("a connection");
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut input = BufReader::new(stream.try_clone().expect("a handle"));
    let mut line = String::new();
    for round in 0..5 {
        let piece = format!("piece-{round}");
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).expect("sent");
        // It is back before the next one is sent.
        while line.trim_end() != piece {
            line.clear();
            assert!(input.read_line(&mut line).expect("an answer") > 0, "cut off");
        }
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    let mut rest = String::new();
    while rest.trim_end() != "0" {
        rest.clear();
        assert!(input.read_line(&mut rest).expect("an end") > 0, "cut off");
    }
}

#[test]
fn a_large_upload_comes_through_whole() {
    let (server, _) = server();
    let body: Vec<u8> = (0..48_u32 << 20).map(|at| (at % 251) as u8).collect();
    for chunked in [false, true] {
        let mut request = Request::new("POST /echo").body("application/octet-stream", &*body);
        request.chunked = chunked;
        let bytes = request.bytes(server.address());
        let mut stream = connect(server.address()).expect("a connection");
        let mut writer = stream.try_clone().expect("a handle");
        let sending = thread::spawn(move || writer.write_all(&bytes).expect("sent"));
        let back = read_response(&mut stream, false).expect("an answer");
        sending.join().expect("all was taken");
        assert!(back.body == body, "{} bytes of {}", back.body.len(), body.len());
    }
}

#[test]
fn events_come_as_they_happen_and_end_with_their_client() {
    let (server, _) = server();
    let mut stream = connect(server.address()).expect("a connection");
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let began = Instant::now();
    let mut lines = BufReader::new(stream).lines();
    for number in 0..10 {
        let event = format!("data: {number}");
        assert!(lines.any(|line| line.expect("a line") == event), "{event}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(lines);
    let gone = server.data_dir().join(stand_in::GONE);
    while !gone.exists() {
        assert!(began.elapsed() < Duration::from_secs(15), "the program was not told");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_nobody_waits_for_is_taken_back() {
    let (server, _) = server();
    let mut stream = connect(server.address()).expect("a connection");
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    drop(stream);
    let gone = server.data_dir().join(stand_in::GONE);
    let end = Instant::now() + Duration::from_secs(25);
    while !gone.exists() {
        assert!(Instant::now() < end, "the program was not told");
        thread::sleep(Duration::from_millis(20));
    }
    let left = std::fs::read_to_string(gone).expect("written");
    assert_eq!(left, "true", "the connection behind us was left");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let (server, _) = server();
    let mut stream = connect(server.address()).expect("a connection");
    let head =
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut interim = Vec::new();
    while !interim.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
        interim.push(byte[0]);
    }
    assert!(interim.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&interim));
    stream.write_all(b"body").expect("sent");
    assert_eq!(read_response(&mut stream, false).expect("an answer").text(), "body");
}

#[test]
fn a_tunnel_is_a_tunnel() {
    let (server, _) = server();
    let mut stream = connect(server.address()).expect("a connection");
    let head =
        "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut input = BufReader::new(stream.try_clone().expect("a handle"));
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        assert!(input.read_line(&mut answer).expect("a head") > 0, "{answer}");
    }
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("upgrade: websocket") && lower.contains("x-tunnel: yes"), "{answer}");
    for words in ["one", "two words", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        stream.write_all(words.as_bytes()).expect("sent");
        let mut back = vec![0; words.len()];
        input.read_exact(&mut back).expect("an echo");
        assert_eq!(String::from_utf8_lossy(&back), words.to_ascii_uppercase());
    }
    let raced = b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let plain = crate::raw::exchange(server.address(), raced, false).expect("an answer");
    assert_eq!(plain.status, 400, "only WebSockets are passed on");
    stream.shutdown(std::net::Shutdown::Write).expect("ended");
    assert_eq!(input.read_to_end(&mut Vec::new()).expect("the end"), 0);
}
