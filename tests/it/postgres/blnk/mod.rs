//! Blnk's face: its two routes before a database with Blnk's schema, configured by Blnk's own
//! file.

mod bucket;
mod disk;
mod guide;
mod keys;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::Cluster;
use crate::harness::Server;
use crate::raw::{Request, Response};
use crate::s3::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET};

/// The key that may do everything.
const MASTER: &str = "the-master-key";

/// A little of what Blnk has in its database: what the keys need, and rows to compare.
const SCHEMA: &str = r#"
CREATE SCHEMA blnk;
CREATE TABLE blnk.ledgers (id SERIAL PRIMARY KEY, ledger_id TEXT UNIQUE, name TEXT,
    created_at TIMESTAMP NOT NULL DEFAULT NOW(), meta_data JSONB);
CREATE TABLE blnk.balances (id SERIAL PRIMARY KEY, balance_id TEXT NOT NULL UNIQUE,
    balance NUMERIC NOT NULL, ledger_id TEXT NOT NULL REFERENCES blnk.ledgers(ledger_id));
CREATE TABLE blnk.transactions (id SERIAL PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE,
    source TEXT, destination TEXT, precise_amount NUMERIC, meta_data JSONB);
CREATE INDEX idx_transactions_source ON blnk.transactions (source) WHERE source IS NOT NULL;
CREATE TABLE blnk.api_keys (id SERIAL PRIMARY KEY, api_key_id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE, key_prefix TEXT, name TEXT NOT NULL, owner_id TEXT NOT NULL,
    scopes TEXT[] NOT NULL DEFAULT '{}', expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    last_used_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    is_revoked BOOLEAN NOT NULL DEFAULT FALSE, revoked_at TIMESTAMP WITH TIME ZONE);
INSERT INTO blnk.ledgers (ledger_id, name)
    SELECT 'ldg_' || i, 'L' || i FROM generate_series(1, 9) i;
INSERT INTO blnk.balances (balance_id, balance, ledger_id)
    SELECT 'bln_' || i, i * 1000000000000, 'ldg_' || (i % 9 + 1) FROM generate_series(1, 500) i;
INSERT INTO blnk.transactions (transaction_id, source, destination, precise_amount, meta_data)
    SELECT 'txn_' || i, 'bln_' || (i % 500 + 1), 'bln_' || (i * 7 % 500 + 1), i,
    jsonb_build_object('ref', repeat('x', 50)) FROM generate_series(1, 5000) i;
"#;

/// Every row, in a text to compare.
const ROWS: &str = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM blnk.balances t; \
    SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM blnk.transactions t; \
    SELECT count(*), sum(length(key)) FROM blnk.api_keys; \
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'blnk' ORDER BY 1";

/// A key of Blnk's as a row: its text, scopes, and SQL for when it ends and if it was revoked.
fn add_key(cluster: &Cluster, database: &str, key: &str, scopes: &str, ends: &str, revoked: bool) {
    let hash = bcrypt::hash(key, 4).expect("hashed");
    let prefix: String = key.chars().take(16).collect();
    let sql = format!(
        "INSERT INTO blnk.api_keys (api_key_id, key, key_prefix, name, owner_id, scopes, \
         expires_at, is_revoked) VALUES ('api_key_{key}', '{hash}', '{prefix}', 'n', 'o', \
         '{scopes}', {ends}, {revoked})"
    );
    cluster.sql(database, &sql);
}

/// A database of Blnk's.
fn filled(cluster: &Cluster) -> String {
    let database = cluster.create("blnk");
    cluster.sql(&database, SCHEMA);
    database
}

/// A server of ours that serves Blnk's routes.
struct Served {
    server: Server,
    home: TempDir,
}

impl Served {
    /// Configured by a `blnk.json` with these values, and more lines below `[blnk]`.
    fn new(file: &Value, more: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("blnk.json");
        fs::write(&path, file.to_string().replace("HOME", home.path().to_str().expect("UTF-8")))
            .expect("written");
        let config = home.path().join("pocketvault.toml");
        fs::write(&config, format!("[blnk]\nfile = \"{}\"\n{more}\n", path.display()))
            .expect("written");
        let server = Server::start_ours_with(&["--config", config.to_str().expect("UTF-8")]);
        Self { server, home }
    }

    /// Of a filled database, with a folder and this bucket.
    fn whole(url: &str, bucket: Option<&S3Server>, more: &str) -> Self {
        Self::new(&blnk_json(url, bucket), more)
    }

    /// A request with the master key.
    fn send(&self, line: &str) -> Response {
        self.server.send(&Request::new(line).header("X-Blnk-Key", MASTER))
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("backups")
    }

    /// What lies in the folder, whatever it is.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.ends_with(".attrs"));
        names.sort();
        names
    }

    fn newest_job(&self) -> Value {
        let token = self.server.login();
        self.server.send(&Request::new("GET /api/vault/jobs").auth(&token)).json()[0].clone()
    }
}

/// Blnk's own file.
fn blnk_json(url: &str, bucket: Option<&S3Server>) -> Value {
    let mut file = json!({
        "project_name": "tests",
        "data_source": { "dns": url },
        "server": { "secure": true, "secret_key": MASTER, "port": "5001" },
        "redis": { "dns": "127.0.0.1:1" },
        "backup_dir": "HOME/backups",
    });
    if let Some(bucket) = bucket {
        file["aws_access_key_id"] = json!(ACCESS_KEY);
        file["aws_secret_access_key"] = json!(SECRET);
        file["s3_endpoint"] = json!(bucket.endpoint());
        file["s3_bucket_name"] = json!(BUCKET);
        file["s3_region"] = json!(REGION);
    }
    file
}

fn ready() -> Option<(Arc<Cluster>, String)> {
    let cluster = Cluster::shared()?;
    let database = filled(&cluster);
    Some((cluster, database))
}

/// Restores a file as the documents say, into a fresh database; its rows.
fn restored(cluster: &Cluster, file: &std::path::Path) -> String {
    let database = cluster.create("restored");
    let restore = cluster.tool("pg_restore").arg("-d").arg(&database).arg(file).output();
    let restore = restore.expect("pg_restore");
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    cluster.sql(&database, ROWS)
}
