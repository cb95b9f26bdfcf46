//! Durable files: nothing that matters is written in any other way.
//!
//! A file appears under its name only when it is complete and on the disk: temporary file
//! beside the target, write, fsync, rename (or link, to create only), fsync of the folder.

mod direct;
mod mounts;
mod owner;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::backup::PARTIAL_SUFFIX;
use crate::error::{Context, Error, Kind, Result};
use crate::failpoint;

pub use direct::DirectWriter;
pub use mounts::{MOUNTS, mounts_below};
pub use owner::{give_to_owner_of, give_tree_to_owner_of};

/// Whether a commit may replace what has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// Fail with [`Kind::Exists`] when the name is taken.
    Create,
    /// Replace it.
    Replace,
}

/// A file being written beside its target; removed when it is dropped before its commit.
#[derive(Debug)]
pub struct PartialFile {
    file: Option<File>,
    path: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl PartialFile {
    /// Creates the temporary file in the target's folder, readable by the owner only.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // The original name is cut so that name, random part and suffix fit into 255 bytes.
        let mut stem = name.into_owned();
        while stem.len() > 200 {
            stem.pop();
        }
        let unique: u64 = rand::rng().random();
        let path = target.with_file_name(format!("{stem}.{unique:016x}{PARTIAL_SUFFIX}"));
        let file = failpoint::hit("create", &[&path])
            .and_then(|()| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode_private()
                    .open(&path)
            })
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file: Some(file), path, target: target.to_owned(), committed: false })
    }

    /// The open file.
    ///
    /// # Errors
    /// Only after the commit, which a caller cannot reach.
    pub fn file(&mut self) -> Result<&mut File> {
        self.file.as_mut().ok_or_else(|| Error::internal("a committed file has no handle"))
    }

    /// Where the bytes lie until the commit.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file, gives it its name, syncs the folder.
    ///
    /// # Errors
    /// [`Kind::Exists`] with [`Commit::Create`] when the name is taken; otherwise a fault of
    /// the disk. Nothing is left under the target's name then, nor the temporary file.
    pub fn commit(mut self, how: Commit) -> Result<()> {
        if let Some(file) = self.file.take() {
            failpoint::hit("fsync", &[&self.path])
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot sync {}", self.path.display()))?;
        }
        let target = self.target.display().to_string();
        match how {
            Commit::Replace => {
                failpoint::hit("replace", &[&self.path, &self.target])
                    .and_then(|()| fs::rename(&self.path, &self.target))
                    .with_context(|| format!("cannot name {target}"))?;
            }
            Commit::Create => rename_new(&self.path, &self.target)?,
        }
        self.committed = true;
        let synced = sync_parent(&self.target);
        if synced.is_err() && how == Commit::Create {
            // What may not last is not there at all: the caller is told that it failed.
            let _ = fs::remove_file(&self.target);
        }
        synced
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: what stays is never listed and is swept at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames without ever replacing; falls back to link + unlink where the file system has no
/// such rename.
///
/// # Errors
/// [`Kind::Exists`] when the target is there.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let taken = || Error::new(Kind::Exists, format!("{} exists already", to.display()));
    failpoint::hit("rename", &[from, to])
        .with_context(|| format!("cannot name {}", to.display()))?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(taken()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match fs::hard_link(from, to) {
            Ok(()) => {
                fs::remove_file(from).with_context(|| format!("cannot remove {}", from.display()))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
            Err(error) => Err(error).with_context(|| format!("cannot name {}", to.display())),
        },
        Err(error) => Err(std::io::Error::from(error))
            .with_context(|| format!("cannot name {}", to.display())),
    }
}

/// Writes a small file durably, replacing what was there.
///
/// # Errors
/// A fault of the disk; the old content is still there then.
pub fn write_durably(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = PartialFile::create(target)?;
    failpoint::hit("write", &[partial.path()])
        .and_then(|()| partial.file()?.write_all(bytes))
        .with_context(|| format!("cannot write {}", target.display()))?;
    partial.commit(Commit::Replace)
}

/// Makes a folder and its parents, and makes their names durable.
///
/// # Errors
/// A part of the path is not a folder, or the disk refuses.
pub fn create_dir_durably(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_durably(parent)?;
    }
    match failpoint::hit("mkdir", &[path]).and_then(|()| fs::create_dir(path)) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// Makes the names inside a folder durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<()> {
    failpoint::hit("fsync-dir", &[path])
        .and_then(|()| File::open(path)?.sync_all())
        .with_context(|| format!("cannot sync the folder {}", path.display()))
}

/// [`sync_dir`] of the folder that holds `path`.
///
/// # Errors
/// As [`sync_dir`].
pub fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Removes leftovers of [`PartialFile`]s that a crash left in `folder`; how many there were.
///
/// # Errors
/// The folder cannot be read or changed. A missing folder is fine.
pub fn sweep_partials(folder: &Path) -> Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", folder.display()));
        }
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_name().to_string_lossy().ends_with(PARTIAL_SUFFIX) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Free bytes for us on the file system of `path`.
///
/// # Errors
/// The path does not exist.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(std::io::Error::from)
        .with_context(|| format!("cannot ask for the free space of {}", path.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `open` for the owner only.
trait Private {
    fn mode_private(&mut self) -> &mut Self;
}

impl Private for OpenOptions {
    fn mode_private(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.mode(0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_partial_file_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut partial = PartialFile::create(&dir.path().join("a")).expect("a file");
        partial.file().expect("open").write_all(b"x").expect("written");
        drop(partial);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn create_never_replaces_and_replace_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("a");
        write_durably(&target, b"old").expect("written");
        let partial = PartialFile::create(&target).expect("a file");
        assert_eq!(partial.commit(Commit::Create).expect_err("taken").kind(), &Kind::Exists);
        assert_eq!(fs::read(&target).expect("read"), b"old");
        let mut partial = PartialFile::create(&target).expect("a file");
        partial.file().expect("open").write_all(b"new").expect("written");
        partial.commit(Commit::Replace).expect("replaced");
        assert_eq!(fs::read(&target).expect("read"), b"new");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn leftovers_are_swept_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(format!("a.zip.00{PARTIAL_SUFFIX}")), b"x").expect("written");
        fs::write(dir.path().join("a.zip"), b"x").expect("written");
        assert_eq!(sweep_partials(dir.path()).expect("swept"), 1);
        assert_eq!(sweep_partials(&dir.path().join("missing")).expect("swept"), 0);
        assert!(dir.path().join("a.zip").exists());
    }

    #[test]
    fn names_up_to_the_limit_can_be_written() {
        let dir = tempfile::tempdir().expect("a folder");
        write_durably(&dir.path().join("é".repeat(117)), b"x").expect("written");
    }
}
