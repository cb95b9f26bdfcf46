//! The check of the databases, and what makes a backup not complete.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::files::Walk;
use super::super::root::Root;
use super::super::sqlite::raw::{Connection, Mode};
use super::super::{Reason, Report};
use super::support::{Folder, bank, check_alone, database, read, transfer};
use crate::backup::Items;
use crate::data_dir::DataDir;

const PAGE_BYTES: u32 = 4_096;

/// A database whose log is folded in and that nobody has open.
fn at_rest(path: &Path, journal: &str) {
    let bank = bank(path, PAGE_BYTES);
    for round in 1..40 {
        transfer(&bank, round);
    }
    bank.exec("PRAGMA wal_checkpoint(TRUNCATE)").expect("folded");
    assert_eq!(bank.text(&format!("PRAGMA journal_mode = {journal}")).expect("set"), journal);
}

/// Overwrites the first page of a table or of an index.
fn spoil(path: &Path, name: &str) {
    let sql = format!("SELECT rootpage FROM sqlite_master WHERE name = '{name}'");
    let page = database(path).integer(&sql).expect("read");
    assert!(page > 1);
    let offset = u64::try_from(page - 1).expect("a page") * u64::from(PAGE_BYTES);
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all_at(&[0xA5; PAGE_BYTES as usize], offset).expect("spoilt");
}

#[test]
fn whole_databases_make_a_complete_backup_and_spoilt_ones_are_archived_as_damaged() {
    for journal in ["wal", "delete"] {
        for spoilt in [None, Some("ballast"), Some("account_balance")] {
            let folder = Folder::new();
            for name in ["data.db", "auxiliary.db"] {
                at_rest(&folder.path(name), journal);
            }
            if let Some(table) = spoilt {
                spoil(&folder.path("auxiliary.db"), table);
            }
            let mut snapshot = folder.snapshot().expect("a snapshot");
            let report = snapshot.report();
            let archive = read(&mut snapshot);
            check_alone(&archive["data.db"]);
            let expected = std::fs::read(folder.path("auxiliary.db")).expect("read");
            assert_eq!(archive["auxiliary.db"].len(), expected.len(), "{journal} {spoilt:?}");
            let skipped = report.skipped();
            if spoilt.is_none() {
                assert!(report.is_complete() && !report.is_damaged(), "{skipped:?}");
                assert!(skipped.is_empty());
                continue;
            }
            assert!(!report.is_complete() && report.is_damaged(), "{journal} {spoilt:?}");
            assert_eq!(skipped.len(), 1);
            assert_eq!(skipped[0].path, b"auxiliary.db");
            assert!(matches!(&skipped[0].reason, Reason::Damaged(how) if !how.is_empty()));
        }
    }
}

#[test]
fn an_index_that_does_not_fit_its_table_is_damage() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    at_rest(&path, "wal");
    let writer = database(&path);
    for sql in [
        "CREATE TABLE one (value)",
        "CREATE INDEX one_value ON one (value)",
        "PRAGMA writable_schema = ON",
        // An index of another name takes the place of this one: rows are written past it.
        "UPDATE sqlite_master SET sql = 'CREATE INDEX one_value ON one (value) WHERE value > 9'
         WHERE name = 'one_value'",
        "PRAGMA writable_schema = RESET",
        "INSERT INTO one VALUES (1), (2)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE INDEX one_value ON one (value)'
         WHERE name = 'one_value'",
        "PRAGMA writable_schema = RESET",
    ] {
        writer.exec(sql).expect(sql);
    }
    let mut snapshot = folder.snapshot().expect("a snapshot");
    read(&mut snapshot);
    assert!(snapshot.report().is_damaged());
}

#[test]
fn the_check_sees_the_pinned_moment_and_goes_with_its_reader() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    let writer = bank(&path, PAGE_BYTES);
    writer.exec("PRAGMA busy_timeout = 1").expect("set");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let item = snapshot.next().expect("the next").expect("the database");
    for round in 1..40 {
        transfer(&writer, round);
    }
    assert_eq!(writer.integer("PRAGMA wal_checkpoint(TRUNCATE)").expect("run"), 1, "not pinned");
    // Neither unread nor read in part does it keep the moment.
    drop(item);
    assert_eq!(writer.integer("PRAGMA wal_checkpoint(TRUNCATE)").expect("run"), 0);
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let item = snapshot.next().expect("the next").expect("the database");
    let mut reader = item.content.open().expect("opened").expect("there");
    reader.read_exact(&mut [0; 100]).expect("read");
    drop(reader);
    assert_eq!(writer.integer("PRAGMA wal_checkpoint(TRUNCATE)").expect("run"), 0);
    assert!(snapshot.report().is_complete(), "a check that was stopped found damage");
}

#[test]
fn a_check_and_an_endless_statement_stop_when_asked() {
    let folder = Folder::new();
    let bank = bank(&folder.path("data.db"), 512);
    // Thousands of pages of a tree: the check asks for each thousand.
    bank.exec(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO ballast (bytes) SELECT zeroblob(400) FROM n",
    )
    .expect("filled");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) \
                   SELECT count(*) FROM n";
    for sql in ["PRAGMA integrity_check(1)", "PRAGMA quick_check(1)", endless] {
        let error = bank.text_until(sql, &|| true).expect_err(sql);
        assert!(error.full().contains("interrupted"), "{error:?}");
        assert_eq!(bank.text("PRAGMA integrity_check(1)").expect("not asked any more"), "ok");
    }
}

#[test]
fn a_connection_that_keeps_the_log_leaves_it_when_it_is_the_last_to_close() {
    let folder = Folder::new();
    let path = folder.path("data.db");
    drop(bank(&path, PAGE_BYTES));
    for keeps in [false, true] {
        let writer = Connection::open(&path, Mode::ReadWrite).expect("opened");
        if keeps {
            writer.keep_log().expect("kept");
        }
        transfer(&writer, 1);
        drop(writer);
        assert_eq!(folder.path("data.db-wal").exists(), keeps);
    }
}

#[test]
fn what_is_lost_makes_a_backup_not_complete_and_what_does_not_belong_does_not() {
    let unreadable = || Reason::Unreadable("Input/output error".to_owned());
    for (reason, complete) in [
        (Reason::Missing, false),
        (unreadable(), false),
        (Reason::Damaged("a page".to_owned()), false),
        (Reason::Outrun, true),
        (Reason::Symlink, true),
        (Reason::Special, true),
        (Reason::LiveDatabase, true),
        (Reason::PathTooLong, true),
    ] {
        let report = Report::new(&DataDir::new("/nowhere", None));
        report.skip_more(2_000, false);
        for n in 0..2_000 {
            report.skip(format!("fifo{n}").as_bytes(), Reason::Special);
        }
        assert!(report.is_complete());
        // Also when the list is full.
        report.skip(b"x", reason.clone());
        assert_eq!(report.is_complete(), complete, "{reason}");
        let named = report.skipped().iter().any(|skipped| skipped.path == b"x");
        assert_eq!(named, matches!(reason, Reason::Damaged(_)), "{reason}");
    }
    let report = Report::new(&DataDir::new("/nowhere", None));
    report.skip_more(1, true);
    assert!(!report.is_complete());
}

#[test]
fn what_restores_keep_inside_of_mounts_is_not_archived() {
    let folder = Folder::new();
    let kept = ["storage/.pocketvault/restore/old", "storage/c/.pocketvault/old"];
    let mine = ["storage/.pocketvaults/x", "storage/c/r/.pocketvault/x", "storage/c/r/a"];
    for name in kept.into_iter().chain(mine) {
        folder.write(name, b"x");
    }
    let walk = |mounts: &[&str]| {
        let report = Report::new(&DataDir::new(folder.root(), None));
        let mut root = Root::open(folder.root()).expect("opened");
        for path in mounts {
            root.mount(path.as_bytes());
        }
        let mut walk = Walk::new(Arc::new(root), report.clone(), |_| true).expect("a walk");
        let mut found = Vec::new();
        while let Some(file) = walk.next().expect("walked") {
            found.push(String::from_utf8_lossy(file.path.as_bytes()).into_owned());
        }
        assert!(report.is_complete());
        found.sort();
        found
    };
    let mut all: Vec<&str> = kept.into_iter().chain(mine).collect();
    all.sort_unstable();
    assert_eq!(walk(&[]), all);
    assert_eq!(walk(&["storage", "storage/c"]), mine);
}
