//! Which runs are due: decided from the clock and from what was decided before, and nothing
//! else, so that tests can let years go by.
//!
//! The rules. A run begins within its minute, plus its jitter. Runs that nobody was there to
//! begin are missed; however many they are, they are made up for by one run. A clock that was
//! set back by more than a little is believed, and nothing runs twice by a little.

use std::hash::Hasher as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use xxhash_rust::xxh3::Xxh3;

use crate::cron::zoned::Zoned;

/// How late a run may begin and still be in time.
pub(super) const PUNCTUAL: TimeDelta = TimeDelta::minutes(5);
/// By how much a clock may be set back without being believed.
const SET_BACK: TimeDelta = TimeDelta::minutes(5);
/// Missed runs that are counted one by one.
const COUNT_MAX: u64 = 1_000;
/// Where the last of very many missed runs is looked for: jitter is a day at most.
const LAST_WITHIN: TimeDelta = TimeDelta::days(3);

/// When a schedule runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing<'a> {
    pub(super) name: &'a str,
    pub(super) when: &'a Zoned,
    pub(super) jitter: Duration,
    /// Makes the jitter of this process another than that of others.
    pub(super) seed: u64,
}

/// What came out of a look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The last run that is due.
    pub(super) at: DateTime<Utc>,
    /// Whether it is too late for it to count as in time.
    pub(super) is_late: bool,
    /// How many others before it did not take place; of very many, some.
    pub(super) before: u64,
}

impl Timing<'_> {
    /// Looks at the clock: up to where runs are decided now, and what is due.
    pub(super) fn look(
        self,
        looked: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> (DateTime<Utc>, Option<Due>) {
        if looked > now + SET_BACK {
            return (now, None);
        }
        let (mut count, mut last, mut at) = (0, None, looked);
        while let Some(run) = self.when.next_after(at).filter(|run| *run <= now) {
            at = run;
            if self.start_of(run) <= now {
                (count, last) = (count + 1, Some(run));
            }
            if count == COUNT_MAX {
                at = at.max(now - LAST_WITHIN);
            }
        }
        let Some(at) = last else { return (looked, None) };
        let is_late = now - self.start_of(at) > PUNCTUAL;
        (at, Some(Due { at, is_late, before: count - 1 }))
    }

    /// When the next run begins that is not due yet.
    pub(super) fn next(self, looked: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let jitter = TimeDelta::from_std(self.jitter).unwrap_or_default();
        let mut at = match looked > now + SET_BACK {
            true => now,
            false => looked.max(now - jitter - TimeDelta::minutes(1)),
        };
        loop {
            at = self.when.next_after(at)?;
            if self.start_of(at) > now {
                return Some(self.start_of(at));
            }
        }
    }

    /// When the run that is due at `run` begins: by its jitter later, in whole seconds.
    fn start_of(self, run: DateTime<Utc>) -> DateTime<Utc> {
        let most = self.jitter.as_secs();
        if most == 0 {
            return run;
        }
        let mut hasher = Xxh3::with_seed(self.seed);
        hasher.write(self.name.as_bytes());
        hasher.write_i64(run.timestamp());
        let later = hasher.finish() % (most + 1);
        run + TimeDelta::seconds(i64::try_from(later).unwrap_or(0))
    }
}

#[cfg(test)]
#[path = "clockwork_tests.rs"]
mod tests;
