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
use pocketvault::restore::{self, Recovery, Scope, StageOptions};
use tempfile::TempDir;

use crate::ground::{Ground, Root, Tree, contains, copy, describe, make_new, make_old, tree};

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

/// Prepared folders, and what they must look like afterwards.
pub(crate) struct Scene {
    ground: Ground,
    /// In the order in which an act's number finds its own.
    stages: [(Act, Root); 3],
    old: Tree,
    new: Tree,
    home: TempDir,
}

/// What the application writes beside the new data before it fails.
const MARKS: [&str; 3] = ["data.db-wal", "data.db-shm", "made_by_the_application"];

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
    pub(crate) fn new(ground: Ground) -> Option<Self> {
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
        let root = || Root::new(home.path(), ground);
        let (before, swapped, proven) = (root(), root(), root());
        make_old(&before.path().join("pb_data"));
        make_new(&before.path().join("archive"));
        let old = tree(&before.path().join("pb_data"));

        copy(before.path(), swapped.path());
        stage(&data(swapped.path()), &swapped.path().join("archive")).unwrap();
        let recovery = restore::recover(&data(swapped.path()), &clock()).unwrap();
        assert!(matches!(recovery, Recovery::Swapped { attempt: 1, .. }), "{recovery:?}");
        let new = tree(&swapped.path().join("pb_data"));

        copy(swapped.path(), proven.path());
        restore::prove(&data(proven.path()), &clock()).unwrap();
        // What an even earlier restore kept: trash once the next one is over.
        let earlier = proven.path().join("pb_data/.pocketvault/restore/earlier/old/storage/c");
        fs::create_dir_all(&earlier).unwrap();
        fs::write(earlier.join("photo"), "oldest").unwrap();
        for name in MARKS {
            fs::write(swapped.path().join("pb_data").join(name), name).unwrap();
        }
        assert_ne!(old, new);
        let stages = [(Act::Restore, before), (Act::RollBack, swapped), (Act::Undo, proven)];
        Some(Self { ground, stages, old, new, home })
    }

    /// A copy of the folder in which an act begins.
    pub(crate) fn fresh(&self, act: Act) -> Root {
        let (_, template) = self.stages.iter().find(|(stage, _)| *stage == act).unwrap();
        let root = Root::new(self.home.path(), self.ground);
        copy(template.path(), root.path());
        root
    }

    /// Whether the data of a folder is what the act wanted.
    pub(crate) fn has_succeeded(&self, act: Act, root: &Path) -> bool {
        let wanted = if act == Act::Restore { &self.new } else { &self.old };
        &tree(&root.join("pb_data")) == wanted
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
        play(root, ("CRASH_ACT", &format!("{act:?}")), (variable, value))
    }

    /// Plays the restore of a part and its undo in a process of its own.
    pub(crate) fn run_part(&self, scope: &str, root: &Path, variable: &str, value: &str) -> Ending {
        play(root, ("CRASH_SCOPE", scope), (variable, value))
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
        restore::empty_trash(&data);
        self.other_must_be_kept(&data, &live, when);
    }

    /// The live data, which is exactly the old or exactly the new.
    fn live(&self, root: &Path, when: &str) -> Tree {
        let mut live = tree(&root.join("pb_data"));
        if live != self.old {
            // What the application wrote beside the new data may still be there.
            live.retain(|path, bytes| {
                let mark = MARKS.iter().find(|mark| Path::new(mark) == path);
                mark.is_none_or(|mark| bytes.as_deref() != Some(mark.as_bytes()))
            });
            let is = describe(&live);
            assert!(live == self.new, "{when}: neither old nor new: {is}");
        }
        live
    }

    /// New data in place means that the old is kept, whole, and nothing else is.
    fn other_must_be_kept(&self, data: &DataDir, live: &Tree, when: &str) {
        // Keyed by what lies below a bay, so that the parts of all places come together.
        let mut shelves = BTreeMap::<PathBuf, Tree>::new();
        for place in ["", "extra", "extra/inner", "storage"] {
            let bay = data.root().join(place).join(".pocketvault/restore");
            let Ok(ids) = fs::read_dir(&bay) else { continue };
            for id in ids.map(|id| id.unwrap()).filter(|id| id.file_name() != "journal") {
                for shelf in fs::read_dir(id.path()).unwrap() {
                    let shelf = shelf.unwrap().path();
                    let found = tree(&shelf);
                    if found.is_empty() {
                        continue;
                    }
                    let parts =
                        shelves.entry(shelf.strip_prefix(&bay).unwrap().to_owned()).or_default();
                    parts.extend(Path::new(place).ancestors().map(|dir| (dir.to_owned(), None)));
                    parts.extend(found.into_iter().map(|(p, b)| (Path::new(place).join(p), b)));
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

/// The child, with one order and one fault.
fn play(root: &Path, order: (&str, &str), fault: (&str, &str)) -> Ending {
    let report = root.join("report");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--test-threads=1"])
        .env(order.0, order.1)
        .env("CRASH_ROOT", root)
        .env("CRASH_REPORT", &report)
        .env(fault.0, fault.1)
        .env("POCKETVAULT_TRACE", root.join("trace"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    if status.signal() == Some(9) {
        return Ending::Killed;
    }
    assert!(status.success(), "{order:?} with {fault:?} panicked");
    Ending::Said(fs::read_to_string(report).unwrap())
}

/// Stages the folder `archive` as an archive would be, and commits.
fn stage(data: &DataDir, archive: &Path) -> Result<()> {
    let options = StageOptions {
        key: Key::existing("a.zip")?,
        scope: Scope::All,
        size_bytes: 1 << 16,
        now: clock().now(),
    };
    let unpack = |into: &Path| {
        copy(archive, into);
        Ok(())
    };
    restore::stage_with(data, &options, &Control::default(), unpack)?.commit()
}

pub(crate) fn recover_and_prove(data: &DataDir) -> Result<()> {
    if let Recovery::Swapped { .. } = restore::recover(data, &clock())? {
        restore::prove(data, &clock())?;
    }
    restore::empty_trash(data);
    Ok(())
}
