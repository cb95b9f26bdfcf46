//! What orders are about: a database, or the folder.

use std::sync::Arc;

use crate::backup::{AUTO_PREFIX, Backup, Key};
use crate::error::{Context, Result};
use crate::settings::store::Store;
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::create::Creating;
use crate::vault::databases::{CreatingDump, DatabaseVault};
use crate::vault::jobs::{JobKind, Method};
use crate::vault::overview::Spread;

/// Something that backups can be ordered of.
#[derive(Debug, Clone)]
pub enum Target {
    /// A database.
    Database(Arc<DatabaseVault>),
    /// The `pb_data` folder, and the settings that its backups are named after.
    Folder(Arc<Vault>, Arc<Store>),
}

/// A backup that may begin.
#[derive(Debug)]
pub(super) enum Making {
    Dump(Box<CreatingDump>),
    Archive(Box<Creating>),
}

impl Target {
    /// The name in our rows.
    pub fn name(&self) -> &str {
        match self {
            Self::Database(vault) => vault.name(),
            Self::Folder(..) => "",
        }
    }

    /// A backup, and where it is: the nearest place that has it.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`], or no place can be asked.
    pub async fn locate(&self, key: &Key) -> Result<(Arc<dyn Storage>, Backup)> {
        match self {
            Self::Database(vault) => {
                let storage = vault.storage().clone();
                let backup = storage.head(key).await?;
                Ok((storage, backup))
            }
            Self::Folder(vault, _) => {
                let (place, backup) = vault.nearest(key).await?;
                Ok((place.storage, backup))
            }
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Backup>> {
        match self {
            Self::Database(vault) => vault.list().await,
            Self::Folder(vault, _) => {
                let backup = |spread: Spread| Backup {
                    key: spread.known.key,
                    size_bytes: spread.known.size_bytes,
                    modified: spread.known.made,
                };
                Ok(vault.overview().await?.into_iter().map(backup).collect())
            }
        }
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<()> {
        match self {
            Self::Database(vault) => vault.delete(key).await,
            Self::Folder(vault, _) => vault.delete(key).await,
        }
    }

    /// Who asked for a backup that was not ordered here.
    pub(super) fn method_of(&self, key: &Key) -> Method {
        let jobs = match self {
            Self::Database(vault) => vault.jobs(),
            Self::Folder(vault, _) => vault.jobs(),
        };
        let made = |job: &crate::vault::Job| job.kind == JobKind::Create && job.key == *key;
        match jobs.list().into_iter().find(made) {
            Some(job) => job.method,
            None if key.as_str().starts_with(AUTO_PREFIX) => Method::Scheduled,
            None => Method::Manual,
        }
    }

    pub(super) async fn begin(&self, method: Method) -> Result<Making> {
        match self {
            Self::Database(vault) => {
                let creating = vault.begin_create(None, method).await?;
                Ok(Making::Dump(Box::new(creating)))
            }
            Self::Folder(vault, settings) => {
                let settings = settings.current().await?;
                let app_name = &settings.values().meta.app_name;
                let creating = vault.begin_create(None, app_name, method).await?;
                Ok(Making::Archive(Box::new(creating)))
            }
        }
    }
}

impl Making {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Dump(creating) => creating.key(),
            Self::Archive(creating) => creating.key(),
        }
    }

    /// Makes it; how that ended.
    pub(super) async fn make(self) -> Result<()> {
        const STOPPED: &str = "the job's task stopped";
        match self {
            Self::Dump(creating) => creating.spawn().await.context(STOPPED)?.map(drop),
            Self::Archive(creating) => creating.spawn().await.context(STOPPED)?.map(drop),
        }
    }
}
