//! Restoring a backup: plan it, fetch it if it is elsewhere, stage and check it, ask for the
//! restart in which it becomes the data. An undo is the same without an archive.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::archive::Skipped;
use crate::backup::Key;
use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};
use crate::restore::{self, Plan, PlanOptions, Scope};
use crate::vault::Vault;
use crate::vault::create;
use crate::vault::fetch::Archive;
use crate::vault::flight::{Operation, Ticket};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::lock::Held;
use crate::vault::losses::Maker;
use crate::vault::places::Place;

/// How the answer to a restore that cannot work begins.
const REFUSED: &str = "The backup cannot be restored: ";

/// A restore that may begin: the flight is taken, the backup is there, its plan can work.
#[derive(Debug)]
pub struct Restoring {
    vault: Arc<Vault>,
    key: Key,
    scope: Scope,
    /// Whether its plan was looked at when it began.
    planned: bool,
    job: JobHandle,
    held: Held,
    ticket: Ticket,
}

impl Vault {
    /// Plans the restore of `key`; nothing is changed. Remote backups are fetched for it.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or the storage's own when it cannot be asked.
    pub async fn plan(&self, key: &Key, options: PlanOptions) -> Result<Plan> {
        let (place, backup) = self.nearest(key).await?;
        let control = Control::default();
        let archive = Archive::of(place.storage.as_ref(), &backup, &self.data, &control).await?;
        self.plan_of(archive, key, options).await
    }

    async fn plan_of(&self, archive: Archive, key: &Key, options: PlanOptions) -> Result<Plan> {
        let (data, key) = (self.data.clone(), key.clone());
        let work =
            move || restore::plan(&data, archive.path(), &key, &options, &Control::default());
        spawn_blocking(work).await.context("the planning thread stopped")?
    }

    /// Takes the flight for the restore of `key`, and plans it: what cannot succeed is refused
    /// here. A remote backup, or one with several destinations, is planned in its job.
    ///
    /// # Errors
    /// [`Kind::Busy`], then [`Kind::NotFound`] or the storage's own when it cannot be asked,
    /// [`Kind::Corrupt`] with the plan's reason.
    pub async fn begin_restore(self: &Arc<Self>, key: &Key, scope: Scope) -> Result<Restoring> {
        let ticket = self.flight.begin(Operation::Restore, key)?;
        let (place, backup) = self.nearest(key).await?;
        let planned = place.is_local() && self.places().len() == 1;
        if planned {
            let (control, storage) = (Control::default(), place.storage.as_ref());
            let archive = Archive::of(storage, &backup, &self.data, &control).await?;
            let options = PlanOptions { scope: scope.clone(), deep: false };
            refuse(&self.plan_of(archive, key, options).await?)?;
        }
        let lease = self.lock().await?;
        let job = self.jobs.open(JobKind::Restore, Method::Api, key);
        let held = Held::keep(lease, job.control());
        let (vault, key) = (self.clone(), key.clone());
        Ok(Restoring { vault, key, scope, planned, job, held, ticket })
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
            self.held.release().await;
            match result {
                Ok(id) => {
                    // How it ends is known only after the restart.
                    self.job.hand_over(&id).await;
                    tracing::info!(key = %self.key, "a restore is staged, restarting");
                    self.vault.restart.send_replace(true);
                    std::mem::forget(self.ticket);
                    Ok(())
                }
                Err(error) => {
                    let result = Err(error);
                    drop(self.ticket);
                    self.job.finish(&result).await;
                    result
                }
            }
        })
    }

    /// The id of the staged restore: of the nearest copy that is there and sound.
    async fn run(&self) -> Result<String> {
        let mut first: Option<Error> = None;
        let mut saved = !self.vault.restore.safety_backup;
        for place in self.vault.sources() {
            let failed = match self.fetch(&place).await {
                Ok(archive) => {
                    if !saved {
                        self.save_present().await?;
                        saved = true;
                    }
                    match self.stage(archive).await {
                        Ok(id) => return Ok(id),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            match failed.kind() {
                Kind::Cancelled | Kind::NoSpace => return Err(failed),
                Kind::NotFound => {
                    first = first.or(Some(failed));
                    continue;
                }
                _ => {}
            }
            let name = place.name.as_ref();
            tracing::error!(name, key = %self.key, error = failed.full(), "cannot restore from it");
            if self.vault.places().len() > 1 {
                self.job.note(format!("not restored from {name}: {}", failed.message()));
            }
            // That it is missing elsewhere says less than what is wrong here.
            first = first.filter(|error| error.kind() != &Kind::NotFound).or(Some(failed));
        }
        Err(first.unwrap_or_else(|| Error::internal("there is no destination")))
    }

    /// The archive of one place, if its plan can work.
    async fn fetch(&self, place: &Place) -> Result<Archive> {
        let (data, control) = (self.vault.data.clone(), self.job.control());
        let backup = place.storage.head(&self.key).await?;
        let archive = Archive::of(place.storage.as_ref(), &backup, &data, control).await?;
        if !self.planned {
            let options = PlanOptions { scope: self.scope.clone(), deep: false };
            let (key, path) = (self.key.clone(), archive.path().to_owned());
            let plan = move || restore::plan(&data, &path, &key, &options, &Control::default());
            refuse(&spawn_blocking(plan).await.context("the planning thread stopped")??)?;
        }
        Ok(archive)
    }

    async fn stage(&self, archive: Archive) -> Result<String> {
        let (data, key) = (self.vault.data.clone(), self.key.clone());
        let (clock, scope) = (self.vault.clock.clone(), self.scope.clone());
        let control = self.job.control().clone();
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
    async fn save_present(&self) -> Result<()> {
        let wanted = Key::before_restore(self.vault.clock.now());
        let key = create::free_key_everywhere(&self.vault, create::Name::Generated(wanted)).await?;
        let label = format!("before the restore of {}", self.key);
        let maker = Maker { job: self.job.id(), method: Method::Api, label };
        let made = create::make(&self.vault, &key, &self.job, &maker).await?;
        if let Some(why) = made.worse {
            let message = format!("The backup {key} before the restore is not complete: {why}");
            return Err(Error::new(Kind::Unavailable, message)
                .hint("cure that, or restore without safety_backup"));
        }
        tracing::info!(key = %made.backup.key, "made a backup before the restore");
        self.job.note(format!("the data from before is in the backup {key}"));
        Ok(())
    }
}
