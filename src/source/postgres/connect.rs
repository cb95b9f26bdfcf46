//! Our own connections: questions, the lock, and the words of SQL that cannot be bound.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tokio::time::timeout;

use crate::error::{Context, Error, Kind, Result};
use crate::source::postgres::{Postgres, fault};

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to end politely.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// The key of our advisory lock: "pkvt". Advisory locks are each database's own.
const LOCK_KEY: i64 = 0x706b_7674;

/// The lock of a database, held in the database: no other pocketvault dumps or restores it.
/// It ends with its connection, however that ends.
#[derive(Debug)]
pub struct Lock {
    connection: PgConnection,
    server_version: u32,
}

impl Postgres {
    /// A connection to one database of the server.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] with the reason, in words that may be shown.
    pub async fn connect(&self, database: &str) -> Result<PgConnection> {
        let options = self.target.options(database);
        let connecting = PgConnection::connect_with(&options);
        match timeout(CONNECT_TIME_MAX, connecting).await {
            Ok(connected) => connected.map_err(fault::of_server),
            Err(late) => {
                let said = "The database server does not answer.";
                Err(Error::new(Kind::Unavailable, said).because(late))
            }
        }
    }

    /// Takes the lock of the database.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process of ours has it; as [`Postgres::connect`].
    pub async fn lock(&self) -> Result<Lock> {
        let mut connection = self.connect(self.target.database()).await?;
        let version: i32 =
            query_one(&mut connection, "SELECT current_setting('server_version_num')::int4")
                .await?;
        if version >= 140_000 {
            // The connection is idle while it holds the lock.
            execute(&mut connection, "SET idle_session_timeout = 0").await?;
        }
        let sql = format!("SELECT pg_try_advisory_lock({LOCK_KEY})");
        if !query_one::<bool>(&mut connection, &sql).await? {
            return Err(Error::new(
                Kind::Busy,
                "Try again later - another backup/restore process has already been started.",
            ));
        }
        Ok(Lock { connection, server_version: version.unsigned_abs() })
    }
}

impl Lock {
    /// The server's version, as `server_version_num` counts.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// The connection that holds the lock, for questions.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives the lock back. Dropping it does so too, when the server notices.
    pub async fn release(self) {
        close(self.connection).await;
    }
}

/// Ends a connection politely.
pub async fn close(connection: PgConnection) {
    // The server ends what does not answer; nothing hangs on it.
    let _ = timeout(CLOSE_TIME_MAX, connection.close()).await;
}

/// Runs statements without parameters.
///
/// # Errors
/// What the server says, in words that may be shown.
pub async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    let ran = connection.execute(AssertSqlSafe(sql)).await;
    ran.map(drop).map_err(fault::of_server)
}

/// The one value that a statement without parameters gives.
///
/// # Errors
/// As [`execute`].
pub async fn query_one<T>(connection: &mut PgConnection, sql: &str) -> Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let row = connection.fetch_one(AssertSqlSafe(sql)).await.map_err(fault::of_server)?;
    row.try_get(0).context("the database server gave a strange answer")
}

/// The texts of a statement's first column.
///
/// # Errors
/// As [`execute`].
pub async fn query_texts(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>> {
    let rows = connection.fetch_all(AssertSqlSafe(sql)).await.map_err(fault::of_server)?;
    let texts = rows.iter().map(|row| row.try_get::<String, _>(0));
    texts.collect::<Result<_, _>>().context("the database server gave a strange answer")
}

/// A name as an identifier of SQL.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal of SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_sql_are_quoted() {
        assert_eq!(ident("odd \"name\""), "\"odd \"\"name\"\"\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'"), " E'a\\\\b'''");
    }
}
