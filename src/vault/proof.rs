//! Proving backups: read back from where they are kept and checked, or really restored into a
//! scratch folder. What was found out stands in the catalog.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::{Limits, Reader};
use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::control::{Control, Step};
use crate::data_dir::{DATA_DB, DataDir};
use crate::error::{Context, Error, Kind, Result};
use crate::restore;
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::catalog::{Catalog, Known, Proof, ProofKind};
use crate::vault::fetch::Archive;
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::places::Place;

/// Nobody waits for a proof: it leaves the other cores to those that somebody waits for.
const THREADS: Option<NonZeroUsize> = NonZeroUsize::new(1);
/// How much of a file is hashed at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// What a proof works with.
#[derive(Debug, Clone)]
pub struct Bench {
    /// Where backups are kept.
    pub storage: Arc<dyn Storage>,
    /// Whose state folder is the scratch place.
    pub data: DataDir,
    /// Where the proof is kept.
    pub catalog: Catalog,
    /// The time.
    pub clock: Clock,
}

/// A proof that may begin: the backup is there.
#[derive(Debug)]
pub struct Proving {
    vault: Arc<Vault>,
    bench: Bench,
    backup: Backup,
    kind: ProofKind,
    job: JobHandle,
}

impl Vault {
    /// Opens a job that proves the nearest `key`. It needs no flight: it changes nothing that
    /// counts.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or the storage's own when it cannot be asked.
    pub async fn begin_proof(
        self: &Arc<Self>,
        key: &Key,
        kind: ProofKind,
        method: Method,
    ) -> Result<Proving> {
        let (place, _) = self.nearest(key).await?;
        self.begin_proof_at(&place, key, kind, method).await
    }

    /// As [`Vault::begin_proof`], at one place.
    ///
    /// # Errors
    /// As [`Vault::begin_proof`].
    pub(super) async fn begin_proof_at(
        self: &Arc<Self>,
        place: &Place,
        key: &Key,
        kind: ProofKind,
        method: Method,
    ) -> Result<Proving> {
        let bench = self.bench_at(place);
        let backup = bench.storage.head(key).await?;
        let job = match kind {
            ProofKind::Read => JobKind::Verify,
            ProofKind::Drill => JobKind::Drill,
        };
        let job = self.jobs().open(job, method, key);
        if !self.beside.places.is_empty() {
            job.note(format!("of {}", place.name));
        }
        Ok(Proving { vault: self.clone(), bench, backup, kind, job })
    }

    /// What proofs at a place work with.
    fn bench_at(&self, place: &Place) -> Bench {
        Bench {
            storage: place.storage.clone(),
            data: self.data().clone(),
            catalog: self.catalog().clone(),
            clock: self.clock().clone(),
        }
    }

    /// Reads a new backup back from everywhere, if that is wanted. Best effort to begin with:
    /// the next round comes to it anyway.
    pub(super) async fn prove_new(self: &Arc<Self>, key: &Key, places: &[Place]) {
        if !self.care().proof.after_backup {
            return;
        }
        for place in places {
            match self.begin_proof_at(place, key, ProofKind::Read, Method::Scheduled).await {
                Ok(proving) => drop(proving.spawn()),
                Err(error) => {
                    tracing::error!(%key, error = error.full(), "a new backup was not read back");
                }
            }
        }
    }
}

impl Proving {
    /// The number of its job.
    pub fn job(&self) -> u64 {
        self.job.id()
    }

    /// Does the work on the main runtime. The job fails when the backup does.
    pub fn spawn(self) -> JoinHandle<Result<Proof>> {
        let runtime = self.vault.runtime().clone();
        runtime.spawn(async move {
            let control = self.job.control().clone();
            // One at a time: two would only fight for the disk.
            let turn = self.vault.proofs().lock().await;
            let result = match control.check() {
                Ok(()) => prove(&self.bench, &self.backup, self.kind, &control).await,
                Err(error) => Err(error),
            };
            drop(turn);
            let result = result.and_then(|proof| match proof.ok {
                true => Ok(proof),
                false => Err(Error::new(Kind::Corrupt, proof.said)
                    .hint("make a new backup now; this one is not counted as good any more")),
            });
            if let Ok(proof) = &result {
                self.job.note(proof.said.clone());
            }
            self.job.finish(&result).await;
            result
        })
    }
}

/// Proves one backup and keeps the result. A bad backup is a proof that is not `ok`, not an
/// error.
///
/// # Errors
/// What kept us from finding out: [`Kind::NoSpace`], [`Kind::Cancelled`], the storage's own.
pub async fn prove(
    bench: &Bench,
    backup: &Backup,
    kind: ProofKind,
    control: &Control,
) -> Result<Proof> {
    let place = bench.storage.place();
    let mut known = bench.catalog.find(&place, backup).await?;
    let (found, sha256) = match examine(bench, backup, &known, kind, control).await {
        Ok((said, sha256)) => (Ok(said), Some(sha256)),
        Err(error) if error.kind() == &Kind::Corrupt => (Err(error), None),
        Err(error) => return Err(error),
    };
    let when = bench.clock.now();
    let proof = match found {
        Ok(said) => Proof { when, kind, ok: true, said },
        Err(error) => {
            tracing::error!(key = %backup.key, error = error.full(), "A BACKUP IS DAMAGED");
            Proof { when, kind, ok: false, said: error.message().to_owned() }
        }
    };
    // It may have been pinned, or be gone, since.
    let pinned = bench.catalog.find(&place, backup).await?.pinned;
    known = Known { sha256: known.sha256.or(sha256), pinned, proof: Some(proof.clone()), ..known };
    bench.catalog.save(&place, &known).await?;
    Ok(proof)
}

/// What was found, in words, and the checksum of the archive.
async fn examine(
    bench: &Bench,
    backup: &Backup,
    known: &Known,
    kind: ProofKind,
    control: &Control,
) -> Result<(String, String)> {
    let archive = Archive::of(bench.storage.as_ref(), backup, &bench.data, control).await?;
    let (data, control, expected) = (bench.data.clone(), control.clone(), known.sha256.clone());
    let made_here = known.job.is_some();
    let work = move || {
        let sha256 = hash(archive.path(), &control)?;
        if expected.is_some_and(|expected| expected != sha256) {
            return Err(damaged("it is not the archive that was proven before"));
        }
        let said = match kind {
            ProofKind::Read => read(archive.path(), made_here, &control)?,
            ProofKind::Drill => drill(&data, archive.path(), &control)?,
        };
        Ok((said, sha256))
    };
    spawn_blocking(work).await.context("the proving thread stopped")?
}

/// Reads every entry of an archive and checks it.
///
/// # Errors
/// [`Kind::Corrupt`] with what is wrong.
pub fn read(archive: &Path, is_ours: bool, control: &Control) -> Result<String> {
    control.enter(Step::Checking);
    let reader = Reader::open(archive, &Limits::default())?;
    if is_ours && reader.find(DATA_DB.as_bytes()).is_none() {
        return Err(damaged("it holds no data.db"));
    }
    control.expect(reader.total_bytes(), reader.entries().len() as u64);
    let verified = reader.verify(THREADS, control)?;
    Ok(format!("read {} entries of {} bytes", verified.entries, verified.bytes))
}

/// Restores an archive into a scratch folder and counts.
///
/// # Errors
/// [`Kind::Corrupt`] with what is wrong, [`Kind::NoSpace`].
pub fn drill(data: &DataDir, archive: &Path, control: &Control) -> Result<String> {
    let found = restore::rehearse(data, archive, control)?;
    let mut said = format!(
        "restored {} collections, {} records, {} files; {} superusers could log in",
        found.collections, found.records, found.files, found.superusers
    );
    if found.skipped > 0 {
        said.push_str(&format!("; {} strange entries were left out", found.skipped));
    }
    Ok(said)
}

/// SHA-256 of a file, in lower-case hex.
fn hash(path: &Path, control: &Control) -> Result<String> {
    use std::io::Read;
    const FAILED: &str = "cannot read the archive";
    control.enter(Step::Checking);
    let mut file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::NotFound, "the backup is gone"),
        _ => Error::internal(FAILED).because(error),
    })?;
    let (mut block, mut hasher) = (vec![0; BLOCK_BYTES], Sha256::new());
    loop {
        control.check()?;
        match file.read(&mut block).context(FAILED)? {
            0 => break,
            n => hasher.update(&block[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the backup is damaged: {what}"))
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
