//! Backups that look after themselves, as a client and an operator see them.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::raw::Request;

/// Begins something, and waits for the job: the job.
fn run(server: &Server, token: &str, line: &str, body: Option<Value>) -> Value {
    let request = Request::new(line).auth(token);
    let request = match &body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = server.send(&request);
    assert_eq!(answer.status, 202, "{line}: {}", answer.text());
    let place = answer.header("location").expect("a place").to_owned();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let job = server.send(&Request::new(&format!("GET {place}")).auth(token)).json();
        if job["state"] != "running" {
            return job;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{line} does not end\n{}", server.log());
}

/// What is known about a backup, once it was proven.
fn proven(server: &Server, token: &str, key: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let list = server.send(&Request::new("GET /api/vault/backups").auth(token)).json();
        let one = list.as_array().expect("a list").iter().find(|one| one["key"] == key).cloned();
        if let Some(one) = one.filter(|one| one["proof"].is_object()) {
            return one;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{key} was never proven\n{}", server.log());
}

fn command(server: &Server, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pocketvault"))
        .args(arguments)
        .arg("--dir")
        .arg(server.data_dir())
        .current_dir(server.data_dir())
        .output()
        .expect("run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_backup_is_read_back_drilled_pinned_and_found_out_when_it_rots() {
    let server = Server::start_ours();
    let token = server.login();
    let label = json!({"name": "a.zip", "label": "before migration 42"});
    let job = run(&server, &token, "POST /api/vault/backups", Some(label));
    assert_eq!((&job["state"], &job["key"]), (&json!("done"), &json!("a.zip")), "{job}");
    let one = proven(&server, &token, "a.zip");
    assert_eq!((&one["label"], &one["origin"]), (&json!("before migration 42"), &json!("made")));
    assert_eq!((&one["proof"]["ok"], &one["proof"]["kind"]), (&json!(true), &json!("read")));

    let status = server.send(&Request::new("GET /api/vault/status").auth(&token)).json();
    assert_eq!((&status["health"], &status["count"]), (&json!("healthy"), &json!(1)), "{status}");
    assert_eq!(status["lastProven"]["key"], "a.zip", "{status}");
    assert!(status["freeBytes"].as_u64() > Some(0), "{status}");
    assert_eq!(server.send(&Request::new("GET /api/vault/status")).status, 401);

    let job = run(&server, &token, "POST /api/vault/backups/a.zip/drill", None);
    assert_eq!((&job["state"], &job["kind"]), (&json!("done"), &json!("drill")), "{job}");
    assert!(job["notes"][0].as_str().expect("a note").contains("collections"), "{job}");
    let answer = server.send(&Request::new("POST /api/vault/backups/a.zip/pin").auth(&token));
    assert_eq!((answer.status, &answer.json()["pinned"]), (200, &json!(true)));
    assert!(command(&server, &["verify", "a.zip"]).0);
    assert!(command(&server, &["drill", "backups/a.zip"]).0);

    let path = server.data_dir().join("backups/a.zip");
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).expect("written");
    let job = run(&server, &token, "POST /api/vault/backups/a.zip/verify", None);
    assert_eq!(job["state"], "failed", "{job}");
    let one = proven(&server, &token, "a.zip");
    assert_eq!((&one["proof"]["ok"], &one["pinned"]), (&json!(false), &json!(true)), "{one}");
    let (ok, said) = command(&server, &["verify", "a.zip"]);
    assert!(!ok && said.contains("Error"), "{said}");
    let (ok, said) = command(&server, &["status"]);
    assert!(!ok && said.starts_with("failing\n"), "{said}");
    for line in [
        "POST /api/vault/backups/none.zip/verify",
        "POST /api/vault/backups/none.zip/drill",
        "POST /api/vault/backups/none.zip/pin",
    ] {
        assert_eq!(server.send(&Request::new(line).auth(&token)).status, 404, "{line}");
        assert_eq!(server.send(&Request::new(line)).status, 401, "{line}");
    }
}

#[test]
fn a_prune_says_beforehand_what_it_does_and_touches_nothing_else() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("pocketvault.toml");
    fs::write(&file, "[retention]\nlast = 1\nminimum = 1\nmanual = true\n").expect("written");
    let file = file.to_str().expect("a path").to_owned();
    let server = Server::start_ours_with(&["--config", &file]);
    let token = server.login();
    fs::create_dir_all(server.data_dir().join("backups")).expect("made");
    fs::write(server.data_dir().join("backups/foreign.zip"), b"PK\x05\x06").expect("written");
    for name in ["a.zip", "b.zip", "c.zip", "d.zip"] {
        let job = run(&server, &token, "POST /api/vault/backups", Some(json!({"name": name})));
        assert_eq!(job["state"], "done", "{job}");
        proven(&server, &token, name);
    }
    server.send(&Request::new("POST /api/vault/backups/a.zip/pin").auth(&token));
    let preview = server.send(&Request::new("GET /api/vault/prune").auth(&token)).json();
    let keys = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|one| one["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys(&preview["expired"]), ["b.zip", "c.zip"], "{preview}");
    let (ok, said) = command(&server, &["prune", "--dry-run", "--config", &file]);
    assert!(ok && said.contains("b.zip") && said.contains("2 would go"), "{said}");
    let job = run(&server, &token, "POST /api/vault/prune", None);
    assert_eq!((&job["state"], &job["kind"]), (&json!("done"), &json!("prune")), "{job}");
    let list = server.send(&Request::new("GET /api/backups").auth(&token)).json();
    assert_eq!(keys(&list), ["a.zip", "d.zip", "foreign.zip"]);
}

#[test]
fn a_backup_beyond_the_quota_is_refused_at_once_with_numbers() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("pocketvault.toml");
    fs::write(&file, "[space]\nquota = \"1KB\"\n").expect("written");
    let server = Server::start_ours_with(&["--config", file.to_str().expect("a path")]);
    let token = server.login();
    let job = run(&server, &token, "POST /api/vault/backups", None);
    assert_eq!(job["state"], "done", "nothing is known about its size: {job}");
    let answer = server.send(&Request::new("POST /api/vault/backups").auth(&token));
    let said = answer.text();
    assert!(answer.status == 507 && said.contains("quota of 1000 bytes"), "{said}");
    assert!(said.contains("Hint"), "{said}");
    let named = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "b.zip"}));
    let answer = server.send(&named);
    assert!(answer.status == 400 && answer.text().contains("quota"), "{}", answer.text());
    let list = server.send(&Request::new("GET /api/backups").auth(&token)).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
}
