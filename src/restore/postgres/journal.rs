//! The journal of a database's restores: one small file that says what is under way and which
//! old database is kept. It is written before what it announces. One that cannot be read is
//! an error and never "no journal".

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::fsx;

const VERSION: u32 = 1;
/// The file's name inside the database's folder of our state.
const FILE: &str = "journal";

/// An old database that an undo can bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name on the server; it takes no connections.
    pub name: String,
    /// Its number on the server.
    pub oid: i64,
    /// The backup that replaced it.
    pub key: String,
    /// Since when it is kept.
    pub since: DateTime<Utc>,
}

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub(super) enum Step {
    /// Nothing.
    Settled,
    /// A fresh database is being made and loaded. The live one is untouched.
    Loading {
        /// Its name.
        fresh: String,
    },
    /// The names are being exchanged.
    Swapping {
        /// The database that comes in.
        incoming: String,
        incoming_oid: i64,
        /// The live one, and the name that it gets.
        live_oid: i64,
        outgoing: String,
        /// What an undo brings back once the names are exchanged.
        key: String,
        /// Whether the incoming one is dropped when it does not come in.
        drop_incoming: bool,
    },
}

/// The journal of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    /// The live database's name.
    pub(super) database: String,
    pub(super) now: Step,
    pub(super) kept: Option<Kept>,
    /// Databases that nobody needs any more and that are not yet dropped.
    pub(super) stale: Vec<String>,
}

impl Journal {
    /// A journal in which nothing has happened.
    pub(super) fn new(database: &str) -> Self {
        Self {
            version: VERSION,
            database: database.to_owned(),
            now: Step::Settled,
            kept: None,
            stale: Vec::new(),
        }
    }

    /// The journal in `folder`; a new one if there is none.
    pub(super) fn read(folder: &Path, database: &str) -> Result<Self> {
        let path = path(folder);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new(database));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let journal: Self = serde_json::from_slice(&text)
            .with_context(|| format!("the journal {} is damaged", path.display()))?;
        if journal.version != VERSION {
            return Err(Error::internal("the journal is of a newer pocketvault"));
        }
        if journal.database != database {
            let of = journal.database;
            let message = format!("The state belongs to the database {of} and not to {database}.");
            return Err(Error::new(Kind::Invalid(Vec::new()), message)
                .hint("give the [[database]] another name"));
        }
        Ok(journal)
    }

    /// Writes it, durably.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        fsx::create_dir_durably(folder)?;
        let text = serde_json::to_vec_pretty(self).context("cannot write the journal")?;
        fsx::write_durably(&path(folder), &text)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_found_again_and_belongs_to_one_database() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("ledger");
        let mut journal = Journal::read(&folder, "d").expect("a new one");
        journal.now = Step::Swapping {
            incoming: "n".to_owned(),
            incoming_oid: 2,
            live_oid: 1,
            outgoing: "o".to_owned(),
            key: "k.dump".to_owned(),
            drop_incoming: true,
        };
        journal.write(&folder).expect("written");
        assert_eq!(Journal::read(&folder, "d").expect("read"), journal);
        assert!(Journal::read(&folder, "other").is_err());
        std::fs::write(path(&folder), b"{").expect("written");
        assert!(Journal::read(&folder, "d").is_err());
    }
}
