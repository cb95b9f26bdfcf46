//! A look into the archive's `data.db`, unpacked aside: its migrations, who could log in, and
//! the rows that the present data has and it has not.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::archive::{Outline, Reader};
use crate::control::Control;
use crate::data_dir::{DATA_DB, DataDir};
use crate::database::{Access, Database, quote_identifier};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::restore::check;
use crate::restore::plan::{Migrations, Plan, RowLoss};
use crate::restore::stage::{SPARE_BYTES, new_id};

/// The largest `data.db` that a plan unpacks, in bytes.
const SIZE_BYTES_MAX: u64 = 16 << 30;
/// How long rows are compared.
const TIME_MAX: Duration = Duration::from_secs(20);
/// SQLite asks whether to go on after so many steps of its machine.
const STEPS: i32 = 10_000;

/// Unpacks and compares the databases. What is wrong with the archive's goes into the plan.
///
/// # Errors
/// A fault of the disk; [`Control::check`]'s.
pub(super) fn databases(
    data: &DataDir,
    reader: &Reader,
    outline: &Outline<'_>,
    plan: &mut Plan,
    control: &Control,
) -> Result<()> {
    let names = [DATA_DB.to_owned(), format!("{DATA_DB}-wal")];
    let entries = names.iter().filter_map(|name| Some((name, outline.files.get(name.as_bytes())?)));
    let size_bytes: u64 = entries.clone().map(|(_, entry)| entry.size_bytes()).sum();
    let scratch = Scratch::new(data)?;
    let room_bytes = fsx::free_bytes(&scratch.0)?.saturating_sub(SPARE_BYTES);
    if size_bytes > room_bytes.min(SIZE_BYTES_MAX) {
        plan.warnings.push("data.db is too large here to be unpacked for a plan.".to_owned());
        return Ok(());
    }
    for (name, entry) in entries {
        control.check()?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(scratch.0.join(name))
            .context("cannot unpack data.db for a plan")?;
        if let Err(error) = io::copy(&mut reader.open_entry(entry)?, &mut file) {
            let said = format!("The archive's {name} cannot be unpacked: {error}.");
            let error = Err::<(), _>(error).context(said).err();
            match error {
                Some(error) if error.kind() == &Kind::Corrupt => return reject(plan, &error),
                error => return error.map_or(Ok(()), Err),
            }
        }
    }
    match check::on_runtime(compare(data, &scratch.0.join(DATA_DB), plan)) {
        Err(error) if error.kind() == &Kind::Corrupt => reject(plan, &error),
        compared => compared,
    }
}

/// What is wrong with the archive is the plan's outcome, and no failure of planning.
fn reject(plan: &mut Plan, error: &Error) -> Result<()> {
    plan.refused = Some(error.message().to_owned());
    Ok(())
}

async fn compare(data: &DataDir, unpacked: &Path, plan: &mut Plan) -> Result<()> {
    let archived = check::inspect_quickly(unpacked).await?;
    let mut migrations = Migrations {
        archive: archived.len(),
        newest: archived.last().cloned(),
        ..Migrations::default()
    };
    if data.data_db().is_file() {
        let database = Database::open(data.root(), Access::ReadOnly)?;
        let compared = compare_with(&database, unpacked, plan).await;
        database.close().await;
        match compared {
            Ok(present) => {
                let has = |all: &[String], one: &String| all.contains(one);
                migrations.present = present.len();
                migrations.only_in_archive =
                    archived.iter().filter(|one| !has(&present, one)).cloned().collect();
                migrations.only_present =
                    present.iter().filter(|one| !has(&archived, one)).cloned().collect();
            }
            Err(error) => {
                if let Some(loss) = &mut plan.loss {
                    loss.complete = false;
                }
                plan.warnings.push(format!("The present data could not be compared: {error}."));
            }
        }
    }
    let unknown = migrations.only_in_archive.len();
    if unknown > 0 {
        plan.warnings.push(format!(
            "The archive has {unknown} migrations that the present data has not: the program \
             that opens it must know them."
        ));
    }
    plan.migrations = Some(migrations);
    Ok(())
}

/// Counts what differs; the migrations of the present data.
async fn compare_with(
    database: &Database,
    unpacked: &Path,
    plan: &mut Plan,
) -> sqlx::Result<Vec<String>> {
    // Of its own: what is attached here must not stay in the pool.
    let mut connection = database.data().acquire().await?.detach();
    let compared = count(&mut connection, unpacked, plan).await;
    connection.close().await?;
    compared
}

async fn count(
    connection: &mut SqliteConnection,
    unpacked: &Path,
    plan: &mut Plan,
) -> sqlx::Result<Vec<String>> {
    let end = Instant::now() + TIME_MAX;
    connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < end);
    // What comes from outside may call nothing.
    sqlx::query("PRAGMA trusted_schema = OFF").execute(&mut *connection).await?;
    sqlx::query("ATTACH DATABASE ? AS archive")
        .bind(unpacked.to_string_lossy().into_owned())
        .execute(&mut *connection)
        .await?;
    let migrations = sqlx::query_scalar("SELECT file FROM main._migrations ORDER BY applied, file")
        .fetch_all(&mut *connection)
        .await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM main._collections WHERE type != 'view' ORDER BY name")
            .fetch_all(&mut *connection)
            .await?;
    let Some(loss) = &mut plan.loss else { return Ok(migrations) };
    for name in names {
        match rows(connection, &name).await {
            Ok(rows) if rows.lost + rows.changed > 0 => loss.collections.push(rows),
            Ok(_) => {}
            Err(error) => {
                loss.complete = false;
                tracing::debug!(%error, name, "the rows of a collection were not compared");
            }
        }
    }
    Ok(migrations)
}

async fn rows(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<RowLoss> {
    let table = quote_identifier(name);
    let mut number = async |sql: String| -> sqlx::Result<u64> {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
        Ok(found.unsigned_abs())
    };
    let literal = name.replace('\'', "''");
    let is_archived = format!(
        "SELECT count(*) FROM archive.sqlite_schema WHERE type = 'table' AND name = '{literal}'"
    );
    let rows = number(format!("SELECT count(*) FROM main.{table}")).await?;
    if number(is_archived).await? == 0 {
        let name = name.to_owned();
        return Ok(RowLoss { name, rows, rows_in_archive: None, lost: rows, changed: 0 });
    }
    let rows_in_archive = number(format!("SELECT count(*) FROM archive.{table}")).await?;
    let lost = number(format!(
        "SELECT count(*) FROM main.{table} n WHERE NOT EXISTS \
         (SELECT 1 FROM archive.{table} a WHERE a.id = n.id)"
    ))
    .await?;
    let mut has_updated = true;
    for schema in ["main", "archive"] {
        let columns = format!("pragma_table_info('{literal}', '{schema}')");
        has_updated &=
            number(format!("SELECT count(*) FROM {columns} WHERE name = 'updated'")).await? > 0;
    }
    let changed = match has_updated {
        false => 0,
        true => {
            number(format!(
                "SELECT count(*) FROM main.{table} n JOIN archive.{table} a ON a.id = n.id \
                 WHERE n.updated > a.updated"
            ))
            .await?
        }
    };
    let rows_in_archive = Some(rows_in_archive);
    Ok(RowLoss { name: name.to_owned(), rows, rows_in_archive, lost, changed })
}

/// A folder of ours for a moment; also swept at every start.
struct Scratch(PathBuf);

impl Scratch {
    fn new(data: &DataDir) -> Result<Self> {
        let folder = data.staging().join(format!("plan-{}", new_id(chrono::Utc::now())));
        fsx::create_dir_durably(&folder)?;
        let scratch = Self(folder);
        // Root may be at work here, but whoever serves sweeps it.
        fsx::give_to_owner_of(data.root(), &data.staging())?;
        fsx::give_to_owner_of(data.root(), &scratch.0)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays is swept at the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}
