//! The walk: order, exclusions, and things that are no plain files.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use proptest::prelude::{Strategy, prop, proptest};

use super::super::files::Walk;
use super::super::root::Root;
use super::super::{Access, Reason, Report, Skipped};
use super::support::{Folder, aloud, bank, read, read_in_order};
use crate::backup::Items;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::error::Kind;

#[test]
fn storage_comes_first_then_the_databases_then_the_rest_each_in_byte_order() {
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    drop(bank(&folder.path("auxiliary.db"), 4_096));
    for name in [
        "types.d.ts",
        "storage/c/b",
        "storage/c/a.attrs",
        "storage/c/a",
        "storage/c.x",
        "storage/B",
        "storage/backups/in",
        "zoo/1",
        "backups2",
        ".hidden",
        "backups/out.zip",
        ".notify/out",
        ".pb_temp_to_delete/out",
        ".autocert_cache/out",
        "lost+found/out",
        ".pocketvault/out",
        "zoo/.notify",
        "other.db-wal",
        "data.db-journal-not",
    ] {
        folder.write(name, name.as_bytes());
    }
    std::fs::create_dir(folder.path("nothing")).expect("made");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let (archive, order) = read_in_order(&mut snapshot);
    assert_eq!(
        order,
        [
            "storage/B",
            "storage/backups/in",
            "storage/c/a",
            "storage/c/a.attrs",
            "storage/c/b",
            "storage/c.x",
            "data.db",
            "auxiliary.db",
            ".hidden",
            "backups2",
            "data.db-journal-not",
            "other.db-wal",
            "types.d.ts",
            "zoo/.notify",
            "zoo/1",
        ]
    );
    assert_eq!(archive["zoo/1"], b"zoo/1");
    assert_eq!(snapshot.skipped(), []);
    let estimate = folder.source(Access::ReadOnly).estimate(Duration::from_secs(9));
    let estimate = estimate.expect("an estimate");
    assert!(estimate.complete);
    assert_eq!(estimate.entries, 15);
}

#[test]
fn no_database_no_snapshot_and_no_auxiliary_database_is_fine() {
    let folder = Folder::new();
    folder.write("types.d.ts", b"x");
    assert_eq!(folder.snapshot().expect_err("no data.db").kind(), &Kind::NotFound);
    drop(bank(&folder.path("data.db"), 4_096));
    assert_eq!(folder.archive().keys().collect::<Vec<_>>(), ["data.db", "types.d.ts"]);
}

#[test]
fn strange_things_are_left_out_with_a_reason_and_links_to_files_are_kept() {
    let folder = Folder::new();
    let outside = Folder::new();
    outside.write("secret", b"x");
    drop(bank(&folder.path("data.db"), 4_096));
    folder.write("storage/c/r/real", b"content");
    folder.write("backups/big.zip", b"x");
    let link = |target: &str, name: &str| symlink(target, folder.path(name)).expect("linked");
    link("r/real", "storage/c/link");
    link("link", "storage/c/link-to-link");
    link("../data.db", "storage/to-database");
    link("../data.db-wal", "storage/to-log");
    link("../backups/big.zip", "storage/to-backup");
    link("gone", "storage/dangling");
    link("loop", "storage/loop");
    link("c", "storage/to-folder");
    link(&outside.path("secret").display().to_string(), "storage/to-outside");
    std::fs::hard_link(folder.path("data.db"), folder.path("hard.db")).expect("linked");
    let _socket = UnixListener::bind(folder.path("socket")).expect("bound");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("fifo"), mode).expect("made");
    let owner = bank(&folder.path("auxiliary.db"), 4_096);

    let mut snapshot = folder.snapshot().expect("a snapshot");
    let archive = read(&mut snapshot);
    let names: Vec<&str> = archive.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["auxiliary.db", "data.db", "storage/c/link", "storage/c/link-to-link", "storage/c/r/real",]
    );
    assert_eq!(archive["storage/c/link-to-link"], b"content");
    let reasons: Vec<(String, Reason)> = snapshot.skipped().into_iter().map(told).collect();
    let expected = [
        ("fifo", Reason::Special),
        ("hard.db", Reason::LiveDatabase),
        ("socket", Reason::Special),
        ("storage/dangling", Reason::Symlink),
        ("storage/loop", Reason::Symlink),
        ("storage/to-backup", Reason::Symlink),
        ("storage/to-database", Reason::Symlink),
        ("storage/to-folder", Reason::Symlink),
        ("storage/to-log", Reason::Symlink),
        ("storage/to-outside", Reason::Symlink),
    ];
    assert_eq!(reasons, expected.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!(snapshot.report().skipped_total(), 10);
    drop(owner);
}

fn told(skipped: Skipped) -> (String, Reason) {
    (String::from_utf8_lossy(&skipped.path).into_owned(), skipped.reason)
}

#[test]
fn a_linked_storage_folder_is_reported_not_passed_over() {
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    folder.write("elsewhere/file", b"x");
    symlink("elsewhere", folder.path("storage")).expect("linked");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    read(&mut snapshot);
    assert_eq!(
        snapshot.skipped().into_iter().map(told).collect::<Vec<_>>(),
        [("storage".to_owned(), Reason::Symlink)]
    );
}

#[test]
fn unreadable_files_and_folders_are_left_out_with_the_system_s_words() {
    if rustix::process::geteuid().is_root() {
        aloud("SKIPPED: root can read everything, so nothing is unreadable in this test");
        return;
    }
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    folder.write("closed-file", b"x");
    folder.write("closed-folder/file", b"x");
    let close = |name: &str| {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(0o0))
    };
    close("closed-file").expect("closed");
    close("closed-folder").expect("closed");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    assert_eq!(read(&mut snapshot).keys().collect::<Vec<_>>(), ["data.db"]);
    assert!(snapshot.skipped().iter().all(|s| matches!(s.reason, Reason::Unreadable(_))));
    assert_eq!(snapshot.skipped().len(), 2);
    assert!(!snapshot.report().is_complete());
}

#[test]
fn files_that_vanish_grow_or_become_something_else_neither_fail_nor_hang() {
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    for name in ["a-vanishes", "b-grows", "c-becomes-a-fifo", "d-stays"] {
        folder.write(name, b"12345");
    }
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let mut items = Vec::new();
    while let Some(item) = snapshot.next().expect("an item") {
        items.push(item);
    }
    std::fs::remove_file(folder.path("a-vanishes")).expect("removed");
    std::fs::remove_file(folder.path("c-becomes-a-fifo")).expect("removed");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("c-becomes-a-fifo"), mode).expect("made");
    let mut contents = Vec::new();
    for item in items.into_iter().skip(1) {
        let Some(mut content) = item.content.open().expect("opened") else {
            contents.push(None);
            continue;
        };
        folder.write("b-grows", b"12345 and more");
        let mut text = String::new();
        content.read_to_string(&mut text).expect("read");
        contents.push(Some(text));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(contents, [None, text("12345"), None, text("12345")]);
    let fifo = ("c-becomes-a-fifo".to_owned(), Reason::Special);
    assert_eq!(snapshot.skipped().into_iter().map(told).collect::<Vec<_>>(), [fifo]);
}

#[test]
fn cancelling_ends_a_snapshot_at_the_next_item() {
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    folder.write("storage/a", b"x");
    let control = Control::default();
    let mut snapshot = folder.source(Access::ReadOnly).pin(&control).expect("a snapshot");
    snapshot.next().expect("an item");
    control.cancel();
    assert_eq!(snapshot.next().map(|_| ()).expect_err("cancelled").kind(), &Kind::Cancelled);
}

#[test]
fn paths_up_to_the_system_s_limit_are_archived_and_longer_ones_reported() {
    let folder = Folder::new();
    let part = "p".repeat(250);
    // Made step by step: no single call takes such a path.
    let mut dir = std::fs::File::open(folder.root()).expect("opened");
    let mut length = 0;
    for _ in 0..17 {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkdirat(&dir, &*part, mode).expect("made");
        let flags = rustix::fs::OFlags::DIRECTORY;
        let next = rustix::fs::openat(&dir, &*part, flags, mode).expect("opened");
        dir = next.into();
        length += part.len() + 1;
        if length == 4_016 {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            rustix::fs::openat(&dir, "f".repeat(4_095 - length), flags, mode).expect("made");
        }
    }
    let report = Report::new(&DataDir::new(folder.root(), None));
    let root = std::sync::Arc::new(Root::open(folder.root()).expect("opened"));
    let mut walk = Walk::new(root, report.clone(), |_| true).expect("a walk");
    let found = walk.next().expect("walked").expect("the file");
    assert_eq!(found.path.as_bytes().len(), 4_095);
    assert!(walk.next().expect("walked").is_none());
    let skipped = report.skipped();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].reason, Reason::PathTooLong);
}

fn names() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    // Any bytes but NUL and the slash; never `.` or `..`.
    let byte = prop::num::u8::ANY.prop_map(|b| if b == 0 || b == b'/' { b'x' } else { b });
    let name = prop::collection::vec(byte, 1..12)
        .prop_map(|name| if name.iter().all(|b| *b == b'.') { b"dot".to_vec() } else { name });
    prop::collection::vec(prop::collection::vec(name, 1..5), 0..20)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn a_walk_finds_every_file_once_and_in_order(paths in names()) {
        let folder = Folder::new();
        let mut made = Vec::new();
        for path in paths {
            let path = path.join(&b'/');
            let full = folder.root().join(std::ffi::OsStr::from_bytes(&path));
            // A name can already be taken by a file or a folder.
            if std::fs::create_dir_all(full.parent().expect("a parent")).is_ok()
                && std::fs::File::create_new(full).is_ok()
            {
                made.push(path);
            }
        }
        // Byte order of each name, not of whole paths: the slash counts as less than any byte.
        made.sort_by(|a, b| a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/')));
        let report = Report::new(&DataDir::new(folder.root(), None));
        let root = std::sync::Arc::new(Root::open(folder.root()).expect("opened"));
        let mut walk = Walk::new(root, report.clone(), |_| true).expect("a walk");
        let mut found = Vec::new();
        while let Some(file) = walk.next().expect("walked") {
            found.push(file.path.as_bytes().to_vec());
        }
        assert_eq!(found, made);
        assert_eq!(report.skipped_total(), 0);
    }
}
