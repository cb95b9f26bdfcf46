//! Backups through the whole vault, without a server.

use std::fs;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::archive::{Limits, Manners, Previous, Reader, Reuse, WriteOptions};
use crate::auth::bootstrap;
use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::config::{Care, RestoreConfig};
use crate::control::{Control, Progress};
use crate::data_dir::DataDir;
use crate::error::{Context, Kind, Result};
use crate::restore::{self, Phase, Scope, StageOptions};
use crate::source::{Access, PocketBaseFolder};
use crate::storage::LocalStorage;
use crate::vault::catalog::Catalog;
use crate::vault::{Beside, Jobs, Method, Parts, State, Vault};

/// A vault on a new `pb_data` in a temporary folder.
pub(super) struct Ground {
    _dir: tempfile::TempDir,
    data: DataDir,
    pub(super) vault: Arc<Vault>,
}

impl Ground {
    pub(super) async fn new(archive: WriteOptions) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path().join("pb_data"), None);
        let clock = Clock::system();
        bootstrap::create(data.root(), &clock).await.expect("a pb_data");
        let vault = Vault::new(Parts {
            source: PocketBaseFolder::new(data.clone(), Access::Owned),
            storage: Arc::new(LocalStorage::new(data.backups())),
            beside: Beside::default(),
            data: data.clone(),
            archive,
            restore: RestoreConfig::default(),
            clock,
            runtime: Handle::current(),
            jobs: Jobs::new(Clock::system()),
            catalog: Catalog::new(None),
            care: Care::default(),
        });
        Self { _dir: dir, data, vault }
    }

    fn upload(&self, name: &str, bytes: &[u8]) {
        let path = self.data.root().join("storage").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    async fn create(&self, name: &str) -> Result<Backup> {
        let key = Key::named(name)?;
        self.vault.begin_create(Some(key), "", Method::Api).await?.spawn().await.expect("joined")
    }

    /// The bytes of an entry, after every entry was checked.
    fn content(&self, name: &str, entry: &[u8]) -> Vec<u8> {
        let path = self.data.backups().join(name);
        let reader = Reader::open(&path, &Limits::default()).expect("opened");
        reader.verify(None, &Control::default()).expect("sound");
        let mut data = Vec::new();
        let entry = reader.find(entry).expect("there");
        let mut from = reader.open_entry(entry).expect("opened");
        std::io::Read::read_to_end(&mut from, &mut data).expect("read");
        data
    }

    fn previous(&self) -> Option<String> {
        let locate = |key: &Key| Some(self.data.backups().join(key.as_str()));
        let previous = Previous::open(&self.data.ledger(), locate).expect("a whole ledger");
        previous.map(|previous| previous.key().to_string())
    }

    /// Names in the folder of backups.
    fn left(&self) -> Vec<String> {
        let listed = fs::read_dir(self.data.backups()).into_iter().flatten();
        listed.map(|entry| entry.expect("listed").file_name().display().to_string()).collect()
    }

    fn progress(&self, job: u64) -> Progress {
        self.vault.jobs().find(job).expect("a job").progress
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_ends_soon_and_leaves_nothing() {
    let manners = Manners { rate_limit_mb_s: NonZeroU32::new(1), ..Manners::default() };
    let reuse = Reuse::First;
    let ground = Ground::new(WriteOptions { manners, reuse, ..WriteOptions::default() }).await;
    for n in 0..3 {
        ground.upload(&format!("large{n}"), &vec![n; 20 << 20]);
        for m in 0..50 {
            ground.upload(&format!("small{n}{m}"), &vec![m; 300 << 10]);
        }
    }
    let key = Key::named("a.zip").expect("a key");
    let creating = ground.vault.begin_create(Some(key), "", Method::Api).await.expect("begun");
    let job = creating.job();
    let task = creating.spawn();
    let is_written = |left: Vec<String>| left.iter().any(|name| name.starts_with("a.zip"));
    while ground.progress(job).bytes < 1 << 20 || !is_written(ground.left()) {
        assert!(!task.is_finished(), "it is over before it was cancelled");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    ground.vault.jobs().cancel_all();
    let error = task.await.expect("joined").expect_err("cancelled");
    // Generous, for a busy machine; by its limit the rest of the backup takes a minute and more.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), &Kind::Cancelled);
    assert_eq!(ground.vault.jobs().find(job).expect("a job").state, State::Cancelled);
    assert_eq!(ground.left(), [""; 0], "nothing is left");
    assert!(ground.vault.flight().check().is_ok() && !ground.vault.jobs().any_running());
    assert!(!ground.data.ledger().exists());
    assert!(ground.progress(job).bytes < 30 << 20, "the limit was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_over_from_the_last_one_and_stands_alone() {
    let ground = Ground::new(WriteOptions { reuse: Reuse::First, ..WriteOptions::default() }).await;
    let text = "what is said twice is said once. ".repeat(5_000).into_bytes();
    ground.upload("a.txt", &text);
    ground.create("one.zip").await.expect("made");
    assert_eq!(ground.previous().as_deref(), Some("one.zip"));
    ground.create("two.zip").await.expect("made");
    assert_eq!(ground.previous().as_deref(), Some("two.zip"));
    let one = Key::named("one.zip").expect("a key");
    ground.vault.delete(&one).await.expect("deleted");
    assert_eq!(ground.content("two.zip", b"storage/a.txt"), text);
    // The last one is gone, and its ledger is worth nothing.
    ground.vault.delete(&Key::named("two.zip").expect("a key")).await.expect("deleted");
    assert_eq!(ground.previous(), None);
    ground.create("three.zip").await.expect("made");
    assert_eq!(ground.content("three.zip", b"storage/a.txt"), text);
    // Nor is a damaged one an obstacle, and the next is whole again.
    fs::write(ground.data.ledger(), b"nonsense").expect("written");
    ground.create("four.zip").await.expect("made");
    assert_eq!(ground.content("four.zip", b"storage/a.txt"), text);
    assert_eq!(ground.previous().as_deref(), Some("four.zip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_nothing_is_kept_for_the_next() {
    let ground = Ground::new(WriteOptions::default()).await;
    ground.create("one.zip").await.expect("made");
    assert!(!ground.data.ledger().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_whose_client_goes_away_is_followed_by_its_restart() {
    let ground = Ground::new(WriteOptions::default()).await;
    ground.upload("photo", b"before");
    let key = Key::named("a.zip").expect("a key");
    let clock = Clock::system();
    let options = StageOptions { key, scope: Scope::Files, size_bytes: 1, now: clock.now() };
    let staged = restore::stage_with(&ground.data, &options, &Control::default(), |into| {
        fs::write(into.join("new"), "x").context("cannot write")
    });
    staged.expect("staged").commit().expect("committed");
    restore::recover(&ground.data, &clock).expect("swapped");
    restore::prove(&ground.data, &clock).expect("proven");
    let mut wanted = ground.vault.restart_wanted();
    // The first look at it, and then nobody asks any more.
    let gone = tokio::time::timeout(Duration::ZERO, ground.vault.undo()).await;
    assert!(gone.is_err(), "it was too fast to be left: {gone:?}");
    let restart = tokio::time::timeout(Duration::from_secs(60), wanted.wait_for(|is| *is)).await;
    assert!(restart.is_ok(), "no restart follows the intent");
    let status = restore::status(&ground.data).expect("read").expect("an undo");
    assert_eq!((status.subject.key.as_str(), status.phase), ("a.zip", Phase::Staged));
}
