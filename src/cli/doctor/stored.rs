//! The backups, and the places where they are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::app::offline::Offline;
use crate::backup::PARTIAL_SUFFIX;
use crate::cli::output::size;
use crate::fsx;
use crate::vault::catalog::Known;
use crate::vault::status::{self, Health};

use super::{Findings, Patient};

/// How far ahead a file may be before the clock is doubted.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// How long one storage may be asked.
const ASK_MAX: Duration = Duration::from_secs(20);

/// Looks at everything.
pub(super) async fn all(patient: &Patient, found: &mut Findings) {
    let data = &patient.config.data;
    clock(patient, found);
    partial(patient, found);
    if patient.settings.is_none() && data.data_db().exists() {
        // Where backups are kept stands in the settings.
        return;
    }
    let mut config = patient.config.clone();
    // Somebody waits for the answer.
    config.storage.extras.retry_for = Duration::from_secs(5);
    let open = match Offline::look(&config, &patient.clock).await {
        Ok(open) => open,
        Err(error) => return found.error("state.unusable", &error, "look at the state folder"),
    };
    let places = open.vault.places();
    if let [only] = places.as_slice()
        && let Some(folder) = only.storage.local_path(&probe())
        && let Some(folder) = folder.parent()
        && is_same_disk(folder, data.root())
    {
        let said = "the backups are on the disk of the data: what takes one takes the other";
        found.doubt("disk.same", said, "add a bucket, or a [[destination]] on another disk");
    }
    for place in &places {
        let listed = tokio::time::timeout(ASK_MAX, place.storage.list()).await;
        let name = &place.name;
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                let said = format!("{name} refuses us: {}", crate::error::chain(&error));
                found.fault("storage.refused", said, "`pocketvault storage test` says more");
                continue;
            }
            Err(_) => {
                let said = format!("{name} does not answer within {} s", ASK_MAX.as_secs());
                found.fault("storage.refused", said, "`pocketvault storage test` says more");
                continue;
            }
        };
        let at = place.storage.place();
        let Ok(known) = open.vault.catalog().about(&at, &listed).await else { continue };
        health(patient, name, &at, &known, found);
        room(patient, place.storage.local_path(&probe()).as_deref(), &known, found);
    }
    open.close().await;
}

/// Any key: only its folder counts.
fn probe() -> crate::backup::Key {
    crate::backup::Key::generate("", chrono::DateTime::UNIX_EPOCH, false)
}

fn is_same_disk(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| {
        path.ancestors().find_map(|path| fs::metadata(path).ok()).map(|meta| meta.dev())
    };
    device(one).is_some() && device(one) == device(other)
}

/// How it stands, in the words of `pocketvault status`.
fn health(patient: &Patient, name: &str, at: &str, known: &[Known], found: &mut Findings) {
    let (rule, now) = (patient.config.care.status, patient.clock.now());
    let report = status::judge(at.to_owned(), known, None, None, rule, now);
    let reasons = report.reasons.join("; ");
    let hint = "`pocketvault backup` makes one now; then look at the schedule";
    match report.health {
        Health::Healthy => {}
        Health::Delayed => found.doubt("backup.old", format!("{name}: {reasons}"), hint),
        Health::Stale if known.is_empty() => {
            found.fault("backup.none", format!("{name}: there is no backup"), hint);
        }
        Health::Stale | Health::Failing => {
            found.fault("backup.old", format!("{name}: {reasons}"), hint);
        }
    }
    let is_bad = |one: &&Known| one.proof.as_ref().is_some_and(|proof| !proof.ok);
    for one in known.iter().filter(is_bad) {
        let said = format!("{name}: {} failed its last proof", one.key);
        found.fault("backup.damaged", said, "make a new backup, then delete this one");
    }
    if !known.is_empty() && !known.iter().any(Known::is_proven) {
        let said = format!("{name}: no backup was ever proven");
        found.doubt("backup.unproven", said, "`pocketvault drill KEY` restores one for a trial");
    }
}

/// Whether the next backup fits.
fn room(patient: &Patient, path: Option<&Path>, known: &[Known], found: &mut Findings) {
    let rule = patient.config.care.space;
    let newest = known.iter().max_by_key(|one| one.made).map_or(0, |one| one.size_bytes);
    let needed = newest.saturating_add(newest / 10).saturating_add(rule.reserve_bytes);
    let hint = "make room, remove backups, or set rules in [retention]";
    let folder = path.and_then(|path| path.ancestors().skip(1).find(|path| path.is_dir()));
    if let Some(free) = folder.and_then(|folder| fsx::free_bytes(folder).ok())
        && free < needed
    {
        let (needed, free) = (size(needed), size(free));
        let said = format!("the next backup needs {needed} with the reserve, and {free} are free");
        found.fault("space.low", said, hint);
    }
    let stored: u64 = known.iter().map(|one| one.size_bytes).sum();
    if let Some(quota) = rule.quota_bytes
        && stored.saturating_add(newest) > quota
    {
        let (stored, quota) = (size(stored), size(quota));
        let said = format!("{stored} are stored, and the quota of {quota} has no room for more");
        found.fault("space.quota", said, hint);
    }
}

/// Whether the clock went back: tokens, schedules and rules all go by it.
fn clock(patient: &Patient, found: &mut Findings) {
    let data = &patient.config.data;
    let now = SystemTime::now();
    let mut paths = vec![data.data_db()];
    let backups = fs::read_dir(data.backups()).into_iter().flatten().flatten();
    paths.extend(backups.map(|entry| entry.path()));
    let ahead = paths.iter().find(|path| {
        let modified = fs::metadata(path).and_then(|meta| meta.modified());
        modified.is_ok_and(|at| at.duration_since(now).is_ok_and(|ahead| ahead > AHEAD_MAX))
    });
    if let Some(path) = ahead {
        let said = format!("{} is of the future: the clock is wrong, or was", path.display());
        found.fault("clock.skew", said, "set the clock (timedatectl), then touch the file");
    }
}

/// What a crash left of backups.
fn partial(patient: &Patient, found: &mut Findings) {
    let entries = fs::read_dir(patient.config.data.backups()).into_iter().flatten().flatten();
    let is_partial = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(PARTIAL_SUFFIX);
    let count = entries.map(|entry| entry.file_name()).filter(is_partial).count();
    if count > 0 && !patient.is_served {
        let said = format!("{count} half-written backups were left by a crash");
        found.doubt("backup.partial", said, "the next start of `pocketvault serve` removes them");
    }
}
