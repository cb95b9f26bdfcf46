//! What goes in comes out: row by row, with everything that a database is.

use std::fs;
use std::process::Stdio;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::cluster::{Cluster, PASSWORD};
use super::scene::{contents, facts, fill};
use super::{Place, Served, until};
use crate::raw::Request;
use crate::s3::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_database_comes_back_row_by_row_and_a_restore_can_be_undone_and_redone() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("round trip");
    fill(&cluster, &database);
    let served = Served::new(&cluster.url(&database), "jobs = 2");
    let (before, of_database) = (contents(&cluster, &database), facts(&cluster, &database));
    assert!(before.lines().count() > 60, "{before}");

    let made = served.send("POST /backups");
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["key"].as_str().expect("a key");
    assert!(regex::Regex::new(r"^ledger_\d{8}_\d{6}\.dump$").expect("sound").is_match(key));
    let archive = served.send(&format!("GET /backups/{key}"));
    assert_eq!(archive.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(
        (&archive.body[..5], json!(hex(&archive.body))),
        (&b"PGDMP"[..], made["sha256"].clone())
    );
    assert_eq!(served.send("GET /backups").json()[0], made);
    assert_eq!(
        served.server.send(&Request::new("GET /api/backups").auth(&served.token)).json(),
        json!([])
    );

    // The line that PostgreSQL's own users would type.
    let other = cluster.create("by hand");
    let file = served.backups().join(key);
    let target = format!("dbname='{other}'");
    let restored = cluster.tool("pg_restore").args(["-d", &target]).arg(&file).output();
    let restored = restored.expect("pg_restore");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(contents(&cluster, &other), before);

    cluster.sql(
        &database,
        "DROP TABLE nothing; DELETE FROM parts WHERE id % 2 = 0; CREATE TABLE newer ()",
    );
    let changed = contents(&cluster, &database);
    let plan = served.send(&format!("POST /backups/{key}/plan")).json();
    assert_eq!(
        (&plan["way"], &plan["owners"], &plan["notes"]),
        (&json!("swap"), &json!(true), &json!([]))
    );
    assert_eq!(contents(&cluster, &database), changed, "a plan does nothing");
    let mut idle = cluster.background(&database, "SELECT pg_sleep(0); SELECT pg_sleep(60)");
    let job = served.job(&format!("POST /backups/{key}/restore"));
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(contents(&cluster, &database), before);
    assert_eq!(facts(&cluster, &database), of_database);
    assert!(!idle.is_running(), "old sessions end");
    assert_eq!(cluster.beside(&database).len(), 1, "the old one is kept");

    assert_eq!(served.job("POST /undo")["state"], "done");
    assert_eq!(contents(&cluster, &database), changed);
    assert_eq!(served.job("POST /undo")["state"], "done");
    assert_eq!((contents(&cluster, &database), facts(&cluster, &database)), (before, of_database));
    assert_eq!(cluster.beside(&database).len(), 1);

    assert_eq!(served.send(&format!("DELETE /backups/{key}")).status, 204);
    assert_eq!(served.send(&format!("DELETE /backups/{key}")).status, 404);
    assert_eq!(fs::read_dir(served.backups()).expect("listed").count(), 0);
}

#[test]
fn a_dump_is_one_moment_while_others_write() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("bank");
    cluster.sql(
        &database,
        "CREATE TABLE a_first AS SELECT i AS id, 1000 AS balance FROM generate_series(1, 50) i;
         CREATE TABLE ballast AS
             SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 40000) i;
         CREATE TABLE z_last AS SELECT i AS id, 1000 AS balance FROM generate_series(1, 50) i;",
    );
    let place = Place::new(&cluster.url(&database), "");
    // Money moves between a table that is dumped first and one that is dumped last.
    let transfers = "DO $$ BEGIN FOR i IN 1..10000000 LOOP
        UPDATE a_first SET balance = balance - 1 WHERE id = 1 + i % 50;
        UPDATE z_last SET balance = balance + 1 WHERE id = 1 + i % 50; COMMIT; END LOOP; END $$";
    let mut writer = cluster.background(&database, transfers);
    let moved = || cluster.sql(&database, "SELECT sum(balance) FROM z_last") != "50000";
    until("the writer writes", moved);
    place.done(&["backup", "ledger", "live.dump"]);
    assert!(writer.is_running(), "the writer ended before the dump");
    drop(writer);
    let copy = cluster.name("bank copy");
    place.done(&["restore", "ledger", "live.dump", "--into", &copy]);
    let sums = "SELECT (SELECT sum(balance) FROM a_first) + (SELECT sum(balance) FROM z_last), \
        (SELECT sum(balance) FROM z_last) > 50000, (SELECT count(*) FROM ballast)";
    assert_eq!(cluster.sql(&copy, sums), "100000|t|40000");
    let again = place.run(&["restore", "ledger", "live.dump", "--into", &copy]);
    assert!(!again.status.success(), "an existing database is never replaced by --into");
    assert!(cluster.beside(&copy).is_empty());
}

#[test]
fn a_role_that_may_not_create_databases_restores_in_one_transaction() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("small role");
    let password = PASSWORD.replace('\'', "''");
    let role = cluster.name("small");
    cluster.sql(
        "postgres",
        &format!(
            "CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}';
             ALTER DATABASE \"{database}\" OWNER TO \"{role}\""
        ),
    );
    cluster.sql(
        &database,
        &format!(
            "SET ROLE \"{role}\"; CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
             CREATE VIEW v AS SELECT sum(i) FROM t; SELECT lo_from_bytea(77, 'x')"
        ),
    );
    let place = Place::new(&cluster.url_as(&role, PASSWORD, &database), "");
    place.done(&["backup", "ledger", "a.dump"]);
    let before = contents(&cluster, &database);
    cluster.sql(&database, "DELETE FROM t WHERE i > 10; DROP VIEW v; SELECT lo_unlink(77)");
    let plan = place.done(&["restore", "ledger", "a.dump", "--plan"]);
    assert!(plan.contains("way: in_place") && plan.contains("may not create"), "{plan}");
    place.done(&["restore", "ledger", "a.dump"]);
    assert_eq!(contents(&cluster, &database), before);
    // A damaged dump changes nothing: it is read whole before.
    let file = place.folder().join("backups/a.dump");
    let mut bytes = fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&file, bytes).expect("written");
    let refused = place.run(&["restore", "ledger", "a.dump"]);
    assert!(!refused.status.success());
    assert_eq!(contents(&cluster, &database), before);
}

#[test]
fn a_database_has_a_folder_of_its_own_in_a_bucket() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("bucket");
    let fill = "CREATE TABLE t AS SELECT md5(random()::text) FROM generate_series(1, 900000) i";
    cluster.sql(&database, fill);
    let bucket = S3Server::start();
    let more = format!(
        "storage = 's3'\n[s3]\nbucket = '{BUCKET}'\nendpoint = '{}'\nregion = '{REGION}'\n\
         access_key = '{ACCESS_KEY}'\nsecret_key = '{SECRET}'\nprefix = 'all'\npath_style = true",
        bucket.endpoint()
    );
    let place = Place::new(&cluster.url(&database), &more);
    let said = place.done(&["backup", "ledger", "a.dump"]);
    assert_eq!(bucket.keys(), ["all/databases/ledger/a.dump"]);
    let object = bucket.object("all/databases/ledger/a.dump").expect("there");
    assert_eq!(object.header("content-type"), Some("application/octet-stream"));
    assert!(object.size > 16 << 20, "{} bytes are no upload in parts", object.size);
    assert!(said.contains(&hex(&object.body)), "{said}");
    let before = contents(&cluster, &database);
    cluster.sql(&database, "DROP TABLE t");
    place.done(&["restore", "ledger", "a.dump"]);
    assert_eq!(contents(&cluster, &database), before);
    // A dump that is cancelled leaves no object and no upload.
    let mut command = place.command(&["backup", "ledger", "b.dump"]);
    let mut dump = command.stderr(Stdio::null()).spawn().expect("started");
    until("the upload began", || !bucket.uploads().is_empty());
    let pid = rustix::process::Pid::from_child(&dump);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    assert!(!dump.wait().expect("ended").success());
    assert_eq!(bucket.keys().len(), 1);
    assert!(bucket.uploads().is_empty());
}

#[test]
fn processes_agree_by_a_lock_in_the_database() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("locked");
    let (one, two) =
        (Place::new(&cluster.url(&database), ""), Place::new(&cluster.url(&database), ""));
    cluster.sql(&database, "CREATE TABLE t ()");
    let lock = cluster.background(&database, "BEGIN; LOCK TABLE t; SELECT pg_sleep(60)");
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    until("the table is locked", || cluster.sql(&database, locked) != "0");
    let mut dump = one.command(&["backup", "ledger", "a.dump"]);
    let mut dump = dump.stdout(Stdio::null()).spawn().expect("started");
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    until("the dump waits for the table", || cluster.sql(&database, waits) == "1");
    for place in [&one, &two] {
        let busy = place.run(&["backup", "ledger", "b.dump"]);
        let said = String::from_utf8_lossy(&busy.stderr).into_owned();
        assert!(!busy.status.success() && said.contains("Try again later"), "{said}");
    }
    drop(lock);
    cluster.sql(
        &database,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
    );
    assert!(dump.wait().expect("ended").success());
    two.done(&["backup", "ledger", "b.dump"]);
    assert_eq!((one.backups().len(), two.backups().len()), (2, 2), "a dump and its attributes");
}
