//! What requests are served with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::auth::directory::Directory;
use crate::auth::throttle::{Attempt, Throttle};
use crate::backup::Backup;
use crate::config::destination::{DestinationConfig, PlaceConfig, SPOOL};
use crate::config::storage::{S3Extras, Secret, StorageConfig};
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::front::Front;
use crate::http::cors::Origins;
use crate::http::faces::scalingo::Scalingo;
use crate::occupants;
use crate::settings::addresses::Address;
use crate::settings::held::Keeper;
use crate::settings::limits::Limiter;
use crate::settings::store::Store;
use crate::settings::{PatchError, S3, Settings};
use crate::state::StateDb;
use crate::storage::{
    Credentials, LocalStorage, S3Options, S3Storage, Storage, UnavailableStorage,
};
use crate::vault::alarms::Alarms;
use crate::vault::audit::Audit;
use crate::vault::blnk::Blnk;
use crate::vault::databases::Vaults;
use crate::vault::mailer::Mailer;
use crate::vault::rota::Rota;
use crate::vault::schedule::Scheduler;
use crate::vault::tokens::Tokens;
use crate::vault::{Beside, Place, Spool, Vault, WaitingList};

/// How old the settings may be by which a request is passed on. Each of many requests would
/// wait for a database connection otherwise.
const RECENT: Duration = Duration::from_millis(250);

/// Everything behind the routes.
#[derive(Debug)]
pub struct Services {
    /// The folder.
    pub data: DataDir,
    /// Its databases.
    pub database: Database,
    /// Our own database.
    pub state: StateDb,
    /// Jobs and backups.
    pub vault: Arc<Vault>,
    /// Databases of PostgreSQL and their backups.
    pub databases: Vaults,
    /// Blnk's routes, if they are served.
    pub blnk: Option<Arc<Blnk>>,
    /// The databases as Scalingo's clients see them, if they may.
    pub scalingo: Option<Scalingo>,
    /// Records and tokens.
    pub directory: Directory,
    /// PocketBase's settings.
    pub settings: Arc<Store>,
    /// Our own options of where backups are kept.
    pub storage: StorageConfig,
    /// The settings that storage and limits follow.
    pub followed: Mutex<Arc<Settings>>,
    /// Sends mails.
    pub mailer: Mailer,
    /// Tells others of what happens.
    pub alarms: Alarms,
    /// What runs by the clock.
    pub scheduler: Scheduler,
    /// Every schedule.
    pub rota: Rota,
    /// The rate limits that the settings may ask for.
    pub limits: Arc<Limiter>,
    /// Slows down guessing; `None` when it is switched off.
    pub throttle: Option<Throttle>,
    /// Longest wait of a create.
    pub create_wait: Duration,
    /// The origins whose pages may read answers.
    pub origins: Origins,
    /// Becomes true when the server stops: answers without an end must end then.
    pub stopping: watch::Sender<bool>,
    /// The host that we listen on, without its port.
    pub host: String,
    /// The program behind us that owns the folder, if there is one.
    pub program: Option<Behind>,
    /// Tokens of our API.
    pub tokens: Tokens,
    /// Who did what.
    pub audit: Audit,
    /// What opens the metrics besides a superuser's token.
    pub metrics_token: Option<Secret>,
    /// The backups that the metrics saw last, and when.
    pub listed: tokio::sync::Mutex<Option<(Instant, Option<Vec<Backup>>)>>,
}

/// A program behind us.
#[derive(Debug)]
pub struct Behind {
    /// The way to it.
    pub front: Front,
    /// What of its settings is ours.
    pub keeper: Arc<Keeper>,
    /// When the settings were read last for a request that is passed on.
    pub read: Mutex<Option<Instant>>,
    /// Held while the settings are changed, which takes two steps here.
    pub changing: tokio::sync::Mutex<()>,
}

impl Services {
    /// Begins a login attempt.
    ///
    /// # Errors
    /// [`Kind::Throttled`] after too many wrong ones.
    pub fn begin_login(&self, address: &Address, name: &str) -> Result<()> {
        match self.login_wait(address, name) {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Throttled, "Too many wrong passwords.")),
        }
    }

    /// Begins a login attempt; how long it has to wait after too many wrong ones.
    pub fn login_wait(&self, address: &Address, name: &str) -> Option<Duration> {
        match self.throttle.as_ref()?.begin(address.ip(), name) {
            Attempt::Allowed => None,
            Attempt::Wait(wait) => {
                let (ip, wait_s) = (address.expanded(), wait.as_secs());
                tracing::warn!(ip, wait_s, "a login must wait");
                Some(wait)
            }
        }
    }

    /// The attempt was right.
    pub fn login_succeeded(&self, address: &Address, name: &str) {
        if let Some(throttle) = &self.throttle {
            throttle.succeeded(address.ip(), name);
        }
    }

    /// Changes the settings and follows them: another storage, fresh rate limits.
    ///
    /// # Errors
    /// [`Kind::Invalid`] as [`PatchError`] says, or the settings cannot be stored.
    pub async fn change_settings(
        &self,
        change: impl FnOnce(&Settings) -> Result<Settings, PatchError> + Send,
    ) -> Result<Arc<Settings>> {
        let saved = self.settings.update(change).await?;
        self.follow(&saved);
        Ok(saved)
    }

    /// Follows settings that somebody else changed: another storage, fresh rate limits.
    pub fn follow(&self, settings: &Arc<Settings>) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&followed, settings) {
            return;
        }
        *followed = settings.clone();
        self.limits.reset();
        self.vault.use_storage(storage_of(settings, &self.storage, &self.data));
    }

    /// The settings of now, or the last that were read: a program that is just being started
    /// again may keep its database to itself.
    /// They are not older than [`RECENT`]: whoever changes them through us is followed at once.
    pub async fn recent_settings(&self) -> Arc<Settings> {
        if let Some(program) = &self.program {
            let mut read = program.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.is_some_and(|read| read.elapsed() < RECENT) {
                return self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            }
            *read = Some(Instant::now());
        }
        match self.settings.current().await {
            Ok(settings) => {
                self.follow(&settings);
                settings
            }
            Err(error) => {
                tracing::warn!(error = error.full(), "the settings are those of before");
                self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// Whether the folder can be restored into: not while another process runs on it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] with what to do.
    pub fn require_restorable(&self) -> Result<()> {
        let group = self.program.as_ref().and_then(|program| program.front.status().pid);
        let mut others = occupants::other_processes(&self.data);
        others.retain(|pid| !occupants::is_in_group(*pid, group));
        let ours = self.database.access() == Access::ReadWrite || self.program.is_some();
        // Its owner is stopped and started around the swap.
        let is_stopped_for_us = !ours && self.vault.restore().commands.is_some();
        if (ours && others.is_empty()) || is_stopped_for_us {
            return Ok(());
        }
        tracing::warn!(?others, "a restore was refused: the folder is in use");
        Err(Error::new(
            Kind::Unavailable,
            match ours {
                true => "Another process runs on this data. Stop it before you restore.",
                false => {
                    "This data belongs to another process and is only read here. Configure \
                     stop_command and start_command, or stop that process and restart \
                     pocketvault once it is stopped."
                }
            },
        ))
    }
}

/// Further destinations, and the spool. Half-written files of an earlier process in their
/// folders are removed.
///
/// # Errors
/// The list of what waits cannot be read.
pub fn beside_of(config: &StorageConfig, data: &DataDir) -> Result<Beside> {
    for destination in &config.destinations {
        if let PlaceConfig::Local(folder) = &destination.place
            && let Err(error) = LocalStorage::new(folder).sweep()
        {
            tracing::warn!(error = error.full(), "a destination cannot be swept");
        }
    }
    Ok(Beside {
        places: destinations_of(config, data),
        spool: Some(Spool {
            storage: LocalStorage::new(data.spool()).named(SPOOL),
            folder: data.spool(),
            config: config.spool.clone(),
            waiting: WaitingList::open(data.waiting())?,
        }),
    })
}

/// The further destinations.
pub fn destinations_of(config: &StorageConfig, data: &DataDir) -> Vec<Place> {
    let place = |destination: &DestinationConfig| {
        let name = &destination.name;
        let storage: Arc<dyn Storage> = match &destination.place {
            PlaceConfig::Local(folder) => Arc::new(LocalStorage::new(folder).named(name)),
            PlaceConfig::S3(bucket, extras) => {
                let mut options = S3Options::configured(bucket, extras);
                options.ledger = Some(data.uploads());
                bucket_storage(&options)
            }
        };
        let (keep, retention) = (destination.keep, destination.retention.clone());
        Place { keep, retention, ..Place::new(name, storage) }
    };
    config.destinations.iter().map(place).collect()
}

/// The storage that the settings ask for, or else our own options. One that cannot be set up
/// answers every request with the reason: the server goes on, so that somebody can change the
/// settings.
pub fn storage_of(settings: &Settings, config: &StorageConfig, data: &DataDir) -> Arc<dyn Storage> {
    let Some(mut options) = bucket_of(settings, config) else {
        return Arc::new(LocalStorage::new(data.backups()));
    };
    options.ledger = Some(data.uploads());
    bucket_storage(&options)
}

fn bucket_storage(options: &S3Options) -> Arc<dyn Storage> {
    match S3Storage::new(options) {
        Ok(storage) => Arc::new(storage),
        Err(error) => {
            tracing::error!(error = error.full(), "the S3 storage cannot be set up");
            Arc::new(UnavailableStorage::new(error.full()))
        }
    }
}

/// The bucket for backups: that of the settings where they name one, as it can be changed while
/// the server runs, else that of our own options; `None` for the local folder.
pub fn bucket_of(settings: &Settings, config: &StorageConfig) -> Option<S3Options> {
    let s3 = &settings.values().backups.s3;
    match (s3.enabled, &config.bucket) {
        (true, _) => Some(S3Options { extras: config.extras.clone(), ..s3_options(s3) }),
        (false, Some(bucket)) => Some(S3Options::configured(bucket, &config.extras)),
        (false, None) => None,
    }
}

/// PocketBase's words for a bucket in ours.
pub fn s3_options(s3: &S3) -> S3Options {
    S3Options {
        bucket: s3.bucket.clone(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        force_path_style: s3.force_path_style,
        credentials: Credentials::Keys(s3.access_key.clone(), Secret::new(s3.secret.expose())),
        extras: S3Extras::default(),
        ledger: None,
    }
}
