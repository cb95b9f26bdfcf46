//! Moves the data: forward from old to new, and backward again.
//!
//! Every step looks at what is where, moves what is not yet there, and syncs; so it may be
//! killed at any call and run again. Nothing is ever deleted or overwritten here: what is in
//! the way and in no list goes to the restore's `stray` folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::data_dir::{DataDir, STATE, is_restored};
use crate::error::{Error, Kind, Result};
use crate::restore::journal::{Journal, Name, Phase, Place, Shelf, bay};
use crate::restore::{Scope, disk, places};

/// Goes on to [`Phase::Swapped`] from wherever the journal stands on the way there.
///
/// # Errors
/// The disk refused, or something is neither here nor there. Go on or go [`backward`] then.
pub(super) fn forward(data: &DataDir, journal: &mut Journal) -> Result<()> {
    loop {
        match journal.phase {
            Phase::Staged => begin(data, journal)?,
            Phase::MovingOut => {
                for place in &journal.places {
                    let swap = Swap::of(data, journal, place);
                    swap.take_out(&journal.outgoing, &place.outgoing)?;
                }
                journal.enter(data, Phase::MovingIn)?;
            }
            Phase::MovingIn => {
                for place in &journal.places {
                    let swap = Swap::of(data, journal, place);
                    swap.put_in(&journal.incoming, &place.incoming)?;
                }
                journal.enter(data, Phase::Swapped)?;
            }
            _ => return Ok(()),
        }
    }
}

/// Goes on to [`Phase::RolledBack`] from any phase but [`Phase::Proven`].
///
/// # Errors
/// As [`forward`]; the way back can be taken up again at any time.
pub(super) fn backward(
    data: &DataDir,
    journal: &mut Journal,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    if journal.reason.is_none() {
        journal.reason = Some(reason.to_owned());
    }
    loop {
        match journal.phase {
            Phase::Staged => return settle_untouched(data, journal, now),
            // Only old names are in place: nothing has to be taken out.
            Phase::MovingOut => journal.enter(data, Phase::PuttingBack)?,
            Phase::MovingIn => journal.enter(data, Phase::TakingOut)?,
            Phase::Swapped => relist_and_take_out(data, journal)?,
            Phase::TakingOut => {
                for place in &journal.places {
                    let swap = Swap::of(data, journal, place);
                    swap.take_out(&journal.incoming, &place.incoming)?;
                }
                journal.enter(data, Phase::PuttingBack)?;
            }
            Phase::PuttingBack => {
                for place in &journal.places {
                    let swap = Swap::of(data, journal, place);
                    swap.put_in(&journal.outgoing, &place.outgoing)?;
                }
                journal.settled = Some(now);
                journal.enter(data, Phase::RolledBack)?;
            }
            Phase::Proven | Phase::RolledBack => return Ok(()),
        }
    }
}

/// What a swap moves out of the folder `base`, as it is now: the live folder of the place `dir`,
/// or one of its shelves.
pub(super) fn movable(base: &Path, dir: &Name, dirs: &[Name], scope: &Scope) -> Result<Vec<Name>> {
    if let Scope::Path(path) = scope {
        let at_home = places::home_of(Path::new(path), dirs) == Some(dir);
        let name = Path::new(path).strip_prefix(dir.as_path()).ok().filter(|_| at_home);
        let Some(name) = name.map(|name| Name(name.as_os_str().to_owned())) else {
            return Ok(Vec::new());
        };
        return Ok(Vec::from_iter(disk::exists(&base.join(name.as_path()))?.then_some(name)));
    }
    let is_place = |name: &OsStr| {
        let path = dir.as_path().join(name);
        dirs.iter().any(|other| other.as_path() == path)
    };
    let is_movable = |name: &OsStr| match dir.0.is_empty() {
        true => is_restored(&name.to_string_lossy()) && scope.takes(name.as_encoded_bytes()),
        false => name != STATE,
    };
    let names = disk::names(base)?;
    let names = names.into_iter().filter(|name| is_movable(name) && !is_place(name));
    Ok(names.map(Name).collect())
}

/// The last look before anything moves, and the list of what goes out. It is made only now,
/// because the application ran on after the staging.
fn begin(data: &DataDir, journal: &mut Journal) -> Result<()> {
    for place in &journal.places {
        require_all(&Journal::shelf(data, &place.dir, &journal.incoming), &place.incoming)?;
    }
    let mut next = journal.clone();
    let dirs = journal.dirs();
    for at in 0..next.places.len() {
        let dir = &journal.places[at].dir;
        let live = Journal::live(data, dir);
        next.places[at].outgoing = movable(&live, dir, &dirs, &journal.scope)?;
        disk::create_dir_below(data.root(), &Journal::shelf(data, dir, &journal.outgoing))?;
    }
    next.enter(data, Phase::MovingOut)?;
    *journal = next;
    Ok(())
}

/// A volume that is not mounted just now looks like data that is gone.
fn require_all(shelf: &Path, names: &[Name]) -> Result<()> {
    for name in names {
        if !disk::exists(&shelf.join(name.as_path()))? {
            return Err(lost(shelf, name));
        }
    }
    Ok(())
}

/// Nothing was moved yet. If the disk refuses even the note of it, the intent is withdrawn by
/// removing the journal: a later start must not swap data that went on living.
fn settle_untouched(data: &DataDir, journal: &mut Journal, now: DateTime<Utc>) -> Result<()> {
    journal.settled = Some(now);
    if let Err(error) = journal.enter(data, Phase::RolledBack) {
        Journal::remove(data).map_err(|_| error)?;
        journal.phase = Phase::RolledBack;
    }
    Ok(())
}

/// The application had the new data open: it may have made side files and others, which belong
/// to the new data and must not stay beside the old.
fn relist_and_take_out(data: &DataDir, journal: &mut Journal) -> Result<()> {
    for place in &journal.places {
        require_all(&Journal::shelf(data, &place.dir, &journal.outgoing), &place.outgoing)?;
    }
    let mut next = journal.clone();
    let dirs = journal.dirs();
    for at in 0..next.places.len() {
        let dir = &journal.places[at].dir;
        let live = Journal::live(data, dir);
        next.places[at].incoming = movable(&live, dir, &dirs, &journal.scope)?;
    }
    next.enter(data, Phase::TakingOut)?;
    *journal = next;
    Ok(())
}

/// The moves of one place.
struct Swap<'a> {
    data: &'a DataDir,
    place: &'a Place,
    scope: &'a Scope,
    dirs: Vec<Name>,
    live: PathBuf,
    stray: PathBuf,
}

impl<'a> Swap<'a> {
    fn of(data: &'a DataDir, journal: &'a Journal, place: &'a Place) -> Self {
        Self {
            data,
            place,
            scope: &journal.scope,
            dirs: journal.dirs(),
            live: Journal::live(data, &place.dir),
            stray: bay(data, &place.dir).join(&journal.id).join("stray"),
        }
    }

    /// Moves `names` from the live folder to a shelf; afterwards the live folder is empty of
    /// everything that a restore moves.
    fn take_out(&self, shelf: &Shelf, names: &[Name]) -> Result<()> {
        let shelf = Journal::shelf(self.data, &self.place.dir, shelf);
        disk::create_dir_below(self.data.root(), &shelf)?;
        for name in names {
            let (from, to) = (self.live.join(name.as_path()), shelf.join(name.as_path()));
            match (disk::exists(&from)?, disk::exists(&to)?) {
                (true, false) => {
                    self.make_parent(&shelf, &to)?;
                    disk::rename(&from, &to)?;
                }
                (false, true) => {}
                (true, true) => self.set_aside(name)?,
                (false, false) => return Err(lost(&self.live, name)),
            }
        }
        for name in self.movable()? {
            self.set_aside(&name)?;
        }
        self.sync(&shelf, names)?;
        self.sync(&self.live, names)
    }

    fn movable(&self) -> Result<Vec<Name>> {
        movable(&self.live, &self.place.dir, &self.dirs, self.scope)
    }

    /// A path of several parts needs its folders on the other side.
    fn make_parent(&self, base: &Path, target: &Path) -> Result<()> {
        match target.parent() {
            Some(parent) if parent != base => disk::create_dir_below(self.data.root(), parent),
            _ => Ok(()),
        }
    }

    /// Makes durable what was renamed in and out of a folder.
    fn sync(&self, base: &Path, names: &[Name]) -> Result<()> {
        let mut folders = BTreeSet::from([base.to_owned()]);
        for name in names {
            folders.extend(base.join(name.as_path()).parent().map(Path::to_owned));
        }
        for folder in folders {
            if folder == base || disk::exists(&folder)? {
                disk::sync_dir(&folder)?;
            }
        }
        Ok(())
    }

    /// Moves `names` from a shelf to the live folder; afterwards that holds nothing else that a
    /// restore moves.
    fn put_in(&self, shelf: &Shelf, names: &[Name]) -> Result<()> {
        let shelf = Journal::shelf(self.data, &self.place.dir, shelf);
        for name in self.movable()? {
            let arrived = names.contains(&name) && !disk::exists(&shelf.join(name.as_path()))?;
            if !arrived {
                self.set_aside(&name)?;
            }
        }
        for name in names {
            let (from, to) = (shelf.join(name.as_path()), self.live.join(name.as_path()));
            if disk::exists(&from)? {
                self.make_parent(&self.live, &to)?;
                disk::rename(&from, &to)?;
            } else if !disk::exists(&to)? {
                return Err(lost(&shelf, name));
            }
        }
        self.sync(&self.live, names)?;
        self.sync(&shelf, names)
    }

    /// Somebody else put this here while a swap was under way, another server for one. It may
    /// be worth something to somebody, so it is kept, but not among the data.
    fn set_aside(&self, name: &Name) -> Result<()> {
        disk::create_dir_below(self.data.root(), &self.stray)?;
        let from = self.live.join(name.as_path());
        for number in 0..STRAYS_MAX {
            let mut target = name.0.clone();
            if name.as_path().components().count() > 1 {
                target = name.0.to_string_lossy().replace('/', "_").into();
            }
            if number > 0 {
                target.push(format!(".{number}"));
            }
            let to = self.stray.join(target);
            if !disk::exists(&to)? {
                disk::rename(&from, &to)?;
                return disk::sync_dir(&self.stray);
            }
        }
        Err(Error::internal(format!("too many strays of {}", from.display())))
    }
}

/// How many strays of one name are kept.
const STRAYS_MAX: u32 = 100;

fn lost(folder: &Path, name: &Name) -> Error {
    let path = folder.join(name.as_path());
    Error::new(Kind::Corrupt, format!("{} is missing in the middle of a restore", path.display()))
        .hint("is every volume mounted? see docs/restore.md, \"Something is missing\"")
}
