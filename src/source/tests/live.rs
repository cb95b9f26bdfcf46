//! Snapshots of a database while it is written to: whole, of one moment, in nobody's way.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::{
    Folder, Python, SUM, StopOnDrop, bank, check_alone, check_sum_alone, database, read, transfer,
};
use crate::backup::Items;

#[test]
fn a_thousand_snapshots_under_a_writer_are_whole_and_of_one_moment() {
    let folder = Folder::new();
    let writer = bank(&folder.path("data.db"), 1_024);
    let stop = AtomicBool::new(false);
    let commits = thread::scope(|scope| {
        let stop = &stop;
        let writing = scope.spawn(move || {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                transfer(&writer, round);
                let checkpoint = ["PASSIVE", "RESTART", "TRUNCATE", "PASSIVE"][round as usize % 4];
                if round % 9 == 0 {
                    // A busy checkpoint gives up; that is its business.
                    let _ = writer.exec("PRAGMA busy_timeout = 1");
                    let _ = writer.exec(&format!("PRAGMA wal_checkpoint({checkpoint})"));
                    let _ = writer.exec("PRAGMA busy_timeout = 10000");
                }
                round += 1;
            }
            round
        });
        let _end = StopOnDrop(stop);
        for _ in 0..1_000 {
            check_alone(&folder.archive()["data.db"]);
        }
        stop.store(true, Ordering::Relaxed);
        writing.join().expect("the writer went on")
    });
    assert!(commits > 50, "only {commits} commits beside 1,000 snapshots");
}

/// Commits without pause; dies when a commit has to wait for a lock for a quarter of a second.
/// (SQLite counts only what it sleeps, so a slow machine alone does not kill it.)
const PYTHON_WRITER: &str = r#"
import sqlite3, sys, random, select
db = sqlite3.connect(sys.stdin.readline().strip(), isolation_level=None, timeout=0.25)
db.execute("PRAGMA synchronous = OFF")
db.execute("PRAGMA wal_autocheckpoint = 50")
print("ready")
commits = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    a, b, n = random.randint(1, 40), random.randint(1, 40), random.randint(1, 500)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (n, a))
    note = str(n) * n
    db.execute("UPDATE account SET balance = balance + ?, note = ? WHERE id = ?", (n, note, b))
    db.execute("COMMIT")
    commits += 1
print(commits)
db.close()
"#;

#[test]
fn a_second_process_writes_without_waiting_and_every_snapshot_is_whole() {
    let Some(mut python) = Python::start(PYTHON_WRITER) else { return };
    let folder = Folder::new();
    drop(bank(&folder.path("data.db"), 4_096));
    assert_eq!(python.ask(&folder.path("data.db").display().to_string()), "ready");
    let mut snapshots = 0;
    let until = Instant::now() + Duration::from_secs(3);
    while snapshots < 60 || Instant::now() < until {
        check_alone(&folder.archive()["data.db"]);
        snapshots += 1;
    }
    let commits: u32 = python.ask("stop").parse().expect("a number");
    assert!(commits > 50, "only {commits} commits beside {snapshots} snapshots");
    python.end();
    let whole = database(&folder.path("data.db"));
    assert_eq!(whole.integer("SELECT sum(balance) FROM account").expect("summed"), SUM);
}

/// An owner as PocketBase is one: two connections that stay open.
const PYTHON_OWNER: &str = r#"
import sqlite3, sys
path = sys.stdin.readline().strip()
dbs = [sqlite3.connect(path, isolation_level=None, timeout=10) for _ in range(2)]
for db in dbs:
    db.execute("SELECT count(*) FROM account").fetchone()
print("ready")
for line in sys.stdin:
    print(dbs[0].execute(line).fetchone())
for db in dbs:
    db.close()
"#;

/// Opens, reads, closes, as `sqlite3 data.db 'select …'` does.
const PYTHON_PASSER_BY: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.stdin.readline().strip(), timeout=10)
print(db.execute("SELECT sum(balance) FROM account").fetchone()[0])
db.close()
"#;

#[test]
fn the_owner_keeps_its_locks_and_a_passer_by_harms_nothing() {
    let Some(mut owner) = Python::start(PYTHON_OWNER) else { return };
    let folder = Folder::new();
    let path = folder.path("data.db");
    drop(bank(&path, 4_096));
    assert_eq!(owner.ask(&path.display().to_string()), "ready");
    owner.ask("UPDATE account SET balance = balance + 5 WHERE id = 1 RETURNING 1");
    // Connections of our own process, as sqlx keeps them.
    let ours = database(&path);
    ours.exec("SELECT count(*) FROM account").expect("read");
    // A connection in WAL mode holds one lock on the database and one on the shared memory.
    let shared_memory = folder.path("data.db-shm");
    let assert_locked = |pid| assert_locked(pid, [&path, &shared_memory]);
    assert_locked(owner.pid());
    assert_locked(std::process::id());
    let pass_by = |sum: i64| {
        let mut passer_by = Python::start(PYTHON_PASSER_BY).expect("python3 is there");
        assert_eq!(passer_by.ask(&path.display().to_string()), sum.to_string());
        passer_by.end();
        assert!(folder.path("data.db-wal").exists(), "the live log was removed");
    };
    for _ in 0..3 {
        let mut snapshot = folder.snapshot().expect("a snapshot");
        let item = snapshot.next().expect("an item").expect("data.db");
        let mut content = item.content.open().expect("opened").expect("there");
        let mut bytes = vec![0; 5_000];
        content.read_exact(&mut bytes).expect("the first pages");
        // In the middle of the backup.
        assert_locked(owner.pid());
        assert_locked(std::process::id());
        pass_by(SUM + 5);
        owner.ask("UPDATE account SET note = 'in between' WHERE id = 2 RETURNING 1");
        content.read_to_end(&mut bytes).expect("the rest");
        check_sum_alone(&bytes, SUM + 5);
        assert!(read(&mut snapshot).is_empty(), "nothing else was there");
        drop((content, snapshot));
        // And after it.
        assert_locked(owner.pid());
        assert_locked(std::process::id());
    }
    drop(ours);
    assert_locked(owner.pid());

    pass_by(SUM + 5);
    owner.ask("UPDATE account SET balance = balance - 5 WHERE id = 1 RETURNING 1");
    check_alone(&folder.archive()["data.db"]);
    owner.end();
    check_alone(&std::fs::read(&path).expect("read"));
}

/// That a process holds a lock on each of these files. The kernel's list is not read in one
/// moment, so a lock can be passed over while others come and go: it must show in one of many
/// readings.
fn assert_locked(pid: u32, files: [&Path; 2]) {
    let mut unseen: Vec<u64> =
        files.iter().map(|path| std::fs::metadata(path).expect("there").ino()).collect();
    for _ in 0..100 {
        let all = std::fs::read_to_string("/proc/locks").expect("the kernel's list of locks");
        for line in all.lines() {
            // `7: POSIX  ADVISORY  READ 1234 fe:00:5678 128 128`
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "POSIX", _, _, owner, file, ..] = fields.as_slice() else { continue };
            let inode = file.rsplit(':').next().and_then(|inode| inode.parse().ok());
            if *owner == pid.to_string() {
                unseen.retain(|unseen| Some(*unseen) != inode);
            }
        }
        if unseen.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("process {pid} has lost its locks on {unseen:?} of {files:?}");
}
