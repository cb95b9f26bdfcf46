//! A PostgreSQL database as a source: dumped by `pg_dump`, read back by `pg_restore`, asked
//! through connections of our own.
//!
//! A dump is one stream in the custom format, of one consistent moment. While it passes, a
//! `pg_restore` reads the same bytes: a dump whose end is clean has been read whole.

mod archive;
mod child;
mod connect;
mod dump;
mod fault;
mod load;
mod programs;
mod snapshot;
mod target;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;

pub use archive::{Outline, Reader};
pub use child::guarded;
pub use connect::{Lock, close, execute, ident, literal, query_one, query_texts};
pub use dump::{Dumped, Sink};
pub use load::{Load, Loader};
pub use programs::{Programs, shown as shown_version};
pub use snapshot::Snapshot;
pub use target::Target;

/// What a source is made of. The URL holds a secret and is never shown.
#[derive(Clone)]
pub struct Options {
    /// Where it is and how to log in.
    pub url: String,
    /// Tables (in `pg_dump`'s patterns) of which only the definition is dumped.
    pub exclude_table_data: Vec<String>,
    /// Parallel connections of a restore.
    pub jobs: u32,
    /// How long a dump or a restore may take.
    pub timeout: Duration,
    /// The database from which this one is renamed.
    pub maintenance_database: String,
    /// A folder with `pg_dump` and `pg_restore` that is looked into first.
    pub programs: Option<PathBuf>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

/// A database.
#[derive(Debug, Clone)]
pub struct Postgres {
    target: Target,
    options: Options,
}

impl Postgres {
    /// The database that the options name; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::error::Kind::Invalid`]: the URL is not usable.
    pub fn new(options: Options) -> Result<Self> {
        let target = Target::parse(&options.url)?;
        Ok(Self { target, options })
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// How long a dump or a restore may take.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The database from which this one is renamed.
    pub fn maintenance_database(&self) -> &str {
        &self.options.maintenance_database
    }

    /// Parallel connections of a restore.
    pub fn jobs(&self) -> u32 {
        self.options.jobs
    }

    /// The pairs of programs on this machine, oldest first. Starts each of them once.
    pub async fn programs(&self) -> Vec<Programs> {
        let first = self.options.programs.clone();
        let found = tokio::task::spawn_blocking(move || Programs::find(first.as_deref())).await;
        found.unwrap_or_default()
    }
}
