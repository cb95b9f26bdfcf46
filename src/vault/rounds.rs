//! What is looked after by the clock without anybody's asking: old backups are read again, so
//! many a day that all are read in time, and what no rule keeps goes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::{Kind, Result};
use crate::vault::Vault;
use crate::vault::catalog::{Known, ProofKind};
use crate::vault::jobs::Method;
use crate::vault::places::Place;

/// Time between two rounds.
const EVERY: TimeDelta = TimeDelta::days(1);

impl Vault {
    /// Makes the round of the day, if it was not made yet: the parts of it that no schedule does.
    ///
    /// # Errors
    /// The storage or the catalog cannot be read.
    pub async fn make_round(self: &Arc<Self>, prune: bool, verify: bool) -> Result<()> {
        let now = self.clock().now();
        let name = format!("round {}", self.storage().place());
        // A clock that went back must not keep the rounds away.
        let is_due = match self.catalog().time(&name).await? {
            // The first begins a day after the start: a start is no time for heavy work.
            None => return self.catalog().keep_time(&name, now).await,
            Some(last) => now - last >= EVERY || now < last,
        };
        if !is_due {
            return Ok(());
        }
        self.catalog().keep_time(&name, now).await?;
        if prune && self.has_rules() {
            let (_, task) = self.prune(Method::Scheduled).await?;
            // How it ended is in its record.
            drop(task);
        }
        let Some(within) = self.care().proof.all_within.filter(|_| verify) else { return Ok(()) };
        let mut failed = None;
        for place in self.places() {
            if let Err(error) = self.prove_old(&place, within, now).await {
                let name = place.name.as_ref();
                tracing::error!(name, error = error.full(), "old backups there were not read");
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn prove_old(
        self: &Arc<Self>,
        place: &Place,
        within: Duration,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let known = self.known_at(place).await?;
        for one in to_prove(&known, within, now) {
            let (kind, method) = (ProofKind::Read, Method::Scheduled);
            match self.begin_proof_at(place, &one.key, kind, method).await {
                Ok(proving) => drop(proving.spawn()),
                // It went meanwhile.
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Which backups are read today, so that each is read within `within` and the days are alike:
/// those whose proof is oldest, and all that would come too late otherwise.
fn to_prove(known: &[Known], within: Duration, now: DateTime<Utc>) -> Vec<&Known> {
    let days = within.as_secs().div_ceil(24 * 3600).max(1);
    let share = known.len().div_ceil(usize::try_from(days).unwrap_or(usize::MAX));
    let proven = |one: &Known| one.proof.as_ref().map(|proof| proof.when);
    let limit = TimeDelta::from_std(within).unwrap_or(TimeDelta::MAX);
    let mut order: Vec<&Known> = known.iter().collect();
    order.sort_by_key(|one| (proven(one), one.made));
    let is_late = |one: &&Known| proven(one).is_some_and(|when| now - when >= limit - EVERY);
    let late = order.iter().filter(|one| is_late(one)).count();
    let never = order.iter().filter(|one| proven(one).is_none()).count();
    order.truncate(share.max(late + never.min(share)));
    // What was read within the last day needs no second look.
    order.retain(|one| proven(one).is_none_or(|when| now - when >= EVERY));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Backup, Key};
    use crate::vault::catalog::Proof;

    #[test]
    fn every_backup_is_read_in_time_and_no_day_has_all_the_work() {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a date");
        let within = Duration::from_secs(30 * 24 * 3600);
        let mut known: Vec<Known> = (0..100)
            .map(|n| {
                Known::found(&Backup {
                    key: Key::existing(&format!("{n}.zip")).expect("a key"),
                    size_bytes: 1,
                    modified: start,
                })
            })
            .collect();
        for day in 0..90 {
            let now = start + TimeDelta::days(day);
            let today: Vec<Key> =
                to_prove(&known, within, now).iter().map(|one| one.key.clone()).collect();
            assert!(today.len() <= 8, "{} on day {day}", today.len());
            for one in known.iter_mut().filter(|one| today.contains(&one.key)) {
                one.proof =
                    Some(Proof { when: now, kind: ProofKind::Read, ok: true, said: String::new() });
            }
            if day >= 30 {
                for one in &known {
                    let when = one.proof.as_ref().expect("read by now").when;
                    assert!(now - when <= TimeDelta::days(30), "{} on day {day}", one.key);
                }
            }
        }
        assert!(to_prove(&known[..1], within, start + TimeDelta::days(89)).len() <= 1);
        assert!(to_prove(&[], within, start).is_empty());
    }
}
