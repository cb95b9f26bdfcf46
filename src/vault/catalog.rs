//! What is known about each backup: who made it, whether it is complete, when it was proven.
//!
//! It is kept in our own database, by the place where backups are kept and by key. Without
//! that database nothing is known, and then nothing counts as ours.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::backup::{Backup, Key};
use crate::error::{Context, Error, Result};
use crate::state::StateDb;
use crate::vault::jobs::{Method, words};

const COLUMNS: &str = "key, size, made, origin, job, method, label, complete, missing, worse, \
    sha256, pinned, proof_kind, proof_at, proof_ok, proof_said";

words! {
    /// How a backup came to be.
    Origin {
        /// We made it.
        Made = "made",
        /// A client brought it.
        Uploaded = "uploaded",
        /// It was there.
        Found = "found",
    }
}

words! {
    /// How a backup was proven.
    ProofKind {
        /// Read back, every checksum compared.
        Read = "read",
        /// Really restored into a scratch folder and opened.
        Drill = "drill",
    }
}

/// The last proof of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// When it ended.
    pub when: DateTime<Utc>,
    /// How.
    pub kind: ProofKind,
    /// Whether the backup is good.
    pub ok: bool,
    /// What was wrong, or what was counted; for operators and clients.
    pub said: String,
}

/// What is known about one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its key.
    pub key: Key,
    /// Size of the archive that this is about, in bytes.
    pub size_bytes: u64,
    /// When it was stored, by the storage's clock.
    pub made: DateTime<Utc>,
    /// How it came to be.
    pub origin: Origin,
    /// The job that made it.
    pub job: Option<u64>,
    /// Who asked for it.
    pub method: Method,
    /// What its maker called it; may be empty.
    pub label: String,
    /// Whether it counts as a good one.
    pub complete: bool,
    /// Files that records name and that were not there.
    pub missing: u64,
    /// Whether anything else is lost in it.
    pub worse: bool,
    /// SHA-256 of the archive in lower-case hex, from its first proof on.
    pub sha256: Option<String>,
    /// Whether no rule may remove it.
    pub pinned: bool,
    /// The last proof.
    pub proof: Option<Proof>,
}

impl Known {
    /// A backup about which only the listing says something.
    pub fn found(backup: &Backup) -> Self {
        Self {
            key: backup.key.clone(),
            size_bytes: backup.size_bytes,
            made: backup.modified,
            origin: Origin::Found,
            job: None,
            method: Method::Api,
            label: String::new(),
            complete: true,
            missing: 0,
            worse: false,
            sha256: None,
            pinned: false,
            proof: None,
        }
    }

    /// Whether it is complete and no proof failed.
    pub fn is_good(&self) -> bool {
        self.complete && self.proof.as_ref().is_none_or(|proof| proof.ok)
    }

    /// Whether it was proven good.
    pub fn is_proven(&self) -> bool {
        self.complete && self.proof.as_ref().is_some_and(|proof| proof.ok)
    }
}

/// The catalog of one place. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    state: Option<StateDb>,
}

impl Catalog {
    /// The catalog in `state`; without one it knows nothing and keeps nothing.
    pub fn new(state: Option<StateDb>) -> Self {
        Self { state }
    }

    /// Keeps what is known about a backup, in place of what was.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn save(&self, place: &str, known: &Known) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let proof = known.proof.as_ref();
        let sql = format!(
            "INSERT OR REPLACE INTO backups (destination, {COLUMNS}) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        let saved = sqlx::query(AssertSqlSafe(sql))
            .bind(place)
            .bind(known.key.as_str())
            .bind(number(known.size_bytes))
            .bind(known.made.timestamp_millis())
            .bind(known.origin.as_str())
            .bind(known.job.map(number))
            .bind(known.method.as_str())
            .bind(&known.label)
            .bind(known.complete)
            .bind(number(known.missing))
            .bind(known.worse)
            .bind(known.sha256.as_deref())
            .bind(known.pinned)
            .bind(proof.map(|proof| proof.kind.as_str()))
            .bind(proof.map(|proof| proof.when.timestamp_millis()))
            .bind(proof.map(|proof| proof.ok))
            .bind(proof.map(|proof| proof.said.as_str()))
            .execute(state.pool())
            .await;
        saved.map(drop).context("cannot write the catalog of backups")
    }

    /// What is known about `backup`; what was known about another of the same key is not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn find(&self, place: &str, backup: &Backup) -> Result<Known> {
        let mut all = self.about(place, std::slice::from_ref(backup)).await?;
        all.pop().ok_or_else(|| Error::internal("the catalog lost a backup"))
    }

    /// What is known about each of `listed`, in their order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn about(&self, place: &str, listed: &[Backup]) -> Result<Vec<Known>> {
        let mut known = std::collections::HashMap::new();
        if let Some(state) = &self.state {
            let sql = format!("SELECT {COLUMNS} FROM backups WHERE destination = ?");
            let rows = sqlx::query(AssertSqlSafe(sql)).bind(place).fetch_all(state.pool()).await;
            for row in rows.context("cannot read the catalog of backups")? {
                // Rows that a newer version wrote and that make no sense here are unknown.
                if let Ok(one) = read(&row) {
                    known.insert(one.key.clone(), one);
                }
            }
        }
        let of = |backup: &Backup| match known.remove(&backup.key) {
            Some(one) if one.size_bytes == backup.size_bytes => one,
            _ => Known::found(backup),
        };
        Ok(listed.iter().map(of).collect())
    }

    /// What is known about the last backups of a place, newest first, also those that are gone
    /// without our doing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn newest(&self, place: &str) -> Result<Vec<Known>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {COLUMNS} FROM backups WHERE destination = ? ORDER BY made DESC LIMIT 1000"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(place).fetch_all(state.pool()).await;
        let rows = rows.context("cannot read the catalog of backups")?;
        Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
    }

    /// Forgets a backup that is gone.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn forget(&self, place: &str, key: &Key) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let query = sqlx::query("DELETE FROM backups WHERE destination = ? AND key = ?");
        let gone = query.bind(place).bind(key.as_str()).execute(state.pool()).await;
        gone.map(drop).context("cannot write the catalog of backups")
    }

    /// A time that was kept under `name`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>> {
        let Some(state) = &self.state else { return Ok(None) };
        let query = sqlx::query_scalar("SELECT value FROM facts WHERE name = ?").bind(name);
        let millis: Option<i64> =
            query.fetch_optional(state.pool()).await.context("cannot read a fact")?;
        Ok(millis.and_then(DateTime::from_timestamp_millis))
    }

    /// Keeps a time under `name`.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn keep_time(&self, name: &str, time: DateTime<Utc>) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let query = sqlx::query("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)");
        let kept = query.bind(name).bind(time.timestamp_millis()).execute(state.pool()).await;
        kept.map(drop).context("cannot write a fact")
    }

    /// The time of `name`, or `now`, which is kept then.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn time_or(&self, name: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        match self.time(name).await? {
            Some(time) => Ok(time),
            None => self.keep_time(name, now).await.map(|()| now),
        }
    }
}

fn read(row: &SqliteRow) -> Result<Known> {
    const STRANGE: &str = "a row of the catalog is strange";
    let strange = || Error::internal(STRANGE);
    let text = |column: &str| row.try_get::<String, _>(column).context(STRANGE);
    let optional = |column: &str| row.try_get::<Option<String>, _>(column).context(STRANGE);
    let flag = |column: &str| row.try_get::<bool, _>(column).context(STRANGE);
    let number = |column: &str| -> Result<u64> {
        let value: i64 = row.try_get(column).context(STRANGE)?;
        u64::try_from(value).map_err(|_| strange())
    };
    let time = |column: &str| -> Result<DateTime<Utc>> {
        let millis: i64 = row.try_get(column).context(STRANGE)?;
        DateTime::from_timestamp_millis(millis).ok_or_else(strange)
    };
    let proof = match optional("proof_kind")? {
        None => None,
        Some(kind) => Some(Proof {
            when: time("proof_at")?,
            kind: ProofKind::parse(&kind).ok_or_else(strange)?,
            ok: flag("proof_ok")?,
            said: optional("proof_said")?.unwrap_or_default(),
        }),
    };
    let job: Option<i64> = row.try_get("job").context(STRANGE)?;
    Ok(Known {
        key: Key::existing(&text("key")?)?,
        size_bytes: number("size")?,
        made: time("made")?,
        origin: Origin::parse(&text("origin")?).ok_or_else(strange)?,
        job: job.and_then(|job| u64::try_from(job).ok()),
        method: Method::parse(&text("method")?).ok_or_else(strange)?,
        label: text("label")?,
        complete: flag("complete")?,
        missing: number("missing")?,
        worse: flag("worse")?,
        sha256: optional("sha256")?,
        pinned: flag("pinned")?,
        proof,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(name: &str, size_bytes: u64) -> Backup {
        let modified = "2026-11-21T09:00:00Z".parse().expect("a date");
        Backup { key: Key::existing(name).expect("a key"), size_bytes, modified }
    }

    #[tokio::test]
    async fn what_is_kept_comes_back_and_only_about_the_same_object() {
        let state = StateDb::in_memory().await.expect("made");
        let catalog = Catalog::new(Some(state));
        let (ours, other) = (backup("a.zip", 7), backup("a.zip", 8));
        let known = Known {
            origin: Origin::Made,
            job: Some(3),
            method: Method::Scheduled,
            label: "before migration 42".to_owned(),
            complete: false,
            missing: 2,
            worse: true,
            sha256: Some("00ff".to_owned()),
            pinned: true,
            proof: Some(Proof {
                when: ours.modified,
                kind: ProofKind::Drill,
                ok: false,
                said: "a page is torn".to_owned(),
            }),
            ..Known::found(&ours)
        };
        catalog.save("local", &known).await.expect("kept");
        assert_eq!(catalog.find("local", &ours).await.expect("read"), known);
        assert_eq!(catalog.find("s3:x", &ours).await.expect("read").origin, Origin::Found);
        assert_eq!(catalog.find("local", &other).await.expect("read"), Known::found(&other));
        assert!(!known.is_good() && !known.is_proven());
        catalog.forget("local", &ours.key).await.expect("forgotten");
        assert_eq!(catalog.find("local", &ours).await.expect("read"), Known::found(&ours));
    }

    #[tokio::test]
    async fn times_are_kept_and_without_a_database_nothing_is_known() {
        let now = "2026-11-21T09:00:00Z".parse().expect("a date");
        let catalog = Catalog::new(Some(StateDb::in_memory().await.expect("made")));
        assert_eq!(catalog.time("x").await.expect("read"), None);
        assert_eq!(catalog.time_or("x", now).await.expect("kept"), now);
        let later = now + chrono::TimeDelta::days(1);
        assert_eq!(catalog.time_or("x", later).await.expect("read"), now);
        let none = Catalog::new(None);
        none.save("local", &Known::found(&backup("a.zip", 1))).await.expect("nothing to do");
        assert_eq!(none.time_or("x", now).await.expect("now"), now);
        assert_eq!(none.time("x").await.expect("nothing"), None);
    }
}
