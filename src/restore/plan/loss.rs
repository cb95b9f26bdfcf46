//! The files that a restore would remove or change, found by walking the present data.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::archive::Outline;
use crate::control::Control;
use crate::data_dir::{DATABASES, DataDir, STATE, is_restored, is_sqlite_side_file};
use crate::error::Result;
use crate::restore::Scope;
use crate::restore::plan::{Loss, Plan};

/// How long files are compared.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How many files are named.
const EXAMPLES_MAX: usize = 10;

/// Compares every file of the present data with the archive's directory.
///
/// # Errors
/// [`Control::check`]'s. A folder that cannot be read makes the count incomplete.
pub(super) fn files(
    data: &DataDir,
    outline: &Outline<'_>,
    scope: &Scope,
    plan: &mut Plan,
    control: &Control,
) -> Result<()> {
    let end = Instant::now() + TIME_MAX;
    let mut loss = Loss { complete: true, ..Loss::default() };
    let mut open = vec![data.root().to_owned()];
    while let Some(folder) = open.pop() {
        control.check()?;
        if Instant::now() > end {
            loss.complete = false;
            break;
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            loss.complete = false;
            continue;
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let at_root = folder == data.root();
            if name == STATE || (at_root && !is_counted(&name.to_string_lossy())) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(_) => compare(data.root(), &path, outline, scope, &mut loss),
                Err(_) => loss.complete = false,
            }
        }
    }
    loss.examples.sort();
    plan.loss = Some(loss);
    Ok(())
}

/// The databases are compared row by row, not as files.
fn is_counted(name: &str) -> bool {
    is_restored(name) && !DATABASES.contains(&name) && !is_sqlite_side_file(name)
}

fn compare(root: &Path, path: &Path, outline: &Outline<'_>, scope: &Scope, loss: &mut Loss) {
    let Ok(relative) = path.strip_prefix(root) else { return };
    let name = relative.as_os_str().as_bytes();
    if !scope.takes(name) {
        return;
    }
    // It may go while we look: then there is nothing to lose.
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    match outline.files.get(name) {
        Some(entry) if entry.size_bytes() == metadata.len() => return,
        Some(_) => {
            loss.files_changed += 1;
            return;
        }
        None => {}
    }
    loss.files += 1;
    loss.bytes += metadata.len();
    if loss.examples.len() < EXAMPLES_MAX {
        loss.examples.push(relative.to_string_lossy().into_owned());
    }
}
