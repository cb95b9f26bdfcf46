//! The life of a backup: made, downloaded, restored, undone.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use super::{ROWS, World, manifest, names, unzipped};
use crate::harness::Server;
use crate::postgres::until;
use crate::raw::Request;

/// Everything that an archive of the world holds.
const EVERYTHING: [&str; 8] = [
    "database.dump",
    "pocketvault.json",
    "storage/pbc_notes/r1/a_1.txt",
    "storage/pbc_notes/r1/b_1.txt",
    "storage/pbc_notes/r1/photo_1.png",
    "storage/pbc_notes/r1/photo_1.png.attrs",
    "storage/pbc_notes/r2/photo_2.png",
    "types.d.ts",
];

#[test]
fn rows_and_files_come_back_together_and_an_undo_finds_its_own() {
    let Some(world) = World::new() else { return };
    world.place.done(&["backup", "ledger", "a.zip"]);
    let zip = world.zip("a.zip");
    assert_eq!(names(&zip), EVERYTHING);
    let said = manifest(&zip);
    assert_eq!((&said["namedFiles"], &said["missingFiles"]), (&json!(4), &json!(0)), "{said}");
    let before = world.sql(ROWS);
    world.assert_clean();

    world.sql(
        "DELETE FROM \"Odd notes\" WHERE id = 'r1'; INSERT INTO \"Odd notes\" (id, photo) \
         VALUES ('r4', 'photo_4.png'); UPDATE _superusers SET \"tokenKey\" = 'another'",
    );
    fs::remove_dir_all(world.data().join("storage/pbc_notes/r1")).expect("removed");
    world.write("storage/pbc_notes/r2/photo_2.png", "damaged");
    world.write("storage/pbc_notes/r4/photo_4.png", "png four");
    let newer = world.sql(ROWS);

    let planned = world.place.done(&["restore", "ledger", "a.zip", "--plan"]);
    assert!(planned.starts_with("way: swap"), "{planned}");
    assert!(!world.has("storage/pbc_notes/r1/a_1.txt"), "a plan does nothing");
    world.place.done(&["restore", "ledger", "a.zip"]);
    assert_eq!(world.sql(ROWS), before);
    let photo = world.data().join("storage/pbc_notes/r1/photo_1.png");
    assert_eq!(fs::read_to_string(photo).expect("there"), "png one");
    let photo = world.data().join("storage/pbc_notes/r2/photo_2.png");
    assert_eq!(fs::read_to_string(photo).expect("there"), "png two");
    assert!(!world.has("database.dump") && !world.has("pocketvault.json"));
    assert!(world.has("storage/pbc_notes/r4/photo_4.png"), "an undo will want it");
    world.assert_clean();

    world.place.done(&["undo", "ledger"]);
    assert_eq!(world.sql(ROWS), newer);
    let listed = world.place.done(&["list", "ledger"]);
    assert!(listed.contains("a.zip") && listed.contains("kept for undo"), "{listed}");
}

#[test]
fn a_file_that_a_dumped_record_names_is_archived_though_it_is_deleted_meanwhile() {
    let Some(world) = World::new() else { return };
    // pg_dump waits for this lock: the moment is taken, the files are not yet read.
    let lock =
        world.cluster.background(&world.database, "BEGIN; LOCK TABLE zz_last; SELECT pg_sleep(60)");
    let granted = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
        AND relation = 'zz_last'::regclass";
    until("the table is locked", || world.sql(granted) == "1");
    let mut command = world.place.command(&["backup", "ledger", "a.zip"]);
    let backup = command.stdout(Stdio::null()).spawn().expect("the program");
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted \
        AND relation = 'zz_last'::regclass";
    until("the dump waits", || world.sql(waits) == "1");
    world.sql("DELETE FROM \"Odd notes\"");
    fs::remove_dir_all(world.data().join("storage")).expect("removed");
    drop(lock);
    world.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE query LIKE '%zz_last; SELECT pg_sleep%' AND pid <> pg_backend_pid()",
    );
    assert!(backup.wait_with_output().expect("an end").status.success());
    let zip = world.zip("a.zip");
    let expected: Vec<_> = EVERYTHING.into_iter().filter(|name| !name.ends_with("attrs")).collect();
    assert_eq!(names(&zip), expected);
    assert_eq!(unzipped(&zip, "storage/pbc_notes/r1/photo_1.png"), b"png one");
    world.place.done(&["restore", "ledger", "a.zip"]);
    assert_eq!(world.sql("SELECT count(*) FROM \"Odd notes\""), "3");
    assert!(world.has("storage/pbc_notes/r2/photo_2.png"));
}

#[test]
fn the_api_serves_it_as_any_database_and_says_what_is_missing() {
    let Some(world) = World::new() else { return };
    fs::remove_file(world.data().join("storage/pbc_notes/r1/b_1.txt")).expect("removed");
    let config = world.place.config();
    let server = Server::start_ours_with(&["--config", config.to_str().expect("UTF-8")]);
    let token = server.login();
    let send = |line: &str| server.send(&Request::new(line).auth(&token));
    let base = "/api/vault/databases/ledger";
    let made = send(&format!("POST {base}/backups"));
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().expect("a key").to_owned();
    assert!(key.starts_with("pb_backup_ledger_") && key.ends_with(".zip"), "{key}");
    let job = send("GET /api/vault/jobs").json()[0].clone();
    assert_eq!(job["complete"], json!(false), "{job}");
    let notes = job["notes"].to_string();
    assert!(notes.contains("missing: storage/pbc_notes/r1/b_1.txt"), "{notes}");
    let got = send(&format!("GET {base}/backups/{key}"));
    assert_eq!((got.status, &got.body[..2]), (200, &b"PK"[..]));
    assert!(!got.body.windows(18).any(|text| text == b"the-clear-password"), "logs stay out");
    let named = Request::new(&format!("POST {base}/backups")).auth(&token);
    let refused = server.send(&named.json(&json!({ "name": "a.dump" })));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(send(&format!("DELETE {base}/backups/{key}")).status, 204);
    assert_eq!(send(&format!("GET {base}/backups")).json(), json!([]));
}

#[test]
fn files_in_bosbase_s_own_bucket_are_not_missed_also_when_its_settings_are_encrypted() {
    let Some(world) = World::new() else { return };
    fs::remove_dir_all(world.data().join("storage")).expect("removed");
    // AES-256-GCM of {"s3":{"enabled":true}}, nonce in front, as BosBase stores it.
    let sealed = super::sealed("0123456789abcdef0123456789abcdef");
    world.sql(&format!("UPDATE _params SET value = '{sealed}' WHERE id = 'settings'"));
    let backup = |key: &str, secret: &str| {
        let mut command = world.place.command(&["backup", "ledger", key]);
        let done = command.env("BOSBASE_ENCRYPTION_KEY", secret).output().expect("the program");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        manifest(&world.zip(key))
    };
    let with = backup("with.zip", "0123456789abcdef0123456789abcdef");
    assert_eq!((&with["namedFiles"], &with["missingFiles"]), (&json!(0), &json!(0)));
    let without = backup("without.zip", "");
    assert_eq!((&without["namedFiles"], &without["missingFiles"]), (&json!(4), &json!(4)));
}
