//! Logs: one subscriber, to standard error, filtered by `POCKETVAULT_LOG`.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The variable with the filter, in the syntax of `tracing-subscriber`'s `EnvFilter`.
const FILTER_VARIABLE: &str = "POCKETVAULT_LOG";
/// Set to `json` for one JSON object a line.
const FORMAT_VARIABLE: &str = "POCKETVAULT_LOG_FORMAT";

/// Who logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// A server: what it does is worth a line.
    Server,
    /// A command, which says itself how it went: only what it cannot say.
    Command,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, in the form of the variable unless told otherwise; a second call does
/// nothing.
pub fn start(talk: Talk, format: Option<Format>) {
    let usual = match talk {
        Talk::Server => "info,actix_server=warn,sqlx=warn",
        Talk::Command => "warn,pocketvault::vault::jobs=off,pocketvault::vault::proof=off",
    };
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let by_variable = || std::env::var(FORMAT_VARIABLE).is_ok_and(|format| format == "json");
    let json = format.map_or_else(by_variable, |format| format == Format::Json);
    // A second subscriber is refused, which is what a test that starts two servers wants.
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}
