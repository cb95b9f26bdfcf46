//! Who did what: bounded in number and age, in our own database. No password and no token is
//! ever given to it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::error::{Context, Result};
use crate::state::StateDb;

/// Entries that are kept; older ones go.
const ROWS_MAX: i64 = 100_000;
/// How long they are kept.
const AGE_MAX: TimeDelta = TimeDelta::days(400);
/// How often there is a look whether some have to go, in entries.
const TRIM_EVERY: i64 = 64;
/// Longest text of an entry, in characters: clients choose some of them.
const CHARS_MAX: usize = 200;
const MESSAGE: &str = "cannot use the audit log";

/// Something that somebody did, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, ascending.
    pub id: u64,
    /// When.
    pub time: DateTime<Utc>,
    /// Who, as far as that is known.
    pub who: String,
    /// From where.
    pub address: String,
    /// What, in a word.
    pub action: String,
    /// With what.
    pub subject: String,
    /// The status of the answer.
    pub status: u16,
}

/// The log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    state: StateDb,
    clock: Clock,
}

impl Audit {
    /// The log in `state`.
    pub fn new(state: StateDb, clock: Clock) -> Self {
        Self { state, clock }
    }

    /// Writes an entry; its number and its time are given here. One that cannot be written is a
    /// line in the other log.
    pub async fn write(&self, entry: Entry) {
        if let Err(error) = self.try_write(&entry).await {
            let (action, error) = (entry.action, error.full());
            tracing::error!(who = entry.who, action, error, "the audit log is not written");
        }
    }

    /// How many entries there are, and those of a page, newest first; pages begin with 1.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn page(&self, page: u32, per_page: u32) -> Result<(u64, Vec<Entry>)> {
        let total: i64 = sqlx::query_scalar("SELECT count(*) FROM audit")
            .fetch_one(self.state.pool())
            .await
            .context(MESSAGE)?;
        let sql = "SELECT id, time, who, address, action, subject, status FROM audit \
            ORDER BY id DESC LIMIT ? OFFSET ?";
        type Row = (i64, i64, String, String, String, String, i64);
        let rows: Vec<Row> = sqlx::query_as(sql)
            .bind(i64::from(per_page))
            .bind(i64::from(per_page) * i64::from(page.saturating_sub(1)))
            .fetch_all(self.state.pool())
            .await
            .context(MESSAGE)?;
        let entry = |(id, time, who, address, action, subject, status): Row| Entry {
            id: u64::try_from(id).unwrap_or(0),
            time: DateTime::from_timestamp_millis(time).unwrap_or(DateTime::UNIX_EPOCH),
            who,
            address,
            action,
            subject,
            status: u16::try_from(status).unwrap_or(0),
        };
        Ok((u64::try_from(total).unwrap_or(0), rows.into_iter().map(entry).collect()))
    }

    async fn try_write(&self, entry: &Entry) -> Result<()> {
        let now = self.clock.now();
        let short = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
        let sql = "INSERT INTO audit (time, who, address, action, subject, status) \
            VALUES (?, ?, ?, ?, ?, ?) RETURNING id";
        let id: i64 = sqlx::query_scalar(sql)
            .bind(now.timestamp_millis())
            .bind(short(&entry.who))
            .bind(&entry.address)
            .bind(&entry.action)
            .bind(short(&entry.subject))
            .bind(i64::from(entry.status))
            .fetch_one(self.state.pool())
            .await
            .context(MESSAGE)?;
        if id % TRIM_EVERY == 0 {
            sqlx::query("DELETE FROM audit WHERE id <= ? OR time < ?")
                .bind(id - ROWS_MAX)
                .bind((now - AGE_MAX).timestamp_millis())
                .execute(self.state.pool())
                .await
                .context(MESSAGE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_read_in_pages_and_old_entries_go() {
        let clock = Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"));
        let audit = Audit::new(StateDb::in_memory().await.expect("made"), clock.clone());
        let write = async |subject: String| {
            let entry = Entry {
                id: 0,
                time: DateTime::UNIX_EPOCH,
                who: "x".repeat(1_000),
                address: "127.0.0.1".to_owned(),
                action: "delete".to_owned(),
                subject,
                status: 204,
            };
            audit.write(entry).await;
        };
        for n in 0..60 {
            write(format!("{n}.zip")).await;
        }
        let (total, entries) = audit.page(2, 50).await.expect("read");
        assert_eq!((total, entries.len()), (60, 10));
        assert_eq!((entries[0].subject.as_str(), entries[0].who.len()), ("9.zip", CHARS_MAX));
        assert_eq!(entries[0].time, clock.now());
        clock.advance(AGE_MAX + TimeDelta::days(1));
        for n in 60..64 {
            write(format!("{n}.zip")).await;
        }
        let (total, entries) = audit.page(1, 50).await.expect("read");
        assert_eq!((total, entries[0].subject.as_str()), (4, "63.zip"));
    }
}
