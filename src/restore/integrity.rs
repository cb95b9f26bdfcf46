//! SQLite's own check of a staged database, on two cores.
//!
//! `integrity_check` runs on one thread, and most of its time goes into looking up each row in
//! each index. That part can be asked for table by table, so it is shared between connections;
//! the structure of the whole file, pages used twice and the free list included, is the
//! `quick_check` that one of them begins with. Together they look at all that one
//! `integrity_check` looks at.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use crate::error::Result;
use crate::restore::check::{corrupt, open, unusable};

/// Connections besides the caller's. Each has a thread and a page cache of its own, and the
/// machines this runs on have few cores.
const HELPERS: usize = 1;
/// How many faults are worded.
const FAULTS_MAX: usize = 5;

/// Fails when SQLite finds a fault in the database at `path`, which `connection` has open.
///
/// # Errors
/// [`crate::error::Kind::Corrupt`] with the first faults.
pub(super) async fn require_integrity(
    path: &Path,
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<()> {
    let checks = checks(connection).await.map_err(|error| unusable(name, error))?;
    let next = AtomicUsize::new(0);
    let own = run(connection, &checks, &next, name);
    let others = futures_util::future::join_all((0..HELPERS).map(async |_| {
        let mut helper = open(path).await?;
        let verdict = run(&mut helper, &checks, &next, name).await;
        let closed = helper.close().await.map_err(|error| unusable(name, error));
        verdict.and(closed)
    }));
    let (own, others) = futures_util::future::join(own, others).await;
    others.into_iter().fold(own, Result::and)
}

/// The statements: the structure of everything, then each table with its indexes, the longest
/// first. A name that is a number makes SQLite check everything, which is more and not less.
async fn checks(connection: &mut SqliteConnection) -> sqlx::Result<Vec<String>> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut *connection)
            .await?;
    let mut sized = Vec::with_capacity(tables.len());
    for table in tables {
        let sql = format!("SELECT max(rowid) FROM \"{}\"", table.replace('"', "\"\""));
        // Only for the order: tables without row ids, virtual ones and damage have none.
        let rows: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .unwrap_or_default();
        sized.push((rows.unwrap_or_default(), table));
    }
    sized.sort_by(|one, other| other.cmp(one));
    let by_table = sized
        .into_iter()
        .map(|(_, table)| format!("PRAGMA integrity_check('{}')", table.replace('\'', "''")));
    Ok(std::iter::once(format!("PRAGMA quick_check({FAULTS_MAX})")).chain(by_table).collect())
}

/// Takes one check after another until there are none left or one finds faults.
async fn run(
    connection: &mut SqliteConnection,
    checks: &[String],
    next: &AtomicUsize,
    name: &str,
) -> Result<()> {
    while let Some(sql) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone()))
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| unusable(name, error))?;
        if rows != ["ok"] {
            next.store(checks.len(), Ordering::Relaxed);
            let faults = &rows[..rows.len().min(FAULTS_MAX)];
            return Err(corrupt(format!(
                "The archive's {name} is damaged: {}.",
                faults.join("; ")
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::restore::check::on_runtime;

    use super::*;

    /// A database made by these statements, and what the check says about it.
    fn verdict(statements: &[&'static str]) -> Result<()> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data.db");
        std::fs::write(&path, b"").expect("made");
        on_runtime(async {
            let mut connection = open(&path).await?;
            for sql in statements {
                sqlx::query(*sql).execute(&mut connection).await.expect(sql);
            }
            connection.close().await.expect("closed");
            let mut connection = open(&path).await?;
            require_integrity(&path, &mut connection, "data.db").await
        })
    }

    const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
        WHERE i < 500) INSERT INTO \"it's 1\" SELECT i, i % 7 FROM n";

    #[test]
    fn whole_databases_pass_whatever_their_tables_are_called() {
        verdict(&[
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE \"it's 1\" (a, b)",
            "CREATE INDEX i ON \"it's 1\" (b)",
            "CREATE TABLE \"7\" (a PRIMARY KEY) WITHOUT ROWID",
            "CREATE TABLE \"say \"\"x\"\"\" (a UNIQUE, b AS (a + 1))",
            ROWS,
            "INSERT INTO \"7\" VALUES (1)",
        ])
        .expect("whole");
        verdict(&[]).expect("an empty one");
    }

    #[test]
    fn damage_of_each_kind_is_found() {
        // For a while the index is one of another column: it has as many entries as the table
        // has rows, so only the look from each row into the index finds the fault.
        let other_column: &[&str] = &[
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON \"it''s 1\" (a)' WHERE name = 'i'",
            "PRAGMA writable_schema = RESET",
            ROWS,
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON \"it''s 1\" (b)' WHERE name = 'i'",
        ];
        let shared_page: &[&str] = &[
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema
                 WHERE name = 'it''s 1') WHERE name = 'twin'",
        ];
        let lost_page: &[&str] =
            &["PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'twin'"];
        for (change, reason) in [
            (other_column, "missing from index i"),
            (shared_page, "2nd reference to page"),
            (lost_page, "never used"),
        ] {
            let mut statements = vec![
                "CREATE TABLE \"it's 1\" (a, b)",
                "CREATE TABLE twin (a, b)",
                "CREATE INDEX i ON \"it's 1\" (b)",
                "INSERT INTO twin VALUES (1, 2)",
            ];
            statements.extend(change);
            let error = verdict(&statements).expect_err(reason);
            assert_eq!(error.kind(), &Kind::Corrupt, "{reason}");
            assert!(error.message().contains(reason), "{reason}: {error:?}");
        }
    }
}
