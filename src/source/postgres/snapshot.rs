//! One moment of a database, for questions and for a dump.

use sqlx::postgres::PgConnection;

use crate::error::Result;
use crate::source::postgres::{Postgres, close, execute, query_one};

/// An open transaction whose view others can share. It ends with its connection.
#[derive(Debug)]
pub struct Snapshot {
    connection: PgConnection,
    id: String,
}

impl Postgres {
    /// Takes hold of this moment.
    ///
    /// # Errors
    /// As [`Postgres::connect`].
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut connection = self.connect(self.target().database()).await?;
        execute(&mut connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // It is idle while the dump goes on.
        execute(&mut connection, "SET LOCAL idle_in_transaction_session_timeout = 0").await?;
        let id = query_one(&mut connection, "SELECT pg_export_snapshot()").await?;
        Ok(Snapshot { connection, id })
    }
}

impl Snapshot {
    /// Its name, for programs.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its connection, for questions about that moment.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Lets the moment go.
    pub async fn release(self) {
        close(self.connection).await;
    }
}
