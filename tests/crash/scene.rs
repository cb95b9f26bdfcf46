//! What the crash tests play with: a folder with old data, new data to restore, and the acts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use pocketvault::backup::Key;
use pocketvault::clock::Clock;
use pocketvault::control::Control;
use pocketvault::data_dir::DataDir;
use pocketvault::error::Result;
use pocketvault::restore::{self, Recovery, StageOptions};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use tempfile::TempDir;

/// What the child does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// Stages, commits, swaps, proves.
    Restore,
    /// Swaps back what was swapped in and opened.
    RollBack,
    /// Brings back the data from before a proven restore.
    Undo,
    /// Only what happens at boot.
    Recover,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// By SIGKILL.
    Killed,
    /// By itself; what it said.
    Said(String),
}

/// Every file with its bytes, every folder without.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Prepared folders, and what they must look like afterwards.
pub(crate) struct Scene {
    home: TempDir,
    old: Tree,
    new: Tree,
}

pub(crate) fn clock() -> Clock {
    Clock::fixed("2026-11-21T09:00:00Z".parse().unwrap())
}

pub(crate) fn data(root: &Path) -> DataDir {
    DataDir::new(root.join("pb_data"), None)
}

impl Act {
    pub(crate) fn from_environment() -> Self {
        match std::env::var("CRASH_ACT").unwrap().as_str() {
            "Restore" => Self::Restore,
            "RollBack" => Self::RollBack,
            "Undo" => Self::Undo,
            "Recover" => Self::Recover,
            other => panic!("unknown act {other}"),
        }
    }

    /// Errors are outcomes here: the parent looks at what they left.
    pub(crate) fn play(self, root: &Path) -> Result<()> {
        let data = data(root);
        match self {
            Self::Restore => {
                stage(&data, &root.join("archive"))?;
                recover_and_prove(&data)
            }
            Self::RollBack => restore::roll_back(&data, "it did not open", &clock()).map(|_| ()),
            Self::Undo => {
                restore::undo(&data, &clock())?;
                recover_and_prove(&data)
            }
            Self::Recover => recover_and_prove(&data),
        }
    }
}

impl Scene {
    /// `None`, said aloud, in builds without fail points.
    pub(crate) fn new() -> Option<Self> {
        if pocketvault::failpoint::calls().is_none() {
            println!("SKIPPED: this build has no fail points (feature `failpoints`)");
            return None;
        }
        // Memory, where there is: thousands of syncs, and nobody cuts the power here.
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let before = home.path().join("Restore");
        make_old(&before.join("pb_data"));
        make_new(&before.join("archive"));
        let old = tree(&before.join("pb_data"));

        let swapped = home.path().join("RollBack");
        copy(&before, &swapped);
        stage(&data(&swapped), &swapped.join("archive")).unwrap();
        let recovery = restore::recover(&data(&swapped), &clock()).unwrap();
        assert!(matches!(recovery, Recovery::Swapped { attempt: 1, .. }), "{recovery:?}");
        let new = tree(&swapped.join("pb_data"));

        let proven = home.path().join("Undo");
        copy(&swapped, &proven);
        restore::prove(&data(&proven), &clock()).unwrap();
        // The application left its mark before it failed.
        for name in ["data.db-wal", "data.db-shm", "made_by_the_application"] {
            fs::write(swapped.join("pb_data").join(name), name).unwrap();
        }
        assert_ne!(old, new);
        Some(Self { home, old, new })
    }

    /// A copy of the folder in which an act begins.
    pub(crate) fn fresh(&self, act: Act) -> TempDir {
        let root = tempfile::tempdir_in(self.home.path()).unwrap();
        copy(&self.home.path().join(format!("{act:?}")), root.path());
        root
    }

    /// How many calls the act makes when nothing goes wrong.
    pub(crate) fn calls(&self, act: Act) -> u64 {
        let root = self.fresh(act);
        let Ending::Said(text) = self.run(act, root.path(), "CRASH_NEVER", "") else {
            panic!("{act:?} was killed")
        };
        let (calls, ending) = text.split_once(' ').unwrap();
        assert_eq!(ending, "Ok(())", "{act:?}");
        self.must_be_whole(root.path(), "undisturbed");
        calls.parse().unwrap()
    }

    /// Plays an act in a process of its own.
    pub(crate) fn run(&self, act: Act, root: &Path, variable: &str, value: &str) -> Ending {
        let report = root.join("report");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--test-threads=1"])
            .env("CRASH_ACT", format!("{act:?}"))
            .env("CRASH_ROOT", root)
            .env("CRASH_REPORT", &report)
            .env(variable, value)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if status.signal() == Some(9) {
            return Ending::Killed;
        }
        assert!(status.success(), "{act:?} with {variable}={value} panicked");
        Ending::Said(fs::read_to_string(report).unwrap())
    }

    /// Calls `check` for 1 to `count` on all processors; how many were tried.
    pub(crate) fn in_parallel(&self, count: u64, check: impl Fn(u64, &Self) + Sync) -> u64 {
        let next = AtomicU64::new(1);
        let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get() + 1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number > count {
                            break;
                        }
                        check(number, self);
                    }
                });
            }
        });
        count
    }

    /// Starts as a server does, and looks at everything.
    pub(crate) fn must_be_whole(&self, root: &Path, when: &str) {
        let data = data(root);
        let recovery =
            restore::recover(&data, &clock()).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let live = self.live(root, when);
        match &recovery {
            Recovery::Swapped { .. } => restore::prove(&data, &clock()).unwrap(),
            Recovery::RolledBack { reason, .. } => assert!(!reason.is_empty(), "{when}"),
            Recovery::Nothing { .. } => {}
        }
        let again = restore::recover(&data, &clock()).unwrap();
        assert!(matches!(again, Recovery::Nothing { .. }), "{when}: {again:?}");
        assert_eq!(self.live(root, when), live, "{when}: the second start changed the data");
        self.other_must_be_kept(&data, &live, when);
    }

    /// The live data, which is exactly the old or exactly the new.
    fn live(&self, root: &Path, when: &str) -> Tree {
        let mut live = tree(&root.join("pb_data"));
        if live != self.old {
            // What the application made besides goes wherever the new data goes.
            live.retain(|path, _| self.new.contains_key(path));
            let is = describe(&live);
            assert!(live == self.new, "{when}: neither old nor new: {is}");
        }
        live
    }

    /// New data in place means that the old is kept, whole, and nothing else is.
    fn other_must_be_kept(&self, data: &DataDir, live: &Tree, when: &str) {
        let mut shelves = BTreeMap::new();
        for id in fs::read_dir(data.restore()).into_iter().flatten() {
            let id = id.unwrap();
            if id.file_name() == "journal" {
                continue;
            }
            for shelf in fs::read_dir(id.path()).unwrap() {
                let shelf = shelf.unwrap();
                let content = tree(&shelf.path());
                if !content.is_empty() {
                    shelves.insert(shelf.path(), content);
                }
            }
        }
        let holds = |wanted: &Tree| shelves.values().any(|content| contains(content, wanted));
        let undo = restore::status(data).unwrap().and_then(|status| status.undo);
        if live == &self.new {
            assert!(undo.is_none() || holds(&self.old), "{when}: the old data is gone");
            assert!(undo.is_some(), "{when}: no undo is offered");
        } else if undo.is_some() {
            assert!(holds(&self.new), "{when}: the undone data is gone");
        }
        assert!(shelves.len() <= 1, "{when}: left behind: {:?}", shelves.keys());
    }
}

/// Stages the folder `archive` as an archive would be, and commits.
fn stage(data: &DataDir, archive: &Path) -> Result<()> {
    let options =
        StageOptions { key: Key::existing("a.zip")?, size_bytes: 1 << 16, now: clock().now() };
    let unpack = |into: &Path| {
        copy(archive, into);
        Ok(())
    };
    restore::stage_with(data, &options, &Control::default(), unpack)?.commit()
}

fn recover_and_prove(data: &DataDir) -> Result<()> {
    if let Recovery::Swapped { .. } = restore::recover(data, &clock())? {
        restore::prove(data, &clock())?;
    }
    Ok(())
}

fn contains(content: &Tree, wanted: &Tree) -> bool {
    // Backups stay where they are in every restore.
    let mut moved = wanted.iter().filter(|(path, _)| !path.starts_with("backups"));
    moved.all(|(path, bytes)| content.get(path) == Some(bytes))
}

fn describe(tree: &Tree) -> String {
    let line = |(path, bytes): (&PathBuf, &Option<Vec<u8>>)| {
        format!("{} {:?}", path.display(), bytes.as_ref().map(Vec::len))
    };
    tree.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// Everything below a folder but our own state.
fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if relative.starts_with(".pocketvault") {
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

fn copy(from: &Path, to: &Path) {
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
fn make_old(root: &Path) {
    fs::create_dir_all(root.join("storage/c/r")).unwrap();
    fs::create_dir_all(root.join("backups")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    make_databases(root, "old@example.com", true);
    fs::write(root.join("storage/c/r/photo.png"), "old photo").unwrap();
    fs::write(root.join("backups/a.zip"), "a backup").unwrap();
    fs::write(root.join("only_in_the_old"), "x").unwrap();
}

/// As an archive of PocketBase: a database whose last rows are in its write-ahead log.
fn make_new(root: &Path) {
    fs::create_dir_all(root.join("storage/c/r")).unwrap();
    make_databases(root, "new@example.com", true);
    fs::remove_file(root.join("auxiliary.db")).unwrap();
    fs::write(root.join("storage/c/r/photo.png"), "new photo").unwrap();
    fs::write(root.join("only_in_the_new"), "y").unwrap();
}

fn make_databases(root: &Path, email: &str, with_log: bool) {
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
        if with_log {
            // Copied away while it is open: the row above is in the log only.
            for name in ["data.db", "data.db-wal", "data.db-shm"] {
                fs::copy(root.join(name), root.join(format!("{name}.copy"))).unwrap();
            }
        }
        sqlx::Connection::close(connection).await.unwrap();
    });
    if with_log {
        for name in ["data.db", "data.db-wal", "data.db-shm"] {
            fs::rename(root.join(format!("{name}.copy")), root.join(name)).unwrap();
        }
        assert!(fs::metadata(root.join("data.db-wal")).unwrap().len() > 0);
    }
    fs::write(root.join("auxiliary.db"), "logs, never opened here").unwrap();
}
