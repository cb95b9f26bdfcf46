//! Uploads on their way, remembered on disk: what a crash leaves in the bucket is found again,
//! and only what is ours.
//!
//! One file per upload, made before its first part is sent and removed when it is over. While
//! somebody works on it, the file is locked; a file that can be locked belongs to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::fsx::{self, Commit, PartialFile};

/// How the files end.
const SUFFIX: &str = ".json";

/// What is remembered of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The bucket's address.
    pub(super) bucket: String,
    /// The object's full name.
    pub(super) object: String,
    /// The store's name for the upload.
    pub(super) upload: String,
}

/// The records of one installation; without a folder it remembers nothing.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    folder: Option<PathBuf>,
}

/// An upload that is being worked on.
#[derive(Debug)]
pub(super) struct Entry {
    held: Option<(PathBuf, File)>,
}

impl Ledger {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Remembers an upload; durable when it returns.
    pub(super) fn open(&self, record: &Record) -> Result<Entry> {
        let Some(folder) = &self.folder else { return Ok(Entry { held: None }) };
        fsx::create_dir_durably(folder)?;
        let path = folder.join(format!("{:016x}{SUFFIX}", rand::random::<u64>()));
        let mut partial = PartialFile::create(&path)?;
        let text = serde_json::to_vec(record).context("cannot write down an upload")?;
        let file = partial.file()?;
        std::io::Write::write_all(file, &text).context("cannot write down an upload")?;
        // Locked before it has its name; the lock stays with the file.
        let held = file.try_clone().context("cannot hold an upload's record")?;
        if let Err(error) = held.lock() {
            // As with the folder's own lock: nobody is helped by uploads that never begin.
            tracing::warn!(%error, path = %path.display(), "this file system cannot lock");
        }
        partial.commit(Commit::Create)?;
        Ok(Entry { held: Some((path, held)) })
    }

    /// The uploads that nobody works on any more.
    pub(super) fn abandoned(&self) -> Result<Vec<(Record, Entry)>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot read the records of uploads"),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.context("cannot read the records of uploads")?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(abandoned(&path)?);
            }
        }
        Ok(found)
    }
}

impl Entry {
    /// The upload is over: completed or aborted.
    pub(super) fn close(self) -> Result<()> {
        let Some((path, _locked)) = self.held else { return Ok(()) };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove an upload's record")
            }
            _ => Ok(()),
        }
    }
}

fn abandoned(path: &Path) -> Result<Option<(Record, Entry)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Closed by its owner a moment ago.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot read an upload's record"),
    };
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let text = fs::read(path).context("cannot read an upload's record")?;
    let entry = Entry { held: Some((path.to_owned(), file)) };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some((record, entry))),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "an upload's record makes no sense");
            entry.close()?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(upload: &str) -> Record {
        Record {
            bucket: "https://s3.example.com/b".to_owned(),
            object: "a.zip".to_owned(),
            upload: upload.to_owned(),
        }
    }

    #[test]
    fn only_what_nobody_works_on_is_abandoned() {
        let home = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::new(Some(home.path().join("uploads")));
        assert!(ledger.abandoned().expect("read").is_empty());
        let working = ledger.open(&record("1")).expect("opened");
        let crashed = ledger.open(&record("2")).expect("opened");
        drop(crashed);
        let found = ledger.abandoned().expect("read");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, record("2"));
        assert!(ledger.abandoned().expect("read").is_empty(), "it is worked on now");
        for (_, entry) in found {
            entry.close().expect("closed");
        }
        working.close().expect("closed");
        assert_eq!(fs::read_dir(home.path().join("uploads")).expect("read").count(), 0);
    }

    #[test]
    fn records_that_make_no_sense_go() {
        let home = tempfile::tempdir().expect("a folder");
        fs::write(home.path().join("x.json"), b"{").expect("written");
        fs::write(home.path().join("notes.txt"), b"{").expect("written");
        let ledger = Ledger::new(Some(home.path().to_owned()));
        assert!(ledger.abandoned().expect("read").is_empty());
        assert_eq!(fs::read_dir(home.path()).expect("read").count(), 1);
        assert!(Ledger::new(None).open(&record("1")).expect("opened").close().is_ok());
    }
}
