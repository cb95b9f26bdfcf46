//! What was proven of a dump when it was made: a small file beside the journal, one per
//! backup. A restore compares what it reads with it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backup::Key;
use crate::error::{Context, Result};
use crate::fsx;

/// The folder of proofs, in a database's folder of our state.
const FOLDER: &str = "proofs";

/// What is known of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The version of the server.
    pub server_version: String,
    /// The version of the `pg_dump`, whose `pg_restore` read all of it.
    pub program_version: String,
}

impl Proof {
    /// The proof of a backup; `None` when there is none that can be read.
    pub(super) fn read(folder: &Path, key: &Key) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path(folder, key)).ok()?).ok()
    }

    /// Keeps it, durably.
    pub(super) fn write(&self, folder: &Path, key: &Key) -> Result<()> {
        fsx::create_dir_durably(&folder.join(FOLDER))?;
        let text = serde_json::to_vec(self).context("cannot write a proof")?;
        fsx::write_durably(&path(folder, key), &text)
    }

    /// Forgets it.
    pub(super) fn remove(folder: &Path, key: &Key) {
        // A proof without a backup is nothing; one of a new backup replaces it.
        let _ = std::fs::remove_file(path(folder, key));
    }
}

fn path(folder: &Path, key: &Key) -> PathBuf {
    folder.join(FOLDER).join(format!("{key}.json"))
}
