//! What an extraction would do, decided and judged before anything is written.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use crate::archive::Skipped;
use crate::archive::limits::Limits;
use crate::archive::reader::Reader;
use crate::archive::stored::{Form, StoredEntry};
use crate::backup::EntryPath;
use crate::error::Result;

/// File systems give out room in pieces of about this size.
const ROOM_BYTES: u64 = 4 << 10;

/// The outcome of every entry.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// By entry: the file it becomes. Files that a later entry of the same path replaces have
    /// none, they are only checked.
    targets: Vec<Option<Cow<'a, [u8]>>>,
    /// The entries to read.
    pub(super) reads: Vec<usize>,
    /// All folders, parents first.
    pub(super) folders: BTreeSet<Vec<u8>>,
    pub(super) skipped: Vec<Skipped>,
    /// How many files there will be, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The room all of it takes on a disk, in bytes.
    pub(super) room_bytes: u64,
}

impl<'a> Plan<'a> {
    /// Judges every name, and takes what `takes` wants.
    ///
    /// # Errors
    /// [`crate::error::Kind::Corrupt`]: a name that leads outside or nowhere, that is too
    /// long, or that is a file and a folder at once.
    pub(super) fn new(reader: &'a Reader, takes: &dyn Fn(&[u8]) -> bool) -> Result<Self> {
        let entries = reader.entries();
        let mut plan = Self {
            targets: vec![None; entries.len()],
            reads: Vec::new(),
            folders: BTreeSet::new(),
            skipped: Vec::new(),
            files: 0,
            bytes: 0,
            room_bytes: 0,
        };
        for (index, entry) in entries.iter().enumerate() {
            let path = checked_path(entry, reader.limits())?;
            if !takes(&path) {
                continue;
            }
            match entry.form() {
                Form::Irregular => plan.skipped.push(Skipped {
                    path: EntryPath::parse(path.into_owned())?,
                    reason: "it is neither a file nor a folder".to_owned(),
                }),
                Form::Folder => plan.add_folder(&path),
                Form::File => {
                    plan.add_folder(parent(&path));
                    plan.targets[index] = Some(path);
                    plan.reads.push(index);
                }
            }
        }
        plan.replace_by_later(entries)?;
        plan.measure(entries);
        Ok(plan)
    }

    /// The path of the file that an entry becomes.
    pub(super) fn target(&self, index: usize) -> Option<&[u8]> {
        self.targets.get(index)?.as_deref()
    }

    /// [`Plan::target`], once, to keep.
    pub(super) fn take_target(&mut self, index: usize) -> Option<Cow<'a, [u8]>> {
        self.targets.get_mut(index)?.take()
    }

    fn add_folder(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() && !self.folders.contains(path) {
            self.folders.insert(path.to_vec());
            path = parent(path);
        }
    }

    fn replace_by_later(&mut self, entries: &[StoredEntry]) -> Result<()> {
        let mut latest: HashMap<&[u8], usize> = HashMap::new();
        let mut replaced = Vec::new();
        for index in &self.reads {
            let Some(path) = self.targets[*index].as_deref() else { continue };
            if self.folders.contains(path) {
                return Err(entries[*index].corrupt("it is a file and a folder at once"));
            }
            replaced.extend(latest.insert(path, *index));
        }
        for index in replaced {
            self.targets[index] = None;
        }
        Ok(())
    }

    fn measure(&mut self, entries: &[StoredEntry]) {
        self.room_bytes = self.folders.len() as u64 * ROOM_BYTES;
        for (entry, _) in entries.iter().zip(&self.targets).filter(|(_, path)| path.is_some()) {
            let bytes = entry.size_bytes();
            self.files += 1;
            self.bytes += bytes;
            let room = bytes.checked_next_multiple_of(ROOM_BYTES).unwrap_or(u64::MAX);
            self.room_bytes = self.room_bytes.saturating_add(room);
        }
    }
}

/// The folder that holds `path`; empty at the top.
fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &path[..slash],
        None => &[],
    }
}

fn checked_path<'a>(entry: &'a StoredEntry, limits: &Limits) -> Result<Cow<'a, [u8]>> {
    let path = entry.path().ok_or_else(|| entry.corrupt("invalid file path"))?;
    let part_bytes = path.split(|byte| *byte == b'/').map(<[u8]>::len).max().unwrap_or(0);
    if path.len() > limits.path_bytes || part_bytes > limits.name_bytes {
        return Err(entry.corrupt("file name too long"));
    }
    Ok(path)
}
