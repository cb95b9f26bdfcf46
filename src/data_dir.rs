//! Every name inside `pb_data`: the databases, the backups, our state, what no archive holds.

use std::path::{Path, PathBuf};

/// PocketBase's main database.
pub const DATA_DB: &str = "data.db";
/// PocketBase's logs.
pub const AUXILIARY_DB: &str = "auxiliary.db";
/// The databases that a snapshot pins, in archive order.
pub const DATABASES: [&str; 2] = [DATA_DB, AUXILIARY_DB];
/// Where local backups lie.
pub const BACKUPS: &str = "backups";
/// Where PocketBase keeps uploaded files.
pub const STORAGE: &str = "storage";
/// Our own state: staging, journal, jobs.
pub const STATE: &str = ".pocketvault";

/// Names at the root of `pb_data` that are in no archive (PocketBase's list and our state).
const NOT_ARCHIVED: [&str; 6] =
    [BACKUPS, ".pb_temp_to_delete", ".notify", ".autocert_cache", "lost+found", STATE];

/// Names at the root of `pb_data` that a restore neither removes nor replaces
/// (PocketBase's list, our state, and its change signals).
const NOT_RESTORED: [&str; 6] = NOT_ARCHIVED;

/// Suffixes of SQLite's side files, which belong to a live database and not into an archive.
const SQLITE_SIDE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A `pb_data` folder and the place of our state, both absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
    state: PathBuf,
}

impl DataDir {
    /// The folder `root` with our state inside it, or at `state` if that is given.
    pub fn new(root: impl Into<PathBuf>, state: Option<PathBuf>) -> Self {
        let root = root.into();
        let state = state.unwrap_or_else(|| root.join(STATE));
        Self { root, state }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Our state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where restores are staged and journalled. Inside `pb_data`'s own file system whenever
    /// the state folder is, so that a swap is a rename.
    pub fn restore(&self) -> PathBuf {
        self.state.join("restore")
    }

    /// Where restores are rehearsed. Nothing in it outlives its rehearsal.
    pub fn drill(&self) -> PathBuf {
        self.state.join("drill")
    }

    /// Where a remote backup lies while it is restored.
    pub fn fetched(&self) -> PathBuf {
        self.state.join("fetched")
    }

    /// Where uploads to a bucket are remembered while they are on their way.
    pub fn uploads(&self) -> PathBuf {
        self.state.join("uploads")
    }

    /// Where backups wait whose destinations did not take them.
    pub fn spool(&self) -> PathBuf {
        self.state.join("spool")
    }

    /// Which backups wait for which destinations.
    pub fn waiting(&self) -> PathBuf {
        self.state.join("waiting.json")
    }

    /// Where copies of databases lie that cannot be read in place.
    pub fn staging(&self) -> PathBuf {
        self.state.join("staging")
    }

    /// What the last archive holds, for the next one.
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }

    /// The main database.
    pub fn data_db(&self) -> PathBuf {
        self.root.join(DATA_DB)
    }

    /// The local backups.
    pub fn backups(&self) -> PathBuf {
        self.root.join(BACKUPS)
    }
}

/// Whether an entry at the root of `pb_data` goes into archives.
pub fn is_archived(root_name: &str) -> bool {
    !NOT_ARCHIVED.contains(&root_name) && !is_sqlite_side_file(root_name)
}

/// Whether a restore replaces an entry at the root of `pb_data`. SQLite's side files of the
/// old databases are replaced too: they would be replayed into the new ones.
pub fn is_restored(root_name: &str) -> bool {
    !NOT_RESTORED.contains(&root_name)
}

/// Whether a root name is the `-wal`, `-shm` or `-journal` of one of the [`DATABASES`].
pub fn is_sqlite_side_file(root_name: &str) -> bool {
    SQLITE_SIDE_SUFFIXES
        .iter()
        .filter_map(|suffix| root_name.strip_suffix(suffix))
        .any(|stem| DATABASES.contains(&stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pocketbase_s_own_exclusions_and_side_files_stay_out() {
        for name in ["data.db", "storage", "backups2", ".hidden", "types.d.ts", "other.db-wal"] {
            assert!(is_archived(name), "{name}");
        }
        for name in ["backups", ".notify", ".pocketvault", "lost+found", "data.db-wal"] {
            assert!(!is_archived(name), "{name}");
        }
        assert!(is_restored("data.db-wal"));
        assert!(!is_restored("backups"));
    }

    #[test]
    fn the_state_can_lie_elsewhere() {
        assert_eq!(DataDir::new("/d", None).restore(), Path::new("/d/.pocketvault/restore"));
        let elsewhere = DataDir::new("/d", Some("/s".into()));
        assert_eq!(elsewhere.restore(), Path::new("/s/restore"));
    }
}
