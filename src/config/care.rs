//! How backups look after themselves: `[proof]`, `[retention]`, `[status]` and `[space]`.

use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Deserialize;

use crate::config::restore::duration;
use crate::error::{Error, Kind, Result};

/// Within how long every backup is read again unless told otherwise: 30 days.
const ALL_WITHIN_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Good backups that stay whatever the rules say, unless told otherwise.
const MINIMUM_DEFAULT: usize = 3;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Room that backups leave free unless told otherwise, in bytes: 64 MiB.
const RESERVE_DEFAULT: u64 = 64 << 20;

/// Everything of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Care {
    /// When backups are proven.
    pub proof: Proof,
    /// Which backups are kept.
    pub retention: Policy,
    /// From which age on the newest backup is a reason to worry.
    pub status: Status,
    /// How much room backups may take.
    pub space: Space,
}

/// When backups are proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Whether each new backup is read back at once.
    pub after_backup: bool,
    /// Within how long every backup is read again; `None` for never.
    pub all_within: Option<Duration>,
}

/// Which backups are kept. A backup stays when any rule keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The newest so many.
    pub last: usize,
    /// The newest of each of so many hours that have any.
    pub hourly: usize,
    /// The same for days.
    pub daily: usize,
    /// For weeks, which begin on Mondays.
    pub weekly: usize,
    /// For months.
    pub monthly: usize,
    /// For years.
    pub yearly: usize,
    /// Everything younger than this.
    pub within: Option<TimeDelta>,
    /// What was made on a Sunday and is younger than this.
    pub sundays_within: Option<TimeDelta>,
    /// What was made on the first of a month and is younger than this.
    pub first_of_month_within: Option<TimeDelta>,
    /// Most bytes of all that the rules are about.
    pub bytes_max: Option<u64>,
    /// Good backups that always stay, at least 1.
    pub minimum: usize,
    /// Whether backups that somebody asked for are covered too, and not only scheduled ones.
    pub manual: bool,
    /// Whose days, weeks and months these are.
    pub zone: Tz,
}

/// From which age on the newest good backup is a reason to worry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Then it is delayed.
    pub delayed_after: Duration,
    /// Then it is stale.
    pub stale_after: Duration,
}

/// How much room backups may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that stay free on the disk.
    pub reserve_bytes: u64,
    /// Most bytes of all backups together; `None` for no limit.
    pub quota_bytes: Option<u64>,
}

impl Default for Care {
    fn default() -> Self {
        Self {
            proof: Proof { after_backup: true, all_within: Some(ALL_WITHIN_DEFAULT) },
            retention: Policy::default(),
            status: Status { delayed_after: DAY, stale_after: 7 * DAY },
            space: Space { reserve_bytes: RESERVE_DEFAULT, quota_bytes: None },
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within: None,
            sundays_within: None,
            first_of_month_within: None,
            bytes_max: None,
            minimum: MINIMUM_DEFAULT,
            manual: false,
            zone: Tz::UTC,
        }
    }
}

impl Policy {
    /// Whether no rule is given: then everything stays.
    pub fn is_empty(&self) -> bool {
        self.bytes_max.is_none() && self.is_only_size()
    }

    /// Whether no rule but that about the size is given.
    pub fn is_only_size(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        let ages = [self.within, self.sundays_within, self.first_of_month_within];
        counts.iter().all(|count| *count == 0) && ages.iter().all(Option::is_none)
    }

    /// A policy by its name.
    ///
    /// `blnk` is that of Blnk's guide: a week of all, Sundays for a month, firsts of a month for
    /// a year. The others are those of Scalingo's plans.
    pub fn preset(name: &str) -> Option<Self> {
        let days = |days| Some(TimeDelta::days(days));
        let plan = |weekly, monthly| Self { daily: 7, weekly, monthly, ..Self::default() };
        Some(match name {
            "blnk" => Self {
                within: days(7),
                sundays_within: days(30),
                first_of_month_within: days(365),
                ..Self::default()
            },
            "scalingo-starter" => plan(4, 0),
            "scalingo-business" => plan(8, 12),
            _ => return None,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofTable {
    after_backup: Option<bool>,
    all_within: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionTable {
    preset: Option<String>,
    last: Option<usize>,
    hourly: Option<usize>,
    daily: Option<usize>,
    weekly: Option<usize>,
    monthly: Option<usize>,
    yearly: Option<usize>,
    within: Option<String>,
    sundays_within: Option<String>,
    first_of_month_within: Option<String>,
    max_size: Option<String>,
    minimum: Option<usize>,
    manual: Option<bool>,
    time_zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusTable {
    stale_after: Option<String>,
    delayed_after: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpaceTable {
    reserve: Option<String>,
    quota: Option<String>,
}

impl Care {
    pub(super) fn resolve(
        proof: ProofTable,
        retention: RetentionTable,
        status: StatusTable,
        space: SpaceTable,
    ) -> Result<Self> {
        let default = Self::default();
        let all_within = match proof.all_within.as_deref() {
            Some("never") => None,
            Some(text) => Some(time("proof", text)?),
            None => default.proof.all_within,
        };
        let or = |text: Option<String>, default| match text {
            Some(text) => time("status", &text),
            None => Ok(default),
        };
        let bytes = |text: Option<String>| text.map(|text| size("space", &text)).transpose();
        Ok(Self {
            proof: Proof { after_backup: proof.after_backup.unwrap_or(true), all_within },
            retention: retention.resolve()?,
            status: Status {
                delayed_after: or(status.delayed_after, default.status.delayed_after)?,
                stale_after: or(status.stale_after, default.status.stale_after)?,
            },
            space: Space {
                reserve_bytes: bytes(space.reserve)?.unwrap_or(RESERVE_DEFAULT),
                quota_bytes: bytes(space.quota)?,
            },
        })
    }
}

impl RetentionTable {
    pub(super) fn resolve(self) -> Result<Policy> {
        let base = match &self.preset {
            None => Policy::default(),
            Some(name) => Policy::preset(name).ok_or_else(|| {
                refused("retention", format!("there is no preset {name:?}"))
                    .hint("presets are blnk, scalingo-starter and scalingo-business")
            })?,
        };
        let age = |text: Option<String>, base| match text {
            None => Ok(base),
            Some(text) => TimeDelta::from_std(time("retention", &text)?)
                .map(Some)
                .map_err(|_| refused("retention", format!("{text:?} is too long"))),
        };
        let zone = match &self.time_zone {
            None => base.zone,
            Some(name) => zone("retention", name)?,
        };
        if self.minimum == Some(0) {
            return Err(refused("retention", "minimum is 1 at least".to_owned()));
        }
        Ok(Policy {
            last: self.last.unwrap_or(base.last),
            hourly: self.hourly.unwrap_or(base.hourly),
            daily: self.daily.unwrap_or(base.daily),
            weekly: self.weekly.unwrap_or(base.weekly),
            monthly: self.monthly.unwrap_or(base.monthly),
            yearly: self.yearly.unwrap_or(base.yearly),
            within: age(self.within, base.within)?,
            sundays_within: age(self.sundays_within, base.sundays_within)?,
            first_of_month_within: age(self.first_of_month_within, base.first_of_month_within)?,
            bytes_max: self.max_size.map(|text| size("retention", &text)).transpose()?,
            minimum: self.minimum.unwrap_or(base.minimum),
            manual: self.manual.unwrap_or(base.manual),
            zone,
        })
    }
}

fn refused(table: &str, what: String) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the configuration's [{table}]: {what}"))
}

fn time(table: &str, text: &str) -> Result<Duration> {
    duration(text).ok_or_else(|| {
        refused(table, format!("{text:?} is no time")).hint("say 90s, 30m, 12h or 7d")
    })
}

fn zone(table: &str, name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        refused(table, format!("{name:?} is no time zone")).hint("say UTC or Europe/Paris")
    })
}

/// A whole number of bytes and its unit: `500MB`, `20GB`, `1TB`; `MiB` and its like too.
fn size(table: &str, text: &str) -> Result<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let bytes = unit.zip(number.parse::<u64>().ok()).and_then(|(unit, n)| n.checked_mul(unit));
    bytes.ok_or_else(|| {
        refused(table, format!("{text:?} is no size")).hint("say 500MB, 20GB or 4GiB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(file: &str) -> Result<Policy> {
        toml::from_str::<RetentionTable>(file).expect("a table").resolve()
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in
            [("7", 7), ("1KB", 1_000), ("20GB", 20_000_000_000), ("1 MiB", 1 << 20)]
        {
            assert_eq!(size("x", text).expect("a size"), bytes, "{text}");
        }
        for text in ["", "GB", "-1GB", "1.5GB", "1XB", "99999999999TB"] {
            assert!(size("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn presets_are_a_base_and_words_win_over_them() {
        assert!(policy("").expect("empty").is_empty());
        let blnk = policy("preset = 'blnk'\nlast = 2\ntime_zone = 'Europe/Paris'").expect("read");
        assert_eq!((blnk.last, blnk.within), (2, Some(TimeDelta::days(7))));
        assert_eq!(blnk.zone, Tz::Europe__Paris);
        let size = policy("max_size = '1GB'").expect("read");
        assert!(!size.is_empty() && size.is_only_size());
        for bad in ["preset = 'x'", "within = '7'", "time_zone = 'Mars'", "minimum = 0"] {
            assert!(policy(bad).is_err(), "{bad}");
        }
        let proof = toml::from_str("all_within = 'never'").expect("a table");
        let (retention, status) = Default::default();
        let care = Care::resolve(proof, retention, status, SpaceTable::default()).expect("read");
        assert_eq!(care.proof, Proof { after_backup: true, all_within: None });
    }
}
