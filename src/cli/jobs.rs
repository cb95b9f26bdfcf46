//! `pocketvault jobs …`

use clap::{Args, Subcommand};
use reqwest::Method as Verb;
use serde_json::Value;

use crate::app::offline::locked;
use crate::cli::list::{rows, text};
use crate::cli::on_runtime;
use crate::cli::output::{Output, print, size};
use crate::cli::remote::ServerOptions;
use crate::clock::Clock;
use crate::config::{self, FolderOptions};
use crate::error::{Error, Kind, Result};
use crate::http::faces::vault::job_json;
use crate::state::{STATE_DB, StateDb};
use crate::vault::Jobs;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// List them, newest first
    List(Listed),
    /// Show one
    Show(One),
    /// Watch one until it ends; the exit status says how it ended
    Follow(Remote),
    /// Stop one
    Cancel(Remote),
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// Its number
    id: u64,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Its number
    id: u64,
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs the command.
pub(super) fn run(command: &JobsCommand, output: Output) -> Result<()> {
    on_runtime(async {
        match command {
            JobsCommand::List(listed) => {
                let jobs = match listed.server.connect().await? {
                    Some(server) => rows(server.get("api/vault/jobs").await?),
                    None => offline(&listed.folder, None).await?,
                };
                if output.json {
                    return print(Value::Array(jobs));
                }
                jobs.iter().try_for_each(|job| print(line(job)))
            }
            JobsCommand::Show(one) => {
                let job = match one.server.connect().await? {
                    Some(server) => server.get(&format!("api/vault/jobs/{}", one.id)).await,
                    None => offline(&one.folder, Some(one.id)).await.map(|mut jobs| jobs.remove(0)),
                };
                let job = job.map_err(|error| unknown(error, one.id))?;
                output.tell(&job, whole(&job))
            }
            JobsCommand::Follow(one) => {
                let server = one.server.require().await?;
                let job = server.finish(one.id, &output.bar(&format!("job {}", one.id))).await;
                let job = job.map_err(|error| unknown(error, one.id))?;
                output.tell(&job, whole(&job))
            }
            JobsCommand::Cancel(one) => {
                let server = one.server.require().await?;
                let path = format!("api/vault/jobs/{}", one.id);
                let job = server.call(Verb::DELETE, &path, None).await;
                let job = job.map_err(|error| unknown(error, one.id))?;
                output.tell(&job, line(&job))
            }
        }
    })
}

fn unknown(error: Error, id: u64) -> Error {
    match error.kind() {
        Kind::NotFound => Error::new(Kind::NotFound, format!("there is no job {id}")),
        _ => error,
    }
}

/// The history of a folder that no server has; all of it, or the one job.
async fn offline(folder: &FolderOptions, id: Option<u64>) -> Result<Vec<Value>> {
    let (data, clock) = (config::folder(folder)?, Clock::system());
    let none = || Error::new(Kind::NotFound, "there is no such job");
    if !data.state().join(STATE_DB).is_file() {
        let message = format!("{} has no job history", data.root().display());
        return Err(Error::new(Kind::NotFound, message)
            .hint("name the pb_data folder with --dir, or a server with --server"));
    }
    // A server's running jobs would be taken for interrupted ones.
    let _lock = locked(&data)?;
    let state = StateDb::open(data.state(), &clock).await?;
    let jobs = Jobs::load(clock.clone(), state.clone()).await?;
    let found = match id {
        None => jobs.list(),
        Some(id) => vec![jobs.find_ever(id).await?.ok_or_else(none)?],
    };
    state.close().await;
    Ok(found.into_iter().map(|job| job_json(job, clock.now())).collect())
}

fn line(job: &Value) -> String {
    let started = text(job, "started").get(..19).unwrap_or_default();
    let bytes = size(job["bytes"].as_u64().unwrap_or_default());
    let (kind, state, key) = (text(job, "kind"), text(job, "state"), text(job, "key"));
    let error = match text(job, "error") {
        "" => String::new(),
        error => format!("  {error}"),
    };
    format!("{:>5}  {started}  {kind:<8}  {state:<11}  {bytes:>9}  {key}{error}", job["id"])
}

fn whole(job: &Value) -> String {
    let mut said = line(job);
    if let (started, Some(ended)) = (text(job, "started"), job["ended"].as_str()) {
        said.push_str(&format!("\nstarted {started}, ended {ended}"));
    }
    if let Some(hint) = job["hint"].as_str() {
        said.push_str(&format!("\nhint: {hint}"));
    }
    for note in job["notes"].as_array().into_iter().flatten() {
        said.push_str(&format!("\nnote: {}", note.as_str().unwrap_or_default()));
    }
    said
}
