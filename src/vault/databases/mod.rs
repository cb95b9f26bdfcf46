//! Vaults whose source is a PostgreSQL database: each with its own flight, its own backups and
//! its own folder of our state, so that nothing of them mixes with PocketBase's.
//!
//! Three locks, from the inside out: the flight for this process, a locked file for processes
//! with the same state folder (the command line beside a server), an advisory lock in the
//! database for everybody else.

mod bosbase;
mod create;
mod proof;
mod restore;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::config::databases::{DatabaseConfig, DatabaseKind, DatabaseStorage};
use crate::config::storage::StorageConfig;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::restore::postgres::{self as pg, Kept, Recovered};
use crate::source::postgres::{Lock, Options, Postgres};
use crate::storage::{LocalStorage, S3Options, S3Storage, Storage};
use crate::vault::databases::bosbase::Bosbase;
use crate::vault::flight::{Flight, Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Jobs, Method};

pub use bosbase::BosbaseSuperuser;
pub use create::CreatingDump;
pub use proof::Proof;
pub use restore::{RestoringDump, What};

/// Where databases have their folders, in the state folder.
const FOLDER: &str = "databases";
/// Where backups lie that have no place of their own.
const BACKUPS: &str = "backups";
/// Where uploads on their way to a bucket are remembered.
const UPLOADS: &str = "uploads";
/// The file that is locked while a job runs.
const LOCK: &str = "lock";
/// How often what a crash left is tried to be ended while the server is silent.
const SETTLE_EVERY: Duration = Duration::from_secs(15);

/// All database vaults of the process, in the order of the configuration. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Vaults(Arc<[Arc<DatabaseVault>]>);

/// One database and its backups.
#[derive(Debug)]
pub struct DatabaseVault {
    name: String,
    kind: DatabaseKind,
    source: Postgres,
    bosbase: Option<Bosbase>,
    storage: Arc<dyn Storage>,
    /// Its folder of our state.
    folder: PathBuf,
    /// The folder of its backups, where they lie on this machine.
    local: LocalStorage,
    key_prefix: String,
    clock: Clock,
    runtime: Handle,
    flight: Flight,
    jobs: Jobs,
}

/// The right to work, in this process and with this state folder.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    _file: File,
}

/// What the vaults are made of.
#[derive(Debug, Clone, Copy)]
pub struct VaultsParts<'a> {
    /// The databases.
    pub databases: &'a [DatabaseConfig],
    /// The bucket of those that are kept in one.
    pub bucket: &'a StorageConfig,
    /// Our state folder.
    pub state: &'a Path,
    /// The time.
    pub clock: &'a Clock,
    /// The runtime that long work runs on.
    pub runtime: &'a Handle,
    /// The records of jobs, shared with PocketBase's vault.
    pub jobs: &'a Jobs,
}

impl Vaults {
    /// Puts the vaults together; nothing is connected yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`]: a URL is not usable, or there is no bucket where one is wanted.
    pub fn new(parts: VaultsParts<'_>) -> Result<Self> {
        let vaults = parts.databases.iter().map(|config| {
            let vault = DatabaseVault::new(config, parts).map_err(|error| {
                let message = format!("the [[database]] {:?}: {}", config.name, error.message());
                Error::new(error.kind().clone(), message)
            });
            vault.map(Arc::new)
        });
        Ok(Self(vaults.collect::<Result<Vec<_>>>()?.into()))
    }

    /// The vault of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<DatabaseVault>> {
        self.0.iter().find(|vault| vault.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DatabaseVault>> {
        self.0.iter()
    }

    /// Ends, in tasks of their own, what a crash left; goes on until each server answers.
    pub fn settle(&self) {
        for vault in self.iter() {
            let (vault, runtime) = (vault.clone(), vault.runtime.clone());
            runtime.spawn(async move {
                while let Err(error) = vault.settle_once().await {
                    let (database, error) = (&vault.name, error.full());
                    tracing::warn!(database, error, "a broken-off restore is not yet ended");
                    tokio::time::sleep(SETTLE_EVERY).await;
                }
            });
        }
    }
}

impl DatabaseVault {
    fn new(config: &DatabaseConfig, parts: VaultsParts<'_>) -> Result<Self> {
        let folder = parts.state.join(FOLDER).join(&config.name);
        let source = Postgres::new(Options {
            url: config.url.clone(),
            exclude_table_data: config.exclude_table_data.clone(),
            jobs: config.jobs.get(),
            timeout: config.timeout,
            maintenance_database: config.maintenance_database.clone(),
            programs: config.programs.clone(),
        })?;
        let backups = config.folder.clone().unwrap_or_else(|| folder.join(BACKUPS));
        let local = LocalStorage::new(backups);
        let storage: Arc<dyn Storage> = match config.storage {
            DatabaseStorage::Local => Arc::new(local.clone()),
            DatabaseStorage::S3 => Arc::new(bucket(config, parts.bucket, &folder)?),
        };
        Ok(Self {
            name: config.name.clone(),
            kind: config.kind,
            source,
            bosbase: config.bosbase.as_ref().map(Bosbase::new),
            storage,
            folder,
            local,
            key_prefix: config.key_prefix.clone(),
            clock: parts.clock.clone(),
            runtime: parts.runtime.clone(),
            flight: Flight::default(),
            jobs: parts.jobs.clone(),
        })
    }

    /// Our name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How names of new backups begin.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// A name that a client chose for a new backup.
    ///
    /// # Errors
    /// [`Kind::Invalid`] under `name`.
    pub fn chosen(&self, name: &str) -> Result<Key> {
        match self.kind {
            DatabaseKind::Postgresql => Key::named_dump(name),
            DatabaseKind::Bosbase => Key::named(name),
        }
    }

    /// A generated name for a new backup: `<prefix>_<UTC>.dump`, or PocketBase's form.
    fn generated(&self) -> Key {
        let now = self.clock.now();
        match self.kind {
            DatabaseKind::Postgresql => Key::generate_dump(&self.key_prefix, now),
            DatabaseKind::Bosbase => Key::generate(&self.key_prefix, now, false),
        }
    }

    /// What it is.
    pub fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The database itself.
    pub fn source(&self) -> &Postgres {
        &self.source
    }

    /// The lock of this process.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// The records of jobs, which all vaults share.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Where its backups are kept.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// All backups, ascending by key.
    ///
    /// # Errors
    /// As [`Storage::list`].
    pub async fn list(&self) -> Result<Vec<Backup>> {
        let mut backups = self.storage.list().await?;
        backups.retain(|backup| backup.key.as_str().ends_with(self.kind.suffix()));
        Ok(backups)
    }

    /// What was proven when a backup was made; `None` for one that was not made here.
    pub async fn proof(&self, key: &Key) -> Option<Proof> {
        let (folder, key) = (self.folder.clone(), key.clone());
        spawn_blocking(move || Proof::read(&folder, &key)).await.ok().flatten()
    }

    /// Removes a backup, unless a job is at work on it.
    ///
    /// # Errors
    /// [`Kind::InUse`], and as [`Storage::delete`].
    pub async fn delete(&self, key: &Key) -> Result<()> {
        if self.flight.current().is_some_and(|busy| busy.key == *key) {
            let message = "The backup is currently being used and cannot be deleted.";
            return Err(Error::new(Kind::InUse, message));
        }
        if !key.as_str().ends_with(self.kind.suffix()) {
            return Err(Error::new(Kind::NotFound, format!("there is no backup {key}")));
        }
        self.storage.delete(key).await?;
        Proof::remove(&self.folder, key);
        tracing::info!(database = self.name, %key, "deleted a backup");
        Ok(())
    }

    /// The database from before the last restore, which an undo brings back.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn kept(&self) -> Result<Option<Kept>> {
        pg::kept(&self.folder, self.source.target().database())
    }

    /// Takes the locks of this machine, and ends what a crash left.
    async fn hold(&self, operation: Operation, key: &Key) -> Result<Held> {
        let ticket = self.flight.begin(operation, key)?;
        let (folder, local) = (self.folder.clone(), self.local.clone());
        let file = spawn_blocking(move || {
            let file = lock_file(&folder)?;
            // Nobody else writes there now.
            local.sweep()?;
            Ok::<_, Error>(file)
        });
        let file = file.await.context("a thread stopped")??;
        if let Err(error) = self.storage.sweep_uploads().await {
            tracing::warn!(error = error.full(), "cannot look for broken-off uploads");
        }
        let recovered = pg::recover(&self.source, &self.folder, &self.clock).await?;
        match recovered {
            Recovered::Nothing => {}
            Recovered::RolledBack => {
                tracing::warn!(database = self.name, "a broken-off restore was taken back");
            }
            Recovered::Swapped => {
                tracing::warn!(database = self.name, "a broken-off restore was finished");
            }
        }
        Ok(Held { ticket, _file: file })
    }

    async fn settle_once(&self) -> Result<()> {
        if pg::is_settled(&self.folder, self.source.target().database())? {
            return Ok(());
        }
        let key = self.generated();
        match self.hold(Operation::Restore, &key).await {
            // Somebody is at work, and has ended it before.
            Err(error) if error.kind() == &Kind::Busy => Ok(()),
            held => held.map(drop),
        }
    }

    /// Takes the lock in the database and opens the record of the job. A server that cannot be
    /// asked is a failed job; one that is busy is none.
    async fn begin(&self, kind: JobKind, method: Method, key: &Key) -> Result<(Lock, JobHandle)> {
        let open = || {
            let job = self.jobs.open_for(&self.name, kind, method, key);
            job.note(format!("database {}", self.name));
            job
        };
        match self.source.lock().await {
            Ok(lock) => Ok((lock, open())),
            Err(error) if error.kind() == &Kind::Busy => Err(error),
            Err(error) => Err(fail(open(), error).await),
        }
    }
}

/// The place of a database in the bucket of our options: a folder of its own.
fn bucket(config: &DatabaseConfig, storage: &StorageConfig, folder: &Path) -> Result<S3Storage> {
    let none = || {
        let message = "storage = \"s3\" needs the bucket of [s3]";
        Error::new(Kind::Invalid(Vec::new()), message)
    };
    let bucket = storage.bucket.as_ref().ok_or_else(none)?;
    let mut options = S3Options::configured(bucket, &storage.extras);
    let below = format!("{}/{FOLDER}/{}", options.extras.prefix, config.name);
    options.extras.prefix = below.trim_start_matches('/').to_owned();
    options.ledger = Some(folder.join(UPLOADS));
    let bucket = S3Storage::new(&options)?;
    Ok(if config.bosbase.is_some() { bucket } else { bucket.for_dumps() })
}

/// Closes the record of a job that failed, with what the program or the server said.
async fn fail(job: JobHandle, error: Error) -> Error {
    note_cause(&job, &error);
    let result: Result<()> = Err(error);
    job.finish(&result).await;
    match result {
        Err(error) => error,
        Ok(()) => Error::internal("a failure that is none"),
    }
}

/// What the program or the server said, for the record: it is free of passwords.
fn note_cause(job: &JobHandle, error: &Error) {
    if let Some(cause) = std::error::Error::source(error) {
        job.note(cause.to_string());
    }
}

/// Locks the file of a folder, for as long as it is open.
fn lock_file(folder: &Path) -> Result<File> {
    fsx::create_dir_durably(folder)?;
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Kind::Busy,
            "Try again later - another backup/restore process has already been started.",
        )),
        Err(TryLockError::Error(error)) => {
            // Network shares without locks: the lock in the database is still there.
            tracing::warn!(%error, path = %path.display(), "this file system cannot lock");
            Ok(file)
        }
    }
}
