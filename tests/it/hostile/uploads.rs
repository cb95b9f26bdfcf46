//! Uploads that are cut, mislabelled, or no archives.

use super::{Attempt, Want, keys_listed, run, upload};
use crate::archives::{Member, small_zip, write_zip};
use crate::harness::Server;
use crate::raw::Request;

const BLANK: Want = Want::Invalid("file", "validation_required");
const NO_ZIP: Want = Want::Invalid("file", "validation_invalid_mime_type");
const TAKEN: Want = Want::Invalid("file", "validation_backup_name_exists");
const FAILED: Want = Want::Error(400, "Failed to upload backup.");

/// Contents that do not begin like a zip.
const NO_ZIPS: &[(&str, &[u8])] = &[
    ("nothing", b""),
    ("one byte", b"P"),
    ("two bytes", b"PK"),
    ("three bytes", b"PK\x03"),
    ("text", b"hello"),
    ("HTML", b"<!doctype html><script>alert(1)</script>"),
    ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
    ("RAR", b"Rar!\x1a\x07\x01\0"),
    ("ELF", b"\x7fELF\x02\x01\x01"),
    ("PDF", b"%PDF-1.7"),
    ("SQLite", b"SQLite format 3\0"),
    ("zeros", &[0; 100]),
    ("an archive after a byte", b"\0PK\x03\x04"),
];

/// Names under which nothing may be stored: the raw file name and the answer.
fn bad_names() -> Vec<(String, Want)> {
    vec![
        ("..".to_owned(), FAILED),
        (".".to_owned(), FAILED),
        ("".to_owned(), BLANK),
        ("x.attrs".to_owned(), TAKEN),
        ("../../x.attrs".to_owned(), TAKEN),
        ("a".repeat(300), TAKEN),
        ("a".repeat(250), FAILED),
        ("../..".to_owned(), FAILED),
    ]
}

/// Where a whole upload is cut, counted from its end.
const CUTS: &[usize] = &[3, 4, 5, 6, 7, 8, 9, 20, 60, 100, 113, 121, 122, 123, 130, 150, 200, 220];

/// Content types and bodies that do not belong together.
const MISLABELLED: &[(&str, &str)] = &[
    ("no type of its own", "application/octet-stream"),
    ("JSON", "application/json"),
    ("no boundary", "multipart/form-data"),
    ("an empty boundary", "multipart/form-data; boundary="),
    ("another boundary", "multipart/form-data; boundary=YY"),
    ("a longer boundary", "multipart/form-data; boundary=XXX"),
    ("the boundary in lower case", "multipart/form-data; boundary=xx"),
    (
        "a boundary of 300 bytes",
        "multipart/form-data; boundary=\
     aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    ("upper case", "MULTIPART/FORM-DATA; boundary=YY"),
    ("another multipart", "multipart/mixed; boundary=YY"),
    ("a form", "application/x-www-form-urlencoded"),
];

pub(super) const COUNT: usize = NO_ZIPS.len() + 8 + CUTS.len() + MISLABELLED.len() + 7 + 7;

#[test]
fn what_is_no_archive_is_not_stored() {
    let server = Server::start();
    let token = server.login();
    let mut attempts = Vec::new();
    for (name, content) in NO_ZIPS {
        attempts.push(Attempt::new(*name, &server, &upload("x.zip", content).auth(&token), NO_ZIP));
    }
    for (name, want) in bad_names() {
        let request = upload(&name, &small_zip()).auth(&token);
        attempts.push(Attempt::new(format!("named {name:.40}"), &server, &request, want));
    }
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), Vec::<String>::new());
    assert_eq!(server.files_beside(), Vec::<String>::new());
}

#[test]
fn an_upload_that_is_cut_anywhere_is_not_stored() {
    let server = Server::start();
    let token = server.login();
    let mut attempts = Vec::new();
    for cut in CUTS {
        let mut request = upload("x.zip", &small_zip()).auth(&token);
        let body = request.body.as_mut().expect("a body");
        body.truncate(body.len() - cut);
        attempts.push(Attempt::new(format!("without {cut} bytes"), &server, &request, BLANK));
    }
    for (name, media_type) in MISLABELLED {
        let body = upload("x.zip", &small_zip()).body.expect("a body");
        let request = Request::new("POST /api/backups/upload").auth(&token).body(media_type, body);
        attempts.push(Attempt::new(*name, &server, &request, BLANK));
    }
    let part = |head: &str, tail: &str| {
        let body = format!("--XX\r\n{head}\r\nPK\x05\x06{}{tail}", "\0".repeat(18));
        Request::new("POST /api/backups/upload")
            .auth(&token)
            .body("multipart/form-data; boundary=XX", body)
    };
    let disposition = "Content-Disposition: form-data; name=\"file\"; filename=\"x.zip\"\r\n";
    let end = "\r\n--XX--\r\n";
    for (name, request) in [
        ("no disposition", part("", end)),
        ("no name", part("Content-Disposition: form-data; filename=\"x.zip\"\r\n", end)),
        ("no file name", part("Content-Disposition: form-data; name=\"file\"\r\n", end)),
        ("an attachment", part("Content-Disposition: attachment; filename=\"x.zip\"\r\n", end)),
        ("another field", part(&disposition.replace("\"file\"", "\"files\""), end)),
        ("a header without a colon", part(&format!("{disposition}oops\r\n"), end)),
        ("a header of a megabyte", part(&format!("X: {}\r\n", "y".repeat(11 << 20)), end)),
    ] {
        attempts.push(Attempt::new(name, &server, &request, BLANK));
    }
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), Vec::<String>::new());
}

/// PocketBase stores these and finds out when it restores; we refuse them when they come.
#[test]
fn an_archive_that_cannot_be_opened_is_not_stored() {
    let server = Server::start_ours();
    let token = server.login();
    let whole = write_zip(&[Member::stored("data.db", "x".repeat(5000))], false);
    let patched = |from_end: usize, bytes: &[u8]| {
        let mut archive = whole.clone();
        let at = archive.len() - from_end;
        archive[at..at + bytes.len()].copy_from_slice(bytes);
        archive
    };
    let attempts = [
        ("only the magic", b"PK\x03\x04".to_vec()),
        ("the first half", whole[..whole.len() / 2].to_vec()),
        ("without its end", whole[..whole.len() - 22].to_vec()),
        ("cut in its end", whole[..whole.len() - 1].to_vec()),
        ("a directory beyond the end", patched(6, &[0xff, 0xff, 0xff, 0x7f])),
        ("more entries than there are", patched(14, &[9, 0, 9, 0])),
        ("a directory of garbage", patched(22 + 53, &[0xff; 20])),
    ]
    .map(|(name, archive)| {
        Attempt::new(name, &server, &upload("x.zip", &archive).auth(&token), NO_ZIP)
    });
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), Vec::<String>::new());
}

/// Line ends in a file name end the header line, so that the name stops there; whatever the
/// name becomes, it is one file in the folder of backups, and its download has no new header.
#[test]
fn line_ends_in_a_file_name_add_no_headers() {
    let server = Server::start();
    let token = server.login();
    for name in ["a\\\r\nX-Evil: 1", "a%0d%0aX-Evil: 1.zip", "a\u{85}b.zip", "a\rX-Evil: 1"] {
        let answer = server.send(&upload(name, &small_zip()).auth(&token));
        assert!([204, 400].contains(&answer.status), "{name:?}: {}", answer.text());
    }
    let file_token = super::file_token(&server, &token);
    for key in keys_listed(&server, &token) {
        let path: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = Request::new(&format!("GET /api/backups/{path}?token={file_token}"));
        let answer = server.send(&request);
        assert_eq!(answer.header("X-Evil"), None, "{key:?}");
    }
    super::assert_sound(&server);
    assert_eq!(server.files_beside(), Vec::<String>::new());
}
