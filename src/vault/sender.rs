//! Backups that wait are sent: at start, when one begins to wait, and again and again, ever
//! further apart, until each destination has what it lacks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::backup::{Backup, Key};
use crate::config::destination::PRIMARY;
use crate::control::{Control, Step};
use crate::error::{Error, Kind, Result};
use crate::storage::{ByteStream, PutMode, Storage};
use crate::vault::Vault;
use crate::vault::catalog::Known;
use crate::vault::jobs::{JobKind, Method};
use crate::vault::places::{Place, Spool};

/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

impl Vault {
    /// Sends what waits. Never returns.
    pub async fn send_waiting(self: Arc<Self>) {
        let Some(spool) = &self.beside.spool else { return };
        self.find_again(spool).await;
        let mut wait = spool.config.retry;
        loop {
            if self.send_all(spool).await {
                spool.waiting.more().await;
                wait = spool.config.retry;
            }
            // What fails together shall not come back together.
            let pause = wait.mul_f64(0.75 + rand::random::<f64>() / 4.0);
            tokio::select! {
                () = tokio::time::sleep(pause) => wait = wait.saturating_mul(2).min(WAIT_MAX),
                () = spool.waiting.more() => {
                    wait = spool.config.retry;
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// A backup in the spool that nobody noted, because we ended in that moment, waits for
    /// everybody who lacks it.
    async fn find_again(&self, spool: &Spool) {
        let listed = match spool.storage.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::error!(error = error.full(), "the spool cannot be read");
                return;
            }
        };
        let waiting = spool.waiting.all();
        for backup in listed {
            if waiting.iter().any(|entry| entry.key == backup.key.as_str()) {
                continue;
            }
            tracing::warn!(key = %backup.key, "found a backup in the spool");
            for place in self.places() {
                if let Err(error) = spool.waiting.add(&backup.key, &place.name, "found").await {
                    tracing::error!(error = error.full(), "a backup in the spool is not noted");
                }
            }
        }
    }

    /// Whether nothing is left that waits.
    async fn send_all(self: &Arc<Self>, spool: &Spool) -> bool {
        for entry in spool.waiting.all() {
            let Ok(key) = Key::existing(&entry.key) else { continue };
            if self.require_unused(&key).is_err() {
                continue;
            }
            for name in entry.destinations.keys() {
                if let Err(error) = self.send_to(spool, &key, name).await {
                    tracing::warn!(%key, name, error = error.full(), "a backup goes on waiting");
                    if spool.waiting.waits(&key, name) {
                        self.note(spool.waiting.note(&key, name, error.message()).await);
                    }
                }
            }
            self.note(self.clear(spool, &key).await);
        }
        spool.waiting.all().is_empty()
    }

    fn note(&self, written: Result<()>) {
        if let Err(error) = written {
            tracing::error!(error = error.full(), "what waits cannot be noted");
        }
    }

    async fn send_to(self: &Arc<Self>, spool: &Spool, key: &Key, name: &str) -> Result<()> {
        let Some(target) = self.places().into_iter().find(|place| place.name.as_ref() == name)
        else {
            tracing::warn!(%key, name, "there is no such destination any more");
            return spool.waiting.done(key, name).await;
        };
        let (source, backup) = match self.other_source(&target, key).await {
            Ok(found) => found,
            Err(error) if error.kind() == &Kind::NotFound => {
                tracing::error!(%key, name, "a backup is gone that waited: it is nowhere");
                return spool.waiting.done(key, name).await;
            }
            Err(error) => return Err(error),
        };
        match self.patiently(target.storage.head(key)).await {
            // Sent before, and we ended before it was noted.
            Ok(there) if there.size_bytes == backup.size_bytes => {
                return spool.waiting.done(key, name).await;
            }
            Ok(_) => return Err(Error::new(Kind::Exists, "Another backup has that name there.")),
            Err(error) if error.kind() == &Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let job = self.jobs.open(JobKind::Upload, Method::Scheduled, key);
        job.note(format!("sent from {} to {name}", source.name));
        let result = transfer(&source, &target, &backup, job.control()).await;
        job.finish(&result).await;
        let sent = result?;
        if !spool.waiting.waits(key, name) {
            // Deleted by somebody while it was on its way.
            return target.storage.delete(key).await;
        }
        tracing::info!(%key, name, "a backup that waited was sent");
        self.note(self.inherit(&source, &backup, &target, &sent).await);
        spool.waiting.done(key, name).await?;
        self.prove_new(key, &[target]).await;
        Ok(())
    }

    /// What is known of a copy is known of the other, but for its proof: above all when it was
    /// made, by which the rules of retention go.
    async fn inherit(
        &self,
        source: &Place,
        backup: &Backup,
        target: &Place,
        sent: &Backup,
    ) -> Result<()> {
        let known = self.catalog().find(&source.storage.place(), backup).await?;
        let known = Known { size_bytes: sent.size_bytes, proof: None, ..known };
        self.catalog().save(&target.storage.place(), &known).await
    }

    async fn other_source(&self, target: &Place, key: &Key) -> Result<(Place, Backup)> {
        let mut failed = None;
        for place in self.sources().into_iter().filter(|place| place.name != target.name) {
            match self.patiently(place.storage.head(key)).await {
                Ok(backup) => return Ok((place, backup)),
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(Kind::NotFound, format!("no backup {key}"))))
    }

    /// Takes a backup out of the spool that waits for nobody and that somebody has.
    async fn clear(&self, spool: &Spool, key: &Key) -> Result<()> {
        let waits = spool.waiting.all().iter().any(|entry| entry.key == key.as_str());
        let Ok(spooled) = spool.storage.head(key).await else { return Ok(()) };
        if waits {
            return Ok(());
        }
        for place in self.places() {
            if let Ok(there) = self.patiently(place.storage.head(key)).await
                && there.size_bytes == spooled.size_bytes
            {
                let Some(place) = self.spool_place() else { return Ok(()) };
                return self.delete_at(&place, key).await;
            }
        }
        // Nobody has it: its destinations are gone. It stays ours to send.
        spool.waiting.add(key, PRIMARY, "its destination is gone").await
    }
}

/// Copies a backup; it counts when the target tells its size back.
async fn transfer(
    source: &Place,
    target: &Place,
    backup: &Backup,
    control: &Control,
) -> Result<Backup> {
    control.enter(Step::Transferring);
    control.expect(backup.size_bytes, 0);
    let (watch, expected) = (control.clone(), backup.size_bytes);
    let body = source.storage.get(&backup.key, None).await?;
    let body: ByteStream = body
        .map(move |block| {
            let block = block?;
            watch.check()?;
            watch.add_bytes(block.len() as u64);
            Ok(block)
        })
        .boxed();
    let stored = target.storage.put(&backup.key, body, PutMode::Create).await?;
    let there = target.storage.head(&backup.key).await?;
    if stored.size_bytes == expected && there.size_bytes == expected {
        return Ok(there);
    }
    target.storage.delete(&backup.key).await?;
    let message = format!("{} bytes arrived of {expected}", there.size_bytes);
    Err(Error::new(Kind::Corrupt, message))
}
