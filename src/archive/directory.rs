//! The central directory while it grows: finished records, and the names seen so far.
//!
//! Costs about 16 bytes of memory per entry beyond the records themselves; those move to an
//! unnamed file once they outgrow [`MEMORY_BYTES_MAX`], if there is a folder for it.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::SpooledTempFile;

use crate::archive::format::{self, Record};
use crate::error::{Context, Error, Result};
use crate::fsx;

/// Records kept in memory before they move to a file, in bytes.
const MEMORY_BYTES_MAX: usize = 16 << 20;
const COPY_BYTES: usize = 256 << 10;

/// Finished central records in the order of their entries.
pub(super) struct Directory {
    records: SpooledTempFile,
    /// The folder to spill into; made when it is needed.
    spill: Option<PathBuf>,
    bytes: u64,
    entries: u64,
    seen: HashSet<u64, BuildHasherDefault<Keep>>,
    hasher: RandomState,
    record: Vec<u8>,
}

impl Directory {
    /// An empty directory that may spill into `spill`.
    pub(super) fn new(spill: Option<&Path>) -> Self {
        let records = match spill {
            Some(folder) => SpooledTempFile::new_in(MEMORY_BYTES_MAX, folder),
            None => SpooledTempFile::new(usize::MAX),
        };
        Self {
            records,
            spill: spill.map(Path::to_owned),
            bytes: 0,
            entries: 0,
            seen: HashSet::default(),
            hasher: RandomState::new(),
            record: Vec::new(),
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// An entry of that name is there already, or the spill file cannot be written.
    pub(super) fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if !self.seen.insert(self.hasher.hash_one(record.name)) && self.holds(record.name)? {
            let name = String::from_utf8_lossy(record.name).into_owned();
            return Err(Error::internal(format!("two entries are named {name:?}")));
        }
        self.record.clear();
        record.central(&mut self.record);
        let spills = self.bytes + self.record.len() as u64 > MEMORY_BYTES_MAX as u64;
        if let Some(folder) = self.spill.as_ref().filter(|_| spills && !self.records.is_rolled()) {
            fsx::create_dir_durably(folder)?;
        }
        self.records.write_all(&self.record).context("cannot keep the central directory")?;
        self.bytes += self.record.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// How many entries there are.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Writes records and end records; `offset` is where the first byte will lie.
    ///
    /// # Errors
    /// The sink or the spill file fails.
    pub(super) fn finish(mut self, offset: u64, sink: &mut impl Write) -> Result<u64> {
        let failed = "cannot write the central directory";
        self.records.seek(SeekFrom::Start(0)).context(failed)?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let n = self.records.read(&mut buffer).context(failed)?;
            if n == 0 {
                break;
            }
            sink.write_all(&buffer[..n]).context(failed)?;
        }
        let mut end = Vec::new();
        format::end_records(&mut end, self.entries, self.bytes, offset);
        sink.write_all(&end).and_then(|()| sink.flush()).context(failed)?;
        Ok(offset + self.bytes + end.len() as u64)
    }

    /// Whether a name is there: asked only when its hash is, so nearly never for a new name.
    fn holds(&mut self, name: &[u8]) -> Result<bool> {
        let failed = "cannot read the central directory back";
        self.records.seek(SeekFrom::Start(0)).context(failed)?;
        let mut records = Vec::new();
        let mut found = false;
        loop {
            let mut rest = &records[..];
            while let Some((held, length)) = format::central_name(rest)
                && length <= rest.len()
            {
                found |= held == name;
                rest = &rest[length..];
            }
            let done = records.len() - rest.len();
            records.drain(..done);
            if (&mut self.records)
                .take(COPY_BYTES as u64)
                .read_to_end(&mut records)
                .context(failed)?
                == 0
            {
                break;
            }
        }
        self.records.seek(SeekFrom::End(0)).context(failed)?;
        Ok(found)
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::archive::format::Stamp;

    fn record(name: &[u8]) -> Record<'_> {
        Record {
            name,
            mode: 0,
            stamp: Stamp::new(DateTime::UNIX_EPOCH),
            method: 0,
            streamed: false,
            crc: 0,
            packed_bytes: 0,
            size_bytes: 0,
            offset: 0,
        }
    }

    #[test]
    fn a_second_entry_of_one_name_is_refused_and_a_hash_alone_is_not_enough() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder that is not there yet, as in a state folder that is new.
        let mut directory = Directory::new(Some(&folder.path().join("state/staging")));
        let filler = vec![b'x'; 60_000];
        directory.add(&record(b"first")).expect("added");
        // Enough to spill, so that looking back crosses the file and many reads.
        for n in 0..300u32 {
            let mut name = filler.clone();
            name.extend_from_slice(&n.to_le_bytes());
            directory.add(&record(&name)).expect("added");
        }
        assert!(directory.records.is_rolled());
        assert!(directory.add(&record(b"first")).is_err());
        let mut last = filler.clone();
        last.extend_from_slice(&299u32.to_le_bytes());
        assert!(directory.add(&record(&last)).is_err());
        assert!(!directory.holds(b"second").expect("read"));
        directory.add(&record(b"second")).expect("appended behind the others");
        assert!(directory.holds(b"second").expect("read"));
        assert_eq!(directory.entries(), 302);
        let mut out = Vec::new();
        assert_eq!(directory.finish(0, &mut out).expect("written"), out.len() as u64);
    }
}
