//! Making the files agree with the database: whatever a record of the snapshot names is in the
//! archive, while an application creates and deletes records at full speed.
//!
//! PocketBase writes a file before the record that names it commits, and deletes it after the
//! record's deletion commits; it never uses a name twice. So at the moment of a pin every file
//! that the pinned database names is on the disk, but later ones may go. The storage has been
//! walked and archived before; what is left is to catch up: pin, read the names, open at once
//! what was not handed out yet, and keep it open. If one of those is gone already, the pin is
//! let go and the next one tried; the files that were opened stay open, so each round has less
//! to do. A name that is missing in two rounds was not deleted in between: its record was still
//! there, so the file was lost before (or lies in S3), and no backup can hold it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::files::{self, Found, Walk};
use super::names::{FileCollection, file_collections};
use super::report::{Reason, Report, SKIPPED_LISTED_MAX};
use super::root::{NoFile, OpenFile, Root};
use super::sqlite::raw::{Connection, Mode};
use super::sqlite::{Database, Pinned};
use super::tracker::Tracker;
use crate::backup::{EntryPath, Item};
use crate::control::Control;
use crate::error::{Error, Kind, Result};

/// Rounds before the last one, which takes what it gets (or the write lock).
const ROUNDS_MAX: u32 = 20;
/// How often so much is new that it has to be archived before the next look.
const DETOURS_MAX: u32 = 100;
/// New files that are listed in one look, to be archived before the next one.
const LISTED_MAX: usize = 50_000;
/// Pause between two rounds, times the number of the round.
const PAUSE: Duration = Duration::from_millis(1);
/// Suffix of the side-car in which PocketBase keeps the type of a stored file.
const SIDE_CAR: &[u8] = b".attrs";

/// The state of the catching up.
pub(super) struct Agreement {
    root: Arc<Root>,
    report: Report,
    /// What was handed out.
    pub(super) tracker: Tracker,
    /// Opened here, not handed out yet.
    held: Vec<(EntryPath, OpenFile)>,
    /// New, but too many to be kept open: to be archived before the next look.
    listed: Vec<EntryPath>,
    /// Files that may be kept open.
    held_max: usize,
    /// The greatest row number that was seen, for each collection's id.
    seen: HashMap<String, i64>,
    /// What was named and not there in an earlier round.
    missing: HashSet<u64>,
    detours: u32,
}

/// The end of a look.
pub(super) enum Agreed {
    /// The database, pinned, and every file it names is handed out or held.
    Yes(Pinned),
    /// There is much to archive first; come again afterwards.
    Later(Database),
}

/// What one look at a pinned database found.
#[derive(Default)]
struct Look {
    /// Named, not there, and not known to be missing before.
    fresh: u64,
    /// All that is named and not there.
    missing: HashSet<u64>,
    /// Some of them by name; the reason if it is another one than that they are not there.
    sample: Vec<(Vec<u8>, Option<Reason>)>,
}

impl Agreement {
    /// Nothing was handed out yet.
    pub(super) fn new(root: Arc<Root>, report: Report) -> Self {
        // Each held file may have a side-car, and the rest of the process needs descriptors.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self {
            root,
            report,
            tracker: Tracker::default(),
            held: Vec::new(),
            listed: Vec::new(),
            held_max: (limit / 8).clamp(64, 2_048),
            seen: HashMap::new(),
            missing: HashSet::new(),
            detours: 0,
        }
    }

    /// Pins the database such that the files agree with it. `lock` is the database's path if
    /// its write lock may be taken for the last look.
    ///
    /// # Errors
    /// Cancelled, the database cannot be read, or files are created faster than archived.
    pub(super) fn pin(
        &mut self,
        mut data: Database,
        lock: Option<&Path>,
        control: &Control,
    ) -> Result<Agreed> {
        for round in 0..ROUNDS_MAX {
            self.tracker.hold_all(self.held_max, control)?;
            let pinned = data.pin()?;
            let look = self.look(&pinned, control)?;
            if !self.listed.is_empty() {
                return self.later(pinned);
            }
            if look.fresh == 0 {
                self.accept(&look);
                return Ok(Agreed::Yes(pinned));
            }
            self.missing.extend(&look.missing);
            data = pinned.release()?;
            thread::sleep(PAUSE * round);
        }
        self.last_look(data, lock, control)
    }

    /// Lowers the number of files that may be kept open.
    #[cfg(test)]
    pub(super) fn hold_at_most(&mut self, held_max: usize) {
        self.held_max = held_max;
    }

    /// The items that are ready to be handed out.
    pub(super) fn take_items(&mut self) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.held.len() + self.listed.len());
        for (path, file) in self.held.drain(..) {
            items.push(files::open_item(path, file));
        }
        for path in std::mem::take(&mut self.listed) {
            for path in side_car(&path).into_iter().chain([path]) {
                let hash = self.tracker.hash(path.as_bytes());
                if self.tracker.has(hash) {
                    continue;
                }
                // A file that is gone again is found missing by the next look, if it matters.
                let Ok((kind, stat)) = self.root.look(path.as_bytes()) else { continue };
                if let Some(found) = Found::regular(path, kind, &stat) {
                    let (item, slot) = found.into_item(&self.root, &self.report);
                    self.tracker.add(item.entry.path.as_bytes(), slot);
                    items.push(item);
                }
            }
        }
        items
    }

    /// Hands out a file of the walk.
    pub(super) fn hand_out(&mut self, found: Found) -> Item {
        let (item, slot) = found.into_item(&self.root, &self.report);
        self.tracker.add(item.entry.path.as_bytes(), slot);
        item
    }

    /// A walk over a part of the folder.
    ///
    /// # Errors
    /// As [`Walk::new`].
    pub(super) fn walk(&self, rule: files::Rule) -> Result<Walk> {
        Walk::new(Arc::clone(&self.root), self.report.clone(), rule)
    }

    /// No record can be deleted while we hold the write lock, so this look finds everything;
    /// writers wait for it. Without the right to write it takes what it gets and says so.
    fn last_look(
        &mut self,
        data: Database,
        lock: Option<&Path>,
        control: &Control,
    ) -> Result<Agreed> {
        self.tracker.hold_all(self.held_max, control)?;
        let writer = lock.map(|path| Connection::open(path, Mode::ReadWrite)).transpose()?;
        if let Some(writer) = &writer {
            writer.keep_log()?;
            writer.exec("BEGIN IMMEDIATE")?;
        }
        let pinned = data.pin()?;
        let look = self.look(&pinned, control)?;
        if let Some(writer) = &writer {
            writer.exec("ROLLBACK")?;
        }
        if !self.listed.is_empty() {
            return self.later(pinned);
        }
        self.accept(&look);
        Ok(Agreed::Yes(pinned))
    }

    fn later(&mut self, pinned: Pinned) -> Result<Agreed> {
        self.detours += 1;
        if self.detours > DETOURS_MAX {
            let message = "files are created faster than they can be archived";
            return Err(Error::new(Kind::Unavailable, message));
        }
        Ok(Agreed::Later(pinned.release()?))
    }

    /// Reports what is named and cannot be had.
    fn accept(&self, look: &Look) {
        for (path, reason) in &look.sample {
            let known = self.missing.contains(&self.tracker.hash(path));
            let absent = if known { Reason::Missing } else { Reason::Outrun };
            self.report.skip(path, reason.clone().unwrap_or(absent));
        }
        let named = look.sample.len() as u64;
        let is_lost = look.missing.iter().any(|hash| self.missing.contains(hash));
        let unnamed = (look.missing.len() as u64).saturating_sub(named);
        self.report.skip_more(unnamed, is_lost);
    }

    /// Opens every file that the pinned database names and that is not handed out yet.
    fn look(&mut self, pinned: &Pinned, control: &Control) -> Result<Look> {
        let mut look = Look::default();
        let collections = file_collections(pinned.connection())?;
        // The newest records first, of all collections: they are the shortest-lived.
        for collection in &collections {
            if let Some(seen) = self.seen.get(&collection.id).copied() {
                self.look_at(pinned, collection, Some(seen), &mut look, control)?;
            }
        }
        for collection in &collections {
            let greatest = self.look_at(pinned, collection, None, &mut look, control)?;
            self.seen.insert(collection.id.clone(), greatest);
        }
        Ok(look)
    }

    fn look_at(
        &mut self,
        pinned: &Pinned,
        collection: &FileCollection,
        after: Option<i64>,
        look: &mut Look,
        control: &Control,
    ) -> Result<i64> {
        let mut rows: u32 = 0;
        collection.each_file(pinned.connection(), after, &mut |path| {
            rows = rows.wrapping_add(1);
            if rows.is_multiple_of(1_024) {
                control.check()?;
            }
            self.look_for(path, look)
        })
    }

    fn look_for(&mut self, path: &[u8], look: &mut Look) -> Result<()> {
        let hash = self.tracker.hash(path);
        if self.tracker.has(hash) || look.missing.contains(&hash) {
            return Ok(());
        }
        let entry = EntryPath::parse(path).ok();
        if let Some(entry) = &entry
            && self.held.len() >= self.held_max
        {
            if self.listed.len() < LISTED_MAX {
                self.listed.push(entry.clone());
            }
            return Ok(());
        }
        let reason = match entry {
            Some(entry) => match self.hold(entry)? {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            },
            None => None,
        };
        look.missing.insert(hash);
        look.fresh += u64::from(!self.missing.contains(&hash));
        if look.sample.len() < SKIPPED_LISTED_MAX {
            look.sample.push((path.to_owned(), reason));
        }
        Ok(())
    }

    /// Opens a file, and its side-car if it has one. The inner error is why it cannot be had,
    /// nothing for "it is not there".
    fn hold(&mut self, path: EntryPath) -> Result<Result<(), Option<Reason>>> {
        let file = match self.root.open_file(path.as_bytes()) {
            Ok(file) => file,
            Err(NoFile::Gone) => return Ok(Err(None)),
            Err(NoFile::Refused(reason)) => return Ok(Err(Some(reason))),
            Err(NoFile::NoDescriptor) => return Err(files::no_descriptor()),
        };
        if let Some(side_car) = side_car(&path) {
            let hash = self.tracker.hash(side_car.as_bytes());
            if !self.tracker.has(hash)
                && let Ok(file) = self.root.open_file(side_car.as_bytes())
            {
                self.tracker.add_open(hash);
                self.held.push((side_car, file));
            }
        }
        self.tracker.add_open(self.tracker.hash(path.as_bytes()));
        self.held.push((path, file));
        Ok(Ok(()))
    }
}

/// The path of a stored file's side-car, which is written before the file and deleted after it.
fn side_car(path: &EntryPath) -> Option<EntryPath> {
    EntryPath::parse([path.as_bytes(), SIDE_CAR].concat()).ok()
}
