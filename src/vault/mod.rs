//! The vault: one source, one storage, and the flight that lets one job at a time work on them.
//!
//! `begin_*` finds every error that is the client's and takes the ticket; `spawn` does the work
//! on the main runtime, where it outlives the request, the connection and the server.

pub mod alarms;
pub mod audit;
pub mod blnk;
mod bridge;
pub mod catalog;
mod create;
pub mod databases;
mod fetch;
mod flight;
mod jobs;
mod lock;
mod losses;
pub mod mailer;
pub mod orders;
mod overview;
mod places;
pub mod proof;
pub mod prune;
mod restore;
pub mod retention;
pub mod rota;
mod rounds;
pub mod schedule;
mod sender;
mod space;
mod spool;
mod spread;
pub mod status;
mod sweep;
#[cfg(test)]
mod tests;
pub mod tokens;
mod upkeep;
mod upload;
mod waiting;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::archive::WriteOptions;
use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::config::{Care, RestoreConfig};
use crate::data_dir::DataDir;
use crate::error::{Error, Kind, Result};
use crate::source::PocketBaseFolder;
use crate::storage::Storage;
use crate::vault::catalog::Catalog;

pub use bridge::{BlockSender, channel};
pub use create::Creating;
pub use fetch::Archive;
pub use flight::{Busy, Flight, Operation, Ticket};
pub use jobs::{Cancel, Job, JobHandle, JobKind, Jobs, Method, State};
pub use overview::{At, Spread};
pub use places::{Beside, Place, Spool};
pub use restore::Restoring;
pub use spool::WAITS;
pub use waiting::WaitingList;

/// What a vault is made of.
#[derive(Debug)]
pub struct Parts {
    /// The folder that is backed up and restored.
    pub data: DataDir,
    /// How it is read.
    pub source: PocketBaseFolder,
    /// Where backups are kept.
    pub storage: Arc<dyn Storage>,
    /// Where else they are kept.
    pub beside: Beside,
    /// How archives are written.
    pub archive: WriteOptions,
    /// What a restore does besides restoring.
    pub restore: RestoreConfig,
    /// The time.
    pub clock: Clock,
    /// The runtime that long work runs on.
    pub runtime: Handle,
    /// The records of its jobs.
    pub jobs: Jobs,
    /// What is known about each backup.
    pub catalog: Catalog,
    /// How backups look after themselves.
    pub care: Care,
}

/// The vault. Shared by all faces.
#[derive(Debug)]
pub struct Vault {
    data: DataDir,
    source: PocketBaseFolder,
    storage: RwLock<Arc<dyn Storage>>,
    beside: Beside,
    archive: WriteOptions,
    restore: RestoreConfig,
    clock: Clock,
    runtime: Handle,
    flight: Flight,
    jobs: Jobs,
    catalog: Catalog,
    care: Care,
    proofs: tokio::sync::Mutex<()>,
    restart: watch::Sender<bool>,
}

impl Vault {
    /// Puts a vault together.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            data: parts.data,
            source: parts.source,
            storage: RwLock::new(parts.storage),
            beside: parts.beside,
            archive: parts.archive,
            restore: parts.restore,
            clock: parts.clock,
            runtime: parts.runtime,
            flight: Flight::default(),
            jobs: parts.jobs,
            catalog: parts.catalog,
            care: parts.care,
            proofs: tokio::sync::Mutex::default(),
            restart: watch::Sender::new(false),
        })
    }

    /// The lock, for faces that answer "busy" before anything else.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// Takes the flight for work on the folder that is no job.
    ///
    /// # Errors
    /// [`Kind::Busy`].
    pub fn hold(&self) -> Result<Ticket> {
        self.flight.begin(Operation::Restore, &Key::generate("", self.clock.now(), false))
    }

    /// The records of jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What is known about each backup.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How backups look after themselves.
    pub fn care(&self) -> &Care {
        &self.care
    }

    /// Held while a backup is proven.
    fn proofs(&self) -> &tokio::sync::Mutex<()> {
        &self.proofs
    }

    /// Becomes true when a restore is ready and the process has to be replaced.
    pub fn restart_wanted(&self) -> watch::Receiver<bool> {
        self.restart.subscribe()
    }

    /// What a restore does besides restoring.
    pub fn restore(&self) -> &RestoreConfig {
        &self.restore
    }

    /// The folder.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The runtime that long work runs on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The storage of this moment.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.storage.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another storage for all jobs that begin from now on.
    pub fn use_storage(&self, storage: Arc<dyn Storage>) {
        *self.storage.write().unwrap_or_else(PoisonError::into_inner) = storage;
    }

    /// The backups of the storage of PocketBase's settings, ascending by key.
    ///
    /// # Errors
    /// As [`Storage::list`].
    pub async fn list(&self) -> Result<Vec<Backup>> {
        self.storage().list().await
    }

    /// Removes a backup wherever it is kept, unless a job is at work on it.
    ///
    /// # Errors
    /// [`Kind::InUse`], and as [`Storage::delete`].
    pub async fn delete(&self, key: &Key) -> Result<()> {
        self.require_unused(key)?;
        self.delete_everywhere(key).await?;
        tracing::info!(%key, "deleted a backup");
        Ok(())
    }

    fn require_unused(&self, key: &Key) -> Result<()> {
        if self.is_in_use(key) {
            return Err(Error::new(
                Kind::InUse,
                "The backup is currently being used and cannot be deleted.",
            ));
        }
        Ok(())
    }

    /// Whether a job is at work on it.
    fn is_in_use(&self, key: &Key) -> bool {
        self.flight.current().is_some_and(|busy| busy.key == *key)
    }
}
