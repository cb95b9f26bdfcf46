//! `pocketvault db …`, with or without a server beside it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::Key;
use crate::cli::on_runtime;
use crate::cli::output::{Output, print};
use crate::clock::{Clock, pocketbase_time};
use crate::config::FolderOptions;
use crate::config::databases::{DatabaseFile, databases};
use crate::config::storage::StorageOptions;
use crate::error::{Context, Error, Kind, Result};
use crate::restore::postgres::{Plan, Wish};
use crate::source::postgres::shown_version;
use crate::vault::databases::{DatabaseVault, RestoringDump, Vaults, VaultsParts};
use crate::vault::{Jobs, Method};

/// What to do with a database of the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum DatabaseCommand {
    /// List the databases, or the backups of one
    List(Listed),
    /// Make a backup
    Backup(Made),
    /// Replace a database by a backup; the old database is kept for `undo`
    Restore(Restored),
    /// Bring the database of before the last restore back
    Undo(Named),
}

/// Where the configuration, our state and the bucket are.
#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    bucket: StorageOptions,
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    /// Name of the database in the configuration
    name: Option<String>,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the database in the configuration
    name: String,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Made {
    /// Name of the database in the configuration
    name: String,
    /// Name of the backup, ending with .dump [default: generated]
    key: Option<String>,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Restored {
    /// Name of the database in the configuration
    name: String,
    /// Name of the backup
    key: String,
    /// Restore into a new database of this name and leave the live one alone
    #[arg(long, value_name = "DATABASE")]
    into: Option<String>,
    /// Whether owners and privileges of the backup are kept [default: if its roles are there]
    #[arg(long, value_name = "BOOL")]
    owners: Option<bool>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    place: Where,
}

/// Runs the command.
pub(super) fn run(command: &DatabaseCommand, output: Output) -> Result<()> {
    let (value, said) = on_runtime(perform(command))?;
    match output.json {
        true => print(value),
        false => write!(std::io::stdout(), "{said}").context("cannot print"),
    }
}

async fn perform(command: &DatabaseCommand) -> Result<(Value, String)> {
    let place = match command {
        DatabaseCommand::List(listed) => &listed.place,
        DatabaseCommand::Backup(made) => &made.place,
        DatabaseCommand::Restore(restored) => &restored.place,
        DatabaseCommand::Undo(named) => &named.place,
    };
    let found = databases(&place.folder, &place.bucket)?;
    let vaults = vaults(&found)?;
    match command {
        DatabaseCommand::List(Listed { name: None, .. }) => {
            let (mut rows, mut said) = (Vec::new(), String::new());
            for vault in vaults.iter() {
                let (name, target) = (vault.name(), vault.source().target().shown());
                let kind = vault.kind().as_str();
                let _ = writeln!(said, "{name}  {kind}  {target}");
                rows.push(json!({"name": name, "type": kind, "target": target}));
            }
            Ok((Value::Array(rows), said))
        }
        DatabaseCommand::List(Listed { name: Some(name), .. }) => list(find(&vaults, name)?).await,
        DatabaseCommand::Backup(made) => backup(find(&vaults, &made.name)?, made).await,
        DatabaseCommand::Restore(wanted) => restore(find(&vaults, &wanted.name)?, wanted).await,
        DatabaseCommand::Undo(named) => {
            let restoring = find(&vaults, &named.name)?.begin_undo(Method::Manual).await?;
            finish(restoring, find(&vaults, &named.name)?).await
        }
    }
}

/// The vaults, with records that end with the command: those on the disk are the server's.
fn vaults(found: &DatabaseFile) -> Result<Vaults> {
    Vaults::new(VaultsParts {
        databases: &found.databases,
        bucket: &found.storage,
        state: found.data.state(),
        clock: &Clock::system(),
        runtime: &Handle::current(),
        jobs: &Jobs::new(Clock::system()),
    })
}

fn find<'v>(vaults: &'v Vaults, name: &str) -> Result<&'v Arc<DatabaseVault>> {
    vaults.find(name).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("There is no [[database]] {name:?}."))
            .hint("`pocketvault db list` shows those of the configuration")
    })
}

async fn list(vault: &DatabaseVault) -> Result<(Value, String)> {
    let (mut rows, mut said) = (Vec::new(), String::new());
    for backup in vault.list().await? {
        let time = pocketbase_time(backup.modified);
        let _ = write!(said, "{}  {} bytes  {time}", backup.key, backup.size_bytes);
        let proof = vault.proof(&backup.key).await;
        let sha256 = proof.as_ref().map(|proof| &proof.sha256);
        let (key, size) = (backup.key.as_str(), backup.size_bytes);
        rows.push(json!({"key": key, "size": size, "modified": time, "sha256": sha256}));
        let sum = proof.map(|proof| format!("  SHA-256 {}", proof.sha256));
        let _ = writeln!(said, "{}", sum.unwrap_or_default());
    }
    let mut undo = Value::Null;
    if let Some(kept) = vault.kept()? {
        undo = json!({"name": kept.name, "since": pocketbase_time(kept.since)});
        let since = pocketbase_time(kept.since);
        let _ = writeln!(said, "kept for undo since {since}: the database {}", kept.name);
    }
    Ok((json!({"backups": rows, "undo": undo}), said))
}

async fn backup(vault: &Arc<DatabaseVault>, made: &Made) -> Result<(Value, String)> {
    let chosen = made.key.as_deref().map(|name| vault.chosen(name)).transpose()?;
    let creating = vault.begin_create(chosen, Method::Manual).await?;
    let job = creating.job();
    let task = creating.spawn();
    let (backup, proof) = stoppable(vault, job, task).await?;
    let (key, bytes, sha256) = (backup.key.as_str(), backup.size_bytes, proof.sha256);
    let value = json!({"key": key, "size": bytes, "sha256": sha256});
    Ok((value, format!("{key}  {bytes} bytes  SHA-256 {sha256}\n")))
}

async fn restore(vault: &Arc<DatabaseVault>, wanted: &Restored) -> Result<(Value, String)> {
    let key = Key::existing(&wanted.key)?;
    let wish = Wish { into: wanted.into.clone(), owners: wanted.owners };
    if wanted.plan {
        let said = planned(&vault.plan(&key, &wish).await?);
        return Ok((json!({"plan": said.lines().collect::<Vec<_>>()}), said));
    }
    let restoring = vault.begin_restore(&key, &wish, Method::Manual).await?;
    let said = restoring.plan().map(planned).unwrap_or_default();
    let (value, ended) = finish(restoring, vault).await?;
    Ok((value, said + &ended))
}

fn planned(plan: &Plan) -> String {
    let mut said = format!(
        "way: {}, {} tables of {} on {}, by pg_restore {}{}\n",
        plan.word(),
        plan.outline.tables,
        plan.outline.database,
        shown_version(plan.outline.server_version),
        plan.program_version(),
        if plan.owners { "" } else { ", without owners and privileges" }
    );
    for note in &plan.notes {
        let _ = writeln!(said, "note: {note}");
    }
    said
}

async fn finish(restoring: RestoringDump, vault: &DatabaseVault) -> Result<(Value, String)> {
    let job = restoring.job();
    stoppable(vault, job, restoring.spawn()).await?;
    let kept = vault.kept()?;
    let kept = kept.map(|kept| kept.name);
    let said = kept.as_ref().map_or("restored\n".to_owned(), |name| {
        format!("restored; the database before is kept as {name}\n")
    });
    Ok((json!({"restored": true, "kept": kept}), said))
}

/// Waits for a job; an interrupt cancels it, and what it leaves is nothing.
async fn stoppable<T>(
    vault: &DatabaseVault,
    job: u64,
    mut task: tokio::task::JoinHandle<Result<T>>,
) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    loop {
        tokio::select! {
            ended = &mut task => return ended.context("the job's task stopped")?,
            _ = interrupt.recv() => drop(vault.jobs().cancel(job)),
            _ = terminate.recv() => drop(vault.jobs().cancel(job)),
        }
    }
}
