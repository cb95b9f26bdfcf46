//! A table of damages: what happens to archives and to the data in them, and that a drill finds
//! each of them, and a read each that is one of the bytes.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::*;
use crate::auth::bootstrap;
use crate::auth::superusers::Superusers;
use crate::database::{Access, Database};
use crate::state::StateDb;
use crate::storage::LocalStorage;
use crate::vault::catalog::Origin;

const NAME: &str = "a.zip";
const PHOTO: &str = "storage/c/r/photo";

/// A proven backup, its bytes, and what is needed to prove it.
struct Ground {
    _home: tempfile::TempDir,
    bench: Bench,
    backup: Backup,
    bytes: Vec<u8>,
}

impl Ground {
    async fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(home.path().join("pb_data"), None);
        let clock = Clock::system();
        bootstrap::create(data.root(), &clock).await.expect("a pb_data");
        let database = Database::open(data.root(), Access::ReadWrite).expect("opened");
        let superusers = Superusers::new(database.clone(), clock.clone());
        superusers.create("a@example.com", "1234567890").await.expect("made");
        database.close().await;
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["data.db", "auxiliary.db"] {
            let bytes = fs::read(data.root().join(name)).expect("closed, so whole");
            add(&mut zip, name, &bytes);
        }
        let photo: Vec<u8> = (0..40_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        add(&mut zip, PHOTO, &photo);
        let bytes = zip.finish().expect("written").into_inner();
        fs::create_dir_all(data.backups()).expect("made");
        fs::write(data.backups().join(NAME), &bytes).expect("written");
        let storage = Arc::new(LocalStorage::new(data.backups()));
        let backup = storage.head(&Key::named(NAME).expect("a key")).await.expect("there");
        let catalog = Catalog::new(Some(StateDb::in_memory().await.expect("made")));
        let bench = Bench { storage, data, catalog, clock };
        Self { _home: home, bench, backup, bytes }
    }

    /// Puts an archive there, forgets what was known about the last one, and proves it.
    async fn prove(&self, archive: &[u8], kind: ProofKind) -> Proof {
        self.bench.catalog.forget("local", &self.backup.key).await.expect("forgotten");
        self.replace(archive, kind, Some(1)).await
    }

    async fn replace(&self, archive: &[u8], kind: ProofKind, job: Option<u64>) -> Proof {
        fs::write(self.bench.data.backups().join(NAME), archive).expect("written");
        let backup = self.bench.storage.head(&self.backup.key).await.expect("there");
        if self.bench.catalog.newest("local").await.expect("read").is_empty() {
            let known = Known { origin: Origin::Made, job, ..Known::found(&backup) };
            self.bench.catalog.save("local", &known).await.expect("kept");
        }
        prove(&self.bench, &backup, kind, &Control::default()).await.expect("found out")
    }

    /// The archive with one entry changed, left out (`None`) or added.
    fn rebuilt(&self, name: &str, content: Option<&[u8]>) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut from = ZipArchive::new(Cursor::new(&self.bytes)).expect("a zip");
        for index in 0..from.len() {
            let mut entry = from.by_index(index).expect("an entry");
            let kept = entry.name().expect("a name").into_owned();
            if kept != name {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("read");
                add(&mut zip, &kept, &bytes);
            }
        }
        if let Some(content) = content {
            add(&mut zip, name, content);
        }
        zip.finish().expect("written").into_inner()
    }

    fn content(&self, name: &str) -> Vec<u8> {
        let mut from = ZipArchive::new(Cursor::new(&self.bytes)).expect("a zip");
        let mut bytes = Vec::new();
        from.by_name(name).expect("there").read_to_end(&mut bytes).expect("read");
        bytes
    }

    /// The archive with its data.db changed by SQL.
    async fn with_sql(&self, sql: &str) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), self.content("data.db")).expect("written");
        execute(file.path(), sql).await;
        self.rebuilt("data.db", Some(&fs::read(file.path()).expect("read")))
    }

    /// Where an entry's data begins.
    fn start(&self, name: &str) -> usize {
        let mut from = ZipArchive::new(Cursor::new(&self.bytes)).expect("a zip");
        let entry = from.by_name(name).expect("there");
        usize::try_from(entry.data_start().expect("known")).expect("small")
    }
}

fn add(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, bytes: &[u8]) {
    zip.start_file(name, SimpleFileOptions::default()).expect("begun");
    zip.write_all(bytes).expect("written");
}

async fn execute(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Delete);
    let mut connection = options.connect().await.expect("opened");
    let ran = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
    ran.expect("run");
    connection.close().await.expect("closed");
}

/// Damages of the bytes of the archive: a read finds them already.
fn of_the_bytes(ground: &Ground) -> Vec<(&'static str, Vec<u8>)> {
    let whole = &ground.bytes;
    let change = |at: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let flip = |at: usize| change(at, &[!whole[at]]);
    let (data, photo) = (ground.start("data.db"), ground.start(PHOTO));
    let find = |sign: &[u8]| {
        let mut windows = whole.windows(sign.len());
        windows.position(|window| window == sign).expect("there")
    };
    let directory = find(b"PK\x01\x02");
    let mut torn = whole.clone();
    torn.copy_within(photo..photo + 512, photo + 4096);
    let mut shifted = whole.clone();
    shifted.remove(photo + 1000);
    vec![
        ("an empty file", Vec::new()),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("without its last byte", whole[..whole.len() - 1].to_vec()),
        ("its end record zeroed", change(whole.len() - 22, &[0; 22])),
        ("its directory's first record damaged", flip(directory)),
        ("a checksum in its directory changed", flip(directory + 16)),
        ("a size in its directory changed", flip(directory + 24)),
        ("a bit in data.db flipped", flip(data + 500)),
        ("a bit in a file flipped", flip(photo + 5_000)),
        ("a sector of data.db zeroed", change(data + 512, &[0; 512])),
        ("a sector of a file written twice", torn),
        ("a byte lost in the middle", shifted),
        ("an error page in its place", b"<html>502 Bad Gateway</html>".repeat(50)),
        ("without data.db", ground.rebuilt("data.db", None)),
    ]
}

/// Damages of the data: the archive is whole, what is in it is not.
async fn of_the_data(ground: &Ground) -> Vec<(&'static str, Vec<u8>)> {
    let data = ground.content("data.db");
    let changed = |bytes: &[u8]| ground.rebuilt("data.db", Some(bytes));
    let mut zeroed = data.clone();
    zeroed[8192..12288].fill(0);
    let mut scrambled = data.clone();
    let end = scrambled.len() - 4096;
    scrambled[4096..end].reverse();
    vec![
        ("data.db empty", changed(b"")),
        ("data.db a text", changed(b"this is not a database at all, it is a text")),
        ("data.db cut in half", changed(&data[..data.len() / 2])),
        ("a page of data.db zeroed", changed(&zeroed)),
        ("the pages of data.db scrambled", changed(&scrambled)),
        ("nobody who could log in", ground.with_sql("DELETE FROM _superusers").await),
        ("no _collections", ground.with_sql("DROP TABLE _collections").await),
        ("a collection without its table", ground.with_sql("DROP TABLE _otps").await),
        ("auxiliary.db garbage", ground.rebuilt("auxiliary.db", Some(&[7; 9000]))),
        ("a journal that SQLite would follow", ground.rebuilt("data.db-journal", Some(&[1; 600]))),
        ("a log of no database", ground.rebuilt("auxiliary.db-wal/x", Some(b"x"))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_finds_every_planted_damage_and_a_read_those_of_the_bytes() {
    let ground = Ground::new().await;
    for kind in [ProofKind::Read, ProofKind::Drill] {
        let proof = ground.prove(&ground.bytes, kind).await;
        assert!(proof.ok, "{kind:?}: {}", proof.said);
    }
    let bytes = of_the_bytes(&ground);
    for (what, archive) in &bytes {
        let proof = ground.prove(archive, ProofKind::Read).await;
        assert!(!proof.ok, "a read passes {what}: {}", proof.said);
    }
    let data = of_the_data(&ground).await;
    assert!(bytes.len() + data.len() >= 20);
    for (what, archive) in bytes.iter().chain(&data) {
        let proof = ground.prove(archive, ProofKind::Drill).await;
        assert!(!proof.ok, "a drill passes {what}: {}", proof.said);
        let home = ground.bench.data.root().display().to_string();
        assert!(!proof.said.is_empty() && !proof.said.contains(&home), "{what}: {}", proof.said);
        let known = &ground.bench.catalog.newest("local").await.expect("read")[0];
        assert!(!known.is_good() && !known.is_proven(), "{what} counts as good");
    }
    let left = fs::read_dir(ground.bench.data.drill()).expect("there").count();
    assert_eq!(left, 0, "scratch folders stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_archive_in_the_place_of_a_proven_one_is_found() {
    let ground = Ground::new().await;
    assert!(ground.prove(&ground.bytes, ProofKind::Read).await.ok);
    let photo: Vec<u8> = ground.content(PHOTO);
    let mut other = photo.clone();
    other[0] ^= 1;
    // Stored, so that both are of one size.
    let twin = |content: &[u8]| {
        let mut bytes = ground.rebuilt(PHOTO, None);
        let mut zip = ZipWriter::new_append(Cursor::new(&mut bytes)).expect("a zip");
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(PHOTO, stored).expect("begun");
        zip.write_all(content).expect("written");
        zip.finish().expect("written");
        bytes
    };
    assert!(ground.prove(&twin(&photo), ProofKind::Drill).await.ok);
    let proof = ground.replace(&twin(&other), ProofKind::Read, None).await;
    assert!(!proof.ok && proof.said.contains("proven before"), "{}", proof.said);
}
