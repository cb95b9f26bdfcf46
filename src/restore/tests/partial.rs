//! Restores of a part: what they replace, and what they must not touch.

use std::fs;
use std::path::Path;

use super::{clock, database, disk, folders, left_in_state};
use crate::backup::Key;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::error::{Kind, Result};
use crate::restore::{
    Recovery, Scope, StageOptions, Staged, prove, recover, roll_back, stage_with, status, undo,
};

fn options(scope: &str) -> StageOptions {
    let key = Key::existing("a.zip").expect("a key");
    let scope = Scope::parse(scope).expect("a scope");
    StageOptions { key, scope, size_bytes: 1, now: clock().now() }
}

/// Stages what `scope` takes of the folder `new`, as an extraction would.
fn stage_part(data: &DataDir, new: &Path, scope: &str) -> Result<Staged> {
    let options = options(scope);
    let scope = options.scope.clone();
    stage_with(data, &options, &Control::default(), |into| {
        for path in ["data.db", "storage/photo", "storage/sub/deep", "extra"] {
            let (from, to) = (new.join(path), into.join(path));
            if scope.takes(path.as_bytes()) && disk::exists(&from)? {
                disk::create_dir(to.parent().expect("a parent"))?;
                disk::copy_tree(&from, &to)?;
            }
        }
        Ok(())
    })
}

fn swap(data: &DataDir) {
    let recovery = recover(data, &clock()).expect("recovered");
    assert!(matches!(recovery, Recovery::Swapped { .. }), "{recovery:?}");
}

/// What each file holds: `o`ld, `n`ew, or `-` when it is not there. The database counts as old
/// while it is no database.
fn look(data: &DataDir) -> String {
    ["data.db", "storage/photo", "storage/sub/deep", "storage/other", "extra"]
        .map(|path| match fs::read(data.root().join(path)) {
            Ok(bytes) if bytes.starts_with(b"old") => 'o',
            Ok(_) => 'n',
            Err(_) => '-',
        })
        .iter()
        .collect()
}

#[test]
fn a_part_replaces_what_it_names_and_an_undo_takes_it_back() {
    for (scope, after) in [
        ("databases", "nooo-"),
        ("files", "onn-n"),
        ("storage", "onn--"),
        ("storage/photo", "onoo-"),
        ("storage/sub", "oono-"),
        ("storage/sub/deep", "oono-"),
        ("extra", "oooon"),
    ] {
        let (_home, data, new) = folders();
        fs::create_dir_all(data.root().join("storage/sub")).expect("made");
        fs::create_dir_all(new.join("storage/sub")).expect("made");
        fs::write(data.root().join("storage/sub/deep"), "old").expect("written");
        fs::write(data.root().join("storage/other"), "old").expect("written");
        fs::write(new.join("storage/sub/deep"), "new").expect("written");
        fs::write(new.join("extra"), "new").expect("written");
        assert_eq!(look(&data), "oooo-");
        stage_part(&data, &new, scope).expect(scope).commit().expect("committed");
        swap(&data);
        assert_eq!(look(&data), after, "{scope}");
        roll_back(&data, "it did not open", &clock()).expect("rolled back");
        assert_eq!(look(&data), "oooo-", "{scope}");
        stage_part(&data, &new, scope).expect(scope).commit().expect("committed");
        swap(&data);
        prove(&data, &clock()).expect("proven");
        let known = status(&data).expect("read").expect("one");
        assert_eq!(known.undo.expect("an undo").scope.to_string(), scope);
        for expected in ["oooo-", after, "oooo-"] {
            undo(&data, &clock()).expect("noted");
            swap(&data);
            prove(&data, &clock()).expect("proven");
            assert_eq!(look(&data), expected, "{scope}");
        }
        assert_eq!(left_in_state(&data).len(), 2, "{scope}");
    }
}

#[test]
fn a_path_whose_folder_is_gone_gets_it_again() {
    let (_home, data, new) = folders();
    fs::create_dir_all(new.join("storage/sub")).expect("made");
    fs::write(new.join("storage/sub/deep"), "new").expect("written");
    stage_part(&data, &new, "storage/sub/deep").expect("staged").commit().expect("committed");
    swap(&data);
    prove(&data, &clock()).expect("proven");
    assert_eq!(fs::read(data.root().join("storage/sub/deep")).expect("read"), b"new");
    undo(&data, &clock()).expect("noted");
    swap(&data);
    assert!(!data.root().join("storage/sub/deep").exists());
}

#[test]
fn a_part_that_is_not_in_the_archive_is_refused() {
    let (_home, data, new) = folders();
    for scope in ["storage/none", "extra"] {
        let error = stage_part(&data, &new, scope).expect_err(scope);
        assert_eq!(error.kind(), &Kind::Corrupt, "{error:?}");
    }
    fs::remove_file(new.join("data.db")).expect("removed");
    assert!(stage_part(&data, &new, "databases").is_err());
    // Files may be restored from an archive whose database would not serve.
    database(&new.join("data.db"), "CREATE TABLE t (id TEXT)");
    stage_part(&data, &new, "files").expect("staged");
    fs::write(data.root().join("storage/sub"), "a file").expect("written");
    let error = stage_part(&data, &new, "storage/sub/deep").expect_err("below a file");
    assert_eq!(error.kind(), &Kind::Unavailable, "{error:?}");
    assert!(left_in_state(&data).is_empty());
}
