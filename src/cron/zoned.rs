//! A schedule by the clock on somebody's wall, with its summer time.
//!
//! The rule: a time of day that a clock change leaves out runs once, at the first moment after
//! the change; one that comes twice runs once, the first time. A schedule of every hour (`*` in
//! the hours) is about time that passes and not about the time of day: a clock change neither
//! adds nor drops a run of it.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::cron::Schedule;

/// Hours around a time that does not exist within which the clock was changed: Samoa once left
/// out a whole day.
const GAP_HOURS_MAX: i64 = 26;
/// Local times that may all be over by now: the minutes of a change, and some.
const TRIES_MAX: usize = 3_000;

/// A schedule and the zone that it is read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zoned {
    /// When, by the local clock.
    pub schedule: Schedule,
    /// Whose clock.
    pub zone: Tz,
}

impl Zoned {
    /// The first run after `time`; `None` when there is none in the next 41 years.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.schedule.is_of_every_hour() {
            true => self.next_by_passing(time),
            false => self.next_by_clock(time),
        }
    }

    /// What distinguishes it from others: the expression and the zone.
    pub fn text(&self) -> String {
        format!("{} {}", self.schedule, self.zone)
    }

    fn next_by_clock(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = self.local(time);
        for _ in 0..TRIES_MAX {
            local = self.schedule.next_after(local.and_utc())?.naive_utc();
            let moment = self.moment(local)?;
            // The second time of an hour that comes twice: that run was the first time.
            if moment > time {
                return Some(moment);
            }
        }
        None
    }

    fn next_by_passing(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = time;
        loop {
            let offset = self.offset(from);
            let local = self.schedule.next_after((from.naive_utc() + offset).and_utc())?;
            let next = (local.naive_utc() - offset).and_utc();
            if self.offset(next) == offset {
                return Some(next);
            }
            let change = self.change(from, next);
            let local = self.local(change).and_utc();
            if self.schedule.matches(local) {
                return Some(change);
            }
            from = change;
        }
    }

    /// The first moment that the clocks show `local`; the end of the gap for a time that no
    /// clock shows.
    fn moment(&self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&local) {
            MappedLocalTime::Single(one) | MappedLocalTime::Ambiguous(one, _) => {
                Some(one.with_timezone(&Utc))
            }
            MappedLocalTime::None => {
                let around = TimeDelta::hours(GAP_HOURS_MAX);
                let before = local.and_utc().checked_sub_signed(around)?;
                let offset = self.offset(before);
                // By the old clock it is as long after the change as it is in the gap.
                Some(self.change(before, (local - offset).and_utc()))
            }
        }
    }

    /// The first minute after `from` and up to `to` whose offset is not that of `from`.
    fn change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
        let old = self.offset(from);
        let (mut same, mut other) = (from.timestamp().div_euclid(60), to.timestamp() / 60);
        let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap_or(to);
        while other - same > 1 {
            let middle = same.midpoint(other);
            match self.offset(at(middle)) == old {
                true => same = middle,
                false => other = middle,
            }
        }
        at(other)
    }

    fn local(&self, time: DateTime<Utc>) -> NaiveDateTime {
        time.with_timezone(&self.zone).naive_local()
    }

    fn offset(&self, time: DateTime<Utc>) -> TimeDelta {
        let offset = self.zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        TimeDelta::seconds(i64::from(offset.local_minus_utc()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::cron::named;

    fn zoned(text: &str, zone: &str) -> Zoned {
        let schedule = named::parse(text).expect("a schedule");
        Zoned { schedule, zone: zone.parse().expect("a zone") }
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    /// The runs between two times.
    fn runs(zoned: &Zoned, after: &str, until: &str) -> Vec<String> {
        let until = time(until);
        let all = std::iter::successors(zoned.next_after(time(after)), |at| zoned.next_after(*at));
        all.take_while(|at| *at <= until).map(|at| at.format("%dT%H:%MZ").to_string()).collect()
    }

    #[test]
    fn a_time_that_is_left_out_runs_once_at_the_change() {
        // 2026-03-29 02:00 becomes 03:00 in Berlin, which is 01:00 UTC.
        let days = |text| {
            runs(&zoned(text, "Europe/Berlin"), "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z")
        };
        assert_eq!(days("30 2 * * *"), ["28T01:30Z", "29T01:00Z", "30T00:30Z"]);
        assert_eq!(days("0 3 * * *"), ["28T02:00Z", "29T01:00Z", "30T01:00Z"]);
        let hour = ["28T01:00Z", "28T01:20Z", "28T01:40Z", "29T01:00Z"];
        assert_eq!(days("*/20 2 * * *")[..4], hour, "once, and not three times");
    }

    #[test]
    fn a_time_that_comes_twice_runs_once() {
        // 2026-10-25 03:00 becomes 02:00 in Berlin, which is 01:00 UTC.
        let days = |text| {
            runs(&zoned(text, "Europe/Berlin"), "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z")
        };
        assert_eq!(days("30 2 * * *"), ["25T00:30Z", "26T01:30Z"]);
        assert_eq!(days("30 2,3 * * *"), ["25T00:30Z", "25T02:30Z", "26T01:30Z", "26T02:30Z"]);
        // Half an hour in Lord Howe: on 2026-04-05 02:00 becomes 01:30.
        let lord = zoned("45 1 * * *", "Australia/Lord_Howe");
        let found = runs(&lord, "2026-04-03T20:00:00Z", "2026-04-05T20:00:00Z");
        assert_eq!(found, ["04T14:45Z", "05T15:15Z"]);
    }

    #[test]
    fn a_schedule_of_every_hour_knows_no_clock_change() {
        for (zone, after, until) in [
            ("Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T04:00:00Z"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T04:00:00Z"),
            ("America/New_York", "2026-11-01T03:00:00Z", "2026-11-01T09:00:00Z"),
        ] {
            let found = runs(&zoned("15 * * * *", zone), after, until);
            assert_eq!(found.len(), 6, "{zone} {found:?}");
            assert!(found.iter().all(|run| run.ends_with(":15Z")), "{found:?}");
        }
        let quarters = zoned("*/15 * * * *", "Australia/Lord_Howe");
        let found = runs(&quarters, "2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z");
        assert_eq!(found.len(), 96);
    }

    #[test]
    fn a_day_that_a_country_left_out_runs_once_when_the_next_begins() {
        // Samoa had no 30 December 2011.
        let noon = zoned("0 12 * * *", "Pacific/Apia");
        let found = runs(&noon, "2011-12-28T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(found, ["28T22:00Z", "29T22:00Z", "30T10:00Z", "30T22:00Z", "31T22:00Z"]);
    }

    /// Every run of two days, by looking at each minute.
    fn by_hand(zoned: &Zoned, start: DateTime<Utc>, minutes: i64) -> BTreeSet<DateTime<Utc>> {
        let (mut runs, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut last = zoned.local(start - TimeDelta::days(2));
        for minute in -2 * 1440..=minutes {
            let now = start + TimeDelta::minutes(minute);
            let local = zoned.local(now);
            let skipped = || {
                let all = std::iter::successors(Some(last), |at| Some(*at + TimeDelta::minutes(1)));
                all.skip(1).take_while(|at| *at <= local)
            };
            let is_due = match zoned.schedule.is_of_every_hour() {
                true => zoned.schedule.matches(local.and_utc()),
                false => {
                    skipped().any(|at| zoned.schedule.matches(at.and_utc()) && !seen.contains(&at))
                }
            };
            if is_due && now > start {
                runs.insert(now);
            }
            seen.insert(local);
            last = local;
        }
        runs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_runs_are_those_that_a_patient_watcher_sees(
            which in 0usize..4,
            (minute, hour, wild) in (0u32..60, 0u32..6, 0u8..4),
            lead in 0i64..2_000,
        ) {
            let (zone, change) = [
                ("Europe/Berlin", "2026-03-29T01:00:00Z"),
                ("America/New_York", "2026-11-01T06:00:00Z"),
                ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
                ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ][which];
            let minute = if wild & 1 == 1 { "*/7".to_owned() } else { minute.to_string() };
            let hour = if wild & 2 == 2 { "*".to_owned() } else { hour.to_string() };
            let zoned = zoned(&format!("{minute} {hour} * * *"), zone);
            let start = time(change) - TimeDelta::minutes(lead);
            let end = start + TimeDelta::minutes(3_000);
            let found: BTreeSet<_> =
                std::iter::successors(zoned.next_after(start), |at| zoned.next_after(*at))
                    .take_while(|at| *at <= end)
                    .collect();
            prop_assert_eq!(found, by_hand(&zoned, start, 3_000));
        }
    }
}
