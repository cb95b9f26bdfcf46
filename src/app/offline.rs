//! A vault without a server, for commands that do what a server would: the folder is only read,
//! because a PocketBase may run on it, and locked as a server locks it by what changes anything.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::app::{encryption_of, open_history, write_options};
use crate::clock::Clock;
use crate::config::destination::SPOOL;
use crate::config::{Care, Config, Proof};
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::folder_lock::FolderLock;
use crate::http::services::{beside_of, destinations_of, storage_of};
use crate::restore;
use crate::settings::Settings;
use crate::settings::store::Store;
use crate::source::{self, PocketBaseFolder};
use crate::state::StateDb;
use crate::storage::LocalStorage;
use crate::vault::catalog::Catalog;
use crate::vault::{Beside, Jobs, Parts, Spool, Vault, WaitingList};

/// What to do while a server has the folder.
const ASK_IT: &str = "a pocketvault runs on this folder: ask it with --server URL";

/// A vault of this process alone. Nobody but its command proves what it makes.
#[derive(Debug)]
pub struct Offline {
    /// The vault.
    pub vault: Arc<Vault>,
    /// What the settings call the application.
    pub app_name: String,
    database: Option<Database>,
    state: StateDb,
    _lock: Option<FolderLock>,
}

impl Offline {
    /// Locks the folder and opens it, for what makes, takes in or removes backups. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::InUse`] while a server runs on the folder or a restore is not over;
    /// [`Kind::NotFound`] when there is neither a folder nor a bucket; the settings cannot be
    /// read.
    pub async fn open(config: &Config, clock: &Clock) -> Result<Self> {
        let data = &config.data;
        require_any(config)?;
        let lock = data.root().is_dir().then(|| locked(data)).transpose()?;
        restore::require_settled(data).map_err(|error| match error.kind() {
            Kind::InUse => error.hint("`pocketvault serve` ends it, or takes it back"),
            _ => error,
        })?;
        let (state, jobs, catalog) = match lock {
            Some(_) => open_history(data, clock).await?,
            None => in_memory(clock).await?,
        };
        let beside = beside_of(&config.storage, data)?;
        Self::join(config, clock, (state, jobs, catalog), beside, lock).await
    }

    /// Opens the folder to look at its backups, also beside a server. Jobs are not recorded.
    ///
    /// # Errors
    /// As [`Offline::open`], but for the lock.
    pub async fn look(config: &Config, clock: &Clock) -> Result<Self> {
        require_any(config)?;
        let data = &config.data;
        let (state, jobs, catalog) = match data.root().is_dir() {
            true => {
                let state = StateDb::open(data.state(), clock).await?;
                (state.clone(), Jobs::new(clock.clone()), Catalog::new(Some(state)))
            }
            false => in_memory(clock).await?,
        };
        // Not what a server begins with, which sweeps what another may be writing.
        let beside = Beside {
            places: destinations_of(&config.storage, data),
            spool: Some(Spool {
                storage: LocalStorage::new(data.spool()).named(SPOOL),
                folder: data.spool(),
                config: config.storage.spool.clone(),
                waiting: WaitingList::open(data.waiting())?,
            }),
        };
        Self::join(config, clock, (state, jobs, catalog), beside, None).await
    }

    async fn join(
        config: &Config,
        clock: &Clock,
        (state, jobs, catalog): (StateDb, Jobs, Catalog),
        beside: Beside,
        lock: Option<FolderLock>,
    ) -> Result<Self> {
        let data = &config.data;
        let (database, settings) = match data.data_db().exists() {
            true => {
                let database = Database::open(data.root(), Access::ReadOnly)?;
                let encryption = encryption_of(config);
                let settings = Store::new(database.clone(), encryption, clock.clone());
                (Some(database), settings.current().await?)
            }
            false => (None, Arc::new(Settings::default())),
        };
        let proof = Proof { after_backup: false, ..config.care.proof };
        let vault = Vault::new(Parts {
            source: PocketBaseFolder::new(data.clone(), source::Access::ReadOnly),
            storage: storage_of(&settings, &config.storage, data),
            beside,
            data: data.clone(),
            archive: write_options(&config.archive, data),
            restore: config.restore.clone(),
            clock: clock.clone(),
            runtime: Handle::current(),
            jobs,
            catalog,
            care: Care { proof, ..config.care.clone() },
        });
        let app_name = settings.values().meta.app_name.clone();
        Ok(Self { vault, app_name, database, state, _lock: lock })
    }

    /// Closes the databases and gives the folder free.
    pub async fn close(self) {
        self.vault.jobs().flush().await;
        self.state.close().await;
        if let Some(database) = &self.database {
            database.close().await;
        }
    }
}

/// The folder's lock.
///
/// # Errors
/// As [`FolderLock::take`], with what to do instead.
pub fn locked(data: &DataDir) -> Result<FolderLock> {
    FolderLock::take(data, true).map_err(|error| match error.kind() {
        Kind::InUse => Error::new(Kind::InUse, error.message().to_owned()).hint(ASK_IT),
        _ => error,
    })
}

/// A mistyped folder is none that was left empty.
fn require_any(config: &Config) -> Result<()> {
    let is_elsewhere = config.storage.bucket.is_some() || !config.storage.destinations.is_empty();
    if config.data.root().is_dir() || is_elsewhere {
        return Ok(());
    }
    let message = format!("{} does not exist", config.data.root().display());
    Err(Error::new(Kind::NotFound, message)
        .hint("name the pb_data folder with --dir, or a server with --server"))
}

/// For a look into a bucket, which makes no folder here.
async fn in_memory(clock: &Clock) -> Result<(StateDb, Jobs, Catalog)> {
    let state = StateDb::in_memory().await?;
    Ok((state.clone(), Jobs::new(clock.clone()), Catalog::new(Some(state))))
}
