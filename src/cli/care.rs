//! `pocketvault verify`, `drill`, `prune` and `status`: what the server does by itself, by
//! hand. They ask a server, or work on the storage itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::backup::{Backup, Key};
use crate::cli::backup::find;
use crate::cli::list::{rows, text};
use crate::cli::on_runtime;
use crate::cli::output::{Bar, Output, confirm, print, size};
use crate::cli::remote::{Client, ServerOptions, segment};
use crate::cli::storage::bucket;
use crate::clock::Clock;
use crate::config::destination::PRIMARY;
use crate::config::storage::StorageOptions;
use crate::config::{self, FolderOptions, FolderStorage};
use crate::control::Control;
use crate::error::{Error, Kind, Result};
use crate::http::faces::vault::backup_json;
use crate::http::services::destinations_of;
use crate::state::StateDb;
use crate::storage::{LocalStorage, S3Storage, Storage};
use crate::vault::catalog::{Catalog, ProofKind};
use crate::vault::proof::{self, Bench};
use crate::vault::prune::{self, LACKS};
use crate::vault::status::{self, Report};
use crate::vault::{Place, WaitingList};

/// The words for how it stands, the worst last.
const WORDS: [&str; 4] = ["healthy", "delayed", "stale", "failing"];
/// Why nothing is removed where nothing is said.
const NO_RULE: &str = "no rule is set: every backup is kept";

/// Which backup.
#[derive(Debug, Args)]
pub(super) struct ProveOptions {
    /// The key of a backup, or the path of an archive file
    #[arg(value_name = "KEY_OR_FILE")]
    what: String,
    #[command(flatten)]
    server: ServerOptions,
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
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Whose state.
#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// `pocketvault verify` and `pocketvault drill`.
pub(super) fn prove(options: &ProveOptions, kind: ProofKind, output: Output) -> Result<()> {
    let bar = output.bar(match kind {
        ProofKind::Read => "verify",
        ProofKind::Drill => "drill",
    });
    let said = on_runtime(async {
        if let Some(server) = options.server.connect().await? {
            return prove_there(&server, &options.what, kind, &bar).await;
        }
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let control = Control::default();
        if let Some(file) = file_of(&options.what) {
            let (work, data) = (control.clone(), found.data.clone());
            let work = tokio::task::spawn_blocking(move || match kind {
                ProofKind::Read => proof::read(&file, false, &work),
                ProofKind::Drill => proof::drill(&data, &file, &work),
            });
            let stopped = |_| Error::internal("the proving thread stopped");
            return bar.follow(&control, work).await.map_err(stopped)?;
        }
        let key = Key::existing(&options.what)?;
        let (bench, backup) = holder(benches(&found).await?, &key).await?;
        let proof = proof::prove(&bench, &backup, kind, &control);
        let proof = bar.follow(&control, proof).await?;
        match proof.ok {
            true => Ok(proof.said),
            false => Err(Error::new(Kind::Corrupt, proof.said)),
        }
    });
    drop(bar);
    let said = said?;
    let answer = json!({"what": options.what, "kind": kind.as_str(), "ok": true, "said": said});
    output.tell(&answer, format!("good: {said}"))
}

async fn prove_there(server: &Client, what: &str, kind: ProofKind, bar: &Bar) -> Result<String> {
    let way = match kind {
        ProofKind::Read => "verify",
        ProofKind::Drill => "drill",
    };
    let path = format!("api/vault/backups/{}/{way}", segment(Key::existing(what)?.as_str()));
    let id = server.begin(&path, None).await?;
    let result = server.finish(id, bar).await;
    // The record of a job has words only; the backup says whether it is good.
    let proof = find(server, what).await?["proof"].take();
    match (result, proof["ok"].as_bool()) {
        (Ok(_), _) => Ok(text(&proof, "said").to_owned()),
        (Err(_), Some(false)) => Err(Error::new(Kind::Corrupt, text(&proof, "said").to_owned())),
        (Err(error), _) => Err(error),
    }
}

/// `pocketvault prune`, at each destination by its own rules.
pub(super) fn prune(options: &PruneOptions, output: Output) -> Result<()> {
    on_runtime(async {
        if let Some(server) = options.server.connect().await? {
            return prune_there(&server, options, output).await;
        }
        let found = config::folder_storage(&options.folder, &options.storage)?;
        let plan = plan_here(&found).await?;
        if options.dry_run {
            return preview(&plan, output);
        }
        ask(options, &plan)?;
        pruned(&carry_out(&found).await?, output)
    })
}

/// In the form of `GET /api/vault/prune`.
async fn plan_here(found: &FolderStorage) -> Result<Value> {
    let waiting = WaitingList::open(found.data.waiting())?.all();
    let mut each = Vec::new();
    for (place, bench) in benches(found).await? {
        let policy = place.retention.as_ref().unwrap_or(&found.care.retention);
        let (storage, now) = (bench.storage.as_ref(), bench.clock.now());
        let name = place.name.as_ref();
        if waiting.iter().any(|one| one.destinations.contains_key(name)) {
            // It may well be silent: the others are not kept up by it.
            each.push(json!({"name": name, "held": LACKS, "expired": [], "bytes": 0, "kept": 0}));
            continue;
        }
        let pruning = prune::plan(storage, &bench.catalog, policy, now).await?;
        let held = pruning.held.or(policy.is_empty().then(|| NO_RULE.to_owned()));
        let bytes: u64 = pruning.expired.iter().map(|one| one.size_bytes).sum();
        let expired: Vec<Value> = pruning.expired.into_iter().map(backup_json).collect();
        let kept = pruning.kept.len();
        each.push(json!({"name": name, "held": held, "expired": expired, "bytes": bytes,
            "kept": kept}));
    }
    Ok(with_each(each))
}

/// What was removed, in words.
async fn carry_out(found: &FolderStorage) -> Result<Vec<String>> {
    let waiting = WaitingList::open(found.data.waiting())?.all();
    let benches = benches(found).await?;
    let is_one = benches.len() == 1;
    let mut all = Vec::new();
    for (place, bench) in benches {
        let policy = place.retention.as_ref().unwrap_or(&found.care.retention);
        let name = place.name.as_ref();
        let (storage, now, none) = (bench.storage.as_ref(), bench.clock.now(), |_: &Key| false);
        let lines = if policy.is_empty() {
            vec![NO_RULE.to_owned()]
        } else if waiting.iter().any(|one| one.destinations.contains_key(name)) {
            vec![LACKS.to_owned()]
        } else {
            prune::carry_out(storage, &bench.catalog, policy, now, &none).await?.1
        };
        let of = |line: String| if is_one { line } else { format!("{name}: {line}") };
        all.extend(lines.into_iter().map(of));
    }
    Ok(all)
}

async fn prune_there(server: &Client, options: &PruneOptions, output: Output) -> Result<()> {
    let plan = server.get("api/vault/prune").await?;
    if options.dry_run {
        return preview(&plan, output);
    }
    ask(options, &plan)?;
    let id = server.begin("api/vault/prune", None).await?;
    let mut job = server.finish(id, &output.bar("prune")).await?;
    let lines: Vec<String> = rows(job["notes"].take())
        .iter()
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect();
    pruned(&lines, output)
}

/// What is told of each destination; a server tells that of the first at the top, too.
fn each(told: &Value) -> Vec<&Value> {
    told["destinations"].as_array().map_or_else(|| vec![told], |each| each.iter().collect())
}

fn with_each(each: Vec<Value>) -> Value {
    let mut shown = each.first().cloned().unwrap_or_default();
    shown["destinations"] = Value::Array(each);
    shown
}

/// Nobody is asked about nothing.
fn ask(options: &PruneOptions, plan: &Value) -> Result<()> {
    let of = |place: &Value| match place["held"].is_null() {
        true => place["expired"].as_array().map_or(0, Vec::len),
        false => 0,
    };
    let count: usize = each(plan).into_iter().map(of).sum();
    confirm(options.yes || count == 0, &format!("Delete {count} backups for ever?"))
}

fn pruned(lines: &[String], output: Output) -> Result<()> {
    let words = match lines {
        [] => "nothing to remove".to_owned(),
        lines => lines.join("\n"),
    };
    output.tell(&json!({"notes": lines}), words)
}

fn preview(plan: &Value, output: Output) -> Result<()> {
    if output.json {
        return print(plan);
    }
    let each = each(plan);
    for place in &each {
        if each.len() > 1 {
            print(format!("{}:", text(place, "name")))?;
        }
        if let Some(why) = place["held"].as_str() {
            print(format!("nothing would be removed: {why}"))?;
        }
        let expired = place["expired"].as_array().map(Vec::as_slice).unwrap_or_default();
        for one in expired {
            let bytes = size(one["size"].as_u64().unwrap_or_default());
            print(format!("{}  {}  {bytes}", text(one, "key"), text(one, "modified")))?;
        }
        let (bytes, kept) = (size(place["bytes"].as_u64().unwrap_or_default()), &place["kept"]);
        print(format!("{} would go ({bytes}), {kept} stay", expired.len()))?;
    }
    Ok(())
}

/// `pocketvault status`, for monitors: 0 healthy, 1 delayed, 2 stale or failing, 3 not known.
pub(super) fn tell_status(options: &StatusOptions, output: Output) -> ExitCode {
    let told = on_runtime(async {
        let report = match options.server.connect().await? {
            Some(server) => server.get("api/vault/status").await?,
            None => {
                let found = config::folder_storage(&options.folder, &options.storage)?;
                let mut each = Vec::new();
                for (place, bench) in benches(&found).await? {
                    let mut shown = report_of(&bench, found.care.status).await?.to_json();
                    shown["name"] = json!(place.name.as_ref());
                    each.push(shown);
                }
                with_each(each)
            }
        };
        let each = each(&report);
        // The words are in the order of how bad they are.
        let badness = |place: &&Value| WORDS.iter().position(|word| text(place, "health") == *word);
        let worst = each.iter().copied().max_by_key(badness).unwrap_or(&Value::Null);
        let worst = text(worst, "health").to_owned();
        let mut said = worst.clone();
        each.iter().for_each(|place| said.push_str(&stand(place, each.len() == 1)));
        if let Some(next) = report["nextRun"].as_str() {
            said.push_str(&format!("\nnext run: {next}"));
        }
        output.tell(&report, said)?;
        Ok(worst)
    });
    match told.as_deref() {
        Ok("healthy") => ExitCode::SUCCESS,
        Ok("delayed") => ExitCode::from(1),
        Ok("stale" | "failing") => ExitCode::from(2),
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            output.failed(error);
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

/// Of one destination, each line after a line end.
fn stand(report: &Value, is_one: bool) -> String {
    let name = match is_one {
        true => String::new(),
        false => format!("{}: ", text(report, "name")),
    };
    let mut said = String::new();
    for reason in report["reasons"].as_array().into_iter().flatten() {
        said.push_str(&format!("\n{name}{}", reason.as_str().unwrap_or_default()));
    }
    let bytes = |name: &str| size(report[name].as_u64().unwrap_or_default());
    let (count, place) = (&report["count"], text(report, "destination"));
    said.push_str(&format!("\n{name}{count} backups, {}, in {place}", bytes("bytes")));
    if let Some(proven) = report["lastProven"]["key"].as_str() {
        said.push_str(&format!("\n{name}last proven: {proven}"));
    }
    if report["freeBytes"].is_u64() {
        said.push_str(&format!("\n{name}free: {}", bytes("freeBytes")));
    }
    said
}

/// The destinations that the server would use, in its order, each with the catalog.
///
/// # Errors
/// There is neither a folder nor a bucket; the settings, the bucket or our state cannot be used.
async fn benches(found: &FolderStorage) -> Result<Vec<(Place, Bench)>> {
    let clock = Clock::system();
    let is_there = found.data.root().is_dir();
    let storage: Arc<dyn Storage> = match bucket(found).await? {
        Some(options) => Arc::new(S3Storage::new(&options)?),
        None if !is_there => {
            let message = format!("{} does not exist", found.data.root().display());
            return Err(Error::new(Kind::NotFound, message)
                .hint("name the pb_data folder with --dir, or a server with --server"));
        }
        None => Arc::new(LocalStorage::new(found.data.backups())),
    };
    // A look into a bucket makes no folder here.
    let state = match is_there {
        true => StateDb::open(found.data.state(), &clock).await?,
        false => StateDb::in_memory().await?,
    };
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
