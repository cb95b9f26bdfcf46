//! Our own database, `state.db` in the state folder: what has to outlive the process.
//!
//! It is in no archive and no restore touches it. It holds history, never data: when it is
//! damaged the server puts it aside, says so, and goes on with a new one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::clock::Clock;
use crate::error::{Context, Error, Result};
use crate::fsx;

/// The file in the state folder.
pub const STATE_DB: &str = "state.db";

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Every migration, by ascending version. Never change one that was released: add another.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "jobs", include_str!("migrations/0001_jobs.sql")),
    (2, "catalog", include_str!("migrations/0002_catalog.sql")),
    (3, "alarms", include_str!("migrations/0003_alarms.sql")),
    (4, "schedules", include_str!("migrations/0004_schedules.sql")),
    (5, "job vault", include_str!("migrations/0005_job_vault.sql")),
    (6, "orders", include_str!("migrations/0006_orders.sql")),
    (7, "tokens", include_str!("migrations/0007_tokens.sql")),
];

/// The database. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct StateDb {
    pool: SqlitePool,
}

impl StateDb {
    /// Opens the database in `folder` and brings it up to date; makes both where they are
    /// missing. A damaged one is renamed to `state.db.damaged-…` and replaced.
    ///
    /// # Errors
    /// The folder cannot be written to, or the database is of a newer pocketvault.
    pub async fn open(folder: &Path, clock: &Clock) -> Result<Self> {
        fsx::create_dir_durably(folder)?;
        let path = folder.join(STATE_DB);
        match Self::try_open(&path).await {
            Err(error) if is_damage(&error) => {
                put_aside(&path, clock)?;
                tracing::error!(
                    file = %path.display(),
                    %error,
                    "the state database was damaged and put aside; the job history begins anew"
                );
                Self::try_open(&path).await
            }
            opened => opened,
        }
        .with_context(|| format!("cannot open {}", path.display()))
        .map_err(|error| error.hint("was this folder used by a newer pocketvault?"))
    }

    /// A database that ends with the process, for folders that cannot be written to.
    ///
    /// # Errors
    /// SQLite has no memory.
    pub async fn in_memory() -> Result<Self> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let opened = Self::connect(options).await;
        opened.context("cannot make a database in memory")
    }

    /// The connections.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Waits for running statements and closes every connection of every clone.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn try_open(path: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            // What was said to be recorded is recorded: there are few writes.
            .synchronous(SqliteSynchronous::Full);
        Self::connect(options).await
    }

    async fn connect(options: SqliteConnectOptions) -> sqlx::Result<Self> {
        let pool = SqlitePoolOptions::new()
            // One: a database in memory belongs to its connection, and writers queue anyway.
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let migrations = MIGRATIONS.map(|(version, name, sql)| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(version, name.into(), MigrationType::Simple, sql, false)
        });
        let ran = Migrator::with_migrations(migrations.to_vec()).run(&pool).await;
        if let Err(error) = ran {
            pool.close().await;
            return Err(error.into());
        }
        Ok(Self { pool })
    }
}

/// Whether the file itself is broken, and not the way to it.
fn is_damage(error: &sqlx::Error) -> bool {
    let text = error.to_string();
    ["file is not a database", "malformed"].iter().any(|sign| text.contains(sign))
}

fn put_aside(path: &Path, clock: &Clock) -> Result<()> {
    let suffix = clock.now().format("damaged-%Y%m%d%H%M%S");
    for side in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{side}", path.display()));
        let to = PathBuf::from(format!("{}.{suffix}{side}", path.display()));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(
                    Error::internal(format!("cannot rename {}", from.display())).because(error)
                );
            }
        }
    }
    fsx::sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tables(state: &StateDb) -> Vec<String> {
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .fetch_all(state.pool())
            .await
            .expect("listed")
    }

    #[tokio::test]
    async fn it_is_made_once_and_found_again() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("state");
        for _ in 0..2 {
            let state = StateDb::open(&folder, &Clock::system()).await.expect("opened");
            let found = tables(&state).await;
            for name in
                ["_sqlx_migrations", "alarms", "backups", "facts", "jobs", "orders", "outbox"]
            {
                assert!(found.iter().any(|table| table == name), "{name}");
            }
            state.close().await;
        }
        let in_memory = tables(&StateDb::in_memory().await.expect("made")).await;
        assert!(in_memory.contains(&"jobs".to_owned()));
    }

    #[tokio::test]
    async fn a_damaged_one_is_put_aside() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join(STATE_DB);
        std::fs::write(&file, vec![b'x'; 8192]).expect("written");
        let state = StateDb::open(home.path(), &Clock::system()).await.expect("a new one");
        assert!(tables(&state).await.contains(&"jobs".to_owned()));
        let aside = std::fs::read_dir(home.path())
            .expect("listed")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("state.db.damaged-"));
        assert_eq!(aside.count(), 1);
    }

    #[tokio::test]
    async fn one_of_a_newer_version_is_left_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let state = StateDb::open(home.path(), &Clock::system()).await.expect("opened");
        let newer = "INSERT INTO _sqlx_migrations \
            (version, description, success, checksum, execution_time) \
            VALUES (999, 'later', 1, x'00', 0)";
        sqlx::query(newer).execute(state.pool()).await.expect("inserted");
        state.close().await;
        assert!(StateDb::open(home.path(), &Clock::system()).await.is_err());
    }
}
