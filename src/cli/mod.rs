//! The command line: one file per command, and nothing here that a library would miss.

mod serve;
mod superuser;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

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
    /// Manage superusers
    #[command(subcommand)]
    Superuser(superuser::SuperuserCommand),
}

/// Parses the arguments and runs the command. Every failure is a non-zero exit status and one
/// line on standard error.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Serve(options) => serve::run(&options),
        Command::Superuser(command) => superuser::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the command's own answer to its caller")]
fn failed(error: &Error) -> ExitCode {
    eprintln!("Error: {}", error.full());
    ExitCode::FAILURE
}
