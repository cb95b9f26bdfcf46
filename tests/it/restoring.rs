//! What is left after a restore: nothing that costs room, and nothing that its owner could not
//! open.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::archives::{read_zip, write_zip};
use crate::harness::Server;
use crate::hostile::upload;
use crate::raw::Request;

/// How long the trash of a few files may take to go.
const EMPTIED_MAX: Duration = Duration::from_secs(20);

#[test]
fn what_an_earlier_restore_kept_goes_in_the_background() {
    let server = Server::start_ours();
    let token = server.login();
    backup(&server, &token, "a.zip");
    restore(&server, &token, "a.zip");
    fs::write(server.data_dir().join("between"), "x").unwrap();
    restore(&server, &token, "a.zip");
    let bay = server.data_dir().join(".pocketvault/restore");
    let end = Instant::now() + EMPTIED_MAX;
    // The journal, and what an undo would bring back.
    while fs::read_dir(&bay).unwrap().count() > 2 {
        assert!(Instant::now() < end, "{:?}", fs::read_dir(&bay).unwrap().collect::<Vec<_>>());
        thread::sleep(Duration::from_millis(20));
    }
    let folders = fs::read_dir(&bay).unwrap().map(|entry| entry.unwrap().path());
    let kept = folders.map(|folder| folder.join("old/between")).filter(|path| path.exists());
    assert_eq!(kept.count(), 1);
}

#[test]
fn an_archive_without_logs_gets_a_database_for_them() {
    let server = Server::start_ours();
    let token = server.login();
    let whole = backup(&server, &token, "a.zip");
    let mut members = read_zip(&whole);
    members.retain(|member| member.name != "auxiliary.db");
    let archive = write_zip(&members, false);
    assert_eq!(server.send(&upload("b.zip", &archive).auth(&token)).status, 204);
    restore(&server, &token, "b.zip");
    let run = Request::new("POST /api/crons/__pbLogsCleanup__").auth(&token);
    assert_eq!(server.send(&run).status, 204);
    thread::sleep(Duration::from_millis(300));
    assert!(!server.log().contains("a scheduled task failed"), "{}", server.log());
}

#[test]
fn what_root_restores_belongs_to_the_owner_of_the_folder() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can give files away");
        return;
    }
    let server = Server::start_ours();
    let token = server.login();
    backup(&server, &token, "a.zip");
    fs::create_dir_all(server.data_dir().join("storage/c/r")).unwrap();
    fs::write(server.data_dir().join("storage/c/r/photo"), "x").unwrap();
    backup(&server, &token, "b.zip");
    for path in tree(&server.data_dir()) {
        chown(path, Some(12_345), Some(12_345)).unwrap();
    }
    restore(&server, &token, "b.zip");
    let foreign: Vec<_> = tree(&server.data_dir())
        .into_iter()
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() != 12_345))
        // SQLite makes these anew for whoever has the database open.
        .filter(|path| !["-wal", "-shm"].iter().any(|end| path.to_string_lossy().ends_with(end)))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn a_plan_tells_what_a_restore_would_do_and_does_nothing() {
    let server = Server::start_ours();
    let token = server.login();
    backup(&server, &token, "a.zip");
    fs::create_dir_all(server.data_dir().join("storage/c")).unwrap();
    fs::write(server.data_dir().join("storage/c/later"), "12345").unwrap();
    server.superuser(&["upsert", "later@example.com", "1234567890"]);
    let plan = post(&server, &token, "/api/vault/backups/a.zip/plan");
    assert_eq!(plan.status, 200, "{}", plan.text());
    let plan = plan.json();
    assert_eq!(plan["refused"], json!(null), "{plan}");
    assert_eq!(plan["contents"]["sort"], "pocketBase", "{plan}");
    assert_eq!((&plan["loss"]["files"], &plan["loss"]["bytes"]), (&json!(1), &json!(5)), "{plan}");
    let rows = plan["loss"]["collections"].as_array().unwrap();
    let superusers = rows.iter().find(|rows| rows["name"] == "_superusers").unwrap();
    assert_eq!((&superusers["rows"], &superusers["lost"]), (&json!(2), &json!(1)), "{plan}");
    assert_eq!(plan["migrations"]["onlyInArchive"], json!([]), "{plan}");
    let quick = post(&server, &token, "/api/vault/backups/a.zip/plan?quick=1&only=files").json();
    assert_eq!((&quick["deep"], &quick["only"]), (&json!(false), &json!("files")), "{quick}");
    assert_eq!(post(&server, &token, "/api/vault/backups/none.zip/plan").status, 404);
    assert_eq!(post(&server, &token, "/api/vault/backups/a.zip/plan?only=../x").status, 400);
    let anonymous = Request::new("POST /api/vault/backups/a.zip/plan");
    assert_eq!(server.send(&anonymous).status, 401);
    assert_eq!(fs::read_dir(server.data_dir().join(".pocketvault/staging")).unwrap().count(), 0);
}

#[test]
fn a_restore_is_undone_and_the_status_tells() {
    let server = Server::start_ours();
    let token = server.login();
    let status =
        |token: &str| server.send(&Request::new("GET /api/vault/restore").auth(token)).json();
    assert_eq!(status(&token), json!({"last": null, "undo": null}));
    let nothing = post(&server, &token, "/api/vault/restore/undo");
    assert_eq!(nothing.status, 400);
    assert_eq!(nothing.json()["message"], "There is no restore to undo.");
    backup(&server, &token, "a.zip");
    fs::write(server.data_dir().join("later"), "x").unwrap();
    restore(&server, &token, "a.zip");
    assert!(!server.data_dir().join("later").exists());
    let after = status(&token);
    assert_eq!(after["last"]["phase"], "proven", "{after}");
    assert_eq!((&after["undo"]["key"], &after["undo"]["only"]), (&json!("a.zip"), &json!("all")));
    assert!(after["undo"]["until"].as_str().unwrap() > after["undo"]["since"].as_str().unwrap());
    let undo = post(&server, &token, "/api/vault/restore/undo");
    assert_eq!(undo.status, 202, "{}", undo.text());
    server.wait_until_idle(&token);
    assert_eq!(fs::read(server.data_dir().join("later")).unwrap(), b"x");
    assert_eq!(status(&token)["last"]["operation"], "undo");
}

#[test]
fn files_alone_are_restored_and_the_settings_stay() {
    let server = Server::start_ours();
    let token = server.login();
    fs::create_dir_all(server.data_dir().join("storage/c/r")).unwrap();
    fs::write(server.data_dir().join("storage/c/r/photo"), "old").unwrap();
    backup(&server, &token, "a.zip");
    fs::write(server.data_dir().join("storage/c/r/photo"), "newer").unwrap();
    fs::write(server.data_dir().join("storage/c/r/other"), "x").unwrap();
    let rename = json!({"meta": {"appName": "Renamed"}});
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&rename);
    assert_eq!(server.send(&patch).status, 200);
    let path = "/api/vault/backups/a.zip/restore?only=storage/c/r/photo";
    assert_eq!(post(&server, &token, path).status, 202);
    server.wait_until_idle(&token);
    assert_eq!(fs::read(server.data_dir().join("storage/c/r/photo")).unwrap(), b"old");
    assert!(server.data_dir().join("storage/c/r/other").exists());
    assert_eq!(post(&server, &token, "/api/vault/backups/a.zip/restore?only=files").status, 202);
    server.wait_until_idle(&token);
    assert!(!server.data_dir().join("storage/c/r/other").exists());
    let settings = server.send(&Request::new("GET /api/settings").auth(&token)).json();
    assert_eq!(settings["meta"]["appName"], "Renamed");
}

#[test]
fn a_safety_backup_comes_before_a_restore() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("pocketvault.toml");
    fs::write(&config, "[restore]\nsafety_backup = true\nkeep_old = '7d'\n").unwrap();
    let server = Server::start_ours_with(&["--config", config.to_str().unwrap()]);
    let token = server.login();
    backup(&server, &token, "a.zip");
    fs::write(server.data_dir().join("later"), "x").unwrap();
    restore(&server, &token, "a.zip");
    let list = server.send(&Request::new("GET /api/backups").auth(&token)).json();
    let keys: Vec<&str> =
        list.as_array().unwrap().iter().map(|backup| backup["key"].as_str().unwrap()).collect();
    let made = keys.iter().find(|key| key.starts_with("pre_restore_")).unwrap();
    let members = read_zip(&fs::read(server.data_dir().join("backups").join(made)).unwrap());
    assert!(members.iter().any(|member| member.name == "later"), "{keys:?}");
}

fn post(server: &Server, token: &str, path: &str) -> crate::raw::Response {
    server.send(&Request::new(&format!("POST {path}")).auth(token))
}

/// Makes a backup; its bytes.
fn backup(server: &Server, token: &str, name: &str) -> Vec<u8> {
    let create = Request::new("POST /api/backups").auth(token).json(&json!({"name": name}));
    assert_eq!(server.send(&create).status, 204);
    fs::read(server.data_dir().join("backups").join(name)).unwrap()
}

fn restore(server: &Server, token: &str, name: &str) {
    let restore = Request::new(&format!("POST /api/backups/{name}/restore")).auth(token);
    assert_eq!(server.send(&restore).status, 204);
    server.wait_until_idle(token);
}

/// A folder and everything below it.
fn tree(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}
