//! Plans: what they count, and that they refuse what cannot work.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{SCHEMA, SUPERUSER, clock, database, folders, left_in_state};
use crate::backup::Key;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::restore::{Plan, PlanOptions, RowLoss, Scope, Sort, plan, stage};

const POSTS: &str = "CREATE TABLE posts (id TEXT PRIMARY KEY, updated TEXT);
    CREATE TABLE _migrations (file TEXT, applied INTEGER);";

/// An archive of stored entries.
fn archive(home: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = home.join("a.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).expect("made"));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("begun");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("finished");
    path
}

fn planned(data: &DataDir, archive: &Path, scope: &str, deep: bool) -> Plan {
    let key = Key::existing("a.zip").expect("a key");
    let options = PlanOptions { scope: Scope::parse(scope).expect("a scope"), deep };
    plan(data, archive, &key, &options, &Control::default()).expect("a plan")
}

#[test]
fn a_deep_plan_counts_what_would_be_lost() {
    let (home, data, new) = folders();
    let common = "INSERT INTO _migrations VALUES ('1_init.go', 1);
        INSERT INTO posts VALUES ('a', '2026-01-01'), ('b', '2026-01-01');";
    fs::remove_file(data.data_db()).expect("removed");
    let schema = SCHEMA.replace("_collections (id TEXT)", "_collections (name TEXT, type TEXT)");
    let collections =
        "INSERT INTO _collections VALUES ('posts', 'base'), ('notes', 'base'), ('a_view', 'view');";
    let live = format!(
        "{schema}{SUPERUSER}{POSTS}{common}{collections}
        CREATE TABLE notes (id TEXT); INSERT INTO notes VALUES ('n');
        INSERT INTO _migrations VALUES ('3_mine.js', 3);
        INSERT INTO posts VALUES ('c', '2026-02-02');
        UPDATE posts SET updated = '2026-02-02' WHERE id = 'b';"
    );
    database(&data.data_db(), &live);
    fs::remove_file(new.join("data.db")).expect("removed");
    let theirs = format!(
        "{schema}{SUPERUSER}{POSTS}{common}
        INSERT INTO _migrations VALUES ('2_theirs.js', 2);"
    );
    database(&new.join("data.db"), &theirs);
    fs::write(data.root().join("storage/later"), "12345").expect("written");
    fs::create_dir(data.backups()).expect("made");
    fs::write(data.backups().join("b.zip"), "not counted").expect("written");
    let bytes = fs::read(new.join("data.db")).expect("read");
    let archive = archive(home.path(), &[("data.db", &bytes), ("storage/photo", b"another")]);
    let plan = planned(&data, &archive, "all", true);
    assert_eq!(plan.refused, None);
    assert_eq!(plan.contents.sort, Sort::PocketBase);
    assert_eq!(plan.contents.files, 2);
    assert!(plan.parts[0].fits && plan.parts[0].needed_bytes > 0, "{plan:?}");
    let migrations = plan.migrations.clone().expect("looked");
    assert_eq!(migrations.only_in_archive, ["2_theirs.js"]);
    assert_eq!(migrations.only_present, ["3_mine.js"]);
    let loss = plan.loss.clone().expect("looked");
    assert!(loss.complete, "{plan}");
    assert_eq!((loss.files, loss.bytes, loss.files_changed), (1, 5, 1));
    assert_eq!(loss.examples, ["storage/later"]);
    let rows = |name: &str, rows, rows_in_archive, lost, changed| RowLoss {
        name: name.to_owned(),
        rows,
        rows_in_archive,
        lost,
        changed,
    };
    assert_eq!(loss.collections, [rows("notes", 1, None, 1, 0), rows("posts", 3, Some(2), 1, 1)]);
    // It looked, and left nothing.
    assert!(left_in_state(&data).is_empty());
    assert_eq!(fs::read_dir(data.staging()).map_or(0, Iterator::count), 0);
    assert!(plan.to_string().contains("posts: 1 of 3 rows, 1 older"), "{plan}");
}

#[test]
fn a_quick_plan_refuses_what_the_directory_shows() {
    let (home, data, new) = folders();
    let good = fs::read(new.join("data.db")).expect("read");
    let good = good.as_slice();
    type Rows<'a> = Vec<(&'a str, Vec<(&'a str, &'a [u8])>, &'a str)>;
    let rows: Rows<'_> = vec![
        ("all", vec![("data.db", good)], ""),
        ("all", vec![], "has no data.db"),
        ("all", vec![("storage/x", b"x")], "has no data.db"),
        ("files", vec![("storage/x", b"x")], ""),
        ("databases", vec![("storage/x", b"x")], "holds nothing of databases"),
        ("storage/y", vec![("storage/x", b"x")], "holds nothing of storage/y"),
        ("all", vec![("data.db", b"")], "is not a SQLite database"),
        ("all", vec![("data.db", b"hello, this is no database")], "is not a SQLite database"),
        ("all", vec![("data.db", good), ("auxiliary.db", b"x")], "auxiliary.db is not"),
        ("all", vec![("data.db", good), ("data.db-journal", b"x")], "rollback journal"),
        ("all", vec![("data.db", good), ("../x", b"x")], "invalid file path"),
        ("all", vec![("data.db", good), ("storage", b"x"), ("storage/x", b"x")], "at once"),
    ];
    for (scope, entries, reason) in rows {
        let archive = archive(home.path(), &entries);
        let refused = planned(&data, &archive, scope, false).refused.unwrap_or_default();
        assert!(refused.contains(reason) && refused.is_empty() == reason.is_empty(), "{refused}");
        // What the plan refuses, the restore would have refused, too.
        let (key, parsed) = (Key::existing("a.zip").expect("a key"), Scope::parse(scope));
        let parsed = parsed.expect("a scope");
        let staged = stage(&data, &archive, &key, &parsed, &clock(), &Control::default());
        assert_eq!(staged.is_err(), !reason.is_empty(), "{scope} {reason}: {staged:?}");
    }
    fs::write(home.path().join("a.zip"), "no zip").expect("written");
    let plan = planned(&data, &home.path().join("a.zip"), "all", true);
    assert!(plan.refused.expect("refused").contains("not a usable zip"));
}

#[test]
fn a_deep_plan_looks_into_the_database() {
    let (home, data, new) = folders();
    for (sql, reason) in [
        ("DELETE FROM _superusers", "no superuser"),
        ("DROP TABLE _collections", "no _collections table"),
    ] {
        fs::remove_file(new.join("data.db")).expect("removed");
        database(&new.join("data.db"), &format!("{SCHEMA}{SUPERUSER}{sql}"));
        let bytes = fs::read(new.join("data.db")).expect("read");
        let archive = archive(home.path(), &[("data.db", &bytes)]);
        assert_eq!(planned(&data, &archive, "all", false).refused, None);
        let refused = planned(&data, &archive, "all", true).refused.expect("refused");
        assert!(refused.contains(reason), "{refused}");
    }
}

#[test]
fn a_restore_that_waits_refuses_the_next_plan() {
    let (home, data, new) = folders();
    super::stage_folder(&data, &new).expect("staged").commit().expect("committed");
    let bytes = fs::read(new.join("data.db")).expect("read");
    let archive = archive(home.path(), &[("data.db", &bytes)]);
    let refused = planned(&data, &archive, "all", false).refused.expect("refused");
    assert!(refused.contains("is waiting for its restart"), "{refused}");
}
