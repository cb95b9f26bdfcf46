//! The composition root: the only place that names the concrete parts and joins them. [`start`]
//! brings it up, [`run`] serves with it.

pub mod first;
pub mod offline;
pub mod outside;
pub mod run;
mod scalingo;
pub mod start;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::app::first::{FirstSuperuser, first_superuser};
use crate::archive::{Manners, Reuse, WriteOptions};
use crate::auth::bootstrap;
use crate::auth::collection::SUPERUSERS;
use crate::auth::directory::{Directory, Issue};
use crate::auth::keys::TokenKind;
use crate::auth::superusers::Superusers;
use crate::auth::throttle::Throttle;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::http::cors::Origins;
use crate::http::services::{Behind, Services, beside_of, storage_of};
use crate::settings::Encryption;
use crate::settings::limits::Limiter;
use crate::settings::store::Store;
use crate::source::{self, PocketBaseFolder};
use crate::state::StateDb;
use crate::storage::LocalStorage;
use crate::vault::alarms::Alarms;
use crate::vault::audit::Audit;
use crate::vault::blnk::Blnk;
use crate::vault::catalog::Catalog;
use crate::vault::databases::{Vaults, VaultsParts};
use crate::vault::mailer::Mailer;
use crate::vault::prune;
use crate::vault::rota::Rota;
use crate::vault::schedule::{Duty, Scheduler};
use crate::vault::tokens::Tokens;
use crate::vault::{Jobs, Parts, Vault};

/// How long the databases may take to close.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(15);

/// A built application, ready to serve.
#[derive(Debug)]
pub struct App {
    services: Arc<Services>,
    first: Option<FirstSuperuser>,
}

impl App {
    /// Opens the folder and joins everything. A folder without databases gets them, and a
    /// folder without a superuser gets one; beside another process nothing is changed, and the
    /// databases of a `program` behind us are only read.
    ///
    /// # Errors
    /// The folder cannot be made, opened or read; the settings need a key that is not there.
    pub async fn build(
        config: &Config,
        clock: Clock,
        runtime: Handle,
        program: Option<Behind>,
    ) -> Result<Self> {
        // One provider for every TLS client of the process; a second installation is refused.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = config.data.clone();
        let access = match config.beside || program.is_some() {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        };
        if access == Access::ReadWrite && !data.data_db().exists() {
            bootstrap::create(data.root(), &clock).await?;
            tracing::info!(folder = %data.root().display(), "created a new pb_data");
        }
        if access == Access::ReadWrite {
            bootstrap::complete(data.root()).await?;
        }
        if !config.beside {
            sweep(&data);
        }
        let database = Database::open(data.root(), access)?;
        match Self::join(config, clock, runtime, database.clone(), program).await {
            Ok(app) => Ok(app),
            Err(error) => {
                // Data that does not open may have to be moved: nobody may have it open then.
                database.close().await;
                Err(error)
            }
        }
    }

    async fn join(
        config: &Config,
        clock: Clock,
        runtime: Handle,
        database: Database,
        program: Option<Behind>,
    ) -> Result<Self> {
        let data = config.data.clone();
        let settings = settings_of(config, &database, &clock, program.as_ref());
        let current = settings.current().await?;
        let superusers = Superusers::new(database.clone(), clock.clone());
        let (state, jobs, catalog) = open_history(&data, &clock).await?;
        let (databases, blnk) = databases_of(config, &clock, &runtime, &jobs)?;
        let vault = Vault::new(Parts {
            source: PocketBaseFolder::new(data.clone(), source_access(database.access())),
            storage: storage_of(&current, &config.storage, &data),
            beside: beside_of(&config.storage, &data)?,
            data: data.clone(),
            archive: write_options(&config.archive, &data),
            restore: config.restore.clone(),
            clock: clock.clone(),
            runtime,
            jobs,
            catalog,
            care: config.care.clone(),
        });
        let directory = Directory::new(database.clone(), clock.clone());
        let mailer = Mailer::new(settings.clone(), superusers.clone());
        let alarms = alarms(config, &vault, &state, &mailer).await?;
        let limits = Arc::new(Limiter::new(clock.clone()));
        let scalingo = scalingo::face(config, &vault, &settings, &databases, &state).await?;
        let scheduler = Scheduler::new(&vault, &database, &directory, &settings, &mailer, &limits)
            .with_alarms(alarms.clone())
            .with_duty(duty(program.is_some(), database.access()));
        let rota = Rota::load(&config.schedules, &scheduler, &databases, &state).await;
        // Last: its password is shown once, and only if everything else went well.
        let first = first_superuser(&database, &superusers).await?;
        let services = Arc::new(Services {
            data,
            tokens: Tokens::new(state.clone(), clock.clone()),
            audit: Audit::new(state.clone(), clock.clone()),
            database,
            state,
            vault,
            databases,
            blnk,
            scalingo,
            directory,
            settings,
            storage: config.storage.clone(),
            followed: Mutex::new(current),
            mailer,
            alarms,
            scheduler,
            rota,
            limits,
            throttle: config.login_throttle.then(|| Throttle::new(clock)),
            create_wait: config.create_wait,
            origins: Origins::new(&config.origins),
            stopping: watch::Sender::new(false),
            host: config.http.ip().to_string(),
            program,
            metrics_token: config.metrics_token.clone(),
            listed: tokio::sync::Mutex::default(),
        });
        Ok(Self { services, first })
    }

    /// The superuser that had to be made.
    pub fn first_superuser(&self) -> Option<&FirstSuperuser> {
        self.first.as_ref()
    }

    /// A job that runs when the server is stopped is told to stop, and leaves nothing.
    async fn finish_jobs(&self) {
        self.services.vault.jobs().cancel_all();
        for _ in 0..100 {
            if !self.services.vault.jobs().any_running() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tracing::warn!("a job did not stop in time; what it leaves is swept at the next start");
    }

    /// Records how the restore ended for whose sake the process was replaced; `None` when
    /// there was none.
    pub async fn settle(&self, verdict: Option<(&str, Result<()>)>) {
        if let Some((_, Err(error))) = &verdict {
            let error = Error::new(error.kind().clone(), error.message().to_owned());
            let mailer = self.services.mailer.clone();
            // Nobody waits for a mail server while the door is closed.
            tokio::spawn(async move { mailer.report_rolled_back(&error).await });
        }
        self.services.vault.jobs().settle(verdict).await;
    }

    /// The same, for a restore that ended before this start: superusers were told.
    async fn settle_earlier(&self, verdict: Option<(String, Result<()>)>) {
        let (id, result) = verdict.unzip();
        self.services.vault.jobs().settle(id.as_deref().zip(result)).await;
    }

    /// Closes the databases; a statement that does not end is not waited for.
    pub async fn close(&self) {
        if timeout(CLOSE_TIME_MAX, self.services.state.close()).await.is_err() {
            tracing::warn!("the job history did not close in time");
        }
        if timeout(CLOSE_TIME_MAX, self.services.database.close()).await.is_err() {
            tracing::warn!("the databases did not close in time");
        }
    }

    /// Whether somebody can log in: what restored data must allow before it replaces the old.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] with what is wrong.
    pub async fn check_login(&self) -> Result<()> {
        let corrupt =
            |what: &str| Error::new(Kind::Corrupt, format!("nobody could log in: {what}"));
        let directory = &self.services.directory;
        let collection = directory.collection(SUPERUSERS).await?;
        let collection = collection
            .filter(|collection| collection.auth.is_some())
            .ok_or_else(|| corrupt("the superusers' collection is missing"))?;
        let superusers = self.services.mailer.superusers().list().await?;
        let first = superusers.first().ok_or_else(|| corrupt("there is no superuser"))?;
        let identity = directory.record(&collection, &first.id).await?;
        let identity = identity.ok_or_else(|| corrupt("a superuser cannot be read"))?;
        let token = directory.issue(&identity, Issue::Auth)?;
        match directory.identify(&token, TokenKind::Auth).await? {
            Some(_) => Ok(()),
            None => Err(corrupt("a token does not open anything")),
        }
    }
}

/// The databases of PostgreSQL, which begin to end what a crash left, and who serves Blnk's.
fn databases_of(
    config: &Config,
    clock: &Clock,
    runtime: &Handle,
    jobs: &Jobs,
) -> Result<(Vaults, Option<Arc<Blnk>>)> {
    let vaults = Vaults::new(VaultsParts {
        databases: &config.databases,
        bucket: &config.storage,
        state: config.data.state(),
        clock,
        runtime,
        jobs,
    })?;
    let state = config.data.state();
    let blnk = config.blnk.as_ref();
    let blnk = blnk.map(|blnk| Blnk::new(blnk, &vaults, state, clock, runtime)).transpose()?;
    vaults.settle();
    Ok((vaults, blnk))
}

/// Who tells others, watching from now on.
async fn alarms(
    config: &Config,
    vault: &Arc<Vault>,
    state: &StateDb,
    mailer: &Mailer,
) -> Result<Alarms> {
    let notify = config.notify.clone();
    let alarms = Alarms::new(notify, vault.clone(), state.clone(), mailer.clone())?;
    alarms.begin().await?;
    Ok(alarms)
}

/// PocketBase's settings; what of them is ours is kept where a program owns the folder.
fn settings_of(
    config: &Config,
    database: &Database,
    clock: &Clock,
    program: Option<&Behind>,
) -> Arc<Store> {
    let settings = Store::new(database.clone(), encryption_of(config), clock.clone());
    Arc::new(settings.with_keeper(program.map(|program| program.keeper.clone())))
}

/// What by the clock is ours to do.
fn duty(has_program: bool, access: Access) -> Duty {
    match (has_program, access) {
        (true, _) => Duty::Backups,
        (false, Access::ReadWrite) => Duty::All,
        (false, Access::ReadOnly) => Duty::Nothing,
    }
}

/// Our own database. Without it backups are still made: records then end with the process.
async fn open_state(data: &DataDir, clock: &Clock) -> Result<StateDb> {
    match StateDb::open(data.state(), clock).await {
        Ok(state) => Ok(state),
        Err(error) => {
            tracing::error!(error = error.full(), "the job history is kept in memory only");
            StateDb::in_memory().await
        }
    }
}

/// Our own database, and what it says of jobs and of backups. Whatever is wrong with it, the
/// data is not: a start, and the verdict on a restore, never depend on it.
async fn open_history(data: &DataDir, clock: &Clock) -> Result<(StateDb, Jobs, Catalog)> {
    let load = async |state: StateDb| {
        let catalog = open_catalog(&state, clock).await?;
        let jobs = Jobs::load(clock.clone(), state.clone()).await?;
        Ok::<_, Error>((state, jobs, catalog))
    };
    let state = open_state(data, clock).await?;
    match load(state.clone()).await {
        Ok(loaded) => Ok(loaded),
        Err(error) => {
            tracing::error!(error = error.full(), "the job history is kept in memory only");
            state.close().await;
            load(StateDb::in_memory().await?).await
        }
    }
}

/// What is known about backups. From its beginning on, a backup in a shared bucket that it does
/// not know is not ours.
async fn open_catalog(state: &StateDb, clock: &Clock) -> Result<Catalog> {
    let catalog = Catalog::new(Some(state.clone()));
    catalog.time_or(prune::BIRTH, clock.now()).await?;
    Ok(catalog)
}

/// The key of encrypted settings: what reads them.
pub fn encryption_of(config: &Config) -> Encryption {
    let (variable, key) = config.encryption.clone();
    Encryption::new(variable, key.expose().to_owned())
}

/// Removes what a crash left half done, as far as it can: what stays harms nobody, and the
/// start may be the one that proves a restore.
fn sweep(data: &DataDir) {
    let mut swept = 0;
    for folder in [data.backups(), data.spool()] {
        swept += LocalStorage::new(folder).sweep().unwrap_or_else(|error| {
            tracing::warn!(error = error.full(), "half a backup may stay in the folder");
            0
        });
    }
    for folder in [data.fetched(), data.staging(), data.drill()] {
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "cannot remove leftovers");
            }
        }
    }
    if swept > 0 {
        tracing::info!(swept, "removed what was left half done");
    }
}

fn write_options(config: &config::Archive, data: &DataDir) -> WriteOptions {
    let (nice, io, rate_limit_mb_s) = (config.nice, config.io, config.rate_limit_mb_s);
    WriteOptions {
        threads: config.threads,
        level: config.level,
        spill: Some(data.staging()),
        reuse: if config.reuse { Reuse::First } else { Reuse::Off },
        manners: Manners { nice, io, rate_limit_mb_s },
    }
}

fn source_access(access: Access) -> source::Access {
    match access {
        Access::ReadOnly => source::Access::ReadOnly,
        Access::ReadWrite => source::Access::Owned,
    }
}

#[cfg(test)]
mod tests;
