//! Archives that must be refused, with a reason, and without a trace.

use crate::archive::tests::craft::{Craft, zip, zip_with, zip64_field};
use crate::archive::tests::opened;
use crate::archive::{ExtractOptions, Limits};
use crate::control::Control;
use crate::error::{Error, Kind};

fn file(name: &[u8]) -> Craft {
    Craft::stored(name, b"data")
}

fn long(name: &[u8]) -> Craft {
    Craft::deflated(name, &b"some words that repeat ".repeat(1000))
}

fn changed(craft: Craft, change: impl FnOnce(&mut Craft)) -> Vec<u8> {
    zip(&[craft.with(change)])
}

/// Opens and extracts; the error that must come.
fn refusal(what: &str, archive: &[u8], limits: &Limits) -> Error {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("a/target");
    std::fs::create_dir(folder.path().join("a")).expect("made");
    let outcome = opened(archive, limits).and_then(|reader| {
        reader.extract(&target, &ExtractOptions::default(), &Control::default())
    });
    let outside: Vec<_> = [folder.path().to_owned(), folder.path().join("a")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("listed").flatten())
        .map(|entry| entry.file_name())
        .filter(|name| name != "a" && name != "target")
        .collect();
    assert!(outside.is_empty(), "{what}: {outside:?} lies outside");
    outcome.err().unwrap_or_else(|| panic!("{what}: accepted"))
}

/// Rows of (what, archive, a part of the reason).
type Rows = Vec<(&'static str, Vec<u8>, &'static str)>;

fn check(rows: Rows) {
    for (what, archive, reason) in rows {
        let error = refusal(what, &archive, &Limits::default());
        assert_eq!(error.kind(), &Kind::Corrupt, "{what}: {error:?}");
        assert!(error.full().contains(reason), "{what}: {error:?}");
    }
}

#[test]
fn names_that_lead_outside_or_nowhere() {
    let part = vec![b'n'; 256];
    let deep = b"d/".repeat(2100);
    let names: Vec<(&'static str, &[u8], &'static str)> = vec![
        ("up", b"../evil", "invalid file path"),
        ("up from below", b"a/../../evil", "invalid file path"),
        ("up from the root", b"/../evil", "invalid file path"),
        ("up many times", b"../../../../../../etc/passwd", "invalid file path"),
        ("up only", b"..", "invalid file path"),
        ("up, as a folder", b"../", "invalid file path"),
        ("itself", b"./", "invalid file path"),
        ("itself without a slash", b".", "invalid file path"),
        ("itself from below", b"a/..", "invalid file path"),
        ("the root", b"/", "invalid file path"),
        ("nothing", b"", "invalid file path"),
        ("a NUL", b"a\0b", "invalid file path"),
        ("a name of 256 bytes", &part, "file name too long"),
        ("a path of 4,200 bytes", &deep, "file name too long"),
    ];
    check(names.into_iter().map(|(what, name, why)| (what, zip(&[file(name)]), why)).collect());
}

#[test]
fn entries_that_contradict_each_other() {
    let both = "a file and a folder at once";
    let folder = |name: &[u8]| file(name).with(|craft| craft.attributes = 0o040_755 << 16);
    check(vec![
        ("a file, then below it", zip(&[file(b"x"), file(b"x/y")]), both),
        ("below it, then the file", zip(&[file(b"x/y"), file(b"x")]), both),
        ("a file, then deep below it", zip(&[file(b"x"), file(b"x/y/z")]), both),
        ("a file, then a folder", zip(&[file(b"x"), folder(b"x/")]), both),
        ("a folder, then a file", zip(&[folder(b"x"), file(b"./x")]), both),
        (
            "a replaced entry with a bad checksum",
            zip(&[file(b"x").with(|craft| craft.crc ^= 1), file(b"x")]),
            "checksum error",
        ),
    ]);
}

#[test]
fn methods_and_encryption() {
    let method = |number: u16| changed(long(b"x"), |craft| craft.method = number);
    let scrambled = |craft: &mut Craft| {
        craft.flags = 1;
        craft.packed.iter_mut().for_each(|byte| *byte ^= 0xa5);
    };
    check(vec![
        ("shrunk", method(1), "unsupported compression method 1"),
        ("deflate64", method(9), "unsupported compression method 9"),
        ("bzip2", method(12), "unsupported compression method 12"),
        ("LZMA", method(14), "unsupported compression method 14"),
        ("zstd", method(93), "unsupported compression method 93"),
        ("xz", method(95), "unsupported compression method 95"),
        ("AES", method(99), "unsupported compression method 99"),
        ("encrypted Deflate", changed(long(b"x"), scrambled), "marked as encrypted"),
        ("encrypted Store", changed(file(b"x"), scrambled), "marked as encrypted"),
    ]);
}

#[test]
fn data_that_is_not_as_claimed() {
    let cut = |craft: &mut Craft| {
        craft.packed.truncate(20);
        craft.packed_bytes = 20;
        craft.size_bytes = 5000;
    };
    check(vec![
        ("a bad checksum", changed(file(b"x"), |c| c.crc ^= 1), "checksum error"),
        ("a checksum of 0", changed(long(b"x"), |c| c.crc = 0), "checksum error"),
        ("other data", changed(file(b"x"), |c| c.packed[0] ^= 1), "checksum error"),
        ("damaged Deflate", changed(long(b"x"), |c| c.packed[0] = 0xff), "corrupt Deflate"),
        ("Deflate that ends early", changed(long(b"x"), cut), "ends too early"),
        ("stored, but longer", changed(file(b"x"), |c| c.size_bytes = 3), "longer than"),
        ("stored, but shorter", changed(file(b"x"), |c| c.size_bytes = 5), "claims more bytes"),
        ("longer than it says", changed(long(b"x"), |c| c.size_bytes -= 1), "longer than"),
        ("shorter than it says", changed(long(b"x"), |c| c.size_bytes += 1), "shorter than"),
        ("empty by its own words", changed(long(b"x"), |c| c.size_bytes = 0), "longer than"),
        (
            "more than Deflate can hold",
            changed(long(b"x"), |c| c.size_bytes = u32::MAX - 1),
            "claims more bytes",
        ),
        (
            "more than exists, in zip64",
            changed(long(b"x"), |c| {
                (c.size_bytes, c.extra) = (u32::MAX, zip64_field(&[1 << 50]));
            }),
            "claims more bytes",
        ),
        (
            "more than a number can hold, in zip64",
            changed(file(b"x"), |c| {
                (c.packed_bytes, c.extra) = (u32::MAX, zip64_field(&[u64::MAX]));
            }),
            "overlaps",
        ),
        ("no zip64 field", changed(file(b"x"), |c| c.packed_bytes = u32::MAX), "overlaps"),
    ]);
}

#[test]
fn places_that_cannot_be() {
    let phantom = |at: u32| file(b"y").with(|c| (c.phantom, c.offset) = (true, Some(at)));
    let whole = zip(&[long(b"x"), file(b"y")]);
    let moved = changed(long(b"x"), |c| (c.offset, c.packed_bytes) = (Some(1), c.packed_bytes - 1));
    let zip64_at = |offset: u64| {
        changed(file(b"x"), |c| {
            (c.offset, c.extra) = (Some(u32::MAX), zip64_field(&[offset]));
        })
    };
    check(vec![
        ("the same data twice", zip(&[file(b"x"), phantom(0)]), "overlaps"),
        ("data inside other data", zip(&[long(b"x"), phantom(3)]), "overlaps"),
        ("data inside the directory", zip(&[file(b"x"), phantom(40)]), "overlaps"),
        ("data behind the file", zip(&[file(b"x"), phantom(1 << 30)]), "overlaps"),
        ("data far behind the file, in zip64", zip64_at(1 << 60), "overlaps"),
        ("data behind all files, in zip64", zip64_at(u64::MAX), "overlaps"),
        ("too much data", changed(file(b"x"), |c| c.packed_bytes = 50), "overlaps"),
        ("no local header there", moved, "local header"),
        ("only first bytes", b"PK\x03\x04".to_vec(), "no readable end record"),
        ("nothing at all", Vec::new(), "no readable end record"),
        ("something else", b"SQLite format 3\0".repeat(100), "no readable end record"),
        ("cut in the directory", whole[..whole.len() - 30].to_vec(), "no readable end record"),
        ("cut at its start", whole[40..].to_vec(), "overlaps"),
    ]);
}

#[test]
fn directories_that_lie() {
    let two = [file(b"x"), file(b"y")];
    let inner = zip(&[file(b"data.db")]);
    let outer = zip(&[Craft::stored(b"inner.zip", &inner), long(b"data.db")]);
    let behind_inner = 30 + b"inner.zip".len() + inner.len();
    check(vec![
        ("fewer entries", zip_with(&two, |end| end.entries = 1), "claims 1 entries"),
        ("more entries", zip_with(&two, |end| end.entries = 3), "claims 3 entries"),
        ("elsewhere", zip_with(&two, |end| (end.offset, end.bytes) = (5, 5)), "directory"),
        ("behind the file", zip_with(&two, |end| end.offset = u32::MAX - 1), "not a usable zip"),
        ("a comment that is not there", cut_comment(&two), "no readable end record"),
        (
            "zip64 with other numbers",
            zip_with(&two, |end| {
                end.zip64 = Some((1, 1, 1));
                (end.entries, end.bytes, end.offset) = (u16::MAX, u32::MAX, u32::MAX);
            }),
            "not a usable zip",
        ),
        (
            "zip64 behind the file",
            zip_with(&two, |end| {
                end.zip64 = Some((2, 100, 1 << 60));
                (end.entries, end.bytes, end.offset) = (u16::MAX, u32::MAX, u32::MAX);
            }),
            "not a usable zip",
        ),
        ("zip64 beyond all offsets", zip64_end_at(&two, 1 << 63), "not a usable zip"),
        ("truncated behind a zip inside", outer[..behind_inner].to_vec(), "truncated"),
    ]);
}

/// An archive that says where its zip64 end record is.
fn zip64_end_at(crafts: &[Craft], offset: u64) -> Vec<u8> {
    let mut archive = zip_with(crafts, |end| end.zip64 = Some((2, 100, 50)));
    let locator = archive.windows(4).position(|bytes| bytes == b"PK\x06\x07").expect("there") + 8;
    archive[locator..locator + 8].copy_from_slice(&offset.to_le_bytes());
    archive
}

fn cut_comment(crafts: &[Craft]) -> Vec<u8> {
    let mut archive = zip_with(crafts, |end| end.comment = vec![b'c'; 100]);
    archive.truncate(archive.len() - 50);
    archive
}

#[test]
fn limits_hold() {
    let bomb = Craft::deflated(b"bomb", &vec![0; 8 << 20]);
    let many: Vec<Craft> = (0..50u8).map(|n| file(&[b'a' + n / 10, b'0' + n % 10])).collect();
    let limits = Limits::default();
    for (what, archive, limits, reason) in [
        (
            "a ratio",
            zip(std::slice::from_ref(&bomb)),
            Limits { ratio: 100, ..limits.clone() },
            "too many",
        ),
        ("a total", zip(&[bomb]), Limits { total_bytes: 1 << 20, ..limits.clone() }, "allowed"),
        ("entries", zip(&many), Limits { entries: 49, ..limits.clone() }, "more than 49"),
        ("a directory", zip(&many), Limits { directory_bytes: 99, ..limits.clone() }, "large"),
        ("a path", zip(&[file(b"a/bcd")]), Limits { path_bytes: 4, ..limits.clone() }, "long"),
        ("a name", zip(&[file(b"a/bcd")]), Limits { name_bytes: 2, ..limits.clone() }, "long"),
    ] {
        let error = refusal(what, &archive, &limits);
        assert_eq!(error.kind(), &Kind::Corrupt, "{what}");
        assert!(error.full().contains(reason), "{what}: {error:?}");
    }
    opened(&zip(&many), &Limits { entries: 50, ..limits }).expect("just within the limit");
}
