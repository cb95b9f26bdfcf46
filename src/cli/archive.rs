//! Where the archive of a command comes from: a file, a backup's key, or an address on S3.

use std::env;
use std::path::{Path, PathBuf};

use crate::app::encryption_of;
use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::http::services::storage_of;
use crate::settings::store::Store;
use crate::storage::{Credentials, LocalStorage, S3Options, S3Storage, Storage};
use crate::vault::Archive;

/// How an address on S3 begins.
const S3: &str = "s3://";

/// An archive as a file on the local disk.
#[derive(Debug)]
pub(super) struct Found {
    /// What it is called.
    pub(super) key: Key,
    file: File,
}

#[derive(Debug)]
enum File {
    Named(PathBuf),
    Fetched(Archive),
}

impl Found {
    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        match &self.file {
            File::Named(path) => path,
            File::Fetched(archive) => archive.path(),
        }
    }

    /// Finds `name`: a file; `s3://BUCKET/KEY`; or the key of a backup, local or wherever the
    /// settings of the configured folder keep them. What is remote is fetched into the state
    /// folder of `target`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and as [`Archive::of`].
    pub(super) async fn find(name: &str, config: &Config, target: &DataDir) -> Result<Self> {
        let path = Path::new(name);
        if path.is_file() {
            let last = path.file_name().unwrap_or_default().to_string_lossy();
            let key = Key::existing(&last)?;
            return Ok(Self { key, file: File::Named(path.to_owned()) });
        }
        if let Some(address) = name.strip_prefix(S3) {
            let (bucket, key) = address.split_once('/').unwrap_or((address, ""));
            let storage = S3Storage::new(&s3_options(bucket, config))?;
            return Self::fetch(&storage, &Key::existing(key)?, target).await;
        }
        let missing = || {
            let message = format!("there is no file and no backup {name:?}");
            Error::new(Kind::NotFound, message)
                .hint("name a file, a backup's key with its folder's --dir, or s3://BUCKET/KEY")
        };
        let key = Key::existing(name).map_err(|_| missing())?;
        let local = LocalStorage::new(config.data.backups());
        if local.head(&key).await.is_ok() {
            return Self::fetch(&local, &key, target).await;
        }
        if !config.data.data_db().is_file() {
            let bucket = config.storage.bucket.as_ref().ok_or_else(missing)?;
            let options = S3Options::configured(bucket, &config.storage.extras);
            return Self::fetch(&S3Storage::new(&options)?, &key, target).await;
        }
        let database = Database::open(config.data.root(), Access::ReadOnly)?;
        let settings = Store::new(database.clone(), encryption_of(config), Clock::system());
        let current = settings.current().await;
        database.close().await;
        let storage = storage_of(current?.as_ref(), &config.storage, &config.data);
        Self::fetch(storage.as_ref(), &key, target).await.map_err(|error| match error.kind() {
            Kind::NotFound => missing(),
            _ => error,
        })
    }

    async fn fetch(storage: &dyn Storage, key: &Key, target: &DataDir) -> Result<Self> {
        let backup: Backup = storage.head(key).await?;
        let archive = Archive::of(storage, &backup, target, &Control::default()).await?;
        Ok(Self { key: key.clone(), file: File::Fetched(archive) })
    }
}

/// A bucket that is named on the command line. Who may open it, and where it is, comes from the
/// environment, by the names that every S3 tool knows.
fn s3_options(bucket: &str, config: &Config) -> S3Options {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
    S3Options {
        bucket: bucket.to_owned(),
        region: variable("AWS_REGION").unwrap_or_default(),
        force_path_style: endpoint.is_some(),
        endpoint: endpoint.unwrap_or_default(),
        credentials: Credentials::Environment,
        extras: config.storage.extras.clone(),
        ledger: None,
    }
}
