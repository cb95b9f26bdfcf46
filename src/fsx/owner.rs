//! Whose files are: what root makes in another user's folder is given to that user, who could
//! not open it otherwise.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat, syncfs,
};

use crate::error::{Context, Result};

/// To look at, and to give away, whatever it is; a link itself.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// To read a folder, which is none by way of a link.
const WALK: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives `path` to the user and the group that own `folder`. Only root can, and for anyone
/// else it does nothing. A link is not followed: in a folder of somebody else's it may have
/// come in between.
///
/// # Errors
/// One of both cannot be looked at, or the file system knows no owners.
pub fn give_to_owner_of(folder: &Path, path: &Path) -> Result<()> {
    let context = || format!("cannot give {} to its folder's owner", path.display());
    let Some(owner) = owner_of(folder)? else { return Ok(()) };
    let found = openat(CWD, path, LOOK, Mode::empty()).map_err(io::Error::from);
    give(&found.with_context(context)?, owner).with_context(context)
}

/// Gives a whole tree to the user and the group that own `folder`, durably. Only root can, and
/// for anyone else, and in a folder of root's own, it does nothing. Links are not followed, not
/// even such as come in between: the tree may lie where its new owner can change it meanwhile.
///
/// # Errors
/// As [`give_to_owner_of`]; the file system cannot be synced.
pub fn give_tree_to_owner_of(folder: &Path, tree: &Path) -> Result<()> {
    let context = || format!("cannot give {} to its folder's owner", tree.display());
    let Some(owner) = owner_of(folder)? else { return Ok(()) };
    let top = open_below(folder, tree).with_context(context)?;
    give_tree(&top, owner).with_context(context)?;
    syncfs(&top).map_err(io::Error::from).with_context(context)
}

/// Who owns `folder`; `None` where there is nothing to give.
fn owner_of(folder: &Path) -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let found = fs::metadata(folder);
    let found = found.with_context(|| format!("cannot look at {}", folder.display()))?;
    Ok((found.uid() != 0).then(|| (found.uid(), found.gid())))
}

/// Opens a folder. Below `folder`, whose owner is not us, no part of the way may be a link.
fn open_below(folder: &Path, tree: &Path) -> io::Result<OwnedFd> {
    let Ok(below) = tree.strip_prefix(folder) else {
        return Ok(openat(CWD, tree, WALK, Mode::empty())?);
    };
    let first = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut open = openat(CWD, folder, first, Mode::empty())?;
    for part in below.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => open = openat(&open, name, WALK, Mode::empty())?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(open)
}

/// Gives away what is in a folder, then the folder.
fn give_tree(folder: &OwnedFd, owner: (u32, u32)) -> io::Result<()> {
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let found = openat(folder, &name, LOOK, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory {
            give_tree(&openat(folder, &name, WALK, Mode::empty())?, owner)?;
        } else {
            give(&found, owner)?;
        }
    }
    give(folder, owner)
}

fn give(file: &impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    let found = fstat(file)?;
    if (found.st_uid, found.st_gid) == (uid, gid) {
        return Ok(());
    }
    let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if !is_folder && found.st_nlink > 1 {
        // What root made has one name. Another may lie anywhere.
        return Err(io::Error::other("a file has several names"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(chownat(file, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn what_root_makes_belongs_to_the_folder_s_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("x");
        fs::write(&file, "x").expect("written");
        let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid()));
        let before = owner(&file).expect("looked");
        if !rustix::process::geteuid().is_root() {
            give_to_owner_of(dir.path(), &file).expect("nothing to do");
            assert_eq!(owner(&file).expect("looked"), before);
            return;
        }
        chown(dir.path(), Some(12_345), Some(12_346)).expect("given away");
        give_to_owner_of(dir.path(), &file).expect("given");
        assert_eq!(owner(&file).expect("looked"), (12_345, 12_346));
    }

    #[test]
    fn a_tree_is_given_away_whole_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("data/tree/deep")).expect("made");
        fs::write(path("data/tree/deep/x"), "x").expect("written");
        fs::write(path("outside"), "x").expect("written");
        symlink(path("outside"), path("data/tree/link")).expect("linked");
        chown(path("data"), Some(12_345), Some(12_346)).expect("given away");
        give_tree_to_owner_of(&path("data"), &path("data/tree")).expect("given");
        for name in ["data/tree", "data/tree/deep", "data/tree/deep/x", "data/tree/link"] {
            let found = fs::symlink_metadata(path(name)).expect("looked");
            assert_eq!((found.uid(), found.gid()), (12_345, 12_346), "{name}");
        }
        assert_eq!(fs::metadata(path("outside")).expect("looked").uid(), 0);
    }

    #[test]
    fn what_came_in_between_is_not_given_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        for name in ["data/tree", "etc/deep"] {
            fs::create_dir_all(path(name)).expect("made");
        }
        fs::write(path("etc/passwd"), "x").expect("written");
        chown(path("data"), Some(12_345), Some(12_346)).expect("given away");
        symlink(path("etc"), path("data/way")).expect("linked");
        give_tree_to_owner_of(&path("data"), &path("data/way/deep")).expect_err("by a link");
        give_tree_to_owner_of(&path("data"), &path("data/way")).expect_err("a link");
        fs::hard_link(path("etc/passwd"), path("data/tree/x")).expect("linked");
        give_tree_to_owner_of(&path("data"), &path("data/tree")).expect_err("a second name");
        give_to_owner_of(&path("data"), &path("data/tree/x")).expect_err("a second name");
        give_to_owner_of(&path("data"), &path("data/way")).expect("the link itself");
        for name in ["etc", "etc/deep", "etc/passwd"] {
            assert_eq!(fs::metadata(path(name)).expect("looked").uid(), 0, "{name}");
        }
    }
}
