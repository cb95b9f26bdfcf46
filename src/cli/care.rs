//! `pocketvault verify`, `drill`, `prune` and `status`: what the server does by itself, by
//! hand. They work
//! on the storage itself, beside a running server or without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::backup::{Backup, Key};
use crate::cli::storage::bucket;
use crate::cli::{failed, on_runtime, print};
use crate::clock::Clock;
use crate::config::destination::PRIMARY;
use crate::config::storage::StorageOptions;
use crate::config::{self, FolderOptions, FolderStorage, Policy};
use crate::control::Control;
use crate::error::{Error, Kind, Result};
use crate::http::services::destinations_of;
use crate::state::StateDb;
use crate::storage::{LocalStorage, S3Storage, Storage};
use crate::vault::catalog::{Catalog, ProofKind};
use crate::vault::proof::{self, Bench};
use crate::vault::prune::{self, LACKS};
use crate::vault::status::{self, Health, Report};
use crate::vault::{Place, WaitingList};

/// Which backup.
#[derive(Debug, Args)]
pub(super) struct ProveOptions {
    /// The key of a backup, or the path of an archive file
    #[arg(value_name = "KEY_OR_FILE")]
    what: String,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// What to remove.
#[derive(Debug, Args)]
pub(super) struct PruneOptions {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// How to tell it.
#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// As JSON, in the form of GET /api/vault/status
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// `pocketvault verify` and `pocketvault drill`.
pub(super) fn prove(options: &ProveOptions, kind: ProofKind) -> Result<()> {
    let said = on_runtime(async {
        let found = config::folder_storage(&options.folder, &options.storage)?;
        if let Some(file) = file_of(&options.what) {
            return match kind {
                ProofKind::Read => proof::read(&file, false, &Control::default()),
                ProofKind::Drill => proof::drill(&found.data, &file, &Control::default()),
            };
        }
        let key = Key::existing(&options.what)?;
        let (bench, backup) = holder(benches(&found).await?, &key).await?;
        let proof = proof::prove(&bench, &backup, kind, &Control::default()).await?;
        match proof.ok {
            true => Ok(proof.said),
            false => Err(Error::new(Kind::Corrupt, proof.said)),
        }
    })?;
    print(format!("good: {said}"))
}

/// `pocketvault prune`, at each destination by its own rules.
pub(super) fn prune(options: &PruneOptions) -> Result<()> {
    on_runtime(async {
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let waiting = WaitingList::open(found.data.waiting())?.all();
        let benches = benches(&found).await?;
        let is_one = benches.len() == 1;
        for (place, bench) in benches {
            let (name, rules) = (place.name.as_ref(), &found.care.retention);
            let policy = place.retention.as_ref().unwrap_or(rules);
            if !is_one {
                print(format!("{name}:"))?;
            }
            if policy.is_empty() {
                print("no rule is set: every backup is kept")?;
            } else if waiting.iter().any(|one| one.destinations.contains_key(name)) {
                print(LACKS)?;
            } else {
                prune_at(&bench, policy, options.dry_run).await?;
            }
        }
        Ok(())
    })
}

async fn prune_at(bench: &Bench, policy: &Policy, dry_run: bool) -> Result<()> {
    let (storage, now) = (bench.storage.as_ref(), bench.clock.now());
    if !dry_run {
        let none = |_: &Key| false;
        let (removed, lines) =
            prune::carry_out(storage, &bench.catalog, policy, now, &none).await?;
        lines.iter().try_for_each(print)?;
        return print(format!("{removed} removed"));
    }
    let pruning = prune::plan(storage, &bench.catalog, policy, now).await?;
    if let Some(why) = &pruning.held {
        print(format!("nothing would be removed: {why}"))?;
    }
    let mut bytes = 0;
    for one in &pruning.expired {
        bytes += one.size_bytes;
        print(format!("{}  {}  {} bytes", one.key, one.made, one.size_bytes))?;
    }
    let (gone, kept) = (pruning.expired.len(), pruning.kept.len());
    print(format!("{gone} would go ({bytes} bytes), {kept} stay"))
}

/// `pocketvault status`, for monitors: 0 healthy, 1 delayed, 2 stale or failing, 3 not known.
pub(super) fn tell_status(options: &StatusOptions) -> ExitCode {
    let told = on_runtime(async {
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let mut reports = Vec::new();
        for (place, bench) in benches(&found).await? {
            reports.push((place, report_of(&bench, found.care.status).await?));
        }
        if options.json {
            print(shown(&reports))?;
            return Ok(worst(&reports));
        }
        print(worst(&reports).as_str())?;
        let is_one = reports.len() == 1;
        for (place, report) in &reports {
            let of = |line: &String| match is_one {
                true => print(line),
                false => print(format!("{}: {line}", place.name)),
            };
            report.reasons.iter().try_for_each(of)?;
            let (count, bytes) = (report.count, report.bytes);
            print(format!("{count} backups of {bytes} bytes in {}", report.place))?;
        }
        Ok(worst(&reports))
    });
    match told {
        Ok(Health::Healthy) => ExitCode::SUCCESS,
        Ok(Health::Delayed) => ExitCode::from(1),
        Ok(Health::Stale | Health::Failing) => ExitCode::from(2),
        Err(error) => {
            failed(&error);
            ExitCode::from(3)
        }
    }
}

async fn report_of(bench: &Bench, rule: config::Status) -> Result<Report> {
    let (storage, place) = (bench.storage.as_ref(), bench.storage.place());
    let known = bench.catalog.about(&place, &storage.list().await?).await?;
    let free = status::free_beside(storage, &known);
    Ok(status::judge(place, &known, None, free, rule, bench.clock.now()))
}

fn worst(reports: &[(Place, Report)]) -> Health {
    reports.iter().map(|(_, report)| report.health).max().unwrap_or(Health::Stale)
}

/// In the form of `GET /api/vault/status`.
fn shown(reports: &[(Place, Report)]) -> Value {
    let tell = |(place, report): &(Place, Report)| {
        let mut shown = report.to_json();
        shown["name"] = json!(place.name.as_ref());
        shown
    };
    let each: Vec<Value> = reports.iter().map(tell).collect();
    let mut shown = each.first().cloned().unwrap_or_default();
    shown["destinations"] = Value::Array(each);
    shown
}

/// The destinations that the server would use, in its order, each with the catalog.
async fn benches(found: &FolderStorage) -> Result<Vec<(Place, Bench)>> {
    let clock = Clock::system();
    let storage: Arc<dyn Storage> = match bucket(found).await? {
        Some(options) => Arc::new(S3Storage::new(&options)?),
        None => Arc::new(LocalStorage::new(found.data.backups())),
    };
    let state = StateDb::open(found.data.state(), &clock).await?;
    let catalog = Catalog::new(Some(state));
    let bench = |place: Place| {
        let (storage, data) = (place.storage.clone(), found.data.clone());
        let bench = Bench { storage, data, catalog: catalog.clone(), clock: clock.clone() };
        (place, bench)
    };
    let first = std::iter::once(Place::new(PRIMARY, storage));
    Ok(first.chain(destinations_of(&found.storage, &found.data)).map(bench).collect())
}

/// The first destination that has a backup.
async fn holder(benches: Vec<(Place, Bench)>, key: &Key) -> Result<(Bench, Backup)> {
    let mut failed = None;
    for (_, bench) in benches {
        match bench.storage.head(key).await {
            Ok(backup) => return Ok((bench, backup)),
            // That one cannot be asked says more than that another has it not.
            Err(error) if error.kind() == &Kind::NotFound => failed = failed.or(Some(error)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(Kind::NotFound, format!("there is no backup {key}"))))
}

/// A path rather than a key: it leads somewhere, or there is a file of that name here.
fn file_of(what: &str) -> Option<PathBuf> {
    let path = Path::new(what);
    (what.contains('/') || path.is_file()).then(|| path.to_owned())
}
