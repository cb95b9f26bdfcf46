//! Making a backup: a moment is held, its files are pinned, it is dumped, all is archived.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

use crate::archive::{self, Reuse, WriteOptions};
use crate::backup::{Backup, Key};
use crate::control::{Control, Step};
use crate::error::{Context, Error, Kind, Result};
use crate::source::bosbase::{DUMP, Manifest, Pins, Staging, Whole, named_files, require_bosbase};
use crate::source::postgres::{Dumped, Lock, Programs, Sink, Snapshot, shown_version};
use crate::storage::{PutMode, Storage};
use crate::vault::bridge;
use crate::vault::databases::DatabaseVault;
use crate::vault::databases::bosbase::Bosbase;
use crate::vault::jobs::JobHandle;

/// Moments that are tried until one has all of its files.
const MOMENTS_MAX: u32 = 5;
/// What is left out is named in the job's record up to here.
const NOTES_MAX: usize = 100;

impl DatabaseVault {
    /// Archives database and files under `key`; the sum is that of the archive.
    pub(in crate::vault::databases) async fn archive_bosbase(
        &self,
        bosbase: &Bosbase,
        storage: &dyn Storage,
        key: &Key,
        (job, lock, programs): (&JobHandle, &Lock, &Programs),
    ) -> Result<(Backup, Dumped)> {
        let control = job.control();
        control.enter(Step::Pinning);
        let (data, name) = (bosbase.data.root().to_owned(), self.name().to_owned());
        let staging = blocking(move || Staging::new(&data, &name)).await?;
        let (snapshot, pins) = self.moment(bosbase, &staging, job).await?;
        control.enter(Step::Archiving);
        let dump = staging.path().join(DUMP);
        let dumped = self.dump_into(&dump, &snapshot, programs, control).await;
        snapshot.release().await;
        let dumped = dumped?;
        let mut manifest = Manifest::new(dumped.sha256, dumped.bytes);
        manifest.server_version = shown_version(lock.server_version());
        manifest.program_version = shown_version(programs.version);
        manifest.missing_files = pins.missing.len() as u64;
        manifest.named_files = manifest.missing_files + pins.held_count();
        let manifest = serde_json::to_vec(&manifest).context("cannot write the manifest")?;
        let stored = store(bosbase, storage, key, (manifest, dump, pins), job).await;
        blocking(move || {
            drop(staging);
            Ok(())
        })
        .await?;
        stored
    }

    /// A moment of the database, and the files that its records name, pinned. Where one is not
    /// there that is no longer named a moment later, that later moment is taken.
    async fn moment(
        &self,
        bosbase: &Bosbase,
        staging: &Staging,
        job: &JobHandle,
    ) -> Result<(Snapshot, Pins)> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut snapshot = self.source().snapshot().await?;
            require_bosbase(snapshot.connection()).await?;
            let elsewhere = bosbase.keeps_files_elsewhere(snapshot.connection()).await;
            if matches!(elsewhere, Ok(true)) {
                job.note("uploaded files are in BosBase's own bucket and not in this backup");
                return Ok((snapshot, Pins::default()));
            }
            let files = named_files(snapshot.connection()).await?;
            let (data, folder) = (bosbase.data.root().to_owned(), staging.path().to_owned());
            let control = job.control().clone();
            let pinned = spawn_blocking(move || Pins::take(&data, &files, &folder, &control));
            let pins = pinned.await.context("a thread stopped")??;
            if pins.missing.is_empty() || self.are_still_named(&pins).await? || tries == MOMENTS_MAX
            {
                if let Err(error) = elsewhere {
                    job.note(format!("BosBase's settings cannot be read: {}", error.message()));
                }
                note_missing(job, &pins);
                return Ok((snapshot, pins));
            }
            snapshot.release().await;
        }
    }

    /// Whether all that is missing is named by the records of now: then it is really missing.
    async fn are_still_named(&self, pins: &Pins) -> Result<bool> {
        let mut snapshot = self.source().snapshot().await?;
        let named = named_files(snapshot.connection()).await;
        snapshot.release().await;
        let named = named?;
        Ok(pins.missing.iter().all(|file| named.binary_search(file).is_ok()))
    }

    async fn dump_into(
        &self,
        path: &Path,
        snapshot: &Snapshot,
        programs: &Programs,
        control: &Control,
    ) -> Result<Dumped> {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path).await;
        let mut sink = FileSink(file.context("cannot make the file of the dump")?);
        let dumped = self.source().dump_of(snapshot, programs, &mut sink, control).await?;
        sink.0.flush().await.context("cannot write the dump")?;
        Ok(dumped)
    }
}

fn note_missing(job: &JobHandle, pins: &Pins) {
    if pins.missing.is_empty() {
        return;
    }
    job.incomplete();
    let count = pins.missing.len();
    job.note(format!("{count} files that records name are not there"));
    for file in pins.missing.iter().take(NOTES_MAX) {
        job.note(format!("missing: {file}"));
    }
}

/// Archives everything into the storage.
async fn store(
    bosbase: &Bosbase,
    storage: &dyn Storage,
    key: &Key,
    (manifest, dump, pins): (Vec<u8>, PathBuf, Pins),
    job: &JobHandle,
) -> Result<(Backup, Dumped)> {
    let (mut writer, stream) = bridge::pipe();
    let (data, control) = (bosbase.data.clone(), job.control().clone());
    let worker = spawn_blocking(move || {
        let written = Whole::new(&data, manifest, &dump, pins, &control).and_then(|mut items| {
            let options = WriteOptions { reuse: Reuse::Off, ..WriteOptions::default() };
            archive::write(&mut items, &mut writer as &mut dyn Write, &options, &control)?;
            Ok(items.report())
        });
        match written {
            Ok(report) => {
                writer.finish();
                Some(report)
            }
            Err(error) => {
                writer.fail(error);
                None
            }
        }
    });
    let sum = Arc::new(Mutex::new(Sha256::new()));
    let seen = sum.clone();
    let stream = stream.inspect(move |block| {
        if let Ok(block) = block {
            seen.lock().unwrap_or_else(PoisonError::into_inner).update(block);
        }
    });
    let stored = storage.put(key, stream.boxed(), PutMode::Create).await;
    // The worker's own error travels through the stream; a clean put means it had none.
    let report = worker.await.context("the archiving thread stopped")?;
    let backup = stored?;
    let report = report.ok_or_else(|| Error::internal("an archive without an end"))?;
    if !report.is_complete() {
        job.incomplete();
    }
    for skipped in report.skipped().iter().take(NOTES_MAX) {
        job.note(format!("left out {skipped}"));
    }
    let sum = sum.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
    let sha256 = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((backup.clone(), Dumped { sha256, bytes: backup.size_bytes }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.context("a thread stopped")?
}

/// The dump beside the data.
struct FileSink(tokio::fs::File);

#[async_trait]
impl Sink for FileSink {
    async fn take(&mut self, block: Bytes) -> Result<()> {
        let written = self.0.write_all(&block).await;
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::new(Kind::NoSpace, "There is not enough room beside the data for the dump.")
                    .because(error)
            }
            _ => Error::internal("cannot write the dump").because(error),
        })
    }
}
