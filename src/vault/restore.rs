//! Restoring a backup: plan it, fetch it if it is elsewhere, stage and check it, ask for the
//! restart in which it becomes the data. An undo is the same without an archive.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::Skipped;
use crate::backup::{Backup, Key};
use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};
use crate::restore::{self, Plan, PlanOptions, Scope};
use crate::storage::Storage;
use crate::vault::Vault;
use crate::vault::create;
use crate::vault::fetch::Archive;
use crate::vault::flight::{Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::losses::Maker;

/// How the answer to a restore that cannot work begins.
const REFUSED: &str = "The backup cannot be restored: ";

/// A restore that may begin: the flight is taken, the backup is there, its plan can work.
#[derive(Debug)]
pub struct Restoring {
    vault: Arc<Vault>,
    storage: Arc<dyn Storage>,
    backup: Backup,
    scope: Scope,
    job: JobHandle,
    ticket: Ticket,
}

impl Vault {
    /// Plans the restore of `key`; nothing is changed. Remote backups are fetched for it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or the storage's own when it cannot be asked.
    pub async fn plan(&self, key: &Key, options: PlanOptions) -> Result<Plan> {
        let storage = self.storage();
        let backup = storage.head(key).await?;
        let control = Control::default();
        let archive = Archive::of(storage.as_ref(), &backup, &self.data, &control).await?;
        self.plan_of(archive, key, options).await
    }

    async fn plan_of(&self, archive: Archive, key: &Key, options: PlanOptions) -> Result<Plan> {
        let (data, key) = (self.data.clone(), key.clone());
        let work =
            move || restore::plan(&data, archive.path(), &key, &options, &Control::default());
        spawn_blocking(work).await.context("the planning thread stopped")?
    }

    /// Takes the flight for the restore of `key`, and plans it: what cannot succeed is refused
    /// here. A remote backup is planned when it was fetched, in its job.
    ///
    /// # Errors
    /// [`Kind::Busy`], then [`Kind::NotFound`] or the storage's own when it cannot be asked,
    /// [`Kind::Corrupt`] with the plan's reason.
    pub async fn begin_restore(self: &Arc<Self>, key: &Key, scope: Scope) -> Result<Restoring> {
        let ticket = self.flight.begin(Operation::Restore, key)?;
        let storage = self.storage();
        let backup = storage.head(key).await?;
        if storage.local_path(key).is_some() {
            let control = Control::default();
            let archive = Archive::of(storage.as_ref(), &backup, &self.data, &control).await?;
            let options = PlanOptions { scope: scope.clone(), deep: false };
            refuse(&self.plan_of(archive, key, options).await?)?;
        }
        let job = self.jobs.open(JobKind::Restore, Method::Api, key);
        Ok(Restoring { vault: self.clone(), storage, backup, scope, job, ticket })
    }

    /// Makes the data from before the last restore the next to be swapped in, and asks for the
    /// restart. The number of its job.
    ///
    /// # Errors
    /// [`Kind::Busy`]; as [`restore::undo`].
    pub async fn undo(self: &Arc<Self>) -> Result<u64> {
        let vault = self.clone();
        // Not the request's: a client that goes must not leave an intent without its restart.
        let task = self.runtime.spawn(async move { vault.note_undo().await });
        task.await.context("the undoing task stopped")?
    }

    async fn note_undo(&self) -> Result<u64> {
        let ticket = self.hold()?;
        let (data, clock) = (self.data.clone(), self.clock.clone());
        let subject = spawn_blocking(move || restore::undo(&data, &clock))
            .await
            .context("the undoing thread stopped")??;
        // It is listed as a backup's name, whatever it was when it was restored.
        let key = Key::existing(&subject.key)?;
        let job = self.jobs.open(JobKind::Undo, Method::Api, &key);
        let id = job.id();
        job.hand_over(&subject.id).await;
        tracing::info!(%key, "an undo is noted, restarting");
        self.restart.send_replace(true);
        std::mem::forget(ticket);
        Ok(id)
    }
}

/// The error of a plan that cannot work.
fn refuse(plan: &Plan) -> Result<()> {
    let Some(reason) = &plan.refused else { return Ok(()) };
    let dot = if reason.ends_with('.') { "" } else { "." };
    Err(Error::new(Kind::Corrupt, format!("{REFUSED}{reason}{dot}")))
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
        let archive = Archive::of(self.storage.as_ref(), &self.backup, &data, &control).await?;
        if self.storage.local_path(&key).is_none() {
            let options = PlanOptions { scope: self.scope.clone(), deep: false };
            let (data, key, path) = (data.clone(), key.clone(), archive.path().to_owned());
            let plan = move || restore::plan(&data, &path, &key, &options, &Control::default());
            refuse(&spawn_blocking(plan).await.context("the planning thread stopped")??)?;
        }
        if self.vault.restore.safety_backup {
            self.save_present(&control).await?;
        }
        let (clock, scope) = (self.vault.clock.clone(), self.scope.clone());
        let (id, notes) = spawn_blocking(move || {
            let staged = restore::stage(&data, archive.path(), &key, &scope, &clock, &control)?;
            drop(archive);
            let left_out = |entry: &Skipped| format!("left out {}: {}", entry.path, entry.reason);
            let notes: Vec<String> = staged.skipped().iter().map(left_out).collect();
            // Once it is committed, the next start carries it out.
            control.seal()?;
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

    /// Makes a backup of the data that is about to go.
    async fn save_present(&self, control: &Control) -> Result<()> {
        let wanted = Key::before_restore(self.vault.clock.now());
        let key = create::free_key(self.storage.as_ref(), create::Name::Generated(wanted)).await?;
        let (backup, outcome) = create::store(&self.vault, &self.storage, &key, control).await?;
        let label = format!("before the restore of {}", self.backup.key);
        let maker = Maker { job: self.job.id(), method: Method::Api, label };
        self.vault.record(&self.storage, &backup, &outcome, maker).await;
        if outcome.worse {
            let why = outcome.notes.first().map_or("", String::as_str);
            let message = format!("The backup {key} before the restore is not complete: {why}");
            return Err(Error::new(Kind::Unavailable, message)
                .hint("cure that, or restore without safety_backup"));
        }
        tracing::info!(key = %backup.key, "made a backup before the restore");
        self.job.note(format!("the data from before is in the backup {key}"));
        outcome.notes.into_iter().for_each(|note| self.job.note(note));
        Ok(())
    }
}
