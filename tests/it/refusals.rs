//! What is refused before any handler sees it, down to the last byte. Recorded from PocketBase
//! v0.39.11 and v0.40.4, and passes against them (`POCKETVAULT_WIRE_BIN`, see `wire`).

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::harness::Server;
use crate::raw::{Request, connect, read_response};

const BAD: &str = "400 Bad Request";
const NO_HOST: &str = "400 Bad Request: missing required Host header";
const BAD_HOST: &str = "400 Bad Request: malformed Host header";
const BAD_NAME: &str = "400 Bad Request: invalid header name";
const VERSION: &str = "505 HTTP Version Not Supported: unsupported protocol version";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
const CODING: &str = "501 Not Implemented";

/// Requests that end with an empty line of their own, and the status line of the answer.
const REFUSED: &[(&str, &str)] = &[
    ("GET /api/health HTTP/1.1\r\n", NO_HOST),
    ("GET http://x/api/health HTTP/1.1\r\n", NO_HOST),
    ("POST /api/backups HTTP/1.1\r\nExpect: tea\r\nContent-Length: 0\r\n", NO_HOST),
    ("GET /api/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: a b\r\n", BAD_HOST),
    ("GET /api/health HTTP/1.1\r\nHost: a/b\r\n", BAD_HOST),
    ("GET /api/%zz HTTP/1.1\r\nHost: x\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n", CODING),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n", CODING),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", CODING),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n", CODING),
    (
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
         Transfer-Encoding: chunked\r\n",
        CODING,
    ),
    ("POST /api/backups HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", CODING),
    ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\nContent-Length: x\r\n", CODING),
    ("GET / HTTP/2.0\r\nHost: x\r\nTransfer-Encoding: gzip\r\n", CODING),
    ("GET / HTTP/2.0\r\nHost: x\r\n", VERSION),
    ("GET / HTTP/2.0\r\n", VERSION),
    ("GET / HTTP/3.1\r\nHost: x\r\n", VERSION),
    ("GET / HTTP/0.9\r\nHost: x\r\n", VERSION),
    ("GET / HTTP/2\r\nHost: x\r\n", BAD),
    ("GET / HTTP/x.y\r\nHost: x\r\n", BAD),
    ("GET / HTTP/1.10\r\nHost: x\r\n", BAD),
    ("GET / http/1.1\r\nHost: x\r\n", BAD),
    ("GET /api/health\r\n", BAD),
    ("GET /api/health x HTTP/1.1\r\nHost: x\r\n", BAD),
    ("G@T /api/health HTTP/1.1\r\nHost: x\r\n", BAD),
    ("GET  HTTP/1.1\r\nHost: x\r\n", BAD),
    ("GET api/health HTTP/1.1\r\nHost: x\r\n", BAD),
    ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n", BAD),
    ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n", BAD),
    ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n", BAD),
    ("POST /api/backups HTTP/1.1\r\nContent-Length: x\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\noops\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\n: b\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\n A: b\r\nHost: x\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\nA(B: b\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nA\u{e9}: b\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n", BAD),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\nA : b\r\n", BAD_NAME),
    ("GET /api/health HTTP/1.1\r\nHost: x\r\nA B: b\r\n", BAD_NAME),
    ("GET /api/health HTTP/1.1\r\nA : b\r\n", NO_HOST),
];

/// The answer with that status line. Some of ours have a `Date`, and headers have no order.
fn expected(status: &str) -> String {
    let body = if status == CODING { "Unsupported transfer encoding" } else { status };
    let head = "Connection: close\r\nContent-Type: text/plain; charset=utf-8";
    format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}")
}

fn sorted(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, "<no head>"));
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut headers: Vec<&str> =
        headers.split("\r\n").filter(|line| !line.starts_with("Date: ")).collect();
    headers.sort_unstable();
    format!("{status}\r\n{}\r\n\r\n{body}", headers.join("\r\n"))
}

/// All that comes back until the server closes.
fn answer(server: &Server, request: &str) -> String {
    let mut stream = connect(server.address()).expect("a connection");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut came = Vec::new();
    stream.read_to_end(&mut came).expect("an answer, then the end");
    String::from_utf8(came).expect("text")
}

#[test]
fn refusals_have_gos_words() {
    let server = Server::start();
    let large = format!("GET /api/health HTTP/1.1\r\nHost: x\r\nX: {}\r\n", "y".repeat(1_100_000));
    let cases = REFUSED.iter().copied().chain([(large.as_str(), TOO_LARGE)]);
    let mut faults = Vec::new();
    for (request, status) in cases {
        let came = sorted(&answer(&server, &format!("{request}\r\n")));
        if came != expected(status) {
            faults.push(format!("{request:.100?}\n  {came:?}"));
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(server.send(&Request::new("GET /api/health")).status, 200);
}

#[test]
fn a_connection_is_refused_after_good_requests_on_it() {
    let server = Server::start();
    let good = [
        "GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n",
        // A route that reads its body; where none does, the connection may be closed.
        "POST /api/collections/_superusers/auth-with-password HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    ];
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n", NO_HOST),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", CODING),
    ] {
        for good in good {
            // In one go, and one after the other.
            let came = answer(&server, &format!("{good}{bad}"));
            let at = came.rfind("HTTP/1.1 ").expect("two answers");
            assert!(at > 0 && sorted(&came[at..]) == expected(status), "{good}{bad}: {came}");
            let mut stream = connect(server.address()).expect("a connection");
            stream.write_all(good.as_bytes()).expect("sent");
            let first = read_response(&mut stream, false).expect("an answer");
            assert!(first.status < 500 && first.header("Connection").is_none(), "{first:?}");
            stream.write_all(bad.as_bytes()).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half closed");
            let mut came = String::new();
            stream.read_to_string(&mut came).expect("an answer, then the end");
            assert_eq!(sorted(&came), expected(status));
        }
    }
}

#[test]
fn an_unknown_expectation_fails() {
    let server = Server::start();
    let head = "POST /api/backups HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n";
    let expected =
        "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(sorted(&answer(&server, head)), expected);
}
