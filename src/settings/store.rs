//! The settings in `data.db`: the row of `_params` that PocketBase keeps.
//!
//! Another process may change the row at any time, so each [`Store::current`] reads it; only
//! when its bytes changed they are decrypted and parsed. A change is made inside one write
//! transaction, from the row as it is then, and signalled to a running PocketBase.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use sqlx::sqlite::SqliteExecutor;

use crate::clock::{Clock, pocketbase_time};
use crate::database::Database;
use crate::error::{Context, Error, Result};

use super::Settings;
use super::carried;
use super::held::{Held, Keeper};
use super::seal::Encryption;

/// The folder in `pb_data` where PocketBase processes signal changes to each other.
const SIGNALS: &str = ".notify";
/// Random characters in the name of a signal, as many as PocketBase's.
const SIGNAL_ID_CHARS: usize = 10;

/// The stored settings of one `pb_data` folder.
#[derive(Debug)]
pub struct Store {
    database: Database,
    encryption: Encryption,
    clock: Clock,
    keeper: Option<Arc<Keeper>>,
    as_stored: bool,
    seen: Mutex<Option<Seen>>,
}

/// The row as it was read last, and what it means.
#[derive(Debug, Clone)]
struct Seen {
    row: Option<Vec<u8>>,
    held: Option<Arc<Held>>,
    settings: Arc<Settings>,
}

impl Store {
    /// The settings in `database`; `encryption` as PocketBase was started with.
    pub fn new(database: Database, encryption: Encryption, clock: Clock) -> Self {
        let (keeper, seen) = (None, Mutex::new(None));
        Self { database, encryption, clock, keeper, as_stored: false, seen }
    }

    /// The same, but a row that was written for a program is not read as what it carries.
    #[must_use]
    pub fn as_stored(mut self) -> Self {
        self.as_stored = true;
        self
    }

    /// The same, with what `keeper` holds laid over what is stored.
    #[must_use]
    pub fn with_keeper(mut self, keeper: Option<Arc<Keeper>>) -> Self {
        self.keeper = keeper;
        self
    }

    /// The settings as they are stored now: the same `Arc` as before while nothing changed.
    /// A database without the row has PocketBase's defaults.
    ///
    /// # Errors
    /// [`crate::error::Kind::Corrupt`] when the row can be neither read nor decrypted, with a
    /// hint about the key; or the database cannot be read.
    pub async fn current(&self) -> Result<Arc<Settings>> {
        let row = read_row(self.database.data()).await?;
        self.interpreted(row)
    }

    /// Changes the settings from their state now, so that a change by another process is never
    /// lost, and stores them: encrypted when there is a key, whatever they were before.
    ///
    /// # Errors
    /// What `change` fails with; as [`Store::current`]; the folder is read-only; the database
    /// cannot be written. Nothing is changed then.
    pub async fn update<E: Into<Error>>(
        &self,
        change: impl FnOnce(&Settings) -> Result<Settings, E>,
    ) -> Result<Arc<Settings>> {
        const FAILED: &str = "cannot write the settings";
        self.database.require_write()?;
        let mut write = self.database.data().begin_with("BEGIN IMMEDIATE").await.context(FAILED)?;
        let before = self.interpreted(read_row(&mut *write).await?)?;
        let settings = change(&before).map_err(Into::into)?;
        let json = settings.to_stored()?;
        let now = pocketbase_time(self.clock.now());
        let insert = sqlx::query(
            "INSERT INTO _params (id, value, created, updated) VALUES ('settings', ?1, ?2, ?2) \
             ON CONFLICT (id) DO UPDATE SET value = excluded.value, updated = excluded.updated",
        );
        // PocketBase's own types: a BLOB of JSON in clear, a TEXT when encrypted.
        let (row, insert) = if self.encryption.is_set() {
            let sealed = self.encryption.seal(&json)?;
            (sealed.clone().into_bytes(), insert.bind(sealed))
        } else {
            (json.clone(), insert.bind(json))
        };
        insert.bind(now).execute(&mut *write).await.context(FAILED)?;
        write.commit().await.context(FAILED)?;

        let (settings, held) = (Arc::new(settings), self.held());
        self.remember(Seen { row: Some(row), held, settings: settings.clone() });
        if let Err(error) = signal(self.database.root()).await {
            // The change is stored; a PocketBase that missed it reads it at its next start.
            tracing::warn!(error = error.full(), "a running PocketBase was not told");
        }
        Ok(settings)
    }

    fn interpreted(&self, row: Option<Vec<u8>>) -> Result<Arc<Settings>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let held = self.held();
        if let Some(seen) = seen.filter(|seen| seen.row == row && seen.held == held) {
            return Ok(seen.settings);
        }
        let mut settings = match &row {
            None => Settings::default(),
            Some(row) => self.parsed(row)?,
        };
        let carried = || carried::meant(&Held::of(&settings)).filter(|_| !self.as_stored);
        if let Some(held) = held.as_deref().cloned().or_else(carried) {
            settings = settings.with_held(&held)?;
        }
        let settings = Arc::new(settings);
        self.remember(Seen { row, held, settings: settings.clone() });
        Ok(settings)
    }

    fn held(&self) -> Option<Arc<Held>> {
        self.keeper.as_ref()?.current()
    }

    /// JSON in clear is accepted with a key too; the next save encrypts it.
    fn parsed(&self, row: &[u8]) -> Result<Settings> {
        match Settings::from_stored(row) {
            Ok(settings) => Ok(settings),
            Err(error) if !self.encryption.is_set() => {
                Err(self.encryption.missing().because(error))
            }
            Err(_) => Settings::from_stored(&self.encryption.open(row)?),
        }
    }

    fn remember(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

/// The stored value as bytes, whether it is a BLOB or a TEXT.
async fn read_row(executor: impl SqliteExecutor<'_>) -> Result<Option<Vec<u8>>> {
    let row: Option<Option<Vec<u8>>> =
        sqlx::query_scalar("SELECT CAST(value AS BLOB) FROM _params WHERE id = 'settings'")
            .fetch_optional(executor)
            .await
            .context("cannot read the settings")?;
    Ok(row.map(Option::unwrap_or_default))
}

/// Tells a running PocketBase: it watches the folder for files of this name and reloads when
/// one appears; the file is gone again at once. Without the folder there is none running.
async fn signal(root: &Path) -> Result<()> {
    let folder: PathBuf = root.join(SIGNALS);
    if !folder.is_dir() {
        return Ok(());
    }
    let id: String = rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(SIGNAL_ID_CHARS)
        .map(char::from)
        .collect();
    let file = folder.join(format!("settings@{id}"));
    let failed = || format!("cannot signal through {}", file.display());
    tokio::fs::write(&file, b"").await.with_context(failed)?;
    tokio::fs::remove_file(&file).await.with_context(failed)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;
    use sqlx::SqlitePool;

    use super::*;
    use crate::data_dir::DATA_DB;
    use crate::database::{Access, connect_options};
    use crate::error::Kind;
    use crate::settings::PatchError;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const START: &str = "2026-11-21T09:02:11.398Z";

    async fn folder() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().expect("a folder");
        let options =
            connect_options(&dir.path().join(DATA_DB), Access::ReadWrite).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.expect("created");
        sqlx::query(
            "CREATE TABLE _params (id TEXT PRIMARY KEY NOT NULL, value JSON DEFAULT NULL, \
             created TEXT NOT NULL, updated TEXT NOT NULL)",
        )
        .execute(&pool)
        .await
        .expect("a table");
        pool.close().await;
        let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        (dir, database)
    }

    fn store(database: &Database, key: &str) -> Store {
        let clock = Clock::fixed(START.parse().expect("a date"));
        Store::new(database.clone(), Encryption::new("K", key), clock)
    }

    fn named(name: &str) -> impl FnOnce(&Settings) -> Result<Settings, PatchError> {
        move |settings| settings.patch(&json!({ "meta": { "appName": name } }))
    }

    async fn row(database: &Database) -> (String, Vec<u8>, String, String) {
        sqlx::query_as(
            "SELECT typeof(value), CAST(value AS BLOB), created, updated FROM _params \
             WHERE id = 'settings'",
        )
        .fetch_one(database.data())
        .await
        .expect("a row")
    }

    #[tokio::test]
    async fn a_change_is_stored_as_pocketbase_stores_it() {
        let (_dir, database) = folder().await;
        let store = store(&database, "");
        assert_eq!(*store.current().await.expect("read"), Settings::default());
        let changed = store.update(named("One")).await.expect("stored");
        assert_eq!(changed.values().meta.app_name, "One");
        store.clock.advance(TimeDelta::seconds(1));
        store.update(named("Two")).await.expect("stored");
        let (kind, value, created, updated) = row(&database).await;
        assert_eq!(kind, "blob");
        assert!(value.starts_with(b"{") && String::from_utf8_lossy(&value).contains("Two"));
        assert_eq!(created, "2026-11-21 09:02:11.398Z");
        assert_eq!(updated, "2026-11-21 09:02:12.398Z");
    }

    #[tokio::test]
    async fn changes_of_another_process_are_seen_and_kept() {
        let (_dir, database) = folder().await;
        let (ours, theirs) = (store(&database, ""), store(&database, ""));
        ours.update(named("Ours")).await.expect("stored");
        let before = ours.current().await.expect("read");
        assert!(Arc::ptr_eq(&before, &ours.current().await.expect("read")), "nothing parsed");
        theirs
            .update(|settings| settings.patch(&json!({ "backups": { "cronMaxKeep": 8 } })))
            .await
            .expect("stored");
        assert_eq!(ours.current().await.expect("read").values().backups.cron_max_keep, 8);
        theirs.update(named("Theirs")).await.expect("stored");
        let merged = ours
            .update(|settings| settings.patch(&json!({ "batch": { "timeout": 9 } })))
            .await
            .expect("stored");
        assert_eq!(merged.values().meta.app_name, "Theirs");
        assert_eq!(merged.values().backups.cron_max_keep, 8);
    }

    #[tokio::test]
    async fn a_row_in_clear_is_encrypted_at_the_next_save() {
        let (_dir, database) = folder().await;
        store(&database, "").update(named("Clear")).await.expect("stored");
        let sealing = store(&database, KEY);
        assert_eq!(sealing.current().await.expect("read").values().meta.app_name, "Clear");
        sealing.update(named("Sealed")).await.expect("stored");
        let (kind, value, ..) = row(&database).await;
        assert_eq!(kind, "text");
        assert!(!String::from_utf8_lossy(&value).contains("Sealed"));
        let again = store(&database, KEY).current().await.expect("decrypted");
        assert_eq!(again.values().meta.app_name, "Sealed");

        let error = store(&database, "").current().await.expect_err("refused");
        assert_eq!(error.kind(), &Kind::Corrupt);
        assert_eq!(error.message(), "invalid settings db data or missing encryption key \"K\"");
        assert!(error.operator_hint().is_some_and(|hint| hint.contains("--encryptionEnv")));
        let error = store(&database, "short").current().await.expect_err("refused");
        assert_eq!(error.message(), "crypto/aes: invalid key size 5");
    }

    #[tokio::test]
    async fn a_refused_change_and_a_read_only_folder_change_nothing() {
        let (dir, database) = folder().await;
        let writable = store(&database, "");
        writable.update(named("Kept")).await.expect("stored");
        let error = writable.update(named("")).await.expect_err("refused");
        assert!(matches!(error.kind(), Kind::Invalid(all) if all[0].field == "meta.appName"));
        let reading = Database::open(dir.path(), Access::ReadOnly).expect("opened");
        let reader = store(&reading, "");
        assert_eq!(reader.current().await.expect("read").values().meta.app_name, "Kept");
        let error = reader.update(named("Lost")).await.expect_err("refused");
        assert_eq!(error.kind(), &Kind::Unavailable);
        assert_eq!(writable.current().await.expect("read").values().meta.app_name, "Kept");
    }

    #[tokio::test]
    async fn a_signal_appears_and_leaves_nothing() {
        let (dir, database) = folder().await;
        let folder = dir.path().join(SIGNALS);
        store(&database, "").update(named("One")).await.expect("stored");
        assert!(!folder.exists(), "no folder is made for nobody");
        std::fs::create_dir(&folder).expect("made");
        let changed = std::fs::metadata(&folder).and_then(|m| m.modified()).expect("read");
        std::thread::sleep(std::time::Duration::from_millis(20));
        store(&database, "").update(named("Two")).await.expect("stored");
        assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 0);
        let after = std::fs::metadata(&folder).and_then(|m| m.modified()).expect("read");
        assert!(after > changed, "a file came and went");
    }
}
