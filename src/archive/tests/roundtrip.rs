//! What goes in comes out: by our own reader, and as the headers say.

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroUsize;

use chrono::DateTime;
use proptest::prelude::*;

use crate::archive::tests::{Given, archived, noise, opened, source, tree};
use crate::archive::{ExtractOptions, Limits, Method, WriteOptions, write};
use crate::control::Control;

/// A path of one to three parts over a small alphabet that holds odd bytes, so that folders
/// are shared and everything between them is tried.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::collection::vec(
        prop::sample::select(vec![b'a', b'b', b'.', b' ', b'\\', b':', b'~', 0xc3, 0xa4, 0xff, 7]),
        1..6,
    )
    .prop_filter("no . and ..", |part| part != b"." && part != b"..");
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000),
        2 => (prop::collection::vec(any::<u8>(), 1..50), 1usize..400)
            .prop_map(|(seed, times)| seed.repeat(times)),
        1 => (4000usize..700_000, any::<u64>()).prop_map(|(n, seed)| noise(n, seed)),
        1 => (500_000usize..3_000_000).prop_map(|n| b"0123456789abcde\n".repeat(n / 16)),
    ]
}

/// Trees in which no file is a folder as well.
fn trees() -> impl Strategy<Value = Vec<Given>> {
    let mode = prop::sample::select(vec![0o100_644u32, 0o100_600, 0o100_755]);
    let given = (path(), data(), mode, -1_000_000_000i64..8_000_000_000);
    prop::collection::vec(given, 0..12).prop_map(|drawn| {
        let mut files: BTreeMap<Vec<u8>, Given> = BTreeMap::new();
        for (path, data, mode, seconds) in drawn {
            let below = |a: &[u8], b: &[u8]| a.starts_with(b) && a.get(b.len()) == Some(&b'/');
            if files.keys().all(|other| !below(other, &path) && !below(&path, other)) {
                let modified = DateTime::from_timestamp(seconds, 0).expect("a time");
                files.insert(path.clone(), Given { mode, modified, ..Given::new(path, data) });
            }
        }
        files.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_back(given in trees(), threads in 1usize..5, level in 1u32..7) {
        let options = WriteOptions {
            threads: NonZeroUsize::new(threads),
            level: Some(level),
            spill: None, ..WriteOptions::default() };
        let mut bytes = Vec::new();
        let summary = write(&mut source(given.clone()), &mut bytes, &options, &Control::default())
            .expect("an archive");
        prop_assert_eq!(summary.entries, given.len() as u64);
        prop_assert_eq!(summary.bytes_in, given.iter().map(|g| g.data.len() as u64).sum::<u64>());
        let reader = opened(&bytes, &Limits::default()).expect("opened");
        for (entry, given) in reader.entries().iter().zip(&given) {
            prop_assert_eq!(entry.name(), &given.path[..]);
            prop_assert_eq!(entry.mode(), given.mode);
            let clamped = given.modified.timestamp().clamp(0, i64::from(u32::MAX));
            prop_assert_eq!(entry.modified().map(|time| time.timestamp()), Some(clamped));
            prop_assert_eq!(entry.size_bytes(), given.data.len() as u64);
        }
        let verified = reader.verify(None, &Control::default()).expect("verified");
        prop_assert_eq!(verified.entries, summary.entries);
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        let extracted = reader
            .extract(&target, &ExtractOptions::default(), &Control::default())
            .expect("extracted");
        prop_assert_eq!(extracted.bytes, summary.bytes_in);
        let expected: Vec<_> =
            given.iter().map(|g| (g.path.clone(), g.data.clone(), g.mode & 0o777)).collect();
        prop_assert_eq!(tree(&target), expected);
    }
}

#[test]
fn what_is_packed_already_is_stored_and_the_rest_deflated() {
    let mut picture = noise(200_000, 1);
    picture[..3].copy_from_slice(b"\xff\xd8\xff");
    let mut film = noise(3 << 20, 2);
    film[4..8].copy_from_slice(b"ftyp");
    let mut database = b"SQLite format 3\0".to_vec();
    database.extend(b"some row of a table ".repeat(100_000));
    // Parts of a large entry that do not shrink are stored inside its Deflate stream.
    database.extend(noise(3 << 20, 4));
    let (bytes, _) = archived(vec![
        Given::new(&b"data.db"[..], database.clone()),
        Given::new(&b"empty"[..], Vec::new()),
        Given::new(&b"film.mp4"[..], film),
        Given::new(&b"picture.jpg"[..], picture),
        Given::new(&b"tiny"[..], &b"x"[..]),
        Given::new(&b"words"[..], b"word ".repeat(100)),
    ]);
    let reader = opened(&bytes, &Limits::default()).expect("opened");
    let methods: Vec<_> = reader.entries().iter().map(|entry| entry.method()).collect();
    use Method::{Deflate, Store};
    assert_eq!(methods, [Deflate, Store, Store, Store, Store, Deflate]);
    let packed = reader.entries()[0].packed_bytes();
    assert!((3 << 20..(3 << 20) + 200_000).contains(&packed), "{packed}");

    let entry = reader.find(b"data.db").expect("there");
    let mut content = Vec::new();
    reader.open_entry(entry).expect("opened").read_to_end(&mut content).expect("read");
    assert_eq!(content, database);
}

#[test]
fn extraction_wants_a_folder_of_its_own() {
    let (bytes, _) = archived(vec![Given::new(&b"a"[..], &b"x"[..])]);
    let reader = opened(&bytes, &Limits::default()).expect("opened");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine"), b"x").expect("written");
    let extract = |target: &std::path::Path| {
        reader.extract(target, &ExtractOptions::default(), &Control::default())
    };
    assert_eq!(extract(folder.path()).expect_err("not empty").kind(), &crate::error::Kind::Exists);
    assert!(extract(&folder.path().join("mine")).is_err());
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).expect("made");
    assert!(extract(&folder.path().join("link")).is_err());
    assert_eq!(extract(&folder.path().join("new")).expect("extracted").files, 1);
}

#[test]
fn paths_longer_than_the_kernel_takes_at_once_are_extracted() {
    let path = [&b"directory/".repeat(410)[..4090], b"file.t"].concat();
    assert_eq!(path.len(), 4096);
    let (bytes, summary) = archived(vec![Given::new(path.clone(), &b"deep"[..])]);
    assert_eq!(summary.entries, 1);
    let reader = opened(&bytes, &Limits::default()).expect("opened");
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("t");
    reader.extract(&target, &ExtractOptions::default(), &Control::default()).expect("extracted");
    let depth = std::iter::successors(Some(target), |path| {
        let mut listed = std::fs::read_dir(path).ok()?;
        listed.next()?.ok().map(|entry| entry.path())
    });
    // Until the path is too long for this simple way of looking.
    assert!(depth.count() > 390);
}
