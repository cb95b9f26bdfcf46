//! Keys that try to leave the folder of backups, in every spelling that has ever worked
//! somewhere.

use super::{Attempt, Want, assert_sound, file_token, keys_listed, run, upload};
use crate::archives::small_zip;
use crate::harness::Server;
use crate::raw::Request;

/// Keys as they stand in the path, none of which is a backup.
const KEYS: &[&str] = &[
    "%2e",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2fdata.db",
    "..%2Fdata.db",
    "%2e%2e%2fdata.db",
    "%2E%2E%2Fdata.db",
    "..%5cdata.db",
    "..%5C..%5Cdata.db",
    "%252e%252e%252fdata.db",
    "....%2f%2fdata.db",
    "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "%2f%2fetc%2fpasswd",
    "small.zip%2f..%2f..%2fdata.db",
    "x%2f..%2f..%2fdata.db",
    ".%2f..%2fdata.db",
    "%c0%ae%c0%ae%2fdata.db",
    "%e0%80%ae%e0%80%ae%2fdata.db",
    "%uff0e%uff0e",
    "..%00%2fdata.db",
    "data.db%00.zip",
    "small.zip%00",
    "%00",
    "%ff",
    "small.zip%0a",
    "a%0d%0aSet-Cookie:%20a=b",
    "small.zip%20",
    "small.zip.",
    "SMALL.ZIP",
    "small.zip;.txt",
    "*.zip",
    "%7e%2f.ssh%2fid_rsa",
    "file:%2f%2f%2fetc%2fpasswd",
    "http:%2f%2f127.0.0.1%2f",
    "%e2%80%ae",
    "small.zip.attrs",
    ".attrs",
    "%2epocketvault%2fjobs",
    "..%2f.pocketvault%2frestore%2fjournal",
    "%27%20OR%201=1--",
    "$(touch%20x)",
];

pub(super) const COUNT: usize = 3 * (KEYS.len() + 2);

/// `%uff0e` is no percent-encoding at all, so that the HTTP layer refuses it.
const fn is_malformed(key: &str) -> bool {
    matches!(key.as_bytes(), [b'%', b'u', ..])
}

#[test]
fn no_key_leads_out_of_the_backups() {
    let server = Server::start();
    let token = server.login();
    assert_eq!(server.send(&upload("small.zip", &small_zip()).auth(&token)).status, 204);
    let file_token = file_token(&server, &token);
    let long = "a".repeat(300);
    let deep = "..%2f".repeat(1000) + "etc%2fpasswd";
    let mut attempts = Vec::new();
    for key in KEYS.iter().copied().chain([long.as_str(), deep.as_str()]) {
        let download = Request::new(&format!("GET /api/backups/{key}?token={file_token}"));
        let delete = Request::new(&format!("DELETE /api/backups/{key}")).auth(&token);
        let restore = Request::new(&format!("POST /api/backups/{key}/restore")).auth(&token);
        let missing = Want::Error(400, "Missing or invalid backup file.");
        for (name, request, want) in [
            ("download", download, Want::Status(&[400, 404])),
            ("delete", delete, Want::Status(&[400])),
            ("restore", restore, missing),
        ] {
            let want = if is_malformed(key) { Want::Status(&[400]) } else { want };
            attempts.push(Attempt::new(format!("{name} {key:.60}"), &server, &request, want));
        }
    }
    run(&server, &attempts);
    assert_eq!(keys_listed(&server, &token), ["small.zip"]);
    assert_eq!(server.files_beside(), Vec::<String>::new());
}

#[test]
fn an_error_never_names_a_path_of_the_server() {
    let server = Server::start_ours();
    let token = server.login();
    let home = server.data_dir().display().to_string();
    let file_token = file_token(&server, &token);
    for key in KEYS.iter().filter(|key| !is_malformed(key)) {
        for request in [
            Request::new(&format!("GET /api/backups/{key}?token={file_token}")),
            Request::new(&format!("DELETE /api/backups/{key}")).auth(&token),
            Request::new(&format!("POST /api/backups/{key}/restore")).auth(&token),
        ] {
            let answer = server.send(&request);
            let text = format!("{:?} {}", answer.headers, answer.text());
            assert!(!text.contains(&home), "{} {key}: {text}", request.method);
            assert!(!text.contains("root:"), "{} {key}: {text}", request.method);
            assert!(!text.contains("os error"), "{} {key}: {text}", request.method);
        }
    }
    assert_sound(&server);
}
