//! What a snapshot has to say beside its entries: what it left out and why, and how long the
//! logs of the pinned databases have become.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::data_dir::{DATABASES, DataDir};

/// Skipped files that are named one by one; further ones are only counted.
pub const SKIPPED_LISTED_MAX: usize = 1_000;

/// Why something that lies in the folder, or that the database names, is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A record of the database names it, but it is not there.
    Missing,
    /// A record names it, and it went away before it could be opened, again and again.
    Outrun,
    /// A link whose target is gone, outside the folder, in no archive, or not a regular file.
    Symlink,
    /// Neither file nor folder nor link: a socket, a FIFO, a device.
    Special,
    /// Another name of a live database file, which only SQLite may open.
    LiveDatabase,
    /// The system refused; with its message.
    Unreadable(String),
    /// The path inside the folder is longer than the system can open.
    PathTooLong,
    /// It is in the archive, but SQLite's check of it found this damage.
    Damaged(String),
}

impl Reason {
    /// Whether data is lost that no later look at the folder would find again. What merely
    /// does not belong into archives, or went away in time, is no loss.
    fn is_loss(&self) -> bool {
        match self {
            Self::Missing | Self::Unreadable(_) | Self::Damaged(_) => true,
            Self::Outrun
            | Self::Symlink
            | Self::Special
            | Self::LiveDatabase
            | Self::PathTooLong => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("a record names it, but it is not there"),
            Self::Outrun => f.write_str("a record names it, but it was deleted meanwhile"),
            Self::Symlink => f.write_str("a link that leads to no file of this folder"),
            Self::Special => f.write_str("not a regular file"),
            Self::LiveDatabase => f.write_str("another name of a live database"),
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::PathTooLong => f.write_str("its path is too long"),
            Self::Damaged(how) => write!(f, "is archived, but damaged: {how}"),
        }
    }
}

/// Something that is not in the archive, or not whole in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path inside the folder; bytes, because file names are.
    pub path: Vec<u8>,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", String::from_utf8_lossy(&self.path), self.reason)
    }
}

/// The shared report of one snapshot; cheap to clone, outlives the snapshot.
#[derive(Debug, Clone)]
pub struct Report(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    logs: Vec<PathBuf>,
    skipped: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    named: BTreeMap<Vec<u8>, Reason>,
    total: u64,
    missing: u64,
    has_worse: bool,
    has_losses: bool,
    is_damaged: bool,
}

impl Report {
    /// An empty report about the databases of `data`.
    pub(super) fn new(data: &DataDir) -> Self {
        let logs = DATABASES.iter().map(|name| data.root().join(format!("{name}-wal"))).collect();
        Self(Arc::new(Inner { logs, skipped: Mutex::default() }))
    }

    /// What was left out so far, sorted by path, at most about [`SKIPPED_LISTED_MAX`] of it.
    pub fn skipped(&self) -> Vec<Skipped> {
        let list = self.lock();
        let skipped = |(path, reason): (&Vec<u8>, &Reason)| Skipped {
            path: path.clone(),
            reason: reason.clone(),
        };
        list.named.iter().map(skipped).collect()
    }

    /// How much was left out so far.
    pub fn skipped_total(&self) -> u64 {
        self.lock().total
    }

    /// Whether everything that should be in the archive is, whole: nothing is missing,
    /// unreadable or damaged. Final once every item was read and dropped; a backup that is not
    /// complete must not push out older ones.
    pub fn is_complete(&self) -> bool {
        !self.lock().has_losses
    }

    /// Files that records name and that are not there.
    pub fn missing(&self) -> u64 {
        self.lock().missing
    }

    /// Whether more is lost than files that are [`Report::missing`].
    pub fn has_worse(&self) -> bool {
        self.lock().has_worse
    }

    /// Whether a database is damaged, which is the worst of what makes it not complete.
    pub fn is_damaged(&self) -> bool {
        self.lock().is_damaged
    }

    /// Bytes of the databases' write-ahead logs now. They cannot shrink while a snapshot is
    /// held, so a long backup beside a busy writer makes them grow.
    pub fn wal_bytes(&self) -> u64 {
        // Only looked at, never opened: see `sqlite::raw`.
        self.0
            .logs
            .iter()
            .filter_map(|log| std::fs::metadata(log).ok())
            .map(|meta| meta.len())
            .sum()
    }

    /// Notes one thing that is left out. The first reason for a path stays.
    pub(super) fn skip(&self, path: &[u8], reason: Reason) {
        let mut list = self.lock();
        if list.named.contains_key(path) {
            return;
        }
        list.total += 1;
        list.has_losses |= reason.is_loss();
        list.missing += u64::from(reason == Reason::Missing);
        list.has_worse |= reason.is_loss() && reason != Reason::Missing;
        let is_damaged = matches!(reason, Reason::Damaged(_));
        list.is_damaged |= is_damaged;
        // There are two databases at most, and nothing is worth more to be named.
        if list.named.len() < SKIPPED_LISTED_MAX || is_damaged {
            list.named.insert(path.to_owned(), reason);
        }
    }

    /// Counts further things that are left out, without their names; `is_loss` if that makes
    /// the archive incomplete.
    pub(super) fn skip_more(&self, count: u64, is_loss: bool) {
        let mut list = self.lock();
        list.total += count;
        list.has_losses |= is_loss && count > 0;
        list.missing += if is_loss { count } else { 0 };
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // No step of ours can panic between the two changes of a list.
        self.0.skipped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
