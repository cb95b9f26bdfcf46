//! Which backups wait for which destinations: one small file, written anew with every change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::backup::Key;
use crate::error::{Context, Result};
use crate::fsx;

/// A backup that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its key.
    pub key: String,
    /// The destinations that it waits for, each with what went wrong there last.
    pub destinations: BTreeMap<String, String>,
}

/// All that wait. What it says is on the disk.
#[derive(Debug)]
pub struct WaitingList {
    path: PathBuf,
    entries: Mutex<Vec<Waiting>>,
    more: Notify,
}

impl WaitingList {
    /// Reads the list.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn open(path: PathBuf) -> Result<Arc<Self>> {
        let entries = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                // What is in the spool is found again: see `Vault::send_waiting`.
                tracing::error!(%error, "the list of waiting backups makes no sense");
                Vec::new()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).context("cannot read which backups wait"),
        };
        Ok(Arc::new(Self { path, entries: Mutex::new(entries), more: Notify::new() }))
    }

    /// All entries.
    pub fn all(&self) -> Vec<Waiting> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a backup waits for a destination.
    pub(super) fn waits(&self, key: &Key, name: &str) -> bool {
        let all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.iter().find(|entry| entry.key == key.as_str());
        entry.is_some_and(|entry| entry.destinations.contains_key(name))
    }

    /// From now on a backup waits for a destination.
    ///
    /// # Errors
    /// The list cannot be written.
    pub(super) async fn add(self: &Arc<Self>, key: &Key, name: &str, error: &str) -> Result<()> {
        self.note(key, name, error).await?;
        self.more.notify_one();
        Ok(())
    }

    /// What went wrong last.
    ///
    /// # Errors
    /// The list cannot be written.
    pub(super) async fn note(self: &Arc<Self>, key: &Key, name: &str, error: &str) -> Result<()> {
        let (key, name, error) = (key.to_string(), name.to_owned(), error.to_owned());
        self.change(move |entries| match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => drop(entry.destinations.insert(name, error)),
            None => {
                let destinations = BTreeMap::from([(name, error)]);
                entries.push(Waiting { key, destinations });
            }
        })
        .await
    }

    /// A backup waits for a destination no longer.
    ///
    /// # Errors
    /// The list cannot be written.
    pub(super) async fn done(self: &Arc<Self>, key: &Key, name: &str) -> Result<()> {
        let (key, name) = (key.to_string(), name.to_owned());
        self.change(move |entries| {
            for entry in entries.iter_mut().filter(|entry| entry.key == key) {
                entry.destinations.remove(&name);
            }
            entries.retain(|entry| !entry.destinations.is_empty());
        })
        .await
    }

    /// A backup waits for nobody any longer.
    ///
    /// # Errors
    /// The list cannot be written.
    pub(super) async fn forget(self: &Arc<Self>, key: &Key) -> Result<()> {
        let key = key.to_string();
        self.change(move |entries| entries.retain(|entry| entry.key != key)).await
    }

    /// Waits until something is added.
    pub(super) async fn more(&self) {
        self.more.notified().await;
    }

    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Vec<Waiting>) + Send + 'static,
    ) -> Result<()> {
        let list = self.clone();
        let written = spawn_blocking(move || {
            // Held while it is written: the last change is the last one on the disk.
            let mut entries = list.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changed = entries.clone();
            change(&mut changed);
            if changed == *entries {
                return Ok(());
            }
            let text = serde_json::to_vec(&changed).context("cannot note which backups wait")?;
            if let Some(folder) = list.path.parent() {
                fsx::create_dir_durably(folder)?;
            }
            fsx::write_durably(&list.path, &text)?;
            *entries = changed;
            Ok(())
        });
        written.await.context("the thread that notes what waits stopped")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_outlives_the_process() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("state/waiting.json");
        let key = |name: &str| Key::existing(name).expect("a key");
        let list = WaitingList::open(path.clone()).expect("empty");
        list.add(&key("a.zip"), "far", "down").await.expect("noted");
        list.add(&key("a.zip"), "near", "full").await.expect("noted");
        list.add(&key("b.zip"), "far", "down").await.expect("noted");
        list.done(&key("a.zip"), "near").await.expect("noted");
        let again = WaitingList::open(path.clone()).expect("read");
        assert_eq!(again.all(), list.all());
        assert!(again.waits(&key("a.zip"), "far") && !again.waits(&key("a.zip"), "near"));
        again.done(&key("a.zip"), "far").await.expect("noted");
        again.forget(&key("b.zip")).await.expect("noted");
        assert!(WaitingList::open(path).expect("read").all().is_empty());
    }
}
