//! The ways of a pinned database, one by one, each against an exact expectation.

use std::io::Read;
use std::path::Path;

use super::super::sqlite::raw::Connection;
use super::super::sqlite::{Database, Pinned};
use super::support::{Folder, bank, check_alone, database, transfer};
use crate::control::Control;
use crate::error::Kind;

fn pin(path: &Path) -> Pinned {
    Database::open(path).expect("opened").expect("there").pin().expect("pinned")
}

fn content(pinned: Pinned, folder: &Folder) -> Vec<u8> {
    let staging = folder.path("staging");
    let (content, size) = pinned
        .into_content(&staging, &Control::default(), Box::new(|how| panic!("{how}")))
        .expect("content");
    let mut bytes = Vec::new();
    let mut reader = content.open().expect("opened").expect("there");
    // Reads of every shape: less than a page, more than one, more than a block.
    for length in [1, 100, 3_000, 70_000, 1 << 20].into_iter().cycle() {
        let mut part = vec![0; length];
        let read = reader.read(&mut part).expect("read");
        bytes.extend_from_slice(&part[..read]);
        if read == 0 {
            break;
        }
    }
    drop(reader);
    assert_eq!(bytes.len() as u64, size);
    if let Ok(left) = std::fs::read_dir(staging) {
        assert_eq!(left.count(), 0, "a copy was left behind");
    }
    bytes
}

/// All rows of the accounts, as one text.
fn accounts(database: &Connection) -> String {
    let sql = "SELECT group_concat(id || ':' || balance || note) FROM account";
    database.text(sql).expect("read")
}

fn accounts_alone(bytes: &[u8]) -> String {
    let folder = Folder::new();
    folder.write("alone.db", bytes);
    accounts(&database(&folder.path("alone.db")))
}

#[test]
fn every_page_size_is_read_with_and_without_frames_of_the_log() {
    for page_size in [512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536] {
        let folder = Folder::new();
        let path = folder.path("data.db");
        let writer = bank(&path, page_size);
        assert_eq!(writer.integer("PRAGMA page_size").expect("read"), i64::from(page_size));
        for round in 1..30 {
            transfer(&writer, round);
        }
        let expected = accounts(&writer);
        check_alone(&content(pin(&path), &folder));
        assert_eq!(accounts_alone(&content(pin(&path), &folder)), expected, "{page_size}");
        assert_eq!(accounts_alone(&content(pin(&path).copied(), &folder)), expected);
        writer.exec("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpointed");
        assert_eq!(accounts_alone(&content(pin(&path), &folder)), expected, "{page_size}");
        transfer(&writer, 31);
        check_alone(&content(pin(&path), &folder));
    }
}

#[test]
fn a_pin_keeps_its_moment_while_the_log_grows_restarts_and_shrinks() {
    // Fully checkpointed at the pin (lock 0), partly (frames of the log), and not at all.
    for checkpointed in [true, false] {
        let folder = Folder::new();
        let path = folder.path("data.db");
        let writer = bank(&path, 4_096);
        writer.exec("PRAGMA busy_timeout = 1").expect("set");
        for round in 1..20 {
            transfer(&writer, round);
        }
        if checkpointed {
            writer.exec("PRAGMA wal_checkpoint(RESTART)").expect("checkpointed");
        } else {
            writer.exec("PRAGMA wal_checkpoint(PASSIVE)").expect("checkpointed");
            transfer(&writer, 20);
        }
        let expected = accounts(&writer);
        let pinned = pin(&path);
        for round in 1..200 {
            transfer(&writer, round);
            if round % 20 == 0 {
                for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
                    let _ = writer.exec(&format!("PRAGMA wal_checkpoint({mode})"));
                }
            }
        }
        assert_ne!(accounts(&writer), expected);
        assert_eq!(accounts_alone(&content(pinned, &folder)), expected, "{checkpointed}");
        // The pin is gone: the log can be emptied again.
        assert_eq!(writer.integer("PRAGMA wal_checkpoint(TRUNCATE)").expect("run"), 0);
    }
}

#[test]
fn commits_that_fall_into_the_pin_are_noticed() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    let writer = bank(&path, 4_096);
    let database = Database::open(&path).expect("opened").expect("there");
    let mut calls = 0;
    // Before and after the transaction began, with and without a restart of the log.
    let pinned = database.pin_around(&mut || {
        calls += 1;
        if [1, 4, 5, 8].contains(&calls) {
            transfer(&writer, calls);
        }
        if calls == 5 {
            // Nobody holds a mark between two tries.
            assert_eq!(writer.integer("PRAGMA wal_checkpoint(TRUNCATE)").expect("run"), 0);
        }
    });
    let pinned = pinned.expect("pinned");
    // Tries: calls 1+2, 3+4, 5+6, 7+8; the fifth saw no commit.
    assert_eq!(calls, 10);
    let expected = accounts(&writer);
    transfer(&writer, 11);
    assert_eq!(accounts_alone(&content(pinned, &folder)), expected);
}

#[test]
fn a_database_that_shrinks_and_one_with_auto_vacuum_are_whole() {
    for auto_vacuum in ["NONE", "FULL", "INCREMENTAL"] {
        let folder = Folder::new();
        let path = folder.path("data.db");
        database(&path).exec(&format!("PRAGMA auto_vacuum = {auto_vacuum}")).expect("set");
        let writer = database(&path);
        writer.exec(&format!("PRAGMA auto_vacuum = {auto_vacuum}")).expect("set");
        drop(writer);
        let writer = bank(&path, 1_024);
        for round in 1..49 {
            transfer(&writer, round);
        }
        writer.exec("PRAGMA wal_checkpoint(PASSIVE)").expect("checkpointed");
        let large = content(pin(&path), &folder).len();
        for sql in ["DELETE FROM ballast", "PRAGMA incremental_vacuum", "VACUUM"] {
            writer.exec(sql).expect(sql);
            check_alone(&content(pin(&path), &folder));
        }
        assert!(content(pin(&path), &folder).len() < large);
    }
}

#[test]
fn a_rollback_journal_database_is_copied_and_writers_go_on_after_that() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    let writer = bank(&path, 4_096);
    assert_eq!(writer.text("PRAGMA journal_mode = DELETE").expect("set"), "delete");
    transfer(&writer, 1);
    let pinned = pin(&path);
    let (content, _) = pinned
        .into_content(&folder.path("staging"), &Control::default(), Box::new(|how| panic!("{how}")))
        .expect("the copy");
    // Would wait ten seconds and fail if the read transaction were still held.
    transfer(&writer, 2);
    let mut bytes = Vec::new();
    content.open().expect("opened").expect("there").read_to_end(&mut bytes).expect("read");
    check_alone(&bytes);
    assert_eq!(std::fs::read_dir(folder.path("staging")).expect("listed").count(), 0);
}

#[test]
fn nothing_no_bytes_garbage_and_other_kinds_of_files_are_told_apart() {
    let folder = Folder::new();
    assert!(Database::open(&folder.path("missing.db")).expect("no error").is_none());
    folder.write("empty.db", b"");
    assert_eq!(content(pin(&folder.path("empty.db")), &folder), b"");
    folder.write("short.db", b"garbage");
    folder.write("long.db", &[0xA5; 100_000]);
    std::fs::create_dir(folder.path("folder.db")).expect("made");
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("fifo.db"), rustix::fs::Mode::RUSR)
        .expect("made");
    for name in ["short.db", "long.db", "folder.db", "fifo.db"] {
        let error = Database::open(&folder.path(name)).expect_err(name);
        assert_eq!(error.kind(), &Kind::Corrupt, "{name}: {error:?}");
        assert!(error.full().contains("hint"), "{error:?}");
    }
}

#[test]
fn a_log_that_a_crash_left_is_part_of_the_snapshot_and_stays() {
    let live = Folder::new();
    let writer = bank(&live.path("data.db"), 4_096);
    writer.exec("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpointed");
    transfer(&writer, 3);
    let expected = accounts(&writer);
    // What a kill leaves: database and log, no shared memory. Copied while nothing writes.
    let dead = Folder::new();
    for name in ["data.db", "data.db-wal"] {
        dead.write(name, &std::fs::read(live.path(name)).expect("read"));
    }
    let log = std::fs::metadata(dead.path("data.db-wal")).expect("there").len();
    assert_eq!(accounts_alone(&dead.archive()["data.db"]), expected);
    let after = std::fs::metadata(dead.path("data.db-wal")).expect("still there").len();
    assert_eq!(after, log, "a read-only backup changed the log");
}

#[test]
fn a_locked_database_is_unavailable_not_corrupt() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    let owner = bank(&path, 4_096);
    owner.exec("PRAGMA journal_mode = DELETE").expect("set");
    owner.exec("BEGIN EXCLUSIVE").expect("locked");
    let error = Database::open(&path).expect_err("locked");
    assert_eq!(error.kind(), &Kind::Unavailable, "{error:?}");
}
