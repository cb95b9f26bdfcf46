//! Downloads through a real server and a raw socket: what is on the wire counts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use actix_web::web;

use super::*;
use crate::http::wire::{self, ask};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A server with `/file` and `/ranges`, both over the content of `path`.
fn serve(path: &Path, size_bytes: u64) -> SocketAddr {
    let path = path.to_owned();
    let modified = DateTime::from_timestamp(784_111_777, 0).expect("a time");
    let object = move || Object {
        name: "a.zip".to_owned(),
        size_bytes,
        modified,
        content_type: "application/zip".to_owned(),
    };
    let (file, ranges) = (path.clone(), path);
    wire::serve(move |config| {
        let (file, ranges) = (file.clone(), ranges.clone());
        let file = web::to(move |request: HttpRequest| {
            let source = Source::File(File::open(&file).expect("open"));
            async move { respond(&request, &object(), source).await.expect("an answer") }
        });
        let ranges = web::to(move |request: HttpRequest| {
            let source = Source::Ranges(opener(ranges.clone()));
            async move { respond(&request, &object(), source).await.expect("an answer") }
        });
        config.route("/file", file).route("/ranges", ranges);
    })
}

/// Ranges in blocks of 50 bytes; of a file that is too short, what there is.
fn opener(path: PathBuf) -> Opener {
    Box::new(move |range| {
        let content = std::fs::read(&path).expect("read");
        let at = |offset: u64| usize::try_from(offset).expect("fits").min(content.len());
        let part = content[at(range.start)..at(range.end)].to_vec();
        let blocks: Vec<_> = part.chunks(50).map(|b| Ok(Bytes::copy_from_slice(b))).collect();
        future::ready(Ok(stream::iter(blocks).boxed())).boxed()
    })
}

const CACHED: &str = "cache-control: no-store\n";
const NAMED: &str = "content-disposition: attachment; filename=\"a.zip\"\n";
const ZIP: &str = "content-type: application/zip\n";
const TEXT: &str = "content-type: text/plain; charset=utf-8";
const DATED: &str = "last-modified: sun, 06 nov 1994 08:49:37 gmt";

#[test]
fn every_row_of_the_table_has_its_headers_and_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.zip");
    let content: Vec<u8> = (0..113).collect();
    std::fs::write(&path, &content).expect("written");
    let address = serve(&path, 113);
    let sent = |length: &str, range: &str| {
        let range =
            if range.is_empty() { String::new() } else { format!("content-range: {range}\n") };
        let length = format!("content-length: {length}\n");
        format!("accept-ranges: bytes\n{CACHED}{NAMED}{length}{range}{ZIP}{DATED}")
    };
    let unsatisfied = "content-range: bytes */113\n";
    let overlap = b"invalid range: failed to overlap\n".to_vec();
    let part = |from: usize, to: usize| content[from..=to].to_vec();
    let rows: Vec<(&str, &str, u16, String, Vec<u8>)> = vec![
        ("GET", "", 200, sent("113", ""), content.clone()),
        ("HEAD", "", 200, sent("113", ""), vec![]),
        ("GET", "Range: bytes=0-9", 206, sent("10", "bytes 0-9/113"), part(0, 9)),
        ("HEAD", "Range: bytes=0-9", 206, sent("10", "bytes 0-9/113"), vec![]),
        ("GET", "Range: bytes=60-", 206, sent("53", "bytes 60-112/113"), part(60, 112)),
        ("GET", "Range: bytes=-0", 206, sent("0", "bytes 113-112/113"), vec![]),
        (
            "GET",
            "Range: bytes=113-",
            416,
            format!("{NAMED}content-length: 33\n{unsatisfied}{TEXT}"),
            overlap,
        ),
        ("HEAD", "Range: bytes=113-", 416, format!("{NAMED}{unsatisfied}{TEXT}"), vec![]),
        (
            "GET",
            "Range: x",
            416,
            format!("{NAMED}content-length: 14\n{TEXT}"),
            b"invalid range\n".to_vec(),
        ),
        ("GET", "If-None-Match: *", 304, format!("{CACHED}{NAMED}{DATED}"), vec![]),
        (
            "GET",
            "If-Match: \"x\"",
            412,
            format!("{CACHED}{NAMED}content-length: 0\n{ZIP}{DATED}"),
            vec![],
        ),
        ("HEAD", "If-Match: \"x\"", 412, format!("{CACHED}{NAMED}{ZIP}{DATED}"), vec![]),
    ];
    for (method, header, status, headers, body) in rows {
        for path in ["/file", "/ranges"] {
            let header = if header.is_empty() { String::new() } else { format!("\n{header}") };
            let found = ask(address, &format!("{method} {path} HTTP/1.1{header}"));
            assert_eq!(found, (status, headers.clone(), body.clone()), "{method} {path}{header}");
        }
    }
    let equal = ask(address, &format!("GET /file HTTP/1.1\nIf-Modified-Since: {MODIFIED}"));
    assert_eq!(equal.0, 304);
}

#[test]
fn several_ranges_are_a_multipart_answer_of_known_length() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.zip");
    std::fs::write(&path, b"0123456789abcdefghij").expect("written");
    let address = serve(&path, 20);
    for (method, path) in [("GET", "/file"), ("GET", "/ranges"), ("HEAD", "/file")] {
        let request = format!("{method} {path} HTTP/1.1\nRange: bytes=0-2,10-11");
        let (status, headers, body) = ask(address, &request);
        let boundary = headers.split("boundary=").nth(1).and_then(|rest| rest.lines().next());
        let boundary = boundary.expect("a boundary");
        assert!(boundary.len() == 60 && boundary.bytes().all(|b| b.is_ascii_hexdigit()));
        let part = |range| {
            format!(
                "--{boundary}\r\nContent-Range: bytes {range}/20\r\n\
                     Content-Type: application/zip\r\n\r\n"
            )
        };
        let expected = format!("{}012\r\n{}ab\r\n--{boundary}--\r\n", part("0-2"), part("10-11"));
        assert_eq!(status, 206);
        assert!(headers.contains(&format!("content-length: {}", expected.len())), "{headers}");
        assert!(!headers.contains("content-range"));
        let body = String::from_utf8(body).expect("text");
        assert_eq!(body, if method == "HEAD" { String::new() } else { expected });
    }
}

#[test]
fn an_object_that_is_too_short_breaks_the_connection() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.zip");
    std::fs::write(&path, vec![7; 3 << 20]).expect("written");
    let address = serve(&path, 5 << 20);
    for path in ["/file", "/ranges"] {
        let (status, headers, body) = ask(address, &format!("GET {path} HTTP/1.1"));
        assert_eq!(status, 200);
        assert!(headers.contains(&format!("content-length: {}", 5 << 20)));
        assert!(body.len() <= 3 << 20, "{path}: {} bytes", body.len());
    }
}

#[actix_web::test]
async fn a_source_that_cannot_be_opened_is_an_error_before_anything_is_sent() {
    let request = actix_web::test::TestRequest::get().to_http_request();
    let object = Object {
        name: "a.zip".to_owned(),
        size_bytes: 1,
        modified: DateTime::UNIX_EPOCH,
        content_type: "application/zip".to_owned(),
    };
    let refuse: Opener =
        Box::new(|_| future::ready(Err(Error::internal("the storage is away"))).boxed());
    assert!(respond(&request, &object, Source::Ranges(refuse)).await.is_err());
}
