//! Which backups the rules no longer keep: pure functions over what is known about backups.
//!
//! Retention is a tool that deletes, so it doubts: what is not ours, pinned, the newest proven
//! one, or needed for the minimum stays whatever the rules say, and a clock that cannot be
//! right stops it altogether.

mod automatic;
mod calendar;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::backup::Key;
use crate::config::Policy;

pub(in crate::vault) use automatic::{Share, expired_automatic};

/// How far ahead of the clock a backup may lie: storages have clocks of their own.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(10);
/// A longer pause between two runs than this may be a clock that jumped ahead.
const PAUSE_MAX: TimeDelta = TimeDelta::days(3);

/// A backup as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub key: Key,
    /// When it was stored.
    pub made: DateTime<Utc>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether the rules are about it at all: made by us, and of the kind that they cover.
    pub is_ours: bool,
    /// Whether somebody pinned it.
    pub is_pinned: bool,
    /// Whether it is complete and no proof failed.
    pub is_good: bool,
    /// Whether it was proven good.
    pub is_proven: bool,
}

/// The backups that `policy` no longer keeps at `now`, oldest first.
///
/// Those that are not good hold no place in any rule; they go once enough good ones are newer.
/// Whether the clock can be trusted is asked before, with [`doubt`].
pub fn expired(backups: &[Candidate], policy: &Policy, now: DateTime<Utc>) -> Vec<Key> {
    if policy.is_empty() {
        return Vec::new();
    }
    let mut ours: Vec<&Candidate> =
        backups.iter().filter(|one| one.is_ours && !one.is_pinned).collect();
    ours.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| b.key.cmp(&a.key)));
    let guarded = guarded(backups, policy);
    let good: Vec<&Candidate> = ours.iter().copied().filter(|one| one.is_good).collect();
    let mut kept = calendar::kept(&good, policy, now);
    kept.extend(guarded.iter().copied());
    shrink(&ours, policy, &guarded, &mut kept);
    let minimum = policy.minimum.max(1);
    let mut newer_good = 0;
    let mut gone = Vec::new();
    for one in &ours {
        let goes = match one.is_good {
            true => !kept.contains(&one.key),
            false => newer_good >= minimum && now - one.made > calendar::BAD_KEPT,
        };
        if goes {
            gone.push(one.key.clone());
        }
        newer_good += usize::from(one.is_good && !goes);
    }
    gone.reverse();
    gone
}

/// Why nothing may be deleted at `now`: the clock went back, or leapt ahead since `last_run`.
pub fn doubt(
    backups: &[Candidate],
    last_run: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<String> {
    let ahead = backups.iter().filter(|one| one.made > now + AHEAD_MAX).max_by_key(|one| one.made);
    if let Some(one) = ahead {
        return Some(format!(
            "the backup {} is of {}, but the clock says {now}: one of them is wrong",
            one.key, one.made
        ));
    }
    let last_run = last_run?;
    if now < last_run - AHEAD_MAX {
        return Some(format!("the clock says {now}, which is before the last run at {last_run}"));
    }
    if now - last_run > PAUSE_MAX {
        return Some(format!(
            "{} days passed since the last run, which may be a clock that leapt ahead",
            (now - last_run).num_days()
        ));
    }
    None
}

/// What stays whatever the rules say: the newest proven one, and the newest good ones up to the
/// minimum.
fn guarded<'a>(backups: &'a [Candidate], policy: &Policy) -> HashSet<&'a Key> {
    // Whoever made it: a foreign backup that is there is not one that we can rely on.
    let mut good: Vec<&Candidate> =
        backups.iter().filter(|one| one.is_ours && one.is_good).collect();
    good.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| b.key.cmp(&a.key)));
    let newest = good.iter().take(policy.minimum.max(1)).copied();
    newest.chain(good.iter().copied().find(|one| one.is_proven)).map(|one| &one.key).collect()
}

/// Lets the oldest go until the rest fits into the size that the policy allows.
fn shrink<'a>(
    ours: &[&'a Candidate],
    policy: &Policy,
    guarded: &HashSet<&'a Key>,
    kept: &mut HashSet<&'a Key>,
) {
    let Some(bytes_max) = policy.bytes_max else { return };
    let mut bytes = 0u64;
    for one in ours.iter().filter(|one| kept.contains(&one.key)) {
        bytes = bytes.saturating_add(one.size_bytes);
    }
    for one in ours.iter().rev() {
        if bytes <= bytes_max {
            return;
        }
        if !guarded.contains(&one.key) && kept.remove(&one.key) {
            bytes -= one.size_bytes;
        }
    }
}
