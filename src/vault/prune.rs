//! Removing what the rules no longer keep, and saying beforehand what that would be.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinHandle;

use crate::backup::Key;
use crate::config::Policy;
use crate::error::{Error, Kind, Result};
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::catalog::{Catalog, Known, Origin};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::places::Place;
use crate::vault::retention::{Candidate, Share, doubt, expired, expired_automatic};

/// How long nothing is deleted once the clock was doubted.
const HOLD: TimeDelta = TimeDelta::hours(24);
/// When the catalog began to be kept.
pub const BIRTH: &str = "catalog.birth";

/// Why nothing is removed at a destination that something waits for.
pub const LACKS: &str = "backups wait to be sent there: no older one is removed";

/// What a prune would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// The place that it is about.
    pub place: String,
    /// Why nothing is deleted now, whatever stands in `expired`.
    pub held: Option<String>,
    /// What would go, oldest first.
    pub expired: Vec<Known>,
    /// What stays.
    pub kept: Vec<Known>,
}

impl Vault {
    /// What the rules no longer keep at this moment, at each destination by its own rules;
    /// nothing is deleted.
    ///
    /// # Errors
    /// A storage or the catalog cannot be read.
    pub async fn pruning(&self) -> Result<Vec<(Place, Pruning)>> {
        let mut all = Vec::new();
        for place in self.places() {
            let (storage, now) = (place.storage.as_ref(), self.clock().now());
            let planned = plan(storage, self.catalog(), self.policy_of(&place), now).await;
            let mut pruning = match planned {
                Err(error) if !self.beside.places.is_empty() => Pruning {
                    place: storage.place(),
                    held: Some(format!("it cannot be looked at: {}", error.message())),
                    expired: Vec::new(),
                    kept: Vec::new(),
                },
                planned => planned?,
            };
            if self.lacks_backups(&place) {
                pruning.held = pruning.held.or(Some(LACKS.to_owned()));
            }
            all.push((place, pruning));
        }
        Ok(all)
    }

    /// Whether there are rules for any destination.
    pub(super) fn has_rules(&self) -> bool {
        self.places().iter().any(|place| !self.policy_of(place).is_empty())
    }

    /// Which backups are kept at a place.
    pub(super) fn policy_of<'a>(&'a self, place: &'a Place) -> &'a Policy {
        place.retention.as_ref().unwrap_or(&self.care().retention)
    }

    /// Deletes it, as a job. The number of the job, and the task that ends with how many went.
    ///
    /// # Errors
    /// As [`Vault::pruning`].
    pub async fn prune(
        self: &Arc<Self>,
        method: Method,
    ) -> Result<(u64, JoinHandle<Result<usize>>)> {
        let name = Key::existing("backups")?;
        let job = self.jobs().open(JobKind::Prune, method, &name);
        let (id, vault) = (job.id(), self.clone());
        let task = self.runtime().spawn(async move {
            let result = vault.remove_expired(&job).await;
            job.finish(&result).await;
            result
        });
        Ok((id, task))
    }

    /// At each destination by itself: one that fails does not keep the others.
    async fn remove_expired(&self, job: &JobHandle) -> Result<usize> {
        let places = self.places();
        let (mut all, mut failed) = (0, None);
        for place in &places {
            let of = |line: String| match places.len() {
                1 => line,
                _ => format!("{}: {line}", place.name),
            };
            if self.lacks_backups(place) {
                job.note(of(LACKS.to_owned()));
                continue;
            }
            let (storage, now) = (place.storage.as_ref(), self.clock().now());
            let (policy, in_use) = (self.policy_of(place), |key: &Key| self.is_in_use(key));
            match carry_out(storage, self.catalog(), policy, now, &in_use).await {
                Ok((removed, lines)) => {
                    lines.into_iter().for_each(|line| job.note(of(line)));
                    all += removed;
                }
                Err(error) => {
                    job.note(of(error.message().to_owned()));
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(all), Err)
    }

    /// Deletes the automatic backups beyond the newest `keep`, at each destination by itself
    /// and as many as it wants; how many that were.
    ///
    /// # Errors
    /// A storage cannot be listed, or a delete fails; the other destinations are pruned then.
    pub async fn prune_automatic(&self, keep: usize, app_name: &str) -> Result<usize> {
        let (mut pruned, mut failed) = (0, None);
        for (index, place) in self.places().iter().enumerate() {
            let name = place.name.as_ref();
            if self.lacks_backups(place) {
                tracing::info!(name, LACKS);
                continue;
            }
            let share = match index == 0 && place.is_local() {
                true => Share::Alone,
                false => Share::Shared {
                    app_name: app_name.to_owned(),
                    since: self.catalog().time_or(BIRTH, self.clock().now()).await?,
                },
            };
            let keep = place.keep.unwrap_or(keep);
            match self.prune_automatic_at(place, keep, &share).await {
                Ok(count) => pruned += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(pruned), Err)
    }

    async fn prune_automatic_at(&self, place: &Place, keep: usize, share: &Share) -> Result<usize> {
        if keep == 0 {
            return Ok(0);
        }
        let known = self.known_at(place).await?;
        let expired = expired_automatic(&known, keep, share);
        for key in &expired {
            self.require_unused(key)?;
            self.delete_at(place, key).await?;
            tracing::info!(name = place.name.as_ref(), %key, "deleted an expired backup");
        }
        Ok(expired.len())
    }
}

/// What `policy` no longer keeps at `now`; nothing is deleted.
///
/// # Errors
/// The storage or the catalog cannot be read.
pub async fn plan(
    storage: &dyn Storage,
    catalog: &Catalog,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<Pruning> {
    let place = storage.place();
    let known = catalog.about(&place, &storage.list().await?).await?;
    let candidates: Vec<Candidate> = known.iter().map(|one| candidate(one, policy)).collect();
    let last_run = catalog.time(&last_run_of(&place)).await?;
    let held = match doubt(&candidates, last_run, now) {
        Some(why) => Some(why),
        None => match catalog.time(&hold_of(&place)).await? {
            Some(until) if now < until && until - now <= HOLD => {
                Some(format!("the clock was doubted lately: nothing is deleted before {until}"))
            }
            _ => None,
        },
    };
    let gone: HashSet<Key> = expired(&candidates, policy, now).into_iter().collect();
    let (mut expired, kept): (Vec<Known>, Vec<Known>) =
        known.into_iter().partition(|one| gone.contains(&one.key));
    expired.sort_by_key(|one| one.made);
    Ok(Pruning { place, held, expired, kept })
}

/// Deletes what `policy` no longer keeps, unless the clock is doubted or `in_use` says no. How
/// many went, and what there is to say about the run. One that cannot be deleted does not keep
/// the others.
///
/// # Errors
/// As [`plan`]; the last failure when any delete failed.
pub async fn carry_out(
    storage: &dyn Storage,
    catalog: &Catalog,
    policy: &Policy,
    now: DateTime<Utc>,
    in_use: &(dyn Fn(&Key) -> bool + Sync),
) -> Result<(usize, Vec<String>)> {
    let pruning = plan(storage, catalog, policy, now).await?;
    let place = &pruning.place;
    let last_run = catalog.time(&last_run_of(place)).await?;
    catalog.keep_time(&last_run_of(place), now).await?;
    if let Some(why) = pruning.held {
        let candidates: Vec<Candidate> =
            pruning.expired.iter().chain(&pruning.kept).map(|one| candidate(one, policy)).collect();
        if doubt(&candidates, last_run, now).is_some() {
            catalog.keep_time(&hold_of(place), now + HOLD).await?;
        }
        tracing::error!(why, "NOTHING IS DELETED: the clock cannot be right");
        return Ok((0, vec![format!("nothing was deleted: {why}")]));
    }
    let (mut removed, mut lines, mut failed) = (0, Vec::new(), None);
    for one in pruning.expired {
        if in_use(&one.key) {
            lines.push(format!("{} is in use and stays for now", one.key));
            continue;
        }
        match storage.delete(&one.key).await {
            Ok(()) => {
                catalog.forget(place, &one.key).await?;
                tracing::info!(key = %one.key, "removed a backup that no rule keeps");
                lines.push(format!("removed {}", one.key));
                removed += 1;
            }
            Err(error) if error.kind() == &Kind::NotFound => {}
            Err(error) => failed = Some((one.key, error)),
        }
    }
    match failed {
        None => Ok((removed, lines)),
        Some((key, error)) => {
            Err(Error::internal(format!("{removed} were removed, but {key} was not"))
                .because(error))
        }
    }
}

fn candidate(known: &Known, policy: &Policy) -> Candidate {
    let is_covered = policy.manual || known.method == Method::Scheduled;
    // PocketBase's own count looks after these.
    let is_automatic = known.key.as_str().starts_with("@auto_pb_backup_");
    Candidate {
        key: known.key.clone(),
        made: known.made,
        size_bytes: known.size_bytes,
        is_ours: known.origin == Origin::Made && is_covered && !is_automatic,
        is_pinned: known.pinned,
        is_good: known.is_good(),
        is_proven: known.is_proven(),
    }
}

fn last_run_of(place: &str) -> String {
    format!("prune.last {place}")
}

fn hold_of(place: &str) -> String {
    format!("prune.hold {place}")
}
