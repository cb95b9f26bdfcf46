//! One record of a job, and its words.

use chrono::{DateTime, Utc};

use crate::backup::Key;
use crate::control::Progress;
use crate::error::{Error, Kind};

/// Declares an enum of words that are the same in the code, the API and the database.
macro_rules! words {
    ($(#[$of_all:meta])* $name:ident { $($(#[$of_one:meta])* $word:ident = $text:literal,)+ }) => {
        $(#[$of_all])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of_one])* $word,)+ }

        impl $name {
            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }

            /// The value of a word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$word),)+ _ => None }
            }
        }
    };
}

pub(in crate::vault) use words;

words! {
    /// What a job does.
    JobKind {
        /// Makes a backup.
        Create = "create",
        /// Takes in an uploaded archive.
        Upload = "upload",
        /// Restores a backup.
        Restore = "restore",
        /// Brings back the data from before a restore.
        Undo = "undo",
        /// Reads a backup back and checks it.
        Verify = "verify",
        /// Removes backups that the rules no longer keep.
        Prune = "prune",
        /// Restores a backup into a scratch place and looks at the result.
        Drill = "drill",
    }
}

words! {
    /// Who asked for it.
    Method {
        /// A client of the API.
        Api = "api",
        /// Somebody on the command line.
        Manual = "manual",
        /// The schedule.
        Scheduled = "scheduled",
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Working.
    Running,
    /// Ended well.
    Done,
    /// Cancelled on request; nothing is left of it.
    Cancelled,
    /// The process ended in the middle; what it left is swept at the next start.
    Interrupted,
    /// Ended badly: what a client may know, and what an operator can do.
    Failed {
        /// The error's own words, without causes.
        message: String,
        /// The hint, if there is one.
        hint: Option<String>,
    },
}

impl State {
    /// The state in which a job with this result ends.
    pub fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(error) if error.kind() == &Kind::Cancelled => Self::Cancelled,
            Err(error) => {
                let (message, hint) = public_words(error);
                Self::Failed { message, hint }
            }
        }
    }

    /// The word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Failed { .. } => "failed",
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, ascending from 1, never used twice.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// Who asked.
    pub method: Method,
    /// The PostgreSQL database that it is about; empty for the folder.
    pub vault: String,
    /// The backup it is about.
    pub key: Key,
    /// How far it is.
    pub state: State,
    /// Counters of this moment.
    pub progress: Progress,
    /// What was left out of the archive, or skipped in it, with the reason.
    pub notes: Vec<String>,
    /// Whether nothing that belongs into the backup is missing or damaged.
    pub complete: bool,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// The restore that ends it after the restart.
    pub restore_id: Option<String>,
    /// Ascending with every change of any job, also across restarts.
    pub revision: u64,
}

impl Job {
    /// Whether it is such a job, and about the folder.
    pub fn is_of_folder(&self, kind: JobKind) -> bool {
        self.kind == kind && self.vault.is_empty()
    }
}

/// What a client may know of an error: its message and its hint, without places on the disk.
pub(in crate::vault) fn public_words(error: &Error) -> (String, Option<String>) {
    let hint = error.operator_hint().filter(|hint| !hint.contains('/'));
    (public_message(error), hint.map(str::to_owned))
}

/// The error's own words, unless they name a place on the server's disk: those are for the log.
fn public_message(error: &Error) -> String {
    if !error.message().contains('/') {
        return error.message().to_owned();
    }
    match error.kind() {
        Kind::NoSpace => "There is not enough room on the disk.",
        Kind::Corrupt => "The data is damaged; the log says where.",
        _ => "Something went wrong; the log says what.",
    }
    .to_owned()
}
