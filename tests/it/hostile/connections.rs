//! The HTTP layer: request lines, headers and framings that are not what they should be, and
//! clients that leave in the middle.

use std::io::Write;

use super::{Attempt, UNKNOWN, Want, run};
use crate::harness::Server;
use crate::raw::{Request, connect};

const BAD: Want = Want::Refused(&[400]);

/// Requests that are none, up to their end.
const MALFORMED: &[(&str, &str)] = &[
    ("garbage", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n"),
    ("one word", "GET\r\n\r\n"),
    ("two words", "GET /api/health\r\n\r\n"),
    ("four words", "GET /api/health x HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a blank in the path", "GET /api/ health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a version of letters", "GET /api/health HTTP/x.y\r\nHost: x\r\n\r\n"),
    ("another protocol", "GET /api/health FTP/1.1\r\nHost: x\r\n\r\n"),
    ("a bad method", "G@T /api/health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("no path", "GET  HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a bad escape", "GET /api/%zz HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("half an escape", "GET /api/%2 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("no host", "GET /api/health HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET /api/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("a header without a colon", "GET /api/health HTTP/1.1\r\nHost: x\r\noops\r\n\r\n"),
    ("a blank before the colon", "GET /api/health HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
    ("an empty header name", "GET /api/health HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    ("a zero in a header", "GET /api/health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"),
    ("a length of letters", "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"),
    ("a negative length", "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    ("a signed length", "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx"),
    (
        "a length beyond 64 bits",
        "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ),
    (
        "two lengths",
        "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
];

/// Framings that cannot be followed, sent with a superuser's token; nothing may be made.
const FRAMINGS: &[(&str, &str)] = &[
    ("a chunk size of letters", "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"),
    ("an endless chunk size", "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab"),
    ("a negative chunk size", "Transfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n"),
    ("a chunk without its end", "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
    ("no last chunk", "Transfer-Encoding: chunked\r\n\r\na\r\n{\"name\":\"\r\n"),
    ("a length longer than the body", "Content-Length: 100\r\n\r\n{\"name\":\"a"),
];

/// What a client sends before it leaves.
const LEFT: &[(&str, &str)] = &[
    ("nothing", ""),
    ("one byte", "G"),
    ("half a request line", "GET /api/heal"),
    ("half a head", "GET /api/health HTTP/1.1\r\nHost: x\r\nAuthor"),
    ("a head without a body", "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"),
    (
        "half an upload",
        "POST /api/backups/upload HTTP/1.1\r\nHost: x\r\nAuthorization: TOKEN\r\n\
         Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: 100000\r\n\r\n\
         --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"half.zip\"\r\n\r\n\
         PK\x03\x04",
    ),
    (
        "half an upload in chunks",
        "POST /api/backups/upload HTTP/1.1\r\nHost: x\r\nAuthorization: TOKEN\r\n\
         Content-Type: multipart/form-data; boundary=XX\r\nTransfer-Encoding: chunked\r\n\r\n\
         50\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"h.zip\"\r\n\r\n\
         PK\x03\x04",
    ),
];

/// How many clients hold a connection open without ever finishing their request.
const IDLE_CLIENTS: usize = 300;

/// Methods that no route of ours has.
const METHODS: &[&str] = &["PUT", "TRACE", "PROPFIND", "get", "BREW", "SEARCH", "M-SEARCH"];

/// Routes, each under every one of those methods.
const ROUTES: &[&str] = &["/api/health", "/api/backups", "/api/backups/a.zip", "/api/settings"];

pub(super) const COUNT: usize =
    MALFORMED.len() + FRAMINGS.len() + 3 * LEFT.len() + METHODS.len() * ROUTES.len() + 5;

#[test]
fn malformed_requests_are_refused() {
    let server = Server::start();
    let mut attempts: Vec<Attempt> =
        MALFORMED.iter().map(|(name, bytes)| Attempt::raw(*name, bytes.as_bytes(), BAD)).collect();
    for (name, request, want) in [
        ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", Want::Refused(&[505])),
        // PocketBase's router calls it bad.
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Want::Refused(&[400, 505])),
        (
            "an unknown coding",
            "POST /api/backups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            Want::Refused(&[501]),
        ),
        (
            "an unknown expectation",
            "POST /api/backups HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n",
            Want::Refused(&[417]),
        ),
        (
            "chunked and a length",
            "POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
            // No second request may be read out of the first one's body.
            Want::Refused(&[400, 401]),
        ),
    ] {
        attempts.push(Attempt::raw(name, request, want));
    }
    run(&server, &attempts);
}

#[test]
fn framings_that_cannot_be_followed_make_nothing() {
    let server = Server::start();
    let token = server.login();
    let attempts: Vec<Attempt> = FRAMINGS
        .iter()
        .map(|(name, rest)| {
            let bytes = format!(
                "POST /api/backups HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\
                 Content-Type: application/json\r\n{rest}"
            );
            Attempt::raw(*name, bytes, BAD)
        })
        .collect();
    run(&server, &attempts);
    assert_eq!(super::keys_listed(&server, &token), Vec::<String>::new());
}

#[test]
fn clients_that_leave_are_forgotten() {
    let server = Server::start();
    let token = server.login();
    let mut attempts = Vec::new();
    for _ in 0..3 {
        for (name, bytes) in LEFT {
            attempts.push(Attempt::raw(*name, bytes.replace("TOKEN", &token), Want::Left));
        }
    }
    run(&server, &attempts);
    assert_eq!(super::keys_listed(&server, &token), Vec::<String>::new());
}

#[test]
fn clients_that_never_finish_keep_nobody_out() {
    let server = Server::start();
    let mut held = Vec::new();
    for n in 0..IDLE_CLIENTS {
        let mut stream = connect(server.address()).expect("a connection");
        let (_, bytes) = LEFT[n % LEFT.len()];
        stream.write_all(bytes.as_bytes()).expect("sent");
        held.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(server.send(&Request::new("GET /api/health")).status, 200);
    }
    drop(held);
    run(&server, &[]);
}

#[test]
fn a_method_that_a_route_has_not_finds_nothing() {
    let server = Server::start();
    let token = server.login();
    let mut attempts = Vec::new();
    for method in METHODS {
        for route in ROUTES {
            let request = Request::new(&format!("{method} {route}"))
                .auth(&token)
                .header("X-HTTP-Method-Override", "DELETE");
            attempts.push(Attempt::new(format!("{method} {route}"), &server, &request, UNKNOWN));
        }
    }
    run(&server, &attempts);
}
