//! How a running job is watched and stopped: progress counters and a cancel flag.
//!
//! Cheap to clone, safe to share between threads; workers add to it, faces read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};

/// The step a job is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Step {
    /// Not begun.
    #[default]
    Waiting,
    /// Sources are being pinned.
    Pinning,
    /// Entries are read, compressed and written.
    Archiving,
    /// The archive is being moved to or from its storage.
    Transferring,
    /// The archive or the staged data is being checked.
    Checking,
    /// The archive is being extracted.
    Extracting,
    /// The data is being swapped.
    Swapping,
    /// Over, one way or the other.
    Finished,
}

const STEPS: [Step; 8] = [
    Step::Waiting,
    Step::Pinning,
    Step::Archiving,
    Step::Transferring,
    Step::Checking,
    Step::Extracting,
    Step::Swapping,
    Step::Finished,
];

impl Step {
    /// The word for it in the API and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pinning => "pinning",
            Self::Archiving => "archiving",
            Self::Transferring => "transferring",
            Self::Checking => "checking",
            Self::Extracting => "extracting",
            Self::Swapping => "swapping",
            Self::Finished => "finished",
        }
    }

    /// The step of a word.
    pub fn parse(word: &str) -> Option<Self> {
        STEPS.into_iter().find(|step| step.as_str() == word)
    }
}

/// A reading of the counters of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The current step.
    pub step: Step,
    /// Bytes read from the source (or the archive) so far.
    pub bytes: u64,
    /// Estimated total of those bytes, 0 when unknown.
    pub bytes_estimate: u64,
    /// Entries finished so far.
    pub entries: u64,
    /// Estimated total of entries, 0 when unknown.
    pub entries_estimate: u64,
}

/// The job goes on until it is done or cancelled.
const GOING: u8 = 0;
/// It was asked to stop.
const CANCELLED: u8 = 1;
/// It can be stopped no more.
const SEALED: u8 = 2;

/// The shared handle of one job: its progress and its cancel flag.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    step: AtomicU8,
    bytes: AtomicU64,
    bytes_estimate: AtomicU64,
    entries: AtomicU64,
    entries_estimate: AtomicU64,
    /// [`GOING`], [`CANCELLED`] or [`SEALED`].
    will: AtomicU8,
}

impl Control {
    /// Enters a step.
    pub fn enter(&self, step: Step) {
        self.0.step.store(step as u8, Ordering::Relaxed);
    }

    /// Sets the expected totals, 0 for unknown.
    pub fn expect(&self, bytes: u64, entries: u64) {
        self.0.bytes_estimate.store(bytes, Ordering::Relaxed);
        self.0.entries_estimate.store(entries, Ordering::Relaxed);
    }

    /// Counts bytes that were worked off.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts entries that were finished.
    pub fn add_entries(&self, entries: u64) {
        self.0.entries.fetch_add(entries, Ordering::Relaxed);
    }

    /// Asks the job to stop; it ends with [`Kind::Cancelled`] at its next check. False when it
    /// is too late: see [`Control::seal`].
    pub fn cancel(&self) -> bool {
        self.turn(CANCELLED) != SEALED
    }

    /// From here on the job cannot be stopped: what comes next cannot be taken back.
    ///
    /// # Errors
    /// As [`Control::check`]: who asked before was heard.
    pub fn seal(&self) -> Result<()> {
        self.turn(SEALED);
        self.check()
    }

    /// Makes up the mind if it was not; what it is.
    fn turn(&self, will: u8) -> u8 {
        let turned = self.0.will.compare_exchange(GOING, will, Ordering::AcqRel, Ordering::Acquire);
        turned.map_or_else(|decided| decided, |_| will)
    }

    /// Fails with [`Kind::Cancelled`] once [`Control::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.0.will.load(Ordering::Acquire) == CANCELLED {
            return Err(Error::new(Kind::Cancelled, "The job was cancelled."));
        }
        Ok(())
    }

    /// The counters of this moment.
    pub fn progress(&self) -> Progress {
        let inner = &self.0;
        Progress {
            step: STEPS[usize::from(inner.step.load(Ordering::Relaxed)).min(STEPS.len() - 1)],
            bytes: inner.bytes.load(Ordering::Relaxed),
            bytes_estimate: inner.bytes_estimate.load(Ordering::Relaxed),
            entries: inner.entries.load(Ordering::Relaxed),
            entries_estimate: inner.entries_estimate.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_progress_and_cancel() {
        let control = Control::default();
        let worker = control.clone();
        worker.enter(Step::Archiving);
        worker.add_bytes(7);
        assert_eq!(control.progress().step, Step::Archiving);
        assert_eq!(control.progress().bytes, 7);
        assert!(worker.check().is_ok());
        assert!(control.cancel() && control.cancel());
        assert_eq!(worker.check().expect_err("cancelled").kind(), &Kind::Cancelled);
        assert_eq!(worker.seal().expect_err("cancelled").kind(), &Kind::Cancelled);
    }

    #[test]
    fn what_is_sealed_cannot_be_cancelled() {
        let control = Control::default();
        control.clone().seal().expect("nobody asked");
        assert!(!control.cancel());
        control.check().expect("it goes on");
    }
}
