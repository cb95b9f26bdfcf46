//! What an extraction would make, told from the directory alone.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::archive::Skipped;
use crate::archive::plan::Plan;
use crate::archive::reader::Reader;
use crate::archive::stored::{Method, StoredEntry};
use crate::error::Result;

/// The files that an extraction would make.
#[derive(Debug)]
pub struct Outline<'a> {
    /// By path: the entry that the file is extracted from.
    pub files: HashMap<Cow<'a, [u8]>, &'a StoredEntry>,
    /// How many folders there would be.
    pub folders: u64,
    /// The bytes of the files, as claimed.
    pub bytes: u64,
    /// The room that all of it takes on a disk, in bytes.
    pub room_bytes: u64,
    /// Entries that are neither file nor folder.
    pub skipped: Vec<Skipped>,
}

impl Reader {
    /// What an extraction of the paths that `takes` wants would make. Nothing is read.
    ///
    /// # Errors
    /// [`crate::error::Kind::Corrupt`] naming an entry that no extraction would take: its
    /// name, or the way it is packed.
    pub fn outline(&self, takes: &dyn Fn(&[u8]) -> bool) -> Result<Outline<'_>> {
        let mut plan = Plan::new(self, takes)?;
        let mut files = HashMap::with_capacity(plan.reads.len());
        for index in std::mem::take(&mut plan.reads) {
            let entry = &self.entries()[index];
            if let Method::Other(number) = entry.method() {
                return Err(entry.corrupt(format_args!("unsupported compression method {number}")));
            }
            if let Some(path) = plan.take_target(index) {
                files.insert(path, entry);
            }
        }
        Ok(Outline {
            files,
            folders: plan.folders.len() as u64,
            bytes: plan.bytes,
            room_bytes: plan.room_bytes,
            skipped: plan.skipped,
        })
    }
}
