//! Years by the clock: summer times, machines that sleep, clocks that jump.

use std::collections::BTreeMap;

use chrono::{NaiveDate, Timelike as _};
use proptest::prelude::*;

use super::*;
use crate::cron::named;

const DAYS: i64 = 400;
const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

fn zoned(cron: &str, zone: &str) -> Zoned {
    let schedule = named::parse(cron).expect("a schedule");
    Zoned { schedule, zone: zone.parse().expect("a zone") }
}

fn timing(when: &Zoned, jitter_s: u64) -> Timing<'_> {
    Timing { name: "nightly", when, jitter: Duration::from_secs(jitter_s), seed: 7 }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A server that looks at its clock: the runs that it began, and when.
struct Server<'a> {
    timing: Timing<'a>,
    looked: DateTime<Utc>,
    began: Vec<(DateTime<Utc>, Due)>,
}

impl<'a> Server<'a> {
    fn new(timing: Timing<'a>, now: DateTime<Utc>) -> Self {
        Self { timing, looked: now, began: Vec::new() }
    }

    fn look(&mut self, now: DateTime<Utc>) {
        let (looked, due) = self.timing.look(self.looked, now);
        self.looked = looked;
        self.began.extend(due.map(|due| (now, due)));
    }

    /// By the local date of what they were due for.
    fn per_day(&self) -> BTreeMap<NaiveDate, usize> {
        let mut days = BTreeMap::new();
        for (_, due) in &self.began {
            *days.entry(due.at.with_timezone(&self.timing.when.zone).date_naive()).or_default() +=
                1;
        }
        days
    }
}

#[test]
fn four_hundred_days_have_four_hundred_runs_in_three_zones() {
    let start = time("2026-01-01T12:00:00Z");
    for zone in ZONES {
        // In each zone a time that is left out once and that comes twice once.
        for (cron, jitter_s) in [("30 2 * * *", 0), ("45 1 * * *", 0), ("10 2 * * *", 900)] {
            let when = zoned(cron, zone);
            let mut server = Server::new(timing(&when, jitter_s), start);
            for minutes in (0..DAYS * 1440).step_by(4) {
                server.look(start + TimeDelta::minutes(minutes));
            }
            let days = server.per_day();
            assert!((399..=401).contains(&days.len()), "{zone} {cron}: {}", days.len());
            assert!(days.values().all(|runs| *runs == 1), "{zone} {cron}: {days:?}");
            let (first, last) = (days.keys().next(), days.keys().next_back());
            let (first, last) = (first.expect("a day"), last.expect("a day"));
            assert_eq!((*last - *first).num_days() + 1, days.len() as i64, "no day without");
            assert!(server.began.iter().all(|(_, due)| !due.is_late && due.before == 0));
        }
        let hourly = zoned("20 * * * *", zone);
        let mut server = Server::new(timing(&hourly, 0), start);
        for minutes in (0..DAYS * 1440).step_by(4) {
            server.look(start + TimeDelta::minutes(minutes));
        }
        let gaps = server.began.windows(2).map(|pair| pair[1].1.at - pair[0].1.at);
        let odd = gaps.filter(|gap| *gap != TimeDelta::hours(1)).count();
        // Half an hour of Lord Howe's moves the minute of the hour, twice a year.
        assert!(odd <= if zone.starts_with("Australia") { 4 } else { 0 }, "{zone}: {odd}");
    }
}

#[test]
fn a_machine_that_sleeps_makes_up_for_its_nights_with_one_run() {
    let start = time("2026-01-01T12:00:00Z");
    for zone in ZONES {
        let when = zoned("30 2 * * *", zone);
        let mut server = Server::new(timing(&when, 0), start);
        let mut wakes = 0;
        for minutes in (0..DAYS * 1440).step_by(4) {
            let now = start + TimeDelta::minutes(minutes);
            let local = now.with_timezone(&when.zone);
            // Off at night, and on every tenth day not switched on at all.
            let day = minutes / 1440;
            if (8..20).contains(&local.hour()) && day % 10 != 3 && day % 10 != 4 {
                wakes += usize::from(server.began.last().is_none_or(|(when, _)| {
                    when.with_timezone(&local.timezone()).date_naive() != local.date_naive()
                }));
                server.look(now);
            }
        }
        let on_days: std::collections::BTreeSet<NaiveDate> = server
            .began
            .iter()
            .map(|(began, _)| began.with_timezone(&when.zone).date_naive())
            .collect();
        assert_eq!(on_days.len(), server.began.len(), "{zone}: one run a day at most");
        assert!(server.began.len() > 300 && wakes >= server.began.len(), "{zone}");
        let missed: u64 = server.began.iter().map(|(_, due)| due.before).sum();
        let all = server.began.len() as u64 + missed;
        assert!((398..=401).contains(&all), "{zone}: each night is either made up or told: {all}");
        assert!(server.began.iter().all(|(_, due)| due.is_late), "{zone}");
    }
}

#[test]
fn a_clock_that_jumps_neither_stops_runs_nor_repeats_them() {
    let when = zoned("0 3 * * *", "Europe/Berlin");
    let mut server = Server::new(timing(&when, 0), time("2026-05-01T00:00:00Z"));
    let mut runs = |times: &[&str]| -> Vec<(u64, bool)> {
        let had = server.began.len();
        times.iter().for_each(|now| server.look(time(now)));
        server.began[had..].iter().map(|(_, due)| (due.before, due.is_late)).collect()
    };
    assert_eq!(runs(&["2026-05-01T01:00:10Z"]), [(0, false)]);
    assert_eq!(runs(&["2026-05-01T00:57:00Z", "2026-05-01T01:00:20Z"]), [], "set back a little");
    assert_eq!(runs(&["2027-05-01T01:30:00Z"]), [(364, true)], "a year ahead is one run");
    assert_eq!(runs(&["2026-05-01T02:00:00Z"]), [], "and back is none");
    assert_eq!(runs(&["2026-05-02T01:01:00Z"]), [(0, false)], "it goes on with the next night");
    assert_eq!(runs(&["1970-01-01T00:00:30Z", "1970-01-01T02:00:30Z"]), [(0, false)]);
    assert_eq!(runs(&["2026-05-02T05:00:00Z"]), [(1_002, true)], "more than are counted");
    assert_eq!(runs(&["2026-05-03T00:59:59Z", "2026-05-03T01:00:00Z"]), [(0, false)]);
}

#[test]
fn what_begins_by_chance_begins_once_and_in_its_time() {
    let when = zoned("0 3 * * *", "UTC");
    let start = time("2026-05-01T00:00:00Z");
    let mut offsets = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let timing = Timing { seed, ..timing(&when, 1_800) };
        let mut server = Server::new(timing, start);
        let next = timing.next(start, start).expect("one");
        for seconds in (0..86_400).step_by(30) {
            server.look(start + TimeDelta::seconds(seconds));
        }
        assert_eq!(server.began.len(), 1);
        let late = server.began[0].0 - server.began[0].1.at;
        assert!((0..=1_830).contains(&late.num_seconds()), "{late}");
        assert!(server.began[0].0 >= next && server.began[0].0 < next + TimeDelta::seconds(30));
        offsets.insert(late.num_seconds());
    }
    assert!(offsets.len() > 15, "{offsets:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_the_naps_each_run_is_begun_or_counted(
        naps in prop::collection::vec(1i64..4_000, 1..120),
        (minute, hour) in (0u32..60, 0u32..24),
        zone in 0usize..3,
        jitter_s in prop::sample::select(vec![0u64, 600]),
    ) {
        let when = zoned(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let start = time("2026-02-01T00:00:00Z");
        let mut server = Server::new(timing(&when, jitter_s), start);
        let mut now = start;
        for nap in naps {
            now += TimeDelta::minutes(nap);
            server.look(now);
        }
        let all: Vec<_> = std::iter::successors(when.next_after(start), |at| when.next_after(*at))
            .take_while(|at| server.timing.start_of(*at) <= now)
            .collect();
        let told: u64 = server.began.iter().map(|(_, due)| due.before + 1).sum();
        prop_assert_eq!(told, all.len() as u64);
        prop_assert!(server.began.windows(2).all(|pair| pair[0].1.at < pair[1].1.at));
        let next = server.timing.next(server.looked, now).expect("one");
        prop_assert!(next > now);
    }
}
