//! `pocketvault backup` and `pocketvault delete`

use clap::Args;
use reqwest::Method as Verb;
use serde_json::{Value, json};

use crate::app::offline::Offline;
use crate::backup::{Backup, Key};
use crate::cli::list::{rows, text};
use crate::cli::output::{Output, confirm, size};
use crate::cli::remote::{Client, ServerOptions, segment};
use crate::cli::{interruptible, offline_config, on_runtime};
use crate::clock::Clock;
use crate::config::storage::StorageOptions;
use crate::config::{ArchiveOptions, Config, FolderOptions, ServeOptions};
use crate::error::{Error, Kind, Result};
use crate::http::faces::vault::listed_json;
use crate::vault::Method;
use crate::vault::catalog::ProofKind;

/// What to make.
#[derive(Debug, Args)]
pub(super) struct BackupOptions {
    /// Its name: a-z 0-9 _ -, ending with .zip [default: generated]
    key: Option<String>,
    /// A few words about why it is made
    #[arg(long, default_value = "")]
    label: String,
    /// Do not wait for its end, only say which job makes it
    #[arg(long, requires = "server")]
    detach: bool,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten, next_help_heading = "Archives")]
    archive: ArchiveOptions,
}

/// What to delete.
#[derive(Debug, Args)]
pub(super) struct DeleteOptions {
    /// Keys of backups
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Runs `backup`.
pub(super) fn run(options: &BackupOptions, output: Output) -> Result<()> {
    on_runtime(async {
        let chosen = options.key.as_deref().map(Key::named).transpose()?;
        let backup = match options.server.connect().await? {
            Some(server) => {
                let mut wish = json!({"label": options.label});
                if let Some(key) = &chosen {
                    wish["name"] = json!(key.as_str());
                }
                let id = server.begin("api/vault/backups", Some(&wish)).await?;
                if options.detach {
                    return output.tell(&json!({"job": id}), format!("job {id} makes it"));
                }
                let job = server.finish(id, &output.bar("backup")).await?;
                find(&server, text(&job, "key")).await?
            }
            None => offline(options, chosen, output).await?,
        };
        let key = text(&backup, "key");
        let bytes = size(backup["size"].as_u64().unwrap_or_default());
        let lack = match backup["complete"] == false {
            true => ", INCOMPLETE: some files were not there or could not be read",
            false => "",
        };
        output.tell(&backup, format!("made {key}, {bytes}{lack}"))
    })
}

/// One backup as the server knows it.
pub(super) async fn find(server: &Client, key: &str) -> Result<Value> {
    let found = rows(server.get("api/vault/backups").await?);
    let found = found.into_iter().find(|one| text(one, "key") == key);
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no backup {key}")))
}

async fn offline(options: &BackupOptions, chosen: Option<Key>, output: Output) -> Result<Value> {
    let config = Config::serve(&ServeOptions {
        folder: options.folder.clone(),
        storage: options.storage.clone(),
        archive: options.archive.clone(),
        ..ServeOptions::default()
    })?;
    if !config.data.data_db().is_file() {
        let message = format!("{} has no data.db", config.data.root().display());
        return Err(Error::new(Kind::NotFound, message)
            .hint("name the pb_data folder with --dir, or a server with --server"));
    }
    let open = Offline::open(&config, &Clock::system()).await?;
    let result = make(&open, chosen, options, config.care.proof.after_backup, output).await;
    let result = match result {
        Ok(backup) => known(&open, &backup.key).await,
        Err(error) => Err(error),
    };
    open.close().await;
    result
}

/// One backup as the API lists it.
pub(super) async fn known(open: &Offline, key: &Key) -> Result<Value> {
    let found = open.vault.overview().await?.into_iter().find(|one| one.known.key == *key);
    let missing = || Error::new(Kind::NotFound, format!("there is no backup {key}"));
    found.map(listed_json).ok_or_else(missing)
}

async fn make(
    open: &Offline,
    chosen: Option<Key>,
    options: &BackupOptions,
    prove: bool,
    output: Output,
) -> Result<Backup> {
    let vault = &open.vault;
    let creating = vault.begin_create(chosen, &open.app_name, Method::Manual).await?;
    let creating = creating.labelled(options.label.clone());
    let job = creating.job();
    let backup = interruptible(vault.jobs(), job, creating.spawn(), &output.bar("backup")).await?;
    if prove {
        let proving = vault.begin_proof(&backup.key, ProofKind::Read, Method::Manual).await?;
        let job = proving.job();
        interruptible(vault.jobs(), job, proving.spawn(), &output.bar("verify")).await?;
    }
    Ok(backup)
}

/// Runs `delete`.
pub(super) fn delete(options: &DeleteOptions, output: Output) -> Result<()> {
    on_runtime(async {
        let keys: Vec<Key> =
            options.keys.iter().map(|key| Key::existing(key)).collect::<Result<_>>()?;
        let named = options.keys.join(", ");
        confirm(options.yes, &format!("Delete {named} for ever?"))?;
        match options.server.connect().await? {
            Some(server) => {
                for key in &keys {
                    // The route's own answer for a missing one is PocketBase's 400.
                    find(&server, key.as_str()).await?;
                    let path = format!("api/backups/{}", segment(key.as_str()));
                    server.call(Verb::DELETE, &path, None).await?;
                }
            }
            None => delete_offline(options, &keys).await?,
        }
        output.tell(&json!({"deleted": options.keys}), format!("deleted {named}"))
    })
}

async fn delete_offline(options: &DeleteOptions, keys: &[Key]) -> Result<()> {
    let config = offline_config(&options.folder, &options.storage)?;
    let open = Offline::open(&config, &Clock::system()).await?;
    let mut deleted = Ok(());
    for key in keys {
        deleted = open.vault.delete(key).await;
        if deleted.is_err() {
            break;
        }
    }
    open.close().await;
    deleted
}
