//! Making a dump: one stream from `pg_dump` into the storage, read back on its way.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::backup::{Backup, Key};
use crate::control::Step;
use crate::error::{Error, Result};
use crate::source::postgres::{Dumped, Lock, Programs, Sink, shown_version};
use crate::storage::{PutMode, Storage};
use crate::vault::bridge::{self, BlockSender};
use crate::vault::create::{Name, free_key};
use crate::vault::databases::{DatabaseVault, Held, Proof, note_cause};
use crate::vault::flight::Operation;
use crate::vault::jobs::{JobHandle, JobKind, Method};

/// A dump that may begin: all locks are taken, the name is free, the server answers.
#[derive(Debug)]
pub struct CreatingDump {
    vault: Arc<DatabaseVault>,
    storage: Arc<dyn Storage>,
    key: Key,
    job: JobHandle,
    lock: Lock,
    held: Held,
}

impl DatabaseVault {
    /// Takes the locks and a name for a new dump; without `chosen` a name is generated.
    ///
    /// # Errors
    /// [`crate::error::Kind::Busy`], [`crate::error::Kind::Exists`] for a chosen name;
    /// [`crate::error::Kind::Unavailable`] when the server or the storage cannot be asked: the
    /// record of the job says why.
    pub async fn begin_create(
        self: &Arc<Self>,
        chosen: Option<Key>,
        method: Method,
    ) -> Result<CreatingDump> {
        self.begin_create_in(self.storage.clone(), chosen, method).await
    }

    /// As [`DatabaseVault::begin_create`], into another place than its own.
    ///
    /// # Errors
    /// As there.
    pub async fn begin_create_in(
        self: &Arc<Self>,
        storage: Arc<dyn Storage>,
        chosen: Option<Key>,
        method: Method,
    ) -> Result<CreatingDump> {
        let name = match chosen {
            Some(key) => Name::Chosen(key),
            None => Name::Generated(self.generated()),
        };
        let (Name::Chosen(wanted) | Name::Generated(wanted)) = &name;
        let held = self.hold(Operation::Create, wanted).await?;
        let key = free_key(storage.as_ref(), name).await?;
        held.ticket.rename(&key);
        let (lock, job) = self.begin(JobKind::Create, method, &key).await?;
        Ok(CreatingDump { vault: self.clone(), storage, key, job, lock, held })
    }
}

impl CreatingDump {
    /// The number of its job.
    pub fn job(&self) -> u64 {
        self.job.id()
    }

    /// The key it will have.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Does the work on the main runtime; whoever waits may leave.
    pub fn spawn(self) -> JoinHandle<Result<(Backup, Proof)>> {
        let runtime = self.vault.runtime.clone();
        runtime.spawn(async move {
            let started = Instant::now();
            let result = self.run().await;
            match &result {
                Ok((backup, _)) => tracing::info!(
                    database = self.vault.name,
                    key = %backup.key,
                    size_bytes = backup.size_bytes,
                    duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "made a dump"
                ),
                Err(error) => note_cause(&self.job, error),
            }
            // The locks first: who hears of the end may begin anew.
            self.lock.release().await;
            drop(self.held);
            self.job.finish(&result).await;
            result
        })
    }

    async fn run(&self) -> Result<(Backup, Proof)> {
        let vault = &self.vault;
        let found = vault.source.programs().await;
        let programs = Programs::for_dump(&found, self.lock.server_version())?;
        self.job.control().enter(Step::Archiving);
        let (backup, dumped) = match &vault.bosbase {
            Some(bosbase) => {
                let with = (&self.job, &self.lock, programs);
                vault.archive_bosbase(bosbase, self.storage.as_ref(), &self.key, with).await?
            }
            None => self.transfer(programs).await?,
        };
        let proof = Proof {
            sha256: dumped.sha256,
            bytes: dumped.bytes,
            server_version: shown_version(self.lock.server_version()),
            program_version: shown_version(programs.version),
        };
        self.job.note(format!(
            "server {}, pg_dump {}, SHA-256 {}",
            proof.server_version, proof.program_version, proof.sha256
        ));
        if backup.size_bytes != proof.bytes {
            let (stored, made) = (backup.size_bytes, proof.bytes);
            self.storage.delete(&self.key).await?;
            return Err(Error::internal(format!("{stored} bytes were stored of {made}")));
        }
        let (kept, folder, key) = (proof.clone(), vault.folder.clone(), self.key.clone());
        let kept = spawn_blocking(move || kept.write(&folder, &key)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(error = error.full(), "the proof of a dump was not kept");
            self.job.note("the proof was not kept: a restore cannot compare the SHA-256");
        }
        Ok((backup, proof))
    }

    /// Dumps into the storage. The storage sees a clean end only after all was read back.
    async fn transfer(&self, programs: &Programs) -> Result<(Backup, Dumped)> {
        let (sender, stream) = bridge::channel();
        let mut pipe = Pipe { sender, gone: false };
        let dumping = async {
            let control = self.job.control();
            let dumped = self.vault.source.dump(programs, &mut pipe, control).await;
            let gone = pipe.gone;
            if dumped.is_ok() {
                pipe.sender.finish();
            } else {
                drop(pipe);
            }
            (dumped, gone)
        };
        let storing = self.storage.put(&self.key, stream, PutMode::Create);
        let ((dumped, gone), stored) = tokio::join!(dumping, storing);
        match (dumped, stored) {
            (Ok(dumped), Ok(backup)) => Ok((backup, dumped)),
            // A storage that left is why the dump ended; otherwise it is the other way round.
            (Err(_), Err(stored)) if gone => Err(stored),
            (Err(dumped), _) => Err(dumped),
            (Ok(_), Err(stored)) => Err(stored),
        }
    }
}

/// The way from the dump to the storage.
struct Pipe {
    sender: BlockSender,
    gone: bool,
}

#[async_trait]
impl Sink for Pipe {
    async fn take(&mut self, block: Bytes) -> Result<()> {
        if self.sender.send(block).await {
            return Ok(());
        }
        self.gone = true;
        Err(Error::internal("the storage stopped reading"))
    }
}
