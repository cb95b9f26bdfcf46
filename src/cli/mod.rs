//! The command line: one file per command, and nothing here that a library would miss.

mod archive;
mod backup;
mod care;
mod check;
mod database;
mod doctor;
mod health;
mod jobs;
mod list;
mod output;
mod remote;
mod restore;
mod schedule;
mod serve;
mod shell;
mod storage;
mod superuser;
mod token;
mod transfer;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::storage::StorageOptions;
use crate::config::{Config, FolderOptions, ServeOptions};
use crate::error::{Context, Result};
use crate::telemetry::{self, Format, Talk};
use crate::vault::Jobs;
use crate::vault::catalog::ProofKind;

use self::output::{Bar, Output};

/// Takes, keeps, proves and restores backups, behind PocketBase's own backups API.
#[derive(Debug, Parser)]
#[command(name = "pocketvault", version, about, max_term_width = 100)]
struct Cli {
    /// Form of the log on standard error [default: text]
    #[arg(long, global = true, value_enum)]
    log_format: Option<Format>,
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server
    Serve(ServeOptions),
    /// List the backups, newest first
    List(list::ListOptions),
    /// Make a backup, by a server or without one
    Backup(backup::BackupOptions),
    /// Take in an archive file as a backup
    Upload(transfer::UploadOptions),
    /// Fetch a backup into a file, and check that it is whole
    Download(transfer::DownloadOptions),
    /// Delete backups
    Delete(backup::DeleteOptions),
    /// Restore a backup while nothing runs on the folder, or by a server
    Restore(restore::RestoreOptions),
    /// Make a new folder out of an archive
    Clone(restore::CloneOptions),
    /// Read a backup back and check every entry of it
    Verify(care::ProveOptions),
    /// Restore a backup into a scratch folder, open it, count, and remove it again
    Drill(care::ProveOptions),
    /// Say how it stands: exit status 0 healthy, 1 delayed, 2 stale or failing, 3 not known
    Status(care::StatusOptions),
    /// Remove the backups that no rule of [retention] keeps
    Prune(care::PruneOptions),
    /// Tell when the schedules of the configuration run next, or an expression
    Schedule(schedule::ScheduleOptions),
    /// See what was done and is being done
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Manage superusers
    #[command(subcommand)]
    Superuser(superuser::SuperuserCommand),
    /// Manage tokens of the API, for scripts
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Back up and restore PostgreSQL databases
    #[command(subcommand)]
    Db(database::DatabaseCommand),
    /// Look after the place where backups are kept
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(check::ConfigCommand),
    /// Look for the commonest faults, and say what to do about each
    Doctor(Box<doctor::DoctorOptions>),
    /// Ask whether the server answers; nobody has to log in
    Health(health::HealthOptions),
    /// Print completions for a shell
    Completions(shell::CompletionOptions),
    /// Print the manual page, or write all of them
    Man(shell::ManOptions),
}

/// Parses the arguments and runs the command. Every failure is a non-zero exit status and a
/// text on standard error.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let output = cli.output;
    let talk = match &cli.command {
        Command::Serve(_) => Talk::Server,
        _ => Talk::Command,
    };
    telemetry::start(talk, cli.log_format);
    let result = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::List(options) => list::run(&options, output),
        Command::Backup(options) => backup::run(&options, output),
        Command::Upload(options) => transfer::upload(&options, output),
        Command::Download(options) => transfer::download(&options, output),
        Command::Delete(options) => backup::delete(&options, output),
        Command::Restore(options) => restore::run(options, output),
        Command::Clone(options) => restore::clone(options, output),
        Command::Verify(options) => care::prove(&options, ProofKind::Read, output),
        Command::Drill(options) => care::prove(&options, ProofKind::Drill, output),
        Command::Status(options) => return care::tell_status(&options, output),
        Command::Prune(options) => care::prune(&options, output),
        Command::Schedule(options) => schedule::run(&options, output),
        Command::Jobs(command) => jobs::run(&command, output),
        Command::Superuser(command) => superuser::run(command, output),
        Command::Token(command) => token::run(&command, output),
        Command::Db(command) => database::run(&command, output),
        Command::Storage(command) => storage::run(command, output),
        Command::Config(command) => check::run(&command, &Cli::command(), output),
        Command::Doctor(options) => doctor::run(&options, output),
        Command::Health(options) => health::run(&options, output),
        Command::Completions(options) => shell::completions(&options, Cli::command()),
        Command::Man(options) => shell::man(&options, Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failed(&error),
    }
}

/// What commands without a server need to know.
///
/// # Errors
/// As [`Config::serve`].
fn offline_config(folder: &FolderOptions, storage: &StorageOptions) -> Result<Config> {
    Config::serve(&ServeOptions {
        folder: folder.clone(),
        storage: storage.clone(),
        ..ServeOptions::default()
    })
}

/// Runs the work of a command that speaks to databases or stores.
///
/// # Errors
/// The work's own; the runtime cannot be started.
fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // One provider for every TLS client of the process; a second installation is refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// Waits for a job of this process. An interrupt cancels it; what it leaves is nothing.
///
/// # Errors
/// The job's own, [`crate::error::Kind::Cancelled`] after an interrupt.
async fn interruptible<T>(
    jobs: &Jobs,
    job: u64,
    task: JoinHandle<Result<T>>,
    bar: &Bar,
) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let control = jobs.control(job);
    let task = bar.follow(&control, task);
    let mut task = std::pin::pin!(task);
    loop {
        tokio::select! {
            ended = &mut task => return ended.context("the job's task stopped")?,
            _ = interrupt.recv() => drop(jobs.cancel(job)),
            _ = terminate.recv() => drop(jobs.cancel(job)),
        }
    }
}
