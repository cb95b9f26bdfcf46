//! Which folders of `pb_data` a swap works in, and whether it can.
//!
//! A mount point cannot be renamed, and nothing can be renamed across one. So each folder that
//! is a mount point, or holds one, stays where it is and its children are swapped one by one,
//! from and to a bay inside itself. What cannot work is refused here, before anything moves.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::data_dir::{DataDir, STATE, is_restored};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::restore::journal::{Name, bay};
use crate::restore::{Scope, disk};

/// The places of a folder, `pb_data` itself first, parents before children.
///
/// # Errors
/// [`Kind::Unavailable`] with the reason when a single file, or the state folder inside
/// `pb_data`, is a mount of its own.
pub(super) fn survey(data: &DataDir) -> Result<Vec<Name>> {
    let root = std::fs::canonicalize(data.root())
        .with_context(|| format!("cannot find {}", data.root().display()))?;
    // Without the list (not on Linux, or no /proc) mounts are still found by `check`, and
    // refused instead of worked around.
    let listed = disk::read(Path::new(fsx::MOUNTS))?.unwrap_or_default();
    let mut places = vec![Name::root()];
    for mount in fsx::mounts_below(&root, &listed) {
        let first = mount.iter().next().unwrap_or_default();
        if first == STATE {
            return Err(refused(&mount, "is a mount of its own").hint(
                "mount that volume outside of pb_data and name it with --state: a restore is \
                 swapped in by renaming, which does not work across mounts",
            ));
        }
        if !is_restored(&first.to_string_lossy()) {
            continue;
        }
        if !disk::is_dir(&data.root().join(&mount))? {
            return Err(refused(&mount, "is a single file that is mounted on its own")
                .hint("mount its folder instead: a mounted file cannot be replaced"));
        }
        places.extend(
            mount
                .ancestors()
                .filter(|path| !path.as_os_str().is_empty())
                .map(|path| Name(path.as_os_str().to_owned())),
        );
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// The places that a restore of `scope` works in: [`survey`]'s, as far as it needs them. The
/// root is always there, because archives are unpacked in its bay.
///
/// # Errors
/// As [`survey`]; [`Kind::Unavailable`] for a path that is or holds a mount point, or lies below
/// a file.
pub(super) fn survey_for(data: &DataDir, scope: &Scope) -> Result<Vec<Name>> {
    let mut dirs = survey(data)?;
    match scope {
        Scope::All | Scope::Files => {}
        Scope::Databases => dirs.truncate(1),
        Scope::Path(path) => {
            let path = Path::new(path);
            if dirs.iter().any(|dir| dir.as_path().starts_with(path)) {
                return Err(refused(path, "is or holds a mount")
                    .hint("restore \"files\" instead, or a path below the mount"));
            }
            let parents = path.ancestors().skip(1).filter(|path| *path != Path::new(""));
            for parent in parents {
                let live = data.root().join(parent);
                if disk::exists(&live)? && !disk::is_dir(&live)? {
                    return Err(refused(parent, "is no folder"));
                }
            }
            let home = home_of(path, &dirs).cloned();
            dirs.retain(|dir| dir.0.is_empty() || Some(dir) == home.as_ref());
        }
    }
    Ok(dirs)
}

/// The place, of these, that a path lies in.
pub(super) fn home_of<'a>(path: &Path, dirs: &'a [Name]) -> Option<&'a Name> {
    let holders = dirs.iter().filter(|dir| path.starts_with(dir.as_path()));
    holders.max_by_key(|dir| dir.as_path().components().count())
}

/// Makes the bay of each place for the restore `id`, and makes sure that renaming between the
/// place and its bay works.
///
/// # Errors
/// [`Kind::Unavailable`] with the reason: read-only, no permission, another file system.
pub(super) fn open_bays(data: &DataDir, places: &[Name], id: &str) -> Result<()> {
    for place in places {
        let folder = bay(data, place).join(id);
        disk::create_dir_below(data.root(), &folder).map_err(|error| {
            let live = data.root().join(place.as_path());
            match error.kind() {
                Kind::NoSpace => error,
                _ => Error::new(Kind::Unavailable, format!("cannot write to {}", live.display()))
                    .hint("a restore replaces what is in this folder and must be able to write")
                    .because(error),
            }
        })?;
        check(&data.root().join(place.as_path()), &folder)?;
    }
    Ok(())
}

fn check(live: &Path, folder: &Path) -> Result<()> {
    if renames_between(live, folder)? {
        return Ok(());
    }
    Err(refused(folder, "lies on another file system than the data it shall replace"))
}

/// The kernel refuses a rename exactly between different mounts.
pub(super) fn renames_between(one: &Path, other: &Path) -> Result<bool> {
    let mount = |path: &Path| -> Result<(u64, u32, u32)> {
        let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot look at {}", path.display()))?;
        Ok((stat.stx_mnt_id, stat.stx_dev_major, stat.stx_dev_minor))
    };
    Ok(mount(one)? == mount(other)?)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("A restore cannot work here: {} {why}.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_mounts_is_one_place() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("storage/x")).expect("made");
        let data = DataDir::new(dir.path(), None);
        let places = survey(&data).expect("surveyed");
        assert_eq!(places, [Name::root()]);
        open_bays(&data, &places, "r1").expect("opened");
        assert!(dir.path().join(".pocketvault/restore/r1").is_dir());
    }
}
