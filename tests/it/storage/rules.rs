//! Each destination by itself: its own retention, and how it stands.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::destinations::{Ground, files, listed};
use super::server::{create, soon};
use crate::harness::Server;
use crate::raw::Request;

const RULES: &str = "[destination.retention]\nlast = 2\nminimum = 1\nmanual = true\n\
                     [retention]\nlast = 1\nminimum = 1\nmanual = true\n\
                     [spool]\nretry = 1\n";

fn get(server: &Server, token: &str, path: &str) -> Value {
    let answer = server.send(&Request::new(&format!("GET {path}")).auth(token));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Makes a backup, and waits until each copy is proven: the newest proven one is never removed.
fn make(server: &Server, token: &str, name: &str) {
    assert_eq!(create(server, token, name).status, 204, "{}", server.log());
    soon("all proofs", || {
        let one = listed(server, token, name)?;
        let is_proven = |copy: &Value| copy["state"] != "stored" || copy["proof"].is_object();
        one["destinations"].as_array()?.iter().all(is_proven).then_some(())
    });
}

/// Prunes: what the job noted.
fn prune(server: &Server, token: &str) -> String {
    let answer = server.send(&Request::new("POST /api/vault/prune").auth(token));
    let place = answer.header("location").expect("a place").to_owned();
    let job = soon("the end of a prune", || {
        let job = get(server, token, &place);
        (job["state"] != "running").then_some(job)
    });
    assert_eq!(job["state"], "done", "{job}");
    job["notes"].to_string()
}

/// A command on the server's folder, with its configuration: whether it went well, and what it
/// said.
fn command(ground: &Ground, server: &Server, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketvault"));
    command.args(arguments).args(ground.arguments()).arg("--dir").arg(server.data_dir());
    let output = command.current_dir(server.data_dir()).output().expect("run");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

#[test]
fn each_destination_keeps_by_its_own_rules_and_says_how_it_stands() {
    let ground = Ground::with_disk(RULES);
    let (server, token) = ground.start();
    for name in ["a.zip", "b.zip", "c.zip"] {
        make(&server, &token, name);
    }
    let preview = get(&server, &token, "/api/vault/prune");
    let counts = |at: usize| {
        let one = &preview["destinations"][at];
        (one["name"].clone(), one["expired"].as_array().map(Vec::len), one["kept"].as_u64())
    };
    assert_eq!(counts(0), (json!("pocketbase"), Some(2), Some(1)), "{preview}");
    assert_eq!(counts(1), (json!("disk"), Some(1), Some(2)), "{preview}");
    assert_eq!(preview["expired"].as_array().map(Vec::len), Some(2), "the first at the top");

    let (ok, said) = command(&ground, &server, &["prune", "--dry-run"]);
    assert!(ok && said.contains("disk:\na.zip") && said.contains("2 would go"), "{said}");

    let notes = prune(&server, &token);
    assert!(notes.contains("disk: removed a.zip"), "{notes}");
    assert_eq!(ground.bucket.keys(), ["c.zip"], "{notes}");
    assert_eq!(files(&ground.disk()), 2, "{notes}");
    let status = get(&server, &token, "/api/vault/status");
    assert_eq!(status["health"], "healthy", "{status}");
    assert_eq!(status["destinations"][0]["count"], 1, "{status}");
    assert_eq!(status["destinations"][1]["count"], 2, "{status}");

    // A destination that lacks a backup keeps what it has, and is told of.
    ground.bucket.habits(|habits| habits.down = true);
    make(&server, &token, "d.zip");
    let status = get(&server, &token, "/api/vault/status");
    let (bucket, disk) = (&status["destinations"][0], &status["destinations"][1]);
    assert_eq!((&bucket["health"], &bucket["waiting"]), (&json!("failing"), &json!(1)), "{status}");
    assert_eq!(bucket["count"], 1, "what is known of a silent one is told: {status}");
    assert_eq!((&disk["health"], &disk["waiting"]), (&json!("healthy"), &json!(0)), "{status}");
    let (_, said) = command(&ground, &server, &["prune", "--yes"]);
    assert!(said.contains("pocketbase: backups wait to be sent there"), "{said}");
    let notes = prune(&server, &token);
    assert!(notes.contains("pocketbase: backups wait to be sent there"), "{notes}");
    assert!(said.contains("removed b.zip"), "it went by hand: {said}");
    assert_eq!(files(&ground.disk()), 2, "{notes}");
    ground.bucket.heal();
    soon("the backup in the bucket", || ground.bucket.object("d.zip"));
    soon("a healthy bucket", || {
        let status = get(&server, &token, "/api/vault/status");
        (status["destinations"][0]["health"] == "healthy").then_some(())
    });
    soon("a proof in the bucket", || {
        let copies = &listed(&server, &token, "d.zip")?["destinations"];
        copies[0]["proof"].is_object().then_some(())
    });
    assert_eq!(ground.bucket.keys(), ["c.zip", "d.zip"], "not one was lost meanwhile");
    prune(&server, &token);
    assert_eq!(ground.bucket.keys(), ["d.zip"]);
}

#[test]
fn a_pin_holds_everywhere_and_a_silent_store_is_no_empty_one() {
    let ground = Ground::with_disk(RULES);
    let (server, token) = ground.start();
    for name in ["a.zip", "b.zip", "c.zip"] {
        make(&server, &token, name);
        let pin = Request::new(&format!("POST /api/vault/backups/{name}/pin")).auth(&token);
        assert_eq!(server.send(&pin).json()["pinned"], true);
    }
    prune(&server, &token);
    assert_eq!((ground.bucket.keys().len(), files(&ground.disk())), (3, 3));

    fs::remove_file(ground.disk().join("b.zip")).expect("removed");
    ground.bucket.habits(|habits| habits.down = true);
    let listed = get(&server, &token, "/api/vault/backups");
    let told: Vec<(&Value, &Value)> =
        listed.as_array().expect("a list").iter().map(|one| (&one["key"], &one["state"])).collect();
    let stored = json!("stored");
    let (a, b, c) = (json!("a.zip"), json!("b.zip"), json!("c.zip"));
    assert_eq!(told, [(&a, &stored), (&b, &json!("unknown")), (&c, &stored)], "{listed}");
}
