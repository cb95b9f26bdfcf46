//! A fresh `pb_data` in PocketBase's own schema: real PocketBases start on it and upgrade it.
//!
//! The seed (`seed/`) is what PocketBase v0.39.11 makes of an empty folder, with token secrets
//! and dates made anew for each folder and e-mail templates in our own words. The databases
//! are built aside and renamed into place, `data.db` last: a folder has it whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePoolOptions;

use super::random;
use crate::clock::{Clock, pocketbase_time};
use crate::data_dir::{AUXILIARY_DB, DATA_DB};
use crate::database::{Access, connect_options};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;

/// The settings of a fresh PocketBase, as it stores them.
pub const DEFAULT_SETTINGS: &str = include_str!("seed/settings.json");

const DATA_SQL: &str = include_str!("seed/data.sql");
const AUXILIARY_SQL: &str = include_str!("seed/auxiliary.sql");
const COLLECTIONS: &str = include_str!("seed/collections.json");
const AUTH_OPTIONS: &str = include_str!("seed/auth_options.json");

/// The migrations whose result the seed is, in order; PocketBase runs only what is newer.
const MIGRATIONS: [&str; 8] = [
    "1640988000_aux_init.go",
    "1640988000_init.go",
    "1717233556_v0.23_migrate.go",
    "1717233557_v0.23_migrate2.go",
    "1717233558_v0.23_migrate3.go",
    "1717233559_v0.23_migrate4.go",
    "1763020353_update_default_auth_alert_templates.go",
    "1778828400_normalize_indexes.go",
];
/// Every secret that an auth collection's options hold.
const TOKENS: [&str; 5] =
    ["authToken", "passwordResetToken", "emailChangeToken", "verificationToken", "fileToken"];
/// PocketBase empties this folder at its start and never archives it: leftovers do no harm.
const TEMPORARY: &str = ".pb_temp_to_delete";
const BUILD_PREFIX: &str = "pocketvault-";

/// Makes `data.db` and `auxiliary.db` in `root`, and `root` itself if need be. An
/// `auxiliary.db` that is there already (from an interrupted creation) stays.
///
/// # Errors
/// [`Kind::Exists`] when there is a `data.db`, or a write-ahead log that would be replayed
/// into the new one; otherwise a fault of the disk. No `data.db` is left behind then.
pub async fn create(root: &Path, clock: &Clock) -> Result<()> {
    fsx::create_dir_durably(root)?;
    refuse_leftovers(root)?;
    let build = Build::new(root)?;
    build_data(&build.path(DATA_DB), clock).await?;
    build_auxiliary(&build.path(AUXILIARY_DB)).await?;
    for name in [AUXILIARY_DB, DATA_DB] {
        put(root, &build, name)?;
    }
    Ok(())
}

/// Makes the `auxiliary.db` of a folder whose archive came without one, and does nothing where
/// one is: tasks that work on the logs would fail without it.
///
/// # Errors
/// A fault of the disk.
pub async fn complete(root: &Path) -> Result<()> {
    let target = root.join(AUXILIARY_DB);
    if target.symlink_metadata().is_ok() {
        return Ok(());
    }
    let build = Build::new(root)?;
    build_auxiliary(&build.path(AUXILIARY_DB)).await?;
    put(root, &build, AUXILIARY_DB)
}

/// Brings a built database to its place, durably; an `auxiliary.db` that is there stays.
fn put(root: &Path, build: &Build, name: &str) -> Result<()> {
    // It is closed: no connection of ours loses a lock through this open and close.
    fs::File::open(build.path(name))
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync the new {name}"))?;
    fsx::give_to_owner_of(root, &build.path(name))?;
    match fsx::rename_new(&build.path(name), &root.join(name)) {
        Err(error) if name == AUXILIARY_DB && error.kind() == &Kind::Exists => {}
        renamed => renamed?,
    }
    fsx::sync_dir(root)
}

fn refuse_leftovers(root: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-journal"] {
        let path = root.join(format!("{DATA_DB}{suffix}"));
        if path.symlink_metadata().is_ok() {
            let message = format!("{} exists already", path.display());
            return Err(Error::new(Kind::Exists, message)
                .hint("nothing was changed; move the file away if it is not needed"));
        }
    }
    Ok(())
}

/// The folder in which the databases are built; it goes when this is dropped.
struct Build(PathBuf);

impl Build {
    fn new(root: &Path) -> Result<Self> {
        let parent = root.join(TEMPORARY);
        fs::create_dir_all(&parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
        let path = parent.join(format!("{BUILD_PREFIX}{}", random::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // Best effort: PocketBase empties the parent, and no archive holds it.
        let _ = fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

async fn build_auxiliary(path: &Path) -> Result<()> {
    build(path, async |connection| sqlx::raw_sql(AUXILIARY_SQL).execute(connection).await.map(drop))
        .await
}

async fn build_data(path: &Path, clock: &Clock) -> Result<()> {
    let collections = collections()?;
    let now = clock.now();
    let time = pocketbase_time(now);
    build(path, async |connection| {
        sqlx::raw_sql(DATA_SQL).execute(&mut *connection).await?;
        for (index, file) in (0_i64..).zip(MIGRATIONS) {
            sqlx::query("INSERT INTO _migrations (file, applied) VALUES (?, ?)")
                .bind(file)
                // Microseconds; each its own, because PocketBase orders by it.
                .bind(now.timestamp_micros() + index)
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query("INSERT INTO _params (id, value, created, updated) VALUES (?, ?, ?, ?)")
            .bind("settings")
            .bind(DEFAULT_SETTINGS.as_bytes())
            .bind(&time)
            .bind(&time)
            .execute(&mut *connection)
            .await?;
        for collection in &collections {
            insert(connection, collection, &time).await?;
        }
        Ok(())
    })
    .await
}

/// Runs `fill` in one transaction on a new database file and closes the file.
async fn build(
    path: &Path,
    fill: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<()>,
) -> Result<()> {
    let message = || format!("cannot build {}", path.display());
    let options = connect_options(path, Access::ReadWrite).create_if_missing(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .with_context(message)?;
    let filled = async {
        let mut transaction = pool.begin().await?;
        fill(&mut transaction).await?;
        transaction.commit().await
    }
    .await;
    pool.close().await;
    filled.with_context(message)
}

/// One row of `_collections` as the seed spells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seed {
    id: String,
    system: bool,
    r#type: String,
    name: String,
    list_rule: Option<String>,
    view_rule: Option<String>,
    create_rule: Option<String>,
    update_rule: Option<String>,
    delete_rule: Option<String>,
    indexes: Vec<String>,
    fields: Vec<Box<RawValue>>,
    options: Value,
}

fn collections() -> Result<Vec<Seed>> {
    let broken = "the embedded seed is damaged";
    let mut seeds: Vec<Seed> = serde_json::from_str(COLLECTIONS).context(broken)?;
    for seed in seeds.iter_mut().filter(|seed| seed.r#type == "auth") {
        let mut options: Value = serde_json::from_str(AUTH_OPTIONS).context(broken)?;
        merge(&mut options, std::mem::take(&mut seed.options));
        for token in TOKENS {
            options[token]["secret"] = random::secret().into();
        }
        seed.options = options;
    }
    Ok(seeds)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

async fn insert(connection: &mut SqliteConnection, seed: &Seed, time: &str) -> sqlx::Result<()> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| sqlx::Error::Encode(error.into()))
    };
    sqlx::query(
        "INSERT INTO _collections (id, system, type, name, fields, indexes, listRule, viewRule, \
         createRule, updateRule, deleteRule, options, created, updated) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&seed.id)
    .bind(seed.system)
    .bind(&seed.r#type)
    .bind(&seed.name)
    .bind(json(compact(&seed.fields))?)
    .bind(json(serde_json::to_string(&seed.indexes))?)
    .bind(&seed.list_rule)
    .bind(&seed.view_rule)
    .bind(&seed.create_rule)
    .bind(&seed.update_rule)
    .bind(&seed.delete_rule)
    .bind(json(serde_json::to_string(&seed.options))?)
    .bind(time)
    .bind(time)
    .execute(connection)
    .await
    .map(drop)
}

/// The seed has blanks for its readers; the stored form has none.
fn compact(fields: &[Box<RawValue>]) -> serde_json::Result<String> {
    let fields: Vec<Value> =
        fields.iter().map(|field| serde_json::from_str(field.get())).collect::<Result<_, _>>()?;
    serde_json::to_string(&fields)
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::database::Database;

    async fn secrets(root: &Path) -> Vec<String> {
        let database = Database::open(root, Access::ReadWrite).expect("opened");
        let rows = sqlx::query("SELECT options FROM _collections WHERE type = 'auth'")
            .fetch_all(database.data())
            .await
            .expect("read");
        database.close().await;
        let options = rows.iter().map(|row| row.get::<String, _>(0));
        let options = options.map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
        let secret = |options: &Value, token: &str| {
            options[token]["secret"].as_str().expect("a secret").to_owned()
        };
        options.flat_map(|options| TOKENS.map(|token| secret(&options, token))).collect()
    }

    #[tokio::test]
    async fn each_folder_has_the_whole_schema_and_secrets_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let (one, two) = (dir.path().join("a/pb_data"), dir.path().join("b"));
        for root in [&one, &two] {
            create(root, &Clock::system()).await.expect("created");
            let mut names: Vec<_> = fs::read_dir(root)
                .expect("listed")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            names.sort();
            assert_eq!(names, ["auxiliary.db", "data.db"]);
        }
        let mut all = secrets(&one).await;
        all.extend(secrets(&two).await);
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|secret| secret.len() == 50));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20, "no secret is used twice");
    }

    #[tokio::test]
    async fn the_rows_are_pocketbase_s() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed("2026-11-21T09:02:11.398Z".parse().expect("a date"));
        create(dir.path(), &clock).await.expect("created");
        let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        let read = async |sql: &'static str| {
            sqlx::query_scalar::<_, String>(sql).fetch_all(database.data()).await.expect(sql)
        };
        assert_eq!(read("SELECT file FROM _migrations ORDER BY applied").await, MIGRATIONS);
        assert_eq!(read("SELECT typeof(value) FROM _params").await, ["blob"]);
        assert_eq!(
            read("SELECT DISTINCT created || updated FROM _collections").await,
            ["2026-11-21 09:02:11.398Z2026-11-21 09:02:11.398Z"]
        );
        assert_eq!(
            read(
                "SELECT options ->> '$.authToken.duration' || id FROM _collections \
                  WHERE type = 'auth' ORDER BY name"
            )
            .await,
            ["86400pbc_3142635823", "432000_pb_users_auth_"]
        );
        for pragma in ["SELECT journal_mode FROM pragma_journal_mode", "PRAGMA integrity_check"] {
            assert!(["wal", "ok"].contains(&read(pragma).await[0].as_str()));
        }
        database.close().await;
    }

    #[tokio::test]
    async fn what_is_there_already_is_never_touched() {
        for name in ["data.db", "data.db-wal", "data.db-journal"] {
            let dir = tempfile::tempdir().expect("a folder");
            fs::write(dir.path().join(name), b"precious").expect("written");
            let error = create(dir.path(), &Clock::system()).await.expect_err("refused");
            assert_eq!(error.kind(), &Kind::Exists);
            assert_eq!(fs::read(dir.path().join(name)).expect("read"), b"precious");
            assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        }
    }

    #[tokio::test]
    async fn an_interrupted_creation_can_be_repeated() {
        let dir = tempfile::tempdir().expect("a folder");
        create(dir.path(), &Clock::system()).await.expect("created");
        // As a crash between the two renames leaves it, with the build folder.
        fs::remove_file(dir.path().join(DATA_DB)).expect("removed");
        let build = dir.path().join(TEMPORARY).join("pocketvault-x");
        fs::create_dir_all(&build).expect("made");
        fs::write(build.join(DATA_DB), b"half").expect("written");
        create(dir.path(), &Clock::system()).await.expect("created again");
        assert_eq!(secrets(dir.path()).await.len(), 10);
    }
}
