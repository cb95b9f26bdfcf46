//! Checks a staged database and folds its write-ahead log into it.
//!
//! It opens staged copies only, never the live files. What it reads came from outside, so the
//! file is distrusted: no hot journals, no functions in its schema, tables that are tables.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::control::Control;
use crate::data_dir::{AUXILIARY_DB, DATA_DB};
use crate::error::{Context, Error, Kind, Result};
use crate::restore::disk;
use crate::restore::integrity::require_integrity;

/// The first bytes of every SQLite database.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Tables without which neither PocketBase nor we can start or let anybody in.
const TABLES: [&str; 3] = ["_collections", "_params", "_superusers"];
/// The account that PocketBase's installer makes; nobody knows its password.
const INSTALLER: &str = "__pbinstaller@example.com";
/// How much of a database is read ahead, in bytes.
const READ_AHEAD_BYTES: u64 = 1 << 30;
/// One request to read ahead, in bytes: the least that a device's limit is set to.
const READ_AHEAD_STEP: usize = 128 << 10;
/// SQLite's page cache for each connection of a check: 12 MiB, in its own notation. More makes
/// a check hardly faster; 10 MiB cost half as much time again on a database of 0.4 GB.
const CACHE_SIZE: &str = "-20480";
/// What must be unpacked before `data.db` can be checked.
pub(super) const DATA_FILES: [&str; 4] = [DATA_DB, "data.db-wal", "data.db-shm", "data.db-journal"];

/// What the check of a staged `pb_data` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Superusers with a password: those who can log in afterwards. At least one.
    pub superusers: u64,
    /// Rows that point to rows which do not exist. PocketBase declares no foreign keys itself,
    /// so these are the application's own and no reason to refuse.
    pub foreign_key_violations: u64,
    /// Whether the archive brought its logs; without them they begin anew.
    pub has_auxiliary: bool,
}

/// The check of `data.db`, which may begin while the rest is still being unpacked.
#[derive(Debug, Default)]
pub(super) struct Begun(Mutex<Option<JoinHandle<Result<Report>>>>);

impl Begun {
    /// Begins, once all [`DATA_FILES`] are there. What is wrong is told by [`check`].
    pub(super) fn begin(&self, staged: &Path) {
        let data_db = staged.join(DATA_DB);
        let fit = require_database(&data_db).and_then(|()| drop_index_and_refuse_journal(&data_db));
        if fit.is_ok() {
            let work = move || on_runtime(inspect_data(&data_db));
            let thread = std::thread::Builder::new().name("check".to_owned()).spawn(work).ok();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = thread;
        }
    }

    /// What it found; `None` when it was not begun.
    fn wait(&self) -> Option<Result<Report>> {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(thread.join().unwrap_or_else(|_| Err(panicked())))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Nobody may have the files open when they are removed.
        let _ = self.wait();
    }
}

/// Checks the databases of a staged folder. Afterwards they are single, synced files.
///
/// # Errors
/// [`Kind::Corrupt`] with the reason why this data would not serve.
pub(super) fn check(staged: &Path, begun: Begun, control: &Control) -> Result<Report> {
    let inspected = begun.wait();
    let data_db = staged.join(DATA_DB);
    let auxiliary_db = staged.join(AUXILIARY_DB);
    require_database(&data_db)?;
    let has_auxiliary = disk::exists(&auxiliary_db)?;
    if has_auxiliary {
        require_database(&auxiliary_db)?;
    }
    for database in [&data_db, &auxiliary_db] {
        drop_index_and_refuse_journal(database)?;
    }
    control.check()?;
    let mut report = match inspected {
        Some(inspected) => inspected?,
        None => on_runtime(inspect_data(&data_db))?,
    };
    if has_auxiliary {
        on_runtime(inspect_auxiliary(&auxiliary_db))?;
    }
    report.has_auxiliary = has_auxiliary;
    for database in [&data_db, &auxiliary_db] {
        require_folded(database)?;
    }
    disk::sync_file(&data_db)?;
    if has_auxiliary {
        disk::sync_file(&auxiliary_db)?;
    }
    Ok(report)
}

/// A regular, non-empty file that begins like a database.
fn require_database(path: &Path) -> Result<()> {
    let name = file_name(path);
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(corrupt(format!("The archive has no {name}.")));
        }
        other => other.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    if !metadata.is_file() {
        return Err(corrupt(format!("The archive's {name} is not a regular file.")));
    }
    let mut first = Vec::with_capacity(MAGIC.len());
    File::open(path)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if first != MAGIC {
        return Err(corrupt(format!("The archive's {name} is not a SQLite database.")));
    }
    Ok(())
}

/// The `-shm` is only an index of the `-wal` and is made anew. A rollback journal is refused:
/// PocketBase never leaves one, and a forged one can name a file anywhere for SQLite to delete.
fn drop_index_and_refuse_journal(database: &Path) -> Result<()> {
    disk::remove_tree(&side_file(database, "-shm"))?;
    let journal = side_file(database, "-journal");
    if disk::exists(&journal)? {
        let name = file_name(&journal);
        return Err(corrupt(format!("The archive holds a rollback journal ({name}).")));
    }
    let wal = side_file(database, "-wal");
    if disk::exists(&wal)? && !(wal.is_file() && disk::exists(database)?) {
        let name = file_name(&wal);
        return Err(corrupt(format!("The archive's {name} belongs to no database.")));
    }
    Ok(())
}

/// Runs the statements on a thread and a runtime of their own, so that this blocking code may
/// be called from anywhere.
pub(super) fn on_runtime<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        runtime.block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> Error {
    Error::internal("the check of the staged databases panicked")
}

async fn inspect_auxiliary(path: &Path) -> Result<()> {
    let mut auxiliary = open(path).await?;
    require_integrity(path, &mut auxiliary, AUXILIARY_DB).await?;
    fold(auxiliary, AUXILIARY_DB).await
}

async fn inspect_data(path: &Path) -> Result<Report> {
    read_ahead(path);
    let mut data = open(path).await?;
    require_integrity(path, &mut data, DATA_DB).await?;
    require_tables(&mut data).await?;
    let superusers = require_superuser(&mut data).await?;
    let foreign: i64 = sqlx::query_scalar("SELECT count(*) FROM pragma_foreign_key_check")
        .fetch_one(&mut data)
        .await
        .map_err(|error| unusable(DATA_DB, error))?;
    fold(data, DATA_DB).await?;
    Ok(Report { superusers, foreign_key_violations: foreign.unsigned_abs(), has_auxiliary: false })
}

/// Looks at an unpacked `data.db` without reading all of it: its tables, who could log in. Folds
/// its log in. The names of its applied migrations, in their order.
///
/// # Errors
/// [`Kind::Corrupt`] with the reason why this data would not serve.
pub(super) async fn inspect_quickly(path: &Path) -> Result<Vec<String>> {
    let mut data = open(path).await?;
    require_tables(&mut data).await?;
    require_superuser(&mut data).await?;
    // Without the table nobody has applied anything.
    let migrations = sqlx::query_scalar("SELECT file FROM _migrations ORDER BY applied, file")
        .fetch_all(&mut data)
        .await
        .unwrap_or_default();
    fold(data, DATA_DB).await?;
    Ok(migrations)
}

/// Counts what a checked `data.db` holds: its collections, and the rows of their tables.
///
/// # Errors
/// [`Kind::Corrupt`]: a collection has no table.
pub(super) async fn count(path: &Path) -> Result<(u64, u64)> {
    let mut data = open(path).await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM _collections WHERE type != 'view'")
            .fetch_all(&mut data)
            .await
            .map_err(|error| unusable(DATA_DB, error))?;
    let mut records = 0u64;
    for name in &names {
        let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut data)
            .await
            .map_err(|error| unusable(DATA_DB, error))?;
        records += rows.unsigned_abs();
    }
    data.close().await.map_err(|error| unusable(DATA_DB, error))?;
    Ok((names.len() as u64, records))
}

/// How many there are who could log in; at least one.
async fn require_superuser(data: &mut SqliteConnection) -> Result<u64> {
    let superusers: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM _superusers WHERE email NOT IN ('', ?) AND password != ''",
    )
    .bind(INSTALLER)
    .fetch_one(data)
    .await
    .map_err(|error| unusable(DATA_DB, error))?;
    if superusers == 0 {
        return Err(corrupt("The archive's data.db has no superuser who could log in.".into()));
    }
    Ok(superusers.unsigned_abs())
}

/// What was written past the page cache is read in one go, and not page by page in the order
/// of a tree. Best effort, and no more than what leaves the cache to others.
fn read_ahead(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    let size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    // Linux cuts a longer wish to what the device takes in one request.
    for offset in (0..size_bytes.min(READ_AHEAD_BYTES)).step_by(READ_AHEAD_STEP) {
        let length = NonZeroU64::new(READ_AHEAD_STEP as u64);
        let _ = rustix::fs::fadvise(&file, offset, length, rustix::fs::Advice::WillNeed);
    }
}

pub(super) async fn open(path: &Path) -> Result<SqliteConnection> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("cache_size", CACHE_SIZE)
        .connect()
        .await
        .map_err(|error| unusable(&file_name(path), error))
}

async fn require_tables(connection: &mut SqliteConnection) -> Result<()> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(connection)
            .await
            .map_err(|error| unusable(DATA_DB, error))?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    let Some(missing) = TABLES.into_iter().find(|name| !has(name)) else { return Ok(()) };
    let error = corrupt(format!("The archive's data.db is not PocketBase's: no {missing} table."));
    Err(if has("_admins") {
        error.hint("this data was written by PocketBase before 0.23; let a newer one upgrade it")
    } else {
        error
    })
}

/// Moves what the write-ahead log holds into the database, and closes it, which removes the log.
async fn fold(mut connection: SqliteConnection, name: &str) -> Result<()> {
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| unusable(name, error))?;
    if row.try_get::<i64, _>(0).unwrap_or(1) != 0 {
        return Err(Error::internal(format!("the staged {name} is open elsewhere")));
    }
    connection.close().await.map_err(|error| unusable(name, error))
}

fn require_folded(database: &Path) -> Result<()> {
    for suffix in ["-wal", "-shm"] {
        let path = side_file(database, suffix);
        let left = std::fs::metadata(&path).map(|metadata| metadata.len());
        match left {
            Ok(bytes) if bytes > 0 && suffix == "-wal" => {
                return Err(Error::internal(format!("{} was not folded in", path.display())));
            }
            Ok(_) => disk::remove_tree(&path)?,
            Err(_) => {}
        }
    }
    Ok(())
}

fn side_file(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn corrupt(message: String) -> Error {
    Error::new(Kind::Corrupt, message)
}

/// What SQLite says about a staged file is about the archive, except when our disk is full.
pub(super) fn unusable(name: &str, error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|inner| inner.code());
    // SQLITE_FULL.
    let kind = if code.as_deref() == Some("13") { Kind::NoSpace } else { Kind::Corrupt };
    Error::new(kind, format!("The archive's {name} cannot be used: {error}.")).because(error)
}
