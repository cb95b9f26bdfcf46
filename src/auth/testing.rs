//! A fresh `pb_data` for the tests of this module, with a clock that stands still.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::bootstrap;
use super::collection::{Collection, SUPERUSERS};
use super::directory::{Credentials, Directory, Issue};
use super::keys::TokenKind;
use super::record::Identity;
use super::superusers::Superusers;
use crate::clock::Clock;
use crate::database::{Access, Database};

pub(super) const EMAIL: &str = "test@example.com";
pub(super) const PASSWORD: &str = "1234567890";
/// The bcrypt hash of [`PASSWORD`], at the lowest cost.
const HASH: &str = "$2a$04$zQjoGVBr5CEmScIc9SStBuVl0KPeerdF8H2TRwsQlJUlqm8182ZCC";

pub(super) struct Folder {
    pub(super) database: Database,
    pub(super) clock: Clock,
    pub(super) superusers: Superusers,
    pub(super) directory: Directory,
    dir: tempfile::TempDir,
}

impl Folder {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed("2026-11-21T09:02:11.398Z".parse().expect("a date"));
        bootstrap::create(dir.path(), &clock).await.expect("created");
        let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        Self {
            superusers: Superusers::new(database.clone(), clock.clone()),
            directory: Directory::new(database.clone(), clock.clone()),
            database,
            clock,
            dir,
        }
    }

    /// A folder with the superuser [`EMAIL`], whose password is [`PASSWORD`].
    pub(super) async fn with_superuser() -> Self {
        let folder = Self::new().await;
        folder.insert(SUPERUSERS, "s23456789012345", EMAIL).await;
        folder
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Inserts a record with [`PASSWORD`], not verified.
    pub(super) async fn insert(&self, table: &str, id: &str, email: &str) {
        self.run(&format!(
            "INSERT INTO {table} (id, email, password, tokenKey, created, updated) VALUES \
             ('{id}', '{email}', '{HASH}', 'key-of-{id}', '2026-01-01 00:00:00.000Z', \
             '2026-01-01 00:00:00.000Z')"
        ))
        .await;
    }

    pub(super) async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query(sql).execute(self.database.data()).await.expect("run");
    }

    pub(super) async fn count(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::query_scalar(sql).fetch_one(self.database.data()).await.expect("counted")
    }

    /// Sets one option of a collection, e.g. `mfa.enabled`.
    pub(super) async fn set_option(&self, collection: &str, path: &str, value: Value) {
        self.run(&format!(
            "UPDATE _collections SET options = json_set(options, '$.{path}', json('{value}')) \
             WHERE name = '{collection}'"
        ))
        .await;
    }

    pub(super) async fn collection(&self, name: &str) -> Arc<Collection> {
        self.directory.collection(name).await.expect("read").expect("there")
    }

    pub(super) async fn identity(&self, collection: &str, id: &str) -> Identity {
        let collection = self.collection(collection).await;
        self.directory.record(&collection, id).await.expect("read").expect("there")
    }

    pub(super) async fn log_in(
        &self,
        collection: &str,
        identity: &str,
        password: &str,
    ) -> Option<Identity> {
        let collection = self.collection(collection).await;
        let credentials = Credentials { identity, password, identity_field: None };
        self.directory.authenticate_password(&collection, &credentials).await.expect("checked")
    }

    pub(super) async fn token(&self, email: &str, password: &str) -> Option<String> {
        let identity = self.log_in(SUPERUSERS, email, password).await?;
        Some(self.directory.issue(&identity, Issue::Auth).expect("issued"))
    }

    pub(super) async fn accepts(&self, token: &str) -> bool {
        self.directory.identify(token, TokenKind::Auth).await.expect("read").is_some()
    }
}
