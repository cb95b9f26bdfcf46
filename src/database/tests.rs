//! The databases of one folder, and what their close leaves to another program.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use super::*;

/// Another program that owns a folder, as PocketBase does after a backup: it reads its files
/// by plain opens, and their closes drop every lock that its connection held for its life.
const LOCKLESS_OWNER: &str = r#"
import sqlite3, sys
name = sys.argv[1]
connection = sqlite3.connect(name, isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL").fetchall()
for line in sys.stdin:
    if line.strip() == "drop":
        for suffix in ("", "-wal", "-shm"):
            open(name + suffix, "rb").close()
    else:
        connection.execute("INSERT INTO t VALUES (?)", (int(line),))
    rows = connection.execute("SELECT group_concat(n) FROM (SELECT n FROM t ORDER BY n)")
    print(rows.fetchone()[0], flush=True)
"#;

async fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for name in [DATA_DB, AUXILIARY_DB] {
        let options =
            connect_options(&dir.path().join(name), Access::ReadWrite).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.expect("created");
        sqlx::query("CREATE TABLE t (n INTEGER)").execute(&pool).await.expect("a table");
        pool.close().await;
    }
    dir
}

async fn pragma(pool: &SqlitePool, name: &str) -> String {
    let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.expect(name)
}

#[tokio::test]
async fn connections_share_no_lock_for_their_page_caches() {
    let dir = folder().await;
    let pool =
        SqlitePool::connect_with(connect_options(&dir.path().join(DATA_DB), Access::ReadOnly))
            .await
            .expect("opened");
    let options: Vec<String> = sqlx::query_scalar("PRAGMA compile_options")
        .fetch_all(&pool)
        .await
        .expect("SQLite tells how it was built");
    // .cargo/config.toml takes it away.
    assert!(!options.iter().any(|option| option == "ENABLE_MEMORY_MANAGEMENT"), "{options:?}");
}

#[tokio::test]
async fn our_own_folder_is_opened_with_pocketbase_s_pragmas() {
    let dir = folder().await;
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    for pool in [database.data(), database.auxiliary()] {
        let timeout: i64 =
            sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(pool).await.expect("set");
        assert_eq!(timeout, 10_000);
        assert_eq!(pragma(pool, "journal_mode").await, "wal");
        assert_eq!(pragma(pool, "synchronous").await, "1");
        assert_eq!(pragma(pool, "foreign_keys").await, "1");
        assert_eq!(pragma(pool, "journal_size_limit").await, "200000000");
    }
    assert!(dir.path().join("data.db-wal").exists());
    database.close().await;
    database.close().await;
}

#[tokio::test]
async fn a_foreign_folder_is_read_and_never_written() {
    let dir = folder().await;
    let owner = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    sqlx::query("INSERT INTO t VALUES (7)").execute(owner.data()).await.expect("written");
    let reader = Database::open(dir.path(), Access::ReadOnly).expect("opened");
    let read: i64 =
        sqlx::query_scalar("SELECT n FROM t").fetch_one(reader.data()).await.expect("read");
    assert_eq!(read, 7);
    let refused = sqlx::query("INSERT INTO t VALUES (8)").execute(reader.data()).await;
    assert!(refused.expect_err("refused").to_string().contains("readonly"));
    assert_eq!(reader.require_write().expect_err("refused").kind(), &Kind::Unavailable);
    reader.close().await;
    assert!(dir.path().join("data.db-wal").exists(), "the owner's log is still there");
    owner.close().await;
}

#[tokio::test]
async fn a_folder_without_a_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = Database::open(dir.path(), Access::ReadWrite).expect_err("refused");
    assert_eq!(error.kind(), &Kind::NotFound);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn names_are_quoted_so_that_they_cannot_end_the_quotation() {
    assert_eq!(quote_identifier("users"), "\"users\"");
    assert_eq!(quote_identifier("a\" OR 1"), "\"a\"\" OR 1\"");
}

#[tokio::test]
async fn a_clean_close_empties_the_log_and_leaves_it_there() {
    let dir = folder().await;
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    for pool in [database.data(), database.auxiliary()] {
        insert(pool, 7).await;
    }
    database.close().await;
    for name in [DATA_DB, AUXILIARY_DB] {
        assert_eq!(fs::metadata(log(dir.path(), name)).expect("still there").len(), 0);
        let alone = dir.path().join("alone.db");
        fs::copy(dir.path().join(name), &alone).expect("copied without its log");
        let read = SqlitePool::connect_with(connect_options(&alone, Access::ReadOnly)).await;
        assert_eq!(numbers(&read.expect("opened")).await, [7], "{name}");
    }
}

#[tokio::test]
async fn a_close_waits_shortly_for_a_reader_and_loses_nothing() {
    let dir = folder().await;
    let reader = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    let mut reading = reader.data().begin().await.expect("begun");
    sqlx::query("SELECT n FROM t").fetch_all(&mut *reading).await.expect("read");
    let writer = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    insert(writer.data(), 7).await;
    let begun = Instant::now();
    writer.close().await;
    assert!(begun.elapsed() < BUSY_TIMEOUT / 2, "{:?}", begun.elapsed());
    assert!(fs::metadata(log(dir.path(), DATA_DB)).expect("still there").len() > 0);
    reading.rollback().await.expect("ended");
    assert_eq!(numbers(reader.data()).await, [7]);
    reader.close().await;
}

#[tokio::test]
async fn the_file_is_not_looked_at_before_the_log_is_safe() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(DATA_DB);
    fs::write(&path, "no database, and longer than the header of one ".repeat(9)).expect("made");
    SqlitePool::connect_with(untouched_options(&path)).await.expect("never looked");
    let begun = Instant::now();
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    let error = sqlx::query("SELECT 1 FROM t").execute(database.data()).await;
    assert!(error.expect_err("refused").to_string().contains("not a database"));
    assert!(begun.elapsed() < ACQUIRE_TIMEOUT / 2, "named at once");
    database.close().await;
}

#[tokio::test]
async fn a_lockless_owner_loses_nothing_by_our_close() {
    let dir = folder().await;
    let Some(mut owner) = Owner::start(dir.path()) else { return };
    assert_eq!(owner.ask("1"), "1");
    assert_eq!(owner.ask("drop"), "1");
    for ours in [2, 4] {
        let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
        insert(database.data(), ours).await;
        database.close().await;
        owner.ask(&(ours + 1).to_string());
    }
    assert_eq!(owner.ask("6"), "1,2,3,4,5,6", "the owner sees everything");
    owner.kill();
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    assert_eq!(numbers(database.data()).await, [1, 2, 3, 4, 5, 6]);
    database.close().await;
}

/// Proves the test before: this is what SQLite does by default.
#[tokio::test]
async fn a_lockless_owner_loses_writes_by_a_plain_close() {
    let dir = folder().await;
    let Some(mut owner) = Owner::start(dir.path()) else { return };
    assert_eq!(owner.ask("1"), "1");
    assert_eq!(owner.ask("drop"), "1");
    let options = connect_options(&dir.path().join(DATA_DB), Access::ReadWrite);
    let plain = SqlitePool::connect_with(options).await.expect("opened");
    insert(&plain, 2).await;
    plain.close().await;
    assert!(!log(dir.path(), DATA_DB).exists(), "the live log is gone");
    owner.ask("3");
    owner.kill();
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    assert_eq!(numbers(database.data()).await, [1, 2], "3 was lost");
    database.close().await;
}

async fn insert(pool: &SqlitePool, number: i64) {
    sqlx::query("INSERT INTO t VALUES (?)").bind(number).execute(pool).await.expect("written");
}

async fn numbers(pool: &SqlitePool) -> Vec<i64> {
    sqlx::query_scalar("SELECT n FROM t ORDER BY n").fetch_all(pool).await.expect("read")
}

fn log(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{name}-wal"))
}

/// A process that runs [`LOCKLESS_OWNER`]; killed when it is dropped.
struct Owner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Owner {
    /// `None`, said aloud, where Python or its SQLite is missing.
    fn start(root: &Path) -> Option<Self> {
        let usable = Command::new("python3").args(["-c", "import sqlite3"]).output();
        if !usable.is_ok_and(|output| output.status.success()) {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no python3 with sqlite3");
            return None;
        }
        let mut child = Command::new("python3")
            .args(["-u", "-c", LOCKLESS_OWNER])
            .arg(root.join(DATA_DB))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Some(Self { child, input, output })
    }

    /// Inserts a number or drops the locks; answers all numbers that the owner sees then.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("sent");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("answered");
        answer.trim_end().to_owned()
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
