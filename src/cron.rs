//! PocketBase's cron grammar: five fields, UTC, one minute of resolution.
//!
//! It differs from other crons: fields are parted by exactly one space, there are digits only
//! (no names), a step needs `*` or a range, weekdays are 0 to 6, and all five fields must match
//! (day of month *and* weekday). Errors carry PocketBase's words, because clients see them.

pub mod named;
pub mod zoned;

use std::fmt;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Timelike, Utc};

/// How far [`Schedule::next_after`] looks ahead, in days: 29 February falls on a given weekday
/// every 28 years, or after 40 where a century without a leap day lies between.
const LOOK_AHEAD_DAYS: u64 = 41 * 366;

/// What PocketBase's macros stand for.
const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A parsed cron expression. Each field is a set of numbers, kept as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    expression: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// Why an expression is not a schedule, in PocketBase's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

impl Schedule {
    /// Parses an expression or one of the seven lower-case macros.
    ///
    /// # Errors
    /// PocketBase's text for the first thing that is wrong, as its parser writes it (lower
    /// case, no final dot).
    pub fn parse(expression: &str) -> Result<Self, ParseError> {
        let expanded = MACROS
            .iter()
            .find(|(name, _)| *name == expression)
            .map_or(expression, |(_, meaning)| *meaning);
        let fields: Vec<&str> = expanded.split(' ').collect();
        let &[minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return error(
                "invalid cron expression - must be a valid macro or to have exactly 5 space \
                 separated segments",
            );
        };
        Ok(Self {
            expression: expanded.to_owned(),
            minutes: field(minutes, 0, 59)?,
            hours: field(hours, 0, 23)?,
            days: field(days, 1, 31)?,
            months: field(months, 1, 12)?,
            weekdays: field(weekdays, 0, 6)?,
        })
    }

    /// The expression with its macro expanded, as lists of jobs show it.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether it runs in every hour of its days.
    pub fn is_of_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Whether the schedule is due in the minute of `time`.
    pub fn matches(&self, time: DateTime<Utc>) -> bool {
        has(self.minutes, time.minute())
            && has(self.hours, time.hour())
            && self.matches_day(time.date_naive())
    }

    /// The first due minute after the minute of `time`; `None` when there is none in the next
    /// 41 years, thus never (`0 0 31 2 *`).
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let start = time.checked_add_signed(TimeDelta::minutes(1))?;
        let mut from = (start.hour(), start.minute());
        for ahead in 0..LOOK_AHEAD_DAYS {
            let day = start.date_naive().checked_add_days(Days::new(ahead))?;
            if self.matches_day(day)
                && let Some((hour, minute)) = self.first_of_day(from)
            {
                return Some(day.and_hms_opt(hour, minute, 0)?.and_utc());
            }
            from = (0, 0);
        }
        None
    }

    fn matches_day(&self, day: NaiveDate) -> bool {
        has(self.days, day.day())
            && has(self.months, day.month())
            && has(self.weekdays, day.weekday().num_days_from_sunday())
    }

    /// The first due hour and minute of a day at or after the given one.
    fn first_of_day(&self, (hour, minute): (u32, u32)) -> Option<(u32, u32)> {
        let first_minute = lowest_from(self.minutes, 0)?;
        if has(self.hours, hour)
            && let Some(minute) = lowest_from(self.minutes, minute)
        {
            return Some((hour, minute));
        }
        Some((lowest_from(self.hours, hour + 1)?, first_minute))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError(text.into()))
}

/// Whether number `n` (below 64) is in a set.
fn has(set: u64, n: u32) -> bool {
    set >> n & 1 == 1
}

/// The lowest number of a set that is at least `from` (below 64).
fn lowest_from(set: u64, from: u32) -> Option<u32> {
    let rest = set & (u64::MAX << from);
    (rest != 0).then(|| rest.trailing_zeros())
}

/// One field: a list of numbers, ranges and `*`, the latter two with an optional step.
fn field(text: &str, min: i64, max: i64) -> Result<u64, ParseError> {
    let mut set = 0;
    for part in text.split(',') {
        let pieces: Vec<&str> = part.split('/').collect();
        let (range, step) = match *pieces.as_slice() {
            [range] => (range, 1),
            [range, step] => (range, step_of(step, max)?),
            _ => {
                return error("invalid segment step format - must be in the format */n or 1-30/n");
            }
        };
        let (first, last) = range_of(range, step, min, max)?;
        let mut n = first;
        while n <= last {
            set |= 1u64 << n;
            n += step;
        }
    }
    Ok(set)
}

fn step_of(text: &str, max: i64) -> Result<i64, ParseError> {
    let step = number(text)?;
    if !(1..=max).contains(&step) {
        return error(format!(
            "invalid segment step boundary - the step must be between 1 and the {max}"
        ));
    }
    Ok(step)
}

fn range_of(text: &str, step: i64, min: i64, max: i64) -> Result<(i64, i64), ParseError> {
    if text == "*" {
        return Ok((min, max));
    }
    let ends: Vec<&str> = text.split('-').collect();
    match *ends.as_slice() {
        [single] => {
            if step != 1 {
                return error(
                    "invalid segment step - step > 1 could be used only with the wildcard or \
                     range format",
                );
            }
            let n = number(single)?;
            if !(min..=max).contains(&n) {
                return error(
                    "invalid segment value - must be between the min and max of the segment",
                );
            }
            Ok((n, n))
        }
        [first, last] => {
            let first = number(first)?;
            if !(min..=max).contains(&first) {
                return error(format!(
                    "invalid segment range minimum - must be between {min} and {max}"
                ));
            }
            let last = number(last)?;
            if !(first..=max).contains(&last) {
                return error(format!(
                    "invalid segment range maximum - must be between {first} and {max}"
                ));
            }
            Ok((first, last))
        }
        _ => error("invalid segment range format - the range must have 1 or 2 parts"),
    }
}

/// A decimal number as Go reads it (an optional sign, digits), with Go's error text.
fn number(text: &str) -> Result<i64, ParseError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ParseError(format!("strconv.Atoi: parsing {}: {why}", go_quoted(text)))
    })
}

/// A text in double quotes with Go's escapes.
fn go_quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Go prints no white space but the ASCII one; for the rest Rust's idea of what is
            // printable is close enough for an error text.
            c if !c.is_whitespace() && c.escape_debug().count() == 1 => out.push(c),
            c if u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// One line of `fixtures/cron.json`, made by PocketBase's own package.
    #[derive(Deserialize)]
    struct Row {
        expression: String,
        error: Option<String>,
        #[serde(default)]
        sets: Vec<String>,
        due: usize,
        #[serde(default)]
        first: Vec<DateTime<Utc>>,
    }

    fn rows() -> Vec<Row> {
        serde_json::from_str(include_str!("../fixtures/cron.json")).expect("a table")
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn every_expression_reads_as_in_pocketbase() {
        let rows = rows();
        assert!(rows.len() > 400);
        for row in rows {
            let parsed = Schedule::parse(&row.expression);
            assert_eq!(
                parsed.as_ref().err().map(ToString::to_string),
                row.error,
                "{:?}",
                row.expression
            );
            let Ok(schedule) = parsed else { continue };
            let sets = [
                schedule.minutes,
                schedule.hours,
                schedule.days,
                schedule.months,
                schedule.weekdays,
            ];
            assert_eq!(sets.map(|set| format!("{set:x}")).to_vec(), row.sets, "{schedule}");
        }
    }

    #[test]
    fn every_schedule_is_due_as_in_pocketbase() {
        let (start, end) = (time("2027-12-31T23:59:30Z"), time("2029-01-01T00:00:00Z"));
        for row in rows().into_iter().filter(|row| row.error.is_none()) {
            let schedule = Schedule::parse(&row.expression).expect("a schedule");
            let due = std::iter::successors(schedule.next_after(start), |last| {
                schedule.next_after(*last)
            })
            .take_while(|due| *due < end);
            let first: Vec<_> = due.clone().take(3).collect();
            assert_eq!(first, row.first, "{schedule}");
            assert!(first.iter().all(|due| schedule.matches(*due)), "{schedule}");
            // The frequent ones are counted by their sets alone, which the test above compared.
            if row.due < 10_000 {
                assert_eq!(due.count(), row.due, "{schedule}");
            }
        }
    }

    #[test]
    fn rare_days_are_found_and_impossible_ones_given_up() {
        let next = |text: &str, after: &str| {
            Schedule::parse(text).expect("a schedule").next_after(time(after))
        };
        assert_eq!(
            next("0 0 29 2 1", "2080-01-01T00:00:00Z"),
            Some(time("2112-02-29T00:00:00Z")),
            "over the year 2100, which has no leap day"
        );
        assert_eq!(next("0 0 31 2 *", "2026-01-01T00:00:00Z"), None);
        assert_eq!(
            next("59 23 31 12 *", "2026-12-31T23:59:00Z"),
            Some(time("2027-12-31T23:59:00Z"))
        );
        assert_eq!(
            Schedule::parse("@daily").expect("a macro").expression(),
            "0 0 * * *",
            "lists show what the macro stands for"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_due_between_a_time_and_its_next(
            fields in (0u32..60, 0u32..24, 1u32..32, 1u32..13, 0u32..7),
            wild in 0u8..32,
            seconds in 1_700_000_000i64..2_000_000_000,
        ) {
            let (minute, hour, day, month, weekday) = fields;
            let text: Vec<String> = [minute, hour, day, month, weekday]
                .iter()
                .enumerate()
                .map(|(i, n)| if wild >> i & 1 == 1 { "*".into() } else { n.to_string() })
                .collect();
            let schedule = Schedule::parse(&text.join(" ")).expect("a schedule");
            let start = DateTime::from_timestamp(seconds, 0).expect("a time");
            if let Some(next) = schedule.next_after(start) {
                prop_assert!(schedule.matches(next) && next > start);
                let gap = (next - start).num_minutes().min(2_000);
                for minutes in 1..gap {
                    prop_assert!(!schedule.matches(start + TimeDelta::minutes(minutes)));
                }
            }
        }

        #[test]
        fn no_text_panics(text in "[-*,/0-9 @a-z\\PC]{0,40}") {
            let _ = Schedule::parse(&text);
        }
    }
}
