//! `pocketvault verify`, `drill`, `prune` and `status`: what the server does by itself, by
//! hand. They work
//! on the storage itself, beside a running server or without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::backup::Key;
use crate::cli::storage::bucket;
use crate::cli::{failed, on_runtime, print};
use crate::clock::Clock;
use crate::config::storage::StorageOptions;
use crate::config::{self, FolderOptions, FolderStorage};
use crate::control::Control;
use crate::error::{Error, Kind, Result};
use crate::state::StateDb;
use crate::storage::{LocalStorage, S3Storage, Storage};
use crate::vault::catalog::{Catalog, ProofKind};
use crate::vault::proof::{self, Bench};
use crate::vault::prune;
use crate::vault::status::{self, Health};

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
        let bench = bench(&found).await?;
        let backup = bench.storage.head(&key).await?;
        let proof = proof::prove(&bench, &backup, kind, &Control::default()).await?;
        match proof.ok {
            true => Ok(proof.said),
            false => Err(Error::new(Kind::Corrupt, proof.said)),
        }
    })?;
    print(format!("good: {said}"))
}

/// `pocketvault prune`.
pub(super) fn prune(options: &PruneOptions) -> Result<()> {
    on_runtime(async {
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let (bench, policy) = (bench(&found).await?, found.care.retention);
        if policy.is_empty() {
            return print("no rule is set: every backup is kept");
        }
        let (storage, now) = (bench.storage.as_ref(), bench.clock.now());
        if !options.dry_run {
            let none = |_: &Key| false;
            let (removed, lines) =
                prune::carry_out(storage, &bench.catalog, &policy, now, &none).await?;
            lines.iter().try_for_each(print)?;
            return print(format!("{removed} removed"));
        }
        let pruning = prune::plan(storage, &bench.catalog, &policy, now).await?;
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
    })
}

/// `pocketvault status`, for monitors: 0 healthy, 1 delayed, 2 stale or failing, 3 not known.
pub(super) fn tell_status(options: &StatusOptions) -> ExitCode {
    let told = on_runtime(async {
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let bench = bench(&found).await?;
        let (storage, place) = (bench.storage.as_ref(), bench.storage.place());
        let known = bench.catalog.about(&place, &storage.list().await?).await?;
        let free = status::free_beside(storage, &known);
        let report = status::judge(place, &known, None, free, found.care.status, bench.clock.now());
        if options.json {
            print(report.to_json())?;
        } else {
            print(report.health.as_str())?;
            report.reasons.iter().try_for_each(print)?;
            let (count, bytes) = (report.count, report.bytes);
            print(format!("{count} backups of {bytes} bytes in {}", report.place))?;
        }
        Ok(report.health)
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

/// The storage that the server would use, and the catalog.
async fn bench(found: &FolderStorage) -> Result<Bench> {
    let clock = Clock::system();
    let storage: Arc<dyn Storage> = match bucket(found).await? {
        Some(options) => Arc::new(S3Storage::new(&options)?),
        None => Arc::new(LocalStorage::new(found.data.backups())),
    };
    let state = StateDb::open(found.data.state(), &clock).await?;
    let catalog = Catalog::new(Some(state));
    Ok(Bench { storage, data: found.data.clone(), catalog, clock })
}

/// A path rather than a key: it leads somewhere, or there is a file of that name here.
fn file_of(what: &str) -> Option<PathBuf> {
    let path = Path::new(what);
    (what.contains('/') || path.is_file()).then(|| path.to_owned())
}
