//! The rota by a clock that is moved, on a real vault.

use chrono::DateTime;
use tokio::runtime::Handle;

use super::*;
use crate::archive::WriteOptions;
use crate::auth::bootstrap;
use crate::auth::directory::Directory;
use crate::auth::superusers::Superusers;
use crate::backup::Key;
use crate::clock::Clock;
use crate::config::notify::{Event, NotifyConfig};
use crate::config::{Care, Config, FolderOptions, Policy, RestoreConfig, ServeOptions};
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::settings::Encryption;
use crate::settings::limits::Limiter;
use crate::settings::store::Store;
use crate::source::{self, PocketBaseFolder};
use crate::storage::LocalStorage;
use crate::vault::alarms::Alarms;
use crate::vault::catalog::{Catalog, Known};
use crate::vault::jobs::Method;
use crate::vault::mailer::Mailer;
use crate::vault::{Beside, JobKind, Jobs, Parts, Vault};

struct Ground {
    home: tempfile::TempDir,
    clock: Clock,
    state: StateDb,
}

const NIGHTLY: &str = "[[schedule]]\nname = 'nightly'\ncron = '30 2 * * *'\n\
    timezone = 'Europe/Berlin'\nlabel = 'every night'\n";

impl Ground {
    async fn new(file: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let home = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed("2026-03-27T12:00:00Z".parse().expect("a date"));
        bootstrap::create(&home.path().join("pb_data"), &clock).await.expect("a pb_data");
        let state = StateDb::open(&home.path().join("state"), &clock).await.expect("opened");
        let ground = Self { home, clock, state };
        ground.configure(file);
        ground
    }

    fn configure(&self, file: &str) {
        std::fs::write(self.home.path().join("file.toml"), file).expect("written");
    }

    /// A rota, as a new process has it.
    async fn rota(&self) -> Rota {
        let folder = FolderOptions {
            dir: Some(self.home.path().join("pb_data")),
            config: Some(self.home.path().join("file.toml")),
            ..FolderOptions::default()
        };
        let config = Config::serve(&ServeOptions { folder, ..ServeOptions::default() });
        let config = config.expect("usable");
        let data = DataDir::new(self.home.path().join("pb_data"), None);
        let database = Database::open(data.root(), Access::ReadWrite).expect("opened");
        let clock = self.clock.clone();
        let jobs = Jobs::load(clock.clone(), self.state.clone()).await.expect("loaded");
        let mut care = Care::default();
        care.proof.after_backup = false;
        care.retention = Policy { last: 2, minimum: 1, ..Policy::default() };
        let vault = Vault::new(Parts {
            source: PocketBaseFolder::new(data.clone(), source::Access::Owned),
            storage: Arc::new(LocalStorage::new(data.backups())),
            beside: Beside::default(),
            data,
            archive: WriteOptions::default(),
            restore: RestoreConfig::default(),
            clock: clock.clone(),
            runtime: Handle::current(),
            jobs,
            catalog: Catalog::new(Some(self.state.clone())),
            care,
        });
        let encryption = Encryption::new(String::new(), String::new());
        let settings = Arc::new(Store::new(database.clone(), encryption, clock.clone()));
        let superusers = Superusers::new(database.clone(), clock.clone());
        if superusers.count().await.expect("counted") == 0 {
            superusers.create("a@example.com", "a password 1").await.expect("made");
        }
        let mailer = Mailer::new(settings.clone(), superusers);
        let notify = NotifyConfig { channels: Vec::new(), ..config.notify.clone() };
        let alarms = Alarms::new(notify, vault.clone(), self.state.clone(), mailer.clone());
        let alarms = alarms.expect("a watcher");
        alarms.begin().await.expect("begun");
        let directory = Directory::new(database.clone(), clock.clone());
        let limits = Arc::new(Limiter::new(clock.clone()));
        let scheduler = Scheduler::new(&vault, &database, &directory, &settings, &mailer, &limits)
            .with_alarms(alarms);
        Rota::load(&config.schedules, &scheduler, &Vaults::default(), &self.state).await
    }

    /// Goes on to a time and looks at the clock.
    async fn at(&self, rota: &Rota, time: &str) {
        let time: DateTime<Utc> = time.parse().expect("a time");
        self.clock.advance(time - self.clock.now());
        rota.tick(time).await;
    }
}

/// Waits for the end of a run.
async fn ended(rota: &Rota, name: &str) -> Kept {
    for _ in 0..600 {
        let one = rota.list().await.into_iter().find(|one| one.config.name == name);
        let kept = one.and_then(|one| one.kept).expect("known");
        if !kept.is_running() {
            return kept;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the run of {name} does not end");
}

async fn known(rota: &Rota) -> Vec<Known> {
    let vault = &rota.scheduler().vault;
    let storage = vault.storage();
    let listed = storage.list().await.expect("listed");
    vault.catalog().about(&storage.place(), &listed).await.expect("known")
}

async fn troubles(rota: &Rota) -> Vec<String> {
    let alarms = rota.scheduler().alarms.as_ref().expect("a watcher");
    alarms.troubles().await.expect("read").into_iter().map(|(condition, _)| condition).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_labelled_backups_that_the_rules_are_about() {
    let ground = Ground::new(NIGHTLY).await;
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-27T12:00:10Z").await;
    let next = rota.next_backup().await.map(|next| next.to_rfc3339());
    assert_eq!(next.as_deref(), Some("2026-03-28T01:30:00+00:00"));
    ground.at(&rota, "2026-03-28T01:29:59Z").await;
    assert!(known(&rota).await.is_empty());
    // The night of the 29th has no 02:30.
    for time in ["2026-03-28T01:30:00Z", "2026-03-29T01:00:01Z", "2026-03-30T00:30:02Z"] {
        ground.at(&rota, time).await;
        let kept = ended(&rota, "nightly").await;
        assert_eq!(kept.state, Some(Ran::Done), "{kept:?}");
        assert!(kept.job.is_some() && kept.said.ends_with(".zip"), "{kept:?}");
        ground.at(&rota, time).await;
    }
    let jobs = rota.scheduler().vault.jobs().list();
    let prunes = jobs.iter().filter(|job| job.kind == JobKind::Prune).count();
    assert_eq!(prunes, 3, "the rules go over them after each");
    let known = known(&rota).await;
    assert_eq!(known.len(), 3, "{known:?}");
    assert!(known.iter().all(|one| one.label == "every night"));
    assert!(known.iter().all(|one| one.method == Method::Scheduled));
    assert!(known.iter().all(|one| one.key.as_str().starts_with("pb_backup_")), "{known:?}");
    assert_eq!(troubles(&rota).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nights_without_a_server_are_told_and_made_up_for_by_one_run() {
    let ground = Ground::new(NIGHTLY).await;
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-27T12:00:10Z").await;
    drop(rota);
    let rota = ground.rota().await;
    ground.at(&rota, "2026-04-01T08:00:00Z").await;
    let kept = ended(&rota, "nightly").await;
    assert_eq!((kept.state, kept.missed), (Some(Ran::Done), 4), "{kept:?}");
    assert_eq!(kept.due.expect("due").to_rfc3339(), "2026-04-01T00:30:00+00:00");
    assert_eq!(known(&rota).await.len(), 1);
    // The run that made up for them is good news again.
    for _ in 0..100 {
        if troubles(&rota).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(troubles(&rota).await, [""; 0]);
    drop(rota);
    ground.configure(&format!("{NIGHTLY}catch_up = false\n"));
    let rota = ground.rota().await;
    ground.at(&rota, "2026-04-03T08:00:00Z").await;
    let kept = ended(&rota, "nightly").await;
    assert_eq!((kept.missed, known(&rota).await.len()), (6, 1), "told, and not made up for");
    assert_eq!(troubles(&rota).await, ["schedule:nightly"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_the_one_before_at_work_is_skipped_and_said() {
    let ground = Ground::new("[[schedule]]\nname = 'often'\ncron = '*/5 * * * *'\n").await;
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-27T12:00:10Z").await;
    let ticket = rota.scheduler().vault.hold().expect("free");
    ground.at(&rota, "2026-03-27T12:05:00Z").await;
    ground.at(&rota, "2026-03-27T12:10:00Z").await;
    ground.at(&rota, "2026-03-27T12:15:00Z").await;
    let kept = rota.list().await[0].kept.clone().expect("known");
    assert!(kept.is_running(), "it waits for the flight: {kept:?}");
    assert_eq!((kept.skipped, kept.missed), (2, 0));
    assert_eq!(troubles(&rota).await, ["schedule:often"]);
    let error = rota.run_now("often").await.expect_err("it runs");
    assert_eq!(error.kind(), &Kind::Busy);
    drop(ticket);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_is_made_up_for_once() {
    let ground = Ground::new(NIGHTLY).await;
    let due: DateTime<Utc> = "2026-03-28T01:30:00Z".parse().expect("a time");
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-28T00:00:00Z").await;
    let mut kept = rota.list().await[0].kept.clone().expect("known");
    (kept.looked, kept.due, kept.state) = (due, Some(due), Some(Ran::Running));
    book::save(&ground.state, "nightly", &kept).await.expect("saved");
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-28T01:50:00Z").await;
    assert_eq!(ended(&rota, "nightly").await.due, Some(due));
    assert_eq!(known(&rota).await.len(), 1);
    kept.state = Some(Ran::Again);
    book::save(&ground.state, "nightly", &kept).await.expect("saved");
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-28T01:55:00Z").await;
    assert_eq!(ended(&rota, "nightly").await.state, Some(Ran::Interrupted), "not for ever");
    assert_eq!(known(&rota).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_followed_and_a_run_by_hand_is_a_run() {
    let ground = Ground::new("").await;
    let rota = ground.rota().await;
    ground.at(&rota, "2026-03-27T12:00:10Z").await;
    assert!(rota.list().await.is_empty());
    assert_eq!(rota.run_now("nightly").await.expect_err("none").kind(), &Kind::NotFound);
    let drill = "[[schedule]]\nname = 'drill'\ncron = '@weekly'\nwhat = 'drill'\n";
    let verify = "[[schedule]]\nname = 'verify'\ncron = '@daily'\nwhat = 'verify'\n";
    ground.configure(&format!("{NIGHTLY}{drill}{verify}"));
    ground.at(&rota, "2026-03-27T12:00:20Z").await;
    assert_eq!(rota.list().await.len(), 3);
    let none = rota.run_now("drill").await.expect_err("no backup yet");
    assert_eq!(none.kind(), &Kind::NotFound);
    let job = rota.run_now("nightly").await.expect("begun").expect("a job");
    let kept = ended(&rota, "nightly").await;
    assert_eq!((kept.state, kept.job), (Some(Ran::Done), Some(job)), "{kept:?}");
    rota.run_now("drill").await.expect("begun");
    let drilled = ended(&rota, "drill").await;
    assert!(drilled.said.contains("collections"), "{drilled:?}");
    rota.run_now("verify").await.expect("begun");
    assert_eq!(ended(&rota, "verify").await.said, "1 read, all good");
    ground.configure("[[schedule]]\nname = 'nightly'\n");
    ground.at(&rota, "2026-03-27T12:01:00Z").await;
    assert_eq!(rota.list().await.len(), 3, "a broken file changes nothing");
    ground.configure(drill);
    ground.at(&rota, "2026-03-27T12:02:00Z").await;
    assert_eq!(rota.list().await.len(), 1);
    let rows = book::load(&ground.state).await.expect("read");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(Key::existing(&kept.said).is_ok() && Event::Missed.as_str() == "missed");
}
