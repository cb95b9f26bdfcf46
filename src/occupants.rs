//! Who else has a folder's databases open: a PocketBase that runs on it, a shell.
//!
//! Locks do not tell: a PocketBase that has made a backup holds none. The kernel's table of
//! open files does, for the processes that we may look at.

use std::path::Path;

use crate::data_dir::{DATABASES, DataDir};

/// The other processes that have one of the databases open, by process id. Empty where the
/// system does not show open files; processes of other users are seen by root only.
pub fn other_processes(data: &DataDir) -> Vec<u32> {
    let Ok(root) = data.root().canonicalize() else { return Vec::new() };
    let databases: Vec<_> = DATABASES.iter().map(|name| root.join(name)).collect();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| has_open(*pid, &databases))
        .collect()
}

fn has_open(pid: u32, files: &[impl AsRef<Path>]) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| files.iter().any(|file| file.as_ref() == target))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn another_process_with_the_database_open_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path(), None);
        std::fs::write(data.data_db(), b"x").expect("written");
        assert!(other_processes(&data).is_empty());
        let file = std::fs::File::open(data.data_db()).expect("opened");
        let mut other =
            Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().expect("started");
        let seen = other_processes(&data);
        other.kill().expect("stopped");
        other.wait().expect("reaped");
        assert_eq!(seen, [other.id()]);
    }
}
