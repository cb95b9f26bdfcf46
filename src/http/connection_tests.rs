//! Whole connections, through the HTTP library itself.

use std::convert::Infallible;

use actix_http::{HttpService, Request, Response};
use tokio::net::TcpListener;

use super::*;

const LOOKALIKE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

/// Everything that comes back for `requests`, sent in one go.
async fn ask(requests: &str, until: &str) -> String {
    let http = HttpService::build().h1(|request: Request| async move {
        let body = match request.path() {
            "/lookalike" => format!("{LOOKALIKE}{LOOKALIKE}"),
            path => path.to_owned(),
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, Infallible>(Response::ok().set_body(body))
    });
    let service = worded(http).new_service(()).await.expect("a service");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut client = TcpStream::connect(address).await.expect("connected");
    let (socket, _) = listener.accept().await.expect("accepted");
    let served = actix_web::rt::spawn(service.call(socket));
    client.write_all(requests.as_bytes()).await.expect("sent");
    let (mut came, mut buffer) = (Vec::new(), [0; 4096]);
    while until.is_empty() || !came.ends_with(until.as_bytes()) {
        let read = client.read(&mut buffer);
        match timeout(Duration::from_secs(10), read).await.expect("in time").expect("read") {
            0 => break,
            n => came.extend_from_slice(&buffer[..n]),
        }
    }
    drop(client);
    let _ = served.await;
    String::from_utf8(came).expect("text")
}

#[actix_web::test]
async fn a_refusal_is_worded_once_and_after_the_answers_before_it() {
    let came = ask("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n", "").await;
    let (answer, refusal) = came.split_once("/a").expect("the answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{came}");
    let text = "400 Bad Request: missing required Host header";
    let expected = format!(
        "HTTP/1.1 {text}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Connection: close\r\n\r\n{text}"
    );
    assert_eq!(refusal, expected);
}

#[actix_web::test]
async fn an_answer_that_looks_like_a_refusal_comes_whole() {
    let get = "GET /lookalike HTTP/1.1\r\nHost: x\r\n\r\n";
    let double = format!("{LOOKALIKE}{LOOKALIKE}");
    // The connection stays open: nothing but the next turn lets it go.
    let came = ask(get, &double).await;
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n") && came.ends_with(&double), "{came}");
    let close = get.replace("Host", "Connection: close\r\nHost");
    let came = ask(&close, "").await;
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n") && came.ends_with(&double), "{came}");
    // And again with another request behind it, and with a real refusal.
    let came = ask(&format!("{get}GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\n/").await;
    assert!(came.contains(&format!("{double}HTTP/1.1 200 OK\r\n")), "{came}");
    let came = ask(&format!("{get}x\r\n\r\n"), "").await;
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n"), "{came}");
    assert!(came.ends_with("\r\n\r\n400 Bad Request"), "{came}");
}

#[actix_web::test]
async fn what_was_held_goes_out_before_anything_else() {
    let (socket, mut client) = tokio::io::duplex(64);
    let mut line = Line::new(socket);
    let write = async {
        for text in [LOOKALIKE, "after"] {
            let mut sent = 0;
            while sent < text.len() {
                let rest = &text.as_bytes()[sent..];
                sent += std::future::poll_fn(|cx| line.poll_write(cx, rest)).await?;
            }
        }
        std::future::poll_fn(|cx| line.poll_shutdown(cx)).await
    };
    let mut came = String::new();
    let (written, read) = tokio::join!(write, client.read_to_string(&mut came));
    written.and(read.map(drop)).expect("both");
    assert_eq!(came, format!("{LOOKALIKE}after"));
}
