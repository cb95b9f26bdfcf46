//! Stages an archive beside the live data: room, extraction, checks, and the intent to swap.
//!
//! The live data is not touched here. A staging that is refused, fails or is dropped leaves
//! nothing behind.

use std::path::Path;

use chrono::{DateTime, Utc};
use rand::RngExt;

use crate::archive::{Early, ExtractOptions, Limits, Reader, Skipped};
use crate::backup::Key;
use crate::clock::Clock;
use crate::control::{Control, Step};
use crate::data_dir::{DataDir, is_restored};
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::restore::check::{self, Begun, DATA_FILES, Report};
use crate::restore::journal::{Journal, Name, Operation, Place, Shelf, Side, bay};
use crate::restore::{Scope, disk, places, swap};

/// Room that must stay free beside the staged data, in bytes: the journal, folders, the logs
/// of the application that goes on running.
pub(super) const SPARE_BYTES: u64 = 16 << 20;

/// What is staged, and when.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The backup that is restored.
    pub key: Key,
    /// How much of the data it replaces.
    pub scope: Scope,
    /// What its entries come to when unpacked, in bytes.
    pub size_bytes: u64,
    /// The time.
    pub now: DateTime<Utc>,
}

/// New data, complete, checked and durable, beside the live data. Removed when dropped before
/// [`Staged::commit`].
#[derive(Debug)]
pub struct Staged {
    bays: Bays,
    key: Key,
    scope: Scope,
    started: DateTime<Utc>,
    places: Vec<Place>,
    report: Report,
    skipped: Vec<Skipped>,
}

/// Stages the archive in the file `archive`. Blocking; unpacks on all cores.
///
/// # Errors
/// As [`stage_with`]; [`Kind::Corrupt`] naming the entry and the reason when the archive is
/// damaged, hostile or beyond the limits, [`Kind::NotFound`] when there is no such file.
pub fn stage(
    data: &DataDir,
    archive: &Path,
    key: &Key,
    scope: &Scope,
    clock: &Clock,
    control: &Control,
) -> Result<Staged> {
    let reader = Reader::open(archive, &Limits::default())?;
    let outline = reader.outline(&|path| scope.takes(path))?;
    let size_bytes = outline.room_bytes;
    control.expect(outline.bytes, outline.files.len() as u64 + outline.folders);
    drop(outline);
    let (key, scope) = (key.clone(), scope.clone());
    let takes = |path: &[u8]| scope.takes(path);
    let options = StageOptions { key, scope: scope.clone(), size_bytes, now: clock.now() };
    let mut skipped = Vec::new();
    let mut staged = stage_checked(data, &options, control, |into, begun| {
        let early = Early { names: &DATA_FILES, ready: &|| begun.begin(into), takes: &takes };
        let extracted = reader.extract_early(into, &ExtractOptions::default(), &early, control)?;
        skipped = extracted.skipped;
        Ok(())
    })?;
    staged.skipped = skipped;
    Ok(staged)
}

/// Unpacks with `unpack`, which gets an empty folder and leaves complete, synced files in it,
/// and checks the result. Blocking.
///
/// # Errors
/// [`Kind::Busy`] when another restore waits for its restart, [`Kind::NoSpace`],
/// [`Kind::Unavailable`] when a swap cannot work in this folder, [`Kind::Corrupt`] when the
/// data would not serve, [`Kind::Cancelled`]; whatever `unpack` fails with.
pub fn stage_with(
    data: &DataDir,
    options: &StageOptions,
    control: &Control,
    unpack: impl FnOnce(&Path) -> Result<()>,
) -> Result<Staged> {
    stage_checked(data, options, control, |into, _| unpack(into))
}

/// [`stage_with`], whose `unpack` may begin the check itself.
fn stage_checked(
    data: &DataDir,
    options: &StageOptions,
    control: &Control,
    unpack: impl FnOnce(&Path, &Begun) -> Result<()>,
) -> Result<Staged> {
    require_idle(data)?;
    let dirs = places::survey_for(data, &options.scope)?;
    require_room(data, &Name::root(), options.size_bytes)?;
    let bays = Bays::open(data, dirs, &new_id(options.now))?;
    let shelf = Shelf { id: bays.id.clone(), side: Side::New };
    let staged = Journal::shelf(data, &Name::root(), &shelf);
    disk::create_dir_below(data.root(), &staged)?;

    control.enter(Step::Extracting);
    let begun = Begun::default();
    unpack(&staged, &begun)?;
    control.check()?;
    control.enter(Step::Checking);
    let report = match options.scope.has_databases() {
        true => check::check(&staged, begun, control)?,
        false => require_something(&staged, &options.scope)?,
    };
    let mut places = Vec::with_capacity(bays.dirs.len());
    for dir in bays.dirs.iter().filter(|dir| !dir.0.is_empty()) {
        control.check()?;
        places.push(distribute(data, &bays.dirs, dir, &options.scope, &shelf)?);
    }
    places.insert(0, root_place(&bays.dirs, &options.scope, &staged)?);
    disk::sync_dirs(&staged)?;
    for dir in &bays.dirs {
        fsx::give_tree_to_owner_of(data.root(), &Journal::shelf(data, dir, &shelf))?;
    }
    control.check()?;
    let (key, scope, started) = (options.key.clone(), options.scope.clone(), options.now);
    Ok(Staged { bays, key, scope, started, places, report, skipped: Vec::new() })
}

impl Staged {
    /// What the checks found.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Entries that are neither files nor folders, which were left out.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The restore's id, under which [`status`](crate::restore::status) will know it.
    pub fn id(&self) -> &str {
        &self.bays.id
    }

    /// Writes down the intent: the next [`recover`](crate::restore::recover) swaps. Stop the
    /// application and restart now; or take it back with [`cancel`](crate::restore::cancel).
    ///
    /// # Errors
    /// The journal cannot be written; everything is as before then.
    pub fn commit(mut self) -> Result<()> {
        let data = &self.bays.data;
        require_idle(data)?;
        let previous = Journal::load(data)?;
        let id = &self.bays.id;
        let mut journal = Journal::new(
            Operation::Restore,
            id,
            self.key.as_str(),
            self.started,
            self.scope.clone(),
            Shelf { id: id.clone(), side: Side::New },
            self.places.clone(),
        );
        journal.kept = previous.as_ref().and_then(|previous| previous.kept.clone());
        if let Err(error) = journal.save(data) {
            // It may stand under its name all the same, when only its sync failed.
            let _ = match previous {
                Some(previous) => previous.save(data),
                None => Journal::remove(data),
            };
            // Should even that fail, the next start finds an intent without data, and drops it.
            return Err(error);
        }
        self.bays.keep = true;
        Ok(())
    }
}

/// Fails while a swap is pending or under way.
///
/// # Errors
/// [`Kind::Busy`].
pub(super) fn require_idle(data: &DataDir) -> Result<()> {
    match Journal::load(data)? {
        Some(journal) if !journal.phase.is_final() => {
            let message = format!("The restore of {} is waiting for its restart.", journal.key);
            Err(Error::new(Kind::Busy, message))
        }
        _ => Ok(()),
    }
}

/// A name for the folders of one restore; sorts by time.
pub(super) fn new_id(now: DateTime<Utc>) -> String {
    let unique: u32 = rand::rng().random();
    format!("{}-{unique:08x}", now.format("%Y%m%dT%H%M%SZ"))
}

/// The folders of one restore; removed on drop unless they are kept.
#[derive(Debug)]
pub(super) struct Bays {
    data: DataDir,
    id: String,
    dirs: Vec<Name>,
    keep: bool,
}

impl Bays {
    fn open(data: &DataDir, dirs: Vec<Name>, id: &str) -> Result<Self> {
        let bays = Self { data: data.clone(), id: id.to_owned(), dirs, keep: false };
        places::open_bays(data, &bays.dirs, id)?;
        Ok(bays)
    }
}

impl Drop for Bays {
    fn drop(&mut self) {
        if !self.keep {
            for dir in &self.dirs {
                // Best effort: what stays is swept at the next start.
                let _ = disk::remove_tree(&bay(&self.data, dir).join(&self.id));
            }
        }
    }
}

/// A part without databases has nothing to check but that it is there.
fn require_something(staged: &Path, scope: &Scope) -> Result<Report> {
    if disk::names(staged)?.is_empty() {
        let message = format!("The archive holds nothing of {scope}.");
        return Err(Error::new(Kind::Corrupt, message));
    }
    Ok(Report::default())
}

/// What the root of `pb_data` gets from the staged folder.
fn root_place(dirs: &[Name], scope: &Scope, staged: &Path) -> Result<Place> {
    let mut place = Place { dir: Name::root(), incoming: Vec::new(), outgoing: Vec::new() };
    if let Scope::Path(_) = scope {
        place.incoming = swap::movable(staged, &place.dir, dirs, scope)?;
        return Ok(place);
    }
    for name in disk::names(staged)?.into_iter().map(Name) {
        if dirs.contains(&name) {
            // Its content has gone to the bays of its own places.
            disk::remove_tree(&staged.join(name.as_path()))?;
        } else if is_restored(&name.0.to_string_lossy()) {
            place.incoming.push(name);
        }
    }
    Ok(place)
}

/// Brings the part of the staged data that belongs below a mount point to that file system.
fn distribute(
    data: &DataDir,
    dirs: &[Name],
    dir: &Name,
    scope: &Scope,
    shelf: &Shelf,
) -> Result<Place> {
    let from = Journal::shelf(data, &Name::root(), shelf).join(dir.as_path());
    let to = Journal::shelf(data, dir, shelf);
    disk::create_dir_below(data.root(), &to)?;
    let mut place = Place { dir: dir.clone(), incoming: Vec::new(), outgoing: Vec::new() };
    if disk::exists(&from)? {
        if !disk::is_dir(&from)? {
            let shown = dir.as_path().display();
            let message = format!("The archive's {shown} is a file, here it is a mounted folder.");
            return Err(Error::new(Kind::Corrupt, message));
        }
        if !places::renames_between(&from, &to)? {
            require_room(data, dir, disk::size_bytes(&from)?)?;
        }
        for name in swap::movable(&from, dir, dirs, scope)? {
            let target = to.join(name.as_path());
            disk::create_dir_below(data.root(), target.parent().unwrap_or(&to))?;
            disk::rename_or_copy(&from.join(name.as_path()), &target)?;
            place.incoming.push(name);
        }
    }
    disk::sync_dirs(&to)?;
    Ok(place)
}

fn require_room(data: &DataDir, dir: &Name, bytes: u64) -> Result<()> {
    let live = Journal::live(data, dir);
    let free = fsx::free_bytes(&live)?;
    let needed = bytes.saturating_add(SPARE_BYTES);
    if free >= needed {
        return Ok(());
    }
    let message = format!("The restore needs {needed} bytes of free disk space, there are {free}.");
    let hint = format!(
        "make room on the file system of {}; data kept for an undo may be part of it, and \
         goes with a shorter keep_old",
        live.display()
    );
    Err(Error::new(Kind::NoSpace, message).hint(hint))
}
