//! Ending what was begun: the one code path after a failure and after a crash.

use std::path::Path;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::restore::postgres::journal::{Journal, Kept, Step};
use crate::restore::postgres::swap::{admin, allow, drop_database, oid_of, step};
use crate::source::postgres::{Postgres, close, execute};

/// What [`recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was under way.
    Nothing,
    /// The old database is the live one.
    RolledBack,
    /// The new database is the live one.
    Swapped,
}

/// Whether nothing is under way and nothing is left to drop.
///
/// # Errors
/// The journal cannot be read.
pub fn is_settled(folder: &Path, database: &str) -> Result<bool> {
    let journal = Journal::read(folder, database)?;
    Ok(journal.now == Step::Settled && journal.stale.is_empty())
}

/// The old database that an undo would bring back.
///
/// # Errors
/// The journal cannot be read.
pub fn kept(folder: &Path, database: &str) -> Result<Option<Kept>> {
    Ok(Journal::read(folder, database)?.kept)
}

/// Ends what is under way: what had not yet taken the live name goes, what had taken it stays.
/// The server is asked which of the two it is; a database is known by its number, not its name.
/// Nobody else may be at work with the same state folder.
///
/// # Errors
/// The server is silent, or neither of the two databases is there: then nothing is changed.
pub async fn recover(source: &Postgres, folder: &Path, clock: &Clock) -> Result<Recovered> {
    let database = source.target().database();
    let mut journal = Journal::read(folder, database)?;
    if journal.now == Step::Settled && journal.stale.is_empty() {
        return Ok(Recovered::Nothing);
    }
    let mut connection = admin(source).await?;
    let recovered = match journal.now.clone() {
        Step::Settled => Recovered::Nothing,
        Step::Loading { fresh } => {
            journal.stale.push(fresh);
            Recovered::RolledBack
        }
        Step::Swapping { incoming, incoming_oid, live_oid, outgoing, key, drop_incoming } => {
            let now = oid_of(&mut connection, database).await?;
            if now == live_oid {
                execute(&mut connection, &allow(database, true)).await?;
                match drop_incoming {
                    true => journal.stale.push(incoming),
                    false => execute(&mut connection, &allow(&incoming, false)).await?,
                }
                Recovered::RolledBack
            } else if now == incoming_oid {
                execute(&mut connection, &allow(database, true)).await?;
                let since = clock.now();
                let before =
                    journal.kept.replace(Kept { name: outgoing, oid: live_oid, key, since });
                // In an undo the one before is the one that is live now.
                let stale = before.filter(|before| before.oid != incoming_oid);
                journal.stale.extend(stale.map(|before| before.name));
                Recovered::Swapped
            } else {
                return Err(lost(database));
            }
        }
    };
    journal.now = Step::Settled;
    step("postgres-settle")?;
    journal.write(folder)?;
    while let Some(name) = journal.stale.last().cloned() {
        drop_database(&mut connection, &name).await?;
        journal.stale.pop();
        journal.write(folder)?;
    }
    close(connection).await;
    Ok(recovered)
}

fn lost(database: &str) -> Error {
    let message = format!(
        "A restore of {database} was broken off, and neither its old nor its new database has \
         that name."
    );
    Error::new(Kind::Unavailable, message).hint(
        "look at the databases of the server; remove the journal in the state folder once all \
         is well",
    )
}
