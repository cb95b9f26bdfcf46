//! Archives that want to do more than to be restored. Each is taken in as it is readable;
//! its restore is refused, and the running data stays what it was.

use std::fs;

use serde_json::json;

use super::{assert_sound, file_token, upload};
use crate::archives::{Member, read_zip, write_zip};
use crate::harness::Server;
use crate::raw::Request;

#[test]
fn a_hostile_archive_is_refused_and_the_data_stays() {
    let server = Server::start_ours();
    let token = server.login();
    let base = own_backup(&server, &token);
    let rename = json!({"meta": {"appName": "Untouched"}});
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&rename);
    assert_eq!(server.send(&patch).status, 200);
    let mut faults = Vec::new();
    for (name, members) in hostile(&base) {
        let archive = write_zip(&members, false);
        let answer = server.send(&upload("hostile.zip", &archive).auth(&token));
        if answer.status == 204 {
            restore_and_wait(&server, &token);
        } else if answer.status != 400 {
            faults.push(format!("{name}: upload answered {}", answer.status));
        }
        let settings = server.send(&Request::new("GET /api/settings").auth(&token));
        if settings.status != 200 || settings.json()["meta"]["appName"] != "Untouched" {
            faults.push(format!("{name}: restored ({})", settings.status));
        }
        faults.extend(server.files_beside().iter().map(|file| format!("{name}: made {file}")));
        let delete = Request::new("DELETE /api/backups/hostile.zip").auth(&token);
        server.send(&delete);
    }
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), server.log());
    assert_sound(&server);
}

/// Entries that are skipped or made harmless: the restore goes through, nothing else happens.
#[test]
fn links_and_modes_in_an_archive_do_no_harm() {
    let server = Server::start_ours();
    let token = server.login();
    let mut members = own_backup(&server, &token);
    let odd = |name: &str, data: &str, mode: u32| Member { mode, ..Member::stored(name, data) };
    members.push(odd("link", "/etc/passwd", 0o120_777));
    members.push(odd("device", "", 0o020_666));
    members.push(odd("pipe", "", 0o010_666));
    members.push(odd("storage/setuid", "#!/bin/sh", 0o104_755));
    let archive = write_zip(&members, false);
    assert_eq!(server.send(&upload("hostile.zip", &archive).auth(&token)).status, 204);
    restore_and_wait(&server, &token);
    let data = server.data_dir();
    for name in ["link", "device", "pipe"] {
        assert!(data.join(name).symlink_metadata().is_err(), "{name}");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(data.join("storage/setuid")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7000, 0, "{mode:o}");
    assert_sound(&server);
}

/// The members of a fresh backup of the server's own data.
fn own_backup(server: &Server, token: &str) -> Vec<Member> {
    let create = Request::new("POST /api/backups").auth(token).json(&json!({"name": "own.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let token = file_token(server, token);
    let archive = server.send(&Request::new(&format!("GET /api/backups/own.zip?token={token}")));
    assert_eq!(archive.status, 200);
    read_zip(&archive.body)
}

/// Restores `hostile.zip` and waits until the server has nothing to do any more.
fn restore_and_wait(server: &Server, token: &str) {
    let restore = Request::new("POST /api/backups/hostile.zip/restore").auth(token);
    let answer = server.send(&restore);
    assert!([204, 400].contains(&answer.status), "{}", answer.text());
    server.wait_until_idle(token);
}

/// Archives of a sound backup plus or minus something.
fn hostile(base: &[Member]) -> Vec<(&'static str, Vec<Member>)> {
    let plus = |member: Member| [base, &[member]].concat();
    let with_data = |data: &[u8]| {
        let mut members = base.to_vec();
        for member in members.iter_mut().filter(|member| member.name == "data.db") {
            member.data = data.to_vec();
        }
        members
    };
    let data = &base.iter().find(|member| member.name == "data.db").expect("data.db").data;
    let mut torn = data.clone();
    let middle = torn.len() / 2;
    torn[4096..middle].fill(0xa5);
    let claims = |name: &str, claimed: u32, real: usize| {
        let member = Member::stored(name, vec![0; real]);
        plus(Member { method: 8, claimed_size: Some(claimed), ..member })
    };
    vec![
        ("a way up", plus(Member::stored("../evil", "x"))),
        ("a way up inside", plus(Member::stored("storage/../../evil", "x"))),
        ("many ways up", plus(Member::stored(&("../".repeat(50) + "tmp/evil"), "x"))),
        ("a file where a folder is", plus(Member::stored("data.db/x", "x"))),
        ("an empty data.db", with_data(b"")),
        ("a data.db of text", with_data(b"hello")),
        ("a data.db cut in half", with_data(&data[..data.len() / 2])),
        ("a data.db that is torn", with_data(&torn)),
        ("only a header of SQLite", with_data(b"SQLite format 3\0")),
        ("a rollback journal", plus(Member::stored("data.db-journal", "x"))),
        ("a bomb that hides its size", claims("storage/bomb", 10, 64 << 20)),
        ("a file shorter than it claims", claims("storage/short", 1000, 10)),
        ("a name that is too long", plus(Member::stored(&"n".repeat(300), "x"))),
        ("a zero in a name", plus(Member::stored("storage/a\0b", "x"))),
    ]
}
