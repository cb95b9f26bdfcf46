//! At boot, before any database is opened: one path for the normal course and after a crash.
//!
//! It finishes what the journal says was begun and never guesses. Who starts the application
//! afterwards gives the verdict: [`prove`](crate::restore::prove) or [`roll_back`].

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::data_dir::{DATA_DB, DataDir};
use crate::error::{Error, Kind, Result};
use crate::restore::journal::{Journal, Name, Operation, Phase, bay};
use crate::restore::{disk, swap, sweep};

/// How often new data is handed to the application before silence counts as a failure. A power
/// cut between the swap and the verdict is no fault of the data, two in a row are suspicious.
pub const ATTEMPTS_MAX: u32 = 2;

/// Which restore or undo it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The id that `Staged::id` gave.
    pub id: String,
    /// Restore or undo.
    pub operation: Operation,
    /// The backup.
    pub key: String,
    /// When it was started.
    pub started: DateTime<Utc>,
}

/// What [`recover`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// No swap was pending. So many abandoned folders became trash.
    Nothing {
        /// Folders swept.
        swept: usize,
    },
    /// The new data is in place. Open it, then call `prove` or [`roll_back`].
    Swapped {
        /// Which one.
        subject: Subject,
        /// 1 for the first time that this data is handed over.
        attempt: u32,
    },
    /// The old data is in place, whole.
    RolledBack {
        /// Which one.
        subject: Subject,
        /// Why, for the log and the job.
        reason: String,
    },
}

/// Finishes a pending swap or roll-back.
///
/// # Errors
/// The disk refused both ways, the journal is damaged, or data is missing: nothing may be
/// started then. Whatever happened, calling it again is safe.
pub fn recover(data: &DataDir, clock: &Clock) -> Result<Recovery> {
    let Some(mut journal) = Journal::load(data)? else {
        refuse_headless(data)?;
        return Ok(Recovery::Nothing { swept: sweep::sweep(data, None) });
    };
    let now = clock.now();
    match journal.phase {
        Phase::Proven | Phase::RolledBack => {
            return Ok(Recovery::Nothing { swept: sweep::sweep(data, Some(&journal)) });
        }
        Phase::Staged | Phase::MovingOut | Phase::MovingIn => {
            let moved = swap::forward(data, &mut journal);
            if let Err(error) = moved.and_then(|()| hand_over(data, &mut journal)) {
                swap::backward(data, &mut journal, &error.full(), now)?;
            }
        }
        Phase::Swapped if journal.attempts < ATTEMPTS_MAX => hand_over(data, &mut journal)?,
        Phase::Swapped => {
            let reason = format!("the new data was started {ATTEMPTS_MAX} times without success");
            swap::backward(data, &mut journal, &reason, now)?;
        }
        Phase::TakingOut | Phase::PuttingBack => {
            swap::backward(data, &mut journal, "the way back was interrupted", now)?;
        }
    }
    Ok(outcome(&journal))
}

/// Fails while a restore waits, or was interrupted: the data is not what it seems then, and only
/// [`recover`] may touch it. Changes nothing.
///
/// # Errors
/// [`Kind::InUse`] for a restore that is not over; [`Kind::Corrupt`] when the journal is damaged
/// or lies in another state folder.
pub fn require_settled(data: &DataDir) -> Result<()> {
    match Journal::load(data)? {
        None => refuse_headless(data),
        Some(journal) if journal.phase.is_final() => Ok(()),
        Some(journal) => {
            let (key, root) = (&journal.key, data.root().display());
            Err(Error::new(Kind::InUse, format!("the restore of {key} in {root} is not over")))
        }
    }
}

/// Swaps back after the application could not use the new data. Close every database first.
///
/// # Errors
/// [`Kind::NotFound`] when no restore waits for a verdict; a fault of the disk, then
/// [`recover`] at the next start goes on.
pub fn roll_back(data: &DataDir, reason: &str, clock: &Clock) -> Result<Recovery> {
    let mut journal = pending(data, Phase::Swapped)?;
    swap::backward(data, &mut journal, reason, clock.now())?;
    Ok(outcome(&journal))
}

/// Withdraws a committed restore that was not swapped in yet, when the restart does not work.
///
/// # Errors
/// [`Kind::NotFound`] when nothing is waiting; a fault of the disk, then the intent stands.
pub fn cancel(data: &DataDir, reason: &str, clock: &Clock) -> Result<Recovery> {
    let mut journal = pending(data, Phase::Staged)?;
    swap::backward(data, &mut journal, reason, clock.now())?;
    sweep::sweep(data, Some(&journal));
    Ok(outcome(&journal))
}

/// Takes back that the new data was handed over: the application had no chance to come up with
/// it, so that says nothing of the data. Does nothing when no restore waits for a verdict.
///
/// # Errors
/// A fault of the disk; the attempt counts then.
pub fn forget_attempt(data: &DataDir) -> Result<()> {
    let Ok(mut journal) = pending(data, Phase::Swapped) else { return Ok(()) };
    journal.attempts = journal.attempts.saturating_sub(1);
    journal.save(data)
}

/// The journal, if it stands at `phase`.
pub(super) fn pending(data: &DataDir, phase: Phase) -> Result<Journal> {
    match Journal::load(data)? {
        Some(journal) if journal.phase == phase => Ok(journal),
        _ => Err(Error::new(Kind::NotFound, "There is no restore that waits for this.")),
    }
}

/// Counts the attempt before the application sees the data, so that one that kills the process
/// is counted too.
fn hand_over(data: &DataDir, journal: &mut Journal) -> Result<()> {
    journal.attempts += 1;
    journal.enter(data, Phase::Swapped)
}

fn outcome(journal: &Journal) -> Recovery {
    let subject = Subject {
        id: journal.id.clone(),
        operation: journal.operation,
        key: journal.key.clone(),
        started: journal.started,
    };
    match journal.phase {
        Phase::RolledBack => {
            Recovery::RolledBack { subject, reason: journal.reason.clone().unwrap_or_default() }
        }
        _ => Recovery::Swapped { subject, attempt: journal.attempts },
    }
}

/// Without a journal, a folder whose only database lies in a restore's folder is in the middle
/// of a swap that another state folder knows of. Starting would make an empty database there.
fn refuse_headless(data: &DataDir) -> Result<()> {
    if disk::exists(&data.root().join(DATA_DB))? {
        return Ok(());
    }
    let bay = bay(data, &Name::root());
    for id in disk::names(&bay)? {
        let old = bay.join(&id).join("old").join(DATA_DB);
        if disk::exists(&old)? {
            let message = format!(
                "{} has no {DATA_DB}, but {} exists: a restore was interrupted and its journal \
                 is not in {}",
                data.root().display(),
                old.display(),
                data.restore().display()
            );
            return Err(Error::new(Kind::Corrupt, message)
                .hint("start with the same --state as before; or see docs/restore.md"));
        }
    }
    Ok(())
}
