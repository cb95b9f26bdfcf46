//! A real PocketBase and our server on the same folders, archives, tokens and keys.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::http::Client;
use crate::server::{
    EMAIL, OTHER_PASSWORD, PASSWORD, Program, Server, Settings, eventually, scratch,
};
use crate::tools::{self, Version};
use crate::world::{self, Writer};

/// Every sentence is proven with both versions.
macro_rules! with_each_version {
    ($($sentence:ident),+ $(,)?) => {
        mod v0_40_4 {
            $(#[test] fn $sentence() { super::with(super::Version::V0_40_4, super::$sentence); })+
        }
        mod v0_39_11 {
            $(#[test] fn $sentence() { super::with(super::Version::V0_39_11, super::$sentence); })+
        }
    };
}

with_each_version!(
    a_folder_that_we_made_starts_in_pocketbase_and_comes_back,
    a_folder_that_pocketbase_made_is_served_by_us,
    our_backup_of_a_busy_pocketbase_restores_in_pocketbase,
    an_archive_of_pocketbase_restores_in_ours,
    tokens_of_one_open_the_routes_of_the_other,
    a_pocketbase_is_not_harmed_by_our_coming_and_going,
    settings_encrypted_by_one_are_read_by_the_other,
);

fn with(version: Version, proof: fn(&Stage)) {
    if let Some(path) = tools::pocketbase(version) {
        proof(&Stage {
            peer: Program::pocketbase(path),
            ours: Program::under_test(),
            scratch: scratch(),
        });
    }
}

/// The two programs and a place for their folders.
struct Stage {
    peer: Program,
    ours: Program,
    scratch: TempDir,
}

impl Stage {
    fn dir(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name).join("pb_data")
    }

    /// A running PocketBase with an application's data in it.
    fn application(&self, name: &str) -> (Server, Client) {
        let dir = self.dir(name);
        self.peer.upsert(&dir, PASSWORD);
        let server = self.peer.serve(&dir);
        let client = server.login(PASSWORD);
        world::found(&client);
        (server, client)
    }
}

fn a_folder_that_we_made_starts_in_pocketbase_and_comes_back(stage: &Stage) {
    let dir = stage.dir("ours");
    stage.ours.upsert(&dir, PASSWORD);
    let ours = stage.ours.serve(&dir);
    let before = ours.login(PASSWORD);
    before.set_app_name("Made by us");
    before.post("/api/backups", &json!({ "name": "by_us.zip" })).expect(204);
    let archive = before.download("by_us.zip");
    ours.stop();

    let peer = stage.peer.serve(&dir);
    let there = peer.login(PASSWORD);
    assert_eq!(there.app_name(), "Made by us");
    assert_eq!(there.keys(), ["by_us.zip"]);
    assert_eq!(there.download("by_us.zip"), archive);
    let old = Client { base: peer.base.clone(), token: before.token };
    assert_eq!(old.keys(), ["by_us.zip"], "the token from before is still good");
    // The schema is complete: PocketBase can build an application on it.
    world::found(&there);
    let titles = world::add_many(&there, "on-our-folder", 3);
    assert_eq!(world::check(&there), titles);
    there.post("/api/backups", &json!({ "name": "by_peer.zip" })).expect(204);
    peer.stop();

    let again = stage.ours.serve(&dir);
    let client = again.login(PASSWORD);
    assert_eq!(client.app_name(), "Made by us");
    assert_eq!(client.keys(), ["by_peer.zip", "by_us.zip"]);
    assert_eq!(Client { base: again.base.clone(), token: there.token }.keys().len(), 2);
}

fn a_folder_that_pocketbase_made_is_served_by_us(stage: &Stage) {
    let (peer, there) = stage.application("theirs");
    there.set_app_name("Made by PocketBase");
    let titles = world::add_many(&there, "kept", 5);
    let dir = peer.dir.clone();
    peer.stop();

    let ours = stage.ours.serve(&dir);
    let client = ours.login(PASSWORD);
    assert_eq!(client.app_name(), "Made by PocketBase");
    client.patch("/api/settings", &json!({ "meta": { "appName": "Changed by us" } })).expect(200);
    ours.stop();
    // A password set by our command line opens PocketBase, and the old one does not.
    stage.ours.upsert(&dir, OTHER_PASSWORD);

    let peer = stage.peer.serve(&dir);
    let there = peer.login(OTHER_PASSWORD);
    assert!(Client::login(&peer.base, EMAIL, PASSWORD).is_err(), "the old password is dead");
    assert_eq!(there.app_name(), "Changed by us");
    assert_eq!(world::check(&there), titles);
}

fn our_backup_of_a_busy_pocketbase_restores_in_pocketbase(stage: &Stage) {
    let (busy, there) = stage.application("busy");
    there.set_app_name("Busy");
    let before = world::add_many(&there, "before", 60);
    let beside = stage.ours.serve(&busy.dir);
    let client = beside.login(PASSWORD);
    let writer = Writer::start(&there);
    let keys = ["one.zip", "two.zip", "three.zip"];
    for key in keys {
        client.post("/api/backups", &json!({ "name": key })).expect(204);
    }
    let written = writer.finish();
    assert!(written > 3, "PocketBase went on writing while it was backed up: {written}");
    let archives = keys.map(|key| client.download(key));
    beside.stop();
    busy.stop();

    for (key, archive) in keys.iter().zip(archives) {
        let restored = restored_in_peer(stage, &stage.dir(&format!("empty-{key}")), key, &archive);
        let client = restored.login(PASSWORD);
        assert_eq!(client.app_name(), "Busy");
        let found = world::check(&client);
        assert!(found.is_superset(&before), "{key}: records are missing: {found:?}");
    }
}

/// Uploads the archive to an empty PocketBase and restores it there, all through its API.
fn restored_in_peer(stage: &Stage, dir: &Path, key: &str, archive: &[u8]) -> Server {
    stage.peer.upsert(dir, OTHER_PASSWORD);
    let empty = stage.peer.serve(dir);
    let client = empty.login(OTHER_PASSWORD);
    client.upload(key, archive);
    client.post(&format!("/api/backups/{key}/restore"), &json!({})).expect(204);
    eventually("the restored PocketBase knows our superuser", || {
        Client::login(&empty.base, EMAIL, PASSWORD)
    });
    empty
}

fn an_archive_of_pocketbase_restores_in_ours(stage: &Stage) {
    let (peer, there) = stage.application("source");
    there.set_app_name("From PocketBase");
    let titles = world::add_many(&there, "archived", 20);
    there.post("/api/backups", &json!({ "name": "peer.zip" })).expect(204);
    let archive = there.download("peer.zip");
    peer.stop();

    let dir = stage.dir("target");
    stage.ours.upsert(&dir, OTHER_PASSWORD);
    let ours = stage.ours.serve(&dir);
    let client = ours.login(OTHER_PASSWORD);
    client.set_app_name("To be replaced");
    client.upload("peer.zip", &archive);
    client.post("/api/backups/peer.zip/restore", &json!({})).expect(204);
    let restored = eventually("ours serves the data of PocketBase", || {
        Client::login(&ours.base, EMAIL, PASSWORD)
    });
    assert_eq!(restored.app_name(), "From PocketBase");
    assert_eq!(restored.keys(), ["peer.zip"]);
    assert!(Client::login(&ours.base, EMAIL, OTHER_PASSWORD).is_err(), "the old data is gone");
    restored.post("/api/backups", &json!({ "name": "again.zip" })).expect(204);
    ours.stop();

    let peer = stage.peer.serve(&dir);
    let there = peer.login(PASSWORD);
    assert_eq!(world::check(&there), titles, "every record and every file came through");
    assert_eq!(there.keys(), ["again.zip", "peer.zip"]);
}

fn tokens_of_one_open_the_routes_of_the_other(stage: &Stage) {
    let (peer, there) = stage.application("shared");
    let ours = stage.ours.serve(&peer.dir);
    let here = ours.login(PASSWORD);
    let swapped = |client: &Client, server: &Server| Client {
        base: server.base.clone(),
        token: client.token.clone(),
    };
    let with_theirs = swapped(&there, &ours);
    let with_ours = swapped(&here, &peer);
    with_theirs.post("/api/backups", &json!({ "name": "a.zip" })).expect(204);
    with_ours.post("/api/backups", &json!({ "name": "b.zip" })).expect(204);
    assert_eq!(here.keys(), ["a.zip", "b.zip"]);
    assert_eq!(there.keys(), ["a.zip", "b.zip"]);

    let anonymous = |server: &Server| Client { base: server.base.clone(), token: String::new() };
    for key in ["a.zip", "b.zip"] {
        let link = |client: &Client| format!("/api/backups/{key}?token={}", client.file_token());
        let from_ours = anonymous(&ours).get(&link(&there)).expect(200);
        let from_peer = anonymous(&peer).get(&link(&here)).expect(200);
        assert_eq!(from_ours.body, from_peer.body, "{key} is one and the same");
        assert_eq!(from_ours.header("content-type"), from_peer.header("content-type"), "{key}");
    }
    let user = Client::login_to("users", &peer.base, "user@example.com", "an-ordinary-user");
    let user = swapped(&user.expect("an ordinary user"), &ours);
    let refused = user.get("/api/backups").expect(403).json();
    assert_eq!(refused, swapped(&user, &peer).get("/api/backups").expect(403).json());

    // A new password in PocketBase kills every older token, at once and with us, too.
    let id = there.post("/api/collections/_superusers/auth-refresh", &json!({})).expect(200);
    let id = id.json()["record"]["id"].as_str().expect("an id").to_owned();
    let change = json!({ "password": OTHER_PASSWORD, "passwordConfirm": OTHER_PASSWORD });
    there.patch(&format!("/api/collections/_superusers/records/{id}"), &change).expect(200);
    for dead in [&there, &here, &with_theirs, &with_ours] {
        dead.get("/api/backups").expect(401);
    }
    assert!(Client::login(&ours.base, EMAIL, PASSWORD).is_err(), "the old password is dead");
    ours.login(OTHER_PASSWORD);
}

fn a_pocketbase_is_not_harmed_by_our_coming_and_going(stage: &Stage) {
    let (peer, there) = stage.application("owner");
    let mut titles = world::add_many(&there, "first", 5);
    // Older versions lose their own locks by a backup; from then on every careless visitor of the
    // folder takes their write-ahead log away.
    there.post("/api/backups", &json!({ "name": "own.zip" })).expect(204);
    for round in 0..3 {
        titles.extend(world::add_many(&there, &format!("round-{round}"), 2));
        let ours = stage.ours.serve(&peer.dir);
        let client = ours.login(PASSWORD);
        client.post("/api/backups", &json!({ "name": format!("{round}.zip") })).expect(204);
        client.get("/api/settings").expect(200);
        let restore = client.post(&format!("/api/backups/{round}.zip/restore"), &json!({}));
        assert_eq!(restore.status, 400, "not under a running server: {}", restore.text());
        titles.extend(world::add_many(&there, &format!("beside-{round}"), 2));
        ours.stop();
        titles.extend(world::add_many(&there, &format!("after-{round}"), 2));
    }
    there.set_app_name("Written last");
    let dir = peer.dir.clone();
    peer.kill();

    let peer = stage.peer.serve(&dir);
    let there = peer.login(PASSWORD);
    assert_eq!(there.app_name(), "Written last");
    assert_eq!(world::check(&there), titles, "what was answered with 200 is kept");
    assert_eq!(there.keys(), ["0.zip", "1.zip", "2.zip", "own.zip"]);
}

fn settings_encrypted_by_one_are_read_by_the_other(stage: &Stage) {
    let pairs = [(&stage.peer, &stage.ours, "theirs"), (&stage.ours, &stage.peer, "ours")];
    for (writer, reader, name) in pairs {
        let dir = stage.dir(name);
        writer.upsert(&dir, PASSWORD);
        let server = writer.serve_with(&dir, Settings::Encrypted);
        let client = server.login(PASSWORD);
        let settings = json!({
            "meta": { "appName": "Under lock and key" },
            "backups": { "cron": "5 4 * * *", "s3": { "secret": "s3-secret" } },
        });
        client.patch("/api/settings", &settings).expect(200);
        server.stop();
        let database = fs::read(dir.join("data.db")).expect("the database of a stopped server");
        let hidden = |needle: &[u8]| !database.windows(needle.len()).any(|found| found == needle);
        assert!(hidden(b"Under lock and key") && hidden(b"s3-secret"), "{name}: not encrypted");

        assert!(reader.refuses(&dir, Settings::Plain), "{name}: without the key nobody serves");
        let server = reader.serve_with(&dir, Settings::Encrypted);
        let client = server.login(PASSWORD);
        assert_eq!(client.app_name(), "Under lock and key");
        client.set_app_name("Changed by the reader");
        server.stop();

        let server = writer.serve_with(&dir, Settings::Encrypted);
        let client = server.login(PASSWORD);
        assert_eq!(client.app_name(), "Changed by the reader");
        let kept = client.get("/api/settings").expect(200).json();
        assert_eq!(kept["backups"]["cron"], "5 4 * * *");
    }
}
