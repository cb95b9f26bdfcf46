//! `pocketvault schedule`: what the configuration says, and when it runs.

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::{Output, print};
use crate::clock::pocketbase_time;
use crate::config::FolderOptions;
use crate::config::schedule::{self, ScheduleConfig};
use crate::cron::named;
use crate::cron::zoned::Zoned;
use crate::error::{Error, Kind, Result};

/// Which schedules.
#[derive(Debug, Args)]
pub(super) struct ScheduleOptions {
    /// Only the schedule of this name
    name: Option<String>,
    /// How many of the next runs to tell
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: usize,
    /// Try out an expression instead of reading the configuration
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "name")]
    cron: Option<String>,
    /// The time zone of --cron
    #[arg(long, value_name = "ZONE", requires = "cron", default_value = "UTC")]
    timezone: String,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Runs the command.
pub(super) fn run(options: &ScheduleOptions, output: Output) -> Result<()> {
    let now = Utc::now();
    if let Some(text) = &options.cron {
        let when = tried(text, &options.timezone)?;
        let answer = json!({"cron": text, "next": times(&when, now, options.count)});
        return output.tell(&answer, runs(&when, now, options.count).trim_end());
    }
    let all = schedule::schedules(&options.folder)?;
    let is_wanted = |one: &&ScheduleConfig| options.name.as_ref().is_none_or(|it| *it == one.name);
    let wanted: Vec<&ScheduleConfig> = all.iter().filter(is_wanted).collect();
    match (&options.name, wanted.is_empty()) {
        (Some(name), true) => {
            let message = format!("There is no [[schedule]] {name:?}.");
            Err(Error::new(Kind::NotFound, message))
        }
        _ if output.json => print(Value::from_iter(wanted.iter().map(|one| {
            let (what, when) = (one.what.as_str(), one.when.text());
            let next = times(&one.when, now, options.count);
            json!({"name": one.name, "what": what, "when": when, "next": next})
        }))),
        (None, true) => print("there is no [[schedule]]; PocketBase's own is in its settings"),
        _ => wanted.iter().try_for_each(|one| {
            let (name, what, when) = (&one.name, one.what.as_str(), one.when.text());
            let head = format!("{name}  {what}  {when}\n");
            print(format!("{head}{}", runs(&one.when, now, options.count)).trim_end())
        }),
    }
}

fn tried(text: &str, zone: &str) -> Result<Zoned> {
    let invalid = |message: String| Error::new(Kind::Invalid(Vec::new()), message);
    let schedule =
        named::parse(text).map_err(|error| invalid(format!("{text:?} is no schedule: {error}")))?;
    let zone = zone.parse().map_err(|_| invalid(format!("{zone:?} is no time zone")))?;
    Ok(Zoned { schedule, zone })
}

/// The next runs in UTC.
fn times(when: &Zoned, now: DateTime<Utc>, count: usize) -> Vec<String> {
    let all = std::iter::successors(when.next_after(now), |at| when.next_after(*at));
    all.take(count).map(pocketbase_time).collect()
}

/// The next runs by the local clock and in UTC, a line each.
fn runs(when: &Zoned, now: DateTime<Utc>, count: usize) -> String {
    let all = std::iter::successors(when.next_after(now), |at| when.next_after(*at));
    let lines: Vec<String> = all.take(count).map(|at| line(when.zone, at)).collect();
    match lines.is_empty() && count > 0 {
        true => "  never\n".to_owned(),
        false => lines.concat(),
    }
}

fn line(zone: Tz, at: DateTime<Utc>) -> String {
    let local = zone.from_utc_datetime(&at.naive_utc());
    format!("  {}  ({})\n", local.format("%a %Y-%m-%d %H:%M %Z"), at.format("%Y-%m-%d %H:%MZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_by_both_clocks() {
        let now = "2026-03-28T12:00:00Z".parse().expect("a time");
        let when = tried("30 2 * * *", "Europe/Berlin").expect("a schedule");
        assert_eq!(
            runs(&when, now, 2),
            "  Sun 2026-03-29 03:00 CEST  (2026-03-29 01:00Z)\n  \
             Mon 2026-03-30 02:30 CEST  (2026-03-30 00:30Z)\n"
        );
        assert_eq!(runs(&tried("0 0 31 2 *", "UTC").expect("one"), now, 2), "  never\n");
        assert!(tried("0 0 * *", "UTC").is_err() && tried("0 0 * * *", "Mars").is_err());
    }
}
