//! Schedules, as a client and an operator see them.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::harness::Server;
use crate::raw::Request;

const NIGHTLY: &str = "[[schedule]]\nname = \"nightly\"\ncron = \"30 2 29 2 *\"\n\
    timezone = \"Europe/Berlin\"\nlabel = \"every night\"\n";

fn list(server: &Server, token: &str) -> Vec<Value> {
    let answer = server.send(&Request::new("GET /api/vault/schedules").auth(token));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().expect("a list").clone()
}

fn until(server: &Server, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}\n{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn schedules_are_shown_run_by_hand_and_followed_in_their_file() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("pocketvault.toml");
    fs::write(&file, NIGHTLY).expect("written");
    let path = file.to_str().expect("a path").to_owned();
    let server = Server::start_ours_with(&["--config", &path]);
    let token = server.login();
    assert_eq!(server.send(&Request::new("GET /api/vault/schedules")).status, 401);
    let shown = list(&server, &token);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(
        (&shown[0]["what"], &shown[0]["timeZone"]),
        (&json!("backup"), &json!("Europe/Berlin"))
    );
    assert!(shown[0]["nextRun"].as_str().expect("a time").contains("-02-29 01:30"), "{shown:?}");
    let status = server.send(&Request::new("GET /api/vault/status").auth(&token)).json();
    assert_eq!(status["nextRun"], shown[0]["nextRun"], "{status}");

    let run = Request::new("POST /api/vault/schedules/nightly/run");
    assert_eq!(server.send(&run).status, 401);
    let answer = server.send(&run.auth(&token));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let place = answer.header("location").expect("a place").to_owned();
    until(&server, "the run ends", || list(&server, &token)[0]["lastRun"]["state"] == "done");
    let last = list(&server, &token)[0]["lastRun"].clone();
    assert_eq!(place, format!("/api/vault/jobs/{}", last["job"]), "{last}");
    let backups = server.send(&Request::new("GET /api/vault/backups").auth(&token)).json();
    assert_eq!(backups[0]["label"], "every night", "{backups}");
    assert_eq!((&backups[0]["method"], &backups[0]["key"]), (&json!("scheduled"), &last["said"]));
    let none = Request::new("POST /api/vault/schedules/none/run").auth(&token);
    assert_eq!(server.send(&none).status, 404);

    let more = "[[schedule]]\nname = \"look\"\ncron = \"@daily\"\nwhat = \"drill\"\n";
    fs::write(&file, format!("{NIGHTLY}{more}")).expect("written");
    assert_eq!(list(&server, &token).len(), 2, "followed without a restart");
    let cron = json!({"backups": {"cron": "0 0 * * *"}});
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&cron);
    assert_eq!(server.send(&patch).status, 200);
    let names: Vec<Value> = list(&server, &token).iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["nightly", "look", "__pbAutoBackup__"]);
    fs::write(&file, "[[schedule]]\nname = \"x\"\n").expect("written");
    assert_eq!(list(&server, &token).len(), 3, "a broken file changes nothing");
    assert!(server.log().contains("THE SCHEDULES ARE THOSE OF BEFORE"), "{}", server.log());

    fs::write(&file, NIGHTLY).expect("written");
    let said = Command::new(env!("CARGO_BIN_EXE_pocketvault"))
        .args(["schedule", "--config", &path])
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("nightly  backup  30 2 29 2 * Europe/Berlin\n"), "{said}");
}

#[test]
fn a_run_that_the_server_slept_over_is_made_up_for_at_the_next_start() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("pocketvault.toml");
    fs::write(&file, NIGHTLY.replace("29 2", "* *")).expect("written");
    let path = file.to_str().expect("a path").to_owned();
    let mut server = Server::start_ours_with(&["--config", &path]);
    assert_eq!(server.stop(Duration::from_secs(5)), Some(true));
    let state = server.data_dir().join(".pocketvault/state.db");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(&state);
        let mut db: SqliteConnection = options.connect().await.expect("opened");
        let sql = "INSERT INTO schedules (name, expression, looked) \
            VALUES ('nightly', '30 2 * * * Europe/Berlin', (unixepoch() - 3 * 86400) * 1000)";
        sqlx::query(sql).execute(&mut db).await.expect("written");
        db.close().await.expect("closed");
    });
    let server = server.again_with(&["--config", &path]);
    let token = server.login();
    until(&server, "made up for", || list(&server, &token)[0]["lastRun"]["state"] == "done");
    let shown = list(&server, &token);
    assert!((2..=3).contains(&shown[0]["missed"].as_u64().expect("a number")), "{shown:?}");
    let backups = server.send(&Request::new("GET /api/backups").auth(&token)).json();
    assert_eq!(backups.as_array().map(Vec::len), Some(1), "one run, not many: {backups}");
}
