//! Every file that a record of the archived database names is in the archive.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::super::sqlite::raw::{Connection, Mode};
use super::super::{Access, Reason, Snapshot};
use super::support::{Archive, Folder, Python, StopOnDrop, database, read};
use crate::backup::{Item, Items};
use crate::control::Control;

const COLLECTIONS: &str = r#"
INSERT INTO _collections (id, type, name, fields) VALUES
    ('c1', 'base', 'posts', '[{"name":"title","type":"text"},{"name":"one","type":"file"},
        {"name":"many","type":"file","maxSelect":9}]'),
    ('c2', 'auth', 'us"ers', '[{"name":"avatar","type":"file"}]'),
    ('c3', 'view', 'all', '[{"name":"avatar","type":"file"}]'),
    ('c4', 'base', 'plain', '[{"name":"file","type":"text"}]')
"#;

/// A folder with the tables of a small PocketBase.
fn application() -> (Folder, Connection) {
    let folder = Folder::new();
    let writer = tables_in(&folder);
    (folder, writer)
}

/// Makes the tables of a small PocketBase.
pub(super) fn tables_in(folder: &Folder) -> Connection {
    let writer = database(&folder.path("data.db"));
    for sql in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = OFF",
        "CREATE TABLE _collections (id TEXT, type TEXT, name TEXT, fields JSON)",
        COLLECTIONS,
        "CREATE TABLE posts (id TEXT PRIMARY KEY, title TEXT, one TEXT, many JSON DEFAULT '[]')",
        "CREATE TABLE \"us\"\"ers\" (id TEXT PRIMARY KEY, avatar TEXT DEFAULT '')",
        "CREATE TABLE plain (id TEXT PRIMARY KEY, file TEXT)",
        "INSERT INTO plain VALUES ('p', 'no-file.png')",
    ] {
        writer.exec(sql).expect(sql);
    }
    writer
}

/// Writes a file and its side-car in PocketBase's order.
pub(super) fn upload(root: &Path, path: &str) {
    let file = root.join("storage").join(path);
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
    std::fs::write(format!("{}.attrs", file.display()), b"{}").expect("written");
    let part = format!("{}.part", file.display());
    std::fs::write(&part, path).expect("written");
    std::fs::rename(part, file).expect("named");
}

/// Removes a file in PocketBase's order.
pub(super) fn remove(root: &Path, path: &str) {
    let file = root.join("storage").join(path);
    std::fs::remove_file(&file).expect("removed");
    std::fs::remove_file(format!("{}.attrs", file.display())).expect("removed");
}

/// Every file that the archived database names is there, whole, with its side-car; how many.
pub(super) fn check(archive: &Archive) -> usize {
    let folder = Folder::new();
    folder.write("data.db", &archive["data.db"]);
    let data = database(&folder.path("data.db"));
    assert_eq!(data.text("PRAGMA integrity_check").expect("checked"), "ok");
    let sql = "SELECT 'c1/' || posts.id || '/' || one FROM posts WHERE one != ''
        UNION ALL SELECT 'c1/' || posts.id || '/' || value FROM posts, json_each(posts.many)
        UNION ALL SELECT 'c2/' || id || '/' || avatar FROM \"us\"\"ers\" WHERE avatar != ''";
    let mut named = 0;
    let mut each = |path: &str| {
        named += 1;
        let content = archive.get(&format!("storage/{path}"));
        assert_eq!(content.map(Vec::as_slice), Some(path.as_bytes()), "{path} is not there");
        assert!(archive.contains_key(&format!("storage/{path}.attrs")), "{path}.attrs");
    };
    data.rows(sql, None, &mut |row| {
        each(std::str::from_utf8(row.bytes(0)).expect("text"));
        Ok(true)
    })
    .expect("read");
    named
}

/// Reads as an archive does that has this many items in its queue.
fn read_queued(snapshot: &mut Snapshot, queue_max: usize) -> Archive {
    let (mut archive, mut queue) = (Archive::new(), VecDeque::<Item>::new());
    let mut more = true;
    while more || !queue.is_empty() {
        match snapshot.next().expect("an item").filter(|_| more) {
            Some(item) => queue.push_back(item),
            None => more = false,
        }
        if more && queue.len() < queue_max {
            continue;
        }
        let Some(item) = queue.pop_front() else { continue };
        let path = String::from_utf8_lossy(item.entry.path.as_bytes()).into_owned();
        if let Some(mut content) = item.content.open().expect("opened") {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).expect("read");
            assert!(archive.insert(path.clone(), bytes).is_none(), "{path} came twice");
        }
    }
    archive
}

#[test]
fn what_is_uploaded_after_the_walk_is_caught_up_with() {
    let (folder, writer) = application();
    upload(folder.root(), "c1/old/a.png");
    writer.exec("INSERT INTO posts (id, one) VALUES ('old', 'a.png')").expect("written");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let first = snapshot.next().expect("an item").expect("a.png");
    assert_eq!(first.entry.path.as_bytes(), b"storage/c1/old/a.png");
    for name in ["c1/new/b.png", "c1/new/c.png", "c1/new/d \"x\".png", "c2/u/e.png"] {
        upload(folder.root(), name);
    }
    for sql in [
        r#"INSERT INTO posts (id, one, many) VALUES ('new', 'b.png', '["c.png","d \"x\".png"]')"#,
        "INSERT INTO \"us\"\"ers\" VALUES ('u', 'e.png')",
    ] {
        writer.exec(sql).expect(sql);
    }
    // Its reader opens it only at the end, when it is deleted: it was held open at the pin.
    let mut archive = Archive::new();
    while let Some(item) = snapshot.next().expect("an item") {
        if item.entry.path.as_bytes() == b"data.db" {
            writer.exec("DELETE FROM posts WHERE id = 'old'").expect("written");
            remove(folder.root(), "c1/old/a.png");
        }
        let mut bytes = Vec::new();
        let content = item.content.open().expect("opened");
        content.expect("there").read_to_end(&mut bytes).expect("read");
        archive.insert(String::from_utf8_lossy(item.entry.path.as_bytes()).into_owned(), bytes);
    }
    let mut bytes = Vec::new();
    let content = first.content.open().expect("opened");
    content.expect("still there").read_to_end(&mut bytes).expect("read");
    archive.insert("storage/c1/old/a.png".to_owned(), bytes);
    assert_eq!(check(&archive), 5);
    assert_eq!(snapshot.skipped(), []);
}

#[test]
fn names_without_files_are_reported_and_do_not_hinder() {
    let (folder, writer) = application();
    upload(folder.root(), "c1/r/there.png");
    for sql in [
        r#"INSERT INTO posts (id, one, many) VALUES ('r', 'there.png', '["lost.png"]')"#,
        "INSERT INTO \"us\"\"ers\" VALUES ('u', '../climbs.png'), ('v', ''), ('w', 'gone.png')",
    ] {
        writer.exec(sql).expect(sql);
    }
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let archive = read(&mut snapshot);
    assert!(archive.contains_key("storage/c1/r/there.png"));
    let skipped = snapshot.skipped();
    assert!(skipped.iter().all(|skipped| skipped.reason == Reason::Missing), "{skipped:?}");
    let paths: Vec<_> = skipped.iter().map(|s| String::from_utf8_lossy(&s.path)).collect();
    assert_eq!(
        paths,
        ["storage/c1/r/lost.png", "storage/c2/u/../climbs.png", "storage/c2/w/gone.png"]
    );
}

#[test]
fn a_database_that_is_not_pocketbase_s_names_nothing() {
    let folder = Folder::new();
    database(&folder.path("data.db")).exec("CREATE TABLE posts (one TEXT)").expect("made");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    assert_eq!(read(&mut snapshot).len(), 1);
    assert_eq!(snapshot.skipped(), []);
}

#[test]
fn more_uploads_than_can_be_held_open_are_archived_before_the_pin() {
    let (folder, writer) = application();
    upload(folder.root(), "c2/first/a.png");
    let mut snapshot = folder.snapshot().expect("a snapshot");
    let first = snapshot.next().expect("an item").expect("a.png");
    // The walk has read the listing of `storage` by now, which does not hold `c1`.
    writer.exec("BEGIN").expect("begun");
    for n in 0..2_000 {
        upload(folder.root(), &format!("c1/r{n}/f{n}.png"));
        let sql = format!("INSERT INTO posts (id, one) VALUES ('r{n}', 'f{n}.png')");
        writer.exec(&sql).expect("written");
    }
    writer.exec("COMMIT").expect("committed");
    drop(first);
    snapshot.agreement.hold_at_most(64);
    assert_eq!(check(&read_queued(&mut snapshot, 30)), 2_000);
    assert_eq!(snapshot.skipped(), []);
}

/// Creates, replaces and deletes records with files as fast as it can, until told to stop.
fn churn(root: &Path, data: &Path, stop: &AtomicBool, rounds: &AtomicU32) {
    let writer = Connection::open(data, Mode::ReadWrite).expect("opened");
    writer.exec("PRAGMA synchronous = OFF").expect("set");
    let exec = |sql: String| writer.exec(&sql).expect("written");
    let mut living = VecDeque::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (one, two) = (format!("c1/r{n}/a{n}.png"), format!("c1/r{n}/b{n}.png"));
        upload(root, &one);
        upload(root, &two);
        exec(format!(
            r#"INSERT INTO posts (id, one, many) VALUES ('r{n}', 'a{n}.png', '["b{n}.png"]')"#
        ));
        // The same record gets a new file again and again.
        upload(root, &format!("c2/hot/h{n}.png"));
        exec(format!("INSERT OR REPLACE INTO \"us\"\"ers\" VALUES ('hot', 'h{n}.png')"));
        if n > 1 {
            remove(root, &format!("c2/hot/h{}.png", n - 1));
        }
        living.push_back(n);
        // Every third record dies at once, the others later.
        let dead = if n % 3 == 0 { living.pop_back() } else { None };
        let old = if living.len() > 300 { living.pop_front() } else { None };
        for dead in [dead, old].into_iter().flatten() {
            exec(format!("DELETE FROM posts WHERE id = 'r{dead}'"));
            remove(root, &format!("c1/r{dead}/a{dead}.png"));
            remove(root, &format!("c1/r{dead}/b{dead}.png"));
            std::fs::remove_dir(root.join(format!("storage/c1/r{dead}"))).expect("removed");
        }
        rounds.store(n, Ordering::Relaxed);
    }
}

#[test]
fn files_agree_with_the_database_while_records_come_and_go_in_this_process() {
    let (folder, _keeper) = application();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let named = thread::scope(|scope| {
        let data = folder.path("data.db");
        let working = scope.spawn(|| {
            let data = data;
            churn(folder.root(), &data, &stop, &rounds);
        });
        let _end = StopOnDrop(&stop);
        let mut named = 0;
        for (index, access) in [Access::ReadOnly, Access::Owned].into_iter().cycle().enumerate() {
            let source = folder.source(access);
            let mut snapshot = source.pin(&Control::default()).expect("a snapshot");
            named += check(&read_queued(&mut snapshot, [1, 40, 300][index % 3]));
            assert_eq!(snapshot.skipped(), []);
            // On a busy machine either side may be much faster than the other.
            let enough = rounds.load(Ordering::Relaxed) > 20 && named > 200;
            if index >= 40 && enough || index == 5000 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        working.join().expect("the application went on");
        named
    });
    let rounds = rounds.into_inner();
    assert!(rounds > 20 && named > 200, "{rounds} rounds, {named} names");
}

/// The same as a process of its own.
const PYTHON_CHURN: &str = r#"
import sqlite3, sys, os, select
root = sys.stdin.readline().strip()
db = sqlite3.connect(root + "/data.db", isolation_level=None, timeout=10)
db.execute("PRAGMA synchronous = OFF")
def upload(path):
    file = root + "/storage/" + path
    os.makedirs(os.path.dirname(file), exist_ok=True)
    open(file + ".attrs", "w").write("{}")
    open(file + ".part", "w").write(path)
    os.rename(file + ".part", file)
def remove(path):
    file = root + "/storage/" + path
    os.remove(file)
    os.remove(file + ".attrs")
print("ready")
living, n = [], 0
while not select.select([sys.stdin], [], [], 0)[0]:
    n += 1
    upload(f"c1/r{n}/a{n}.png")
    db.execute("INSERT INTO posts (id, one) VALUES (?, ?)", (f"r{n}", f"a{n}.png"))
    living.append(n)
    while len(living) > (400 if n % 2 else 395):
        dead = living.pop(0 if n % 3 else -1)
        db.execute("DELETE FROM posts WHERE id = ?", (f"r{dead}",))
        remove(f"c1/r{dead}/a{dead}.png")
        os.rmdir(f"{root}/storage/c1/r{dead}")
print(n)
db.close()
"#;

#[test]
fn files_agree_with_the_database_while_another_process_works() {
    let Some(mut python) = Python::start(PYTHON_CHURN) else { return };
    let (folder, writer) = application();
    drop(writer);
    assert_eq!(python.ask(&folder.root().display().to_string()), "ready");
    let mut named = 0;
    for index in 0..30 {
        let mut snapshot = folder.snapshot().expect("a snapshot");
        named += check(&read_queued(&mut snapshot, [1, 20, 200][index % 3]));
        assert_eq!(snapshot.skipped(), []);
    }
    let rounds: u32 = python.ask("stop").parse().expect("a number");
    python.end();
    assert!(rounds > 20 && named > 200, "{rounds} rounds, {named} names");
}
