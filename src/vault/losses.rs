//! Whether a backup with losses still counts as a good one.
//!
//! Records that name files which are gone stay in a database for years. They must not keep old
//! backups from being removed for ever, and a folder of uploads that vanishes must do exactly
//! that.

use chrono::{DateTime, TimeDelta, Utc};

use crate::backup::Backup;
use crate::vault::Vault;
use crate::vault::catalog::{Known, Origin};
use crate::vault::create::Outcome;
use crate::vault::jobs::Method;
use crate::vault::places::Place;

/// A jump that has stood for so long is how things are.
const SETTLED: TimeDelta = TimeDelta::days(7);
/// One file in so many more may be missing than before.
const GROWTH: u64 = 20;

/// Whether a backup that lacks `missing` files, and nothing else, counts as complete after
/// those of `earlier`, newest first.
fn is_usual(missing: u64, earlier: &[Known], now: DateTime<Utc>) -> bool {
    let comparable = || earlier.iter().filter(|one| one.origin == Origin::Made && !one.worse);
    let covers = |one: &Known| missing <= one.missing + one.missing / GROWTH;
    let Some(last_good) = comparable().find(|one| one.complete) else {
        // Nothing to compare with: this is how things were when we came, or have been since.
        return true;
    };
    if missing == 0 || covers(last_good) {
        return true;
    }
    let since = comparable().take_while(|one| !one.complete && covers(one)).last();
    since.is_some_and(|one| now - one.made >= SETTLED)
}

/// Who made a backup, and why.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    pub(super) job: u64,
    pub(super) method: Method,
    pub(super) label: String,
}

impl Vault {
    /// Keeps what is known about a new backup, for each place that has it. Whether it counts
    /// as a good one: by the history of the first.
    pub(super) async fn record(
        &self,
        kept: &[(Place, Backup)],
        outcome: &Outcome,
        maker: &Maker,
    ) -> bool {
        let Some((first, _)) = kept.first() else { return false };
        let now = self.clock().now();
        let earlier = match outcome.missing {
            0 => Ok(Vec::new()),
            _ => self.catalog().newest(&first.storage.place()).await,
        };
        let complete = !outcome.worse
            && match earlier {
                Ok(earlier) => is_usual(outcome.missing, &earlier, now),
                Err(_) => false,
            };
        for (place, backup) in kept {
            let known = Known {
                origin: Origin::Made,
                job: Some(maker.job),
                method: maker.method,
                label: maker.label.clone(),
                complete,
                missing: outcome.missing,
                worse: outcome.worse,
                ..Known::found(backup)
            };
            if let Err(error) = self.catalog().save(&place.storage.place(), &known).await {
                let (key, error) = (&backup.key, error.full());
                tracing::error!(%key, error, "the backup is made, but no rule will ever remove it");
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Key;

    #[test]
    fn what_was_missing_before_is_usual_and_a_jump_is_not_until_it_has_stood() {
        let now: DateTime<Utc> = "2026-11-21T09:00:00Z".parse().expect("a date");
        let earlier = |days: i64, missing, complete| Known {
            origin: Origin::Made,
            missing,
            complete,
            ..Known::found(&Backup {
                key: Key::existing("a.zip").expect("a key"),
                size_bytes: 1,
                modified: now - TimeDelta::days(days),
            })
        };
        assert!(is_usual(5, &[], now), "nothing to compare with");
        assert!(is_usual(5, &[earlier(1, 5, true)], now));
        assert!(is_usual(0, &[earlier(1, 5, true)], now));
        assert!(is_usual(105, &[earlier(1, 100, true)], now), "one in twenty more");
        assert!(!is_usual(106, &[earlier(1, 100, true)], now));
        assert!(!is_usual(1, &[earlier(1, 0, true)], now));
        let jumped =
            |days| [earlier(1, 900, false), earlier(days, 900, false), earlier(9, 5, true)];
        assert!(!is_usual(900, &jumped(6), now));
        assert!(is_usual(900, &jumped(7), now));
        assert!(!is_usual(9_000, &jumped(7), now), "it jumped again");
        let uploaded = Known { origin: Origin::Uploaded, ..earlier(1, 0, true) };
        assert!(is_usual(5, &[uploaded], now), "a foreign one says nothing");
    }
}
