//! The ground of the crash tests: folders with data, their trees, and mounts below them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tempfile::TempDir;

/// Every file with its bytes, every folder without.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What `pb_data` lies on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ground {
    /// One file system.
    Plain,
    /// With volumes at [`VOLUMES`]; only inside a mount namespace of our own.
    Mounted,
}

/// A volume in the place where PocketBase keeps uploads, and one in a folder that is none.
const VOLUMES: [&str; 2] = ["storage", "extra/inner"];

/// A folder that holds a `pb_data`, with its mounts.
pub(crate) struct Root {
    _mounts: Vec<Mount>,
    folder: TempDir,
}

/// A file system in memory, mounted until it is dropped.
pub(crate) struct Mount(PathBuf);

impl Root {
    /// An empty `pb_data` on its ground.
    pub(crate) fn new(home: &Path, ground: Ground) -> Self {
        let folder = tempfile::tempdir_in(home).unwrap();
        let mut mounts = Vec::new();
        if ground == Ground::Mounted {
            for volume in VOLUMES {
                mounts.push(Mount::new(&folder.path().join("pb_data").join(volume)));
            }
        }
        Self { _mounts: mounts, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Hides a folder behind an empty one.
    pub(crate) fn cover(&self, folder: &str) -> Mount {
        Mount::new(&self.path().join("pb_data").join(folder))
    }
}

impl Mount {
    fn new(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", path.to_str().unwrap()]);
        Self(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that another thread is just starting may hold it for a moment.
        run("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

pub(crate) fn contains(content: &Tree, wanted: &Tree) -> bool {
    // Backups stay where they are in every restore.
    let mut moved = wanted.iter().filter(|(path, _)| !path.starts_with("backups"));
    moved.all(|(path, bytes)| content.get(path) == Some(bytes))
}

pub(crate) fn describe(tree: &Tree) -> String {
    let line = |(path, bytes): (&PathBuf, &Option<Vec<u8>>)| {
        format!("{} {:?}", path.display(), bytes.as_ref().map(Vec::len))
    };
    tree.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Everything below a folder but our own state.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if relative.iter().any(|part| part == ".pocketvault") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                found.insert(relative, None);
            } else {
                found.insert(relative, Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Live data: a write-ahead log with committed rows, uploads, a backup, somebody's extra file.
pub(crate) fn make_old(root: &Path) {
    fs::create_dir_all(root.join("storage/c/r")).unwrap();
    fs::create_dir_all(root.join("backups")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    make_databases(root, "old@example.com");
    fs::write(root.join("storage/c/r/photo.png"), "old photo").unwrap();
    fs::write(root.join("backups/a.zip"), "a backup").unwrap();
    fs::write(root.join("only_in_the_old"), "x").unwrap();
    fs::create_dir_all(root.join("extra/inner/sub")).unwrap();
    fs::write(root.join("extra/beside"), "old").unwrap();
    fs::write(root.join("extra/inner/sub/x"), "old").unwrap();
}

/// As an archive of PocketBase: a database whose last rows are in its write-ahead log.
pub(crate) fn make_new(root: &Path) {
    fs::create_dir_all(root.join("storage/c/r")).unwrap();
    make_databases(root, "new@example.com");
    fs::remove_file(root.join("auxiliary.db")).unwrap();
    fs::write(root.join("storage/c/r/photo.png"), "new photo").unwrap();
    fs::write(root.join("only_in_the_new"), "y").unwrap();
    fs::create_dir_all(root.join("extra/inner")).unwrap();
    fs::write(root.join("extra/beside"), "new").unwrap();
    fs::write(root.join("extra/inner/y"), "new").unwrap();
}

fn make_databases(root: &Path, email: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = root.join("data.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let mut connection = options.connect().await.unwrap();
        for sql in [
            "CREATE TABLE _params (id TEXT PRIMARY KEY, value JSON)",
            "CREATE TABLE _collections (id TEXT PRIMARY KEY, name TEXT)",
            "CREATE TABLE _superusers (id TEXT PRIMARY KEY, email TEXT, password TEXT)",
            "PRAGMA wal_checkpoint(TRUNCATE)",
        ] {
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        sqlx::query("INSERT INTO _superusers VALUES ('1', ?, 'x')")
            .bind(email)
            .execute(&mut connection)
            .await
            .unwrap();
        // Copied away while it is open: the row above is in the log only.
        for name in ["data.db", "data.db-wal", "data.db-shm"] {
            fs::copy(root.join(name), root.join(format!("{name}.copy"))).unwrap();
        }
        sqlx::Connection::close(connection).await.unwrap();
    });
    for name in ["data.db", "data.db-wal", "data.db-shm"] {
        fs::rename(root.join(format!("{name}.copy")), root.join(name)).unwrap();
    }
    assert!(fs::metadata(root.join("data.db-wal")).unwrap().len() > 0);
    fs::write(root.join("auxiliary.db"), "logs, never opened here").unwrap();
}
