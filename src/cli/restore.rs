//! `pocketvault restore …`: plan, restore and undo, with nobody running on the folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use reqwest::Method as Verb;
use serde_json::{Value, json};

use crate::auth::superusers::Superusers;
use crate::backup::Key;
use crate::cli::archive::Found;
use crate::cli::list::text;
use crate::cli::on_runtime;
use crate::cli::output::{self, Output};
use crate::cli::remote::{Client, ServerOptions, segment};
use crate::clock::Clock;
use crate::config::{Config, FolderOptions, ServeOptions};
use crate::control::Control;
use crate::data_dir::{DataDir, STATE};
use crate::database::{Access, Database};
use crate::error::{Context, Error, Kind, Result};
use crate::folder_lock::FolderLock;
use crate::fsx;
use crate::occupants;
use crate::restore::{self, Plan, PlanOptions, Recovery, Scope};

/// How long a tool that copies the databases, or a shell, may have them open.
const PATIENCE: Duration = Duration::from_secs(3);
/// What to do while a server runs on the folder.
const STOP_FIRST: &str = "stop what runs on the folder first; or let the running pocketvault do \
    it: POST /api/backups/KEY/restore, POST /api/vault/restore/undo";

/// Options of `restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreOptions {
    /// A backup's key, an archive file, or s3://BUCKET/KEY
    #[arg(required_unless_present = "undo")]
    archive: Option<String>,
    /// Only say what would be done
    #[arg(long, conflicts_with = "undo")]
    plan: bool,
    /// Restore into this folder instead of --dir; it is made if need be
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Restore only a part: databases, files, or a path such as storage/COLLECTION/RECORD
    #[arg(long, value_name = "PART", conflicts_with = "undo")]
    only: Option<String>,
    /// Bring back the data from before the last restore
    #[arg(long, conflicts_with = "archive")]
    undo: bool,
    /// Another program owns the folder, as for `serve`
    #[arg(long, env = "POCKETVAULT_BESIDE", value_parser = FalseyValueParser::new(), hide = true)]
    beside: bool,
    /// The program that owns the folder (`beside`) is stopped
    #[arg(long)]
    owner_stopped: bool,
    /// Do not ask before data is replaced
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Options of `clone`.
#[derive(Debug, Args)]
pub(super) struct CloneOptions {
    /// A backup's key, an archive file, or s3://BUCKET/KEY
    archive: String,
    /// The new folder; it must be empty or missing
    target: PathBuf,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Runs `clone`: a restore into a folder that has nothing to lose.
pub(super) fn clone(options: CloneOptions, output: Output) -> Result<()> {
    require_empty(&options.target)?;
    let restore = RestoreOptions {
        archive: Some(options.archive),
        plan: false,
        into: Some(options.target),
        only: None,
        undo: false,
        beside: false,
        owner_stopped: false,
        yes: true,
        server: ServerOptions::default(),
        folder: options.folder,
    };
    on_runtime(perform(restore, output))
}

/// Runs `restore`.
pub(super) fn run(options: RestoreOptions, output: Output) -> Result<()> {
    on_runtime(async {
        match options.server.connect().await? {
            Some(server) if options.into.is_none() => there(&server, &options, output).await,
            Some(_) => Err(Error::new(Kind::Invalid(Vec::new()), "--into is for a folder here")
                .hint("`pocketvault download` the backup, then `clone` it")),
            None => perform(options, output).await,
        }
    })
}

/// By a server, which restarts for it.
async fn there(server: &Client, options: &RestoreOptions, output: Output) -> Result<()> {
    let only = options.only.as_deref().map(|only| format!("?only={}", segment(only)));
    let (only, yes) = (only.unwrap_or_default(), options.yes);
    let Some(key) = &options.archive else {
        let question = format!("Bring the data from before the last restore back on {server}?");
        output::confirm(yes, &question)?;
        let id = server.begin("api/vault/restore/undo", None).await?;
        let job = server.finish(id, &output.bar("undo")).await?;
        return output.tell(&job, "undid the last restore");
    };
    let path = format!("api/vault/backups/{}", segment(Key::existing(key)?.as_str()));
    if options.plan {
        let plan = server.call(Verb::POST, &format!("{path}/plan{only}"), None).await?;
        output.tell(&plan, planned_there(&plan))?;
        return match plan["refused"].as_str() {
            None => Ok(()),
            Some(why) => Err(Error::new(Kind::Corrupt, format!("{key} cannot be restored: {why}"))),
        };
    }
    output::confirm(yes, &format!("Replace the data of {server} by {key}?"))?;
    let id = server.begin(&format!("{path}/restore{only}"), None).await?;
    let job = server.finish(id, &output.bar("restore")).await?;
    output.tell(&job, format!("restored {key}; `pocketvault restore --undo` takes it back"))
}

async fn perform(options: RestoreOptions, output: Output) -> Result<()> {
    let serve = ServeOptions {
        folder: options.folder.clone(),
        beside: options.beside,
        ..ServeOptions::default()
    };
    let config = Config::serve(&serve)?;
    let target = target(&options, &config)?;
    if options.plan {
        let (_, plan) = planned(&options, &config, &target, true).await?;
        output.tell(
            &serde_json::to_value(&plan).context("cannot word the plan")?,
            plan.to_string().trim_end(),
        )?;
        return refuse(&plan);
    }
    require_owner_stopped(&options, &config, &target)?;
    let clock = Clock::system();
    let _lock = taken(&target)?;
    // What an interrupted restore left undecided is decided first.
    swap(&target, &clock).await?;
    if options.undo {
        confirm(&options, &target)?;
        let subject = restore::undo(&target, &clock)?;
        swap(&target, &clock).await?;
        return done(output, &format!("undid the restore of {}", subject.key), &target);
    }
    let (found, plan) = planned(&options, &config, &target, false).await?;
    refuse(&plan)?;
    confirm(&options, &target)?;
    let scope = scope(&options)?;
    let (data, key, at) = (target.clone(), found.key.clone(), clock.clone());
    let staged = tokio::task::spawn_blocking(move || {
        let path = found.path();
        restore::stage(&data, path, &found.key, &scope, &at, &Control::default())?.commit()
    });
    staged.await.context("the restoring thread stopped")??;
    swap(&target, &clock).await?;
    done(output, &format!("restored {key} ({})", plan.only), &target)
}

/// A server's plan in words.
fn planned_there(plan: &Value) -> String {
    let bytes = |value: &Value| output::size(value.as_u64().unwrap_or_default());
    let contents = &plan["contents"];
    let mut said = format!(
        "Restore of {} ({})\n  archive      {} files, {} unpacked, {} packed",
        text(plan, "key"),
        text(plan, "only"),
        contents["files"],
        bytes(&contents["bytes"]),
        bytes(&contents["archiveBytes"]),
    );
    for part in plan["parts"].as_array().into_iter().flatten() {
        let (needed, free) = (bytes(&part["neededBytes"]), bytes(&part["freeBytes"]));
        let path = Some(text(part, "path")).filter(|path| !path.is_empty()).unwrap_or("pb_data");
        said.push_str(&format!("\n  place        {path}: needs {needed} of {free} free"));
    }
    let loss = &plan["loss"];
    if loss.is_object() {
        let (files, changed) = (&loss["files"], &loss["filesChanged"]);
        said.push_str(&format!("\n  would go     {files} files, {changed} files change"));
    }
    for rows in loss["collections"].as_array().into_iter().flatten() {
        let (name, lost) = (text(rows, "name"), &rows["lost"]);
        let (rows, changed) = (&rows["rows"], &rows["changed"]);
        let line = format!("\n               {name}: {lost} of {rows} rows, {changed} older");
        said.push_str(&line);
    }
    for warning in plan["warnings"].as_array().into_iter().flatten() {
        said.push_str(&format!("\n  warning      {}", warning.as_str().unwrap_or_default()));
    }
    match plan["refused"].as_str() {
        Some(reason) => said.push_str(&format!("\n  REFUSED      {reason}")),
        None => said.push_str("\n  can be restored"),
    }
    said
}

/// The folder that is restored into. One that was named by `--into` is made.
fn target(options: &RestoreOptions, config: &Config) -> Result<DataDir> {
    let target = match &options.into {
        None => config.data.clone(),
        Some(into) => {
            let into = std::path::absolute(into).context("the folder is no usable path")?;
            if !options.plan && !options.undo {
                fsx::create_dir_durably(&into)?;
            }
            DataDir::new(into, None)
        }
    };
    if target.root().is_dir() {
        return Ok(target);
    }
    let message = format!("{} does not exist", target.root().display());
    Err(Error::new(Kind::NotFound, message)
        .hint("name the pb_data folder with --dir, or make a new one with --into"))
}

/// Refuses to replace data that another program owns: in another container or as another user
/// it would not be seen.
fn require_owner_stopped(
    options: &RestoreOptions,
    config: &Config,
    target: &DataDir,
) -> Result<()> {
    let same = |path: &Path| path.canonicalize().ok();
    let is_its = same(target.root()) == same(config.data.root());
    if !config.beside || !is_its || options.owner_stopped {
        return Ok(());
    }
    let folder = target.root().display();
    let message = format!("{folder} belongs to another program (`beside` is set)");
    Err(Error::new(Kind::InUse, message).hint(
        "stop that program and say --owner-stopped; or set stop_command and start_command, and \
         let the running pocketvault restore: POST /api/backups/KEY/restore",
    ))
}

/// The right to work on the folder, which nobody else uses.
fn taken(target: &DataDir) -> Result<FolderLock> {
    let lock = FolderLock::take(target, false).map_err(|error| match error.kind() {
        Kind::InUse => error.hint(STOP_FIRST),
        _ => error,
    })?;
    let others = occupants::lasting_processes(target, PATIENCE);
    if others.is_empty() {
        return Ok(lock);
    }
    let folder = target.root().display();
    let message = format!("the processes {others:?} have the databases in {folder} open");
    Err(Error::new(Kind::InUse, message).hint(STOP_FIRST))
}

async fn planned(
    options: &RestoreOptions,
    config: &Config,
    target: &DataDir,
    deep: bool,
) -> Result<(Found, Plan)> {
    let name = options.archive.as_deref().unwrap_or_default();
    let found = Found::find(name, config, target).await?;
    let plan_options = PlanOptions { scope: scope(options)?, deep };
    let target = target.clone();
    let work = move || {
        let control = Control::default();
        let plan = restore::plan(&target, found.path(), &found.key, &plan_options, &control)?;
        Ok((found, plan))
    };
    tokio::task::spawn_blocking(work).await.context("the planning thread stopped")?
}

fn scope(options: &RestoreOptions) -> Result<Scope> {
    options.only.as_deref().map_or(Ok(Scope::All), Scope::parse)
}

fn refuse(plan: &Plan) -> Result<()> {
    match &plan.refused {
        None => Ok(()),
        Some(reason) => {
            let message = format!("{} cannot be restored: {reason}", plan.key);
            Err(Error::new(Kind::Corrupt, message))
        }
    }
}

/// Nobody is asked about a folder that holds nothing.
fn confirm(options: &RestoreOptions, target: &DataDir) -> Result<()> {
    let is_empty = !target.data_db().exists();
    let question = format!("Replace the data in {}?", target.root().display());
    output::confirm(options.yes || is_empty, &question)
}

/// Swaps what waits for it, and gives the verdict that a server's start would give.
async fn swap(target: &DataDir, clock: &Clock) -> Result<()> {
    match restore::recover(target, clock)? {
        Recovery::Nothing { .. } => {}
        Recovery::RolledBack { reason, .. } => return Err(rolled_back(&reason)),
        Recovery::Swapped { .. } => match opens(target, clock).await {
            Ok(()) => restore::prove(target, clock)?,
            Err(error) => {
                restore::roll_back(target, &error.full(), clock)?;
                return Err(rolled_back(&error.full()));
            }
        },
    }
    restore::empty_trash(target);
    Ok(())
}

fn rolled_back(reason: &str) -> Error {
    let message = format!("the restore was rolled back, the old data is in place: {reason}");
    Error::new(Kind::Corrupt, message)
}

/// Whether the data opens and somebody can log in.
async fn opens(target: &DataDir, clock: &Clock) -> Result<()> {
    if !target.data_db().exists() {
        // Files alone were restored into a folder without databases.
        return Ok(());
    }
    let database = Database::open(target.root(), Access::ReadWrite)?;
    let superusers = Superusers::new(database.clone(), clock.clone()).count().await;
    database.close().await;
    match superusers? {
        0 => Err(Error::new(Kind::Corrupt, "nobody could log in: there is no superuser")),
        _ => Ok(()),
    }
}

fn done(output: Output, what: &str, target: &DataDir) -> Result<()> {
    let undo = restore::status(target)?.and_then(|status| status.undo).is_some();
    let folder = target.root().display();
    let answer = json!({"done": what, "folder": folder.to_string(), "undo": undo});
    let hint = if undo { "; `pocketvault restore --undo` takes it back" } else { "" };
    output.tell(&answer, format!("{what} in {folder}{hint}"))
}

/// A folder that holds nothing, but for what an earlier attempt of ours left.
fn require_empty(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let foreign = entries.flatten().find(|entry| entry.file_name() != STATE);
    match foreign {
        None => Ok(()),
        Some(entry) => {
            let message = format!("{} is not empty: {:?}", folder.display(), entry.file_name());
            Err(Error::new(Kind::Exists, message)
                .hint("choose a new folder, or use `pocketvault restore --into`"))
        }
    }
}
