//! Sweeping: what no journal speaks of becomes trash at once, and is removed later.
//!
//! Removing a folder of many files takes minutes, renaming it does not, and a start must not
//! wait. A name of trash is made in one rename and never used again for anything else, so
//! emptying may run beside a staging, a swap, and another emptying.

use std::path::PathBuf;

use crate::data_dir::DataDir;
use crate::fsx;
use crate::restore::journal::{Journal, Name, Phase, Shelf, bay};
use crate::restore::{disk, places};

/// The end of the name of a folder that is only waiting to be removed.
const TRASH_SUFFIX: &str = ".trash";
/// How nice the thread is that removes trash: as nice as it gets.
const NICENESS: i32 = 19;

/// Makes trash of the folders that the journal does not speak of; how many there were.
///
/// Best effort: a folder that cannot be renamed costs room, not data, and the next start tries
/// again.
pub(super) fn sweep(data: &DataDir, journal: Option<&Journal>) -> usize {
    sweep_except(data, journal, true)
}

/// [`sweep`]; without `keep_failed`, what a rolled-back restore left goes too.
pub(super) fn sweep_except(data: &DataDir, journal: Option<&Journal>, keep_failed: bool) -> usize {
    let Ok(dirs) = places::survey(data) else { return 0 };
    let mut swept = fsx::sweep_partials(&data.restore()).unwrap_or(0);
    for dir in dirs {
        let bay = bay(data, &dir);
        for name in disk::names(&bay).unwrap_or_default() {
            let id = name.to_string_lossy();
            if id.ends_with(TRASH_SUFFIX)
                || is_kept(journal, &id, keep_failed)
                || !is_garbage(data, &dir, &id, journal)
            {
                continue;
            }
            let trash = bay.join(format!("{id}{TRASH_SUFFIX}"));
            if disk::rename(&bay.join(&name), &trash).is_ok() {
                swept += 1;
            }
        }
    }
    swept
}

/// Makes trash of a shelf whose content has found its place. What is left on it are folders,
/// and entries of the archive that no restore takes.
pub(super) fn discard(data: &DataDir, dir: &Name, shelf: &Shelf) {
    let path = Journal::shelf(data, dir, shelf);
    if disk::exists(&path).unwrap_or(false) {
        let trash = bay(data, dir).join(format!("{}-rest{TRASH_SUFFIX}", shelf.id));
        // Best effort: the next restore makes trash of all of it.
        let _ = disk::rename(&path, &trash);
    }
}

/// Removes the trash of all restores; how many folders. May take minutes; may be killed and
/// run again at any time, and by several at once. Best effort: what stays costs only room.
pub fn empty_trash(data: &DataDir) -> usize {
    trash(data).iter().filter(|path| disk::remove_tree(path).is_ok()).count()
}

/// [`empty_trash`] on a thread of its own that stands back behind everybody else. Nobody waits
/// for it: a process that ends leaves the rest to the next start.
pub fn empty_trash_later(data: &DataDir) {
    if trash(data).is_empty() {
        return;
    }
    let data = data.clone();
    let work = move || {
        // On Linux this is about the calling thread alone. It is a courtesy and may fail.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let removed = empty_trash(&data);
        tracing::info!(removed, "removed what earlier restores left");
    };
    if let Err(error) = std::thread::Builder::new().name("trash".to_owned()).spawn(work) {
        tracing::warn!(%error, "what earlier restores left is removed at the next start");
    }
}

fn trash(data: &DataDir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in places::survey(data).unwrap_or_default() {
        let bay = bay(data, &dir);
        let names = disk::names(&bay).unwrap_or_default();
        let trash = names.iter().filter(|name| name.to_string_lossy().ends_with(TRASH_SUFFIX));
        found.extend(trash.map(|name| bay.join(name)));
    }
    found
}

fn is_kept(journal: Option<&Journal>, id: &str, keep_failed: bool) -> bool {
    let Some(journal) = journal else { return false };
    let kept = journal.kept.as_ref().is_some_and(|kept| kept.shelf.id == id);
    let own = journal.id == id
        && (!journal.phase.is_final() || (journal.phase == Phase::RolledBack && keep_failed));
    kept || own
}

/// Only folders of restores; never strays, which nobody's journal answers for; and, without a
/// journal, nothing that holds old data.
fn is_garbage(data: &DataDir, dir: &Name, id: &str, journal: Option<&Journal>) -> bool {
    let folder = bay(data, dir).join(id);
    let is_empty = |side: &str| disk::names(&folder.join(side)).is_ok_and(|found| found.is_empty());
    disk::is_dir(&folder).unwrap_or(false)
        && is_empty("stray")
        && (journal.is_some() || is_empty("old"))
}
