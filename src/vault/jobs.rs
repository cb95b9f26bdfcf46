//! What the vault did and does: one record per job, with how it ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::backup::Key;
use crate::clock::Clock;
use crate::control::{Control, Progress, Step};
use crate::error::{Error, Kind};

/// Records that are kept; older ones are forgotten.
const RECORDS_MAX: usize = 1_000;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// Makes a backup.
    Create,
    /// Takes in an uploaded archive.
    Upload,
    /// Restores a backup.
    Restore,
}

/// Who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A client of the API.
    Api,
    /// The schedule.
    Scheduled,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Working.
    Running,
    /// Ended well.
    Done,
    /// Cancelled on request; nothing is left of it.
    Cancelled,
    /// Ended badly: what a client may know, and what an operator can do.
    Failed {
        /// The error's own words, without causes.
        message: String,
        /// The hint, if there is one.
        hint: Option<String>,
    },
}

/// One record.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number, ascending from 1 within one process.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// Who asked.
    pub method: Method,
    /// The backup it is about.
    pub key: Key,
    /// How far it is.
    pub state: State,
    /// Counters of this moment.
    pub progress: Progress,
    /// What was left out of the archive, or skipped in it, with the reason.
    pub notes: Vec<String>,
    /// Whether nothing that belongs into the backup is missing or damaged.
    pub complete: bool,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
}

/// All records. Cheap to clone; clones are the same records.
#[derive(Debug, Clone)]
pub struct Jobs {
    clock: Clock,
    records: Arc<Mutex<Records>>,
}

#[derive(Debug, Default)]
struct Records {
    last_id: u64,
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

impl Jobs {
    /// No records yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, records: Arc::default() }
    }

    /// Opens a record.
    pub fn open(&self, kind: JobKind, method: Method, key: &Key) -> JobHandle {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.last_id += 1;
        let id = records.last_id;
        let control = Control::default();
        let job = Job {
            id,
            kind,
            method,
            key: key.clone(),
            state: State::Running,
            progress: Progress::default(),
            notes: Vec::new(),
            complete: true,
            started: self.clock.now(),
            ended: None,
        };
        records.jobs.push_back((job, control.clone()));
        while records.jobs.len() > RECORDS_MAX {
            records.jobs.pop_front();
        }
        JobHandle { jobs: self.clone(), id, control, finished: false }
    }

    /// All records, newest first.
    pub fn list(&self) -> Vec<Job> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.jobs.iter().rev().map(current).collect()
    }

    /// One record.
    pub fn find(&self, id: u64) -> Option<Job> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.jobs.iter().find(|(job, _)| job.id == id).map(current)
    }

    /// Whether any job is running.
    pub fn any_running(&self) -> bool {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.jobs.iter().any(|(job, _)| job.state == State::Running)
    }

    /// Asks every running job to stop.
    pub fn cancel_all(&self) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for (job, control) in &records.jobs {
            if job.state == State::Running {
                control.cancel();
            }
        }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Job)) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((job, _)) = records.jobs.iter_mut().find(|(job, _)| job.id == id) {
            change(job);
        }
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

    /// Closes the record, and logs how it ended.
    pub fn finish<T>(mut self, result: &Result<T, Error>) {
        let state = match result {
            Ok(_) => State::Done,
            Err(error) if error.kind() == &Kind::Cancelled => State::Cancelled,
            Err(error) => State::Failed {
                message: public_message(error),
                hint: error.operator_hint().filter(|hint| !hint.contains('/')).map(str::to_owned),
            },
        };
        if let Err(error) = result {
            tracing::error!(job = self.id, error = error.full(), "the job failed");
        }
        self.close(state);
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

/// The error's own words, unless they name a place on the server's disk: those are for the log.
fn public_message(error: &Error) -> String {
    if !error.message().contains('/') {
        return error.message().to_owned();
    }
    match error.kind() {
        Kind::NoSpace => "There is not enough room on the disk.",
        Kind::Corrupt => "The data is damaged; the log says where.",
        _ => "Something went wrong; the log says what.",
    }
    .to_owned()
}

fn current((job, control): &(Job, Control)) -> Job {
    let mut job = job.clone();
    if job.state == State::Running {
        job.progress = control.progress();
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_how_it_ended() {
        let jobs = Jobs::new(Clock::system());
        let key = Key::named("a.zip").expect("a key");
        let good = jobs.open(JobKind::Create, Method::Api, &key);
        good.control().add_bytes(3);
        assert_eq!(jobs.list()[0].progress.bytes, 3);
        assert!(jobs.any_running());
        good.finish(&Ok(()));
        let bad = jobs.open(JobKind::Restore, Method::Api, &key);
        bad.note("x was skipped");
        bad.finish::<()>(&Err(Error::new(Kind::NoSpace, "no room").hint("make room")));
        drop(jobs.open(JobKind::Upload, Method::Scheduled, &key));
        let states: Vec<_> = jobs.list().into_iter().map(|job| (job.id, job.state)).collect();
        let failed = |message: &str, hint: Option<&str>| State::Failed {
            message: message.to_owned(),
            hint: hint.map(ToOwned::to_owned),
        };
        assert_eq!(
            states,
            [
                (3, failed("The job was broken off.", None)),
                (2, failed("no room", Some("make room"))),
                (1, State::Done),
            ]
        );
        assert_eq!(jobs.find(2).expect("kept").notes, ["x was skipped"]);
        assert!(!jobs.any_running());
    }

    #[test]
    fn old_records_are_forgotten() {
        let jobs = Jobs::new(Clock::system());
        let key = Key::named("a.zip").expect("a key");
        for _ in 0..RECORDS_MAX + 5 {
            jobs.open(JobKind::Create, Method::Api, &key).finish(&Ok(()));
        }
        assert_eq!(jobs.list().len(), RECORDS_MAX);
        assert!(jobs.find(5).is_none() && jobs.find(6).is_some());
    }
}
