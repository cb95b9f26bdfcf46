//! Whether somebody has to worry: the age of the newest good backup against the rule, in one
//! word and with the reasons.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::clock::pocketbase_time;
use crate::config::Status as Rule;
use crate::error::Result;
use crate::fsx;
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::catalog::Known;
use crate::vault::jobs::{Job, JobKind, State};
use crate::vault::places::Place;

/// Backups over which a trend is told.
const TREND_BACKUPS: usize = 10;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// The newest good backup is young enough.
    Healthy,
    /// It is older than it should be.
    Delayed,
    /// It is far too old, or there is none.
    Stale,
    /// The last try failed, or the newest backup is bad.
    Failing,
}

impl Health {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Delayed => "delayed",
            Self::Stale => "stale",
            Self::Failing => "failing",
        }
    }
}

/// How it stands with the backups of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The place.
    pub place: String,
    /// In one word: the worst of the reasons.
    pub health: Health,
    /// Why it is not healthy; empty when it is.
    pub reasons: Vec<String>,
    /// The newest good backup.
    pub last_good: Option<Known>,
    /// The newest backup that was proven.
    pub last_proven: Option<Known>,
    /// Seconds since the newest good backup was made.
    pub age_s: Option<u64>,
    /// How many there are.
    pub count: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// The largest.
    pub largest: Option<Known>,
    /// By how many bytes the newest differ from each other on the average; negative when they
    /// shrink.
    pub trend_bytes: i64,
    /// Free bytes on the disk of backups that lie in a folder.
    pub free_bytes: Option<u64>,
    /// In how many days that disk is full if it goes on like this.
    pub full_in_days: Option<u64>,
}

impl Report {
    fn fails(&mut self, reason: String) {
        self.health = Health::Failing;
        self.reasons.push(reason);
    }

    /// The report as the API and `pocketvault status --json` tell it.
    pub fn to_json(&self) -> Value {
        let one = |known: &Option<Known>| {
            known.as_ref().map(|known| {
                let proven = known.proof.as_ref().map(|proof| pocketbase_time(proof.when));
                let made = pocketbase_time(known.made);
                json!({"key": known.key.as_str(), "size": known.size_bytes, "modified": made,
                    "proven": proven})
            })
        };
        json!({
            "health": self.health.as_str(),
            "reasons": self.reasons,
            "destination": self.place,
            "lastGood": one(&self.last_good),
            "lastProven": one(&self.last_proven),
            "ageSeconds": self.age_s,
            "count": self.count,
            "bytes": self.bytes,
            "largest": one(&self.largest),
            "trendBytes": self.trend_bytes,
            "freeBytes": self.free_bytes,
            "fullInDays": self.full_in_days,
        })
    }
}

impl Vault {
    /// How it stands at this moment at each destination, with how many backups wait for it.
    ///
    /// # Errors
    /// The only storage, or the catalog, cannot be read.
    pub async fn status(&self) -> Result<Vec<(Place, Report, usize)>> {
        let (mut all, waiting) = (Vec::new(), self.waiting());
        for place in self.places() {
            let of_it = waiting.iter().filter_map(|one| one.destinations.get(place.name.as_ref()));
            let errors: Vec<&String> = of_it.collect();
            let report = self.status_at(&place, errors.last().map(|error| error.as_str())).await?;
            all.push((place, report, errors.len()));
        }
        Ok(all)
    }

    async fn status_at(&self, place: &Place, waits: Option<&str>) -> Result<Report> {
        let storage = &place.storage;
        let (known, silent) = match self.patiently(storage.list()).await {
            Ok(listed) => (self.catalog().about(&storage.place(), &listed).await?, None),
            Err(error) if !self.can_wait() => return Err(error),
            Err(error) => (self.catalog().newest(&storage.place()).await?, Some(error)),
        };
        let last_try = self.jobs().list().into_iter().find(|job| {
            // What was cancelled on request failed nobody.
            job.is_of_folder(JobKind::Create)
                && !matches!(job.state, State::Running | State::Cancelled)
        });
        let (free, now) = (free_beside(storage.as_ref(), &known), self.clock().now());
        let rule = self.care().status;
        let mut report = judge(storage.place(), &known, last_try.as_ref(), free, rule, now);
        if let Some(error) = silent {
            report.fails(format!("it cannot be listed: {}", error.message()));
        }
        if let Some(error) = waits {
            report.fails(format!("backups wait to be sent there: {error}"));
        }
        Ok(report)
    }
}

/// Free bytes on the disk where the backups of a folder lie.
pub fn free_beside(storage: &dyn Storage, known: &[Known]) -> Option<u64> {
    let file = storage.local_path(&known.first()?.key)?;
    fsx::free_bytes(file.parent()?).ok()
}

/// The report about `known`, the backups of `place`.
pub fn judge(
    place: String,
    known: &[Known],
    last_try: Option<&Job>,
    free_bytes: Option<u64>,
    rule: Rule,
    now: DateTime<Utc>,
) -> Report {
    let newest = |fits: &dyn Fn(&Known) -> bool| {
        known.iter().filter(|one| fits(one)).max_by_key(|one| one.made).cloned()
    };
    let last_good = newest(&Known::is_good);
    let last_proven = newest(&Known::is_proven);
    let age = last_good.as_ref().map(|one| (now - one.made).to_std().unwrap_or_default());
    let mut found: Vec<(Health, String)> = Vec::new();
    match age {
        None => found.push((Health::Stale, "there is no good backup".to_owned())),
        Some(age) if age > rule.stale_after => {
            found.push((Health::Stale, older("the newest good backup", age, rule.stale_after)));
        }
        Some(age) if age > rule.delayed_after => {
            found.push((Health::Delayed, older("the newest good backup", age, rule.delayed_after)));
        }
        Some(_) => {}
    }
    if let Some(State::Failed { message, .. }) = last_try.map(|job| &job.state) {
        found.push((Health::Failing, format!("the last backup failed: {message}")));
    }
    if let Some(bad) = newest(&|_| true).filter(|one| !one.is_good()) {
        let why = match &bad.proof {
            Some(proof) if !proof.ok => proof.said.clone(),
            _ => "it is not complete".to_owned(),
        };
        found.push((Health::Failing, format!("the newest backup {} is bad: {why}", bad.key)));
    }
    let trend_bytes = trend(known);
    Report {
        place,
        health: found.iter().map(|(health, _)| *health).max().unwrap_or(Health::Healthy),
        reasons: found.into_iter().map(|(_, reason)| reason).collect(),
        last_good,
        last_proven,
        age_s: age.map(|age| age.as_secs()),
        count: known.len(),
        bytes: known.iter().fold(0, |sum, one| sum.saturating_add(one.size_bytes)),
        largest: known.iter().max_by_key(|one| one.size_bytes).cloned(),
        trend_bytes,
        free_bytes,
        full_in_days: free_bytes.and_then(|free| full_in_days(known, free, now)),
    }
}

fn older(what: &str, age: Duration, limit: Duration) -> String {
    let hours = |time: Duration| time.as_secs() / 3600;
    format!("{what} is {} hours old, more than {}", hours(age), hours(limit))
}

fn trend(known: &[Known]) -> i64 {
    let mut order: Vec<&Known> = known.iter().collect();
    order.sort_by_key(|one| std::cmp::Reverse(one.made));
    order.truncate(TREND_BACKUPS);
    let size = |one: &&Known| i64::try_from(one.size_bytes).unwrap_or(i64::MAX);
    match (order.first(), order.last()) {
        (Some(last), Some(first)) if order.len() > 1 => {
            let steps = i64::try_from(order.len() - 1).unwrap_or(1);
            (size(last) - size(first)) / steps
        }
        _ => 0,
    }
}

/// What came within the last 30 days and is still there says how fast the room goes.
fn full_in_days(known: &[Known], free: u64, now: DateTime<Utc>) -> Option<u64> {
    let since = now - TimeDelta::days(30);
    let recent = || known.iter().filter(|one| one.made >= since && one.made <= now);
    let first = recent().map(|one| one.made).min()?;
    let days = u64::try_from((now - first).num_days()).ok().filter(|days| *days > 0)?;
    let came = recent().fold(0u64, |sum, one| sum.saturating_add(one.size_bytes));
    let per_day = if recent().count() > 1 { came / days } else { 0 };
    (per_day > 0).then(|| free / per_day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Backup, Key};
    use crate::vault::catalog::{Proof, ProofKind};

    const RULE: Rule = Rule {
        delayed_after: Duration::from_secs(24 * 3600),
        stale_after: Duration::from_secs(7 * 24 * 3600),
    };

    fn now() -> DateTime<Utc> {
        "2026-11-21T09:00:00Z".parse().expect("a date")
    }

    fn backup(hours: i64, size_bytes: u64, ok: Option<bool>) -> Known {
        let proof = |ok| Proof { when: now(), kind: ProofKind::Read, ok, said: "torn".to_owned() };
        Known {
            proof: ok.map(proof),
            ..Known::found(&Backup {
                key: Key::existing(&format!("{hours}.zip")).expect("a key"),
                size_bytes,
                modified: now() - TimeDelta::hours(hours),
            })
        }
    }

    fn report(known: &[Known]) -> Report {
        judge("local".to_owned(), known, None, Some(1_000), RULE, now())
    }

    #[test]
    fn age_and_badness_are_told_in_words() {
        for (known, health, reason) in [
            (vec![], Health::Stale, "no good backup"),
            (vec![backup(23, 1, None)], Health::Healthy, ""),
            (vec![backup(25, 1, Some(true))], Health::Delayed, "25 hours old, more than 24"),
            (vec![backup(169, 1, None)], Health::Stale, "169 hours old, more than 168"),
            (vec![backup(1, 1, Some(false)), backup(2, 1, None)], Health::Failing, "torn"),
            (vec![backup(1, 1, Some(false)), backup(200, 1, None)], Health::Failing, "200 hours"),
            (vec![backup(1, 1, None), backup(2, 1, Some(false))], Health::Healthy, ""),
        ] {
            let report = report(&known);
            let said = report.reasons.join("; ");
            assert_eq!(report.health, health, "{said}");
            assert!(said.contains(reason) && said.is_empty() == reason.is_empty(), "{said}");
        }
    }

    #[test]
    fn totals_trend_and_forecast_are_counted() {
        let known: Vec<Known> =
            (0..5).map(|n| backup(n * 24, 100 - 10 * n.unsigned_abs(), Some(n > 1))).collect();
        let report = report(&known);
        assert_eq!((report.count, report.bytes, report.trend_bytes), (5, 400, 10));
        assert_eq!(report.largest.expect("one").size_bytes, 100);
        assert_eq!(report.last_proven.expect("one").key.as_str(), "48.zip");
        assert_eq!(report.full_in_days, Some(10), "100 a day, 1000 are free");
        assert_eq!(judge("x".into(), &[], None, Some(1), RULE, now()).full_in_days, None);
    }
}
