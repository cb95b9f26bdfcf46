//! The whole server with several destinations and a spool: what one pass leaves where, what
//! waits, and what becomes of it when a store is down, comes back, or we are killed meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{ballast, configured, create, file_token, keys, soon};
use crate::harness::Server;
use crate::raw::Request;
use crate::s3::{Effect, Fault, Operation, S3Server};

/// A configuration with the bucket as PocketBase's own storage and little patience.
pub(super) struct Ground {
    pub(super) bucket: S3Server,
    home: TempDir,
    file: String,
}

impl Ground {
    pub(super) fn new(more: &str) -> Self {
        let (bucket, home) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
        let file = configured(&bucket, home.path(), &format!("retry_for = 1\n{more}"));
        Self { bucket, home, file }
    }

    /// With a folder as the second destination.
    pub(super) fn with_disk(more: &str) -> Self {
        let ground = Self::new("");
        let text = fs::read_to_string(&ground.file).expect("read");
        let disk = ground.disk();
        let folder = disk.display();
        let table = format!("[[destination]]\nname = 'disk'\ntype = 'local'\nfolder = '{folder}'");
        fs::write(&ground.file, format!("{text}\n{table}\n{more}")).expect("written");
        ground
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    pub(super) fn arguments(&self) -> [&str; 2] {
        ["--config", &self.file]
    }

    pub(super) fn start(&self) -> (Server, String) {
        let server = Server::start_ours_with(&self.arguments());
        let token = server.login();
        (server, token)
    }

    fn in_bucket(&self, name: &str) -> Option<Vec<u8>> {
        self.bucket.object(name).map(|object| object.body.to_vec())
    }
}

/// What `/api/vault` says of a backup.
pub(super) fn listed(server: &Server, token: &str, key: &str) -> Option<Value> {
    let listed = server.send(&Request::new("GET /api/vault/backups").auth(token));
    assert_eq!(listed.status, 200, "{}", listed.text());
    listed.json().as_array()?.iter().find(|backup| backup["key"] == key).cloned()
}

/// The states of a backup: over all, and at each destination.
fn states(server: &Server, token: &str, key: &str) -> Option<(String, Vec<(String, String)>)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let backup = listed(server, token, key)?;
    let places = backup["destinations"].as_array().expect("destinations").iter();
    let places = places.map(|place| (text(&place["name"]), text(&place["state"]))).collect();
    Some((text(&backup["state"]), places))
}

fn expected(state: &str, places: &[(&str, &str)]) -> Option<(String, Vec<(String, String)>)> {
    let places = places.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned()));
    Some((state.to_owned(), places.collect()))
}

pub(super) fn newest_job(server: &Server, token: &str) -> Value {
    let jobs = server.send(&Request::new("GET /api/vault/jobs").auth(token)).json();
    let mut jobs = jobs.as_array().expect("a list").iter();
    jobs.find(|job| job["kind"] == "create").expect("a job").clone()
}

pub(super) fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "zip")).count()
}

#[test]
fn one_pass_feeds_all_destinations_and_a_delete_goes_everywhere() {
    let ground = Ground::with_disk("");
    let (server, token) = ground.start();
    ballast(&server, 20 << 20);
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
    let on_disk = fs::read(ground.disk().join("a.zip")).expect("read");
    assert!(ground.in_bucket("a.zip").expect("there") == on_disk, "byte for byte");
    let both = expected("stored", &[("pocketbase", "stored"), ("disk", "stored")]);
    assert_eq!(states(&server, &token, "a.zip"), both);
    assert_eq!(create(&server, &token, "a.zip").status, 400, "the name is taken");

    // What only one has is told, can be downloaded, and its name is taken.
    fs::rename(ground.disk().join("a.zip"), ground.disk().join("b.zip")).expect("renamed");
    let one = expected("stored", &[("pocketbase", "missing"), ("disk", "stored")]);
    assert_eq!(states(&server, &token, "b.zip"), one);
    assert_eq!(keys(&server, &token), ["a.zip"], "PocketBase's list is that of its storage");
    assert_eq!(create(&server, &token, "b.zip").status, 400, "the name is taken elsewhere");
    let target = format!("GET /api/backups/b.zip?token={}", file_token(&server, &token));
    assert!(server.send(&Request::new(&target)).body == on_disk);
    fs::rename(ground.disk().join("b.zip"), ground.disk().join("a.zip")).expect("renamed");

    let delete = server.send(&Request::new("DELETE /api/backups/a.zip").auth(&token));
    assert_eq!(delete.status, 204, "{}", delete.text());
    assert!(ground.bucket.keys().is_empty(), "gone in the bucket");
    assert_eq!(files(&ground.disk()), 0, "gone on the disk");
}

#[test]
fn with_one_of_two_down_the_other_has_it_and_the_first_gets_it_later() {
    let ground = Ground::with_disk("[spool]\nretry = 1\n");
    let (server, token) = ground.start();
    ground.bucket.habits(|habits| habits.down = true);
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
    let job = newest_job(&server, &token);
    assert_eq!(job["state"], "done", "{job}");
    assert!(job["notes"].to_string().contains("not at pocketbase"), "{job}");
    let waits = expected("waiting", &[("pocketbase", "waiting"), ("disk", "stored")]);
    assert_eq!(states(&server, &token, "a.zip"), waits);
    let on_disk = fs::read(ground.disk().join("a.zip")).expect("read");
    let target = format!("GET /api/backups/a.zip?token={}", file_token(&server, &token));
    assert!(server.send(&Request::new(&target)).body == on_disk, "taken from the disk");

    ground.bucket.heal();
    let there = soon("the backup in the bucket", || ground.in_bucket("a.zip"));
    assert!(there == on_disk, "byte for byte");
    let both = expected("stored", &[("pocketbase", "stored"), ("disk", "stored")]);
    soon("nothing that waits", || (states(&server, &token, "a.zip") == both).then_some(()));
    // What arrived late is as well known and as well proven as what arrived at once.
    let copies = soon("both proven", || {
        let one = listed(&server, &token, "a.zip")?;
        let proven = |copy: &Value| copy["proof"]["ok"] == true;
        one["destinations"].as_array()?.iter().all(proven).then_some(one)
    });
    assert_eq!((&copies["origin"], &copies["complete"]), (&json!("made"), &json!(true)));
    let places = copies["destinations"].as_array().expect("two");
    assert_eq!(places[0]["modified"], places[1]["modified"], "when it was made, not sent");
}

#[test]
fn what_no_destination_takes_waits_in_the_spool_and_survives_kills_until_it_is_sent() {
    let ground = Ground::new("[spool]\nretry = 1\n");
    let (server, token) = ground.start();
    ballast(&server, 20 << 20);
    ground.bucket.habits(|habits| habits.down = true);
    let answer = create(&server, &token, "a.zip");
    assert_eq!(answer.status, 400, "it is not where it was asked for");
    assert!(answer.text().contains("it waits on the server"), "{}", answer.text());
    let job = newest_job(&server, &token);
    assert!(job.to_string().contains("it waits on the server"), "{job}");
    let waits = expected("waiting", &[("pocketbase", "waiting"), ("spool", "stored")]);
    assert_eq!(states(&server, &token, "a.zip"), waits);
    let spool = server.data_dir().join(".pocketvault/spool");
    let spooled = fs::read(spool.join("a.zip")).expect("spooled");
    assert_eq!(create(&server, &token, "a.zip").status, 400, "the name is taken");

    // The store is back, but one part does not get through: killed while it is sent.
    ground.bucket.heal();
    let stuck = Fault::on(Operation::Part, Effect::Status(503, "SlowDown")).part(2).always();
    ground.bucket.fault(stuck);
    soon("a part", || ground.bucket.uploads().iter().any(|u| !u.parts.is_empty()).then_some(()));
    let server = server.killed();
    assert!(spool.join("a.zip").exists(), "the dead lose nothing");
    ground.bucket.heal();
    let server = server.again_with(&ground.arguments());
    let token = server.login();
    let there = soon("the backup in the bucket", || ground.in_bucket("a.zip"));
    assert!(there == spooled, "byte for byte");
    let spool = server.data_dir().join(".pocketvault/spool");
    soon("an empty spool", || (files(&spool) == 0).then_some(()));
    assert_eq!(states(&server, &token, "a.zip"), expected("stored", &[("pocketbase", "stored")]));
    soon("no parts left", || ground.bucket.uploads().is_empty().then_some(()));
}

#[test]
fn a_spool_that_nobody_noted_is_found_and_one_that_is_deleted_is_not_sent() {
    let ground = Ground::new("[spool]\nretry = 1\n");
    let (server, token) = ground.start();
    ground.bucket.habits(|habits| habits.down = true);
    for name in ["a.zip", "b.zip"] {
        assert_eq!(create(&server, &token, name).status, 400);
    }
    // The bucket cannot be asked, so the answer is an error; here it is gone all the same.
    let delete = server.send(&Request::new("DELETE /api/backups/b.zip").auth(&token));
    assert_eq!(delete.status, 400, "{}", delete.text());
    let server = server.killed();
    fs::remove_file(server.data_dir().join(".pocketvault/waiting.json")).expect("removed");
    ground.bucket.heal();
    let server = server.again_with(&ground.arguments());
    soon("the backup in the bucket", || ground.in_bucket("a.zip"));
    let spool = server.data_dir().join(".pocketvault/spool");
    soon("an empty spool", || (files(&spool) == 0).then_some(()));
    assert_eq!(ground.bucket.keys(), ["a.zip"]);
}

#[test]
fn always_spooled_is_one_pass_and_leaves_nothing() {
    let ground = Ground::new("[spool]\nwhen = 'always'\nretry = 1\n");
    let (server, token) = ground.start();
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
    let spool = server.data_dir().join(".pocketvault/spool");
    assert_eq!((files(&spool), keys(&server, &token).len()), (0, 1));
    ground.bucket.habits(|habits| habits.down = true);
    assert!(create(&server, &token, "b.zip").text().contains("it waits on the server"));
    assert_eq!(files(&spool), 1);
    ground.bucket.heal();
    soon("the backup in the bucket", || ground.in_bucket("b.zip"));
    soon("an empty spool", || (files(&spool) == 0).then_some(()));
}

#[test]
fn a_spool_that_cannot_be_written_fails_the_backup_aloud() {
    let ground = Ground::new("[spool]\nretry = 1\n");
    let (server, token) = ground.start();
    fs::write(server.data_dir().join(".pocketvault/spool"), b"in the way").expect("written");
    ground.bucket.habits(|habits| habits.down = true);
    let answer = create(&server, &token, "a.zip");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("Failed to create backup."), "{}", answer.text());
    assert_eq!(newest_job(&server, &token)["state"], "failed");
    ground.bucket.heal();
    assert_eq!(states(&server, &token, "a.zip"), None, "nothing is promised");
    assert!(keys(&server, &token).is_empty());
    fs::remove_file(server.data_dir().join(".pocketvault/spool")).expect("removed");
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
}

#[test]
fn a_restore_takes_the_nearest_copy_that_is_sound() {
    let ground = Ground::with_disk("");
    let (server, token) = ground.start();
    ballast(&server, 1 << 20);
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
    let near = ground.disk().join("a.zip");
    let mut damaged = fs::read(&near).expect("read");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0);
    fs::write(&near, damaged).expect("written");
    let noise = server.data_dir().join("storage/ballast/noise.bin");
    fs::remove_file(&noise).expect("removed");
    let restore = server.send(&Request::new("POST /api/backups/a.zip/restore").auth(&token));
    assert_eq!(restore.status, 204, "{}", restore.text());
    let token = soon("the restored server", || noise.exists().then(|| server.login()));
    let jobs = server.send(&Request::new("GET /api/vault/jobs").auth(&token)).text();
    assert!(jobs.contains("not restored from disk"), "{jobs}");
}
