//! How schedules were kept, in our own database.

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::{Context, Result};
use crate::state::StateDb;
use crate::vault::jobs::words;

const MESSAGE: &str = "cannot use the records of schedules";

words! {
    /// How the last run of a schedule went.
    Ran {
        /// It is under way.
        Running = "running",
        /// It is under way, after it was cut off once.
        Again = "again",
        /// It ended well.
        Done = "done",
        /// It ended badly.
        Failed = "failed",
        /// The process ended in the middle of it.
        Interrupted = "interrupted",
    }
}

/// What is known of one schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Expression and zone of it.
    pub expression: String,
    /// The last run that was begun or given up.
    pub looked: DateTime<Utc>,
    /// When the last run that began was due.
    pub due: Option<DateTime<Utc>>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// How it went.
    pub state: Option<Ran>,
    /// Its job, where it has one.
    pub job: Option<u64>,
    /// What there is to say about it.
    pub said: String,
    /// Runs that did not take place since the run before the last.
    pub missed: u64,
    /// Runs since that were skipped because this one still ran.
    pub skipped: u64,
}

impl Kept {
    /// A schedule that begins now: it has missed nothing.
    pub(super) fn new(expression: String, now: DateTime<Utc>) -> Self {
        Self {
            expression,
            looked: now,
            due: None,
            started: None,
            ended: None,
            state: None,
            job: None,
            said: String::new(),
            missed: 0,
            skipped: 0,
        }
    }

    /// A run begins now that was due at `due`. One that was cut off is known by that.
    pub(super) fn begin(&mut self, due: DateTime<Utc>, now: DateTime<Utc>) {
        let was_cut_off = self.state == Some(Ran::Interrupted) && self.due == Some(due);
        self.state = Some(if was_cut_off { Ran::Again } else { Ran::Running });
        (self.due, self.started, self.ended, self.job) = (Some(due), Some(now), None, None);
        (self.missed, self.skipped) = (0, 0);
        self.said.clear();
    }

    /// Whether a run is under way.
    pub fn is_running(&self) -> bool {
        matches!(self.state, Some(Ran::Running | Ran::Again))
    }
}

/// Everything that is known, by name.
pub(super) async fn load(state: &StateDb) -> Result<Vec<(String, Kept)>> {
    let rows = sqlx::query("SELECT * FROM schedules ORDER BY name").fetch_all(state.pool()).await;
    Ok(rows.context(MESSAGE)?.iter().filter_map(read).collect())
}

/// Keeps what is known about one, in place of what was.
pub(super) async fn save(state: &StateDb, name: &str, kept: &Kept) -> Result<()> {
    let millis = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_millis());
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    sqlx::query("INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(name)
        .bind(&kept.expression)
        .bind(kept.looked.timestamp_millis())
        .bind(millis(kept.due))
        .bind(millis(kept.started))
        .bind(millis(kept.ended))
        .bind(kept.state.map(Ran::as_str).unwrap_or_default())
        .bind(kept.job.map(number))
        .bind(&kept.said)
        .bind(number(kept.missed))
        .bind(number(kept.skipped))
        .execute(state.pool())
        .await
        .map(drop)
        .context(MESSAGE)
}

/// Forgets one that is no more.
pub(super) async fn forget(state: &StateDb, name: &str) -> Result<()> {
    let query = sqlx::query("DELETE FROM schedules WHERE name = ?").bind(name);
    query.execute(state.pool()).await.map(drop).context(MESSAGE)
}

/// Rows that a newer version wrote and that make no sense here are none.
fn read(row: &SqliteRow) -> Option<(String, Kept)> {
    let time = |column: &str| -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(row.try_get::<Option<i64>, _>(column).ok()??)
    };
    let count = |column: &str| -> Option<u64> {
        u64::try_from(row.try_get::<Option<i64>, _>(column).ok()??).ok()
    };
    let kept = Kept {
        expression: row.try_get("expression").ok()?,
        looked: time("looked")?,
        due: time("due"),
        started: time("started"),
        ended: time("ended"),
        state: Ran::parse(row.try_get("state").ok()?),
        job: count("job"),
        said: row.try_get("said").ok()?,
        missed: count("missed")?,
        skipped: count("skipped")?,
    };
    Some((row.try_get("name").ok()?, kept))
}
