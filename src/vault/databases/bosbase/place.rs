//! Putting restored files among the live ones. Nothing is taken away: BosBase never changes a
//! file of a record, it makes one with another name. So before the exchange of the databases
//! the files of both are there, and an undo finds those of the old one.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::control::Control;
use crate::error::{Context, Result};
use crate::fsx;

/// Bytes that are compared at once.
const BLOCK_BYTES: usize = 1 << 16;

/// Moves every file below `staged` to its place below `live`, unless the same is there
/// already; how many were moved.
pub(super) fn place(staged: &Path, live: &Path, control: &Control) -> Result<u64> {
    control.check()?;
    let shown = || format!("cannot put the files into {}", live.display());
    match fs::create_dir(live) {
        Ok(()) => {
            if let Some(above) = live.parent() {
                fsx::give_to_owner_of(above, live)?;
                fsx::sync_dir(above)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(shown),
    }
    let mut moved = 0;
    for entry in fs::read_dir(staged).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let (from, to) = (entry.path(), live.join(entry.file_name()));
        if entry.file_type().with_context(shown)?.is_dir() {
            moved += place(&from, &to, control)?;
        } else if !is_same(&from, &to).with_context(shown)? {
            fs::rename(&from, &to).with_context(shown)?;
            moved += 1;
        }
    }
    fsx::sync_dir(live)?;
    Ok(moved)
}

/// Whether a file holds what another one holds; what is not there, or no file, does not.
fn is_same(one: &Path, other: &Path) -> std::io::Result<bool> {
    let meta = match fs::symlink_metadata(other) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !meta.is_file() || meta.len() != fs::metadata(one)?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut a, mut b) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let length = one.read(&mut a)?;
        if length == 0 {
            return Ok(true);
        }
        match other.read_exact(&mut b[..length]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if a[..length] != b[..length] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_differs_is_put_there_and_nothing_is_taken_away() {
        let home = tempfile::tempdir().expect("a folder");
        let (staged, live) = (home.path().join("staged"), home.path().join("live"));
        for (path, text) in [
            ("staged/storage/c/r1/same", "same"),
            ("staged/storage/c/r1/damaged", "whole"),
            ("staged/storage/c/r2/gone", "back"),
            ("live/storage/c/r1/same", "same"),
            ("live/storage/c/r1/damaged", "whol?"),
            ("live/storage/c/r3/newer", "newer"),
        ] {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        assert_eq!(place(&staged, &live, &Control::default()).expect("placed"), 2);
        for (path, text) in [
            ("storage/c/r1/same", "same"),
            ("storage/c/r1/damaged", "whole"),
            ("storage/c/r2/gone", "back"),
            ("storage/c/r3/newer", "newer"),
        ] {
            assert_eq!(fs::read_to_string(live.join(path)).expect("there"), text, "{path}");
        }
    }
}
