//! PostgreSQL databases that are backed up: the tables `[[database]]` of the file.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::backup::DUMP_SUFFIX;
use crate::config::FolderOptions;
use crate::config::blnk::{Blnk, BlnkTable};
use crate::config::storage::{StorageConfig, StorageOptions};
use crate::data_dir::DataDir;
use crate::error::{Error, Kind, Result};

/// Longest name of a database in our words, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Longest prefix of generated keys, in bytes.
const PREFIX_BYTES_MAX: usize = 100;
/// How long a dump or a restore may take unless told otherwise, in seconds.
const TIMEOUT_S_DEFAULT: u64 = 6 * 3600;
/// BosBase's table of requests.
const BOSBASE_LOGS: &str = "public._logs";
/// The database from which others are renamed unless told otherwise.
const MAINTENANCE_DEFAULT: &str = "postgres";

/// One table of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseTable {
    name: String,
    #[serde(default, rename = "type")]
    kind: DatabaseKind,
    url: Option<String>,
    url_env: Option<String>,
    jobs: Option<NonZeroU32>,
    exclude_table_data: Option<Vec<String>>,
    timeout: Option<u64>,
    folder: Option<PathBuf>,
    #[serde(default)]
    storage: DatabaseStorage,
    key_prefix: Option<String>,
    maintenance_database: Option<String>,
    programs: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    encryption_env: Option<String>,
}

/// What kind of database it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A PostgreSQL database.
    #[default]
    Postgresql,
    /// A BosBase: a PostgreSQL database and a folder of files.
    Bosbase,
}

impl DatabaseKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Bosbase => "bosbase",
        }
    }

    /// How names of its backups end.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Postgresql => DUMP_SUFFIX,
            Self::Bosbase => ".zip",
        }
    }
}

/// Where the backups of a database are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseStorage {
    /// In a folder.
    #[default]
    Local,
    /// In the bucket of our options (`[s3]`), below `databases/<name>` of its prefix.
    S3,
}

/// A database that is backed up, checked. Its URL holds a secret and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Our name for it: in paths, routes and keys; `[a-z0-9_-]`, unique.
    pub name: String,
    /// What it is.
    pub kind: DatabaseKind,
    /// Where it is and how to log in.
    pub url: String,
    /// Parallel connections of a restore.
    pub jobs: NonZeroU32,
    /// Tables (in `pg_dump`'s patterns) of which only the definition is dumped.
    pub exclude_table_data: Vec<String>,
    /// How long a dump or a restore may take.
    pub timeout: Duration,
    /// Where its backups are kept.
    pub storage: DatabaseStorage,
    /// The folder for [`DatabaseStorage::Local`]; `None` is one of our state.
    pub folder: Option<PathBuf>,
    /// How generated keys begin.
    pub key_prefix: String,
    /// The database from which this one is renamed in a restore.
    pub maintenance_database: String,
    /// A folder with `pg_dump` and `pg_restore` that is looked into first.
    pub programs: Option<PathBuf>,
    /// What a BosBase has beside its database.
    pub bosbase: Option<BosbaseConfig>,
}

/// What a BosBase has beside its database.
#[derive(Clone, PartialEq, Eq)]
pub struct BosbaseConfig {
    /// Its `pb_data`, absolute.
    pub data_dir: PathBuf,
    /// The variable that holds the key of encrypted settings, and the key; empty for none.
    pub encryption: (String, String),
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseConfig({}, {})", self.name, self.kind.as_str())
    }
}

/// The databases of the file with Blnk's, and what serves Blnk's routes.
///
/// # Errors
/// As [`resolve`] and [`BlnkTable::resolve`].
pub(super) fn all(
    tables: Vec<DatabaseTable>,
    blnk: Option<BlnkTable>,
) -> Result<(Vec<DatabaseConfig>, Option<Blnk>)> {
    let mut found = resolve(tables)?;
    let variable = |name: &str| std::env::var(name).ok();
    let blnk = blnk.map(|table| table.resolve(&mut found, variable)).transpose()?;
    Ok((found, blnk))
}

/// Checks the tables.
///
/// # Errors
/// [`Kind::Invalid`] with the database's name and what is wrong.
pub(super) fn resolve(tables: Vec<DatabaseTable>) -> Result<Vec<DatabaseConfig>> {
    let mut names = BTreeSet::new();
    let mut resolved = Vec::new();
    for table in tables {
        let found = table.resolve(|variable| std::env::var(variable).ok())?;
        if !names.insert(found.name.clone()) {
            return Err(unusable(&found.name, "the name is given twice"));
        }
        resolved.push(found);
    }
    Ok(resolved)
}

impl DatabaseTable {
    fn resolve(self, variable: impl Fn(&str) -> Option<String>) -> Result<DatabaseConfig> {
        let name = self.name;
        if !is_plain(&name, NAME_BYTES_MAX) {
            return Err(unusable(&name, "the name is not made of a-z, 0-9, _ and -"));
        }
        let url = match (self.url, self.url_env) {
            (Some(url), None) => url,
            (None, Some(from)) => {
                variable(&from).filter(|url| !url.is_empty()).ok_or_else(|| {
                    unusable(&name, &format!("the variable {from} of url_env is not set"))
                })?
            }
            _ => return Err(unusable(&name, "give either url or url_env")),
        };
        let key_prefix = self.key_prefix.unwrap_or_else(|| name.clone());
        if !is_plain(&key_prefix, PREFIX_BYTES_MAX) {
            return Err(unusable(&name, "key_prefix is not made of a-z, 0-9, _ and -"));
        }
        if self.storage == DatabaseStorage::S3 && self.folder.is_some() {
            return Err(unusable(&name, "a folder is not for storage = \"s3\""));
        }
        let folder = self.folder.map(std::path::absolute).transpose();
        let data_dir = self.data_dir.map(std::path::absolute).transpose();
        let data_dir =
            data_dir.map_err(|error| unusable(&name, "no usable data_dir").because(error))?;
        let bosbase = match (self.kind, data_dir) {
            (DatabaseKind::Bosbase, Some(data_dir)) => {
                let from = self.encryption_env.unwrap_or_default();
                let key = variable(&from).unwrap_or_default();
                Some(BosbaseConfig { data_dir, encryption: (from, key) })
            }
            (DatabaseKind::Bosbase, None) => {
                return Err(unusable(&name, "type = \"bosbase\" needs data_dir, its pb_data"));
            }
            (DatabaseKind::Postgresql, None) => None,
            (DatabaseKind::Postgresql, Some(_)) => {
                return Err(unusable(&name, "data_dir is for type = \"bosbase\""));
            }
        };
        // What BosBase logs holds passwords in clear.
        let logs = || bosbase.iter().map(|_| BOSBASE_LOGS.to_owned()).collect();
        Ok(DatabaseConfig {
            kind: self.kind,
            url,
            jobs: self.jobs.unwrap_or(NonZeroU32::MIN),
            exclude_table_data: self.exclude_table_data.unwrap_or_else(logs),
            storage: self.storage,
            timeout: Duration::from_secs(self.timeout.unwrap_or(TIMEOUT_S_DEFAULT)),
            folder: folder.map_err(|error| unusable(&name, "no usable folder").because(error))?,
            key_prefix,
            maintenance_database: self
                .maintenance_database
                .unwrap_or_else(|| MAINTENANCE_DEFAULT.to_owned()),
            programs: self.programs,
            bosbase,
            name,
        })
    }
}

/// What a command without a server needs that works on databases.
#[derive(Debug, Clone)]
pub struct DatabaseFile {
    /// The folder whose state folder holds what belongs to them.
    pub data: DataDir,
    /// The databases.
    pub databases: Vec<DatabaseConfig>,
    /// The bucket of those that are kept in one.
    pub storage: StorageConfig,
}

/// The databases of the file, for a command without a server.
///
/// # Errors
/// As [`crate::config::Config::serve`].
pub fn databases(options: &FolderOptions, bucket: &StorageOptions) -> Result<DatabaseFile> {
    let file = super::FileOptions::read(options.config.as_deref())?;
    let data = super::data_dir(options, file.dir, file.state)?;
    let storage = StorageConfig::resolve(bucket, file.s3, |name| std::env::var(name).ok())?;
    let (databases, _) = all(file.database, file.blnk)?;
    Ok(DatabaseFile { data, databases, storage })
}

fn is_plain(text: &str, bytes_max: usize) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    !text.is_empty() && text.len() <= bytes_max && text.bytes().all(plain)
}

fn unusable(name: &str, what: &str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the [[database]] {name:?}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        database: Vec<DatabaseTable>,
    }

    fn parsed(text: &str) -> Result<Vec<DatabaseConfig>> {
        resolve(toml::from_str::<File>(text).expect("a file").database)
    }

    #[test]
    fn a_table_needs_little_and_can_say_much() {
        let text = "[[database]]\nname = 'ledger'\nurl = 'postgres://u:p@h/d'\n\
            [[database]]\nname = 'b'\ntype = 'postgresql'\nurl = 'postgres://u@h/d'\njobs = 4\n\
            exclude_table_data = ['public._logs']\ntimeout = 5\nfolder = '/f'\n\
            key_prefix = 'blnk_backup'\nmaintenance_database = 'admin'";
        let found = parsed(text).expect("usable");
        assert_eq!((found[0].key_prefix.as_str(), found[0].jobs.get()), ("ledger", 1));
        assert_eq!(found[0].maintenance_database, "postgres");
        assert_eq!((found[1].jobs.get(), found[1].timeout.as_secs()), (4, 5));
        assert_eq!(found[1].key_prefix, "blnk_backup");
        assert!(!format!("{found:?}").contains("u:p"), "{found:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let one = "[[database]]\nname = 'a'\n";
        for (text, word) in [
            (one.to_owned(), "url"),
            (format!("{one}url = 'x'\nurl_env = 'X'"), "either"),
            (format!("{one}url_env = 'POCKETVAULT_TEST_NOT_SET'"), "NOT_SET"),
            (format!("{one}url = 'x'\n{one}url = 'y'"), "twice"),
            (format!("{one}url = 'x'\nkey_prefix = 'A/'"), "key_prefix"),
            (format!("{one}url = 'x'\nstorage = 's3'\nfolder = '/f'"), "folder"),
            (format!("{one}url = 'x'\ntype = 'bosbase'"), "data_dir"),
            (format!("{one}url = 'x'\ndata_dir = '/d'"), "bosbase"),
            ("[[database]]\nname = '../a'\nurl = 'x'".to_owned(), "../a"),
        ] {
            let error = parsed(&text).expect_err(&text);
            assert!(error.full().contains(word), "{text}: {}", error.full());
        }
    }

    #[test]
    fn the_url_can_come_from_the_environment() {
        let text = "[[database]]\nname = 'a'\nurl_env = 'X'";
        let table = toml::from_str::<File>(text).expect("a file").database.remove(0);
        let found = table.resolve(|name| (name == "X").then(|| "postgres://u@h/d".to_owned()));
        assert_eq!(found.expect("usable").url, "postgres://u@h/d");
    }
}
