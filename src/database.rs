//! PocketBase's SQLite databases of one `pb_data` folder: `data.db` and `auxiliary.db`.
//!
//! Opens them as PocketBase does and hands out the pools; knows nothing of their tables.
//! Only SQLite itself opens these files in our process, and only through here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::data_dir::{AUXILIARY_DB, DATA_DB};
use crate::error::{Error, Kind, Result};

/// How long a statement waits for another connection's lock (PocketBase's value).
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Size to which a grown write-ahead log is cut back, in bytes (PocketBase's value).
pub const JOURNAL_SIZE_LIMIT_BYTES: u32 = 200_000_000;
/// Connections per database: a few readers beside the one writer that SQLite allows.
pub const CONNECTIONS_MAX: u32 = 4;
/// How long a caller waits for a free connection: a little longer than a lock can take.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a read-only connection lives at most.
const READ_ONLY_LIFETIME_MAX: Duration = Duration::from_secs(30);

/// What we may do with the databases of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The folder is ours.
    ReadWrite,
    /// Another program owns it. A read-write open could delete its live write-ahead log: a
    /// PocketBase that has made a backup holds no locks on its own databases any more.
    ReadOnly,
}

/// The databases of one folder. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct Database {
    root: PathBuf,
    access: Access,
    data: SqlitePool,
    auxiliary: SqlitePool,
}

impl Database {
    /// The databases of the folder `root`. Nothing is opened before it is needed, and nothing
    /// is ever created. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the folder has no `data.db`.
    pub fn open(root: &Path, access: Access) -> Result<Self> {
        let data_db = root.join(DATA_DB);
        if !data_db.is_file() {
            let message = format!("{} does not exist", data_db.display());
            return Err(Error::new(Kind::NotFound, message)
                .hint("name an existing pb_data folder, or let `pocketvault serve` make one"));
        }
        Ok(Self {
            data: pool(&data_db, access),
            auxiliary: pool(&root.join(AUXILIARY_DB), access),
            root: root.to_owned(),
            access,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What we may do.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Connections to `data.db`.
    pub fn data(&self) -> &SqlitePool {
        &self.data
    }

    /// Connections to `auxiliary.db`. The file may be missing; then its use is the error.
    pub fn auxiliary(&self) -> &SqlitePool {
        &self.auxiliary
    }

    /// Fails unless the folder may be written to.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] on a read-only folder.
    pub fn require_write(&self) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => {
                let message = format!("{} is only read here", self.root.display());
                Err(Error::new(Kind::Unavailable, message)
                    .hint("another program owns this folder; use that program for changes"))
            }
        }
    }

    /// Waits for running statements and closes every connection of every clone. The last
    /// close of a read-write database folds its write-ahead log into it.
    pub async fn close(&self) {
        self.data.close().await;
        self.auxiliary.close().await;
    }
}

/// Connect options as PocketBase sets them, for a file that exists.
pub fn connect_options(path: &Path, access: Access) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true);
    match access {
        Access::ReadOnly => options.read_only(true),
        Access::ReadWrite => options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES.to_string()),
    }
}

/// Quotes a table or column name that comes out of a database.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn pool(path: &Path, access: Access) -> SqlitePool {
    let options = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None);
    // The owner of a foreign folder may replace its files (a restore does): an open connection
    // would go on reading the deleted ones, so none lives long.
    let options = match access {
        Access::ReadOnly => options.max_lifetime(READ_ONLY_LIFETIME_MAX),
        Access::ReadWrite => options.max_lifetime(None),
    };
    options.connect_lazy_with(connect_options(path, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [DATA_DB, AUXILIARY_DB] {
            let options =
                connect_options(&dir.path().join(name), Access::ReadWrite).create_if_missing(true);
            let pool = SqlitePool::connect_with(options).await.expect("created");
            sqlx::query("CREATE TABLE t (n INTEGER)").execute(&pool).await.expect("a table");
            pool.close().await;
        }
        dir
    }

    async fn pragma(pool: &SqlitePool, name: &str) -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.expect(name)
    }

    #[tokio::test]
    async fn our_own_folder_is_opened_with_pocketbase_s_pragmas() {
        let dir = folder().await;
        let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        for pool in [database.data(), database.auxiliary()] {
            let timeout: i64 =
                sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(pool).await.expect("set");
            assert_eq!(timeout, 10_000);
            assert_eq!(pragma(pool, "journal_mode").await, "wal");
            assert_eq!(pragma(pool, "synchronous").await, "1");
            assert_eq!(pragma(pool, "foreign_keys").await, "1");
            assert_eq!(pragma(pool, "journal_size_limit").await, "200000000");
        }
        assert!(dir.path().join("data.db-wal").exists());
        database.close().await;
        assert!(!dir.path().join("data.db-wal").exists(), "the last close folds the log in");
    }

    #[tokio::test]
    async fn a_foreign_folder_is_read_and_never_written() {
        let dir = folder().await;
        let owner = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        sqlx::query("INSERT INTO t VALUES (7)").execute(owner.data()).await.expect("written");
        let reader = Database::open(dir.path(), Access::ReadOnly).expect("opened");
        let read: i64 =
            sqlx::query_scalar("SELECT n FROM t").fetch_one(reader.data()).await.expect("read");
        assert_eq!(read, 7);
        let refused = sqlx::query("INSERT INTO t VALUES (8)").execute(reader.data()).await;
        assert!(refused.expect_err("refused").to_string().contains("readonly"));
        assert_eq!(reader.require_write().expect_err("refused").kind(), &Kind::Unavailable);
        reader.close().await;
        assert!(dir.path().join("data.db-wal").exists(), "the owner's log is still there");
        owner.close().await;
    }

    #[tokio::test]
    async fn a_folder_without_a_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = Database::open(dir.path(), Access::ReadWrite).expect_err("refused");
        assert_eq!(error.kind(), &Kind::NotFound);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn names_are_quoted_so_that_they_cannot_end_the_quotation() {
        assert_eq!(quote_identifier("users"), "\"users\"");
        assert_eq!(quote_identifier("a\" OR 1"), "\"a\"\" OR 1\"");
    }
}
