//! Making a backup: pin the source, archive it into a stream, store the stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::{self, Ledger, Previous, Reuse, WriteOptions};
use crate::backup::{Backup, Key};
use crate::config::destination::SpoolWhen;
use crate::control::{Control, Step};
use crate::data_dir::DataDir;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::bridge::{self, BlockWriter};
use crate::vault::flight::{Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::lock::Held;
use crate::vault::losses::Maker;
use crate::vault::places::Place;
use crate::vault::spool::may_pass;
use crate::vault::spread::{self, Sent};

/// Counters tried behind a generated name that is taken.
const NUMBERS_MAX: u32 = 100;
/// Skipped entries that a job record names one by one.
const NOTES_MAX: usize = 100;

/// How long the size of a source may be looked at before the work begins.
const ESTIMATE_TIME: Duration = Duration::from_millis(200);

/// Which name a new backup gets.
#[derive(Debug, Clone)]
pub(super) enum Name {
    /// This one; taken is an error.
    Chosen(Key),
    /// This one, or the next free one like it.
    Generated(Key),
}

/// A backup that may begin: the flight is taken, the name is free.
#[derive(Debug)]
pub struct Creating {
    vault: Arc<Vault>,
    key: Key,
    method: Method,
    label: String,
    job: JobHandle,
    held: Held,
    ticket: Ticket,
}

impl Vault {
    /// Takes the flight and a name for a new backup; without `chosen` a name is generated
    /// from `app_name`.
    ///
    /// # Errors
    /// [`Kind::Busy`], [`Kind::Exists`] for a chosen name, [`Kind::NoSpace`], or the storage's
    /// own when it cannot be asked.
    pub async fn begin_create(
        self: &Arc<Self>,
        chosen: Option<Key>,
        app_name: &str,
        method: Method,
    ) -> Result<Creating> {
        let scheduled = method == Method::Scheduled;
        let name = match chosen {
            Some(key) => Name::Chosen(key),
            None => Name::Generated(Key::generate(app_name, self.clock.now(), scheduled)),
        };
        let (Name::Chosen(wanted) | Name::Generated(wanted)) = &name;
        let ticket = self.flight.begin(Operation::Create, wanted)?;
        let key = free_key_everywhere(self, name).await?;
        self.require_room().await?;
        ticket.rename(&key);
        // Last: nothing can fail between taking it and keeping it.
        let lease = self.lock().await?;
        let job = self.jobs.open(JobKind::Create, method, &key);
        let held = Held::keep(lease, job.control());
        let (vault, label) = (self.clone(), String::new());
        Ok(Creating { vault, key, method, label, job, held, ticket })
    }
}

impl Creating {
    /// The number of its job.
    pub fn job(&self) -> u64 {
        self.job.id()
    }

    /// The same, with a few words about why it is made.
    #[must_use]
    pub fn labelled(mut self, label: String) -> Self {
        self.label = label;
        self
    }

    /// The key it will have.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Does the work on the main runtime; whoever waits may leave.
    pub fn spawn(self) -> JoinHandle<Result<Backup>> {
        let runtime = self.vault.runtime.clone();
        runtime.spawn(async move {
            let started = Instant::now();
            let result = self.run().await;
            if let Ok(made) = &result {
                let backup = &made.backup;
                tracing::info!(
                    key = %backup.key,
                    size_bytes = backup.size_bytes,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "made a backup"
                );
            }
            self.held.release().await;
            let (result, places) = match result {
                Ok(made) => (Ok(made.backup), made.places),
                Err(error) => (Err(error), Vec::new()),
            };
            // First: whoever sees that it ended may begin the next.
            drop(self.ticket);
            self.job.finish(&result).await;
            if let Ok(backup) = &result {
                self.vault.prove_new(&backup.key, &places).await;
            }
            result
        })
    }

    async fn run(&self) -> Result<Made> {
        let (job, method, label) = (self.job.id(), self.method, self.label.clone());
        let maker = Maker { job, method, label };
        let mut made = make(&self.vault, &self.key, &self.job, &maker).await?;
        if !made.complete {
            self.job.incomplete();
        }
        if let (Some(ledger), Some(archive)) = (made.ledger.take(), &made.archive) {
            let (data, key) = (self.vault.data.clone(), self.key.clone());
            let archive = archive.clone();
            let kept = spawn_blocking(move || keep(&ledger, &data, &key, &archive));
            kept.await.context("the thread that keeps the ledger stopped")?;
        }
        Ok(made)
    }
}

/// A backup that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) backup: Backup,
    /// Whether it counts as a good one.
    complete: bool,
    /// What is lost in it beyond missing files, if anything is.
    pub(super) worse: Option<String>,
    /// Which destinations have it.
    places: Vec<Place>,
    ledger: Option<Ledger>,
    /// Its file, where the next one may take over from it.
    archive: Option<PathBuf>,
}

/// Archives everything into a new backup at every destination that has room, in one pass. When
/// none takes it, it is made once more into the spool, and waits there.
///
/// # Errors
/// The source's own; that of the first destination when nobody has the backup;
/// [`Kind::Unavailable`] with `vault::WAITS` when only the spool has it.
pub(super) async fn make(
    vault: &Arc<Vault>,
    key: &Key,
    job: &JobHandle,
    maker: &Maker,
) -> Result<Made> {
    let (mut places, full) = vault.places_with_room().await;
    let spool = vault.spool_place().filter(|_| vault.needs_spool());
    if vault.spool_when() == SpoolWhen::Always {
        places.extend(spool.clone());
    }
    let (mut sent, mut outcome) = pass(vault, &places, key, job.control()).await?;
    sent.failed.extend(full);
    if sent.kept.is_empty()
        && let Some(spool) = spool.filter(|_| vault.spool_when() == SpoolWhen::Failure)
        && let Some((_, first)) = sent.failed.iter().find(|(_, error)| may_pass(error))
    {
        tracing::warn!(%key, "no destination took the backup: it is made anew, into the spool");
        job.note(format!("no destination took it: {first}"));
        vault.require_spool_room()?;
        let (spooled, again) = pass(vault, &[spool], key, job.control()).await?;
        sent.kept = spooled.kept;
        sent.failed.extend(spooled.failed);
        outcome = again;
    }
    let complete = vault.record(&sent.kept, &outcome, maker).await;
    let worse = outcome.worse.then(|| outcome.notes.first().cloned().unwrap_or_default());
    outcome.notes.into_iter().for_each(|note| job.note(note));
    let kept = vault.settle(sent, key, job).await?;
    let local = kept.places.iter().find_map(|place| place.storage.local_path(key));
    let (backup, places, ledger) = (kept.backup, kept.places, outcome.ledger);
    Ok(Made { backup, complete, worse, places, ledger, archive: local })
}

/// One pass over the source.
async fn pass(
    vault: &Arc<Vault>,
    places: &[Place],
    key: &Key,
    control: &Control,
) -> Result<(Sent, Outcome)> {
    let (writer, stream) = bridge::pipe();
    let (at_work, control, from) = (vault.clone(), control.clone(), places.to_vec());
    let worker = spawn_blocking(move || {
        let reuse = reuse(&at_work, &from);
        archive_into(writer, &at_work, reuse, &control)
    });
    let mut sent = spread::send(stream, places, key).await;
    let outcome = worker.await.context("the archiving thread stopped")?;
    // The worker's own error travels through the stream.
    match sent.broken.take() {
        Some(error) => Err(error),
        None => Ok((sent, outcome)),
    }
}

/// What the new archive may take over. That it may take nothing is no error.
fn reuse(vault: &Vault, places: &[Place]) -> Reuse {
    // Only what lies on a local disk is read again sooner than it is compressed.
    let local = places.iter().find(|place| place.is_local());
    let Some(local) = local.filter(|_| !matches!(vault.archive.reuse, Reuse::Off)) else {
        return Reuse::Off;
    };
    let storage = &local.storage;
    match Previous::open(&vault.data.ledger(), |key| storage.local_path(key)) {
        Ok(previous) => previous.map_or(Reuse::First, Reuse::From),
        Err(error) => {
            tracing::warn!(error = error.full(), "everything is compressed anew");
            Reuse::First
        }
    }
}

/// Keeps the ledger for the next archive. Best effort: without it that one only takes longer.
fn keep(ledger: &Ledger, data: &DataDir, key: &Key, archive: &Path) {
    let at = data.ledger();
    let kept =
        ledger.keep(&at, key, archive).and_then(|()| fsx::give_to_owner_of(data.root(), &at));
    if let Err(error) = kept {
        tracing::warn!(error = error.full(), "the next backup compresses everything anew");
    }
}

/// What an archive holds and what not.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) notes: Vec<String>,
    /// Files that records name and that are not there.
    pub(super) missing: u64,
    /// Whether anything else is lost.
    pub(super) worse: bool,
    ledger: Option<Ledger>,
}

/// Archives everything into the writer.
fn archive_into(
    mut writer: BlockWriter,
    vault: &Vault,
    reuse: Reuse,
    control: &Control,
) -> Outcome {
    match write_archive(&mut writer, vault, reuse, control) {
        Ok(outcome) => {
            writer.finish();
            outcome
        }
        Err(error) => {
            writer.fail(error);
            Outcome::default()
        }
    }
}

fn write_archive(
    writer: &mut BlockWriter,
    vault: &Vault,
    reuse: Reuse,
    control: &Control,
) -> Result<Outcome> {
    let before = match &reuse {
        Reuse::From(previous) => Some(previous.key().clone()),
        _ => None,
    };
    let options = WriteOptions { reuse, ..vault.archive.clone() };
    control.enter(Step::Pinning);
    let estimate = vault.source.estimate(ESTIMATE_TIME)?;
    control.expect(estimate.bytes, estimate.entries);
    let mut snapshot = vault.source.pin(control)?;
    control.enter(Step::Archiving);
    let summary = archive::write(&mut snapshot, writer, &options, control)?;
    let of_archive =
        summary.skipped.iter().map(|entry| format!("{}: {}", entry.path, entry.reason));
    let of_source = snapshot.skipped().into_iter().map(|entry| entry.to_string());
    let mut notes: Vec<String> =
        of_archive.chain(of_source).map(|entry| format!("left out {entry}")).collect();
    let left_out = notes.len();
    if left_out > 0 {
        tracing::warn!(left_out, first = notes[0], "the backup leaves files out");
    }
    if left_out > NOTES_MAX {
        notes.truncate(NOTES_MAX);
        notes.push(format!("… and {} more", left_out - NOTES_MAX));
    }
    if let Some(before) = before.filter(|_| summary.spoiled_pieces > 0) {
        let pieces = summary.spoiled_pieces;
        tracing::error!(key = %before, pieces, "the backup before is damaged on the disk");
        notes.push(format!("the backup {before} is damaged; this one took nothing damaged over"));
    }
    tracing::debug!(bytes = summary.bytes_in, reused = summary.reused_bytes, "archived");
    let report = snapshot.report();
    let (missing, worse) = (report.missing(), report.has_worse());
    Ok(Outcome { notes, missing, worse, ledger: summary.ledger })
}

/// The name if it is free in the storage; for a generated one the next free one.
pub(super) async fn free_key(storage: &dyn Storage, name: Name) -> Result<Key> {
    for key in candidates(&name) {
        match storage.head(&key).await {
            Ok(_) => {}
            Err(error) if error.kind() == &Kind::NotFound => return Ok(key),
            Err(error) => return Err(error),
        }
    }
    Err(taken(&name))
}

/// As [`free_key`], free at every destination.
pub(super) async fn free_key_everywhere(vault: &Vault, name: Name) -> Result<Key> {
    for key in candidates(&name) {
        if vault.is_free(&key).await? {
            return Ok(key);
        }
    }
    Err(taken(&name))
}

/// The keys that a name allows.
fn candidates(name: &Name) -> impl Iterator<Item = Key> {
    let (Name::Chosen(key) | Name::Generated(key)) = name;
    let last = if matches!(name, Name::Chosen(_)) { 0 } else { NUMBERS_MAX };
    let numbered = key.clone();
    std::iter::once(key.clone()).chain((2..=last).map(move |n| numbered.numbered(n)))
}

fn taken(name: &Name) -> Error {
    let message = match name {
        Name::Chosen(key) => format!("a backup {key} exists already"),
        Name::Generated(key) => format!("{key} and all names like it are taken"),
    };
    Error::new(Kind::Exists, message)
}
