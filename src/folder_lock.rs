//! Who may work on a folder: one server at a time, and one folder for each state.
//!
//! The locks are advisory and the kernel's own. They end with the process however it ends, and
//! at an exec too: the next image of a restarting server takes them again.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::data_dir::{DataDir, STATE};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;

/// The locked file, in `pb_data/.pocketvault` and in a state folder elsewhere.
const LOCK: &str = "lock";
/// In a state folder elsewhere: the path of the `pb_data` that it belongs to.
const FOLDER: &str = "folder";
/// How long a server that is just ending may take.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// The right to work on a folder and its state, until this is dropped or the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _held: Vec<File>,
}

impl FolderLock {
    /// Takes the folder, and the state folder if that lies elsewhere; makes both if need be.
    /// `beside` is for a folder that is only read: it must exist, and is taken if it can be
    /// written to.
    ///
    /// # Errors
    /// [`Kind::InUse`] when another pocketvault has one of them; [`Kind::Invalid`] when the
    /// state belongs to another folder; [`Kind::NotFound`] for a missing folder that is only
    /// read; a fault of the disk.
    pub fn take(data: &DataDir, beside: bool) -> Result<Self> {
        let root = data.root();
        if beside && !root.is_dir() {
            return Err(Error::new(Kind::NotFound, format!("{} does not exist", root.display()))
                .hint("name the pb_data folder of the running PocketBase with --dir"));
        }
        let inside = root.join(STATE);
        let mut held = Vec::new();
        match lock_in(&inside, root) {
            Ok(file) => held.push(file),
            Err(error) if beside && error.kind() != &Kind::InUse => {
                tracing::info!(error = error.full(), "the folder is read without a lock");
            }
            Err(error) => return Err(error),
        }
        if data.state() != inside {
            held.push(lock_in(data.state(), root)?);
            bind(data)?;
        }
        Ok(Self { _held: held })
    }
}

fn lock_in(folder: &Path, root: &Path) -> Result<File> {
    if !folder.is_dir() {
        fsx::create_dir_durably(folder)?;
        fsx::give_to_owner_of(root, folder)?;
    }
    let path = folder.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    fsx::give_to_owner_of(root, &path)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(taken(&mut file, folder)),
            Err(TryLockError::Error(error)) => {
                // Network shares without locks: nobody is helped by a server that never starts.
                tracing::warn!(%error, path = %path.display(), "this file system cannot lock");
                break;
            }
        }
    }
    // Only for the message of whoever comes next; a wrong number there harms nobody.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn taken(file: &mut File, folder: &Path) -> Error {
    let mut holder = String::new();
    let _ = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
    let holder = match holder.trim().parse::<u32>() {
        Ok(pid) => format!("another pocketvault (process {pid})"),
        Err(_) => "another pocketvault".to_owned(),
    };
    Error::new(Kind::InUse, format!("{holder} works with {}", folder.display()))
        .hint("stop it first, or choose another folder with --dir")
}

/// Writes into a state folder whose it is, or finds that it is another's: a journal of one
/// folder must never be carried out on another.
fn bind(data: &DataDir) -> Result<()> {
    let context = || format!("cannot find {}", data.root().display());
    let root = data.root().canonicalize().with_context(context)?;
    let path = data.state().join(FOLDER);
    let owner = match fs::read(&path) {
        Ok(bytes) => {
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec();
            PathBuf::from(OsString::from_vec(bytes))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut line = root.as_os_str().as_bytes().to_vec();
            line.push(b'\n');
            fsx::write_durably(&path, &line)?;
            return fsx::give_to_owner_of(data.root(), &path);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    if owner == root {
        return Ok(());
    }
    let (state, owner) = (data.state().display(), owner.display());
    let message = format!("the state folder {state} belongs to {owner}, not to {}", root.display());
    Err(Error::new(Kind::Invalid(Vec::new()), message).hint(format!(
        "give each folder a --state of its own; if the folder was moved, remove {}",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_again_when_the_holder_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(home.path().join("pb_data"), None);
        let held = FolderLock::take(&data, false).expect("free");
        for beside in [false, true] {
            let error = FolderLock::take(&data, beside).expect_err("taken");
            assert_eq!(error.kind(), &Kind::InUse);
            let process = format!("process {}", std::process::id());
            assert!(error.full().contains(&process), "{}", error.full());
        }
        // Another state does not make it another folder.
        let elsewhere = DataDir::new(data.root(), Some(home.path().join("state")));
        let error = FolderLock::take(&elsewhere, false).expect_err("taken");
        assert_eq!(error.kind(), &Kind::InUse);
        drop(held);
        FolderLock::take(&elsewhere, false).expect("free again");
    }

    #[test]
    fn a_state_belongs_to_one_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let state = Some(home.path().join("state"));
        let one = DataDir::new(home.path().join("one"), state.clone());
        let other = DataDir::new(home.path().join("other"), state);
        for _ in 0..2 {
            drop(FolderLock::take(&one, false).expect("its own"));
        }
        let error = FolderLock::take(&other, false).expect_err("refused");
        assert_eq!(error.kind(), &Kind::Invalid(Vec::new()));
        assert!(error.full().contains("one, not to"), "{}", error.full());
    }

    #[test]
    fn a_state_in_use_is_refused_before_its_owner_is_looked_at() {
        let home = tempfile::tempdir().expect("a folder");
        let state = Some(home.path().join("state"));
        let one = DataDir::new(home.path().join("one"), state.clone());
        let other = DataDir::new(home.path().join("other"), state);
        let _held = FolderLock::take(&one, false).expect("free");
        let error = FolderLock::take(&other, false).expect_err("taken");
        assert_eq!(error.kind(), &Kind::InUse);
    }

    #[test]
    fn a_folder_that_is_only_read_is_never_made() {
        let home = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(home.path().join("pb_data"), None);
        let error = FolderLock::take(&data, true).expect_err("missing");
        assert_eq!(error.kind(), &Kind::NotFound);
        assert!(!data.root().exists());
    }
}
