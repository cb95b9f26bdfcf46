//! The command line: one file per command, and nothing here that a library would miss.

mod archive;
mod care;
mod database;
mod restore;
mod schedule;
mod serve;
mod storage;
mod superuser;

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Context, Error, Kind, Result};
use crate::vault::catalog::ProofKind;

/// Takes, keeps, proves and restores backups, behind PocketBase's own backups API.
#[derive(Debug, Parser)]
#[command(name = "pocketvault", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server
    Serve(crate::config::ServeOptions),
    /// Restore a backup while nothing runs on the folder
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
    /// Manage superusers
    #[command(subcommand)]
    Superuser(superuser::SuperuserCommand),
    /// Back up and restore PostgreSQL databases
    #[command(subcommand)]
    Db(database::DatabaseCommand),
    /// Look after the place where backups are kept
    #[command(subcommand)]
    Storage(storage::StorageCommand),
}

/// Parses the arguments and runs the command. Every failure is a non-zero exit status and a
/// text on standard error.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::Restore(options) => restore::run(options),
        Command::Clone(options) => restore::clone(options),
        Command::Verify(options) => care::prove(&options, ProofKind::Read),
        Command::Drill(options) => care::prove(&options, ProofKind::Drill),
        Command::Status(options) => return care::tell_status(&options),
        Command::Prune(options) => care::prune(&options),
        Command::Schedule(options) => schedule::run(&options),
        Command::Superuser(command) => superuser::run(command),
        Command::Db(command) => database::run(&command),
        Command::Storage(command) => storage::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Prints a line for the caller, whose end of a pipe may be closed.
///
/// # Errors
/// It is closed.
fn print(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot print")
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

#[expect(clippy::print_stderr, reason = "the command's own answer to its caller")]
fn failed(error: &Error) -> ExitCode {
    eprintln!("Error: {}", worded(error));
    ExitCode::FAILURE
}

/// What went wrong, with every rule that an input breaks.
fn worded(error: &Error) -> String {
    let mut text = error.full();
    if let Kind::Invalid(violations) = error.kind() {
        for violation in violations {
            let _ = write!(text, "\n  {}: {}", violation.field, violation.message);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Violation;

    #[test]
    fn every_broken_rule_is_told() {
        let error = Error::invalid(Violation::new("password", "validation_x", "Too short."));
        assert!(worded(&error).ends_with("data.\n  password: Too short."), "{}", worded(&error));
        assert_eq!(worded(&Error::internal("broken")), "broken");
    }
}
