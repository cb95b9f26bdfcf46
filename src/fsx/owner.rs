//! Whose files are: what root makes in another user's folder is given to that user, who could
//! not open it otherwise.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::path::Path;

use crate::error::{Context, Result};

/// Gives `path` to the user and the group that own `folder`. Only root can, and for anyone
/// else it does nothing.
///
/// # Errors
/// One of both cannot be looked at, or the file system knows no owners.
pub fn give_to_owner_of(folder: &Path, path: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let look = |path: &Path| {
        fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))
    };
    let (owner, current) = (look(folder)?, look(path)?);
    if owner.uid() == 0 || (owner.uid(), owner.gid()) == (current.uid(), current.gid()) {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid()))
        .with_context(|| format!("cannot give {} to its folder's owner", path.display()))
}

/// Gives a whole tree to the user and the group that own `folder`, durably. Only root can, and
/// for anyone else, and in a folder of root's own, it does nothing. Links are not followed.
///
/// # Errors
/// As [`give_to_owner_of`]; the file system cannot be synced.
pub fn give_tree_to_owner_of(folder: &Path, tree: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner =
        fs::metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    if owner.uid() == 0 {
        return Ok(());
    }
    let context = || format!("cannot give {} to its folder's owner", tree.display());
    let mut open = vec![tree.to_owned()];
    while let Some(path) = open.pop() {
        lchown(&path, Some(owner.uid()), Some(owner.gid())).with_context(context)?;
        if fs::symlink_metadata(&path).with_context(context)?.is_dir() {
            for entry in fs::read_dir(&path).with_context(context)? {
                open.push(entry.with_context(context)?.path());
            }
        }
    }
    let synced = fs::File::open(tree).and_then(|tree| Ok(rustix::fs::syncfs(tree)?));
    synced.with_context(context)
}

#[cfg(test)]
mod tests {
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
        std::os::unix::fs::symlink(path("outside"), path("data/tree/link")).expect("linked");
        chown(path("data"), Some(12_345), Some(12_346)).expect("given away");
        give_tree_to_owner_of(&path("data"), &path("data/tree")).expect("given");
        for name in ["data/tree", "data/tree/deep", "data/tree/deep/x", "data/tree/link"] {
            let found = fs::symlink_metadata(path(name)).expect("looked");
            assert_eq!((found.uid(), found.gid()), (12_345, 12_346), "{name}");
        }
        assert_eq!(fs::metadata(path("outside")).expect("looked").uid(), 0);
    }
}
