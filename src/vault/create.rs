//! Making a backup: pin the source, archive it into a stream, store the stream.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::{self, Ledger, Previous, Reuse, WriteOptions};
use crate::backup::{Backup, Key};
use crate::control::{Control, Step};
use crate::data_dir::DataDir;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::storage::{PutMode, Storage};
use crate::vault::Vault;
use crate::vault::bridge::{self, BlockWriter};
use crate::vault::flight::{Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::losses::Maker;

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
    storage: Arc<dyn Storage>,
    key: Key,
    method: Method,
    label: String,
    job: JobHandle,
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
        let storage = self.storage();
        let key = free_key(storage.as_ref(), name).await?;
        self.require_room(storage.as_ref()).await?;
        ticket.rename(&key);
        let job = self.jobs.open(JobKind::Create, method, &key);
        let (vault, label) = (self.clone(), String::new());
        Ok(Creating { vault, storage, key, method, label, job, ticket })
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
            if let Ok(backup) = &result {
                tracing::info!(
                    key = %backup.key,
                    size_bytes = backup.size_bytes,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "made a backup"
                );
            }
            self.job.finish(&result).await;
            drop(self.ticket);
            if let Ok(backup) = &result
                && self.vault.care().proof.after_backup
            {
                self.vault.prove_new(&backup.key).await;
            }
            result
        })
    }

    async fn run(&self) -> Result<Backup> {
        let control = self.job.control();
        let (backup, outcome) = store(&self.vault, &self.storage, &self.key, control).await?;
        let (job, method, label) = (self.job.id(), self.method, self.label.clone());
        let maker = Maker { job, method, label };
        let complete = self.vault.record(&self.storage, &backup, &outcome, maker).await;
        for note in outcome.notes {
            self.job.note(note);
        }
        if !complete {
            self.job.incomplete();
        }
        if let (Some(ledger), Some(archive)) = (outcome.ledger, self.storage.local_path(&self.key))
        {
            let (data, key) = (self.vault.data.clone(), self.key.clone());
            let kept = spawn_blocking(move || keep(&ledger, &data, &key, &archive));
            kept.await.context("the thread that keeps the ledger stopped")?;
        }
        Ok(backup)
    }
}

/// Archives everything into a new backup.
pub(super) async fn store(
    vault: &Arc<Vault>,
    storage: &Arc<dyn Storage>,
    key: &Key,
    control: &Control,
) -> Result<(Backup, Outcome)> {
    let (writer, stream) = bridge::pipe();
    let (vault, control, from) = (vault.clone(), control.clone(), storage.clone());
    let worker = spawn_blocking(move || {
        let reuse = reuse(&vault, from.as_ref());
        archive_into(writer, &vault, reuse, &control)
    });
    let stored = storage.put(key, stream, PutMode::Create).await;
    let outcome = worker.await.context("the archiving thread stopped")?;
    // The worker's own error travels through the stream; a clean put means it had none.
    Ok((stored?, outcome))
}

/// What the new archive may take over. That it may take nothing is no error.
fn reuse(vault: &Vault, storage: &dyn Storage) -> Reuse {
    // Only what lies on a local disk is read again sooner than it is compressed.
    let local = storage.local_path(&Key::generate("", vault.clock.now(), false));
    if matches!(vault.archive.reuse, Reuse::Off) || local.is_none() {
        return Reuse::Off;
    }
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

/// The name if it is free; for a generated one the next free one.
pub(super) async fn free_key(storage: &dyn Storage, name: Name) -> Result<Key> {
    match name {
        Name::Chosen(key) => match is_free(storage, &key).await? {
            true => Ok(key),
            false => Err(Error::new(Kind::Exists, format!("a backup {key} exists already"))),
        },
        Name::Generated(key) => {
            if is_free(storage, &key).await? {
                return Ok(key);
            }
            for n in 2..=NUMBERS_MAX {
                let numbered = key.numbered(n);
                if is_free(storage, &numbered).await? {
                    return Ok(numbered);
                }
            }
            Err(Error::new(Kind::Exists, format!("{key} and all names like it are taken")))
        }
    }
}

async fn is_free(storage: &dyn Storage, key: &Key) -> Result<bool> {
    match storage.head(key).await {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == &Kind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
