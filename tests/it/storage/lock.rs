//! Several servers and one bucket: one works at a time, and the dead hold nobody up for long.

use std::time::Duration;

use pocketvault::config::storage::S3Extras;
use pocketvault::error::Kind;
use pocketvault::storage::{S3Storage, Storage};
use serde_json::json;

use super::server::{ballast, configured, create, keys, soon};
use super::{Bench, options};
use crate::harness::Server;
use crate::raw::Request;
use crate::s3::{Conditions, Effect, Fault, Operation, S3Server};

const LOCK: &str = ".pocketvault-lock";

/// A bench whose locks count for so long, and a second client of its bucket.
fn two(lease: Duration) -> (Bench, S3Storage) {
    let short = |extras: &mut S3Extras| extras.lock_lease = lease;
    let bench = Bench::with(|options| short(&mut options.extras));
    let mut other = options(&bench.server);
    short(&mut other.extras);
    let other = S3Storage::new(&other).expect("a client");
    (bench, other)
}

async fn one_holder_and_expiry(conditions: Conditions, lease: Duration) {
    let (bench, other) = two(lease);
    bench.server.habits(|habits| habits.conditions = conditions);
    let mut held = bench.storage.lock().await.expect("taken").expect("a lock");
    assert!(other.lock().await.is_err_and(|error| error.kind() == &Kind::Busy));
    assert!(bench.storage.list().await.expect("listed").is_empty(), "it is no backup");
    // Renewed, it does not expire.
    for _ in 0..3 {
        tokio::time::sleep(lease.mul_f64(0.7)).await;
        held.renew().await.expect("renewed");
    }
    assert!(other.lock().await.is_err_and(|error| error.kind() == &Kind::Busy));
    held.release().await;
    assert!(bench.server.keys().is_empty(), "it is given back");

    // Silent, it expires, and whoever held it learns that.
    let mut dead = bench.storage.lock().await.expect("taken").expect("a lock");
    tokio::time::sleep(lease + Duration::from_millis(2_100)).await;
    let mut taken = other.lock().await.expect("taken over").expect("a lock");
    assert!(dead.renew().await.is_err_and(|error| error.kind() == &Kind::Busy));
    dead.release().await;
    assert_eq!(bench.server.keys(), [LOCK], "what is another's stays");
    taken.renew().await.expect("renewed");
    taken.release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_has_one_holder_and_expires_when_that_is_silent() {
    one_holder_and_expiry(Conditions::Kept, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_where_conditions_are_refused() {
    one_holder_and_expiry(Conditions::Refused, Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_where_conditions_are_ignored() {
    one_holder_and_expiry(Conditions::Ignored, Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_takes_the_lock() {
    let bench = Bench::new();
    let clients: Vec<_> =
        (0..8).map(|_| S3Storage::new(&options(&bench.server)).expect("a client")).collect();
    let taken = futures_util::future::join_all(clients.iter().map(|client| client.lock())).await;
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_whose_answers_are_lost_is_held_all_the_same() {
    let bench = Bench::new();
    let lost = || Fault::on(Operation::Put, Effect::ResetInsteadOfAnswer);
    let mut held = bench.storage.lock().await.expect("taken").expect("a lock");
    bench.server.fault(lost());
    assert!(held.renew().await.is_err_and(|error| error.kind() != &Kind::Busy));
    held.renew().await.expect("found to be ours");
    held.renew().await.expect("renewed");
    held.release().await;
    assert!(bench.server.keys().is_empty());
}

#[test]
fn two_servers_never_work_at_once_and_a_killed_one_s_lock_expires() {
    let bucket = S3Server::start();
    let home = tempfile::tempdir().expect("a folder");
    let file = configured(&bucket, home.path(), "lock_lease = 2\n[spool]\nwhen = 'never'\n");
    let first = Server::start_ours_with(&["--config", &file]);
    let second = Server::start_ours_with(&["--config", &file]);
    let (token, other) = (first.login(), second.login());
    ballast(&first, 20 << 20);
    let stuck = Fault::on(Operation::Part, Effect::Status(503, "SlowDown")).part(2).always();
    bucket.fault(stuck);
    let request = Request::new("POST /api/backups").auth(&token);
    let request = request.header("Prefer", "respond-async").json(&json!({ "name": "a.zip" }));
    assert_eq!(first.send(&request).status, 202);
    soon("a part", || bucket.uploads().iter().any(|u| !u.parts.is_empty()).then_some(()));
    std::thread::sleep(Duration::from_secs(4));
    let busy = create(&second, &other, "b.zip");
    assert_eq!(busy.status, 400);
    assert!(busy.text().contains("Try again later"), "renewed meanwhile: {}", busy.text());
    assert!(keys(&second, &other).is_empty(), "a lock is no backup");

    let _first = first.killed();
    assert!(bucket.keys().contains(&LOCK.to_owned()), "the dead give nothing back");
    bucket.heal();
    soon("the lock", || (create(&second, &other, "b.zip").status == 204).then_some(()));
    assert_eq!(bucket.keys(), ["b.zip"], "and it is given back");
}
