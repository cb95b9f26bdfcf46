//! Records in our own database: written by one task in the order of the changes.

use chrono::DateTime;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{mpsc, oneshot};

use crate::backup::Key;
use crate::control::{Progress, Step};
use crate::error::{Context, Error, Result};
use crate::state::StateDb;
use crate::vault::jobs::record::{Job, JobKind, Method, State};

/// Rows that are kept; older ones are deleted.
const ROWS_MAX: i64 = 20_000;

const COLUMNS: &str = "id, kind, method, key, state, step, bytes, bytes_estimate, entries, \
    entries_estimate, message, hint, notes, complete, started, ended, restore_id, revision, \
    vault";

/// What the writing task is told.
#[derive(Debug)]
enum Write {
    Job(Box<Job>),
    Flush(oneshot::Sender<()>),
}

/// The way to the database. A record that cannot be written is a line in the log: the work
/// itself matters more than its record.
#[derive(Debug, Clone)]
pub(super) struct History {
    state: StateDb,
    writes: mpsc::UnboundedSender<Write>,
}

impl History {
    /// Starts the writing task on the present runtime.
    pub(super) fn new(state: StateDb) -> Self {
        let (writes, mut queue) = mpsc::unbounded_channel();
        let of_task = state.clone();
        tokio::spawn(async move {
            while let Some(write) = queue.recv().await {
                match write {
                    Write::Job(job) => {
                        if let Err(error) = save(&of_task, &job).await {
                            let (job, error) = (job.id, error.full());
                            tracing::error!(job, error, "a job's record was not kept");
                        }
                    }
                    Write::Flush(done) => {
                        // Who waited may have left.
                        let _ = done.send(());
                    }
                }
            }
        });
        Self { state, writes }
    }

    /// Writes a record, soon.
    pub(super) fn save(&self, job: &Job) {
        // The task ends with its runtime, and then the process ends too.
        let _ = self.writes.send(Write::Job(Box::new(job.clone())));
    }

    /// Waits until everything that was given to [`History::save`] is on the disk.
    pub(super) async fn flush(&self) {
        let (done, waiting) = oneshot::channel();
        if self.writes.send(Write::Flush(done)).is_ok() {
            let _ = waiting.await;
        }
    }

    /// The newest records, oldest first.
    pub(super) async fn newest(&self, limit: usize) -> Result<Vec<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs ORDER BY id DESC LIMIT ?");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(self.state.pool()).await;
        let rows = rows.context("cannot read the job history")?;
        // Rows that a newer version wrote and that make no sense here are not shown.
        Ok(rows.iter().rev().filter_map(|row| job(row).ok()).collect())
    }

    /// One record.
    pub(super) async fn find(&self, id: u64) -> Result<Option<Job>> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(self.state.pool()).await;
        let row = row.context("cannot read the job history")?;
        Ok(row.and_then(|row| job(&row).ok()))
    }

    /// The highest id and revision ever given.
    pub(super) async fn highest(&self) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(max(id), 0), coalesce(max(revision), 0) FROM jobs";
        let row: (i64, i64) = sqlx::query_as(sql)
            .fetch_one(self.state.pool())
            .await
            .context("cannot read the job history")?;
        Ok((row.0.try_into().unwrap_or(0), row.1.try_into().unwrap_or(0)))
    }
}

async fn save(state: &StateDb, job: &Job) -> Result<()> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (message, hint) = match &job.state {
        State::Failed { message, hint } => (Some(message.as_str()), hint.as_deref()),
        _ => (None, None),
    };
    let sql = format!(
        "INSERT OR REPLACE INTO jobs ({COLUMNS}) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let saved = sqlx::query(AssertSqlSafe(sql))
        .bind(number(job.id))
        .bind(job.kind.as_str())
        .bind(job.method.as_str())
        .bind(job.key.as_str())
        .bind(job.state.as_str())
        .bind(job.progress.step.as_str())
        .bind(number(job.progress.bytes))
        .bind(number(job.progress.bytes_estimate))
        .bind(number(job.progress.entries))
        .bind(number(job.progress.entries_estimate))
        .bind(message)
        .bind(hint)
        .bind(serde_json::to_string(&job.notes).unwrap_or_default())
        .bind(job.complete)
        .bind(job.started.timestamp_millis())
        .bind(job.ended.map(|ended| ended.timestamp_millis()))
        .bind(job.restore_id.as_deref())
        .bind(number(job.revision))
        .bind(&job.vault)
        .execute(state.pool())
        .await;
    saved.context("cannot write the job history")?;
    if job.ended.is_some() {
        let oldest = number(job.id).saturating_sub(ROWS_MAX);
        let deleted = sqlx::query("DELETE FROM jobs WHERE id <= ?").bind(oldest);
        deleted.execute(state.pool()).await.context("cannot trim the job history")?;
    }
    Ok(())
}

fn job(row: &SqliteRow) -> Result<Job> {
    let strange = |what: &str| Error::internal(format!("a job's record has a strange {what}"));
    let text = |column: &str| row.try_get::<String, _>(column).context("a job's record is strange");
    let number = |column: &str| -> Result<u64> {
        let value: i64 = row.try_get(column).context("a job's record is strange")?;
        u64::try_from(value).map_err(|_| strange(column))
    };
    let time = |column: &str| -> Result<Option<DateTime<_>>> {
        let millis: Option<i64> = row.try_get(column).context("a job's record is strange")?;
        Ok(millis.and_then(DateTime::from_timestamp_millis))
    };
    let optional = |column: &str| row.try_get::<Option<String>, _>(column).ok().flatten();
    let state = match text("state")?.as_str() {
        "running" => State::Running,
        "done" => State::Done,
        "cancelled" => State::Cancelled,
        "interrupted" => State::Interrupted,
        "failed" => State::Failed {
            message: optional("message").unwrap_or_default(),
            hint: optional("hint"),
        },
        _ => return Err(strange("state")),
    };
    Ok(Job {
        id: number("id")?,
        kind: JobKind::parse(&text("kind")?).ok_or_else(|| strange("kind"))?,
        method: Method::parse(&text("method")?).ok_or_else(|| strange("method"))?,
        key: Key::existing(&text("key")?)?,
        state,
        progress: Progress {
            step: Step::parse(&text("step")?).unwrap_or_default(),
            bytes: number("bytes")?,
            bytes_estimate: number("bytes_estimate")?,
            entries: number("entries")?,
            entries_estimate: number("entries_estimate")?,
        },
        notes: serde_json::from_str(&text("notes")?).unwrap_or_default(),
        complete: row.try_get("complete").context("a job's record is strange")?,
        started: time("started")?.ok_or_else(|| strange("start"))?,
        ended: time("ended")?,
        restore_id: optional("restore_id"),
        revision: number("revision")?,
        vault: text("vault")?,
    })
}
