//! Archives that want to do more than to be restored. Each is taken in as it is readable;
//! its restore is refused, and the running data stays what it was.

use std::fs;

use serde_json::json;

use super::{assert_sound, file_token, upload};
use crate::archives::{Member, read_zip, write_zip};
use crate::harness::Server;
use crate::raw::Request;

/// Fewest archives that must be tried, the cut ones not counted.
const ROWS_MIN: usize = 40;
/// How the answer begins when the plan refuses.
const REFUSED: &str = "The backup cannot be restored: ";

#[test]
fn a_hostile_archive_is_refused_with_the_reason_and_the_data_stays() {
    let server = Server::start_ours();
    let token = server.login();
    let base = own_backup(&server, &token);
    let rename = json!({"meta": {"appName": "Untouched"}});
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&rename);
    assert_eq!(server.send(&patch).status, 200);
    let mut rows = hostile(&base);
    let count = rows.len();
    assert!(count >= ROWS_MIN, "only {count}");
    let whole = write_zip(&base, false);
    let cuts = (0..100).map(|percent| {
        (format!("cut at {percent} %"), whole[..whole.len() * percent / 100].to_vec())
    });
    rows.extend(cuts);
    let (mut faults, mut at_once) = (Vec::new(), 0);
    for (name, archive) in &rows {
        // Past the upload, which refuses some of them already: this is about the restore.
        fs::write(server.data_dir().join("backups/hostile.zip"), archive).expect("written");
        let restore = Request::new("POST /api/backups/hostile.zip/restore").auth(&token);
        let answer = server.send(&restore);
        let reason = match answer.status {
            400 => {
                at_once += 1;
                let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                message.strip_prefix(REFUSED).unwrap_or_default().to_owned()
            }
            _ => {
                server.wait_until_idle(&token);
                let jobs = server.send(&Request::new("GET /api/vault/jobs").auth(&token)).json();
                jobs[0]["error"].as_str().unwrap_or_default().to_owned()
            }
        };
        if reason.is_empty() {
            faults.push(format!("{name}: no reason, {} {}", answer.status, answer.text()));
        }
        let settings = server.send(&Request::new("GET /api/settings").auth(&token));
        if settings.status != 200 || settings.json()["meta"]["appName"] != "Untouched" {
            faults.push(format!("{name}: restored ({})", settings.status));
        }
        faults.extend(server.files_beside().iter().map(|file| format!("{name}: made {file}")));
    }
    fs::remove_file(server.data_dir().join("backups/hostile.zip")).expect("removed");
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), server.log());
    println!("{count} hostile archives and 100 cut ones, {at_once} refused before any work");
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

/// What it is, and its bytes.
type Rows = Vec<(String, Vec<u8>)>;

/// Archives of a sound backup plus or minus something.
fn hostile(base: &[Member]) -> Rows {
    let ends = broken_ends(&write_zip(base, false));
    [bad_names(base), bad_methods_and_modes(base), bad_databases(base), liars(base), ends].concat()
}

fn row(what: impl Into<String>, members: &[Member]) -> (String, Vec<u8>) {
    (what.into(), write_zip(members, false))
}

fn plus(base: &[Member], member: Member) -> Vec<Member> {
    [base, &[member]].concat()
}

fn without(base: &[Member], name: &str) -> Vec<Member> {
    base.iter().filter(|member| member.name != name).cloned().collect()
}

fn with_data(base: &[Member], change: impl Fn(&mut Member)) -> Vec<Member> {
    let mut members = base.to_vec();
    members.iter_mut().filter(|member| member.name == "data.db").for_each(change);
    members
}

fn bad_names(base: &[Member]) -> Rows {
    let up = "../".repeat(50) + "tmp/evil";
    let deep = "d/".repeat(2_500) + "x";
    let long = "n".repeat(300);
    let names = [
        "../evil",
        "storage/../../evil",
        "/../evil",
        "a/../../evil",
        "./../evil",
        "..",
        ".",
        "./",
        "a/..",
        "/",
        "",
        &up,
        &deep,
        &long,
        "storage/a\0b",
        "data.db/x",
        "data.db/../../x",
    ];
    let named = |name: &str| row(format!("{name:.40?}"), &plus(base, Member::stored(name, "x")));
    let mut rows: Rows = names.into_iter().map(named).collect();
    let both = [Member::stored("f", "x"), Member::stored("f/y", "x")];
    rows.push(row("a file and a folder", &[base, &both].concat()));
    rows
}

fn bad_methods_and_modes(base: &[Member]) -> Rows {
    let method = |method: u16| {
        let change = |member: &mut Member| {
            (member.method, member.flags) = (method, u16::from(method == 99));
        };
        row(format!("method {method}"), &with_data(base, change))
    };
    let mode = |mode: u32| {
        let members = with_data(base, |member| member.mode = mode);
        row(format!("a data.db of mode {mode:o}"), &members)
    };
    let methods = [1, 6, 9, 12, 14, 93, 95, 98, 99].map(method);
    let modes = [0o120_777, 0o010_644, 0o020_666, 0o060_666, 0o140_777, 0o040_755].map(mode);
    methods.into_iter().chain(modes).collect()
}

fn bad_databases(base: &[Member]) -> Rows {
    let data = &base.iter().find(|member| member.name == "data.db").expect("data.db").data;
    let mut torn = data.clone();
    let middle = torn.len() / 2;
    torn[4096..middle].fill(0xa5);
    let mut rows = Rows::new();
    for content in [&b""[..], b"hello", b"SQLite format 3\0", &data[..middle], &torn] {
        let members = with_data(base, |member| member.data = content.to_vec());
        rows.push(row(format!("a bad data.db of {} bytes", content.len()), &members));
    }
    for name in ["pb_data/data.db", "data.db.bak", "data.db/", "storage/data.db"] {
        let members = with_data(base, |member| member.name = name.to_owned());
        rows.push(row(format!("data.db as {name}"), &members));
    }
    let extra = |name: &str| Member::stored(name, "x");
    let no_logs = without(base, "auxiliary.db");
    rows.extend([
        row("no data.db", &without(base, "data.db")),
        row("nothing", &[]),
        row("two, the last one bad", &plus(base, extra("data.db"))),
        row("a rollback journal", &plus(base, extra("data.db-journal"))),
        row("a journal of the logs", &plus(base, extra("auxiliary.db-journal"))),
        row("bad logs", &plus(&no_logs, extra("auxiliary.db"))),
        row("a write-ahead log of nothing", &plus(&no_logs, extra("auxiliary.db-wal"))),
    ]);
    rows
}

fn liars(base: &[Member]) -> Rows {
    let mut rows = Rows::new();
    for (claimed, real) in [(10, 64 << 20), (1000, 10), (u32::MAX - 1, 10)] {
        let member = Member::stored("storage/liar", vec![0; real]);
        let member = Member { method: 8, claimed_size: Some(claimed), ..member };
        let members = plus(base, member);
        rows.push(row(format!("{real} bytes that claim {claimed}"), &members));
        rows.push((format!("{claimed} claimed in zip64"), write_zip(&members, true)));
    }
    rows
}

/// A sound archive whose end record lies, and files that are no archives.
fn broken_ends(whole: &[u8]) -> Rows {
    let end = whole.len() - 22;
    let patched = |what: &str, at: usize, bytes: &[u8]| {
        let mut archive = whole.to_vec();
        archive[end + at..end + at + bytes.len()].copy_from_slice(bytes);
        (what.to_owned(), archive)
    };
    let plain = |what: &str, bytes: &[u8]| (what.to_owned(), bytes.to_vec());
    vec![
        patched("fewer entries", 8, &[1, 0, 1, 0]),
        patched("more entries", 8, &[99, 0, 99, 0]),
        patched("a directory elsewhere", 16, &[5, 0, 0, 0]),
        patched("a directory behind the file", 16, &[0xfe, 0xff, 0xff, 0xff]),
        patched("a comment that is not there", 20, &[50, 0]),
        plain("an empty file", b""),
        plain("first bytes only", b"PK\x03\x04"),
        plain("an end only", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        plain("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        plain("a database", b"SQLite format 3\0"),
    ]
}
