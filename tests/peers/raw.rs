//! What the SDKs send that cannot be run here, byte for byte as they send it.
//!
//! The rows run in order against one server; each says which client it speaks for, what must be
//! answered, and which backup must be there (or gone) afterwards.

use serde::Deserialize;

use crate::http::{
    BOUNDARY, Client, Reply, end_of_parts, exchange, exchange_after_100, host, part,
};
use crate::server::{PASSWORD, Program, scratch};

/// The table; one row per line, in the order in which they run.
const ROWS: &str = include_str!("raw.json");

/// One request, and what must be answered.
///
/// The body is `text` as it is, or `chunked`, or made of `parts`; without any of them the request
/// has not even a length.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    client: String,
    line: String,
    r#type: Option<String>,
    text: Option<String>,
    chunked: Option<String>,
    #[serde(default)]
    parts: Vec<Part>,
    status: u16,
    then: Then,
}

/// One part of a multipart body; without a text it holds a small zip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    disposition: String,
    r#type: Option<String>,
    text: Option<String>,
}

/// What must be true of the list of backups after a row.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Then {
    Same,
    Has(String),
    Gone(String),
    #[serde(rename = "one more")]
    OneMore,
}

#[test]
fn requests_of_clients_that_cannot_run_here_are_understood() {
    let program = Program::under_test();
    let scratch = scratch();
    let dir = scratch.path().join("raw").join("pb_data");
    program.upsert(&dir, PASSWORD);
    let server = program.serve(&dir);
    let client = server.login(PASSWORD);
    client.upload("source.zip", &small_zip());
    let rows: Vec<Row> = serde_json::from_str(ROWS).expect("the table is read");
    for row in rows {
        run(&client, &row);
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let program = Program::under_test();
    let scratch = scratch();
    let dir = scratch.path().join("ask").join("pb_data");
    program.upsert(&dir, PASSWORD);
    let server = program.serve(&dir);
    let client = server.login(PASSWORD);
    let mut body = part("form-data; name=\"@jsonPayload\"", None, b"[]");
    let file = "form-data; name=\"file\"; filename=\"asked.zip\"";
    body.extend(part(file, Some("application/zip"), &small_zip()));
    body.extend(end_of_parts());
    let head = format!(
        "POST /api/backups/upload HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\
         Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        host(&client.base),
        client.token,
        body.len(),
    );
    let reply = exchange_after_100(&client.base, head.as_bytes(), &body);
    reply.expect("an answer").expect(204);
    assert_eq!(client.keys(), ["asked.zip"]);
}

#[test]
fn tokens_and_versions_come_in_every_spelling() {
    let program = Program::under_test();
    let scratch = scratch();
    let dir = scratch.path().join("spelling").join("pb_data");
    program.upsert(&dir, PASSWORD);
    let server = program.serve(&dir);
    let Client { base, token } = server.login(PASSWORD);
    let ask = |line: &str, headers: &str| {
        let request = format!("{line}\r\nHost: {}\r\n{headers}\r\n", host(&base));
        exchange(&base, request.as_bytes()).expect("an answer")
    };
    let list = |authorization: &str| {
        let headers = format!("Authorization: {authorization}\r\nConnection: close\r\n");
        ask("GET /api/backups HTTP/1.1", &headers).status
    };
    for good in [token.clone(), format!("Bearer {token}"), format!("bEaReR {token}")] {
        assert_eq!(list(&good), 200);
    }
    for bad in [String::new(), format!("Bearer  {token}"), format!("Token {token}")] {
        assert_eq!(list(&bad), 401, "{bad:?}");
    }
    let old = ask("GET /api/backups HTTP/1.0", &format!("Authorization: {token}\r\n"));
    assert_eq!(old.expect(200).text().trim(), "[]");
    let query = ask(&format!("GET /api/backups?token={token} HTTP/1.1"), "Connection: close\r\n");
    query.expect(401);
    // The Python SDK logs in with an empty token.
    let login = format!(r#"{{"identity":"{}","password":"{PASSWORD}"}}"#, crate::server::EMAIL);
    let request = format!(
        "POST /api/collections/_superusers/auth-with-password HTTP/1.1\r\nHost: {}\r\n\
         Authorization: \r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{login}",
        host(&base),
        login.len(),
    );
    exchange(&base, request.as_bytes()).expect("an answer").expect(200);
}

fn run(client: &Client, row: &Row) {
    let before = client.keys();
    let reply = send(client, row);
    let named = format!("{}: {}", row.client, row.line);
    assert_eq!(reply.status, row.status, "{named}: {}", reply.text());
    if reply.status >= 400 {
        assert_eq!(reply.json()["status"], row.status, "{named}: {}", reply.text());
    }
    let after = client.keys();
    let has = |key: &str| after.iter().any(|found| found == key);
    match &row.then {
        Then::Same => assert_eq!(after, before, "{named}"),
        Then::Has(key) => {
            assert!(has(key) && after.len() == before.len() + 1, "{named}: {after:?}")
        }
        Then::Gone(key) => assert!(!has(key) && after.len() + 1 == before.len(), "{named}"),
        Then::OneMore => {
            assert_eq!(after.len(), before.len() + 1, "{named}: {after:?}");
            // Names made by the server differ by the second.
            let fresh = after.into_iter().find(|key| !before.contains(key)).expect("a new key");
            client.delete(&format!("/api/backups/{fresh}")).expect(204);
        }
    }
}

fn send(client: &Client, row: &Row) -> Reply {
    let mut head = format!("{} HTTP/1.1\r\nHost: {}\r\n", row.line, host(&client.base));
    head.push_str(&format!("Authorization: {}\r\nConnection: close\r\n", client.token));
    if let Some(kind) = &row.r#type {
        head.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    let body = match (&row.text, &row.chunked) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(text)) => {
            let (first, second) = text.split_at(text.len() / 2);
            let chunk = |piece: &str| format!("{:x}\r\n{piece}\r\n", piece.len());
            format!("{}{}0\r\n\r\n", chunk(first), chunk(second)).into_bytes()
        }
        (None, None) if row.parts.is_empty() => Vec::new(),
        (None, None) => {
            let bytes = |part: &Part| part.text.clone().map_or_else(small_zip, String::into_bytes);
            let parts = row.parts.iter();
            let parts = parts.map(|p| part(&p.disposition, p.r#type.as_deref(), &bytes(p)));
            parts.chain([end_of_parts()]).flatten().collect()
        }
    };
    if row.chunked.is_some() {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if row.text.is_some() || !row.parts.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    exchange(&client.base, &[head.as_bytes(), &body].concat())
        .unwrap_or_else(|error| panic!("{}: {}: {error}", row.client, row.line))
}

/// A whole zip with one stored entry, `data.db`, of one byte.
fn small_zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("data.db", stored).expect("an entry");
    std::io::Write::write_all(&mut writer, b"x").expect("a byte");
    writer.finish().expect("a zip").into_inner()
}
