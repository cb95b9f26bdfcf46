//! The rules that look at a calendar: so many per hour, day, week, month, year; so old at most.

use std::collections::HashSet;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc, Weekday};

use crate::backup::Key;
use crate::config::Policy;
use crate::vault::retention::Candidate;

/// How long a backup that is not good is kept at least: somebody may want to look at it.
pub(super) const BAD_KEPT: TimeDelta = TimeDelta::days(7);

/// What of `good`, newest first, any rule keeps.
pub(super) fn kept<'a>(
    good: &[&'a Candidate],
    policy: &Policy,
    now: DateTime<Utc>,
) -> HashSet<&'a Key> {
    let mut kept: HashSet<&Key> = HashSet::new();
    // Only a size is limited: then age is no reason to go.
    if policy.is_only_size() {
        return good.iter().map(|one| &one.key).collect();
    }
    kept.extend(good.iter().take(policy.last).map(|one| &one.key));
    for (count, period) in [
        (policy.hourly, Period::Hour),
        (policy.daily, Period::Day),
        (policy.weekly, Period::Week),
        (policy.monthly, Period::Month),
        (policy.yearly, Period::Year),
    ] {
        newest_of_each(good, count, period, policy, &mut kept);
    }
    for one in good {
        let age = now - one.made;
        let day = one.made.with_timezone(&policy.zone);
        let young = |limit: Option<TimeDelta>| limit.is_some_and(|limit| age <= limit);
        if young(policy.within)
            || (day.weekday() == Weekday::Sun && young(policy.sundays_within))
            || (day.day() == 1 && young(policy.first_of_month_within))
        {
            kept.insert(&one.key);
        }
    }
    kept
}

#[derive(Debug, Clone, Copy)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// Keeps the newest of each of the last `count` periods that have any.
fn newest_of_each<'a>(
    good: &[&'a Candidate],
    count: usize,
    period: Period,
    policy: &Policy,
    kept: &mut HashSet<&'a Key>,
) {
    let mut last = None;
    let mut periods = 0;
    for one in good {
        let local = one.made.with_timezone(&policy.zone);
        let (year, day) = (local.year(), local.ordinal());
        let name = match period {
            // An hour that comes twice at the end of summer time is two: UTC tells them apart.
            Period::Hour => {
                let offset = one.made.date_naive();
                (offset.year(), offset.ordinal(), one.made.hour())
            }
            Period::Day => (year, day, 0),
            Period::Week => (local.iso_week().year(), local.iso_week().week(), 0),
            Period::Month => (year, local.month(), 0),
            Period::Year => (year, 0, 0),
        };
        if last == Some(name) {
            continue;
        }
        if periods == count {
            return;
        }
        periods += 1;
        last = Some(name);
        kept.insert(&one.key);
    }
}
