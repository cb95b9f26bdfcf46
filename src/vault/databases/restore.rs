//! Restoring a dump, and taking a restore back.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::backup::Key;
use crate::control::{Control, Step};
use crate::error::{Error, Kind, Result};
use crate::restore::postgres::{self as pg, Archive, Ground, Plan, Way, Wish};
use crate::source::postgres::Lock;
use crate::vault::databases::bosbase::Prepared;
use crate::vault::databases::{DatabaseVault, Held, fail, note_cause};
use crate::vault::flight::Operation;
use crate::vault::jobs::{JobHandle, JobKind, Method};

/// What a restore does.
#[derive(Debug, Clone)]
pub enum What {
    /// Brings a dump in.
    Dump(Box<Plan>, Source),
    /// Brings the database of before the last restore back.
    Undo,
}

/// Where a dump comes from.
#[derive(Debug, Clone)]
pub struct Source {
    dump: Archive,
    /// The archive around it, with files.
    whole: Option<Arc<Prepared>>,
}

/// A restore that may begin: all locks are taken, the plan is made.
#[derive(Debug)]
pub struct RestoringDump {
    vault: Arc<DatabaseVault>,
    what: What,
    job: JobHandle,
    lock: Lock,
    held: Held,
}

impl DatabaseVault {
    /// What a restore of `key` would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`DatabaseVault::begin_restore`].
    pub async fn plan(&self, key: &Key, wish: &Wish) -> Result<Plan> {
        let _held = self.hold(Operation::Restore, key).await?;
        let control = Control::default();
        let archive = self.archive(key, &control).await?;
        let mut lock = self.source.lock().await?;
        let plan = pg::plan(&self.source, &mut lock, &archive.dump, wish, &control).await;
        lock.release().await;
        plan
    }

    /// Takes the locks and makes the plan for the restore of `key`.
    ///
    /// # Errors
    /// [`Kind::Busy`], [`Kind::NotFound`], and as [`pg::plan()`]: the record of the job says
    /// why.
    pub async fn begin_restore(
        self: &Arc<Self>,
        key: &Key,
        wish: &Wish,
        method: Method,
    ) -> Result<RestoringDump> {
        let held = self.hold(Operation::Restore, key).await?;
        let archive = self.archive(key, &Control::default()).await?;
        let (mut lock, job) = self.begin(JobKind::Restore, method, key).await?;
        let plan = pg::plan(&self.source, &mut lock, &archive.dump, wish, job.control()).await;
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                lock.release().await;
                return Err(fail(job, error).await);
            }
        };
        job.note(format!("way: {}, pg_restore {}", plan.word(), plan.program_version()));
        plan.notes.iter().for_each(|note| job.note(note.clone()));
        let what = What::Dump(Box::new(plan), archive);
        Ok(RestoringDump { vault: self.clone(), what, job, lock, held })
    }

    /// Takes the locks for the undo of the last restore.
    ///
    /// # Errors
    /// [`Kind::Busy`]; [`Kind::NotFound`] when there is nothing to bring back.
    pub async fn begin_undo(self: &Arc<Self>, method: Method) -> Result<RestoringDump> {
        let none = || Error::new(Kind::NotFound, "There is no database to bring back.");
        let key = Key::existing(&self.kept()?.ok_or_else(none)?.key)?;
        let held = self.hold(Operation::Restore, &key).await?;
        let (lock, job) = self.begin(JobKind::Restore, method, &key).await?;
        job.note("way: undo");
        Ok(RestoringDump { vault: self.clone(), what: What::Undo, job, lock, held })
    }

    async fn archive(&self, key: &Key, control: &Control) -> Result<Source> {
        if let Some(bosbase) = &self.bosbase {
            let (state, storage) = (self.folder.clone(), self.storage.as_ref());
            let whole = bosbase.prepare(&self.name, state, storage, key, control).await?;
            return Ok(Source { dump: whole.dump.clone(), whole: Some(Arc::new(whole)) });
        }
        self.storage.head(key).await?;
        let sha256 = self.proof(key).await.map(|proof| proof.sha256);
        let dump = Archive { storage: self.storage.clone(), key: key.clone(), sha256 };
        Ok(Source { dump, whole: None })
    }
}

impl RestoringDump {
    /// The number of its job.
    pub fn job(&self) -> u64 {
        self.job.id()
    }

    /// The plan; `None` for an undo.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.what {
            What::Dump(plan, _) => Some(plan),
            What::Undo => None,
        }
    }

    /// Does the work on the main runtime; whoever waits may leave.
    pub fn spawn(self) -> JoinHandle<Result<()>> {
        let runtime = self.vault.runtime.clone();
        runtime.spawn(async move {
            let Self { vault, what, job, lock, held } = self;
            let ground = Ground {
                source: &vault.source,
                folder: &vault.folder,
                clock: &vault.clock,
                control: job.control(),
            };
            job.control().enter(Step::Pinning);
            let result = match &what {
                What::Dump(plan, archive) => restore(ground, plan, archive, &job, lock).await,
                What::Undo => pg::undo(ground, lock).await,
            };
            match &result {
                Ok(()) => tracing::info!(database = vault.name, "restored a database"),
                Err(error) => note_cause(&job, error),
            }
            drop(held);
            job.finish(&result).await;
            result
        })
    }
}

/// Files first: while the databases are exchanged, those of both are there.
async fn restore(
    ground: Ground<'_>,
    plan: &Plan,
    archive: &Source,
    job: &JobHandle,
    lock: Lock,
) -> Result<()> {
    match (&archive.whole, &plan.way) {
        (None, _) => {}
        (Some(_), Way::Into(_)) => job.note("the files of the archive were left where they are"),
        (Some(whole), _) => match whole.place_files(job.control()).await {
            Ok(placed) => job.note(format!("{placed} files were put into the data folder")),
            Err(error) => {
                lock.release().await;
                return Err(error);
            }
        },
    }
    pg::restore(ground, plan, &archive.dump, lock).await
}
