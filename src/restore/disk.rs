//! Every call of the file system that a restore makes, each behind a fail point.
//!
//! Renames never replace, and folders are synced by whoever changed them. Nothing here knows
//! what the files are for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::{failpoint, fsx};

/// Up to this many folders each is synced by itself.
const SYNCED_ALONE_MAX: usize = 64;

/// Whether there is anything by that name; a dangling link is something.
pub(super) fn exists(path: &Path) -> Result<bool> {
    let found = failpoint::hit("lstat", &[path]).and_then(|()| fs::symlink_metadata(path));
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// The names inside a folder, sorted; none when there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<OsString>> {
    let listed = failpoint::hit("readdir", &[folder]).and_then(|()| {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    });
    match listed {
        Ok(names) => {
            let mut names: Vec<OsString> = names;
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot list {}", folder.display())),
    }
}

/// Renames inside one file system, files and folders alike, never onto something.
///
/// # Errors
/// [`Kind::Exists`] when the target is there; else what the file system says.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    failpoint::hit("rename", &[from, to]).with_context(context)?;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Network file systems without that flag: nobody else works in these folders, so
        // looking first is as good.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if exists(to)? {
                let message = format!("{} exists already", to.display());
                return Err(Error::new(Kind::Exists, message));
            }
            fs::rename(from, to).with_context(context)
        }
        Err(rustix::io::Errno::EXIST) => {
            Err(Error::new(Kind::Exists, format!("{} exists already", to.display())))
        }
        Err(error) => Err(io::Error::from(error)).with_context(context),
    }
}

/// [`rename`], or a synced copy where the target lies on another file system. The source of a
/// copy stays.
pub(super) fn rename_or_copy(from: &Path, to: &Path) -> Result<()> {
    let renamed = rename(from, to);
    let crosses = renamed.as_ref().err().and_then(std::error::Error::source).is_some_and(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == ErrorKind::CrossesDevices)
    });
    if crosses { copy_tree(from, to) } else { renamed }
}

/// The bytes in the regular files of a tree.
pub(super) fn size_bytes(path: &Path) -> Result<u64> {
    if !is_dir(path)? {
        let metadata = fs::symlink_metadata(path);
        return metadata
            .map(|metadata| metadata.len())
            .with_context(|| format!("cannot look at {}", path.display()));
    }
    let mut total = 0;
    for name in names(path)? {
        total += size_bytes(&path.join(name))?;
    }
    Ok(total)
}

/// Makes a folder and its parents durably.
pub(super) fn create_dir(path: &Path) -> Result<()> {
    fsx::create_dir_durably(path)
}

/// [`create_dir`] for a folder below `root`, which belongs to the owner of `root` then, as do
/// its parents.
pub(super) fn create_dir_below(root: &Path, path: &Path) -> Result<()> {
    create_dir(path)?;
    let below = path.ancestors().take_while(|folder| *folder != root && folder.starts_with(root));
    below.into_iter().try_for_each(|folder| fsx::give_to_owner_of(root, folder))
}

/// Makes the names inside a folder durable. File systems that cannot sync folders (some network
/// shares) order such changes on their own; they answer `EINVAL`, which is no failure.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    let synced = failpoint::hit("fsync-dir", &[path]).and_then(|()| File::open(path)?.sync_all());
    match synced {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other.with_context(|| format!("cannot sync the folder {}", path.display())),
    }
}

/// Makes a file's bytes durable.
pub(super) fn sync_file(path: &Path) -> Result<()> {
    failpoint::hit("fsync", &[path])
        .and_then(|()| File::open(path)?.sync_all())
        .with_context(|| format!("cannot sync {}", path.display()))
}

/// Syncs every folder of a tree, the deepest first; what the files hold is synced by whoever
/// wrote them. Many folders are synced with their file system in one go: each sync of its own
/// makes the disk empty its cache.
pub(super) fn sync_dirs(root: &Path) -> Result<()> {
    let mut folders = Vec::new();
    list_dirs(root, &mut folders)?;
    if folders.len() <= SYNCED_ALONE_MAX {
        return folders.iter().try_for_each(|folder| sync_dir(folder));
    }
    failpoint::hit("syncfs", &[root])
        .and_then(|()| Ok(rustix::fs::syncfs(File::open(root)?)?))
        .with_context(|| format!("cannot sync the file system of {}", root.display()))
}

/// A small file's bytes; `None` when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match failpoint::hit("read", &[path]).and_then(|()| fs::read(path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a small file durably, replacing what was there. It belongs to the owner of `root`.
pub(super) fn write(root: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = fsx::PartialFile::create(path)?;
    failpoint::hit("write", &[partial.path()])
        .and_then(|()| partial.file()?.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))?;
    fsx::give_to_owner_of(root, partial.path())?;
    partial.commit(fsx::Commit::Replace)
}

/// Removes a file and makes that durable; a missing one is fine.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match failpoint::hit("unlink", &[path]).and_then(|()| fs::remove_file(path)) {
        Ok(()) => fsx::sync_parent(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Removes a file, or a folder with all that is in it; links are removed, not followed. A
/// missing one is fine.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    let context = || format!("cannot remove {}", path.display());
    if !is_dir(path)? {
        return match failpoint::hit("unlink", &[path]).and_then(|()| fs::remove_file(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(context),
            _ => Ok(()),
        };
    }
    for name in names(path)? {
        remove_tree(&path.join(name))?;
    }
    match failpoint::hit("rmdir", &[path]).and_then(|()| fs::remove_dir(path)) {
        // Somebody else empties the same trash.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(context),
    }
}

/// Copies regular files and folders with their permissions, each file synced, the folders too.
///
/// # Errors
/// Also for anything that is neither: staged data has no links and no devices.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {} to {}", from.display(), to.display());
    if is_dir(from)? {
        create_dir(to)?;
        for name in names(from)? {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
        return sync_dir(to);
    }
    let metadata = fs::symlink_metadata(from).with_context(context)?;
    if !metadata.is_file() {
        return Err(Error::new(Kind::Corrupt, context()));
    }
    failpoint::hit("copy", &[from, to])
        .and_then(|()| fs::copy(from, to).map(|_| ()))
        .with_context(context)?;
    sync_file(to)
}

/// Adds `root` and all folders below it, the deepest first; stops at more than are synced alone.
fn list_dirs(root: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for name in names(root)? {
        if found.len() > SYNCED_ALONE_MAX {
            return Ok(());
        }
        let path = root.join(name);
        if is_dir(&path)? {
            list_dirs(&path, found)?;
        }
    }
    found.push(root.to_owned());
    Ok(())
}

/// Whether it is a folder itself, not a link to one.
pub(super) fn is_dir(path: &Path) -> Result<bool> {
    let found = failpoint::hit("lstat", &[path]).and_then(|()| fs::symlink_metadata(path));
    match found {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("a")).expect("made");
        fs::write(path("a/x"), "1").expect("written");
        fs::create_dir(path("b")).expect("made");
        assert_eq!(rename(&path("a"), &path("b")).expect_err("taken").kind(), &Kind::Exists);
        rename(&path("a"), &path("c")).expect("moved");
        assert_eq!(names(dir.path()).expect("listed"), ["b", "c"]);
    }

    #[test]
    fn removing_a_tree_does_not_follow_links() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("kept")).expect("made");
        fs::write(path("kept/x"), "1").expect("written");
        fs::create_dir(path("gone")).expect("made");
        std::os::unix::fs::symlink(path("kept"), path("gone/link")).expect("linked");
        remove_tree(&path("gone")).expect("removed");
        remove_tree(&path("gone")).expect("nothing to remove is fine");
        assert_eq!(fs::read(path("kept/x")).expect("read"), b"1");
        assert!(!exists(&path("gone")).expect("looked"));
    }

    #[test]
    fn a_copied_tree_is_the_same_tree() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/b/empty")).expect("made");
        fs::write(path("a/b/x"), "1").expect("written");
        copy_tree(&path("a"), &path("c")).expect("copied");
        assert_eq!(fs::read(path("c/b/x")).expect("read"), b"1");
        assert!(is_dir(&path("c/b/empty")).expect("looked"));
        std::os::unix::fs::symlink("x", path("a/link")).expect("linked");
        assert_eq!(copy_tree(&path("a"), &path("d")).expect_err("link").kind(), &Kind::Corrupt);
    }
}
