//! What becomes of a backup: made in its turn, downloaded by a link, restored; and what a crash
//! or a database that is down leaves.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{DB, Host, go, unpacked};
use crate::postgres::cluster::{Background, Cluster};
use crate::postgres::scene::{contents, fill};
use crate::postgres::until;
use crate::raw::Request;

/// Holds a lock that stops every dump, until it is dropped.
fn locked(cluster: &Cluster, database: &str) -> Background {
    let lock = cluster.background(database, "BEGIN; LOCK TABLE t; SELECT pg_sleep(60)");
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    until("the table is locked", || cluster.sql(database, held) != "0");
    lock
}

fn unlock(cluster: &Cluster, database: &str, lock: Background) {
    drop(lock);
    cluster.sql(
        database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
    );
}

fn statuses(host: &Host) -> Vec<(Value, Value)> {
    host.list().iter().map(|backup| (backup["id"].clone(), backup["status"].clone())).collect()
}

#[test]
fn a_download_is_a_tar_with_a_dump_that_pg_restore_takes_and_any_range_of_it() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("download");
    fill(&cluster, &database);
    let before = contents(&cluster, &database);
    let host = Host::new(&cluster.url(&database), "");
    let id = host.create();
    let backup = host.wait(&id, "done");
    let link = host.link(&id);
    let whole = host.download(&link);
    let name = backup["name"].as_str().expect("a name");
    assert_eq!(whole.status, 200);
    assert_eq!(json!(whole.body.len()), backup["size"]);
    assert_eq!(whole.header("Content-Type"), Some("application/gzip"));
    assert_eq!(whole.header("Content-Encoding"), None, "Go would unpack it by itself");
    let disposition = whole.header("Content-Disposition").unwrap_or_default();
    assert!(disposition.contains(&format!("{name}.tar.gz")), "{disposition}");

    let home = tempfile::tempdir().expect("a folder");
    let file = unpacked(home.path(), &whole.body);
    assert_eq!(file.file_name().and_then(|f| f.to_str()), Some(&*format!("{name}.pgsql")));
    // The line of Scalingo's documents.
    let other = cluster.create("by hand");
    let target = format!("dbname='{other}'");
    let flags = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--no-comments"];
    let restored = cluster.tool("pg_restore").args(flags).args(["-d", &target]).arg(&file).output();
    let restored = restored.expect("pg_restore");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let rows = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("rows|")).map(str::to_owned).collect()
    };
    assert_eq!(rows(&contents(&cluster, &other)), rows(&before));

    let size = whole.body.len();
    for (range, wanted) in [
        ("bytes=5-9", 5..10),
        (&*format!("bytes={}-", size - 100), size - 100..size),
        ("bytes=-1", size - 1..size),
    ] {
        let part = host.server.send(&Request::new(&format!("GET {link}")).header("Range", range));
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[wanted]), "{range}");
    }
    let head = host.server.send(&Request::new(&format!("HEAD {link}")));
    assert_eq!((head.status, head.header("Content-Length")), (200, Some(&*size.to_string())));

    cluster.sql(&database, "DROP TABLE nothing; CREATE TABLE newer ()");
    let begun = host.send(&format!("POST {DB}/backups/{id}/restore"));
    let begun = (begun.status, begun.json()["backup_restoration"].clone());
    assert_eq!((begun.0, &begun.1["source_backup_id"]), (201, &json!(id)), "{}", begun.1);
    let restoration = begun.1["id"].as_str().expect("an id").to_owned();
    let mut shown = Value::Null;
    until("the restore is done", || {
        let answer = host.send(&format!("GET {DB}/backup_restorations/{restoration}"));
        shown = answer.json()["backup_restoration"].clone();
        shown["status"] != "running"
    });
    assert_eq!((&shown["status"], &shown["method"]), (&json!("done"), &json!("backup")), "{shown}");
    assert_eq!(contents(&cluster, &database), before);
    // It is nobody else's to see.
    let other = format!("Bearer {}", host.pass("ad-pb_data"));
    let line = format!("GET /api/databases/pb_data/backup_restorations/{restoration}");
    assert_eq!(host.server.send(&go(&line, "", Some(other))).status, 404);
}

#[test]
fn links_end_and_open_one_backup_only() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("links");
    let host = Host::new(&cluster.url(&database), "link_seconds = 2");
    let (one, two) = (host.create(), host.create());
    host.wait(&two, "done");
    let link = host.link(&one);
    assert_eq!(host.download(&link).status, 200);
    let (path, token) = link.split_once("?token=").expect("a token");
    for other in [
        path.to_owned(),
        format!("{path}?token=x"),
        format!("{path}?token={token}x"),
        format!("{path}?token={}", host.database),
        link.replace(&one, &two),
        link.replace("ad-ledger", "ad-pb_data"),
    ] {
        let refused = host.download(&other);
        assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true), "{other}");
    }
    thread::sleep(Duration::from_millis(2100));
    assert_eq!(host.download(&link).status, 401, "the link ended");
}

#[test]
fn backups_wait_for_their_turn_and_outlive_a_crash() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("turns");
    cluster.sql(&database, "CREATE TABLE t AS SELECT 1");
    let host = Host::new(&cluster.url(&database), "");
    let first = host.create();
    host.wait(&first, "done");
    let lock = locked(&cluster, &database);
    let (second, third) = (host.create(), host.create());
    let running = host.wait(&second, "running");
    assert_eq!((&running["size"], running["started_at"].is_string()), (&json!(0), true));
    let expected = |second_is: &str, third_is: &str| {
        let row = |id: &str, status: &str| (json!(id), json!(status));
        vec![row(&third, third_is), row(&second, second_is), row(&first, "done")]
    };
    assert_eq!(statuses(&host), expected("running", "scheduled"));
    let archive = host.send(&format!("GET {DB}/backups/{second}/archive"));
    assert_eq!((archive.status, &archive.json()["code"]), (400, &json!("backup_not_done")));
    let refused = host.send(&format!("DELETE {DB}/backups/{second}"));
    assert_eq!((refused.status, refused.json()["error"].is_string()), (409, true));
    // Others ask too, and the number of those that wait has an end.
    let more: Vec<String> = (0..9).map(|_| host.create()).collect();
    assert_eq!(host.send(&format!("POST {DB}/backups")).status, 409);
    for id in &more {
        assert_eq!(host.send(&format!("DELETE {DB}/backups/{id}")).status, 204);
    }

    let host = host.again(true);
    // The process was killed: what ran then is an error, what waited is made.
    host.wait(&second, "error");
    unlock(&cluster, &database, lock);
    host.wait(&third, "done");
    assert_eq!(statuses(&host), expected("error", "done"));
    assert_eq!(host.download(&host.link(&third)).status, 200);
    // The token of before the crash was good for all of that.
    assert_eq!(host.send(&format!("DELETE {DB}/backups/{second}")).status, 204);
    assert_eq!(host.list().len(), 2);
}

#[test]
fn a_database_that_is_down_is_an_error_and_backups_made_elsewhere_are_listed() {
    let Some(cluster) = Cluster::start() else { return };
    let database = cluster.create("down");
    let host = Host::new(&cluster.url(&database), "");
    cluster.crash();
    let failed = host.create();
    let backup = host.wait(&failed, "error");
    assert_eq!((&backup["size"], &backup["started_at"]), (&json!(0), &Value::Null), "{backup}");
    cluster.restart();
    // By our own API, and found by their client under an id that stays.
    let token = host.server.login();
    let line = "POST /api/vault/databases/ledger/backups";
    let made = host.server.send(&Request::new(line).auth(&token));
    assert_eq!(made.status, 201, "{}", made.text());
    let listed = host.list();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!((&listed[0]["status"], &listed[1]["id"]), (&json!("done"), &json!(failed)));
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(host.download(&host.link(&id)).status, 200);
    let host = host.again(false);
    assert_eq!(host.list()[0]["id"], json!(id));
    assert_eq!(host.send(&format!("DELETE {DB}/backups/{id}")).status, 204);
    assert_eq!(host.list().len(), 1);
}
