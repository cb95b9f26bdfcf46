//! Which files the snapshot has handed out, and what became of them.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use super::files::{Fate, Slot};
use crate::control::Control;
use crate::error::{Error, Result};

/// How long the feed waits for its reader to open what it was given.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_STEP: Duration = Duration::from_millis(2);

/// The files handed out so far, eight bytes for each path.
///
/// A path stands for its keyed 64-bit hash: with a million files and a thousand look-ups the
/// chance that a path passes for another one is one in ten thousand million.
#[derive(Default)]
pub(super) struct Tracker {
    hasher: RandomState,
    safe: HashSet<u64>,
    waiting: VecDeque<(u64, Slot)>,
}

impl Tracker {
    /// The hash of a path.
    pub(super) fn hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    /// Whether a path was handed out and not lost.
    pub(super) fn has(&self, hash: u64) -> bool {
        self.safe.contains(&hash)
    }

    /// Notes a file that is open already.
    pub(super) fn add_open(&mut self, hash: u64) {
        self.safe.insert(hash);
    }

    /// Notes a file that its reader will open.
    pub(super) fn add(&mut self, path: &[u8], slot: Slot) {
        let hash = self.hash(path);
        self.safe.insert(hash);
        self.waiting.push_back((hash, slot));
        // Readers open about in order, so the front is settled first.
        while let Some((hash, slot)) = self.waiting.front() {
            match slot.fate() {
                Fate::Waiting => return,
                Fate::Safe => {}
                Fate::Lost => {
                    self.safe.remove(hash);
                }
            }
            self.waiting.pop_front();
        }
    }

    /// Sees to it that every file handed out is open or lost: a pin taken after this names no
    /// file that could still be deleted under its reader. At most `limit` files are opened
    /// here; beyond that the readers must first have opened some themselves.
    ///
    /// # Errors
    /// Cancelled, no file descriptor left, or the reader collects items without opening them.
    pub(super) fn hold_all(&mut self, limit: usize, control: &Control) -> Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            control.check()?;
            self.settle();
            if self.waiting.len() <= limit {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::internal("the reader of a snapshot opens none of its files"));
            }
            thread::sleep(WAIT_STEP);
        }
        for (_, slot) in &self.waiting {
            slot.hold()?;
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        let safe = &mut self.safe;
        self.waiting.retain(|(hash, slot)| match slot.fate() {
            Fate::Waiting => true,
            Fate::Safe => false,
            Fate::Lost => {
                safe.remove(hash);
                false
            }
        });
    }
}
