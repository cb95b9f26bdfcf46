//! What a restore accepts, and into what: PocketBase's own outcomes, row by row.

use crate::archive::tests::craft::{Craft, UNIX, zip, zip_with};
use crate::archive::tests::{opened, tree};
use crate::archive::{ExtractOptions, Limits};
use crate::control::Control;

/// Files (path, data, mode) that an archive becomes.
type Files = Vec<(&'static [u8], &'static [u8], u32)>;

fn check(what: &str, archive: &[u8], expected: &Files, skipped: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("target");
    let reader = opened(archive, &Limits::default()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let extracted = reader
        .extract(&target, &ExtractOptions::default(), &Control::default())
        .unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let found = tree(&target);
    let found: Vec<(&[u8], &[u8], u32)> =
        found.iter().map(|(path, data, mode)| (&path[..], &data[..], *mode)).collect();
    assert_eq!(found, *expected, "{what}");
    assert_eq!(extracted.files, expected.len() as u64, "{what}");
    assert_eq!(extracted.skipped.len(), skipped, "{what}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").collect();
    assert_eq!(left.len(), 1, "{what}: nothing beside the target");
}

fn file(name: &[u8]) -> Craft {
    Craft::stored(name, b"data")
}

fn with_mode(name: &[u8], mode: u32) -> Craft {
    file(name).with(|craft| craft.attributes = mode << 16)
}

fn dos(name: &[u8], attributes: u32) -> Craft {
    file(name).with(|craft| (craft.made_by, craft.attributes) = (20, attributes))
}

#[test]
fn accepted_names_land_where_pocketbase_puts_them() {
    let one = |path: &'static [u8]| vec![(path, &b"data"[..], 0o644)];
    for (name, path) in [
        (&b"a"[..], &b"a"[..]),
        (b"a/b/c", b"a/b/c"),
        (b"./a", b"a"),
        (b"././a/./b", b"a/b"),
        (b"a//b", b"a/b"),
        (b"/abs.txt", b"abs.txt"),
        (b"///abs.txt", b"abs.txt"),
        (b"a/../b", b"b"),
        (b"a\\b", b"a\\b"),
        (b"..\\evil", b"..\\evil"),
        (b"C:\\x", b"C:\\x"),
        (b"..a", b"..a"),
        (b"...", b"..."),
        (b"\x01\x02\n", b"\x01\x02\n"),
        (b" ", b" "),
        (b"\xff\xfe", b"\xff\xfe"),
        ("ä/ö.txt".as_bytes(), "ä/ö.txt".as_bytes()),
    ] {
        let what = String::from_utf8_lossy(name);
        check(&what, &zip(&[file(name)]), &one(path), 0);
    }
}

#[test]
fn modes_are_kept_without_special_bits_and_with_access_for_the_owner() {
    for (mode, expected) in [
        (0o100_644, 0o644),
        (0o100_755, 0o755),
        (0o104_755, 0o755),
        (0o107_777, 0o755),
        (0o100_000, 0o600),
        (0o100_444, 0o644),
        (0, 0o600),
    ] {
        let expected = vec![(&b"a"[..], &b"data"[..], expected)];
        check(&format!("{mode:o}"), &zip(&[with_mode(b"a", mode)]), &expected, 0);
    }
    check("DOS", &zip(&[dos(b"a", 0)]), &vec![(b"a", b"data", 0o644)], 0);
    check("DOS read-only", &zip(&[dos(b"a", 1)]), &vec![(b"a", b"data", 0o644)], 0);
}

#[test]
fn irregular_entries_are_skipped_and_listed() {
    let kept = vec![(&b"keep"[..], &b"data"[..], 0o644)];
    for (what, kind) in [
        ("symlink", 0o120_777),
        ("fifo", 0o010_644),
        ("socket", 0o140_644),
        ("block device", 0o060_644),
        ("character device", 0o020_644),
    ] {
        check(what, &zip(&[with_mode(b"x", kind), file(b"keep")]), &kept, 1);
    }
    // A skipped name is free for a folder: nothing of it is there.
    let archive = zip(&[with_mode(b"x", 0o120_777), file(b"x/y")]);
    check("symlink and below it", &archive, &vec![(b"x/y", b"data", 0o644)], 1);
}

#[test]
fn folders_duplicates_and_foreign_bytes() {
    let folder = |name: &[u8]| {
        with_mode(name, 0o040_755).with(|craft| {
            (craft.packed, craft.packed_bytes, craft.size_bytes, craft.crc) = (Vec::new(), 0, 0, 0);
        })
    };
    let one: Files = vec![(b"a/b", b"data", 0o644)];
    check("a folder before", &zip(&[folder(b"a/"), file(b"a/b")]), &one, 0);
    check("a folder behind", &zip(&[file(b"a/b"), folder(b"a/")]), &one, 0);
    check("a folder by mode", &zip(&[folder(b"a"), file(b"a/b")]), &one, 0);
    check("a folder twice", &zip(&[folder(b"a/"), folder(b"a"), file(b"a/b")]), &one, 0);
    let archive = zip(&[dos(b"a", 0x10), file(b"a/b")]);
    check("a folder by DOS attribute", &archive, &one, 0);

    let old = Craft::deflated(b"a/b", b"the old one");
    check("a duplicate", &zip(&[old.clone(), file(b"a/b")]), &one, 0);
    check("a duplicate by path", &zip(&[old, file(b"./a//b")]), &one, 0);

    let plain = zip(&[file(b"a/b")]);
    check("bytes behind", &[&plain[..], b"trailing"].concat(), &one, 0);
    check("bytes before", &[b"#!/bin/sh leading", &plain[..]].concat(), &one, 0);
    let commented = zip_with(&[file(b"a/b")], |end| end.comment = b"a comment".to_vec());
    check("a comment", &commented, &one, 0);
    let flagged = zip(&[Craft::deflated(b"a/b", b"data").with(|craft| craft.flags = 1)]);
    check("marked as encrypted, but plain", &flagged, &one, 0);
    let renamed = zip(&[file(b"a/b").with(|craft| craft.local_name = Some(b"else".to_vec()))]);
    check("another name in the local header", &renamed, &one, 0);
    let zip64 = zip_with(&[file(b"a/b")], |end| {
        end.zip64 = Some((1, u64::from(end.bytes), u64::from(end.offset)));
        (end.entries, end.bytes, end.offset) = (u16::MAX, u32::MAX, u32::MAX);
    });
    check("zip64 where none is needed", &zip64, &one, 0);
    check("an empty one", &zip(&[]), &vec![], 0);
    assert_eq!(UNIX >> 8, 3);
}
