//! The files of a folder: a walk with bounded memory, and the contents it hands out.
//!
//! Depth first; within a folder by the bytes of the names, which is the order of PocketBase's
//! archives. One listing is held for each level of the path, nothing else.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};

use super::report::{Reason, Report};
use super::root::{Listing, Looks, Meta, NoFile, OpenFile, Root};
use crate::backup::{Content, Entry, EntryPath, Item};
use crate::data_dir::STATE;
use crate::error::{Error, Kind, Result};

/// Folders of a path that a walk keeps open.
const OPEN_LEVELS_MAX: usize = 16;

/// Which entries at the walk's first level are visited.
pub(super) type Rule = fn(&[u8]) -> bool;

/// A walk over a folder, giving one file at a time.
pub(super) struct Walk {
    root: Arc<Root>,
    report: Report,
    levels: Vec<Level>,
    /// Path of the current folder, with a final `/` unless it is the root.
    prefix: Vec<u8>,
    rule: Rule,
    scratch: Vec<u8>,
}

struct Level {
    listing: Listing,
    next: usize,
    /// Length of the path of the folder above.
    above: usize,
}

/// A file that the walk found.
pub(super) struct Found {
    /// Its path inside the folder.
    pub(super) path: EntryPath,
    /// What it is.
    pub(super) meta: Meta,
    /// Where its bytes lie when the path is a link.
    target: Option<Vec<u8>>,
}

impl Walk {
    /// A walk over everything at the root that `rule` takes, and below it.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn new(root: Arc<Root>, report: Report, rule: Rule) -> Result<Self> {
        let (levels, prefix, scratch) = (Vec::new(), Vec::new(), Vec::new());
        let mut walk = Self { root, report, levels, prefix, rule, scratch };
        walk.descend(b"")?;
        Ok(walk)
    }

    /// The next file.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn next(&mut self) -> Result<Option<Found>> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((name, looks)) = level.listing.get(level.next) else {
                self.prefix.truncate(level.above);
                self.levels.pop();
                continue;
            };
            level.next += 1;
            if depth == 1 && !(self.rule)(name) {
                continue;
            }
            if name == STATE.as_bytes() && self.root.is_place(&self.prefix) {
                continue;
            }
            let path = [&self.prefix, name].concat();
            if looks == Looks::Folder {
                self.descend(&path)?;
                continue;
            }
            match self.root.look_in(&level.listing, name, &path) {
                Ok((FileType::Directory, _)) => self.descend(&path)?,
                Ok((kind, stat)) => {
                    if let Some(found) = self.found(path, kind, &stat)? {
                        return Ok(Some(found));
                    }
                }
                Err(error) => self.leave_out(&path, error)?,
            }
        }
    }

    fn found(&self, path: Vec<u8>, kind: FileType, stat: &Stat) -> Result<Option<Found>> {
        let reason = match kind {
            FileType::RegularFile if self.root.is_live(stat) => Reason::LiveDatabase,
            FileType::RegularFile => {
                let path = EntryPath::parse(path)?;
                return Ok(Some(Found { path, meta: Meta::of(stat), target: None }));
            }
            FileType::Symlink => {
                // PocketBase archives the bytes under the mode of a link, and its restore
                // then skips them; as a regular file they survive.
                let target = self.root.resolve(&path);
                if let Some((target, (_, stat))) = target.and_then(|target| {
                    let looked = self.root.look(&target).ok()?;
                    Some((target, looked))
                }) {
                    let (path, meta) = (EntryPath::parse(path)?, Meta::of(&stat));
                    return Ok(Some(Found { path, meta, target: Some(target) }));
                }
                Reason::Symlink
            }
            _ => Reason::Special,
        };
        self.report.skip(&path, reason);
        Ok(None)
    }

    fn descend(&mut self, path: &[u8]) -> Result<()> {
        match self.root.list(path, &mut self.scratch) {
            Ok(mut listing) => {
                if self.levels.len() >= OPEN_LEVELS_MAX {
                    listing.release();
                }
                let above = self.prefix.len();
                self.prefix.clear();
                self.prefix.extend_from_slice(path);
                if !path.is_empty() {
                    self.prefix.push(b'/');
                }
                self.levels.push(Level { listing, next: 0, above });
                Ok(())
            }
            Err(error) => self.leave_out(path, error),
        }
    }

    fn leave_out(&self, path: &[u8], why: NoFile) -> Result<()> {
        match why {
            NoFile::Gone => Ok(()),
            NoFile::Refused(reason) => {
                self.report.skip(path, reason);
                Ok(())
            }
            NoFile::NoDescriptor => Err(no_descriptor()),
        }
    }
}

impl Found {
    /// A regular file that was looked at; `None` for anything else.
    pub(super) fn regular(path: EntryPath, kind: FileType, stat: &Stat) -> Option<Self> {
        let meta = Meta::of(stat);
        (kind == FileType::RegularFile).then_some(Self { path, meta, target: None })
    }

    /// The item of this file, and the slot through which it can be opened early.
    pub(super) fn into_item(self, root: &Arc<Root>, report: &Report) -> (Item, Slot) {
        let path = self.target.unwrap_or_else(|| self.path.as_bytes().to_vec());
        let (root, report) = (Arc::clone(root), report.clone());
        let slot = Slot(Arc::new(Inner { root, path, report, state: Mutex::default() }));
        let content = FileContent(slot.clone());
        (item(self.path, self.meta, Box::new(content)), slot)
    }
}

/// A file to be read, shared by the worker that will read it and the feed that may have to
/// open it before.
#[derive(Clone)]
pub(super) struct Slot(Arc<Inner>);

struct Inner {
    root: Arc<Root>,
    path: Vec<u8>,
    report: Report,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    /// Nobody has opened it.
    #[default]
    Waiting,
    /// Opened ahead of its worker.
    Held(OpenFile),
    /// Opened by its worker.
    Taken,
    /// It was not there, or had to be left out.
    Lost,
}

/// What became of a file to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody has opened it yet.
    Waiting,
    /// It is open, or was: its bytes get into the archive.
    Safe,
    /// It does not get into the archive.
    Lost,
}

impl Slot {
    /// What became of it so far.
    pub(super) fn fate(&self) -> Fate {
        match &*self.lock() {
            // The content was dropped unread, so nobody will ever open it.
            State::Waiting if Arc::strong_count(&self.0) == 1 => Fate::Lost,
            State::Waiting => Fate::Waiting,
            State::Held(_) | State::Taken => Fate::Safe,
            State::Lost => Fate::Lost,
        }
    }

    /// Opens it for its worker, unless that has happened.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn hold(&self) -> Result<()> {
        let mut state = self.lock();
        if matches!(*state, State::Waiting) {
            *state = self.0.open()?.map_or(State::Lost, State::Held);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn open(&self) -> Result<Option<OpenFile>> {
        open(&self.root, &self.path, &self.report)
    }
}

struct FileContent(Slot);

impl Content for FileContent {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        let mut state = self.0.lock();
        let file = match std::mem::replace(&mut *state, State::Lost) {
            State::Held(file) => Some(file),
            State::Waiting => self.0.0.open()?,
            State::Taken | State::Lost => None,
        };
        if file.is_some() {
            *state = State::Taken;
        }
        Ok(file.map(reader))
    }
}

/// The item of a file that is open already.
pub(super) fn open_item(path: EntryPath, file: OpenFile) -> Item {
    struct Opened(OpenFile);
    impl Content for Opened {
        fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
            Ok(Some(reader(self.0)))
        }
    }
    item(path, file.meta, Box::new(Opened(file)))
}

/// Opens a file; `None` when it is gone or has to be left out, which is noted.
fn open(root: &Root, path: &[u8], report: &Report) -> Result<Option<OpenFile>> {
    match root.open_file(path) {
        Ok(file) => Ok(Some(file)),
        Err(NoFile::Gone) => Ok(None),
        Err(NoFile::Refused(reason)) => {
            report.skip(path, reason);
            Ok(None)
        }
        Err(NoFile::NoDescriptor) => Err(no_descriptor()),
    }
}

fn item(path: EntryPath, meta: Meta, content: Box<dyn Content>) -> Item {
    let Meta { size_bytes, modified, mode } = meta;
    Item { entry: Entry { path, size_bytes, modified, mode }, content }
}

/// A file that grows while it is read ends where it ended when it was opened; otherwise a log
/// that is written as fast as it is read would never end.
fn reader(file: OpenFile) -> Box<dyn Read + Send> {
    Box::new(file.file.take(file.meta.size_bytes))
}

/// The error of a process that has too many files open.
pub(super) fn no_descriptor() -> Error {
    Error::new(Kind::Unavailable, "this process has no file descriptor left")
        .hint("raise the limit of open files (ulimit -n, LimitNOFILE)")
}
