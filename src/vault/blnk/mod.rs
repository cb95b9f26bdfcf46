//! What Blnk's two routes do: a dump into a folder, or through it into a bucket, and who may
//! ask for it.

mod both;
mod keys;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::backup::Key;
use crate::clock::Clock;
use crate::config::blnk as config;
use crate::error::{Context, Error, Kind, Result};
use crate::storage::{S3Options, S3Storage, Storage};
use crate::vault::Method;
use crate::vault::databases::{CreatingDump, DatabaseVault, Vaults};

use both::Both;

pub use keys::Standing;

/// Names are those of a second: the next one is waited for.
const MILLIS_OF_SECOND: u32 = 1000;
/// Where uploads on their way to the bucket are remembered, in our state folder.
const UPLOADS: &str = "blnk_uploads";
/// How long a call waits while something else is done with the database.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(600);
/// How often it looks whether it may begin.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So often a name may be taken before the call gives up.
const NAMES_MAX: u32 = 60;

/// What serves Blnk's routes.
#[derive(Debug)]
pub struct Blnk {
    config: config::Blnk,
    vault: Option<Arc<DatabaseVault>>,
    bucket: Option<S3Storage>,
    clock: Clock,
    runtime: Handle,
    /// Calls begin one after the other.
    turn: Mutex<()>,
}

/// Which of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The folder.
    Disk,
    /// The bucket, through the folder.
    Bucket,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name, in the folder and at the root of the bucket.
    pub key: Key,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Whether it lies in the folder.
    pub on_disk: bool,
    /// The number of its job.
    pub job: u64,
}

/// Why there is no backup.
#[derive(Debug)]
pub enum Failure {
    /// The configuration lacks something: what, by Blnk's names.
    Missing(Vec<String>),
    /// The configuration names something that cannot be used.
    Unusable(String),
    /// It was tried.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Blnk {
    /// Puts it together; nothing is connected yet.
    ///
    /// # Errors
    /// The options of the bucket make no client.
    pub fn new(
        config: &config::Blnk,
        vaults: &Vaults,
        state: &Path,
        clock: &Clock,
        runtime: &Handle,
    ) -> Result<Arc<Self>> {
        let bucket = config.s3.bucket.as_ref().map(|bucket| {
            let mut options = S3Options::configured(bucket, &config.s3.extras);
            options.ledger = Some(state.join(UPLOADS));
            S3Storage::new(&options).map(S3Storage::for_dumps)
        });
        Ok(Arc::new(Self {
            vault: config.database.as_deref().and_then(|name| vaults.find(name)).cloned(),
            bucket: bucket.transpose().context("the bucket of [blnk] cannot be used")?,
            config: config.clone(),
            clock: clock.clone(),
            runtime: runtime.clone(),
            turn: Mutex::default(),
        }))
    }

    /// Whether a key is asked for.
    pub fn is_secure(&self) -> bool {
        self.config.secure
    }

    /// Whether it is the key that may do everything.
    pub fn is_master(&self, key: &str) -> bool {
        let master = self.config.secret_key.as_ref();
        master.is_some_and(|master| keys::same(master.expose(), key))
    }

    /// What one of the keys is worth that Blnk keeps in its database.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn standing(&self, key: &str) -> Result<Standing> {
        match &self.vault {
            Some(vault) => keys::look_up(vault.source(), key).await,
            None => Ok(Standing::Unknown),
        }
    }

    /// Makes a backup and waits for its end. It goes on when nobody waits any more.
    ///
    /// # Errors
    /// Why there is none; nothing is left of it then.
    pub async fn back_up(self: &Arc<Self>, place: Place) -> Result<Made, Failure> {
        let (vault, storage) = self.ground(place)?;
        let this = self.clone();
        let task = self.runtime.spawn(async move {
            let creating = this.begin(&vault, storage).await?;
            let job = creating.job();
            let (backup, proof) = creating.spawn().await.context("the job's task stopped")??;
            Ok::<_, Error>(Made {
                key: backup.key,
                size_bytes: proof.bytes,
                sha256: proof.sha256,
                on_disk: place == Place::Disk || !this.config.delete_local,
                job,
            })
        });
        Ok(task.await.context("the call's task stopped")??)
    }

    /// What a backup needs, or what of it is not configured.
    fn ground(&self, place: Place) -> Result<(Arc<DatabaseVault>, Arc<dyn Storage>), Failure> {
        let config = &self.config;
        let mut missing = Vec::new();
        if self.vault.is_none() {
            missing.push("data_source.dns (BLNK_DATA_SOURCE_DNS)".to_owned());
        }
        match place {
            Place::Disk if config.backup_dir.is_none() => {
                missing.push("backup_dir (BLNK_BACKUP_DIR)".to_owned());
            }
            Place::Disk => {}
            Place::Bucket => missing.extend(config.s3_missing.iter().cloned()),
        }
        let (Some(vault), true) = (&self.vault, missing.is_empty()) else {
            return Err(Failure::Missing(missing));
        };
        if config.backup_dir.as_ref().is_some_and(|folder| folder.exists() && !folder.is_dir()) {
            return Err(Failure::Unusable("backup_dir is not a folder".to_owned()));
        }
        let local = vault.storage().clone();
        let storage: Arc<dyn Storage> = match (place, &self.bucket) {
            (Place::Disk, _) => local,
            (Place::Bucket, Some(bucket)) => {
                Arc::new(Both::new(local, bucket.clone(), !config.delete_local))
            }
            (Place::Bucket, None) => {
                return Err(Failure::Missing(config.s3_missing.clone()));
            }
        };
        Ok((vault.clone(), storage))
    }

    /// Begins when nothing else is done with the database, under the name of a second that no
    /// other backup has.
    async fn begin(
        &self,
        vault: &Arc<DatabaseVault>,
        storage: Arc<dyn Storage>,
    ) -> Result<CreatingDump> {
        let _turn = self.turn.lock().await;
        if let Err(error) = storage.sweep_uploads().await {
            tracing::warn!(error = error.full(), "cannot look for broken-off uploads");
        }
        let (end, mut taken) = (Instant::now() + BUSY_WAIT_MAX, 0);
        loop {
            let now = self.clock.now();
            let key = Key::generate_dump(vault.key_prefix(), now);
            let begun = vault.begin_create_in(storage.clone(), Some(key), Method::Api).await;
            match begun {
                Err(error) if error.kind() == &Kind::Busy && Instant::now() < end => {
                    sleep(LOOK_EVERY).await;
                }
                Err(error) if error.kind() == &Kind::Exists && taken < NAMES_MAX => {
                    taken += 1;
                    let millis = MILLIS_OF_SECOND - now.timestamp_subsec_millis().min(999);
                    sleep(Duration::from_millis(millis.into())).await;
                }
                begun => return begun,
            }
        }
    }
}
