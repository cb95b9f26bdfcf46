//! What the tests share: folders, databases that keep an invariant, readers, other processes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::sqlite::raw::{Connection, Mode};
use super::super::{Access, PocketBaseFolder, Snapshot};
use crate::backup::Items;
use crate::control::Control;
use crate::data_dir::DataDir;
use crate::error::Result;

/// Accounts in a test database, and the sum of their balances at every commit.
pub(super) const ACCOUNTS: i64 = 40;
pub(super) const SUM: i64 = ACCOUNTS * 1_000;

pub(super) type Archive = BTreeMap<String, Vec<u8>>;

pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// In memory where that is possible, for tests that make very many files.
    pub(super) fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self(folder.expect("a folder"))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        self.source(Access::ReadOnly).pin(&Control::default())
    }

    pub(super) fn source(&self, access: Access) -> PocketBaseFolder {
        PocketBaseFolder::new(DataDir::new(self.root(), None), access)
    }

    /// Takes a whole snapshot.
    pub(super) fn archive(&self) -> Archive {
        read(&mut self.snapshot().expect("a snapshot"))
    }
}

/// Reads all items in order; the names in that order are in the second part.
pub(super) fn read_in_order(snapshot: &mut Snapshot) -> (Archive, Vec<String>) {
    let (mut archive, mut order) = (Archive::new(), Vec::new());
    while let Some(item) = snapshot.next().expect("the next item") {
        let path = String::from_utf8_lossy(item.entry.path.as_bytes()).into_owned();
        let Some(mut content) = item.content.open().expect("opened") else { continue };
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).expect("read");
        assert!(archive.insert(path.clone(), bytes).is_none(), "{path} came twice");
        order.push(path);
    }
    (archive, order)
}

pub(super) fn read(snapshot: &mut Snapshot) -> Archive {
    read_in_order(snapshot).0
}

/// A database for writing at `path`, made if it is not there.
pub(super) fn database(path: &Path) -> Connection {
    if !path.exists() {
        std::fs::write(path, b"").expect("created");
    }
    Connection::open(path, Mode::ReadWrite).expect("opened")
}

/// A database in WAL mode with the accounts and some ballast.
pub(super) fn bank(path: &Path, page_size: u32) -> Connection {
    let bank = database(path);
    for sql in [
        &format!("PRAGMA page_size = {page_size}"),
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = OFF",
        "PRAGMA wal_autocheckpoint = 0",
        "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT)",
        "CREATE TABLE ballast (id INTEGER PRIMARY KEY, bytes BLOB)",
        "CREATE INDEX account_balance ON account (balance, note)",
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
             INSERT INTO account SELECT i, 1000, hex(randomblob(100)) FROM n"
        ),
    ] {
        bank.exec(sql).expect(sql);
    }
    bank
}

/// One transaction that keeps the sum: random transfer, and the file grows or shrinks.
pub(super) fn transfer(bank: &Connection, round: i64) {
    let (from, to) = (round * 7 % ACCOUNTS + 1, round * 13 % ACCOUNTS + 1);
    for sql in [
        "BEGIN IMMEDIATE",
        &format!("UPDATE account SET balance = balance - {round} WHERE id = {from}"),
        &format!(
            "UPDATE account SET balance = balance + {round}, note = hex(randomblob(90))
             WHERE id = {to}"
        ),
        "INSERT INTO ballast (bytes) VALUES (randomblob(abs(random() % 9000)))",
        &format!("DELETE FROM ballast WHERE {round} % 50 = 0"),
        "COMMIT",
    ] {
        bank.exec(sql).expect(sql);
    }
}

/// Checks a database file that stands alone: whole, writable, and the sum is right.
pub(super) fn check_alone(bytes: &[u8]) {
    check_sum_alone(bytes, SUM);
}

/// As [`check_alone`], with this sum.
pub(super) fn check_sum_alone(bytes: &[u8], sum: i64) {
    let folder = Folder::new();
    folder.write("alone.db", bytes);
    let alone = database(&folder.path("alone.db"));
    assert_eq!(alone.text("PRAGMA integrity_check").expect("checked"), "ok");
    assert_eq!(alone.integer("SELECT sum(balance) FROM account").expect("summed"), sum);
    alone.exec("UPDATE account SET balance = balance").expect("writable");
}

/// Another process with SQLite of its own, driven by lines. `None`, said aloud, without Python.
pub(super) struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    pub(super) fn start(script: &str) -> Option<Self> {
        let usable = Command::new("python3").args(["-c", "import sqlite3"]).output();
        if !usable.is_ok_and(|output| output.status.success()) {
            aloud("SKIPPED: no python3 with sqlite3, so no second process writes in this test");
            return None;
        }
        let mut child = Command::new("python3")
            .args(["-u", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Some(Self { child, input, output })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line.
    pub(super) fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("not ended");
        writeln!(input, "{line}").expect("sent");
    }

    /// Receives one line.
    pub(super) fn receive(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("answered");
        assert!(!line.is_empty(), "the other process died");
        line.trim_end().to_owned()
    }

    /// Sends one line and receives one.
    pub(super) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    /// Ends it and waits for its clean end.
    pub(super) fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().expect("ended").success());
    }
}

/// Tells a thread to stop as soon as the test leaves its scope, also by a failed assertion:
/// otherwise the scope would wait for the thread for ever.
pub(super) struct StopOnDrop<'a>(pub(super) &'a AtomicBool);

impl Drop for Python {
    fn drop(&mut self) {
        // After a failed assertion; a clean end has waited for it already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Past the test harness's capture.
pub(super) fn aloud(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
