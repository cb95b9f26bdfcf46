//! What is backed up: a `pb_data` folder as one consistent snapshot, read while its
//! application goes on writing; and databases of PostgreSQL, which [`postgres`] dumps.
//!
//! A [`Snapshot`] hands out the files of `storage`, then what was uploaded meanwhile, then the
//! pinned databases, then everything else at the root, in that order: only a walk *before* the
//! pin lets the files agree with the database (`agree`) and keeps the pin short. Within each
//! part the order is PocketBase's, depth first by the bytes of the names.
//!
//! This module knows neither archives nor storages; all it needs of its reader is that it
//! opens the items about as fast as it asks for them.

mod agree;
pub mod bosbase;
mod files;
mod mounts;
mod names;
pub mod postgres;
mod report;
mod root;
mod sqlite;
#[cfg(test)]
mod tests;
mod tracker;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use self::agree::{Agreed, Agreement};
use self::files::Walk;
pub use self::report::{Reason, Report, SKIPPED_LISTED_MAX, Skipped};
use self::root::Root;
use self::sqlite::{Database, Pinned};
use crate::backup::{Entry, EntryPath, Item, Items};
use crate::control::Control;
use crate::data_dir::{AUXILIARY_DB, DATA_DB, DATABASES, DataDir, STORAGE, is_archived};
use crate::error::{Context, Error, Kind, Result};

/// What may be done to the databases of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They belong to another process: they are opened read-only, without exception. (Opened
    /// and closed for writing they can cost a PocketBase its log: after a backup of its own it
    /// holds no locks any more.)
    ReadOnly,
    /// They are ours: where an application deletes records faster than their files can be
    /// opened, the write lock of `data.db` may be taken once, for the time of one look.
    Owned,
}

/// A `pb_data` folder as something to back up.
#[derive(Debug, Clone)]
pub struct PocketBaseFolder {
    data: DataDir,
    access: Access,
}

/// What a folder holds, as far as it was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of files.
    pub bytes: u64,
    /// Files.
    pub entries: u64,
    /// Whether everything was looked at; otherwise there is more than this.
    pub complete: bool,
}

impl PocketBaseFolder {
    /// The folder of `data`.
    pub fn new(data: DataDir, access: Access) -> Self {
        Self { data, access }
    }

    /// Opens the folder and its databases for a snapshot. The databases are pinned later, by
    /// [`Items::next`], when the files of `storage` have been handed out.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: no `data.db`. [`Kind::Corrupt`]: a database is none.
    /// [`Kind::Unavailable`]: a database is locked or cannot be reached.
    pub fn pin(&self, control: &Control) -> Result<Snapshot> {
        control.check()?;
        let root = std::path::absolute(self.data.root())
            .with_context(|| format!("cannot find {}", self.data.root().display()))?;
        let main = Database::open(&root.join(DATA_DB))?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no {DATA_DB} in the data folder"))
                .hint(format!("is {} a pb_data folder?", root.display()))
        })?;
        let auxiliary = Database::open(&root.join(AUXILIARY_DB))?;
        let report = Report::new(&self.data);
        // Only now, so that it knows the side files that SQLite has opened.
        let folder = Arc::new(Root::open(&root)?);
        let agreement = Agreement::new(folder, report.clone());
        let storage = agreement.walk(is_storage)?;
        Ok(Snapshot {
            root,
            staging: self.data.staging(),
            access: self.access,
            report,
            agreement,
            control: control.clone(),
            ready: VecDeque::new(),
            phase: Phase::Storage(storage, main, auxiliary),
        })
    }

    /// Counts what a snapshot would hold, for at most about `time`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn estimate(&self, time: Duration) -> Result<Estimate> {
        let deadline = Instant::now() + time;
        let report = Report::new(&self.data);
        let mut estimate = Estimate::default();
        // A walk only looks at files, so it may look at the databases, too.
        let root = Arc::new(Root::open(self.data.root())?);
        for name in DATABASES {
            if let Ok((_, stat)) = root.look(name.as_bytes()) {
                estimate.entries += 1;
                estimate.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
        let mut walk = Walk::new(root, report, |name| is_storage(name) || is_rest(name))?;
        while let Some(found) = walk.next()? {
            estimate.entries += 1;
            estimate.bytes += found.meta.size_bytes;
            if Instant::now() > deadline {
                return Ok(estimate);
            }
        }
        estimate.complete = true;
        Ok(estimate)
    }
}

/// A consistent view of a `pb_data` folder, as a stream of entries. Dropping it, and the items
/// it handed out, lets the databases go.
pub struct Snapshot {
    root: PathBuf,
    staging: PathBuf,
    access: Access,
    report: Report,
    agreement: Agreement,
    control: Control,
    /// Handed out before the phase goes on.
    ready: VecDeque<Item>,
    phase: Phase,
}

/// What is handed out next. The databases are `data.db`, and `auxiliary.db` if there is one.
enum Phase {
    Storage(Walk, Database, Option<Database>),
    CatchUp(Database, Option<Database>),
    Rest(Walk),
    /// Over, also after an error.
    Done,
}

impl Snapshot {
    /// The report of what is left out; complete when everything was read.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// [`Report::skipped`] of its report.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.report.skipped()
    }

    /// [`Report::wal_bytes`] of its report.
    pub fn wal_bytes(&self) -> u64 {
        self.report.wal_bytes()
    }

    /// Goes on by one phase, or by one item of it.
    fn advance(&mut self, phase: Phase) -> Result<Phase> {
        match phase {
            Phase::Storage(mut walk, main, auxiliary) => match walk.next()? {
                Some(found) => {
                    self.ready.push_back(self.agreement.hand_out(found));
                    Ok(Phase::Storage(walk, main, auxiliary))
                }
                None => Ok(Phase::CatchUp(main, auxiliary)),
            },
            Phase::CatchUp(main, auxiliary) => self.catch_up(main, auxiliary),
            Phase::Rest(mut walk) => {
                let Some(found) = walk.next()? else { return Ok(Phase::Done) };
                self.ready.push_back(self.agreement.hand_out(found));
                Ok(Phase::Rest(walk))
            }
            Phase::Done => Ok(Phase::Done),
        }
    }

    fn catch_up(&mut self, main: Database, auxiliary: Option<Database>) -> Result<Phase> {
        let path = self.root.join(DATA_DB);
        let lock = (self.access == Access::Owned).then_some(path.as_path());
        let agreed = self.agreement.pin(main, lock, &self.control)?;
        self.ready.extend(self.agreement.take_items());
        let main = match agreed {
            Agreed::Later(main) => return Ok(Phase::CatchUp(main, auxiliary)),
            Agreed::Yes(pinned) => pinned,
        };
        let auxiliary = auxiliary.map(Database::pin).transpose()?;
        let item = self.database(DATA_DB, main)?;
        self.ready.push_back(item);
        if let Some(auxiliary) = auxiliary {
            let item = self.database(AUXILIARY_DB, auxiliary)?;
            self.ready.push_back(item);
        }
        Ok(Phase::Rest(self.agreement.walk(is_rest)?))
    }

    fn database(&self, name: &str, pinned: Pinned) -> Result<Item> {
        let path = self.root.join(name);
        let (report, path_inside) = (self.report.clone(), name.as_bytes().to_vec());
        let on_damage = Box::new(move |how| report.skip(&path_inside, Reason::Damaged(how)));
        let (content, size_bytes) = pinned.into_content(&self.staging, &self.control, on_damage)?;
        let (mode, modified) = mode_and_time(&path)?;
        let entry = Entry { path: EntryPath::parse(name)?, size_bytes, modified, mode };
        Ok(Item { entry, content })
    }
}

impl Items for Snapshot {
    fn next(&mut self) -> Result<Option<Item>> {
        loop {
            self.control.check()?;
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            // An error leaves it done, and with that every pin is gone.
            let phase = std::mem::replace(&mut self.phase, Phase::Done);
            if matches!(phase, Phase::Done) {
                return Ok(None);
            }
            self.phase = self.advance(phase)?;
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("root", &self.root).finish_non_exhaustive()
    }
}

fn is_storage(name: &[u8]) -> bool {
    name == STORAGE.as_bytes()
}

/// What is archived at the root beside `storage` and the databases.
fn is_rest(name: &[u8]) -> bool {
    // A name that is no text is none of the names we know.
    let Ok(name) = std::str::from_utf8(name) else { return true };
    is_archived(name) && name != STORAGE && !DATABASES.contains(&name)
}

/// The mode of a database, and the later one of its own and its log's modification times.
fn mode_and_time(path: &Path) -> Result<(u32, DateTime<Utc>)> {
    use std::os::unix::fs::MetadataExt;
    let meta =
        std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::metadata(log).and_then(|meta| meta.modified()).ok();
    let modified = meta.modified().ok().max(log);
    Ok((meta.mode(), modified.map_or(DateTime::UNIX_EPOCH, DateTime::from)))
}
