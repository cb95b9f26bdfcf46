//! Orders in our own database: one row each, and one row per daily order.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::backup::Key;
use crate::error::{Context, Error, Result};
use crate::state::StateDb;
use crate::vault::jobs::{Method, words};

/// Ended orders that are kept per target; older ones are forgotten, their backups are not.
const ENDED_MAX: i64 = 500;

words! {
    /// How far an order is.
    OrderState {
        /// Its turn has not come.
        Waiting = "waiting",
        /// It is being made.
        Running = "running",
        /// It was made.
        Done = "done",
        /// It could not be made.
        Failed = "failed",
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) target: String,
    pub(super) method: Method,
    pub(super) state: OrderState,
    pub(super) key: Option<Key>,
    pub(super) placed: DateTime<Utc>,
    pub(super) started: Option<DateTime<Utc>>,
}

/// When a backup is made each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daily {
    /// Whether it is.
    pub enabled: bool,
    /// At which full hour, UTC.
    pub hour: u8,
}

/// The rows.
#[derive(Debug, Clone)]
pub(super) struct Book(pub(super) StateDb);

const FAILED: &str = "the orders cannot be read or written";

impl Book {
    pub(super) async fn insert(&self, row: &Row) -> Result<()> {
        let sql = "INSERT INTO orders (id, target, method, state, key, placed, started) \
                   VALUES (?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&row.id)
            .bind(&row.target)
            .bind(row.method.as_str())
            .bind(row.state.as_str())
            .bind(row.key.as_ref().map(Key::as_str))
            .bind(row.placed.timestamp_millis())
            .bind(row.started.map(|started| started.timestamp_millis()))
            .execute(self.0.pool())
            .await
            .context(FAILED)?;
        let sql = "DELETE FROM orders WHERE target = ?1 AND state IN ('done', 'failed') AND id IN \
                   (SELECT id FROM orders WHERE target = ?1 AND state IN ('done', 'failed') \
                    ORDER BY placed DESC LIMIT -1 OFFSET ?2)";
        let trim = sqlx::query(sql).bind(&row.target).bind(ENDED_MAX);
        trim.execute(self.0.pool()).await.map(drop).context(FAILED)
    }

    /// All orders of a target, newest first.
    pub(super) async fn of(&self, target: &str) -> Result<Vec<Row>> {
        let sql = "SELECT * FROM orders WHERE target = ? ORDER BY placed DESC, rowid DESC";
        let rows = sqlx::query(sql).bind(target).fetch_all(self.0.pool()).await.context(FAILED)?;
        rows.iter().map(read).collect()
    }

    pub(super) async fn find(&self, target: &str, id: &str) -> Result<Option<Row>> {
        let query = sqlx::query("SELECT * FROM orders WHERE target = ? AND id = ?");
        let row = query.bind(target).bind(id).fetch_optional(self.0.pool()).await;
        row.context(FAILED)?.as_ref().map(read).transpose()
    }

    /// The first that waits, oldest first.
    pub(super) async fn next(&self, target: &str) -> Result<Option<Row>> {
        let sql = "SELECT * FROM orders WHERE target = ? AND state = 'waiting' \
                   ORDER BY placed, rowid LIMIT 1";
        let row = sqlx::query(sql).bind(target).fetch_optional(self.0.pool()).await;
        row.context(FAILED)?.as_ref().map(read).transpose()
    }

    pub(super) async fn count(&self, target: &str, state: OrderState) -> Result<usize> {
        let query =
            sqlx::query_scalar("SELECT count(*) FROM orders WHERE target = ? AND state = ?");
        let count: i64 = query
            .bind(target)
            .bind(state.as_str())
            .fetch_one(self.0.pool())
            .await
            .context(FAILED)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// From waiting to running; whether it still waited.
    pub(super) async fn start(&self, id: &str, key: &Key, now: DateTime<Utc>) -> Result<bool> {
        let sql = "UPDATE orders SET state = 'running', key = ?, started = ? \
                   WHERE id = ? AND state = 'waiting'";
        let query = sqlx::query(sql).bind(key.as_str()).bind(now.timestamp_millis()).bind(id);
        let done = query.execute(self.0.pool()).await.context(FAILED)?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn end(&self, id: &str, state: OrderState) -> Result<()> {
        let query = sqlx::query("UPDATE orders SET state = ? WHERE id = ?");
        let query = query.bind(state.as_str()).bind(id);
        query.execute(self.0.pool()).await.map(drop).context(FAILED)
    }

    /// Forgets one, unless it is running; whether there was one.
    pub(super) async fn remove(&self, id: &str) -> Result<bool> {
        let query = sqlx::query("DELETE FROM orders WHERE id = ? AND state <> 'running'");
        let done = query.bind(id).execute(self.0.pool()).await.context(FAILED)?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn daily(&self, target: &str) -> Result<Option<Daily>> {
        let query = sqlx::query_as("SELECT enabled, hour FROM daily_orders WHERE target = ?");
        let row: Option<(bool, i64)> =
            query.bind(target).fetch_optional(self.0.pool()).await.context(FAILED)?;
        Ok(row.map(|(enabled, hour)| Daily { enabled, hour: u8::try_from(hour).unwrap_or(0) }))
    }

    /// Hours that struck before `now` are over.
    pub(super) async fn set_daily(
        &self,
        target: &str,
        daily: Daily,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO daily_orders (target, enabled, hour, looked) \
                   VALUES (?, ?, ?, ?)";
        let query = sqlx::query(sql)
            .bind(target)
            .bind(daily.enabled)
            .bind(i64::from(daily.hour))
            .bind(now.timestamp_millis());
        query.execute(self.0.pool()).await.map(drop).context(FAILED)
    }

    /// The targets whose hour struck since this was asked last.
    pub(super) async fn take_due(&self, now: DateTime<Utc>) -> Result<Vec<String>> {
        let query = sqlx::query_as("SELECT target, hour, looked FROM daily_orders WHERE enabled");
        let rows: Vec<(String, u8, i64)> = query.fetch_all(self.0.pool()).await.context(FAILED)?;
        let mut due = Vec::new();
        for (target, hour, looked) in rows {
            let Some(struck) = last_struck(hour, now) else { continue };
            if looked >= struck.timestamp_millis() {
                continue;
            }
            let query = sqlx::query("UPDATE daily_orders SET looked = ? WHERE target = ?");
            let query = query.bind(now.timestamp_millis()).bind(&target);
            query.execute(self.0.pool()).await.context(FAILED)?;
            due.push(target);
        }
        Ok(due)
    }
}

/// When it was last that hour; one that struck while nobody ran is made up for, once.
fn last_struck(hour: u8, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let today = now.date_naive().and_hms_opt(u32::from(hour), 0, 0)?.and_utc();
    let before = i64::from(now.hour() < u32::from(hour));
    today.checked_sub_signed(TimeDelta::days(before))
}

fn read(row: &SqliteRow) -> Result<Row> {
    const STRANGE: &str = "an order's row is strange";
    let text = |column: &str| row.try_get::<String, _>(column).context(STRANGE);
    let strange = || Error::internal(STRANGE);
    let time = |column: &str| -> Result<Option<DateTime<Utc>>> {
        let millis: Option<i64> = row.try_get(column).context(STRANGE)?;
        Ok(millis.and_then(DateTime::from_timestamp_millis))
    };
    let key: Option<String> = row.try_get("key").context(STRANGE)?;
    Ok(Row {
        id: text("id")?,
        target: text("target")?,
        method: Method::parse(&text("method")?).ok_or_else(strange)?,
        state: OrderState::parse(&text("state")?).ok_or_else(strange)?,
        key: key.map(|key| Key::existing(&key)).transpose()?,
        placed: time("placed")?.ok_or_else(strange)?,
        started: time("started")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a date")
    }

    async fn book() -> Book {
        Book(StateDb::in_memory().await.expect("made"))
    }

    fn row(id: &str, placed: &str) -> Row {
        Row {
            id: id.to_owned(),
            target: "ledger".to_owned(),
            method: Method::Api,
            state: OrderState::Waiting,
            key: None,
            placed: at(placed),
            started: None,
        }
    }

    #[tokio::test]
    async fn an_order_goes_from_waiting_to_its_end() {
        let book = book().await;
        let (one, two) = (row("1", "2026-11-21T09:00:00.5Z"), row("2", "2026-11-21T09:00:01Z"));
        book.insert(&two).await.expect("kept");
        book.insert(&one).await.expect("kept");
        assert_eq!(book.next("ledger").await.expect("read"), Some(one.clone()));
        assert_eq!(book.next("other").await.expect("read"), None);
        let (key, now) = (Key::existing("a.dump").expect("a key"), at("2026-11-21T10:00:00Z"));
        assert!(book.start("1", &key, now).await.expect("written"));
        assert!(!book.start("1", &key, now).await.expect("written"), "only once");
        assert!(!book.remove("1").await.expect("asked"), "it is running");
        assert_eq!(book.next("ledger").await.expect("read"), Some(two.clone()));
        book.end("1", OrderState::Done).await.expect("written");
        let done =
            Row { state: OrderState::Done, key: Some(key), started: Some(now), ..one.clone() };
        assert_eq!(book.of("ledger").await.expect("read"), [two, done.clone()]);
        assert_eq!(book.find("ledger", "1").await.expect("read"), Some(done));
        assert_eq!(book.find("other", "1").await.expect("read"), None);
        assert!(book.remove("2").await.expect("removed"));
        assert_eq!(book.count("ledger", OrderState::Waiting).await.expect("read"), 0);
    }

    #[tokio::test]
    async fn the_hour_strikes_once_a_day_and_is_made_up_for_once() {
        let book = book().await;
        let daily = Daily { enabled: true, hour: 3 };
        let set = async |daily, now| book.set_daily("a", daily, at(now)).await.expect("kept");
        set(daily, "2026-11-21T09:00:00Z").await;
        assert_eq!(book.daily("a").await.expect("read"), Some(daily));
        let due = async |now: &str| book.take_due(at(now)).await.expect("read").len();
        for (now, expected) in [
            ("2026-11-21T09:01:00Z", 0),
            ("2026-11-22T02:59:59Z", 0),
            ("2026-11-22T03:00:00Z", 1),
            ("2026-11-22T03:01:00Z", 0),
            ("2026-11-22T23:59:00Z", 0),
            ("2026-11-23T03:00:01Z", 1),
            // Nobody ran for days.
            ("2026-11-27T01:00:00Z", 1),
            ("2026-11-27T02:00:00Z", 0),
            ("2026-11-27T03:00:00Z", 1),
        ] {
            assert_eq!(due(now).await, expected, "{now}");
        }
        set(Daily { enabled: false, hour: 3 }, "2026-11-27T04:00:00Z").await;
        assert_eq!(due("2026-11-28T04:00:00Z").await, 0);
    }
}
