//! After a swap: the verdict, what is kept for an undo and for how long, and sweeping.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::data_dir::DataDir;
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::restore::journal::{Journal, Kept, Name, Operation, Phase, Place, bay};
use crate::restore::recover::{self, Subject};
use crate::restore::{disk, places, stage};

/// What the journal knows, for faces, jobs and the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The last restore or undo.
    pub subject: Subject,
    /// How far it came.
    pub phase: Phase,
    /// Why it was rolled back, if it was.
    pub reason: Option<String>,
    /// When it was over.
    pub settled: Option<DateTime<Utc>>,
    /// What [`undo`] would bring back.
    pub undo: Option<Undo>,
}

/// Data that can be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// The backup whose restore replaced it.
    pub key: String,
    /// Since when it is kept.
    pub since: DateTime<Utc>,
}

/// The last restore of this folder; `None` when there was none.
///
/// # Errors
/// The journal is damaged or cannot be read.
pub fn status(data: &DataDir) -> Result<Option<Status>> {
    Ok(Journal::load(data)?.map(|journal| Status {
        subject: Subject {
            id: journal.id,
            operation: journal.operation,
            key: journal.key,
            started: journal.started,
        },
        phase: journal.phase,
        reason: journal.reason,
        settled: journal.settled,
        undo: journal.kept.map(|kept| Undo { key: kept.key, since: kept.since }),
    }))
}

/// The application opened the new data with success: the restore is final. What an earlier
/// restore kept for its undo is removed, the data of just now takes its place.
///
/// # Errors
/// [`Kind::NotFound`] when no restore waits for a verdict; a fault of the disk.
pub fn prove(data: &DataDir, clock: &Clock) -> Result<()> {
    let journal = recover::pending(data, Phase::Swapped)?;
    let now = clock.now();
    let mut next = journal.clone();
    let replaced_something = next.places.iter().any(|place| !place.outgoing.is_empty());
    next.kept = replaced_something.then(|| Kept {
        shelf: journal.outgoing.clone(),
        key: journal.key.clone(),
        since: now,
        dirs: journal.places.iter().map(|place| place.dir.clone()).collect(),
    });
    next.settled = Some(now);
    next.enter(data, Phase::Proven)?;
    sweep(data, Some(&next));
    for place in &next.places {
        disk::remove_if_empty(&Journal::shelf(data, &place.dir, &next.incoming));
    }
    Ok(())
}

/// Makes the data from before the last restore the next to be swapped in: the next
/// [`recover`](crate::restore::recover) does it, so restart now. The present data is kept in
/// its turn, so an undo can be undone.
///
/// # Errors
/// [`Kind::NotFound`] when nothing is kept, [`Kind::Busy`] when a restore is pending.
pub fn undo(data: &DataDir, clock: &Clock) -> Result<Subject> {
    stage::require_idle(data)?;
    let nothing = || Error::new(Kind::NotFound, "There is no restore to undo.");
    let previous = Journal::load(data)?.ok_or_else(nothing)?;
    let kept = previous.kept.ok_or_else(nothing)?;
    let mut dirs = places::survey(data)?;
    if dirs != kept.dirs {
        dirs.retain(|dir| !kept.dirs.contains(dir));
        let what = dirs.first().map_or("", |dir| dir.as_path().to_str().unwrap_or("?"));
        let message = format!("The mounts below pb_data changed since the restore ({what}).");
        return Err(Error::new(Kind::Unavailable, message)
            .hint("mount them as they were; or move the data by hand, see docs/restore.md"));
    }
    let now = clock.now();
    let id = stage::new_id(now);
    places::open_bays(data, &dirs, &id)?;
    let mut in_places = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let names = disk::names(&Journal::shelf(data, &dir, &kept.shelf))?;
        let incoming = names.into_iter().map(Name).collect();
        in_places.push(Place { dir, incoming, outgoing: Vec::new() });
    }
    let shelf = kept.shelf.clone();
    let mut journal = Journal::new(Operation::Undo, &id, &kept.key, now, shelf, in_places);
    journal.kept = Some(kept);
    journal.save(data)?;
    Ok(Subject { id, operation: Operation::Undo, key: journal.key, started: now })
}

/// Removes the data kept for an undo once it is older than `age_max`, and what a failed
/// restore left for inspection. Whether there was something to remove.
///
/// # Errors
/// The disk refused.
pub fn prune_old(data: &DataDir, age_max: TimeDelta, clock: &Clock) -> Result<bool> {
    let Some(mut journal) = Journal::load(data)?.filter(|journal| journal.phase.is_final()) else {
        return Ok(false);
    };
    let now = clock.now();
    let is_old = |since: DateTime<Utc>| now - since >= age_max;
    let forgets = journal.kept.as_ref().is_some_and(|kept| is_old(kept.since));
    if forgets {
        journal.kept = None;
        journal.save(data)?;
    }
    let settled = journal.settled.is_none_or(is_old);
    let swept = sweep_except(data, Some(&journal), !settled);
    Ok(forgets || swept > 0)
}

/// Removes the folders that the journal does not speak of; how many.
///
/// Best effort: a folder that cannot be removed costs room, not data, and the next start tries
/// again.
pub(super) fn sweep(data: &DataDir, journal: Option<&Journal>) -> usize {
    sweep_except(data, journal, true)
}

fn sweep_except(data: &DataDir, journal: Option<&Journal>, keep_failed: bool) -> usize {
    let Ok(dirs) = places::survey(data) else { return 0 };
    let mut swept = fsx::sweep_partials(&data.restore()).unwrap_or(0);
    for dir in dirs {
        let bay = bay(data, &dir);
        for name in disk::names(&bay).unwrap_or_default() {
            let id = name.to_string_lossy();
            if is_kept(journal, &id, keep_failed) || !is_garbage(data, &dir, &id, journal) {
                continue;
            }
            // Renamed first, so that a crash in the middle leaves something that is clearly
            // rubbish, and never half of what could pass for somebody's data.
            let trash = bay.join(format!("{id}{TRASH_SUFFIX}"));
            let doomed = if id.ends_with(TRASH_SUFFIX) {
                Ok(bay.join(&name))
            } else {
                disk::rename(&bay.join(&name), &trash).map(|()| trash)
            };
            if doomed.and_then(|path| disk::remove_tree(&path)).is_ok() {
                swept += 1;
            }
        }
    }
    swept
}

/// The end of the name of a folder that is being removed.
const TRASH_SUFFIX: &str = ".trash";

fn is_kept(journal: Option<&Journal>, id: &str, keep_failed: bool) -> bool {
    let Some(journal) = journal else { return false };
    let kept = journal.kept.as_ref().is_some_and(|kept| kept.shelf.id == id);
    let own = journal.id == id
        && (!journal.phase.is_final() || (journal.phase == Phase::RolledBack && keep_failed));
    kept || own
}

/// Only folders of restores; never strays, which nobody's journal answers for; and, without a
/// journal, nothing that holds old data.
fn is_garbage(data: &DataDir, dir: &Name, id: &str, journal: Option<&Journal>) -> bool {
    if id.ends_with(TRASH_SUFFIX) {
        return true;
    }
    let folder = bay(data, dir).join(id);
    let is_empty = |side: &str| disk::names(&folder.join(side)).is_ok_and(|found| found.is_empty());
    disk::is_dir(&folder).unwrap_or(false)
        && is_empty("stray")
        && (journal.is_some() || is_empty("old"))
}
