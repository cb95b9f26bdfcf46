//! What the change of a job means: which trouble begins, which one ends, what is told.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::pocketbase_time;
use crate::config::notify::Event;
use crate::cron::Schedule;
use crate::notify::note::Note;
use crate::vault::jobs::{Job, JobKind, Method, State};

/// Lines of a job's notes that are told.
const LINES_MAX: usize = 5;
/// How long after its minute a scheduled backup may begin: it waits for a free flight.
pub(super) const GRACE: TimeDelta = TimeDelta::minutes(35);
/// How far back missed runs are looked for.
const LOOK_BACK: TimeDelta = TimeDelta::days(7);

/// Making backups.
pub(super) const BACKUP: &str = "backup";
/// Keeping to the schedule.
pub(super) const SCHEDULE: &str = "schedule";
/// The age of the last good one.
pub(super) const AGE: &str = "age";
const PRUNE: &str = "prune";

/// A step that follows from a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A trouble: told when it is new, and again when it goes on for long.
    Raise(String, Note),
    /// The end of troubles: told if there were any.
    Clear(Vec<String>, Note),
    /// News that stand for themselves.
    Tell(Note),
    /// A good backup was made at that time.
    Good(DateTime<Utc>),
}

/// What follows from the present record of a job that changed.
pub(super) fn of_job(job: &Job) -> Vec<Step> {
    match job.kind {
        JobKind::Create => of_create(job),
        JobKind::Restore | JobKind::Undo => of_restore(job),
        JobKind::Verify | JobKind::Drill => {
            let condition = of_vault(&format!("proof:{}", job.key), job);
            match (&job.state, job.complete) {
                (State::Failed { .. }, _) | (State::Done, false) => vec![Step::Raise(
                    condition,
                    note(job, Event::ProofFailed, "A backup did not stand its check"),
                )],
                (State::Done, true) => {
                    let text = "A backup stands its check again";
                    vec![Step::Clear(vec![condition], note(job, Event::Recovery, text))]
                }
                _ => Vec::new(),
            }
        }
        JobKind::Prune => match &job.state {
            State::Failed { .. } => vec![Step::Raise(
                of_vault(PRUNE, job),
                note(job, Event::Failure, "Old backups could not be removed"),
            )],
            State::Done => {
                let text = "Old backups can be removed again";
                vec![Step::Clear(vec![of_vault(PRUNE, job)], note(job, Event::Recovery, text))]
            }
            _ => Vec::new(),
        },
        // Who uploads hears of it in the answer.
        JobKind::Upload => Vec::new(),
    }
}

fn of_create(job: &Job) -> Vec<Step> {
    match (&job.state, job.complete) {
        (State::Running, _) => vec![Step::Tell(note(job, Event::Start, "A backup begins"))],
        (State::Done, true) => {
            let recovered = note(job, Event::Recovery, "Backups work again");
            let told = Step::Tell(note(job, Event::Success, "A backup was made"));
            if !job.vault.is_empty() {
                return vec![Step::Clear(vec![of_vault(BACKUP, job)], recovered), told];
            }
            let cleared = [BACKUP, SCHEDULE, AGE].map(str::to_owned).to_vec();
            let good = Step::Good(job.ended.unwrap_or(job.started));
            vec![good, Step::Clear(cleared, recovered), told]
        }
        (State::Done, false) => {
            let note = note(job, Event::Failure, "A backup is not complete");
            vec![Step::Raise(of_vault(BACKUP, job), note)]
        }
        (State::Failed { .. } | State::Interrupted, _) => {
            let note = note(job, Event::Failure, "A backup failed");
            vec![Step::Raise(of_vault(BACKUP, job), note)]
        }
        (State::Cancelled, _) => Vec::new(),
    }
}

/// The trouble of one vault: the folder's has the plain name.
fn of_vault(condition: &str, job: &Job) -> String {
    match job.vault.as_str() {
        "" => condition.to_owned(),
        name => format!("{condition}:{name}"),
    }
}

/// Each is told: a person waits for it.
fn of_restore(job: &Job) -> Vec<Step> {
    let (event, title) = match (&job.state, &job.restore_id) {
        (State::Failed { .. }, Some(_)) => (Event::RolledBack, "A restore was rolled back"),
        (State::Failed { .. } | State::Interrupted, _) => (Event::Failure, "A restore failed"),
        _ => return Vec::new(),
    };
    vec![Step::Tell(note(job, event, title))]
}

fn note(job: &Job, event: Event, title: &str) -> Note {
    let (said, hint) = match &job.state {
        State::Failed { message, hint } => (message.clone(), hint.clone()),
        State::Interrupted => ("The server ended in the middle of it.".to_owned(), None),
        _ => (String::new(), None),
    };
    let mut text = format!("{title}: {}", job.key);
    if !job.vault.is_empty() {
        text.push_str(&format!(" (database {})", job.vault));
    }
    if !said.is_empty() {
        text = format!("{text}\n{said}");
    }
    for line in job.notes.iter().take(LINES_MAX) {
        text = format!("{text}\n- {line}");
    }
    Note {
        event,
        title: title.to_owned(),
        text,
        hint,
        key: Some(job.key.to_string()),
        kind: Some(job.kind.as_str().to_owned()),
        job: Some(job.id),
        time: pocketbase_time(job.ended.unwrap_or(job.started)),
    }
}

/// News that are of no job.
pub(super) fn plain(event: Event, title: &str, text: String, now: DateTime<Utc>) -> Note {
    Note {
        event,
        title: title.to_owned(),
        text,
        hint: None,
        key: None,
        kind: None,
        job: None,
        time: pocketbase_time(now),
    }
}

/// The runs of a schedule after `looked` that should have begun by `now` and did not; and up to
/// when runs were found or missed.
pub(super) fn missed(
    schedule: &Schedule,
    jobs: &[Job],
    looked: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Vec<DateTime<Utc>>, DateTime<Utc>) {
    let mut looked = looked.max(now - LOOK_BACK);
    let mut missed = Vec::new();
    while let Some(due) = schedule.next_after(looked).filter(|due| *due + GRACE <= now) {
        let begun = |job: &&Job| {
            job.is_of_folder(JobKind::Create)
                && job.method == Method::Scheduled
                && job.started >= due
                && job.started <= due + GRACE
        };
        if !jobs.iter().any(|job| begun(&job)) {
            missed.push(due);
        }
        looked = due;
    }
    (missed, looked)
}
