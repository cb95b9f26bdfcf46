//! What goes wrong: the answer, the record of the job, and nothing left over.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use super::cluster::{Cluster, PASSWORD};
use super::{Place, Served, until};
use crate::raw::Request;

const ON_SERVER: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE application_name = 'pocketvault' AND datname = current_database()";

/// Holds a lock that stops every dump, until it is dropped.
fn locked(cluster: &Cluster, database: &str) -> super::cluster::Background {
    let lock = cluster.background(database, "BEGIN; LOCK TABLE t; SELECT pg_sleep(60)");
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    until("the table is locked", || cluster.sql(database, held) != "0");
    lock
}

fn is_empty(served: &Served) -> bool {
    fs::read_dir(served.backups()).map_or(true, |mut files| files.next().is_none())
}

#[test]
fn servers_that_refuse_or_are_silent_are_told_and_recorded() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("refused");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("postgres://u@127.0.0.1:{}/d", socket.local_addr().expect("one").port());
    drop(socket);
    for (url, said) in [
        (cluster.url_as("postgres", "geheim-und-falsch", &database), "refuses the credentials"),
        (silent, "does not answer"),
        (cluster.url("not there"), "no such database"),
    ] {
        let served = Served::new(&url, "");
        let answer = served.send("POST /backups");
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(message.contains(said), "{message}");
        let job = served.last_job();
        assert_eq!((&job["state"], &job["error"]), (&json!("failed"), &json!(message)), "{job}");
        assert_eq!(job["notes"][0], "database ledger");
        assert!(is_empty(&served));
        let everything = format!("{job} {}", served.server.log());
        assert!(!everything.contains("geheim"), "{everything}");
        // PocketBase's backups are not concerned.
        let create = Request::new("POST /api/backups").auth(&served.token);
        assert_eq!(served.server.send(&create).status, 204);
    }
}

#[test]
fn a_cancelled_dump_leaves_nothing_here_nor_on_the_server() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("cancelled");
    cluster.sql(&database, "CREATE TABLE t ()");
    let served = Served::new(&cluster.url(&database), "");
    let _lock = locked(&cluster, &database);
    let create = Request::new("POST /api/vault/databases/ledger/backups").auth(&served.token);
    let answer = served.server.send(&create.header("Prefer", "respond-async"));
    assert_eq!(answer.status, 202);
    until("the dump is under way", || cluster.sql(&database, ON_SERVER) == "2");
    assert_eq!(served.send("POST /backups").status, 400, "busy");
    // The password is in no process's arguments.
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(PASSWORD));
    }
    let location = answer.header("Location").expect("a job");
    let cancel = Request::new(&format!("DELETE {location}")).auth(&served.token);
    assert_eq!(served.server.send(&cancel).json()["state"], "cancelled");
    until("nobody of ours is left on the server", || cluster.sql(&database, ON_SERVER) == "0");
    assert!(is_empty(&served));
}

#[test]
fn a_server_that_is_killed_in_the_middle_is_told_and_forgotten() {
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create("killed");
    cluster.sql(&database, "CREATE TABLE t AS SELECT 1 AS i");
    let served = Served::new(&cluster.url(&database), "");
    let lock = locked(&cluster, &database);
    let create = Request::new("POST /api/vault/databases/ledger/backups").auth(&served.token);
    let answer = served.server.send(&create.clone().header("Prefer", "respond-async"));
    until("the dump is under way", || cluster.sql(&database, ON_SERVER) == "2");
    cluster.crash();
    drop(lock);
    let job = served.wait(answer.header("Location").expect("a job"));
    assert_eq!(job["state"], "failed", "{job}");
    let notes = job["notes"].to_string();
    assert!(notes.contains("pg_dump ended with exit status 1"), "{job}");
    assert!(is_empty(&served));
    cluster.restart();
    assert_eq!(served.send("POST /backups").status, 201);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("full");
    cluster.sql(&database, "CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 3000) i");
    let place = Place::new(&cluster.url(&database), "");
    place.done(&["backup", "ledger", "a.dump"]);
    let good = place.backups();
    let mut failed = 0;
    for call in 1..100 {
        let mut command = place.command(&["backup", "ledger", "b.dump"]);
        let output = command.env("POCKETVAULT_FAIL_AT", format!("{call}+:ENOSPC")).output();
        if output.expect("the program").status.success() {
            break;
        }
        failed += 1;
        assert_eq!(place.backups(), good, "call {call}");
    }
    assert!(failed >= 5, "only {failed} calls were found");
    assert!(place.backups().len() > good.len(), "the last one succeeded");
}
