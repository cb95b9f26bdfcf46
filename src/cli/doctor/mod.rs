//! `pocketvault doctor`: looks for the commonest faults, and says what to do about each. It
//! changes nothing, and finds as much as it can: one fault does not hide the next.

mod data;
mod folder;
mod setup;
mod stored;

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::app::encryption_of;
use crate::cli::on_runtime;
use crate::cli::output::{Output, print};
use crate::clock::Clock;
use crate::config::{Config, ServeOptions};
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::occupants;
use crate::settings::Settings;
use crate::settings::store::Store;

/// Whom to look at: the options of `serve`, so that it sees what a server would see.
#[derive(Debug, Args)]
pub(super) struct DoctorOptions {
    #[command(flatten)]
    serve: ServeOptions,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// It works, but somebody may be surprised on the worst day.
    Doubt,
    /// Backups or restores do not work, or will not.
    Fault,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// Names the fault for scripts; `docs/commands.md` lists them.
    code: &'static str,
    /// What is wrong.
    said: String,
    /// What to do.
    hint: String,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fault(&mut self, code: &'static str, said: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Fault, code, said: said.into(), hint: hint.into() });
    }

    fn doubt(&mut self, code: &'static str, said: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { level: Level::Doubt, code, said: said.into(), hint: hint.into() });
    }

    /// A fault with the error's own words, and its hint if it has one.
    fn error(&mut self, code: &'static str, error: &Error, hint: &str) {
        let hint = error.operator_hint().unwrap_or(hint);
        self.fault(code, crate::error::chain(error), hint);
    }
}

/// Who is looked at.
#[derive(Debug)]
struct Patient {
    config: Config,
    clock: Clock,
    /// Other processes that have the databases open.
    others: Vec<u32>,
    /// Whether a pocketvault has the folder.
    is_served: bool,
    /// PocketBase's settings, if they can be read.
    settings: Option<Arc<Settings>>,
}

/// Runs the command.
pub(super) fn run(options: &DoctorOptions, output: Output) -> Result<()> {
    let mut found = Findings::default();
    match Config::serve(&options.serve) {
        Ok(config) => on_runtime(async {
            examine(config, &options.serve, &mut found).await;
            Ok(())
        })?,
        Err(error) => found.error("config.unusable", &error, "correct the configuration"),
    }
    let Findings(mut all) = found;
    all.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let faults = all.iter().filter(|finding| finding.level == Level::Fault).count();
    let doubts = all.len() - faults;
    if output.json {
        let shown: Vec<Value> = all.iter().map(shown).collect();
        print(json!({"faults": faults, "doubts": doubts, "findings": shown}))?;
    } else {
        all.iter().try_for_each(|finding| print(line(finding)))?;
        print(format!("{faults} faults, {doubts} doubts"))?;
    }
    match faults {
        0 => Ok(()),
        _ => Err(Error::new(Kind::Internal, format!("{faults} faults were found"))),
    }
}

async fn examine(config: Config, serve: &ServeOptions, found: &mut Findings) {
    let clock = Clock::system();
    let others = occupants::other_processes(&config.data);
    let mut patient = Patient { config, clock, others, is_served: false, settings: None };
    let is_there = folder::is_there(&patient, found);
    if is_there {
        folder::permissions(&patient, found);
        patient.is_served = folder::lock(&patient, found);
        folder::restore(&patient, found);
        folder::logs(&patient, found);
        let database = Database::open(patient.config.data.root(), Access::ReadOnly);
        if let Ok(database) = database {
            let encryption = encryption_of(&patient.config);
            let store = Store::new(database.clone(), encryption, patient.clock.clone());
            if data::schema(&database, found).await {
                match store.current().await {
                    Ok(settings) => patient.settings = Some(settings),
                    Err(error) => found.error("encryption.key", &error, "give --encryptionEnv"),
                }
                data::superusers(&database, &patient, found).await;
            }
            data::integrity(&database, found).await;
            database.close().await;
        }
    }
    setup::all(&patient, serve, found);
    if is_there || patient.config.storage.bucket.is_some() {
        stored::all(&patient, found).await;
    }
}

fn line(finding: &Finding) -> String {
    let Finding { level, code, said, hint } = finding;
    let level = match level {
        Level::Fault => "FAULT",
        Level::Doubt => "doubt",
    };
    format!("{level}  {code}: {said}\n       {hint}")
}

fn shown(finding: &Finding) -> Value {
    let level = match finding.level {
        Level::Fault => "fault",
        Level::Doubt => "doubt",
    };
    json!({"level": level, "code": finding.code, "said": finding.said, "hint": finding.hint})
}
