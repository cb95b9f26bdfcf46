//! What a schedule does when its time has come.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::backup::{Backup, Key};
use crate::config::schedule::{ScheduleConfig, What};
use crate::error::{Context, Error, Kind, Result};
use crate::vault::catalog::{Known, ProofKind};
use crate::vault::jobs::Method;
use crate::vault::rota::Rota;

/// Tries of a run that found the flight taken, a minute apart.
const BUSY_TRIES: u32 = 30;
const BUSY_WAIT: Duration = Duration::from_secs(60);
/// Names tried for a backup whose name is taken.
const NAMES_MAX: u32 = 20;

/// A run that has begun.
pub(super) struct Begun {
    /// Its job, where it is one.
    pub(super) job: Option<u64>,
    /// Ends with what there is to say.
    pub(super) end: BoxFuture<'static, Result<String>>,
}

impl Rota {
    /// Begins, and waits while other jobs are at work.
    ///
    /// # Errors
    /// [`Kind::Busy`] when no moment was free for half an hour; as [`Rota::begin`].
    pub(super) async fn begin_patiently(&self, entry: &ScheduleConfig) -> Result<Begun> {
        for _ in 0..BUSY_TRIES {
            match self.begin(entry).await {
                Err(error) if error.kind() == &Kind::Busy => tokio::time::sleep(BUSY_WAIT).await,
                begun => return begun,
            }
        }
        let message = format!("no moment was free for the schedule {}", entry.name);
        Err(Error::new(Kind::Busy, message).hint("is another job too long, or hanging?"))
    }

    /// Begins a run.
    ///
    /// # Errors
    /// [`Kind::Busy`], and whatever keeps the work from beginning.
    pub(super) async fn begin(&self, entry: &ScheduleConfig) -> Result<Begun> {
        match &entry.what {
            What::Automatic => {
                let scheduler = self.scheduler().clone();
                let end = async move { scheduler.automatic().await.map(|()| String::new()) };
                Ok(Begun { job: None, end: end.boxed() })
            }
            What::Backup => self.begin_backup(entry).await,
            What::Dump(database) => self.begin_dump(database).await,
            What::Verify(percent) => self.begin_verify(*percent).await,
            What::Drill => self.begin_drill().await,
            What::Prune => {
                let (job, task) = self.scheduler().vault.prune(Method::Scheduled).await?;
                let end = async move {
                    let removed = task.await.context("the task stopped")??;
                    Ok(format!("{removed} removed"))
                };
                Ok(Begun { job: Some(job), end: end.boxed() })
            }
        }
    }

    async fn begin_backup(&self, entry: &ScheduleConfig) -> Result<Begun> {
        let scheduler = self.scheduler().clone();
        let settings = scheduler.settings.current().await?;
        let app_name = &settings.values().meta.app_name;
        let wanted = Key::generate(app_name, scheduler.clock.now(), false);
        let mut key = wanted.clone();
        let mut number = 1;
        let creating = loop {
            // By a name of its own: PocketBase's count looks after its automatic ones.
            let begun = scheduler.vault.begin_create(Some(key), app_name, Method::Scheduled).await;
            number += 1;
            match begun {
                Err(error) if error.kind() == &Kind::Exists && number < NAMES_MAX => {
                    key = wanted.numbered(number);
                }
                begun => break begun?.labelled(entry.label.clone()),
            }
        };
        let job = creating.job();
        let prunes = self.prunes_by_itself();
        let end = async move {
            let backup: Backup = creating.spawn().await.context("the task stopped")??;
            let is_complete = scheduler.vault.jobs().find(job).is_some_and(|job| job.complete);
            if !is_complete {
                return Ok(format!("{}, which is not complete", backup.key));
            }
            if prunes {
                // How it ends is in its record.
                drop(scheduler.vault.prune(Method::Scheduled).await?);
            }
            Ok(backup.key.to_string())
        };
        Ok(Begun { job: Some(job), end: end.boxed() })
    }

    async fn begin_dump(&self, database: &str) -> Result<Begun> {
        let vault = self.databases().find(database).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("There is no [[database]] {database:?}."))
        })?;
        let creating = vault.begin_create(None, Method::Scheduled).await?;
        let job = creating.job();
        let end = async move {
            let (backup, _) = creating.spawn().await.context("the task stopped")??;
            Ok(backup.key.to_string())
        };
        Ok(Begun { job: Some(job), end: end.boxed() })
    }

    async fn begin_verify(&self, percent: u8) -> Result<Begun> {
        let vault = self.scheduler().vault.clone();
        let mut tasks = Vec::new();
        for place in vault.places() {
            let known = vault.known_at(&place).await?;
            for one in share(&known, percent) {
                let (kind, method) = (ProofKind::Read, Method::Scheduled);
                match vault.begin_proof_at(&place, &one.key, kind, method).await {
                    Ok(proving) => tasks.push(proving.spawn()),
                    // It went meanwhile.
                    Err(error) if error.kind() == &Kind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let end = async move {
            let (count, mut bad) = (tasks.len(), Vec::new());
            for task in tasks {
                if let Err(error) = task.await.context("the task stopped")? {
                    bad.push(error);
                }
            }
            let failed = bad.len();
            match bad.pop() {
                None => Ok(format!("{count} read, all good")),
                Some(last) => {
                    let message = format!("{failed} of {count} backups did not stand the check");
                    Err(Error::new(last.kind().clone(), message).because(last))
                }
            }
        };
        Ok(Begun { job: None, end: end.boxed() })
    }

    async fn begin_drill(&self) -> Result<Begun> {
        let vault = self.scheduler().vault.clone();
        let overview = vault.overview().await?;
        let good = overview.iter().map(|spread| &spread.known).filter(|one| one.is_good());
        let newest = good.max_by_key(|one| one.made).ok_or_else(|| {
            Error::new(Kind::NotFound, "There is no good backup that could be restored.")
        })?;
        let drill = vault.begin_proof(&newest.key, ProofKind::Drill, Method::Scheduled).await?;
        let job = drill.job();
        let end = async move {
            let proof = drill.spawn().await.context("the task stopped")??;
            Ok(proof.said)
        };
        Ok(Begun { job: Some(job), end: end.boxed() })
    }
}

/// So many of a hundred, at least one: those that were proven longest ago, or never.
fn share(known: &[Known], percent: u8) -> Vec<&Known> {
    let mut order: Vec<&Known> = known.iter().collect();
    order.sort_by_key(|one| (one.proof.as_ref().map(|proof| proof.when), one.made));
    order.truncate((known.len() * usize::from(percent)).div_ceil(100));
    order
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::vault::catalog::Proof;

    #[test]
    fn every_backup_has_its_turn() {
        let mut known: Vec<Known> = (0..30)
            .map(|n| {
                Known::found(&Backup {
                    key: Key::existing(&format!("{n}.zip")).expect("a key"),
                    size_bytes: 1,
                    modified: DateTime::UNIX_EPOCH + TimeDelta::days(n),
                })
            })
            .collect();
        for round in 0..10 {
            let keys: Vec<Key> = share(&known, 10).iter().map(|one| one.key.clone()).collect();
            assert_eq!(keys.len(), 3);
            let when = DateTime::UNIX_EPOCH + TimeDelta::days(100 + round);
            for one in known.iter_mut().filter(|one| keys.contains(&one.key)) {
                assert!(one.proof.is_none(), "read twice before all were read once");
                let said = String::new();
                one.proof = Some(Proof { when, kind: ProofKind::Read, ok: true, said });
            }
        }
        assert!(known.iter().all(|one| one.proof.is_some()));
        assert_eq!((share(&known, 100).len(), share(&known[..1], 1).len()), (30, 1));
        assert!(share(&[], 50).is_empty());
    }
}
