//! When tasks are due.

use super::*;

#[test]
fn what_is_due_runs_once_however_late_we_wake() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a date");
    let crons = [
        Cron { task: Task::OtpCleanup, expression: "0 * * * *".to_owned() },
        Cron { task: Task::AutoBackup, expression: "* * * * *".to_owned() },
        Cron { task: Task::Optimize, expression: "broken".to_owned() },
    ];
    let due = due_between(&crons, at("2026-11-21T09:58:00Z"), at("2026-11-21T10:02:00Z"));
    assert_eq!(due, [Task::OtpCleanup, Task::AutoBackup]);
    let due = due_between(&crons, at("2026-11-21T10:03:00Z"), at("2026-11-21T10:03:00Z"));
    assert_eq!(due, [Task::AutoBackup]);
    let due = due_between(&crons, at("2026-11-21T10:03:00Z"), at("2026-11-21T10:02:00Z"));
    assert!(due.is_empty());
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a date");
    let last = at("2026-11-21T10:00:00Z");
    for (now, expected) in [
        ("2026-11-21T10:01:00Z", "2026-11-21T10:01:00Z"),
        ("2026-11-21T09:58:00Z", "2026-11-21T10:00:00Z"),
        ("2026-11-21T09:55:00Z", "2026-11-21T10:00:00Z"),
        ("2026-11-21T09:54:00Z", "2026-11-21T09:54:00Z"),
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
    ] {
        assert_eq!(last_after(last, at(now)), at(expected), "{now}");
    }
}

#[test]
fn a_minute_begins_at_its_first_second() {
    let time = "2026-11-21T09:58:59.999Z".parse().expect("a date");
    assert_eq!(minute_of(time).to_string(), "2026-11-21 09:58:00 UTC");
}
