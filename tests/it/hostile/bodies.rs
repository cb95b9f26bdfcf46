//! Bodies that are not what their type says, and names that are none.

use serde_json::json;

use super::{Attempt, UNREADABLE, Want, keys_listed, run};
use crate::harness::Server;
use crate::raw::Request;

/// JSON that cannot be read as an object with a text `name`.
const BAD_JSON: &[&str] = &[
    "{",
    "}",
    "{\"name\":",
    "{\"name\":\"a.zip\"",
    "{\"name\":\"a.zip\",}",
    "{\"name\":\"a.zip\" \"x\":1}",
    "{name:\"a.zip\"}",
    "{'name':'a.zip'}",
    "[]",
    "[{\"name\":\"a.zip\"}]",
    "\"a.zip\"",
    "1",
    "true",
    "nul",
    "NaN",
    "{\"name\":1}",
    "{\"name\":1e999}",
    "{\"name\":true}",
    "{\"name\":{}}",
    "{\"name\":[\"a.zip\"]}",
    "{\"name\":\"\\x61.zip\"}",
    "{\"name\":\"\\u00g0.zip\"}",
    "{\"name\":\"a\nb.zip\"}",
    "{\"name\":\"a\0b.zip\"}",
    "{\"name\":\"a.zip\",\"name\":\"b.zip\"}",
    "/* a */{\"name\":\"a.zip\"}",
    "\u{feff}{\"name\":\"a.zip\"}",
    "name=a.zip",
    "<x/>",
    "   ",
    "\0",
];

/// JSON that is not UTF-8.
const BAD_UTF8: &[&[u8]] =
    &[b"{\"name\":\"\xff.zip\"}", b"\xff\xfe{\0}\0", b"{\"\xc0\xae\":1}", b"\x80"];

/// Bodies of other types, or of none: type and body.
const OTHER_TYPES: &[(&str, &str)] = &[
    ("text/plain", "{\"name\":\"a.zip\"}"),
    ("application/octet-stream", "{\"name\":\"a.zip\"}"),
    ("Application/JSON", "{\"name\":\"a.zip\"}"),
    ("text/json", "{}"),
    ("application/zip", "PK"),
    ("*/*", "{}"),
    ("json", "{}"),
    ("multipart/form-data", "--x--\r\n"),
    ("multipart/form-data; boundary=", "--\r\n\r\n----\r\n"),
    ("multipart/form-data; boundary=\"", "--x--\r\n"),
    ("multipart/form-data; boundary=x", "no boundary in here"),
    ("multipart/form-data; boundary=x", "--x\r\n\r\na"),
    ("multipart/form-data; boundary=x", "--x\r\nno colon\r\n\r\na\r\n--x--\r\n"),
    ("application/xml", "<"),
    ("application/xml", "<a>"),
    ("application/xml", "<a></b>"),
    ("application/xml", "<a>&undefined;</a>"),
    ("text/xml", "not xml"),
    (
        "application/xml",
        "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a><Name>&b;</Name></a>",
    ),
    ("application/x-www-form-urlencoded", "name=%zz"),
    ("application/x-www-form-urlencoded", "name=%"),
    ("application/x-www-form-urlencoded", "name=%a"),
    ("application/x-www-form-urlencoded", "@jsonPayload={"),
];

/// Texts that are no name of a backup.
const BAD_NAMES: &[&str] = &[
    "../a.zip",
    "..\\a.zip",
    "/a.zip",
    "a/b.zip",
    "a\\b.zip",
    "./a.zip",
    "..",
    ".",
    ".zip",
    "a.zip\u{0}",
    "a\u{0}.zip",
    "a.zip\n",
    "a\r\nX-Evil: 1.zip",
    "a b.zip",
    "A.zip",
    "a.ZIP",
    "ä.zip",
    "\u{202e}piz.zip",
    "💣.zip",
    "a.zip.exe",
    "a.zip/",
    "@auto_a.zip",
    "%2e%2e%2fa.zip",
    "a.tar.gz",
    "a;b.zip",
    "a'--.zip",
    "$(id).zip",
    "{{7*7}}.zip",
    "http://127.0.0.1/a.zip",
];

pub(super) const COUNT: usize =
    BAD_JSON.len() + BAD_UTF8.len() + OTHER_TYPES.len() + BAD_NAMES.len() + 9;

#[test]
fn a_body_that_cannot_be_read_makes_no_backup() {
    let server = Server::start();
    let token = server.login();
    let create = || Request::new("POST /api/backups").auth(&token);
    let attempt = |name: String, media_type: &str, body: &[u8]| {
        Attempt::new(name, &server, &create().body(media_type, body), UNREADABLE)
    };
    let mut attempts = Vec::new();
    for body in BAD_JSON {
        attempts.push(attempt(format!("JSON {body:?}"), "application/json", body.as_bytes()));
    }
    for body in BAD_UTF8 {
        attempts.push(attempt(format!("bytes {body:?}"), "application/json", body));
    }
    for (media_type, body) in OTHER_TYPES {
        attempts.push(attempt(format!("{media_type} {body:?}"), media_type, body.as_bytes()));
    }
    let laughs = (1..30).fold("<!ENTITY e0 \"ha\">".to_owned(), |text, n| {
        format!("{text}<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10))
    });
    let laughs = format!("<!DOCTYPE a [{laughs}]><a><Name>&e29;</Name></a>");
    for (name, media_type, body) in [
        ("a hundred thousand arrays", "application/json", "[".repeat(100_000)),
        ("a hundred thousand objects", "application/json", "{\"a\":".repeat(100_000)),
        ("arrays that are closed again", "application/json", {
            format!("{{\"name\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000))
        }),
        ("a billion laughs", "application/xml", laughs),
        ("a hundred thousand elements", "application/xml", "<a>".repeat(100_000)),
        ("a megabyte of blanks", "application/json", " ".repeat(1 << 20)),
    ] {
        attempts.push(attempt(name.to_owned(), media_type, body.as_bytes()));
    }
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), Vec::<String>::new());
}

#[test]
fn a_name_that_is_none_makes_no_backup() {
    let server = Server::start();
    let token = server.login();
    let attempt = |name: &str, code: &'static str| {
        let request = Request::new("POST /api/backups").auth(&token).json(&json!({ "name": name }));
        Attempt::new(format!("{name:.60?}"), &server, &request, Want::Invalid("name", code))
    };
    let mut attempts: Vec<_> =
        BAD_NAMES.iter().map(|name| attempt(name, "validation_match_invalid")).collect();
    for long in [format!("{}.zip", "a".repeat(147)), "a".repeat(1 << 20), "../".repeat(1000)] {
        attempts.push(attempt(&long, "validation_length_out_of_range"));
    }
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), Vec::<String>::new());
    assert_eq!(server.files_beside(), Vec::<String>::new());
}
