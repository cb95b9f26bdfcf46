//! What somebody was told, and what is on its way: in our own database, so that a restart
//! neither repeats nor loses news. All changes of one look are one transaction.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::error::{Context, Result};
use crate::notify::note::Note;
use crate::state::StateDb;

const MESSAGE: &str = "cannot use the records of alarms";
/// News that may be on their way to one receiver; older ones are dropped.
const OUTBOX_MAX: i64 = 500;
/// Schedules have no seconds: a daily trouble is told daily, though a second earlier.
const SLACK: TimeDelta = TimeDelta::minutes(10);

/// How far the watcher has looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    /// The revision of the last change of a job.
    pub(super) revision: u64,
    /// The schedule that was looked at.
    pub(super) expression: String,
    /// Up to when its runs were found.
    pub(super) looked: DateTime<Utc>,
    /// When the last good backup ended.
    pub(super) good: DateTime<Utc>,
}

/// News on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: i64,
    pub(super) made: DateTime<Utc>,
    pub(super) note: Note,
}

/// One look.
#[derive(Debug)]
pub(super) struct Book {
    transaction: Transaction<'static, Sqlite>,
}

impl Book {
    pub(super) async fn open(state: &StateDb) -> Result<Self> {
        let transaction = state.pool().begin_with("BEGIN IMMEDIATE").await.context(MESSAGE)?;
        Ok(Self { transaction })
    }

    pub(super) async fn close(self) -> Result<()> {
        self.transaction.commit().await.context(MESSAGE)
    }

    pub(super) async fn watch(&mut self) -> Result<Option<Watch>> {
        let row = sqlx::query("SELECT revision, expression, looked, good FROM alarm_watch")
            .fetch_optional(&mut *self.transaction)
            .await
            .context(MESSAGE)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Watch {
            revision: u64::try_from(row.get::<i64, _>(0)).unwrap_or(0),
            expression: row.get(1),
            looked: time(row.get(2)),
            good: time(row.get(3)),
        }))
    }

    pub(super) async fn save_watch(&mut self, watch: &Watch) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO alarm_watch VALUES (1, ?, ?, ?, ?)")
            .bind(i64::try_from(watch.revision).unwrap_or(i64::MAX))
            .bind(&watch.expression)
            .bind(watch.looked.timestamp_millis())
            .bind(watch.good.timestamp_millis())
            .execute(&mut *self.transaction)
            .await
            .map(drop)
            .context(MESSAGE)
    }

    /// Notes a trouble; whether it is to be told.
    pub(super) async fn raise(
        &mut self,
        condition: &str,
        now: DateTime<Utc>,
        repeat: TimeDelta,
    ) -> Result<bool> {
        let told: Option<i64> = sqlx::query_scalar("SELECT told FROM alarms WHERE condition = ?")
            .bind(condition)
            .fetch_optional(&mut *self.transaction)
            .await
            .context(MESSAGE)?;
        if told.is_some_and(|told| now < time(told) + repeat - SLACK.min(repeat / 2)) {
            return Ok(false);
        }
        let millis = now.timestamp_millis();
        sqlx::query(
            "INSERT INTO alarms VALUES (?, ?, ?) \
             ON CONFLICT (condition) DO UPDATE SET told = excluded.told",
        )
        .bind(condition)
        .bind(millis)
        .bind(millis)
        .execute(&mut *self.transaction)
        .await
        .context(MESSAGE)?;
        Ok(true)
    }

    /// Notes the end of a trouble; since when there was one.
    pub(super) async fn clear(&mut self, condition: &str) -> Result<Option<DateTime<Utc>>> {
        let since = sqlx::query_scalar("DELETE FROM alarms WHERE condition = ? RETURNING since")
            .bind(condition)
            .fetch_optional(&mut *self.transaction)
            .await
            .context(MESSAGE)?;
        Ok(since.map(time))
    }

    /// Puts news on their way.
    pub(super) async fn put(
        &mut self,
        channel: &str,
        note: &Note,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let json = serde_json::to_string(note).context(MESSAGE)?;
        sqlx::query("INSERT INTO outbox (channel, note, made) VALUES (?, ?, ?)")
            .bind(channel)
            .bind(json)
            .bind(now.timestamp_millis())
            .execute(&mut *self.transaction)
            .await
            .context(MESSAGE)?;
        sqlx::query(
            "DELETE FROM outbox WHERE channel = ?1 AND id NOT IN \
             (SELECT id FROM outbox WHERE channel = ?1 ORDER BY id DESC LIMIT ?2)",
        )
        .bind(channel)
        .bind(OUTBOX_MAX)
        .execute(&mut *self.transaction)
        .await
        .map(drop)
        .context(MESSAGE)
    }
}

/// The troubles that go on: what each is about, and since when.
pub(super) async fn troubles(state: &StateDb) -> Result<Vec<(String, DateTime<Utc>)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT condition, since FROM alarms ORDER BY condition")
            .fetch_all(state.pool())
            .await
            .context(MESSAGE)?;
    Ok(rows.into_iter().map(|(condition, since)| (condition, time(since))).collect())
}

/// The oldest news on their way to a receiver.
pub(super) async fn next(state: &StateDb, channel: &str) -> Result<Option<Pending>> {
    loop {
        let sql = "SELECT id, note, made FROM outbox WHERE channel = ? ORDER BY id LIMIT 1";
        let row: Option<(i64, String, i64)> = sqlx::query_as(sql)
            .bind(channel)
            .fetch_optional(state.pool())
            .await
            .context(MESSAGE)?;
        let Some((id, note, made)) = row else { return Ok(None) };
        match serde_json::from_str(&note) {
            Ok(note) => return Ok(Some(Pending { id, made: time(made), note })),
            // Written by a version that knows more.
            Err(_) => remove(state, id).await?,
        }
    }
}

/// They arrived, or never will.
pub(super) async fn remove(state: &StateDb, id: i64) -> Result<()> {
    sqlx::query("DELETE FROM outbox WHERE id = ?")
        .bind(id)
        .execute(state.pool())
        .await
        .map(drop)
        .context(MESSAGE)
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH)
}
