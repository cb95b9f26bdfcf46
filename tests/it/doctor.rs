//! `pocketvault doctor`: every fault is made here, and found.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use pocketvault::backup::Key;
use pocketvault::clock::Clock;
use pocketvault::control::Control;
use pocketvault::data_dir::DataDir;
use pocketvault::restore::{self, Scope};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::cli::{good, home, run, run_with};
use crate::harness::Server;

/// What nobody can help who begins: no second disk, no rules, nobody who is told.
const BEGINNER: [&str; 3] = ["disk.same", "notify.none", "retention.none"];

/// What it finds with these words.
fn codes(at: &Path, more: &str) -> BTreeSet<String> {
    let line = format!("doctor --json --http 127.0.0.1:0{more}");
    let answer = run(at, &line);
    let found: Value = serde_json::from_str(&answer.out)
        .unwrap_or_else(|error| panic!("{error}: {line}: {answer:?}"));
    assert_eq!(answer.code, i32::from(found["faults"] != json!(0)), "{answer:?}");
    told(&found)
}

fn told(found: &Value) -> BTreeSet<String> {
    let text = |one: &Value, name: &str| one[name].as_str().expect("a text").to_owned();
    let findings = found["findings"].as_array().expect("a list");
    for one in findings {
        assert!(!text(one, "said").is_empty() && text(one, "hint").len() > 8, "{one}");
    }
    findings.iter().map(|one| text(one, "code")).collect()
}

/// Finds `code` with these words.
fn finds(at: &Path, more: &str, code: &str) {
    let found = codes(at, more);
    assert!(found.contains(code), "{code} is not in {found:?}");
}

fn sql(at: &Path, statements: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = SqliteConnectOptions::new().filename(at.join("pb_data/data.db"));
        let mut db = options.connect().await.expect("open");
        for statement in statements {
            let statement = sqlx::AssertSqlSafe((*statement).to_owned());
            sqlx::query(statement).execute(&mut db).await.expect("done");
        }
        db.close().await.expect("closed");
    });
}

/// Changes PocketBase's settings as a client does.
fn set(server: &Server, settings: &Value) {
    let token = server.login();
    let request = crate::raw::Request::new("PATCH /api/settings").auth(&token).json(settings);
    assert_eq!(server.send(&request).status, 200);
}

#[test]
fn a_sound_folder_has_no_fault_and_a_beginner_is_told_three_things() {
    let home = home();
    good(home.path(), "backup a.zip");
    let beginner: BTreeSet<String> = BEGINNER.map(str::to_owned).into();
    assert_eq!(codes(home.path(), ""), beginner);
    let said = run(home.path(), "doctor --http 127.0.0.1:0");
    assert!(said.code == 0 && said.out.ends_with("0 faults, 3 doubts\n"), "{said:?}");
    let toml = "[retention]\nlast = 3\n[[notify]]\nname = 'me'\ntype = 'webhook'\n\
                url = 'http://127.0.0.1:9/x'\n[[destination]]\nname = 'other'\ndir = 'other'\n";
    fs::write(home.path().join("pocketvault.toml"), toml).expect("written");
    let found = codes(home.path(), "");
    assert!(BEGINNER.iter().all(|code| !found.contains(*code)), "{found:?}");
}

#[test]
fn faults_of_the_folder_are_found() {
    let home = home();
    let at = home.path();
    finds(at, " --dir none", "folder.missing");
    finds(at, " --dir .", "folder.wrong");
    assert!(run(at, "doctor --dir .").out.contains("pb_data"), "where it is, is told");
    finds(at, "", "backup.none");
    good(at, "backup a.zip");

    let other = DataDir::new(at.join("other"), None);
    fs::create_dir_all(at.join("state")).expect("made");
    fs::write(at.join("state/folder"), format!("{}\n", other.root().display())).expect("written");
    finds(at, " --state state", "state.foreign");
    finds(at, " --beside", "state.inside");

    fs::write(at.join("pb_data/backups/b.zip.1.pocketvault-part"), "half").expect("written");
    finds(at, "", "backup.partial");
    let backup = File::options().write(true).open(at.join("pb_data/backups/a.zip"));
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    backup.expect("open").set_modified(tomorrow).expect("set");
    finds(at, "", "clock.skew");
}

#[test]
fn files_that_cannot_be_read_or_written_are_found() {
    let home = home();
    let at = home.path();
    let (storage, photo) = (at.join("pb_data/storage/c/r"), at.join("pb_data/storage/c/r/photo"));
    fs::create_dir_all(&storage).expect("made");
    fs::write(&photo, "x").expect("written");
    fs::set_permissions(&photo, PermissionsExt::from_mode(0o000)).expect("set");
    fs::set_permissions(at.join("pb_data/backups"), PermissionsExt::from_mode(0o555)).ok();
    fs::create_dir_all(at.join("pb_data/backups")).expect("made");
    fs::set_permissions(at.join("pb_data/backups"), PermissionsExt::from_mode(0o555)).expect("set");
    let words = ["doctor", "--json", "--http", "127.0.0.1:0"];
    let found = if rustix::process::geteuid().is_root() {
        // Nothing is denied to root: somebody else has to look.
        let program = at.join("program");
        fs::copy(env!("CARGO_BIN_EXE_pocketvault"), &program).expect("copied");
        fs::set_permissions(at, PermissionsExt::from_mode(0o755)).expect("set");
        chown(at.join("pb_data/data.db"), Some(1), Some(1)).expect("given away");
        let mut command = Command::new(program);
        let output = command.args(words).current_dir(at).uid(65_534).gid(65_534).output();
        serde_json::from_slice(&output.expect("run").stdout).expect("JSON")
    } else {
        run_with(at, &words, &[]).json()
    };
    let found = told(&found);
    assert!(found.contains("permissions.read"), "{found:?}");
    assert!(found.contains("permissions.write"), "{found:?}");
}

#[test]
fn a_restore_that_is_not_over_or_was_taken_back_is_found() {
    let home = home();
    let at = home.path();
    good(at, "backup a.zip");
    let (data, clock) = (DataDir::new(at.join("pb_data"), None), Clock::system());
    let (key, control) = (Key::existing("a.zip").expect("a key"), Control::default());
    let archive: PathBuf = at.join("pb_data/backups/a.zip");
    let staged = restore::stage(&data, &archive, &key, &Scope::All, &clock, &control);
    staged.expect("staged").commit().expect("committed");
    finds(at, "", "restore.pending");
    restore::cancel(&data, "somebody pulled the plug", &clock).expect("withdrawn");
    finds(at, "", "restore.rolledBack");
    assert!(run(at, "doctor").out.contains("pulled the plug"));
}

#[test]
fn faults_of_the_data_are_found() {
    let home = home();
    let at = home.path();
    good(at, "backup a.zip");
    sql(at, &["UPDATE _params SET value = 'c2VhbGVk' WHERE id = 'settings'"]);
    let no_row = "INSERT OR IGNORE INTO _params (id, value, created, updated) \
                  VALUES ('settings', 'c2VhbGVk', '', '')";
    sql(at, &[no_row]);
    finds(at, "", "encryption.key");
    sql(at, &["DELETE FROM _params WHERE id = 'settings'", "DELETE FROM _superusers"]);
    finds(at, "", "superuser.none");
    sql(at, &["DROP TABLE _superusers", "CREATE TABLE _admins (id TEXT)"]);
    finds(at, "", "schema.old");
    let path = at.join("pb_data/data.db");
    let mut bytes = fs::read(&path).expect("read");
    bytes[4_096..].fill(0x5a);
    fs::write(&path, bytes).expect("written");
    finds(at, "", "data.damaged");
}

#[test]
fn a_log_that_a_kill_left_is_found() {
    let server = Server::start_ours();
    let token = server.login();
    assert!(!token.is_empty());
    let data = server.data_dir();
    let server = server.killed();
    let log = data.join("data.db-wal");
    if fs::metadata(&log).map_or(0, |log| log.len()) == 0 {
        // The server had folded it in before it was killed.
        fs::write(&log, [0; 32]).expect("written");
    }
    finds(&data, " --dir .", "wal.unlocked");
    drop(server);
}

#[test]
fn faults_of_the_setup_are_found() {
    let home = home();
    let at = home.path();
    fs::write(at.join("bad.toml"), "htpp = 'x'").expect("written");
    finds(at, " --config bad.toml", "config.unusable");
    let secret = "[s3]\nbucket = 'b'\nendpoint = 'http://127.0.0.1:1'\naccess_key = 'a'\n\
                  secret_key = 's'\n";
    fs::write(at.join("open.toml"), secret).expect("written");
    fs::set_permissions(at.join("open.toml"), PermissionsExt::from_mode(0o644)).expect("set");
    let found = codes(at, " --config open.toml");
    assert!(found.contains("config.readable") && found.contains("storage.refused"), "{found:?}");
    finds(at, " -- ./no-such-pocketbase serve", "program.missing");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("an address").to_string();
    let answer = run_with(at, &["doctor", "--json", "--http", &address], &[]);
    assert!(answer.out.contains("address.taken"), "{answer:?}");
    fs::write(at.join("small.toml"), "[space]\nreserve = '4000TB'\nquota = '1KB'")
        .expect("written");
    good(at, "backup a.zip");
    let found = codes(at, " --config small.toml");
    assert!(found.contains("space.low") && found.contains("space.quota"), "{found:?}");
}

#[test]
fn a_store_that_refuses_our_key_is_found() {
    let store = crate::s3::S3Server::start();
    let home = home();
    let toml = format!(
        "[s3]\nbucket = '{}'\nendpoint = 'http://{}'\nregion = '{}'\npath_style = true\n\
         access_key = '{}'\nsecret_key = 'wrong'\n",
        crate::s3::BUCKET,
        store.address(),
        crate::s3::REGION,
        crate::s3::ACCESS_KEY
    );
    fs::write(home.path().join("pocketvault.toml"), &toml).expect("written");
    finds(home.path(), "", "storage.refused");
    let right = toml.replace("'wrong'", &format!("'{}'", crate::s3::SECRET));
    fs::write(home.path().join("pocketvault.toml"), right).expect("written");
    let found = codes(home.path(), "");
    assert!(!found.contains("storage.refused") && !found.contains("disk.same"), "{found:?}");
}

#[test]
fn backups_that_are_old_bad_or_never_proven_are_found() {
    let home = home();
    let at = home.path();
    fs::create_dir_all(at.join("pb_data/backups")).expect("made");
    good(at, "backup a.zip");
    let archive = at.join("pb_data/backups/a.zip");
    let mut bytes = fs::read(&archive).expect("read");
    fs::write(at.join("pb_data/backups/found.zip"), &bytes).expect("written");
    fs::remove_file(&archive).expect("removed");
    finds(at, "", "backup.unproven");
    let month_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
    let found = File::options().write(true).open(at.join("pb_data/backups/found.zip"));
    found.expect("open").set_modified(month_ago).expect("set");
    finds(at, "", "backup.old");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(at.join("pb_data/backups/rotten.zip"), &bytes).expect("written");
    assert_eq!(run(at, "verify rotten.zip").code, 7);
    finds(at, "", "backup.damaged");
}

#[test]
fn two_schedulers_and_files_elsewhere_are_found() {
    let mut server = Server::start_ours();
    let bucket = json!({"enabled": true, "bucket": "b", "region": "r", "accessKey": "a",
        "endpoint": "http://127.0.0.1:1", "secret": "s"});
    set(&server, &json!({"backups": {"cron": "0 0 * * *"}, "s3": bucket}));
    let data = server.data_dir();
    let served = codes(&data, " --dir .");
    assert!(!served.contains("schedule.two") && served.contains("files.inS3"), "{served:?}");
    let toml = "[[schedule]]\nname = 'nightly'\ncron = '0 3 * * *'\n";
    let file = data.join("../pocketvault.toml");
    fs::write(&file, toml).expect("written");
    finds(&data, " --dir . --config ../pocketvault.toml", "schedule.two");
    fs::remove_file(&file).expect("removed");
    assert_eq!(server.stop(Duration::from_secs(10)), Some(true));
}
