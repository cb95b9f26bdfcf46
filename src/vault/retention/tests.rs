//! Rules over many days, and what no rule may do.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

fn candidate(n: i64, made: DateTime<Utc>) -> Candidate {
    Candidate {
        key: Key::existing(&format!("{n}.zip")).expect("a key"),
        made,
        size_bytes: 10,
        is_ours: true,
        is_pinned: false,
        is_good: true,
        is_proven: false,
    }
}

/// One backup a day at three in the morning, pruned each day: what is left on the last.
fn live_through(days: i64, policy: &Policy) -> Vec<DateTime<Utc>> {
    let start = at("2025-10-01T03:00:00Z");
    let mut backups: Vec<Candidate> = Vec::new();
    for day in 0..days {
        let now = start + TimeDelta::days(day);
        backups.push(candidate(day, now));
        assert_eq!(doubt(&backups, Some(now - TimeDelta::days(1)), now), None);
        let gone = expired(&backups, policy, now + TimeDelta::minutes(1));
        backups.retain(|one| !gone.contains(&one.key));
    }
    backups.iter().map(|one| one.made).collect()
}

#[test]
fn blnk_s_policy_over_400_days_keeps_what_its_guide_says() {
    use chrono::{Datelike, Weekday};
    let mut policy = Policy::preset("blnk").expect("a preset");
    policy.minimum = 1;
    let left = live_through(400, &policy);
    let last = at("2025-10-01T03:00:00Z") + TimeDelta::days(399);
    let age =
        |made: &DateTime<Utc>| (last + TimeDelta::minutes(1) - *made).num_hours() as f64 / 24.0;
    let expected: Vec<DateTime<Utc>> = (0..400)
        .map(|day| at("2025-10-01T03:00:00Z") + TimeDelta::days(day))
        .filter(|made| {
            age(made) <= 6.9
                || (made.weekday() == Weekday::Sun && age(made) <= 29.9)
                || (made.day() == 1 && age(made) <= 364.9)
        })
        .collect();
    assert_eq!(left, expected);
    assert!(left.len() > 20, "{left:?}");
}

#[test]
fn scalingo_s_plans_keep_seven_days_eight_weeks_and_a_year_of_months() {
    let left = live_through(400, &Policy::preset("scalingo-business").expect("a preset"));
    // Seven days; of the eight weeks and twelve months those that are not among them already.
    assert_eq!(left.len(), 7 + 6 + 11 - 1, "{left:?}");
    assert_eq!(left.len(), left.iter().collect::<HashSet<_>>().len());
    let few = live_through(400, &Policy::preset("scalingo-starter").expect("a preset"));
    assert_eq!(few.len(), 9, "{few:?}");
}

#[test]
fn a_day_is_that_of_the_zone() {
    let mut policy = Policy { daily: 2, minimum: 1, ..Policy::default() };
    // The first two are one day in UTC and two in Paris.
    let backups = [
        candidate(1, at("2026-06-01T21:00:00Z")),
        candidate(2, at("2026-06-01T23:00:00Z")),
        candidate(3, at("2026-06-03T03:00:00Z")),
    ];
    let now = at("2026-06-04T00:00:00Z");
    assert_eq!(expired(&backups, &policy, now), [backups[0].key.clone()]);
    policy.daily = 3;
    assert_eq!(expired(&backups, &policy, now), [backups[0].key.clone()], "one per day");
    policy.zone = chrono_tz::Tz::Europe__Paris;
    assert!(expired(&backups, &policy, now).is_empty());
}

#[test]
fn a_size_lets_the_oldest_go_and_a_bad_one_holds_no_place() {
    let now = at("2026-06-30T00:00:00Z");
    let mut backups: Vec<Candidate> =
        (0..6).map(|n| candidate(n, at("2026-06-10T00:00:00Z") + TimeDelta::days(n))).collect();
    let size = Policy { bytes_max: Some(35), minimum: 1, ..Policy::default() };
    let names = |keys: Vec<Key>| keys.iter().map(Key::to_string).collect::<Vec<_>>();
    assert_eq!(names(expired(&backups, &size, now)), ["0.zip", "1.zip", "2.zip"]);
    let last = Policy { last: 2, minimum: 1, ..Policy::default() };
    backups[5].is_good = false;
    backups[0].is_proven = true;
    assert_eq!(names(expired(&backups, &last, now)), ["1.zip", "2.zip"], "5 is bad, 0 is proven");
    backups[1].is_good = false;
    assert_eq!(names(expired(&backups, &last, now)), ["1.zip", "2.zip"], "old, and better ones");
}

#[test]
fn a_clock_that_cannot_be_right_is_doubted() {
    let now = at("2026-06-30T00:00:00Z");
    let backups = [candidate(1, now - TimeDelta::days(1))];
    assert_eq!(doubt(&backups, Some(now - TimeDelta::days(1)), now), None);
    assert_eq!(doubt(&backups, None, now), None, "the first run");
    let back = doubt(&backups, None, now - TimeDelta::days(2)).expect("doubted");
    assert!(back.contains("1.zip"), "{back}");
    assert!(doubt(&backups, Some(now + TimeDelta::hours(1)), now).is_some());
    let leap = doubt(&backups, Some(now), now + TimeDelta::days(365)).expect("doubted");
    assert!(leap.contains("365 days"), "{leap}");
}

fn any_backup() -> impl Strategy<Value = (i64, [bool; 4], u64)> {
    (0i64..500 * 24, any::<[bool; 4]>(), 0u64..50)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let counts = prop::array::uniform6(0usize..6);
    let ages = prop::array::uniform3(prop::option::of(0i64..400));
    let bytes = prop::option::of(0u64..500);
    (counts, ages, bytes, 1usize..5).prop_map(|(counts, ages, bytes_max, minimum)| {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let [within, sundays, firsts] = ages.map(|days| days.map(TimeDelta::days));
        Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            sundays_within: sundays,
            first_of_month_within: firsts,
            bytes_max,
            minimum,
            ..Policy::default()
        }
    })
}

proptest! {
    #[test]
    fn nothing_pinned_nothing_foreign_never_the_last_good_ones(
        rows in prop::collection::vec(any_backup(), 0..40),
        policy in any_policy(),
        hours in 0i64..600 * 24,
    ) {
        let start = at("2025-01-01T00:30:00Z");
        let backups: Vec<Candidate> = rows
            .iter()
            .enumerate()
            .map(|(n, (hour, [foreign, pinned, bad, proven], size))| Candidate {
                is_ours: !foreign,
                is_pinned: *pinned,
                is_good: !bad,
                is_proven: *proven && !bad,
                size_bytes: *size,
                ..candidate(n as i64, start + TimeDelta::hours(*hour))
            })
            .collect();
        let now = start + TimeDelta::hours(hours);
        let gone = expired(&backups, &policy, now);
        let is_gone = |one: &&Candidate| gone.contains(&one.key);
        for one in backups.iter().filter(is_gone) {
            prop_assert!(one.is_ours && !one.is_pinned, "{one:?}");
        }
        let ours = || backups.iter().filter(|one| one.is_ours && one.is_good);
        let newest = |only_proven: bool| {
            let fit = ours().filter(|one| one.is_proven || !only_proven);
            fit.max_by_key(|one| (one.made, &one.key))
        };
        prop_assert!(!newest(true).is_some_and(|one| is_gone(&one)), "the newest proven");
        prop_assert!(!newest(false).is_some_and(|one| is_gone(&one)), "the newest good");
        let left = ours().filter(|one| !is_gone(one)).count();
        prop_assert!(left >= policy.minimum.min(ours().count()), "below the minimum");
        let again: Vec<Candidate> =
            backups.iter().filter(|one| !is_gone(one)).cloned().collect();
        prop_assert!(
            expired(&again, &policy, now).iter().all(|key| {
                // Bad ones are judged by what stays.
                again.iter().any(|one| one.key == *key && !one.is_good)
            }),
            "a second run finds more"
        );
        if policy.is_empty() {
            prop_assert!(gone.is_empty());
        }
    }
}
