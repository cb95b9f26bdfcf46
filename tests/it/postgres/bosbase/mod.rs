//! BosBase: its database and its files as one backup, of a database with BosBase's schema.

mod dies;
mod guide;
mod life;
mod refused;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;

use super::Place;
use super::cluster::Cluster;

/// The parts of BosBase's schema that count here, in its own forms, and rows with files.
const SCHEMA: &str = r#"
CREATE TABLE _collections (id TEXT PRIMARY KEY, system BOOLEAN, type TEXT, name TEXT UNIQUE,
    fields JSONB, indexes JSONB, "listRule" TEXT, options JSONB, created TIMESTAMPTZ);
CREATE TABLE _params (id TEXT PRIMARY KEY, value TEXT, created TIMESTAMPTZ, updated TIMESTAMPTZ);
CREATE TABLE _superusers (id TEXT PRIMARY KEY, email TEXT, "emailVisibility" BOOLEAN,
    verified BOOLEAN, password TEXT, "tokenKey" TEXT, created TIMESTAMPTZ, updated TIMESTAMPTZ);
CREATE TABLE _logs (id TEXT PRIMARY KEY, message TEXT, data JSONB, created TIMESTAMPTZ);
CREATE TABLE "Odd notes" (id TEXT PRIMARY KEY, title TEXT, photo TEXT, papers JSONB,
    created TIMESTAMPTZ DEFAULT now(), "createdBy" TEXT);
CREATE TABLE zz_last (n INT);
INSERT INTO _collections VALUES ('pbc_3142635823', true, 'auth', '_superusers',
    '[{"name": "email", "type": "email"}]', '[]', NULL,
    '{"authToken": {"secret": "s1", "duration": 86400}}', now()),
    ('pbc_notes', false, 'base', 'Odd notes', '[{"name": "title", "type": "text"},
    {"name": "photo", "type": "file"}, {"name": "papers", "type": "file", "maxSelect": 9}]',
    '[]', NULL, '{}', now()),
    ('pbc_view', false, 'view', 'gone_view', '[{"name": "f", "type": "file"}]', '[]', NULL,
    '{}', now());
INSERT INTO _params VALUES ('settings', '{"s3": {"enabled": false}}', now(), now());
INSERT INTO _superusers VALUES ('0190d2c0-0000-7000-8000-000000000001', 'a@example.com', false,
    true, '$2a$10$x', 'token-key', now(), now());
INSERT INTO _logs VALUES ('1', 'POST /login', '{"body": "the-clear-password"}', now());
INSERT INTO "Odd notes" (id, title, photo, papers) VALUES
    ('r1', 'one', 'photo_1.png', '["a_1.txt", "b_1.txt"]'), ('r2', 'two', 'photo_2.png', '[]'),
    ('r3', 'three', '', NULL);
"#;

const ROWS: &str = "SELECT id, title, photo, papers FROM \"Odd notes\" ORDER BY 1; \
    SELECT id, email, \"tokenKey\" FROM _superusers; SELECT id, value FROM _params; \
    SELECT id, name, fields, options FROM _collections ORDER BY 1";

/// A BosBase: its database, its folder, and our configuration of it.
struct World {
    cluster: Arc<Cluster>,
    database: String,
    place: Place,
}

impl World {
    fn new() -> Option<Self> {
        let cluster = Cluster::shared()?;
        let database = cluster.create("bosbase");
        cluster.sql(&database, SCHEMA);
        let place = Place::bare("");
        let world = Self { cluster, database, place };
        for (path, text) in [
            ("storage/pbc_notes/r1/photo_1.png", "png one"),
            ("storage/pbc_notes/r1/photo_1.png.attrs", "{}"),
            ("storage/pbc_notes/r1/a_1.txt", "a"),
            ("storage/pbc_notes/r1/b_1.txt", "b"),
            ("storage/pbc_notes/r2/photo_2.png", "png two"),
            ("types.d.ts", "types"),
            ("backups/old.zip", "not archived"),
        ] {
            world.write(path, text);
        }
        let text = format!(
            "[[database]]\nname = \"ledger\"\ntype = \"bosbase\"\nurl = \"{}\"\n\
             data_dir = \"{}\"\nencryption_env = \"BOSBASE_ENCRYPTION_KEY\"\n",
            world.cluster.url(&world.database),
            world.data().display()
        );
        fs::write(world.place.config(), text).expect("written");
        Some(world)
    }

    /// BosBase's own folder.
    fn data(&self) -> PathBuf {
        self.place.home.path().join("bosbase")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.data().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn has(&self, path: &str) -> bool {
        self.data().join(path).exists()
    }

    fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.database, sql)
    }

    /// Where a backup lies.
    fn zip(&self, key: &str) -> PathBuf {
        self.place.folder().join("backups").join(key)
    }

    fn failed(&self, arguments: &[&str]) -> String {
        let output: Output = self.place.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Nothing of ours is left in BosBase's folder.
    fn assert_clean(&self) {
        let staging = self.data().join(".pocketvault/bosbase");
        let left: Vec<_> = fs::read_dir(staging).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// One file of an archive.
fn unzipped(zip: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("unzip").arg("-p").arg(zip).arg(name).output().expect("unzip");
    output.stdout
}

/// The names in an archive.
fn names(zip: &Path) -> Vec<String> {
    let output = Command::new("unzip").arg("-Z1").arg(zip).output().expect("unzip");
    let mut names: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn manifest(zip: &Path) -> Value {
    serde_json::from_slice(&unzipped(zip, "pocketvault.json")).expect("a manifest")
}

/// `{"s3":{"enabled":true}}` under a key, as BosBase stores settings: base64 of a nonce of 12
/// bytes and AES-256-GCM.
fn sealed(key: &str) -> String {
    use aes_gcm::aead::{Aead, KeyInit};
    use base64::Engine;
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(key.as_bytes()).expect("a key");
    let nonce = [7_u8; 12];
    let text = cipher.encrypt(&nonce.into(), br#"{"s3":{"enabled":true}}"#.as_slice());
    let bytes = [nonce.as_slice(), &text.expect("encrypted")].concat();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
