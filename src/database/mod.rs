//! PocketBase's SQLite databases of one `pb_data` folder: `data.db` and `auxiliary.db`.
//!
//! Opens them as PocketBase does and hands out the pools; knows nothing of their tables.
//! Only SQLite itself opens these files in our process, and only through here.
//!
//! No connection made here deletes the write-ahead log when it is closed. SQLite does so by
//! default if the locks say that nobody else is there, and they may lie: a PocketBase that has
//! made a backup holds none any more, and would go on writing into a deleted log. Instead
//! [`Database::close`] folds the log in, which takes the locks that every transaction takes.

mod keep_log;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

use self::keep_log::keep_log;
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

/// How long the close waits for readers and writers of the log, in milliseconds. It may
/// fail: then the log stays as it is, and nothing is lost.
const FOLD_TIMEOUT: &str = "PRAGMA busy_timeout = 500";
const FOLD: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// What we may do with the databases of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The folder is ours.
    ReadWrite,
    /// Another program owns it.
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

    /// Waits for running statements and closes every connection of every clone. Databases
    /// that were written to have their write-ahead logs folded in; empty logs stay behind,
    /// full ones too while another program reads them.
    pub async fn close(&self) {
        for pool in [&self.data, &self.auxiliary] {
            match self.access {
                Access::ReadWrite => close_and_fold(pool).await,
                Access::ReadOnly => pool.close().await,
            }
        }
    }
}

/// Connect options as PocketBase sets them, for a file that exists and that nobody else has
/// open: the last close of such a connection deletes the log.
pub fn connect_options(path: &Path, access: Access) -> SqliteConnectOptions {
    match access {
        Access::ReadOnly => untouched_options(path).read_only(true),
        Access::ReadWrite => untouched_options(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES.to_string()),
    }
}

/// Quotes a table or column name that comes out of a database.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Those of [`connect_options`] that make SQLite neither read nor lock the file.
fn untouched_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
}

fn pool(path: &Path, access: Access) -> SqlitePool {
    let options = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None);
    match access {
        // The owner of a foreign folder may replace its files (a restore does): an open
        // connection would go on reading the deleted ones, so none lives long.
        Access::ReadOnly => options
            .max_lifetime(READ_ONLY_LIFETIME_MAX)
            .connect_lazy_with(connect_options(path, access)),
        Access::ReadWrite => options
            .max_lifetime(None)
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .connect_lazy_with(untouched_options(path)),
    }
}

/// Makes a connection one of ours. The log must be safe before the first look at the file: a
/// connection may be given up at any later moment, also in the middle of this.
async fn set_up(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    keep_log(connection).await?;
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
         PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}"
    );
    let pragmas = sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas));
    if let Err(error) = pragmas.execute(connection).await {
        // Not an error of ours: the pool would repeat the attempt until its time is up, while
        // the first statement names what is wrong with the file at once.
        tracing::warn!(%error, "a database cannot be set up as PocketBase does");
    }
    Ok(())
}

/// One connection leaves the pool before it closes and folds the log when all others are
/// gone: none of them reads it any more, and nothing is opened anew.
async fn close_and_fold(pool: &SqlitePool) {
    let is_unused = pool.is_closed() || pool.size() == 0;
    let last = if is_unused { None } else { pool.acquire().await.ok() };
    let last = last.map(PoolConnection::detach);
    pool.close().await;
    let Some(mut last) = last else { return };
    if let Err(error) = fold(&mut last).await {
        tracing::debug!(%error, "a write-ahead log stays as it is");
    }
    // Nothing can be lost any more, whatever this answers.
    let _ = last.close().await;
}

async fn fold(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query(FOLD_TIMEOUT).execute(&mut *connection).await?;
    sqlx::query(FOLD).execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
