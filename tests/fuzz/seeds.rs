//! The valid archives that everything begins with: those of other writers, kept small in
//! `fixtures/archives`, and our own.

use std::io::{Cursor, Read};
use std::path::Path;

use pocketvault::archive::{WriteOptions, write};
use pocketvault::backup::{Content, Entry, EntryPath, Item, Items};
use pocketvault::control::Control;
use pocketvault::error::Result;

pub(crate) fn all() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zip"))
        .collect();
    files.sort();
    assert!(files.len() > 5, "the corpus is there");
    let mut seeds: Vec<_> = files.iter().map(|path| std::fs::read(path).expect("read")).collect();
    seeds.push(ours(Vec::new()));
    seeds.push(ours(vec![
        ("data.db", b"a row of the table\n".repeat(60)),
        ("storage/c/r/empty", Vec::new()),
        ("storage/c/r/a.bin", (0..300u32).map(|n| ((n * n * 31) >> 3) as u8).collect()),
        ("storage/c/r/日本 ä.txt", b"names in every script".to_vec()),
    ]));
    // More than one block: streamed, with a descriptor behind its data.
    seeds.push(ours(vec![("data.db", b"0123456789abcdef".repeat(100_000))]));
    seeds
}

struct Given(Vec<u8>);

impl Content for Given {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(Cursor::new(self.0))))
    }
}

struct Source(std::vec::IntoIter<(&'static str, Vec<u8>)>);

impl Items for Source {
    fn next(&mut self) -> Result<Option<Item>> {
        let Some((path, data)) = self.0.next() else { return Ok(None) };
        let entry = Entry {
            path: EntryPath::parse(path)?,
            size_bytes: data.len() as u64,
            modified: "2026-11-21T09:02:11Z".parse().expect("a date"),
            mode: 0o100_644,
        };
        Ok(Some(Item { entry, content: Box::new(Given(data)) }))
    }
}

fn ours(files: Vec<(&'static str, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut items = Source(files.into_iter());
    write(&mut items, &mut bytes, &WriteOptions::default(), &Control::default())
        .expect("an archive");
    bytes
}
