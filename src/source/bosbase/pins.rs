//! Second names for the files that records name: what is deleted meanwhile is still there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::backup::EntryPath;
use crate::control::Control;
use crate::data_dir::STATE;
use crate::error::{Context, Result};
use crate::fsx;

/// The folder of pinned files in a staging folder.
const PINS: &str = "pins";
/// So many pins lie in one folder.
const PINS_PER_FOLDER: usize = 10_000;
/// Where the state folder of a `pb_data` has what belongs to BosBase.
const FOLDER: &str = "bosbase";

/// A folder beside the data, on its file system; removed when it is dropped.
#[derive(Debug)]
pub struct Staging(PathBuf);

impl Staging {
    /// An empty folder inside `pb_data`. What a crash left in it is removed; whoever calls
    /// holds the lock of the database.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(data: &Path, name: &str) -> Result<Self> {
        let staging = Self(data.join(STATE).join(FOLDER).join(name));
        staging.clear().with_context(|| format!("cannot empty {}", staging.0.display()))?;
        fsx::create_dir_durably(&staging.0)?;
        fsx::give_to_owner_of(data, &data.join(STATE))?;
        Ok(staging)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: the next one empties it.
        let _ = self.clear();
    }
}

/// Files that cannot go away.
#[derive(Debug, Default)]
pub struct Pins {
    pub(super) held: BTreeMap<EntryPath, PathBuf>,
    /// Files that were not there.
    pub missing: Vec<EntryPath>,
}

impl Pins {
    /// How many files are held.
    pub fn held_count(&self) -> u64 {
        self.held.len() as u64
    }

    /// Links each of `files`, paths inside `data`, into the folder `staging`; where the file
    /// system has no links they are copied.
    ///
    /// # Errors
    /// [`Control::check`]'s; a fault of the disk.
    pub fn take(
        data: &Path,
        files: &[EntryPath],
        staging: &Path,
        control: &Control,
    ) -> Result<Self> {
        let folder = staging.join(PINS);
        let _ = fs::remove_dir_all(&folder);
        let mut pins = Self::default();
        for (number, file) in files.iter().enumerate() {
            let below = folder.join((number / PINS_PER_FOLDER).to_string());
            if number % PINS_PER_FOLDER == 0 {
                control.check()?;
                fs::create_dir_all(&below).context("cannot make a folder of pins")?;
            }
            let pin = below.join(number.to_string());
            let from = data.join(file.as_path());
            let is_file = fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file());
            let pinned = match is_file {
                false => false,
                true => match fs::hard_link(&from, &pin) {
                    Ok(()) => true,
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(_) => match fs::copy(&from, &pin) {
                        Ok(_) => true,
                        Err(error) if error.kind() == ErrorKind::NotFound => false,
                        Err(error) => return Err(error).context("cannot pin a file"),
                    },
                },
            };
            match pinned {
                true => drop(pins.held.insert(file.clone(), pin)),
                false => pins.missing.push(file.clone()),
            }
        }
        Ok(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_is_still_pinned_and_what_is_missing_is_named() {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(home.path().join("storage/c/r")).expect("made");
        fs::write(home.path().join("storage/c/r/a"), b"a").expect("written");
        let paths = ["storage/c/r/a", "storage/c/r/b", "storage/c"];
        let paths = paths.map(|path| EntryPath::parse(path).expect("a path"));
        let staging = Staging::new(home.path(), "x").expect("a folder");
        let pins =
            Pins::take(home.path(), &paths, staging.path(), &Control::default()).expect("pinned");
        fs::remove_file(home.path().join("storage/c/r/a")).expect("removed");
        assert_eq!(fs::read(&pins.held[&paths[0]]).expect("there"), b"a");
        assert_eq!(pins.missing, &paths[1..]);
        drop(staging);
        assert!(!home.path().join(STATE).join(FOLDER).join("x").exists());
    }
}
