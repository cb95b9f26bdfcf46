//! Records: how jobs end, what outlives the process, and who hears of it.

use super::*;
use crate::error::Kind;

fn key() -> Key {
    Key::named("a.zip").expect("a key")
}

fn failed(message: &str, hint: Option<&str>) -> State {
    State::Failed { message: message.to_owned(), hint: hint.map(ToOwned::to_owned) }
}

#[tokio::test]
async fn a_job_tells_how_it_ended() {
    let jobs = Jobs::new(Clock::system());
    let good = jobs.open(JobKind::Create, Method::Api, &key());
    good.control().add_bytes(3);
    assert_eq!(jobs.list()[0].progress.bytes, 3);
    assert!(jobs.any_running());
    good.finish(&Ok(())).await;
    let bad = jobs.open(JobKind::Restore, Method::Api, &key());
    bad.note("x was skipped");
    let error = Error::new(Kind::NoSpace, "no room").hint("make room");
    bad.finish::<()>(&Err(error)).await;
    drop(jobs.open(JobKind::Upload, Method::Scheduled, &key()));
    let states: Vec<_> = jobs.list().into_iter().map(|job| (job.id, job.state)).collect();
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

#[tokio::test]
async fn old_records_leave_the_memory_and_stay_in_the_history() {
    let state = StateDb::in_memory().await.expect("made");
    let jobs = Jobs::load(Clock::system(), state).await.expect("loaded");
    let running = jobs.open(JobKind::Create, Method::Api, &key());
    for _ in 0..RECORDS_MAX + 4 {
        jobs.open(JobKind::Create, Method::Api, &key()).finish(&Ok(())).await;
    }
    assert_eq!(jobs.list().len(), RECORDS_MAX);
    assert!(jobs.find(running.id()).is_some(), "running ones are never forgotten");
    assert!(jobs.find(3).is_none());
    assert_eq!(jobs.find_ever(3).await.expect("read").expect("kept").state, State::Done);
    assert!(jobs.find_ever(1_000_000).await.expect("read").is_none());
}

#[tokio::test]
async fn records_outlive_the_process_and_say_what_was_cut_off() {
    let home = tempfile::tempdir().expect("a folder");
    let clock = Clock::fixed("2026-11-21T09:00:00.5Z".parse().expect("a date"));
    let open = || async {
        let state = StateDb::open(home.path(), &clock).await.expect("opened");
        let jobs = Jobs::load(clock.clone(), state.clone()).await.expect("loaded");
        (state, jobs)
    };
    let (state, jobs) = open().await;
    let done = jobs.open(JobKind::Create, Method::Scheduled, &key());
    done.note("left out x");
    done.incomplete();
    done.control().expect(10, 2);
    done.finish(&Ok(())).await;
    let cut_off = jobs.open(JobKind::Create, Method::Api, &key());
    let restore = jobs.open(JobKind::Restore, Method::Api, &key());
    restore.hand_over("r1").await;
    let other = jobs.open(JobKind::Restore, Method::Api, &key());
    other.hand_over("r2").await;
    let before = jobs.find(1).expect("kept");
    let seen = *jobs.changes().borrow();
    // The process is killed here: nothing is dropped.
    std::mem::forget(cut_off);
    state.close().await;

    let (state, jobs) = open().await;
    assert_eq!(jobs.find(1).expect("kept"), before);
    assert!(!before.complete);
    assert_eq!(jobs.find(2).expect("kept").state, State::Interrupted);
    assert_eq!(jobs.find(3).expect("kept").state, State::Running);
    assert!(!jobs.any_running(), "nobody works on it in this process");
    assert_eq!(jobs.cancel(3), Cancel::Ended);
    let verdict = Err(Error::new(Kind::Corrupt, "it did not open"));
    jobs.settle(Some(("r1", verdict))).await;
    assert_eq!(jobs.find(3).expect("kept").state, failed("it did not open", None));
    assert_eq!(jobs.find(4).expect("kept").state, State::Interrupted);
    assert!(*jobs.changes().borrow() > seen);
    assert_eq!(jobs.open(JobKind::Create, Method::Api, &key()).id(), 5);
    state.close().await;
}

#[tokio::test]
async fn cancelling_reaches_the_worker_and_every_change_has_its_revision() {
    let jobs = Jobs::new(Clock::system());
    let mut changes = jobs.changes();
    let handle = jobs.open(JobKind::Create, Method::Api, &key());
    assert!(changes.has_changed().expect("alive"));
    let first = *changes.borrow_and_update();
    assert_eq!(jobs.find(1).expect("there").revision, first);
    assert_eq!(jobs.cancel(1), Cancel::Told);
    let stopped = handle.control().check();
    assert_eq!(stopped.as_ref().expect_err("told").kind(), &Kind::Cancelled);
    handle.finish(&stopped).await;
    assert_eq!(jobs.find(1).expect("there").state, State::Cancelled);
    assert!(jobs.find(1).expect("there").revision > first);
    assert_eq!(jobs.cancel(1), Cancel::Ended);
    assert_eq!(jobs.cancel(7), Cancel::Unknown);
}

#[tokio::test]
async fn a_job_past_its_point_of_no_return_cannot_be_cancelled() {
    let jobs = Jobs::new(Clock::system());
    let handle = jobs.open(JobKind::Restore, Method::Api, &key());
    handle.control().seal().expect("nobody asked");
    assert_eq!(jobs.cancel(1), Cancel::Ended);
    handle.control().check().expect("it goes on");
    handle.finish(&Ok(())).await;
}
