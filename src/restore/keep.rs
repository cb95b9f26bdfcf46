//! After a swap: the verdict, and what is kept for an undo and for how long.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::data_dir::{DATA_DB, DataDir};
use crate::error::{Error, Kind, Result};
use crate::restore::journal::{Journal, Kept, Name, Operation, Phase, Place, bay};
use crate::restore::recover::{self, Subject};
use crate::restore::{Scope, disk, places, stage, swap, sweep};

/// What the journal knows, for faces, jobs and the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The last restore or undo.
    pub subject: Subject,
    /// How much of the data it replaced.
    pub scope: Scope,
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
    /// How much of the data it is.
    pub scope: Scope,
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
        scope: journal.scope,
        phase: journal.phase,
        reason: journal.reason,
        settled: journal.settled,
        undo: journal.kept.map(|kept| Undo { key: kept.key, since: kept.since, scope: kept.scope }),
    }))
}

/// The application opened the new data with success: the restore is final. What an earlier
/// restore kept for its undo becomes trash ([`empty_trash`](crate::restore::empty_trash)), the
/// data of just now takes its place.
///
/// # Errors
/// [`Kind::NotFound`] when no restore waits for a verdict; a fault of the disk.
pub fn prove(data: &DataDir, clock: &Clock) -> Result<()> {
    let journal = recover::pending(data, Phase::Swapped)?;
    let now = clock.now();
    let mut next = journal.clone();
    let replaced = next.places.iter().map(|place| place.outgoing.len()).sum();
    // A part that was only added to goes again with an undo.
    next.kept = (replaced > 0 || !next.scope.is_all()).then(|| Kept {
        shelf: journal.outgoing.clone(),
        key: journal.key.clone(),
        since: now,
        dirs: journal.dirs(),
        scope: journal.scope.clone(),
        names: Some(replaced),
    });
    next.settled = Some(now);
    next.enter(data, Phase::Proven)?;
    sweep::sweep(data, Some(&next));
    for place in &next.places {
        sweep::discard(data, &place.dir, &next.incoming);
    }
    Ok(())
}

/// Makes the data from before the last restore the next to be swapped in: the next
/// [`recover`](crate::restore::recover) does it, so restart now. The present data is kept in
/// its turn, so an undo can be undone.
///
/// # Errors
/// [`Kind::NotFound`] when nothing is kept, [`Kind::Busy`] when a restore is pending,
/// [`Kind::Unavailable`] when the mounts changed or kept data is gone.
pub fn undo(data: &DataDir, clock: &Clock) -> Result<Subject> {
    stage::require_idle(data)?;
    let nothing = || Error::new(Kind::NotFound, "There is no restore to undo.");
    let previous = Journal::load(data)?.ok_or_else(nothing)?;
    let kept = previous.kept.ok_or_else(nothing)?;
    let mut dirs = places::survey_for(data, &kept.scope)?;
    if dirs != kept.dirs {
        dirs.retain(|dir| !kept.dirs.contains(dir));
        let what = dirs.first().map_or("", |dir| dir.as_path().to_str().unwrap_or("?"));
        let message = format!("The mounts below pb_data changed since the restore ({what}).");
        return Err(Error::new(Kind::Unavailable, message)
            .hint("mount them as they were; or move the data by hand, see docs/restore.md"));
    }
    let now = clock.now();
    let id = stage::new_id(now);
    let mut in_places = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let shelf = Journal::shelf(data, &dir, &kept.shelf);
        let incoming = match kept.scope {
            Scope::Path(_) => swap::movable(&shelf, &dir, &kept.dirs, &kept.scope)?,
            _ => disk::names(&shelf)?.into_iter().map(Name).collect(),
        };
        in_places.push(Place { dir, incoming, outgoing: Vec::new() });
    }
    require_kept(data, &kept, &in_places)?;
    places::open_bays(data, &kept.dirs, &id)?;
    let shelf = kept.shelf.clone();
    let mut journal =
        Journal::new(Operation::Undo, &id, &kept.key, now, kept.scope.clone(), shelf, in_places);
    journal.kept = Some(kept);
    journal.save(data)?;
    Ok(Subject { id, operation: Operation::Undo, key: journal.key, started: now })
}

/// Somebody may have removed kept data to make room: an undo would then only take away.
fn require_kept(data: &DataDir, kept: &Kept, places: &[Place]) -> Result<()> {
    let there: usize = places.iter().map(|place| place.incoming.len()).sum();
    let is_whole = match kept.names {
        Some(names) => there >= names,
        None if kept.scope.has_databases() => {
            let root = places.iter().find(|place| place.dir.0.is_empty());
            let data_db = Name(DATA_DB.into());
            root.is_some_and(|root| root.incoming.contains(&data_db))
        }
        // A path that the folder did not have goes again.
        None => there > 0 || matches!(kept.scope, Scope::Path(_)),
    };
    if is_whole {
        return Ok(());
    }
    let shelf = Journal::shelf(data, &Name::root(), &kept.shelf);
    let message = format!("The data from before the restore of {} is gone.", kept.key);
    let hint = format!("it was in {}; restore a backup instead", shelf.display());
    Err(Error::new(Kind::Unavailable, message).hint(hint))
}

/// Whether [`prune_old`] would find something. Changes nothing.
///
/// # Errors
/// The journal is damaged or cannot be read.
pub fn has_old(data: &DataDir, age_max: TimeDelta, clock: &Clock) -> Result<bool> {
    let Some(journal) = Journal::load(data)? else { return Ok(false) };
    let now = clock.now();
    let is_old = |since: DateTime<Utc>| now - since >= age_max;
    let failed = journal.phase == Phase::RolledBack && journal.settled.is_some_and(is_old);
    Ok(journal.kept.is_some_and(|kept| is_old(kept.since))
        || (failed && disk::exists(&bay(data, &Name::root()).join(&journal.id))?))
}

/// Makes trash of the data kept for an undo once it is older than `age_max`, and of what a
/// failed restore left for inspection. Whether there was something. Quick, however much it is;
/// [`empty_trash`](crate::restore::empty_trash) removes it.
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
    let swept = sweep::sweep_except(data, Some(&journal), !settled);
    Ok(forgets || swept > 0)
}
