//! Restores under a program: proven by its answer, or rolled back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::stand_in::BEHAVIOUR;
use super::{before_the_stand_in, server_with};
use crate::harness::Server;
use crate::raw::Request;

/// Backs up data on which the program behaves like this, then goes back to good data.
fn back_up(server: &Server, token: &str, behaviour: &str) {
    let file = server.data_dir().join(BEHAVIOUR);
    fs::write(&file, behaviour).expect("written");
    let name = json!({ "name": "odd.zip" });
    let create = Request::new("POST /api/backups").auth(token).json(&name);
    assert_eq!(server.send(&create).status, 204);
    fs::remove_file(&file).expect("removed");
}

/// Restores that backup and waits for what is logged at its end.
fn restore(server: &Server, token: &str, end: &str) {
    let restore = Request::new("POST /api/backups/odd.zip/restore").auth(token);
    assert_eq!(server.send(&restore).status, 204);
    let limit = Instant::now() + Duration::from_secs(40);
    while !server.log().contains(end) {
        assert!(Instant::now() < limit, "{end}: {}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.send(&Request::new("GET /pid")).status, 200, "{}", server.log());
}

fn restored_behaviour(behaviour: &str, end: &str) -> (String, String) {
    let (server, token) = server_with(&["--start-timeout", "3"]);
    back_up(&server, &token, behaviour);
    restore(&server, &token, end);
    let list = server.send(&Request::new("GET /api/backups").auth(&token));
    assert_eq!(list.status, 200, "{}", list.text());
    let found = fs::read_to_string(server.data_dir().join(BEHAVIOUR)).unwrap_or_default();
    let jobs = server.send(&Request::new("GET /api/vault/jobs").auth(&token)).json();
    let jobs = jobs.as_array().expect("a list").iter();
    let ends = jobs.map(|job| format!("{} {}\n", job["kind"], job["state"]).replace('"', ""));
    (found, server.log() + &ends.collect::<String>())
}

#[test]
fn data_on_which_the_program_is_well_is_proven() {
    let (found, log) = restored_behaviour("200", "is proven");
    assert_eq!(found, "200", "{log}");
    assert!(log.contains("restore done"), "its job says so: {log}");
}

#[test]
fn data_on_which_the_program_answers_oddly_is_kept() {
    for status in ["403", "500"] {
        assert_eq!(restored_behaviour(status, "is proven").0, status);
    }
}

#[test]
fn data_on_which_the_program_dies_is_rolled_back() {
    let (found, log) = restored_behaviour("dies", "ROLLING BACK");
    assert_eq!(found, "", "{log}");
    assert!(log.contains("restore failed"), "its job says so: {log}");
    assert!(log.contains("the program dies when it is started: exit status: 7"), "{log}");
}

#[test]
fn data_on_which_the_program_is_silent_is_rolled_back() {
    let (found, log) = restored_behaviour("silent", "ROLLING BACK");
    assert_eq!(found, "", "{log}");
}

#[test]
fn killed_before_the_verdict_it_is_asked_for_once_more() {
    let (server, token) = server_with(&["--start-timeout", "4"]);
    back_up(&server, &token, "silent");
    let request = Request::new("POST /api/backups/odd.zip/restore").auth(&token);
    assert_eq!(server.send(&request).status, 204);
    let limit = Instant::now() + Duration::from_secs(30);
    while !server.log().contains("the stand-in serves \"silent\"") {
        assert!(Instant::now() < limit, "{}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    let server = before_the_stand_in(server.killed(), &["--start-timeout", "2"]);
    let log = server.log();
    assert!(log.contains("attempt=2") && log.contains("ROLLING BACK"), "{log}");
    assert_eq!(server.send(&Request::new("GET /pid")).status, 200);
    assert!(!server.data_dir().join(BEHAVIOUR).exists());
}

/// A schedule in the program's own settings would run twice, there and here.
#[test]
fn a_schedule_is_taken_over_at_the_start_and_out_of_restored_data() {
    let alone = Server::start_ours();
    let token = alone.login();
    let settings = |server: &Server, cron: &str| {
        let body = json!({ "backups": { "cron": cron } });
        let patch = Request::new("PATCH /api/settings").auth(&token).json(&body);
        assert_eq!(server.send(&patch).status, 200);
    };
    settings(&alone, "1 2 * * *");
    back_up(&alone, &token, "200");
    settings(&alone, "3 4 * * *");
    let held = |server: &Server| {
        let bytes = fs::read(server.data_dir().join(".pocketvault/settings")).expect("held");
        let held: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        held["cron"].as_str().expect("a schedule").to_owned()
    };
    let server = before_the_stand_in(alone, &[]);
    assert_eq!(held(&server), "3 4 * * *");
    restore(&server, &token, "is proven");
    assert_eq!(held(&server), "1 2 * * *");
    // Alone again, we have it all from the data, without which it is in no backup.
    let server = server.killed();
    fs::remove_dir_all(server.data_dir().join(".pocketvault")).expect("removed");
    let alone = server.again_with::<&str>(&[]);
    let shown = alone.send(&Request::new("GET /api/settings").auth(&token)).json();
    assert_eq!(shown["backups"]["cron"], "1 2 * * *");
    assert_eq!(shown["trustedProxy"]["headers"], json!([]));
}

/// An archive holds the data and nothing of the state folder.
#[test]
fn the_data_alone_bring_back_whom_to_trust_and_when_to_back_up() {
    let alone = Server::start_ours();
    let token = alone.login();
    let theirs = json!({
        "backups": { "cron": "1 2 * * *" },
        "trustedProxy": { "headers": ["X-Real-IP"], "useLeftmostIP": true },
    });
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&theirs);
    assert_eq!(alone.send(&patch).status, 200);
    let server = before_the_stand_in(alone, &[]).killed();
    let state = server.data_dir().join(".pocketvault");
    fs::remove_dir_all(&state).expect("removed");
    let server = before_the_stand_in(server, &[]);
    let bytes = fs::read(state.join("settings")).expect("held");
    let held: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(held["cron"], "1 2 * * *");
    assert_eq!(held["trustedProxy"], theirs["trustedProxy"]);
    let server = server.killed();
    fs::remove_dir_all(&state).expect("removed");
    let alone = server.again_with::<&str>(&[]);
    let health = |name: &str| {
        let request = Request::new("GET /api/health").auth(&token).header(name, "9.9.9.9");
        alone.send(&request).json()["data"]["realIP"].clone()
    };
    assert_eq!(health("X-Forwarded-For"), "127.0.0.1", "nobody forges an address");
    assert_eq!(health("X-Real-IP"), "9.9.9.9");
}
