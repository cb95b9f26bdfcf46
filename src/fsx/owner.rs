//! Whose files are: what root makes in another user's folder is given to that user, who could
//! not open it otherwise.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
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
}
