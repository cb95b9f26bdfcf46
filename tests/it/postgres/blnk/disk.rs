//! `GET /backup`: what lies in the folder afterwards, and what is said when nothing does.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ROWS, Served, add_key, blnk_json, ready, restored};
use crate::postgres::Place;
use crate::raw::{Request, Response};

const SECRET_KEY: &str = "0123456789abcdef-in-clear";
const NAME: &str = r"^blnk_backup_\d{8}_\d{6}\.dump$";

#[test]
fn a_backup_is_what_its_headers_say_and_what_pg_restore_takes() {
    let Some((cluster, database)) = ready() else { return };
    add_key(&cluster, &database, SECRET_KEY, "{*:*}", "now() + interval '1 day'", false);
    let served = Served::whole(&cluster.url(&database), None, "");
    let answer = served.send("GET /backup");
    assert_eq!((answer.status, answer.text().as_str()), (200, "\"backup successful\""));
    for (name, value) in [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let name = answer.header("X-Backup-Name").expect("a name").to_owned();
    assert!(Regex::new(NAME).expect("a pattern").is_match(&name), "{name}");
    assert_eq!(served.files(), [name.as_str()]);
    let path = served.folder().join(&name);
    let bytes = fs::read(&path).expect("the file");
    assert_eq!(answer.header("X-Backup-Size"), Some(bytes.len().to_string().as_str()));
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("X-Backup-SHA256"), Some(sum.as_str()));
    assert!(bytes.starts_with(b"PGDMP"), "the custom format");
    assert!(!bytes.windows(SECRET_KEY.len()).any(|text| text == SECRET_KEY.as_bytes()));
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may not read it");
    let plain = cluster.tool("pg_dump").arg(&database).output().expect("pg_dump").stdout.len();
    assert!(bytes.len() < plain / 4, "compressed: {} of {plain}", bytes.len());
    assert_eq!(restored(&cluster, &path), cluster.sql(&database, ROWS));
}

#[test]
fn whoever_asks_for_an_object_gets_one() {
    let Some((cluster, database)) = ready() else { return };
    let served = Served::whole(&cluster.url(&database), None, "");
    let request = Request::new("GET /backup").header("X-Blnk-Key", super::MASTER);
    let object = "application/json;q=0.5, application/vnd.pocketvault+json; q=1";
    let answer = served.server.send(&request.clone().header("Accept", object));
    let body = answer.json();
    assert_eq!(body["message"], "backup successful");
    assert_eq!(Some(body["name"].as_str().expect("a name")), answer.header("X-Backup-Name"));
    assert_eq!((&body["disk"], &body["s3"]), (&json!(true), &json!(false)));
    let job = served.newest_job();
    assert_eq!((&job["id"], &job["state"]), (&body["job"], &json!("done")), "{job}");
    let plain = served.server.send(&request.header("Accept", "application/json, */*"));
    assert_eq!(plain.text(), "\"backup successful\"");
}

#[test]
fn calls_at_the_same_time_never_share_a_file() {
    let Some((cluster, database)) = ready() else { return };
    let served = Served::whole(&cluster.url(&database), None, "");
    let answers: Vec<Response> = thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| served.send("GET /backup"))).collect();
        calls.into_iter().map(|call| call.join().expect("joined")).collect()
    });
    let (mut names, pattern) = (BTreeSet::new(), Regex::new(NAME).expect("a pattern"));
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let name = answer.header("X-Backup-Name").expect("a name").to_owned();
        assert!(pattern.is_match(&name), "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(served.files(), names.into_iter().collect::<Vec<_>>());
}

#[test]
fn what_is_not_configured_is_a_400_that_names_it() {
    let Some((cluster, database)) = ready() else { return };
    let whole = blnk_json(&cluster.url(&database), None);
    let without = |key: &str| {
        let mut file = whole.clone();
        file.as_object_mut().expect("an object").remove(key);
        file
    };
    let mut not_a_folder = whole.clone();
    not_a_folder["backup_dir"] = json!("HOME/blnk.json");
    for (file, word) in [
        (without("backup_dir"), "backup_dir (BLNK_BACKUP_DIR)"),
        (without("data_source"), "data_source.dns (BLNK_DATA_SOURCE_DNS)"),
        (not_a_folder, "backup_dir is not a folder"),
    ] {
        let served = Served::new(&file, "");
        let answer = served.send("GET /backup");
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_envelope(&answer.json(), "BAD_REQUEST", "GEN_BAD_REQUEST");
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
    }
}

#[test]
fn a_failure_is_a_500_that_names_its_cause_and_leaves_nothing() {
    let Some((cluster, database)) = ready() else { return };
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("postgres://u@127.0.0.1:{}/d", socket.local_addr().expect("one").port());
    drop(socket);
    for (url, cause) in [
        (cluster.url_as("postgres", "geheim-und-falsch", &database), "refuses the credentials"),
        (silent, "does not answer"),
        (cluster.url("not there"), "no such database"),
    ] {
        let served = Served::whole(&url, None, "");
        for line in ["GET /backup", "GET /backup"] {
            let answer = served.send(line);
            assert_eq!(answer.status, 500, "{}", answer.text());
            let body = answer.json();
            assert_envelope(&body, "INTERNAL_SERVER_ERROR", "ADMIN_BACKUP_FAILED");
            assert_eq!(body["error"]["message"], "error creating backup");
            let said = body["error"]["details"]["cause"].as_str().expect("a cause").to_owned();
            assert!(said.contains(cause), "{said}");
            assert_eq!(answer.header("X-Backup-Name"), None);
        }
        assert!(served.files().is_empty(), "{:?}", served.files());
        assert_eq!(served.newest_job()["state"], "failed");
        assert!(!served.server.log().contains("geheim"));
    }
}

#[test]
fn blnk_s_database_is_one_of_ours_also_on_the_command_line() {
    let Some((cluster, database)) = ready() else { return };
    let place = Place::bare("[blnk]\n");
    let url = cluster.url(&database);
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("BLNK_DATA_SOURCE_DNS", &url);
        command.env("BLNK_BACKUP_DIR", place.config().with_file_name("kept"));
        let output = command.output().expect("the program");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    run(&["backup", "blnk"]);
    let listed = run(&["list", "blnk"]);
    let key = listed.split(' ').next().expect("a key").to_owned();
    assert!(Regex::new(NAME).expect("a pattern").is_match(&key), "{listed}");
    assert!(place.config().with_file_name("kept").join(&key).exists());
    let before = cluster.sql(&database, ROWS);
    cluster.sql(&database, "DELETE FROM blnk.transactions");
    run(&["restore", "blnk", &key]);
    assert_eq!(cluster.sql(&database, ROWS), before);
}

/// Both forms of an error, as one object.
fn assert_envelope(body: &Value, old: &str, new: &str) {
    assert_eq!(body["error"]["code"], old, "{body}");
    assert_eq!(body["error_detail"]["code"], new, "{body}");
    assert_eq!(body["error"]["message"], body["error_detail"]["message"], "{body}");
    assert!(body["error"]["details"].is_object(), "{body}");
}
