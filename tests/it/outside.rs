//! A restore beside an application that we did not start: it is stopped and started by the
//! commands that the operator gave, and started again when the restored data does not suit it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::archives::{Member, read_zip, write_zip};
use crate::harness::Server;
use crate::hostile::upload;
use crate::raw::Request;

/// How long a swap with commands around it may take.
const SWAPPED_MAX: Duration = Duration::from_secs(60);

/// A server beside a process that holds the database open and refuses data with a file
/// `broken` in it.
fn beside(home: &Path, commands: bool) -> Server {
    beside_with(home, commands, "")
}

/// The same, with more lines in the table.
fn beside_with(home: &Path, commands: bool, more: &str) -> Server {
    let script = home.join("app.sh");
    let text = format!(
        "cd {home}\n\
         data=$(cat data)\n\
         case $1 in\n\
         stop) kill $(cat pid) ;;\n\
         start) test ! -e $data/broken || exit 3\n\
                sleep 600 < $data/data.db > /dev/null 2>&1 & echo $! > pid ;;\n\
         esac\n\
         echo $1 >> said\n",
        home = home.display()
    );
    fs::write(&script, text).unwrap();
    let config = home.join("pocketvault.toml");
    let script = script.display();
    let table = match commands {
        false => String::new(),
        true => format!(
            "[restore]\nstop_command = ['sh', '{script}', 'stop']\n\
             start_command = ['sh', '{script}', 'start']\n{more}"
        ),
    };
    fs::write(&config, table).unwrap();
    Server::start_ours_with(&["--beside", "--config", config.to_str().unwrap()])
}

/// Starts the application for the first time, as its owner does.
fn start_application(home: &Path, server: &Server) {
    fs::write(home.join("data"), server.data_dir().to_str().unwrap()).unwrap();
    let script = home.join("app.sh");
    assert!(Command::new("sh").arg(script).arg("start").status().unwrap().success());
}

fn stop_application(home: &Path) {
    assert!(Command::new("sh").arg(home.join("app.sh")).arg("stop").status().unwrap().success());
}

fn status(server: &Server, token: &str) -> serde_json::Value {
    let request = Request::new("GET /api/vault/restore").auth(token);
    request.send(server.address()).map_or(json!(null), |answer| answer.json())
}

/// Restores, and waits for the verdict.
fn restore(server: &Server, token: &str, name: &str) -> serde_json::Value {
    let restore = Request::new(&format!("POST /api/backups/{name}/restore")).auth(token);
    let answer = server.send(&restore);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let end = Instant::now() + SWAPPED_MAX;
    loop {
        let status = status(server, token);
        if status["last"]["key"] == name && status["last"]["settled"] == true {
            return status;
        }
        assert!(Instant::now() < end, "{status}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_application_that_is_not_ours_is_stopped_and_started_around_a_restore() {
    let home = tempfile::tempdir().unwrap();
    let server = beside(home.path(), true);
    let token = server.login();
    start_application(home.path(), &server);
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let mut members = read_zip(&fs::read(server.data_dir().join("backups/a.zip")).unwrap());
    fs::write(server.data_dir().join("later"), "x").unwrap();

    let after = restore(&server, &token, "a.zip");
    assert_eq!(after["last"]["phase"], "proven", "{after}\n{}", server.log());
    assert!(!server.data_dir().join("later").exists());
    let said = fs::read_to_string(home.path().join("said")).unwrap();
    assert_eq!(said, "start\nstop\nstart\n");

    // Data that the application does not start with.
    members.push(Member::stored("broken", "x"));
    let archive = write_zip(&members, false);
    assert_eq!(server.send(&upload("b.zip", &archive).auth(&token)).status, 204);
    let after = restore(&server, &token, "b.zip");
    assert_eq!(after["last"]["phase"], "rolled_back", "{after}\n{}", server.log());
    assert!(!server.data_dir().join("broken").exists());
    let end = Instant::now() + SWAPPED_MAX;
    while server.data_dir().join(".pocketvault/stopped").exists() {
        assert!(Instant::now() < end, "it was not started again\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = fs::read_to_string(home.path().join("said")).unwrap();
    assert!(said.starts_with("start\nstop\nstart\nstop\n") && said.ends_with("start\n"), "{said}");
    assert!(server.log().contains("A restore was rolled back"), "{}", server.log());
    // What was rolled back is kept for inspection; the harness looks for leftovers.
    fs::remove_dir_all(server.data_dir().join(".pocketvault/restore")).unwrap();
    stop_application(home.path());
}

#[test]
fn without_commands_a_restore_beside_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let server = beside(home.path(), false);
    let token = server.login();
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let answer = server.send(&Request::new("POST /api/backups/a.zip/restore").auth(&token));
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("stop_command and start_command"), "{message}");
    let plan = server.send(&Request::new("POST /api/vault/backups/a.zip/plan").auth(&token));
    assert_eq!(plan.json()["refused"], message);
}

#[test]
fn a_health_url_where_nobody_answers_withdraws_the_restore_before_anything_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let server = beside_with(home.path(), true, "health_url = 'http://127.0.0.1:1/'\n");
    let token = server.login();
    start_application(home.path(), &server);
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let after = restore(&server, &token, "a.zip");
    assert_eq!(after["last"]["phase"], "rolled_back", "{after}\n{}", server.log());
    let reason = after["last"]["reason"].as_str().unwrap();
    assert!(reason.contains("gives no answer"), "{reason}");
    assert_eq!(fs::read_to_string(home.path().join("said")).unwrap(), "start\n");
    // What was withdrawn is kept for inspection; the harness looks for leftovers.
    fs::remove_dir_all(server.data_dir().join(".pocketvault/restore")).unwrap();
    stop_application(home.path());
}

#[test]
fn nothing_is_moved_under_an_application_that_cannot_be_stopped() {
    let home = tempfile::tempdir().unwrap();
    let server = beside(home.path(), true);
    let token = server.login();
    // With the new data it comes up, says that it does not, and cannot be stopped.
    let text = format!(
        "cd {home}\ndata=$(cat data)\n\
         case $1 in\n\
         stop) test ! -e $data/broken || exit 4; kill $(cat pid) ;;\n\
         start) sleep 600 < $data/data.db > /dev/null 2>&1 & echo $! > pid\n\
                test ! -e $data/broken || exit 3 ;;\n\
         esac\n",
        home = home.path().display()
    );
    fs::write(home.path().join("app.sh"), text).unwrap();
    start_application(home.path(), &server);
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let mut members = read_zip(&fs::read(server.data_dir().join("backups/a.zip")).unwrap());
    members.push(Member::stored("broken", "x"));
    let archive = write_zip(&members, false);
    assert_eq!(server.send(&upload("b.zip", &archive).auth(&token)).status, 204);
    let restore = Request::new("POST /api/backups/b.zip/restore").auth(&token);
    assert_eq!(server.send(&restore).status, 204);
    let end = Instant::now() + SWAPPED_MAX;
    while !server.log().contains("the application could not be stopped") {
        assert!(Instant::now() < end, "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let server = server.ended();
    let journal = server.data_dir().join(".pocketvault/restore/journal");
    let journal = fs::read_to_string(journal).unwrap();
    assert!(journal.contains(r#""phase":"swapped""#), "{journal}\n{}", server.log());
    assert!(server.data_dir().join("broken").exists(), "moved\n{}", server.log());
    // Stopped by hand, it is decided at the next start.
    let pid = fs::read_to_string(home.path().join("pid")).unwrap();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
    fs::write(home.path().join("app.sh"), "true\n").unwrap();
    let config = home.path().join("pocketvault.toml");
    let server = server.again_with(&["--beside", "--config", config.to_str().unwrap()]);
    let token = server.login();
    let status = status(&server, &token);
    assert_eq!(status["last"]["phase"], "proven", "{status}\n{}", server.log());
}
