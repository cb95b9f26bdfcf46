//! `pocketvault config check`: whether the configuration can be used, and what it comes to.

use std::collections::BTreeSet;

use clap::{Command, Subcommand};
use serde_json::{Value, json};

use crate::cli::on_runtime;
use crate::cli::output::{Output, print};
use crate::cli::storage::bucket;
use crate::config::{self, Config, ServeOptions};
use crate::error::Result;

/// How our variables begin.
const PREFIX: &str = "POCKETVAULT_";
/// Variables that are no option's.
const OTHERS: [&str; 10] = [
    "POCKETVAULT_CRASH_AT",
    "POCKETVAULT_FAIL_AT",
    "POCKETVAULT_LOG",
    "POCKETVAULT_LOG_FORMAT",
    "POCKETVAULT_EMAIL",
    "POCKETVAULT_PASSWORD",
    "POCKETVAULT_SERVER",
    "POCKETVAULT_TOKEN",
    "POCKETVAULT_RESTART",
    "POCKETVAULT_FAILPOINTS",
];

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether it can be used, and what it comes to; takes the options of `serve`
    Check(Box<ServeOptions>),
}

/// Runs the command.
pub(super) fn run(command: &ConfigCommand, program: &Command, output: Output) -> Result<()> {
    let ConfigCommand::Check(options) = command;
    let config = Config::serve(options)?;
    if let Some(program) = &config.supervise {
        program.require_program()?;
    }
    let found = config::folder_storage(&options.folder, &options.storage)?;
    let place = on_runtime(bucket(&found));
    let warnings = warnings(&config, &place.as_ref().map(drop), program);
    let place = match place {
        Ok(Some(bucket)) => format!("the bucket {}", bucket.bucket),
        Ok(None) => format!("the folder {}", config.data.backups().display()),
        Err(_) => "not known".to_owned(),
    };
    let rules = &config.care.retention;
    let answer = json!({
        "folder": config.data.root().display().to_string(),
        "state": config.data.state().display().to_string(),
        "http": config.http.to_string(),
        "backups": place,
        "retention": !rules.is_empty(),
        "databases": config.databases.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        "program": config.supervise.is_some(),
        "beside": config.beside,
        "warnings": warnings,
    });
    if output.json {
        return print(answer);
    }
    for name in ["folder", "state", "http", "backups"] {
        print(format!("{name:<9} {}", answer[name].as_str().unwrap_or_default()))?;
    }
    let kept = if rules.is_empty() { "every backup is kept" } else { "by rules" };
    print(format!("retention {kept}"))?;
    for name in answer["databases"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        print(format!("database  {name}"))?;
    }
    warnings.iter().try_for_each(|warning| print(format!("warning   {warning}")))?;
    print("The configuration can be used.")
}

/// What can be used, but is hardly meant.
fn warnings(
    config: &Config,
    place: &Result<(), &crate::error::Error>,
    program: &Command,
) -> Vec<String> {
    let mut found = Vec::new();
    let (variable, key) = &config.encryption;
    if !variable.is_empty() && key.expose().is_empty() {
        found.push(format!("{variable} is to hold the key of encrypted settings, but is not set"));
    }
    if let Err(error) = place {
        found.push(format!("where backups are kept is not known: {}", error.full()));
    }
    if !config.data.root().is_dir() {
        let folder = config.data.root().display();
        found.push(format!("{folder} does not exist; `serve` would make it"));
    }
    let known = variables(program);
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in given.filter(|name| name.starts_with(PREFIX)) {
        if !known.contains(name.as_str()) && !OTHERS.contains(&name.as_str()) && name != *variable {
            found.push(format!("the variable {name} is set, and nothing reads it"));
        }
    }
    found
}

/// The variables that any command reads.
fn variables(program: &Command) -> BTreeSet<String> {
    let own = program.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    let mut found: BTreeSet<String> = own.map(str::to_owned).collect();
    for inner in program.get_subcommands() {
        found.extend(variables(inner));
    }
    found
}
