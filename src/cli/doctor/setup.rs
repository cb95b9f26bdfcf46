//! What was configured, and what goes badly together.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::schedule::What;
use crate::config::{FILE_DEFAULT, ServeOptions};

use super::{Findings, Patient};

/// Words of the configuration behind which a secret stands.
const SECRETS: [&str; 4] = ["secret", "password", "token", "key"];

/// Looks at everything.
pub(super) fn all(patient: &Patient, serve: &ServeOptions, found: &mut Findings) {
    secrets(serve, found);
    program(patient, found);
    beside(patient, found);
    schedules(patient, found);
    let Some(settings) = &patient.settings else { return };
    let values = settings.values();
    if values.s3.enabled {
        let said = "PocketBase keeps uploaded files in a bucket, and backups hold none of them";
        found.doubt("files.inS3", said, "switch versions on in that bucket, or replicate it");
    }
    if patient.config.notify.channels.is_empty() && !values.smtp.enabled {
        let said = "nobody is told when backups fail: there is no [[notify]], and mail is off";
        found.doubt("notify.none", said, "add a [[notify]] to the configuration, or set up mail");
    }
    // PocketBase's own rule is about what its own schedule makes.
    let is_pruned = !values.backups.cron.is_empty() && values.backups.cron_max_keep > 0;
    if patient.config.care.retention.is_empty() && !is_pruned {
        let said = "no rule removes old backups: the disk will be full one day";
        found.doubt("retention.none", said, "add [retention] with `preset` or `daily` and so on");
    }
}

/// A file with secrets is for its owner.
fn secrets(serve: &ServeOptions, found: &mut Findings) {
    let path = serve.folder.config.as_deref().unwrap_or(Path::new(FILE_DEFAULT));
    let (Ok(text), Ok(meta)) = (fs::read_to_string(path), fs::metadata(path)) else { return };
    let names = |line: &str| line.split_once('=').map(|(name, _)| name.to_lowercase());
    let is_secret =
        |name: String| SECRETS.iter().any(|word| name.contains(word)) && !name.contains("_id");
    let has_secret = text.lines().filter_map(names).any(is_secret);
    if has_secret && meta.permissions().mode() & 0o004 != 0 {
        let said = format!("{} holds secrets, and everybody can read it", path.display());
        found.doubt("config.readable", said, format!("chmod 600 {}", path.display()));
    }
}

/// What would keep a server from starting.
fn program(patient: &Patient, found: &mut Findings) {
    if let Some(program) = &patient.config.supervise
        && let Err(error) = program.require_program()
    {
        found.error("program.missing", &error, "name the program with its path");
    }
    let http = patient.config.http;
    if patient.is_served || http.port() == 0 {
        return;
    }
    if let Err(error) = TcpListener::bind(http) {
        let said = format!("a server could not listen on {http}: {error}");
        found.fault("address.taken", said, "stop what listens there, or choose another --http");
    }
}

/// Two programs on one folder.
fn beside(patient: &Patient, found: &mut Findings) {
    let config = &patient.config;
    let is_beside = config.beside || (!patient.others.is_empty() && !patient.is_served);
    if is_beside && config.data.state().starts_with(config.data.root()) {
        let said = "PocketBase owns the folder, and its own backups hold our state, too";
        found.doubt("state.inside", said, "give --state a folder outside of pb_data");
    }
}

/// Two who make backups by the clock.
fn schedules(patient: &Patient, found: &mut Findings) {
    let Some(settings) = &patient.settings else { return };
    let cron = &settings.values().backups.cron;
    if cron.is_empty() {
        return;
    }
    let ours: Vec<&str> = patient
        .config
        .schedules
        .list
        .iter()
        .filter(|one| one.what == What::Backup)
        .map(|one| one.name.as_str())
        .collect();
    let hint = "keep one: clear the cron in PocketBase's settings, or remove the [[schedule]]";
    if !ours.is_empty() {
        let names = ours.join(", ");
        let said = format!("PocketBase's settings ({cron}) and the schedule {names} both back up");
        found.doubt("schedule.two", said, hint);
    }
}
