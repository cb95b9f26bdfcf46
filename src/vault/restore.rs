//! Restoring a backup: fetch it if it is elsewhere, stage and check it, ask for the restart
//! in which it becomes the data.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::Skipped;
use crate::backup::{Backup, Key};
use crate::control::{Control, Step};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::restore;
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::flight::{Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Method};

/// A restore that may begin: the flight is taken, the backup is there.
#[derive(Debug)]
pub struct Restoring {
    vault: Arc<Vault>,
    storage: Arc<dyn Storage>,
    backup: Backup,
    job: JobHandle,
    ticket: Ticket,
}

impl Vault {
    /// Takes the flight for the restore of `key`.
    ///
    /// # Errors
    /// [`Kind::Busy`], then [`Kind::NotFound`] or the storage's own when it cannot be asked.
    pub async fn begin_restore(self: &Arc<Self>, key: &Key) -> Result<Restoring> {
        let ticket = self.flight.begin(Operation::Restore, key)?;
        let storage = self.storage();
        let backup = storage.head(key).await?;
        let job = self.jobs.open(JobKind::Restore, Method::Api, key);
        Ok(Restoring { vault: self.clone(), storage, backup, job, ticket })
    }
}

impl Restoring {
    /// The number of its job.
    pub fn job(&self) -> u64 {
        self.job.id()
    }

    /// Stages the backup on the main runtime and asks for the restart. The flight stays taken
    /// until the process is replaced: nothing may begin on data that is about to go.
    pub fn spawn(self) -> JoinHandle<Result<()>> {
        let runtime = self.vault.runtime.clone();
        runtime.spawn(async move {
            let result = self.run().await;
            match result {
                Ok(id) => {
                    // How it ends is known only after the restart.
                    self.job.hand_over(&id).await;
                    tracing::info!(key = %self.backup.key, "a restore is staged, restarting");
                    self.vault.restart.send_replace(true);
                    std::mem::forget(self.ticket);
                    Ok(())
                }
                Err(error) => {
                    let result = Err(error);
                    self.job.finish(&result).await;
                    result
                }
            }
        })
    }

    /// The id of the staged restore.
    async fn run(&self) -> Result<String> {
        let control = self.job.control().clone();
        let data = self.vault.data.clone();
        let key = self.backup.key.clone();
        let (archive, fetched) = match self.storage.local_path(&key) {
            Some(path) => (path, None),
            None => {
                control.enter(Step::Transferring);
                let fetched = self.fetch(&control).await?;
                (fetched.0.clone(), Some(fetched))
            }
        };
        let clock = self.vault.clock.clone();
        let (id, notes) = spawn_blocking(move || {
            let staged = restore::stage(&data, &archive, &key, &clock, &control)?;
            drop(fetched);
            let left_out = |entry: &Skipped| format!("left out {}: {}", entry.path, entry.reason);
            let notes: Vec<String> = staged.skipped().iter().map(left_out).collect();
            control.check()?;
            let id = staged.id().to_owned();
            staged.commit()?;
            Ok::<_, Error>((id, notes))
        })
        .await
        .context("the restoring thread stopped")??;
        for note in notes {
            self.job.note(note);
        }
        Ok(id)
    }

    /// Brings the archive of a remote backup into the state folder.
    async fn fetch(&self, control: &Control) -> Result<Fetched> {
        let folder = self.vault.data.fetched();
        let target = folder.join(self.backup.key.as_str());
        fsx::create_dir_durably(&folder)?;
        let fetched = Fetched(target.clone());
        let needed = self.backup.size_bytes;
        if fsx::free_bytes(&folder)? < needed {
            let message = format!("the archive of {needed} bytes does not fit beside the data");
            return Err(Error::new(Kind::NoSpace, message));
        }
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&target).await.context("cannot write the fetched backup")?;
        let mut stream = self.storage.get(&self.backup.key, None).await?;
        let mut size_bytes = 0;
        while let Some(block) = stream.next().await {
            let block = block?;
            control.check()?;
            control.add_bytes(block.len() as u64);
            size_bytes += block.len() as u64;
            file.write_all(&block).await.context("cannot write the fetched backup")?;
        }
        file.flush().await.context("cannot write the fetched backup")?;
        if size_bytes != self.backup.size_bytes {
            return Err(Error::new(
                Kind::Corrupt,
                format!("{} bytes arrived of {}", size_bytes, self.backup.size_bytes),
            ));
        }
        Ok(fetched)
    }
}

/// A fetched archive; removed when it is dropped.
struct Fetched(PathBuf);

impl Drop for Fetched {
    fn drop(&mut self) {
        // Best effort: the folder is swept at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
