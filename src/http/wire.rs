//! For tests: a real server on a free port and raw requests to it, and what only shows on the
//! wire: lengths, chunks, and answers that end with their connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpServer};

use super::{cleanup, json};

/// Starts a server for the rest of the test run.
pub(super) fn serve(configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let server = HttpServer::new(move || App::new().configure(configure.clone()));
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("bound");
        send.send(server.addrs()[0]).expect("sent");
        actix_web::rt::System::new().block_on(server.run()).expect("ran");
    });
    receive.recv().expect("an address")
}

/// Status, headers in lower case and sorted without the date, and the body.
pub(super) fn ask(address: SocketAddr, request: &str) -> (u16, String, Vec<u8>) {
    let mut socket = TcpStream::connect(address).expect("connected");
    let request = request.replace('\n', "\r\n");
    let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // A broken connection may show as a reset: what came before it still counts.
    let _ = socket.read_to_end(&mut answer);
    let _ = socket.shutdown(Shutdown::Both);
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
    let head = String::from_utf8(answer[..at].to_vec()).expect("text").to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let ignored = ["date:", "connection:", "content-security-policy:"];
    let mut headers: Vec<&str> =
        lines.filter(|line| !ignored.iter().any(|name| line.starts_with(name))).collect();
    headers.sort_unstable();
    (status.parse().expect("a number"), headers.join("\n"), answer[at + 4..].to_vec())
}

#[test]
fn json_answers_are_framed_by_size_method_and_outcome() {
    let address = serve(|config| {
        let handler = |request: HttpRequest, path: web::Path<(u16, usize)>| async move {
            let (status, len) = path.into_inner();
            let status = StatusCode::from_u16(status).expect("a status");
            json::respond(&request, status, &"x".repeat(len - 2)).expect("an answer")
        };
        config.route("/{status}/{len}", web::to(handler));
    });
    let kind = "content-type: application/json";
    let length = |len: usize| format!("content-length: {len}\n{kind}");
    let chunked = format!("{kind}\ntransfer-encoding: chunked");
    for (request, expected) in [
        ("GET /200/2048 HTTP/1.1", length(2048)),
        ("GET /200/2049 HTTP/1.1", chunked),
        ("GET /200/2049 HTTP/1.0", length(2049)),
        ("HEAD /200/10 HTTP/1.1", length(10)),
        ("HEAD /200/2049 HTTP/1.1", kind.to_owned()),
        ("HEAD /404/10 HTTP/1.1", kind.to_owned()),
        ("GET /404/10 HTTP/1.1", length(10)),
    ] {
        let (_, headers, body) = ask(address, request);
        assert_eq!(headers, expected, "{request}");
        assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{request}");
    }
    let (_, _, body) = ask(address, "GET /200/2049 HTTP/1.1");
    assert!(body.starts_with(b"801\r\n\"x") && body.ends_with(b"x\"\r\n0\r\n\r\n"));
}

#[test]
fn refusals_and_redirects_look_as_recorded() {
    let address = serve(|config| {
        let handler = |request: HttpRequest| async move {
            let (method, headers) = (request.method(), request.headers());
            let verdict = cleanup::judge(method, request.uri(), headers, "127.0.0.1");
            cleanup::answer(&verdict, method).expect("an answer")
        };
        config.default_service(web::to(handler));
    });
    let (text, html) =
        ("content-type: text/plain; charset=utf-8", "content-type: text/html; charset=utf-8");
    let moved = "<a href=\"/api/backups\">Temporary Redirect</a>.\n\n";
    for (request, status, headers, body) in [
        ("GET /%zz HTTP/1.1", 400, text.to_owned(), "400 Bad Request"),
        ("PUT /x HTTP/1.1\nExpect: x", 417, "content-length: 0".to_owned(), ""),
        (
            "GET //api/backups HTTP/1.1",
            307,
            format!("content-length: 48\n{html}\nlocation: /api/backups"),
            moved,
        ),
        ("HEAD //api/backups HTTP/1.1", 307, format!("{html}\nlocation: /api/backups"), ""),
        (
            "PUT //api/backups HTTP/1.1",
            307,
            "content-length: 0\nlocation: /api/backups".to_owned(),
            "",
        ),
    ] {
        let found = ask(address, request);
        assert_eq!(found, (status, headers, body.as_bytes().to_vec()), "{request}");
    }
}
