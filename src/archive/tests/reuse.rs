//! Archives that take pieces over from the one before hold the same as archives that do not,
//! whatever happened to the data and to the archive before.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::archive::tests::{Given, noise, source};
use crate::archive::{Limits, Previous, Reader, Reuse, Summary, WriteOptions, write};
use crate::backup::Key;
use crate::control::Control;

/// A folder of archives `1.zip`, `2.zip`, … and the ledger of the last one.
struct Chain {
    dir: tempfile::TempDir,
    last: u32,
}

impl Chain {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), last: 0 }
    }

    fn archive(&self, n: u32) -> PathBuf {
        self.dir.path().join(format!("{n}.zip"))
    }

    fn previous(&self) -> Option<Arc<Previous>> {
        let locate = |key: &Key| Some(self.dir.path().join(key.as_str()));
        Previous::open(&self.dir.path().join("ledger"), locate).expect("a whole ledger")
    }

    /// Writes the next archive, and checks that it holds what was given.
    fn next(&mut self, given: &[Given], reuse: Reuse, level: u32) -> Summary {
        self.last += 1;
        let path = self.archive(self.last);
        let options = WriteOptions { reuse, level: Some(level), ..WriteOptions::default() };
        let file = File::create(&path).expect("made");
        let summary = write(&mut source(given.to_vec()), file, &options, &Control::default())
            .expect("written");
        let key = Key::existing(&format!("{}.zip", self.last)).expect("a key");
        if let Some(ledger) = &summary.ledger {
            ledger.keep(&self.dir.path().join("ledger"), &key, &path).expect("kept");
        }
        check(&path, given);
        summary
    }

    fn again(&mut self, given: &[Given]) -> Summary {
        let reuse = self.previous().map_or(Reuse::First, Reuse::From);
        self.next(given, reuse, 2)
    }
}

/// Every entry is what was given, in that order, read by us and by another reader.
fn check(path: &Path, given: &[Given]) {
    let reader = Reader::open(path, &Limits::default()).expect("opened");
    assert_eq!(reader.entries().len(), given.len());
    let mut other = zip::ZipArchive::new(File::open(path).expect("opened")).expect("a zip");
    for (n, (entry, given)) in reader.entries().iter().zip(given).enumerate() {
        assert_eq!(entry.name(), given.path);
        let mut data = Vec::new();
        reader.open_entry(entry).expect("opened").read_to_end(&mut data).expect("sound");
        assert!(data == given.data, "{}", String::from_utf8_lossy(&given.path));
        data.clear();
        other.by_index(n).expect("there").read_to_end(&mut data).expect("sound");
        assert!(data == given.data, "{}", String::from_utf8_lossy(&given.path));
    }
}

/// Text that shrinks and differs from line to line.
fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let lines = (seed * 1_000_003..).flat_map(|n| format!("line {n} of {}\n", n % 97).into_bytes());
    lines.take(bytes).collect()
}

fn tree() -> Vec<Given> {
    let mut given: Vec<_> = (0..12)
        .map(|n| Given::new(format!("storage/{n}.txt"), text(1 << (n + 8), n as u64)))
        .collect();
    given.push(Given::new("storage/a.jpg", noise(200 << 10, 1)));
    given.push(Given::new("storage/b.txt", text(700 << 10, 77)));
    given.push(Given::new("data.db", text((3 << 20) + 5, 99)));
    given
}

#[test]
fn what_did_not_change_is_not_compressed_again() {
    let mut chain = Chain::new();
    let given = tree();
    let first = chain.again(&given);
    assert_eq!(first.reused_bytes, 0);
    let second = chain.again(&given);
    let texts = given.iter().filter(|g| g.path != b"storage/a.jpg" && g.data.len() >= 8 << 10);
    assert_eq!(second.reused_bytes, texts.map(|g| g.data.len() as u64).sum::<u64>() - 5);
    let (a, b) = (fs::read(chain.archive(1)), fs::read(chain.archive(2)));
    assert!(a.expect("read") == b.expect("read"), "the same bytes as without");
    // The third takes from the second what that one took from the first.
    assert_eq!(chain.again(&given).reused_bytes, second.reused_bytes);
}

#[test]
fn one_changed_byte_of_a_database_costs_its_block_and_perhaps_the_next() {
    let mut chain = Chain::new();
    let mut given = tree();
    chain.again(&given);
    let all = chain.again(&given).reused_bytes;
    let database = given.last_mut().expect("the database");
    database.data[(1 << 20) + 7] ^= 1;
    assert_eq!(chain.again(&given).reused_bytes, all - (1 << 20));
    let database = given.last_mut().expect("the database");
    // The end of a block is what the next one refers to.
    database.data[(2 << 20) - 7] ^= 1;
    assert_eq!(chain.again(&given).reused_bytes, all - (2 << 20));
}

#[test]
fn a_renamed_or_copied_file_is_not_compressed_again_and_another_time_changes_nothing() {
    let mut chain = Chain::new();
    let mut given = tree();
    chain.again(&given);
    let all = chain.again(&given).reused_bytes;
    given[11].path = b"storage/moved.txt".to_vec();
    given[11].modified += chrono::Duration::days(1);
    given.push(Given { path: b"storage/copy.txt".to_vec(), ..given[10].clone() });
    assert_eq!(chain.again(&given).reused_bytes, all + given[10].data.len() as u64);
}

#[test]
fn nothing_is_taken_from_another_level_or_when_it_is_switched_off() {
    let mut chain = Chain::new();
    let given = tree();
    chain.again(&given);
    let from = || Reuse::From(chain.previous().expect("a ledger"));
    let (higher, off) = (from(), Reuse::Off);
    assert_eq!(chain.next(&given, higher, 5).reused_bytes, 0);
    let without = chain.next(&given, off, 2);
    assert!(without.reused_bytes == 0 && without.ledger.is_none());
}

#[test]
fn after_thirty_archives_everything_is_compressed_anew() {
    let mut chain = Chain::new();
    let given = vec![Given::new("a", text(9000, 1))];
    let reused: Vec<_> = (0..33).map(|_| chain.again(&given).reused_bytes > 0).collect();
    let anew: Vec<_> = (0..33).filter(|n| !reused[*n]).collect();
    assert_eq!(anew, [0, 31]);
}

#[test]
fn damage_in_the_archive_before_is_found_and_never_handed_down() {
    let mut chain = Chain::new();
    let given = tree();
    chain.again(&given);
    let all = chain.again(&given).reused_bytes;
    let previous = chain.previous().expect("a ledger");
    let file = OpenOptions::new().write(true).open(chain.archive(2)).expect("opened");
    // Behind the header of the database, whose blocks are the last data.
    let reader = Reader::open(&chain.archive(2), &Limits::default()).expect("opened");
    let at = reader.entries().last().expect("the database").offset() + 2_000;
    file.write_all_at(&[0x55; 16], at).expect("written");
    let third = chain.next(&given, Reuse::From(previous), 2);
    assert_eq!((third.spoiled_pieces, third.reused_bytes), (1, all - (1 << 20)));
    assert_eq!(chain.again(&given).spoiled_pieces, 0);
}

#[test]
fn an_archive_that_was_changed_before_it_was_opened_is_not_looked_at() {
    let mut chain = Chain::new();
    let given = tree();
    chain.again(&given);
    let file = OpenOptions::new().write(true).open(chain.archive(1)).expect("opened");
    file.write_all_at(b"x", 500).expect("written");
    assert!(chain.previous().is_none());
    let second = chain.again(&given);
    assert_eq!((second.reused_bytes, second.spoiled_pieces), (0, 0));
    fs::remove_file(chain.archive(2)).expect("removed");
    assert!(chain.previous().is_none());
}

/// What happens to one of the files between two archives.
#[derive(Debug, Clone)]
enum Edit {
    /// Other bytes, the same size, the same time.
    Change(Index, Index, u8),
    Cut(Index, Index),
    Append(Index, u16),
    Rename(Index, u32),
    Delete(Index),
    Add(u32, u16),
    Swap(Index, Index),
}

/// What happens to the archive before.
#[derive(Debug, Clone)]
enum Fate {
    Kept,
    /// After it was opened.
    Deleted,
    Damaged(Vec<(Index, u8)>),
    CutTo(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        (at(), at(), 1u8..).prop_map(|(file, byte, bits)| Edit::Change(file, byte, bits)),
        (at(), at()).prop_map(|(file, length)| Edit::Cut(file, length)),
        (at(), any::<u16>()).prop_map(|(file, bytes)| Edit::Append(file, bytes)),
        (at(), any::<u32>()).prop_map(|(file, name)| Edit::Rename(file, name)),
        at().prop_map(Edit::Delete),
        (any::<u32>(), any::<u16>()).prop_map(|(name, bytes)| Edit::Add(name, bytes)),
        (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ];
    prop::collection::vec(edit, 0..6)
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Kept),
        1 => Just(Fate::Deleted),
        2 => prop::collection::vec((any::<Index>(), 1u8..), 1..20).prop_map(Fate::Damaged),
        1 => any::<Index>().prop_map(Fate::CutTo),
    ]
}

fn edit(given: &mut Vec<Given>, edit: &Edit) {
    let count = given.len();
    match edit {
        Edit::Add(name, bytes) => {
            let data = text(usize::from(*bytes), u64::from(*name % 5));
            given.push(Given::new(format!("storage/new{name}"), data));
        }
        _ if count == 0 => {}
        Edit::Change(file, byte, bits) => {
            let data = &mut given[file.index(count)].data;
            if !data.is_empty() {
                let at = byte.index(data.len());
                data[at] ^= bits;
            }
        }
        Edit::Cut(file, length) => {
            let data = &mut given[file.index(count)].data;
            data.truncate(length.index(data.len() + 1));
        }
        Edit::Append(file, bytes) => {
            given[file.index(count)].data.extend(text(usize::from(*bytes), 3));
        }
        Edit::Rename(file, name) => {
            given[file.index(count)].path = format!("renamed{name}").into_bytes();
        }
        Edit::Delete(file) => {
            given.remove(file.index(count));
        }
        Edit::Swap(a, b) => {
            let (a, b) = (a.index(count), b.index(count));
            let data = given[a].data.clone();
            given[a].data = std::mem::replace(&mut given[b].data, data);
        }
    }
    let mut names = std::collections::HashSet::new();
    given.retain(|given| names.insert(given.path.clone()));
}

fn suffer(archive: &Path, fate: &Fate) {
    let file = OpenOptions::new().read(true).write(true).open(archive).expect("opened");
    let bytes = file.metadata().expect("examined").len() as usize;
    match fate {
        Fate::Kept => {}
        Fate::Deleted => fs::remove_file(archive).expect("removed"),
        Fate::CutTo(length) => file.set_len(length.index(bytes) as u64).expect("cut"),
        Fate::Damaged(places) => {
            for (place, bits) in places {
                let at = place.index(bytes) as u64;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("read");
                file.write_all_at(&[byte[0] ^ bits], at).expect("written");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn archives_hold_what_is_there_whatever_happened(
        rounds in prop::collection::vec((edits(), fate()), 1..4),
    ) {
        let mut chain = Chain::new();
        let mut given = tree();
        chain.again(&given);
        for (edits, fate) in &rounds {
            let previous = chain.previous().expect("a ledger of an archive that is there");
            suffer(&chain.archive(chain.last), fate);
            for change in edits {
                edit(&mut given, change);
            }
            let summary = chain.next(&given, Reuse::From(previous), 2);
            if edits.is_empty() && matches!(fate, Fate::Kept | Fate::Deleted) {
                let large: u64 = given.iter()
                    .filter(|given| given.path.ends_with(b".db"))
                    .map(|given| given.data.len() as u64 >> 20 << 20)
                    .sum();
                prop_assert!(summary.reused_bytes >= large);
            }
        }
    }
}
