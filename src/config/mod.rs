//! Options as typed (flags, environment, file) become one checked [`Config`] with absolute
//! paths. Flags win over `POCKETVAULT_*` variables, those over the file, that over defaults.

mod archive;
pub mod blnk;
mod care;
pub mod databases;
pub mod destination;
mod metrics;
pub mod notify;
pub mod provider;
mod restore;
pub mod scalingo;
pub mod schedule;
pub mod storage;
pub mod supervise;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use serde::Deserialize;

use crate::config::archive::ArchiveTable;
use crate::config::blnk::{Blnk, BlnkTable};
use crate::config::databases::{DatabaseConfig, DatabaseTable};
use crate::config::destination::{DestinationFile, SpoolFile};
use crate::config::metrics::{MetricsTable, key_in};
use crate::config::notify::NotifyConfig;
use crate::config::scalingo::{ScalingoConfig, ScalingoTable};
use crate::config::schedule::{ScheduleTable, Schedules};
use crate::config::storage::{Secret, StorageConfig, StorageFile, StorageOptions};
use crate::config::supervise::{Supervise, SuperviseFile, SuperviseOptions, agree, request_wait};
use crate::data_dir::{DataDir, STATE};
use crate::error::{Context, Error, Kind, Result};

pub use archive::{Archive, ArchiveOptions, IoClass};
pub use care::{Care, Policy, Proof, Space, Status};
pub use restore::{Commands, RestoreConfig, duration};

/// Where the server listens unless told otherwise.
const HTTP_DEFAULT: &str = "127.0.0.1:8090";
/// The folder unless told otherwise.
const DIR_DEFAULT: &str = "pb_data";
/// Who may read answers unless told otherwise, as in PocketBase.
const ORIGINS_DEFAULT: &str = "*";
/// The file that is read when it exists and no other is named.
pub const FILE_DEFAULT: &str = "pocketvault.toml";
/// How long a create may keep its client waiting unless told otherwise, in seconds.
const CREATE_WAIT_S_DEFAULT: u64 = 60;

/// Options of every command that works on a folder.
#[derive(Debug, Clone, Default, Args)]
pub struct FolderOptions {
    /// The pb_data folder [default: pb_data]
    #[arg(long, value_name = "DIR", env = "POCKETVAULT_DIR")]
    pub dir: Option<PathBuf>,
    /// Where our own state lies [default: DIR/.pocketvault]
    #[arg(long, value_name = "DIR", env = "POCKETVAULT_STATE")]
    pub state: Option<PathBuf>,
    /// Name of the environment variable that holds the key of encrypted settings
    #[arg(
        long = "encryptionEnv",
        alias = "encryption-env",
        value_name = "NAME",
        env = "POCKETVAULT_ENCRYPTION_ENV"
    )]
    pub encryption_env: Option<String>,
    /// Configuration file [default: pocketvault.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "POCKETVAULT_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Options of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeOptions {
    /// Options of the folder.
    #[command(flatten)]
    pub folder: FolderOptions,
    /// Options of where backups are kept.
    #[command(flatten)]
    pub storage: StorageOptions,
    /// Address to listen on; port 0 takes a free one and prints it [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR", env = "POCKETVAULT_HTTP")]
    pub http: Option<String>,
    /// Origins whose pages may read answers, parted by commas [default: *]
    #[arg(long, value_name = "ORIGINS", env = "POCKETVAULT_ORIGINS", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// Longest wait of POST /api/backups before it answers and goes on alone, in seconds
    #[arg(long, value_name = "SECONDS", env = "POCKETVAULT_CREATE_WAIT")]
    pub create_wait: Option<u64>,
    /// Only read the folder, which a running PocketBase owns; without it, that is found out
    #[arg(long, env = "POCKETVAULT_BESIDE", value_parser = FalseyValueParser::new())]
    pub beside: bool,
    /// Do not slow down repeated wrong passwords
    #[arg(
        long,
        env = "POCKETVAULT_NO_LOGIN_THROTTLE",
        value_parser = FalseyValueParser::new()
    )]
    pub no_login_throttle: bool,
    /// How archives are written.
    #[command(flatten, next_help_heading = "Archives")]
    pub archive: ArchiveOptions,
    /// Options about the program behind us.
    #[command(flatten, next_help_heading = "A program behind us")]
    pub supervise: SuperviseOptions,
}

/// The file's form of the same options.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileOptions {
    dir: Option<PathBuf>,
    state: Option<PathBuf>,
    encryption_env: Option<String>,
    http: Option<String>,
    origins: Option<Vec<String>>,
    create_wait: Option<u64>,
    login_throttle: Option<bool>,
    beside: Option<bool>,
    archive: ArchiveTable,
    blnk: Option<BlnkTable>,
    database: Vec<DatabaseTable>,
    scalingo: Option<ScalingoTable>,
    schedule: Vec<ScheduleTable>,
    supervise: SuperviseFile,
    proof: care::ProofTable,
    retention: care::RetentionTable,
    status: care::StatusTable,
    space: care::SpaceTable,
    restore: restore::RestoreOptions,
    s3: StorageFile,
    notify: Vec<notify::ChannelTable>,
    alarms: notify::AlarmsTable,
    destination: Vec<DestinationFile>,
    spool: SpoolFile,
    metrics: MetricsTable,
}

/// The options, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that is backed up and restored.
    pub data: DataDir,
    /// The variable that holds the key of encrypted settings, and the key; empty for none.
    pub encryption: (String, Secret),
    /// Where backups are kept unless PocketBase's settings name a bucket.
    pub storage: StorageConfig,
    /// The address to listen on.
    pub http: SocketAddr,
    /// Origins whose pages may read answers; `*` for all.
    pub origins: Vec<String>,
    /// Longest wait of a create.
    pub create_wait: Duration,
    /// Whether the folder is only read, because another process owns it.
    pub beside: bool,
    /// Whether repeated wrong passwords are slowed down.
    pub login_throttle: bool,
    /// How archives are written.
    pub archive: Archive,
    /// Blnk's own routes, if they are served.
    pub blnk: Option<Blnk>,
    /// PostgreSQL databases that are backed up as well, Blnk's among them.
    pub databases: Vec<DatabaseConfig>,
    /// The databases as Scalingo's clients see them, if they may.
    pub scalingo: Option<ScalingoConfig>,
    /// The program that owns the folder and that we run behind us.
    pub supervise: Option<Supervise>,
    /// How long a request waits while nobody can answer it: during a restart, or while the
    /// program behind us is down.
    pub request_wait: Duration,
    /// What a restore does besides restoring.
    pub restore: RestoreConfig,
    /// How backups look after themselves.
    pub care: Care,
    /// Who is told of what.
    pub notify: NotifyConfig,
    /// What runs by the clock.
    pub schedules: Schedules,
    /// What opens the metrics besides a superuser's token.
    pub metrics_token: Option<Secret>,
}

impl Config {
    /// Resolves the options of `serve`.
    ///
    /// # Errors
    /// [`Kind::Invalid`]-like texts for addresses, files and variables that cannot be used.
    pub fn serve(options: &ServeOptions) -> Result<Self> {
        let file = FileOptions::read(options.folder.config.as_deref())?;
        Self::resolve(options, file)
    }

    fn resolve(options: &ServeOptions, file: FileOptions) -> Result<Self> {
        let mut folder = options.folder.clone();
        let mut supervise = Supervise::resolve(&options.supervise, &file.supervise)?;
        if let Some(program) = &supervise {
            let paths = |path: Option<PathBuf>| path.map(|path| absolute(&path)).transpose();
            let ours = paths(folder.dir.take().or(file.dir.clone()))?;
            folder.dir = agree("dir", ours, paths(program.dir.clone())?)?;
            let ours = folder.encryption_env.take().or(file.encryption_env.clone());
            folder.encryption_env = agree("encryptionEnv", ours, program.encryption_env.clone())?;
        }
        let data = data_dir(&folder, file.dir, file.state)?;
        let http = options.http.clone().or(file.http).unwrap_or_else(|| HTTP_DEFAULT.to_owned());
        let variable = folder.encryption_env.clone().or(file.encryption_env).unwrap_or_default();
        let key = key_in(&variable);
        let origins = options.origins.clone().or(file.origins);
        if let Some(program) = &mut supervise {
            if !variable.is_empty() {
                program.give("encryptionEnv", &variable);
            }
            if let Some(origins) = &origins {
                program.give("origins", &origins.join(","));
            }
        }
        let beside = options.beside || file.beside.unwrap_or(false);
        if beside && supervise.is_some() {
            return Err(Error::new(
                Kind::Invalid(Vec::new()),
                "--beside is for a PocketBase that somebody else runs, and a program was given",
            ));
        }
        let http = address(&http)?;
        if supervise.as_ref().is_some_and(|program| program.http == Some(http)) {
            let message = format!("the program's --http is {http}, which is pocketvault's own");
            return Err(Error::new(Kind::Invalid(Vec::new()), message)
                .hint("leave the program's --http out: it gets a private port"));
        }
        let (databases, blnk) = databases::all(file.database, file.blnk)?;
        let names = databases.iter().map(|one| one.name.clone()).collect();
        let named = options.folder.config.as_deref();
        let care = Care::resolve(file.proof, file.retention, file.status, file.space)?;
        let scalingo = scalingo::resolve(file.scalingo, &databases)?;
        let wait_s = options.create_wait.or(file.create_wait).unwrap_or(CREATE_WAIT_S_DEFAULT);
        let others = (file.destination, file.spool);
        Ok(Self {
            storage: StorageConfig::of(&options.storage, file.s3, others, data.root())?,
            data,
            encryption: (variable, key),
            http,
            origins: origins.unwrap_or_else(|| vec![ORIGINS_DEFAULT.to_owned()]),
            create_wait: Duration::from_secs(wait_s),
            beside,
            login_throttle: !options.no_login_throttle && file.login_throttle.unwrap_or(true),
            archive: Archive::resolve(&options.archive, &file.archive)?,
            databases,
            blnk,
            schedules: Schedules::resolve(file.schedule, named, names)?,
            scalingo,
            request_wait: request_wait(&options.supervise, &file.supervise),
            supervise,
            restore: file.restore.resolve()?,
            notify: notify::resolve(file.notify, &file.alarms, care.status.stale_after)?,
            care,
            metrics_token: file.metrics.token(),
        })
    }
}

/// What a command needs that works on the storage of a folder.
#[derive(Debug, Clone)]
pub struct FolderStorage {
    /// The folder.
    pub data: DataDir,
    /// As in [`Config`].
    pub encryption: (String, Secret),
    /// As in [`Config`].
    pub storage: StorageConfig,
    /// As in [`Config`].
    pub care: Care,
}

/// Resolves the storage of a folder for a command without a server.
///
/// # Errors
/// As [`Config::serve`].
pub fn folder_storage(folder: &FolderOptions, options: &StorageOptions) -> Result<FolderStorage> {
    let file = FileOptions::read(folder.config.as_deref())?;
    let variable = folder.encryption_env.clone().or(file.encryption_env).unwrap_or_default();
    let key = key_in(&variable);
    let data = data_dir(folder, file.dir, file.state)?;
    let others = (file.destination, file.spool);
    let storage = StorageConfig::of(options, file.s3, others, data.root())?;
    let care = Care::resolve(file.proof, file.retention, file.status, file.space)?;
    Ok(FolderStorage { data, encryption: (variable, key), storage, care })
}

/// Resolves the folder for a command without a server.
///
/// # Errors
/// As [`Config::serve`].
pub fn folder(options: &FolderOptions) -> Result<DataDir> {
    let file = FileOptions::read(options.config.as_deref())?;
    data_dir(options, file.dir, file.state)
}

/// The folder and its state. A state elsewhere is really elsewhere: inside `pb_data` it would
/// be archived and replaced with it, and above it two folders could share it.
fn data_dir(
    options: &FolderOptions,
    dir: Option<PathBuf>,
    state: Option<PathBuf>,
) -> Result<DataDir> {
    let root = absolute(&options.dir.clone().or(dir).unwrap_or_else(|| DIR_DEFAULT.into()))?;
    let Some(state) = options.state.clone().or(state) else { return Ok(DataDir::new(root, None)) };
    let state = absolute(&state)?;
    let (real_root, real_state) = (resolved(&root), resolved(&state));
    if real_state == resolved(&root.join(STATE)) {
        return Ok(DataDir::new(root, None));
    }
    if real_state.starts_with(&real_root) || real_root.starts_with(&real_state) {
        let (state, root) = (state.display(), root.display());
        let message = format!("the state folder {state} is, holds or lies in the data {root}");
        return Err(Error::new(Kind::Invalid(Vec::new()), message)
            .hint("give --state a folder outside of pb_data, or leave it out"));
    }
    Ok(DataDir::new(root, Some(state)))
}

/// Without links and `..`, as far as the path exists.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => resolved(parent).join(name),
        (Some(parent), Some(Component::ParentDir)) => {
            let above = resolved(parent);
            above.parent().map(Path::to_owned).unwrap_or(above)
        }
        _ => path.to_owned(),
    }
}

impl FileOptions {
    /// Reads the named file, or the default one if it is there.
    fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(FILE_DEFAULT));
        if named.is_none() && !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        toml::from_str(&text).map_err(|error| {
            let message = format!("the configuration {} is not usable", path.display());
            Error::new(Kind::Invalid(Vec::new()), message).because(error)
        })
    }
}

/// `host:port`; a host name is looked up, a bare `:port` means every address.
fn address(text: &str) -> Result<SocketAddr> {
    use std::net::ToSocketAddrs;
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        Error::new(Kind::Invalid(Vec::new()), format!("{text:?} is not an address to listen on"))
            .hint("give --http as HOST:PORT, for example 127.0.0.1:8090")
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))
}
