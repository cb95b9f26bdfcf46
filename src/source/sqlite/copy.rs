//! The other way: a copy of the pinned database, made by SQLite's online backup.
//!
//! Used only where the database file cannot be read in place: in rollback mode, where its
//! writers wait as long as we read, and a copy is over sooner than an archive; and where SQLite
//! has no shared WAL-index (a read-only `-shm` without a writer).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::check::{Check, OnDamage};
use super::raw::{Connection, Mode};
use crate::control::Control;
use crate::error::{Context, Result};
use crate::fsx::{self, PartialFile};

/// Pages copied between two looks at the cancel flag.
const STEP_PAGES: u32 = 4_096;

/// A copy of a database; the file is removed on drop.
pub(super) struct Copied {
    file: PartialFile,
    size_bytes: u64,
}

impl Copied {
    /// Copies the database of `connection`, which is inside a read transaction, into `staging`.
    ///
    /// # Errors
    /// No room, a fault of the disk, or the job was cancelled.
    pub(super) fn make(
        connection: &Connection,
        path: &Path,
        staging: &Path,
        control: &Control,
    ) -> Result<Self> {
        fsx::create_dir_durably(staging)?;
        let file = PartialFile::create(&staging.join(path.file_name().unwrap_or_default()))?;
        let target = Connection::open(file.path(), Mode::ReadWrite)?;
        // Nobody needs this file after a crash.
        target.exec("PRAGMA journal_mode = OFF")?;
        target.exec("PRAGMA synchronous = OFF")?;
        connection.copy_to(&target, STEP_PAGES, &mut || control.check())?;
        drop(target);
        let size_bytes = std::fs::metadata(file.path())
            .with_context(|| format!("cannot read {}", file.path().display()))?
            .len();
        Ok(Self { file, size_bytes })
    }

    /// Its size in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The check of the copy: the database itself is not kept from its writers any longer.
    ///
    /// # Errors
    /// The copy cannot be opened.
    pub(super) fn check(&self, control: &Control, on_damage: OnDamage) -> Result<Check> {
        let connection = Connection::open(self.file.path(), Mode::Immutable)?;
        let (size_bytes, control) = (self.size_bytes, control.clone());
        Ok(Check { connection, size_bytes, control, on_damage })
    }

    /// The reader of the copy, which is removed with it.
    ///
    /// # Errors
    /// The copy cannot be opened.
    pub(super) fn into_reader(self) -> Result<Box<dyn Read + Send>> {
        let file = File::open(self.file.path())
            .with_context(|| format!("cannot open {}", self.file.path().display()))?;
        Ok(Box::new(CopyReader { file, _copied: self }))
    }
}

/// Reads the copy and keeps it from being removed.
struct CopyReader {
    file: File,
    _copied: Copied,
}

impl Read for CopyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out)
    }
}
