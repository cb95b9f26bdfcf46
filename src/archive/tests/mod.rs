//! Tests of the engine as a whole, and what they are made with.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::archive::{Limits, Reader, Summary, WriteOptions, write};
use crate::backup::{Content, Entry, EntryPath, Item, Items};
use crate::control::Control;
use crate::error::Result;

mod craft;
mod hostile;
mod many;
mod outcomes;
mod peers;
mod pipeline;
mod reuse;
mod roundtrip;
mod torn;

/// One entry to be.
#[derive(Debug, Clone)]
struct Given {
    path: Vec<u8>,
    data: Vec<u8>,
    mode: u32,
    modified: DateTime<Utc>,
    /// The size it is listed with, when that is not its length.
    listed: Option<u64>,
}

impl Given {
    fn new(path: impl Into<Vec<u8>>, data: impl Into<Vec<u8>>) -> Self {
        let modified = "2026-11-21T09:02:11Z".parse().expect("a date");
        Self { path: path.into(), data: data.into(), mode: 0o100_644, modified, listed: None }
    }
}

impl Content for Given {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(Cursor::new(self.data))))
    }
}

fn entry(path: &[u8], size_bytes: u64) -> Entry {
    let modified = DateTime::UNIX_EPOCH;
    Entry { path: EntryPath::parse(path).expect("a path"), size_bytes, modified, mode: 0o100_600 }
}

/// Items from an iterator.
struct Source<I>(I);

impl<I: Iterator<Item = Result<Item>> + Send> Items for Source<I> {
    fn next(&mut self) -> Result<Option<Item>> {
        self.0.next().transpose()
    }
}

fn source(given: Vec<Given>) -> impl Items {
    Source(given.into_iter().map(|given| {
        let entry = Entry {
            path: EntryPath::parse(given.path.clone())?,
            size_bytes: given.listed.unwrap_or(given.data.len() as u64),
            modified: given.modified,
            mode: given.mode,
        };
        Ok(Item { entry, content: Box::new(given) })
    }))
}

fn archived(given: Vec<Given>) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary =
        write(&mut source(given), &mut bytes, &WriteOptions::default(), &Control::default())
            .expect("an archive");
    assert_eq!(summary.bytes_out, bytes.len() as u64);
    (bytes, summary)
}

fn opened(bytes: &[u8], limits: &Limits) -> Result<Reader> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    Reader::from_file(file, limits)
}

/// All files below a folder with their modes, sorted.
fn tree(root: &Path) -> Vec<(Vec<u8>, Vec<u8>, u32)> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let mut pending = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for child in std::fs::read_dir(folder).expect("listed") {
            let path = child.expect("listed").path();
            let meta = std::fs::symlink_metadata(&path).expect("examined");
            if meta.is_dir() {
                pending.push(path);
                continue;
            }
            assert!(meta.is_file(), "{} is a file", path.display());
            let name = path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec();
            files.push((name, std::fs::read(&path).expect("read"), meta.mode() & 0o7777));
        }
    }
    files.sort();
    files
}

/// Bytes that do not compress, the same for the same seed.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 56) as u8
    };
    (0..bytes).map(step).collect()
}
