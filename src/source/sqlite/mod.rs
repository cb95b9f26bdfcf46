//! A live SQLite database, pinned and read as one moment while other processes go on writing.
//!
//! In WAL mode a read transaction holds a read mark: no checkpoint moves a frame behind the
//! mark into the database file, and the log is not restarted under it. So the state of that
//! moment is the database file with the log's last frame of each page, up to the mark's frame,
//! laid over it (`overlay`). Nothing is copied to disk and no writer waits. The price: the log
//! cannot shrink while the pin is held.
//!
//! A database in rollback mode, or one whose handles SQLite does not give us, is copied by
//! SQLite's online backup into the staging folder instead (`copy`).
//!
//! `docs/decisions` says why this way was chosen.

mod check;
mod copy;
mod fault;
mod overlay;
pub(super) mod raw;
mod uri;

use std::io::Read;
use std::path::{Path, PathBuf};

use self::check::{Check, OnDamage};
use self::copy::Copied;
use self::overlay::Overlay;
use self::raw::{Connection, Mode, WAL_INDEX_WORDS};
use crate::backup::Content;
use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};

/// How often a pin is tried again because a commit fell into its few microseconds; a writer
/// that commits without pause needs two or three tries.
const PIN_TRIES_MAX: u32 = 1_000;
/// The only WAL-index format there is.
const WAL_INDEX_VERSION: u32 = 3_007_000;

/// A database that was opened read-only and is readable.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    /// A second one, to check the moment that the first one reads.
    checker: Connection,
    path: PathBuf,
}

/// A database in a read transaction whose exact moment is known.
#[derive(Debug)]
pub(super) struct Pinned {
    connection: Connection,
    checker: Connection,
    path: PathBuf,
    page_size: u32,
    page_count: u32,
    way: Way,
}

/// How a pinned database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the database file and, over it, these frames of its log.
    Overlay(Frames),
    /// From a copy that SQLite makes.
    Copy,
}

/// The frames of a log that belong to a pinned moment and are not surely in the database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frames {
    /// Frames up to this one are in the database file.
    backfilled: u32,
    /// The last frame of the moment; smaller than or equal to `backfilled` for none.
    last: u32,
    /// The salts that every frame must carry, as they lie in the log.
    salts: [u8; 8],
}

impl Database {
    /// Opens the database at `path` read-only; `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: not a database. [`Kind::Unavailable`]: locked or unreachable.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| cannot_read(path)),
        };
        // SQLite would wait for ever for the writer of a FIFO.
        if !meta.is_file() {
            return Err(
                Error::new(Kind::Corrupt, cannot_read(path)).hint("it is not a regular file")
            );
        }
        let connection = Connection::open(path, Mode::ReadOnly)?;
        // The first read finds what is wrong with it, and opens its log.
        connection.exec(FIRST_READ)?;
        let checker = Connection::open(path, Mode::ReadOnly)?;
        Ok(Some(Self { connection, checker, path: path.to_owned() }))
    }

    /// Pins this moment.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when another process keeps the database locked.
    pub(super) fn pin(self) -> Result<Pinned> {
        self.pin_around(&mut || {})
    }

    /// [`Database::pin`], with something that happens while the header is not yet known to be
    /// that of the transaction. Only a test lets anything happen there.
    pub(super) fn pin_around(self, meanwhile: &mut dyn FnMut()) -> Result<Pinned> {
        for _ in 0..PIN_TRIES_MAX {
            let before = self.connection.wal_index();
            meanwhile();
            self.begin()?;
            meanwhile();
            let Some(before) = before else {
                // Rollback mode, or no shared memory. Should the database have changed into
                // WAL mode just now, a copy of it is right all the same.
                return self.pinned(Way::Copy);
            };
            // An unchanged header has an unchanged change counter: no commit fell between the
            // two readings, so the frames of both transactions are exactly those of the header.
            // And as the header was read after `nBackfill`, no checkpoint that knew of later
            // commits can have set it.
            let after = self.connection.wal_index();
            let Some(after) = after.filter(|after| same_header(&before, after)) else {
                self.end()?;
                continue;
            };
            let page_size = self.connection.integer("PRAGMA page_size")?;
            let way = match Frames::parse(&after) {
                Some((frames, size)) if i64::from(size) == page_size => Way::Overlay(frames),
                _ => Way::Copy,
            };
            return self.pinned(way);
        }
        self.begin()?;
        self.pinned(Way::Copy)
    }

    fn begin(&self) -> Result<()> {
        for connection in [&self.connection, &self.checker] {
            connection.exec("BEGIN")?;
            connection.exec(FIRST_READ)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        self.checker.exec("COMMIT")?;
        self.connection.exec("COMMIT")
    }

    fn pinned(self, way: Way) -> Result<Pinned> {
        let page_size = self.connection.integer("PRAGMA page_size")?;
        let page_count = self.connection.integer("PRAGMA page_count")?;
        let (Ok(page_size), Ok(page_count)) = (u32::try_from(page_size), u32::try_from(page_count))
        else {
            return Err(Error::new(Kind::Corrupt, cannot_read(&self.path)));
        };
        let Self { connection, checker, path } = self;
        Ok(Pinned { connection, checker, path, page_size, page_count, way })
    }
}

impl Pinned {
    /// The connection, inside its read transaction.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Lets the moment go.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn release(self) -> Result<Database> {
        let Self { connection, checker, path, .. } = self;
        let database = Database { connection, checker, path };
        database.end()?;
        Ok(database)
    }

    /// The content of the database at the pinned moment, and its size in bytes. While it is
    /// read it is checked, and `on_damage` told before the reader is gone what was found.
    ///
    /// A database that must be copied is copied here, at once, because its writers wait while
    /// the transaction is held: about a second for each 400 MB.
    ///
    /// # Errors
    /// The copy cannot be made, or the job was cancelled.
    pub(super) fn into_content(
        self,
        staging: &Path,
        control: &Control,
        on_damage: OnDamage,
    ) -> Result<(Box<dyn Content>, u64)> {
        let size_bytes = u64::from(self.page_size) * u64::from(self.page_count);
        match self.way {
            Way::Overlay(frames) => {
                let control = control.clone();
                let connection = self.checker;
                let check = Check { connection, size_bytes, control, on_damage };
                let (connection, path) = (self.connection, self.path);
                let (page_size, page_count) = (self.page_size, self.page_count);
                let content = InPlace { connection, path, page_size, page_count, frames, check };
                Ok((Box::new(content), size_bytes))
            }
            Way::Copy if self.page_count == 0 => Ok((Box::new(Empty), 0)),
            Way::Copy => {
                let copied = Copied::make(&self.connection, &self.path, staging, control)?;
                let size_bytes = copied.size_bytes();
                let check = copied.check(control, on_damage)?;
                Ok((Box::new(CheckedCopy { copied, check }), size_bytes))
            }
        }
    }

    /// Makes the next [`Pinned::into_content`] take the way of the copy.
    #[cfg(test)]
    pub(super) fn copied(mut self) -> Self {
        self.way = Way::Copy;
        self
    }
}

/// A pinned database that is read from its own files.
struct InPlace {
    connection: Connection,
    path: PathBuf,
    page_size: u32,
    page_count: u32,
    frames: Frames,
    check: Check,
}

impl Content for InPlace {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        let overlay = Overlay::open(self.connection, self.page_size, self.page_count, self.frames)
            .with_context(|| cannot_read(&self.path))?;
        Ok(Some(Box::new(self.check.beside(Box::new(overlay))?)))
    }
}

/// A copy of a pinned database.
struct CheckedCopy {
    copied: Copied,
    check: Check,
}

impl Content for CheckedCopy {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(self.check.beside(self.copied.into_reader()?)?)))
    }
}

/// A database of no pages, which is a file of no bytes.
struct Empty;

impl Content for Empty {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(std::io::empty())))
    }
}

impl Frames {
    /// Frames and page size from a WAL-index header; `None` for one that we do not know.
    fn parse(header: &[u32; WAL_INDEX_WORDS]) -> Option<(Self, u32)> {
        // Words of a header (host byte order): 0 version, 2 change counter, 3 isInit (first
        // byte) and page size (last two), 4 last frame, 5 pages, 8 and 9 salts; then, after
        // the second copy, 24 nBackfill.
        let [is_init, _, size_0, size_1] = header[3].to_ne_bytes();
        if header[0] != WAL_INDEX_VERSION || is_init == 0 {
            return None;
        }
        let page_size = match u32::from(u16::from_ne_bytes([size_0, size_1])) {
            1 => 65_536,
            size => size,
        };
        let mut salts = [0; 8];
        salts[..4].copy_from_slice(&header[8].to_ne_bytes());
        salts[4..].copy_from_slice(&header[9].to_ne_bytes());
        Some((Self { backfilled: header[24], last: header[4], salts }, page_size))
    }
}

/// Whether two readings show the same, whole header. `nBackfill` may differ.
fn same_header(before: &[u32; WAL_INDEX_WORDS], after: &[u32; WAL_INDEX_WORDS]) -> bool {
    before[..12] == after[..12] && before[12..24] == after[12..24] && after[..12] == after[12..24]
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read the database {}", path.file_name().unwrap_or_default().display())
}

const FIRST_READ: &str = "SELECT 1 FROM sqlite_master LIMIT 1";
