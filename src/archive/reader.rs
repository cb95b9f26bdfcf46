//! Opening an archive: the central directory is read once, judged whole, and kept.
//!
//! The parser is `rawzip`: no unsafe code, no recursion, and it reads at offsets, so that many
//! threads can share one file. What it does not judge is judged here: counts, bounds,
//! overlaps, claims that cannot be true.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;

use rawzip::{FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt, ZipArchive};

use crate::archive::inflate::{EntryReader, Gear};
use crate::archive::limits::Limits;
use crate::archive::parallel::{default_threads, each};
use crate::archive::stored::{Form, Method, StoredEntry};
use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};

/// An open archive. Shared by reference between threads.
#[derive(Debug)]
pub struct Reader {
    archive: ZipArchive<FileReader>,
    entries: Vec<StoredEntry>,
    limits: Limits,
    file_bytes: u64,
}

/// What [`Reader::verify`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Entries, folders included.
    pub entries: u64,
    /// Their bytes, unpacked.
    pub bytes: u64,
}

/// What [`probe`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Entries, folders included.
    pub entries: u64,
    /// Their bytes, unpacked, as claimed.
    pub bytes: u64,
}

/// A quick check that a file is a readable zip: its directory parses under the default
/// [`Limits`] and every entry lies inside the file. No entry is read. An empty zip passes.
///
/// # Errors
/// [`Kind::Corrupt`] when it is not; other kinds when the file cannot be read.
pub fn probe(path: &Path) -> Result<Probe> {
    let reader = Reader::open(path, &Limits::default())?;
    Ok(Probe { entries: reader.entries.len() as u64, bytes: reader.total_bytes() })
}

impl Reader {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; otherwise as [`Reader::from_file`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::Internal,
            };
            Error::new(kind, format!("cannot open {}", path.display())).because(error)
        })?;
        Self::from_file(file, limits)
    }

    /// Opens an archive from a file. Bytes before and behind it are passed over.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: no zip, truncated, beyond a limit, with entries that overlap, leave
    /// the file or claim what cannot be.
    pub fn from_file(file: File, limits: &Limits) -> Result<Self> {
        let file_bytes = file.metadata().context("cannot examine the archive")?.len();
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer)
            .map_err(|error| unreadable(error, "it has no readable end record"))?;
        check_start(&archive)?;
        let entries = read_directory(&archive, &mut buffer, limits, file_bytes)?;
        let reader = Self { archive, entries, limits: limits.clone(), file_bytes };
        reader.check_claims()?;
        reader.check_overlaps()?;
        Ok(reader)
    }

    /// Its entries in the order of the central directory.
    pub fn entries(&self) -> &[StoredEntry] {
        &self.entries
    }

    /// The entry that `path` is extracted from: the last one whose name resolves to it.
    pub fn find(&self, path: &[u8]) -> Option<&StoredEntry> {
        self.entries.iter().rev().find(|entry| entry.path().as_deref() == Some(path))
    }

    /// Bytes of all entries together, unpacked, as claimed.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size_bytes()))
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// A reader of an entry's unpacked bytes. It fails with [`Kind::Corrupt`] (inside an I/O
    /// error) when size or checksum are not as claimed; the end of the stream is only reached
    /// when they are.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: an unknown method, or no such data in the file.
    pub fn open_entry<'a>(&'a self, entry: &'a StoredEntry) -> Result<EntryReader<'a>> {
        EntryReader::new(&self.archive, entry, Gear::default())
    }

    /// Reads every entry on all cores and checks size and checksum.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] naming a bad entry; [`Control::check`]'s.
    pub fn verify(&self, threads: Option<NonZeroUsize>, control: &Control) -> Result<Verified> {
        let state = || (Gear::default(), vec![0; READ_BYTES]);
        let order = self.work_order(0..self.entries.len());
        each(default_threads(threads), &order, control, state, |(gear, buffer), index| {
            self.pour(index, gear, buffer, control, &mut |_| Ok(()))
        })?;
        Ok(Verified { entries: self.entries.len() as u64, bytes: self.total_bytes() })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The order that keeps all threads busy to the end: the largest first, then as they lie.
    pub(super) fn work_order(&self, indices: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut order: Vec<usize> = indices.collect();
        order.sort_by_key(|index| {
            let entry = &self.entries[*index];
            let large = if entry.size_bytes() >= LARGE_BYTES { entry.size_bytes() } else { 0 };
            (std::cmp::Reverse(large), entry.offset())
        });
        order
    }

    /// Hands all bytes of an entry to `sink` and counts them; folders have none.
    pub(super) fn pour(
        &self,
        index: usize,
        gear: &mut Gear,
        buffer: &mut [u8],
        control: &Control,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let entry = &self.entries[index];
        if entry.form() != Form::Folder {
            let mut reader = EntryReader::new(&self.archive, entry, std::mem::take(gear))?;
            loop {
                control.check()?;
                let n = reader.next(buffer)?;
                if n == 0 {
                    break;
                }
                control.add_bytes(n as u64);
                sink(&buffer[..n])?;
            }
            *gear = reader.into_gear();
        }
        control.add_entries(1);
        Ok(())
    }

    fn check_claims(&self) -> Result<()> {
        for entry in &self.entries {
            let possible = match entry.method() {
                Method::Store => entry.packed_bytes(),
                Method::Deflate => deflate_most(entry.packed_bytes()),
                Method::Other(_) => u64::MAX,
            };
            if entry.size_bytes() > possible {
                return Err(entry.corrupt("it claims more bytes than its data can hold"));
            }
        }
        let total = self.total_bytes();
        if total > self.limits.total_bytes {
            return Err(refused(format!("{total} bytes unpacked are more than allowed")));
        }
        if total > self.limits.ratio.saturating_mul(self.file_bytes) {
            return Err(refused(format!("{total} bytes unpacked are too many for its size")));
        }
        Ok(())
    }

    fn check_overlaps(&self) -> Result<()> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_unstable_by_key(|index| self.entries[*index].offset());
        let mut ends = order.iter().skip(1).map(|next| self.entries[*next].offset());
        for index in &order {
            let entry = &self.entries[*index];
            let limit = ends.next().unwrap_or(self.archive.directory_offset());
            if entry.least_end().is_none_or(|end| end > limit) {
                return Err(entry.corrupt("its data overlaps what comes behind it"));
            }
        }
        Ok(())
    }
}

/// The buffer for unpacked bytes.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Entries from this size on are begun first.
const LARGE_BYTES: u64 = 8 << 20;

/// The most that Deflate can hold in so many bytes: 258 from 2 bits, rounded up.
fn deflate_most(packed_bytes: u64) -> u64 {
    packed_bytes.saturating_mul(1_033).saturating_add(1_033)
}

/// A [`Kind::Corrupt`] error about the archive as a whole.
fn refused(reason: impl std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("not a usable zip: {reason}"))
}

/// What the parser's error means: a fault of the disk is not the archive's.
fn unreadable(error: rawzip::Error, reason: &str) -> Error {
    if let rawzip::ErrorKind::IO(io) = error.kind()
        && !is_outside(io)
    {
        return Error::internal("cannot read the archive").because(error);
    }
    refused(reason).because(error)
}

/// Whether a place was read that no file has: behind the end, or beyond what the system's
/// offsets can say, which it calls an invalid argument.
pub(super) fn is_outside(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput)
}

/// A truncated archive may end right behind a stored zip inside it, whose end record then
/// passes for the archive's own with everything else as "leading bytes".
fn check_start(archive: &ZipArchive<FileReader>) -> Result<()> {
    let failed = "cannot read the archive";
    let mut end = [0; 22];
    let file = archive.get_ref();
    file.read_exact_at(&mut end, archive.eocd_offset()).context(failed)?;
    let declared = u64::from(u32::from_le_bytes([end[16], end[17], end[18], end[19]]));
    if declared == u64::from(u32::MAX) || declared == archive.directory_offset() {
        return Ok(());
    }
    let mut start = [0; 4];
    file.read_exact_at(&mut start, 0).context(failed)?;
    if &start == b"PK\x03\x04" {
        return Err(refused("it is truncated: only a zip inside it is whole"));
    }
    Ok(())
}

fn read_directory(
    archive: &ZipArchive<FileReader>,
    buffer: &mut [u8],
    limits: &Limits,
    file_bytes: u64,
) -> Result<Vec<StoredEntry>> {
    let (from, to) = (archive.directory_offset(), archive.eocd_offset());
    if to > file_bytes || from > to {
        return Err(refused("its directory lies outside the file"));
    }
    if to - from > limits.directory_bytes {
        return Err(refused(format!("a directory of {} bytes is too large", to - from)));
    }
    let mut entries = Vec::new();
    let mut records = archive.entries(buffer);
    while let Some(record) =
        records.next_entry().map_err(|error| unreadable(error, "its directory is damaged"))?
    {
        if entries.len() as u64 >= limits.entries {
            return Err(refused(format!("it has more than {} entries", limits.entries)));
        }
        entries.push(StoredEntry::new(&record));
    }
    // A classic end record counts modulo 65,536, and some writers leave it at that.
    let count = entries.len() as u64;
    if (archive.entries_hint() ^ count) & 0xffff != 0 {
        let claimed = archive.entries_hint();
        return Err(refused(format!("it claims {claimed} entries and lists {count}")));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_not_a_corrupt_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = probe(&folder.path().join("missing.zip")).expect_err("nothing there");
        assert_eq!(error.kind(), &Kind::NotFound);
    }
}
