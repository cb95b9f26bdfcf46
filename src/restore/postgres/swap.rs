//! Exchanging the names of two databases: no new sessions, no old sessions, both renames in one
//! transaction.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep};

use crate::error::{Context, Kind, Result};
use crate::failpoint;
use crate::restore::postgres::plan::maintenance;
use crate::source::postgres::{Lock, Postgres, close, execute, ident, literal, query_one};

/// How long sessions may finish what they are doing.
const GRACE: Duration = Duration::from_secs(5);
/// Tries of the renames; between them sessions that were just ending end.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Three names of which two change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    /// The name that everybody uses.
    pub(super) live: &'a str,
    /// The name of what comes in.
    pub(super) incoming: &'a str,
    /// The name that what goes out gets.
    pub(super) outgoing: &'a str,
}

/// A connection to the database from which others are renamed.
pub(super) async fn admin(source: &Postgres) -> Result<PgConnection> {
    source.connect(&maintenance(source)).await
}

/// Exchanges the names. The lock is given back on the way: its session is one of those that
/// have to end.
///
/// # Errors
/// [`Kind::InUse`]: a session does not end; what the server says. The journal's `Swapping` has
/// to be settled then: connections may be forbidden.
pub(super) async fn swap(source: &Postgres, lock: Lock, names: Names<'_>) -> Result<()> {
    let mut connection = admin(source).await?;
    step("postgres-close")?;
    execute(&mut connection, &allow(names.live, false)).await?;
    lock.release().await;
    step("postgres-sessions")?;
    leave(&mut connection, names.live, names.incoming).await?;
    step("postgres-rename")?;
    rename(&mut connection, names).await?;
    step("postgres-renamed")?;
    close(connection).await;
    Ok(())
}

/// Ends the sessions: idle ones at once, others when they have finished or the time is over.
async fn leave(connection: &mut PgConnection, live: &str, incoming: &str) -> Result<()> {
    let end = Instant::now() + GRACE;
    let of_live = format!(
        "FROM pg_stat_activity WHERE datname IN ({}, {}) AND pid <> pg_backend_pid() \
         AND backend_type = 'client backend'",
        literal(live),
        literal(incoming)
    );
    // What a session does is not shown to everybody; one that hides it counts as idle.
    let idle = format!(
        "SELECT count(pg_terminate_backend(pid)) {of_live} AND coalesce(state, 'idle') = 'idle'"
    );
    let all = format!("SELECT count(pg_terminate_backend(pid)) {of_live}");
    let count = format!("SELECT count(*) {of_live}");
    loop {
        let sql = if Instant::now() < end { &idle } else { &all };
        query_one::<i64>(connection, sql).await?;
        if query_one::<i64>(connection, &count).await? == 0 || Instant::now() > end + GRACE {
            // Who is still there then makes the rename fail, and that is told.
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

async fn rename(connection: &mut PgConnection, names: Names<'_>) -> Result<()> {
    let (live, incoming) = (ident(names.live), ident(names.incoming));
    let sql = format!(
        "BEGIN; ALTER DATABASE {live} RENAME TO {}; ALTER DATABASE {incoming} RENAME TO {live}; \
         {}; COMMIT",
        ident(names.outgoing),
        allow(names.live, true)
    );
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = execute(connection, &sql).await else { return Ok(()) };
        execute(connection, "ROLLBACK").await?;
        if error.kind() != &Kind::InUse || tries == TRIES {
            return Err(error);
        }
        leave(connection, names.live, names.incoming).await?;
        sleep(PAUSE).await;
    }
}

/// The statement that lets a database take connections or not.
pub(super) fn allow(database: &str, allowed: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", ident(database))
}

/// Drops a database of ours, with the sessions that a killed program left in it.
pub(super) async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<()> {
    step("postgres-drop")?;
    let sessions = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = {} AND backend_type = 'client backend'",
        literal(name)
    );
    let drop = format!("DROP DATABASE IF EXISTS {}", ident(name));
    let mut tries = 0;
    loop {
        tries += 1;
        query_one::<i64>(connection, &sessions).await?;
        match execute(connection, &drop).await {
            Err(error) if error.kind() == &Kind::InUse && tries < TRIES => sleep(PAUSE).await,
            ended => return ended,
        }
    }
}

/// The number of the database of this name, 0 for none.
pub(super) async fn oid_of(connection: &mut PgConnection, name: &str) -> Result<i64> {
    let sql = format!(
        "SELECT coalesce((SELECT oid::int8 FROM pg_database WHERE datname = {}), 0)",
        literal(name)
    );
    query_one(connection, &sql).await
}

/// A place where a test lets the process die.
pub(super) fn step(name: &str) -> Result<()> {
    failpoint::hit(name, &[]).context("the restore was broken off")
}
