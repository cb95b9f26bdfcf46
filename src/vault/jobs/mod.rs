//! What the vault did and does: one record per job, with how it ended.
//!
//! The newest records are in memory, where running jobs change them; [`history`] keeps all of
//! them across restarts. Every change gets a revision, by which watchers know what is new.

mod history;
mod record;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::backup::Key;
use crate::clock::Clock;
use crate::control::{Control, Progress, Step};
use crate::error::{Error, Result};
use crate::state::StateDb;

use self::history::History;

pub(super) use record::public_words;
pub(super) use record::words;
pub use record::{Job, JobKind, Method, State};

/// Records in memory; older ones are read from the history.
const RECORDS_MAX: usize = 1_000;

/// All records. Cheap to clone; clones are the same records.
#[derive(Debug, Clone)]
pub struct Jobs {
    clock: Clock,
    history: Option<History>,
    records: Arc<Mutex<Records>>,
    /// The last revision.
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Records {
    last_id: u64,
    revision: u64,
    jobs: VecDeque<(Job, Control)>,
}

/// A running job, held by whoever does the work. Dropped without [`JobHandle::finish`] (a
/// panic, a cancelled task) it is recorded as failed.
#[derive(Debug)]
pub struct JobHandle {
    jobs: Jobs,
    id: u64,
    control: Control,
    finished: bool,
}

/// What became of a request to stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// It was told to stop.
    Told,
    /// It had ended already, or can be stopped no more.
    Ended,
    /// There is no such job.
    Unknown,
}

impl Jobs {
    /// No records yet, and none that outlive the process.
    pub fn new(clock: Clock) -> Self {
        Self { clock, history: None, records: Arc::default(), changed: Arc::default() }
    }

    /// The records of earlier processes and ours. Jobs that an earlier process did not end are
    /// marked as interrupted, but for restores that wait for their verdict: see
    /// [`Jobs::settle`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn load(clock: Clock, state: StateDb) -> Result<Self> {
        let history = History::new(state);
        let (last_id, revision) = history.highest().await?;
        let now = clock.now();
        let jobs = Self { clock, history: Some(history.clone()), ..Self::new(Clock::default()) };
        {
            let mut records = jobs.lock();
            // Above everything that a client may have seen, even if the last write was lost.
            records.revision = revision + RECORDS_MAX as u64;
            records.last_id = last_id;
        }
        for job in history.newest(RECORDS_MAX).await? {
            let control = Control::default();
            jobs.lock().jobs.push_back((job, control));
        }
        for job in jobs.list() {
            if job.state == State::Running && job.restore_id.is_none() {
                jobs.change(job.id, |job| {
                    job.state = State::Interrupted;
                    job.ended = Some(now);
                });
            }
        }
        jobs.flush().await;
        Ok(jobs)
    }

    /// Opens a record of a job about the folder.
    pub fn open(&self, kind: JobKind, method: Method, key: &Key) -> JobHandle {
        self.open_for("", kind, method, key)
    }

    /// Opens a record of a job about a PostgreSQL database.
    pub fn open_for(&self, vault: &str, kind: JobKind, method: Method, key: &Key) -> JobHandle {
        let control = Control::default();
        let mut records = self.lock();
        records.last_id += 1;
        let id = records.last_id;
        let job = Job {
            id,
            kind,
            method,
            vault: vault.to_owned(),
            key: key.clone(),
            state: State::Running,
            progress: Progress::default(),
            notes: Vec::new(),
            complete: true,
            started: self.clock.now(),
            ended: None,
            restore_id: None,
            revision: 0,
        };
        records.jobs.push_back((job, control.clone()));
        if records.jobs.len() > RECORDS_MAX {
            // A running one is never forgotten: it may still be cancelled.
            let old = records.jobs.iter().position(|(job, _)| job.state != State::Running);
            old.and_then(|index| records.jobs.remove(index));
        }
        drop(records);
        self.change(id, |_| {});
        JobHandle { jobs: self.clone(), id, control, finished: false }
    }

    /// The records in memory, newest first.
    pub fn list(&self) -> Vec<Job> {
        self.lock().jobs.iter().rev().map(current).collect()
    }

    /// One record.
    pub fn find(&self, id: u64) -> Option<Job> {
        self.lock().jobs.iter().find(|(job, _)| job.id == id).map(current)
    }

    /// One record, also an old one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn find_ever(&self, id: u64) -> Result<Option<Job>> {
        match (self.find(id), &self.history) {
            (None, Some(history)) => history.find(id).await,
            (found, _) => Ok(found),
        }
    }

    /// The progress and cancel flag of a job in memory; those of none for any other.
    pub fn control(&self, id: u64) -> Control {
        let records = self.lock();
        let found = records.jobs.iter().find(|(job, _)| job.id == id);
        found.map(|(_, control)| control.clone()).unwrap_or_default()
    }

    /// Tells when any record changes: the value is the last revision.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether any job is running.
    pub fn any_running(&self) -> bool {
        self.lock().jobs.iter().any(|(job, _)| is_working(job))
    }

    /// Asks every running job to stop.
    pub fn cancel_all(&self) {
        for (job, control) in &self.lock().jobs {
            if is_working(job) {
                control.cancel();
            }
        }
    }

    /// Asks a job to stop.
    pub fn cancel(&self, id: u64) -> Cancel {
        match self.lock().jobs.iter().find(|(job, _)| job.id == id) {
            None => Cancel::Unknown,
            Some((job, control)) if is_working(job) && control.cancel() => Cancel::Told,
            Some(_) => Cancel::Ended,
        }
    }

    /// The verdict over the restore `restore_id`, after the restart in which it took place.
    /// Restores that nobody gave a verdict are interrupted ones.
    pub async fn settle(&self, verdict: Option<(&str, Result<(), Error>)>) {
        let now = self.clock.now();
        for job in self.list() {
            let Some(id) = job.restore_id.as_deref().filter(|_| job.state == State::Running) else {
                continue;
            };
            let state = match &verdict {
                Some((of, result)) if *of == id => State::of(result),
                _ => State::Interrupted,
            };
            self.change(job.id, |job| {
                job.state = state;
                job.progress.step = Step::Finished;
                job.ended = Some(now);
            });
        }
        self.flush().await;
    }

    /// Waits until every record is on the disk.
    pub async fn flush(&self) {
        if let Some(history) = &self.history {
            history.flush().await;
        }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Job)) {
        let mut records = self.lock();
        records.revision += 1;
        let revision = records.revision;
        let found = records.jobs.iter_mut().find(|(job, _)| job.id == id);
        if let Some((job, _)) = found {
            change(job);
            job.revision = revision;
            // Under the lock, so that the history sees the changes in their order.
            if let Some(history) = &self.history {
                history.save(job);
            }
        }
        drop(records);
        self.changed.send_replace(revision);
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobHandle {
    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its progress and cancel flag, for those who do the work.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Adds a line about something that was left out or deserves attention.
    pub fn note(&self, line: impl Into<String>) {
        let line = line.into();
        self.jobs.change(self.id, |job| job.notes.push(line));
    }

    /// Notes that the backup does not count as a good one.
    pub fn incomplete(&self) {
        self.jobs.change(self.id, |job| job.complete = false);
    }

    /// Closes the record, and logs how it ended. It is on the disk when this returns.
    pub async fn finish<T>(mut self, result: &Result<T, Error>) {
        if let Err(error) = result {
            tracing::error!(job = self.id, error = error.full(), "the job failed");
        }
        self.close(State::of(result));
        self.jobs.flush().await;
    }

    /// Leaves the verdict to the process after the restart: see [`Jobs::settle`].
    pub async fn hand_over(mut self, restore_id: &str) {
        self.finished = true;
        self.control.enter(Step::Swapping);
        let progress = self.control.progress();
        self.jobs.change(self.id, |job| {
            job.progress = progress;
            job.restore_id = Some(restore_id.to_owned());
        });
        self.jobs.flush().await;
    }

    fn close(&mut self, state: State) {
        self.finished = true;
        self.control.enter(Step::Finished);
        let progress = self.control.progress();
        let now = self.jobs.clock.now();
        self.jobs.change(self.id, |job| {
            job.state = state;
            job.progress = progress;
            job.ended = Some(now);
        });
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if !self.finished {
            self.close(State::Failed { message: "The job was broken off.".to_owned(), hint: None });
        }
    }
}

/// Whether somebody works on it in this process.
fn is_working(job: &Job) -> bool {
    job.state == State::Running && job.restore_id.is_none()
}

fn current((job, control): &(Job, Control)) -> Job {
    let mut job = job.clone();
    if is_working(&job) {
        job.progress = control.progress();
    }
    job
}

#[cfg(test)]
mod tests;
