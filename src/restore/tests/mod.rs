//! What a staging refuses, what a restore does to whom, and what is kept.

mod partial;
mod planned;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chrono::TimeDelta;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};

use super::*;
use crate::backup::Key;
use crate::clock::Clock;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::error::{Error, Kind, Result};

fn clock() -> Clock {
    Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"))
}

fn options(size_bytes: u64) -> StageOptions {
    let key = Key::existing("a.zip").expect("a key");
    StageOptions { key, scope: Scope::All, size_bytes, now: clock().now() }
}

const SCHEMA: &str = "CREATE TABLE _params (id TEXT); CREATE TABLE _collections (id TEXT);
    CREATE TABLE _superusers (id TEXT, email TEXT, password TEXT);";
const SUPERUSER: &str = "INSERT INTO _superusers VALUES ('1', 'a@example.com', 'x');";

fn database(path: &Path, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let mut connection = options.connect().await.expect("opened");
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    });
}

/// A folder with old data, and one with new data as an archive would leave it.
fn folders() -> (tempfile::TempDir, DataDir, std::path::PathBuf) {
    let home = tempfile::tempdir().expect("a folder");
    let root = home.path().join("pb_data");
    fs::create_dir_all(root.join("storage")).expect("made");
    fs::write(root.join("data.db"), "old").expect("written");
    fs::write(root.join("storage/photo"), "old").expect("written");
    let new = home.path().join("new");
    fs::create_dir_all(new.join("storage")).expect("made");
    fs::write(new.join("storage/photo"), "new").expect("written");
    database(&new.join("data.db"), &format!("{SCHEMA}{SUPERUSER}"));
    let data = DataDir::new(root, None);
    (home, data, new)
}

fn stage_folder(data: &DataDir, new: &Path) -> Result<Staged> {
    stage_with(data, &options(1), &Control::default(), |into| {
        // The staged folder exists already, so its children are copied one by one.
        disk::names(new)?.iter().try_for_each(|n| disk::copy_tree(&new.join(n), &into.join(n)))
    })
}

fn restore(data: &DataDir, new: &Path) {
    stage_folder(data, new).expect("staged").commit().expect("committed");
    let recovery = recover(data, &clock()).expect("recovered");
    assert!(matches!(recovery, Recovery::Swapped { attempt: 1, .. }), "{recovery:?}");
    prove(data, &clock()).expect("proven");
}

fn photo(data: &DataDir) -> String {
    fs::read_to_string(data.root().join("storage/photo")).expect("read")
}

fn left_in_state(data: &DataDir) -> Vec<std::ffi::OsString> {
    empty_trash(data);
    disk::names(&data.restore()).expect("listed")
}

#[test]
fn data_that_would_not_serve_is_refused_and_leaves_nothing() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil); 11] = [
        ("has no data.db", |new| fs::remove_file(new.join("data.db")).expect("removed")),
        ("not a SQLite", |new| fs::write(new.join("data.db"), "garbage").expect("written")),
        ("not a SQLite", |new| fs::write(new.join("data.db"), "").expect("written")),
        ("not a regular file", |new| {
            fs::remove_file(new.join("data.db")).expect("removed");
            fs::create_dir(new.join("data.db")).expect("made");
        }),
        ("cannot be used", |new| {
            fs::write(new.join("data.db"), b"SQLite format 3\0 and then garbage").expect("written");
        }),
        ("damaged", |new| {
            database(&new.join("data.db"), "CREATE TABLE t (n); CREATE INDEX i ON t (n);");
            database(
                &new.join("data.db"),
                "INSERT INTO t VALUES (1); PRAGMA writable_schema = 1;
                DELETE FROM sqlite_schema WHERE name = 'i';",
            );
        }),
        ("no superuser", |new| database(&new.join("data.db"), "DELETE FROM _superusers")),
        ("no superuser", |new| {
            let sql = "UPDATE _superusers SET email = '__pbinstaller@example.com'";
            database(&new.join("data.db"), sql);
        }),
        ("no _superusers table", |new| database(&new.join("data.db"), "DROP TABLE _superusers")),
        ("rollback journal", |new| {
            fs::write(new.join("data.db-journal"), "x").expect("written");
        }),
        ("auxiliary.db is not a SQLite", |new| {
            fs::write(new.join("auxiliary.db"), "x").expect("written");
        }),
    ];
    for (expected, spoil) in table {
        let (_home, data, new) = folders();
        spoil(&new);
        let error = stage_folder(&data, &new).expect_err(expected);
        assert_eq!(error.kind(), &Kind::Corrupt, "{error:?}");
        assert!(error.message().contains(expected), "{expected:?}: {error:?}");
        assert_eq!(photo(&data), "old");
        assert!(left_in_state(&data).is_empty(), "{expected}");
    }
}

#[test]
fn a_staged_link_in_the_place_of_the_database_is_refused() {
    let (home, data, new) = folders();
    let elsewhere = home.path().join("elsewhere.db");
    fs::copy(new.join("data.db"), &elsewhere).expect("copied");
    let error = stage_with(&data, &options(1), &Control::default(), |into| {
        symlink(&elsewhere, into.join("data.db")).map_err(|e| Error::internal(e.to_string()))
    });
    assert!(error.expect_err("refused").message().contains("not a regular file"));
}

#[test]
fn an_unpacking_that_fails_or_is_cancelled_leaves_nothing() {
    let (_home, data, new) = folders();
    let failing = stage_with(&data, &options(1), &Control::default(), |into| {
        fs::write(into.join("half"), "x").expect("written");
        Err(Error::new(Kind::Corrupt, "a bad checksum"))
    });
    assert_eq!(failing.expect_err("failed").message(), "a bad checksum");
    let control = Control::default();
    let cancelled = stage_with(&data, &options(1), &control, |into| {
        control.cancel();
        disk::copy_tree(&new.join("storage"), &into.join("storage"))
    });
    assert_eq!(cancelled.expect_err("cancelled").kind(), &Kind::Cancelled);
    drop(stage_folder(&data, &new).expect("staged, and then thought better of"));
    assert!(left_in_state(&data).is_empty());
    assert_eq!(status(&data).expect("read"), None);
}

#[test]
fn a_restore_that_cannot_fit_is_refused_first() {
    let (_home, data, _new) = folders();
    let staged = stage_with(&data, &options(u64::MAX), &Control::default(), |_| {
        panic!("nothing may be unpacked")
    });
    assert_eq!(staged.expect_err("refused").kind(), &Kind::NoSpace);
}

#[test]
fn only_one_restore_waits_for_its_restart_and_it_can_be_withdrawn() {
    let (_home, data, new) = folders();
    stage_folder(&data, &new).expect("staged").commit().expect("committed");
    assert_eq!(stage_folder(&data, &new).expect_err("busy").kind(), &Kind::Busy);
    assert_eq!(undo(&data, &clock()).expect_err("busy").kind(), &Kind::Busy);
    let cancelled = cancel(&data, "no exec", &clock()).expect("cancelled");
    assert!(matches!(cancelled, Recovery::RolledBack { .. }));
    assert_eq!(recover(&data, &clock()).expect("booted"), Recovery::Nothing { swept: 0 });
    assert_eq!(photo(&data), "old");
    restore(&data, &new);
    assert_eq!(photo(&data), "new");
}

#[test]
fn an_undo_brings_back_the_data_and_can_be_undone() {
    let (_home, data, new) = folders();
    assert_eq!(undo(&data, &clock()).expect_err("nothing").kind(), &Kind::NotFound);
    restore(&data, &new);
    for expected in ["old", "new", "old"] {
        undo(&data, &clock()).expect("noted");
        let recovery = recover(&data, &clock()).expect("swapped");
        assert!(matches!(recovery, Recovery::Swapped { .. }), "{recovery:?}");
        prove(&data, &clock()).expect("proven");
        assert_eq!(photo(&data), expected);
    }
    // The journal and the one folder of what an undo would bring back.
    assert_eq!(left_in_state(&data).len(), 2);
}

#[test]
fn an_undo_without_its_data_is_refused_and_takes_nothing_away() {
    for gone in ["", "old", "old/data.db", "old/storage"] {
        let (_home, data, new) = folders();
        restore(&data, &new);
        let bay = disk::names(&data.restore()).expect("listed");
        let bay = bay.iter().find(|name| *name != "journal").expect("what is kept");
        disk::remove_tree(&data.restore().join(bay).join(gone)).expect("removed");
        let error = undo(&data, &clock()).expect_err("refused");
        assert_eq!(error.kind(), &Kind::Unavailable, "{gone}: {error:?}");
        assert!(status(&data).expect("read").expect("one").phase.is_final(), "{gone}");
        assert_eq!(photo(&data), "new");
    }
}

#[test]
fn an_attempt_that_was_cut_short_by_us_does_not_count() {
    let (_home, data, new) = folders();
    forget_attempt(&data).expect("nothing to do");
    stage_folder(&data, &new).expect("staged").commit().expect("committed");
    for _ in 0..2 * ATTEMPTS_MAX {
        let recovery = recover(&data, &clock()).expect("recovered");
        assert!(matches!(recovery, Recovery::Swapped { attempt: 1, .. }), "{recovery:?}");
        forget_attempt(&data).expect("noted");
    }
    prove(&data, &clock()).expect("proven");
    forget_attempt(&data).expect("nothing to do");
    assert_eq!(status(&data).expect("read").expect("one").phase, Phase::Proven);
}

#[test]
fn a_rolled_back_restore_keeps_the_undo_of_the_one_before() {
    let (_home, data, new) = folders();
    restore(&data, &new);
    fs::write(new.join("storage/photo"), "newer").expect("written");
    stage_folder(&data, &new).expect("staged").commit().expect("committed");
    recover(&data, &clock()).expect("swapped");
    assert_eq!(photo(&data), "newer");
    let rolled = roll_back(&data, "no such column", &clock()).expect("rolled back");
    assert!(matches!(rolled, Recovery::RolledBack { reason, .. } if reason == "no such column"));
    assert_eq!(photo(&data), "new");
    undo(&data, &clock()).expect("noted");
    recover(&data, &clock()).expect("swapped");
    assert_eq!(photo(&data), "old");
}

#[test]
fn what_is_kept_is_removed_by_the_next_restore_or_by_age() {
    let (_home, data, new) = folders();
    restore(&data, &new);
    let first = left_in_state(&data);
    restore(&data, &new);
    assert_eq!(left_in_state(&data).len(), 2);
    assert_ne!(left_in_state(&data), first, "the older one made room");
    let clock = clock();
    assert!(!prune_old(&data, TimeDelta::days(7), &clock).expect("looked"));
    clock.advance(TimeDelta::days(7));
    assert!(prune_old(&data, TimeDelta::days(7), &clock).expect("pruned"));
    assert_eq!(left_in_state(&data), ["journal"]);
    assert_eq!(undo(&data, &clock).expect_err("nothing").kind(), &Kind::NotFound);
}

#[test]
fn what_somebody_put_there_in_the_middle_of_a_swap_is_set_aside() {
    let (_home, data, new) = folders();
    let id = {
        let staged = stage_folder(&data, &new).expect("staged");
        let id = staged.id().to_owned();
        staged.commit().expect("committed");
        id
    };
    // As after a crash between the two halves of the swap ...
    let mut journal = journal::Journal::load(&data).expect("read").expect("one");
    let old = data.restore().join(&id).join("old");
    fs::create_dir(&old).expect("made");
    for name in ["data.db", "storage"] {
        fs::rename(data.root().join(name), old.join(name)).expect("moved");
        journal.places[0].outgoing.push(journal::Name(name.into()));
    }
    journal.enter(&data, Phase::MovingIn).expect("noted");
    // ... when another server was started on the empty folder.
    for name in ["data.db", "data.db-wal", "stranger"] {
        fs::write(data.root().join(name), "intruder").expect("written");
    }
    recover(&data, &clock()).expect("recovered");
    prove(&data, &clock()).expect("proven");
    assert_eq!(photo(&data), "new");
    assert!(!data.root().join("data.db-wal").exists());
    let stray = data.restore().join(&id).join("stray");
    assert_eq!(disk::names(&stray).expect("listed"), ["data.db", "data.db-wal", "stranger"]);
}

#[test]
fn a_folder_in_the_middle_of_a_swap_is_not_started_with_another_state_folder() {
    let (home, data, new) = folders();
    restore(&data, &new);
    fs::remove_file(data.data_db()).expect("removed");
    let elsewhere = DataDir::new(data.root(), Some(home.path().join("state")));
    let error = recover(&elsewhere, &clock()).expect_err("refused");
    assert!(error.message().contains("interrupted"), "{error:?}");
}

#[test]
fn a_damaged_journal_stops_the_start() {
    let (_home, data, new) = folders();
    restore(&data, &new);
    fs::write(data.restore().join("journal"), "{}\n").expect("written");
    assert_eq!(recover(&data, &clock()).expect_err("refused").kind(), &Kind::Corrupt);
}

/// The folder as a zip of stored entries.
fn zipped(folder: &Path) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in ["data.db", "storage/photo", "backups/hidden.zip", ".pocketvault/restore/journal"] {
        let bytes = fs::read(folder.join(name)).unwrap_or_else(|_| b"not wanted".to_vec());
        zip.start_file(name, options).expect("begun");
        zip.write_all(&bytes).expect("written");
    }
    zip.finish().expect("finished").into_inner()
}

#[test]
fn an_archive_replaces_the_data_and_nothing_that_is_not_data() {
    let (home, data, new) = folders();
    let archive = home.path().join("a.zip");
    fs::write(&archive, zipped(&new)).expect("written");
    fs::create_dir(data.backups()).expect("made");
    let key = Key::existing("a.zip").expect("a key");
    let staged =
        stage(&data, &archive, &key, &Scope::All, &clock(), &Control::default()).expect("staged");
    let expected = Report { superusers: 1, foreign_key_violations: 0, has_auxiliary: false };
    assert_eq!(staged.report(), expected);
    staged.commit().expect("committed");
    recover(&data, &clock()).expect("swapped");
    prove(&data, &clock()).expect("proven");
    assert_eq!(photo(&data), "new");
    assert_eq!(fs::read_dir(data.backups()).expect("listed").count(), 0);
    assert_eq!(status(&data).expect("read").expect("one").subject.key, "a.zip");
}

#[test]
fn a_cut_or_flipped_archive_never_reaches_the_data() {
    let (home, data, new) = folders();
    let whole = zipped(&new);
    let archive = home.path().join("a.zip");
    let key = Key::existing("a.zip").expect("a key");
    let mut refused = 0;
    let mut attempt = |bytes: &[u8], what: &str| {
        fs::write(&archive, bytes).expect("written");
        match stage(&data, &archive, &key, &Scope::All, &clock(), &Control::default()) {
            Err(error) => {
                assert_eq!(error.kind(), &Kind::Corrupt, "{what}: {error:?}");
                refused += 1;
            }
            // A bit that says nothing about the content (a time, a version) may pass.
            Ok(staged) => assert_eq!(staged.report().superusers, 1, "{what}"),
        }
        assert_eq!(photo(&data), "old", "{what}");
        assert!(left_in_state(&data).is_empty(), "{what}");
    };
    for percent in 0..100 {
        attempt(&whole[..whole.len() * percent / 100], &format!("cut at {percent} %"));
    }
    for at in (0..whole.len()).step_by(whole.len() / 100) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        attempt(&bytes, &format!("bit flipped at {at}"));
    }
    assert!(refused > 190, "only {refused} were refused");
}
