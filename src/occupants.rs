//! Who else has a folder's databases open: a PocketBase that runs on it, a shell.
//!
//! Locks do not tell: a PocketBase that has made a backup holds none. The kernel's table of
//! open files does, for the processes that we may look at. Files are compared by device and
//! inode: paths differ between containers, and a restore moves files that are open.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::data_dir::{DATABASES, DataDir, STATE};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// The other processes that have one of the databases open, by process id; also those that
/// hold databases which a restore has moved away. Empty where the system does not show open
/// files; processes of other users are seen by root only, those of other containers not at all.
pub fn other_processes(data: &DataDir) -> Vec<u32> {
    let databases: Vec<_> = databases(data).iter().filter_map(|path| identity(path)).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| has_open(*pid, &databases))
        .collect()
}

/// Whether a process belongs to the process group `group`.
pub fn is_in_group(pid: u32, group: Option<u32>) -> bool {
    let of = |pid: u32| rustix::process::Pid::from_raw(pid.cast_signed());
    match (of(pid), group.and_then(of)) {
        (Some(pid), Some(group)) => rustix::process::getpgid(Some(pid)) == Ok(group),
        _ => false,
    }
}

/// [`other_processes`] that do not go within `patience`: a copying tool or a shell does,
/// a server does not.
pub fn lasting_processes(data: &DataDir, patience: Duration) -> Vec<u32> {
    let end = Instant::now() + patience;
    loop {
        let others = other_processes(data);
        if others.is_empty() || Instant::now() >= end {
            return others;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The live databases, and those on the shelves of restores.
fn databases(data: &DataDir) -> Vec<PathBuf> {
    let mut folders = vec![data.root().to_owned()];
    // Databases lie at the root, so their shelves do, wherever the state is.
    let bay = data.root().join(STATE).join("restore");
    for restore in fs::read_dir(bay).into_iter().flatten().flatten() {
        folders.extend(["old", "new"].map(|side| restore.path().join(side)));
    }
    folders.iter().flat_map(|folder| DATABASES.map(|name| folder.join(name))).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().as_ref().map(of)
}

fn of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn has_open(pid: u32, files: &[(u64, u64)]) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .map(|entry| entry.path())
        // Sockets and pipes have no path.
        .filter(|entry| fs::read_link(entry).is_ok_and(|target| target.is_absolute()))
        // Followed by the kernel to the open file itself, whatever its name is by now.
        .filter_map(|entry| identity(&entry))
        .any(|file| files.contains(&file))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that has `path` open.
    fn holder(path: &Path, seconds: &str) -> Child {
        let file = fs::File::open(path).expect("opened");
        Command::new("sleep").arg(seconds).stdin(Stdio::from(file)).spawn().expect("started")
    }

    fn end(mut process: Child) {
        process.kill().expect("stopped");
        process.wait().expect("reaped");
    }

    #[test]
    fn another_process_with_the_database_open_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path(), None);
        fs::write(data.data_db(), b"x").expect("written");
        assert!(other_processes(&data).is_empty());
        let other = holder(&data.data_db(), "60");
        let seen = other_processes(&data);
        let expected = [other.id()];
        end(other);
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_database_is_known_by_any_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path().join("pb_data"), None);
        let shelf = data.root().join(".pocketvault/restore/r1/old");
        fs::create_dir_all(&shelf).expect("made");
        fs::write(data.data_db(), b"x").expect("written");
        let alias = dir.path().join("alias");
        fs::hard_link(data.data_db(), &alias).expect("linked");
        let other = holder(&alias, "60");
        let by_another_name = other_processes(&data);
        fs::rename(data.data_db(), shelf.join("data.db")).expect("moved");
        fs::write(data.data_db(), b"y").expect("written");
        let moved = other_processes(&data);
        let expected = [other.id()];
        end(other);
        assert_eq!(by_another_name, expected);
        assert_eq!(moved, expected);
    }

    #[test]
    fn who_goes_soon_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path(), None);
        fs::write(data.data_db(), b"x").expect("written");
        let mut other = holder(&data.data_db(), "0.3");
        assert_eq!(lasting_processes(&data, Duration::ZERO), [other.id()]);
        assert!(lasting_processes(&data, Duration::from_secs(30)).is_empty());
        other.wait().expect("reaped");
    }
}
