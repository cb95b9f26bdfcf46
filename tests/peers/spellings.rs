//! Two programs read each path, ours and the PocketBase behind it. What either takes for a
//! backups route must be ours, or a backup would be made, or a folder restored, behind our back.

use serde_json::json;

use crate::http::exchange;
use crate::server::{PASSWORD, Program, scratch};
use crate::tools::{self, Version};

const SPELLINGS: [&str; 18] = [
    "/api/backups",
    "/api/backups/",
    "/api//backups",
    "//api/backups",
    "/api/./backups",
    "/api/x/../backups",
    "/api/backups/.",
    "/api/backups?x=/api/other",
    "/api/%62ackups",
    "/%61pi/backups",
    "/api%2fbackups",
    "/api/backups%2f",
    "/api/%2e/backups",
    "/api/x/%2e%2e/backups",
    "/API/backups",
    "/api/backups;x",
    "/api/backups%00",
    "http://127.0.0.1/api/backups",
];

#[test]
fn no_spelling_of_a_path_makes_a_backup_behind_our_back() {
    let Some(pocketbase) = tools::pocketbase(Version::V0_40_4) else { return };
    let scratch = scratch();
    let dir = scratch.path().join("pb_data");
    Program::pocketbase(pocketbase.clone()).upsert(&dir, PASSWORD);
    let server = Program::before(pocketbase).serve(&dir);
    let client = server.login(PASSWORD);
    let mut made = 0;
    for (number, path) in SPELLINGS.into_iter().enumerate() {
        let name = format!("made_{number}.zip");
        let body = json!({ "name": name }).to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            client.token,
            body.len()
        );
        let status = exchange(&client.base, request.as_bytes()).expect("an answer").status;
        let there = client.keys().contains(&name);
        assert_eq!(there, status == 204, "{path}: {status}");
        let by_us = server.log().contains(&format!("made a backup key={name}"));
        assert_eq!(there, by_us, "{path}: made by the program itself");
        made += usize::from(there);
    }
    assert!(made >= 4, "{made} spellings are good ones");
}
