//! The watcher by a clock that is moved, and deliveries to receivers that fail or sleep.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::*;
use crate::archive::WriteOptions;
use crate::auth::bootstrap;
use crate::auth::superusers::Superusers;
use crate::backup::Key;
use crate::config::notify::{Heartbeat, Preset, Webhook};
use crate::config::storage::Secret;
use crate::config::{Care, RestoreConfig};
use crate::data_dir::DataDir;
use crate::database::{Access, Database};
use crate::notify::retry::Retry;
use crate::settings::Encryption;
use crate::settings::store::Store;
use crate::source::{self, PocketBaseFolder};
use crate::storage::LocalStorage;
use crate::vault::catalog::Catalog;
use crate::vault::{Beside, Jobs, Method, Parts};

struct Ground {
    dir: tempfile::TempDir,
    clock: Clock,
    state: StateDb,
}

fn channel(name: &str, events: &[Event], url: &str) -> Channel {
    let hook = Webhook {
        url: Secret::new(url),
        preset: Preset::Generic,
        secret: None,
        token: None,
        template: None,
        content_type: "application/json".to_owned(),
        timeout: Duration::from_millis(300),
    };
    Channel { name: name.to_owned(), events: events.to_vec(), way: Way::Webhook(hook) }
}

const TROUBLE: [Event; 6] = [
    Event::Failure,
    Event::Missed,
    Event::Stale,
    Event::ProofFailed,
    Event::Recovery,
    Event::RolledBack,
];

impl Ground {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed("2026-11-21T09:00:30Z".parse().expect("a date"));
        bootstrap::create(&dir.path().join("pb_data"), &clock).await.expect("a pb_data");
        let state = StateDb::open(&dir.path().join("state"), &clock).await.expect("opened");
        Self { dir, clock, state }
    }

    /// A watcher, as a new process has it.
    async fn alarms(&self, channels: Vec<Channel>) -> Alarms {
        let data = DataDir::new(self.dir.path().join("pb_data"), None);
        let database = Database::open(data.root(), Access::ReadWrite).expect("opened");
        let vault = Vault::new(Parts {
            source: PocketBaseFolder::new(data.clone(), source::Access::Owned),
            storage: Arc::new(LocalStorage::new(data.backups())),
            beside: Beside::default(),
            data,
            archive: WriteOptions::default(),
            restore: RestoreConfig::default(),
            clock: self.clock.clone(),
            runtime: Handle::current(),
            jobs: Jobs::load(self.clock.clone(), self.state.clone()).await.expect("loaded"),
            catalog: Catalog::new(None),
            care: Care::default(),
        });
        let encryption = Encryption::new(String::new(), String::new());
        let store = Store::new(database.clone(), encryption, self.clock.clone());
        let mailer = Mailer::new(Arc::new(store), Superusers::new(database, self.clock.clone()));
        let config = NotifyConfig { channels, ..NotifyConfig::default() };
        let alarms = Alarms::new(config, vault, self.state.clone(), mailer).expect("built");
        alarms.begin().await.expect("begun");
        alarms
    }

    /// What is on its way to a receiver; it is taken off.
    async fn told(&self, name: &str) -> Vec<Note> {
        let mut notes = Vec::new();
        while let Some(pending) = book::next(&self.state, name).await.expect("read") {
            book::remove(&self.state, pending.id).await.expect("removed");
            notes.push(pending.note);
        }
        notes
    }

    async fn events(&self, alarms: &Alarms, schedule: Option<&str>) -> Vec<&'static str> {
        let schedule = schedule.map(|text| Schedule::parse(text).expect("a schedule"));
        alarms.look(schedule.as_ref()).await.expect("looked");
        self.told("ops").await.into_iter().map(|note| note.event.as_str()).collect()
    }
}

async fn job(alarms: &Alarms, kind: JobKind, result: Result<(), Error>) {
    let key = Key::named("a.zip").expect("a key");
    alarms.vault.jobs().open(kind, Method::Scheduled, &key).finish(&result).await;
}

fn broken() -> Result<(), Error> {
    Err(Error::new(Kind::NoSpace, "no room").hint("make room"))
}

#[tokio::test]
async fn a_trouble_is_told_once_again_after_a_day_and_when_it_ends() {
    let ground = Ground::new().await;
    let ops = || vec![channel("ops", &TROUBLE, "http://127.0.0.1:1/")];
    let alarms = ground.alarms(ops()).await;
    job(&alarms, JobKind::Create, broken()).await;
    assert_eq!(ground.events(&alarms, None).await, ["failure"]);
    job(&alarms, JobKind::Create, broken()).await;
    assert_eq!(ground.events(&alarms, None).await, [""; 0]);
    // A restart neither repeats nor forgets.
    let alarms = ground.alarms(ops()).await;
    assert_eq!(ground.events(&alarms, None).await, [""; 0]);
    job(&alarms, JobKind::Create, broken()).await;
    assert_eq!(ground.events(&alarms, None).await, [""; 0]);
    ground.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    job(&alarms, JobKind::Create, broken()).await;
    alarms.look(None).await.expect("looked");
    let notes = ground.told("ops").await;
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].text, "A backup failed: a.zip\nno room");
    assert_eq!(notes[0].hint.as_deref(), Some("make room"));
    assert_eq!(alarms.troubles().await.expect("read").len(), 1);
    job(&alarms, JobKind::Create, Ok(())).await;
    assert_eq!(ground.events(&alarms, None).await, ["recovery"]);
    job(&alarms, JobKind::Create, Ok(())).await;
    assert_eq!(ground.events(&alarms, None).await, [""; 0], "success only when asked for");
    assert_eq!(alarms.troubles().await.expect("read"), []);
}

#[tokio::test]
async fn a_database_s_success_does_not_end_the_folder_s_trouble() {
    let ground = Ground::new().await;
    let alarms = ground.alarms(vec![channel("ops", &TROUBLE, "http://127.0.0.1:1/")]).await;
    let key = Key::named("a.zip").expect("a key");
    let dump = async |result: Result<(), Error>| {
        let jobs = alarms.vault.jobs();
        let job = jobs.open_for("ledger", JobKind::Create, Method::Scheduled, &key);
        job.finish(&result).await;
    };
    job(&alarms, JobKind::Create, broken()).await;
    dump(Ok(())).await;
    assert_eq!(ground.events(&alarms, None).await, ["failure"]);
    dump(broken()).await;
    alarms.look(None).await.expect("looked");
    assert!(ground.told("ops").await[0].text.contains("(database ledger)"));
    let troubles = alarms.troubles().await.expect("read");
    let troubles: Vec<&str> = troubles.iter().map(|(condition, _)| condition.as_str()).collect();
    assert_eq!(troubles, ["backup", "backup:ledger"]);
    job(&alarms, JobKind::Create, Ok(())).await;
    alarms.look(None).await.expect("looked");
    assert_eq!(alarms.troubles().await.expect("read").len(), 1, "and the other way round");
    let alarms = ground.alarms(Vec::new()).await;
    let kept = alarms.vault.jobs().find(2).expect("kept");
    assert_eq!((kept.vault.as_str(), kept.is_of_folder(JobKind::Create)), ("ledger", false));
}

#[tokio::test]
async fn what_a_crash_cut_off_is_told_by_the_next_process() {
    let ground = Ground::new().await;
    let ops = || vec![channel("ops", &TROUBLE, "http://127.0.0.1:1/")];
    let alarms = ground.alarms(ops()).await;
    let key = Key::named("a.zip").expect("a key");
    let cut = alarms.vault.jobs().open(JobKind::Create, Method::Api, &key);
    alarms.vault.jobs().flush().await;
    assert_eq!(ground.events(&alarms, None).await, [""; 0]);
    std::mem::forget(cut);
    let alarms = ground.alarms(ops()).await;
    assert_eq!(ground.events(&alarms, None).await, ["failure"]);
}

#[tokio::test]
async fn missed_runs_and_old_backups_are_told_of_a_silent_vault() {
    let ground = Ground::new().await;
    let alarms = ground.alarms(vec![channel("ops", &TROUBLE, "http://127.0.0.1:1/")]).await;
    let daily = Some("0 10 * * *");
    assert_eq!(ground.events(&alarms, daily).await, [""; 0]);
    ground.clock.advance(TimeDelta::minutes(90));
    assert_eq!(ground.events(&alarms, daily).await, [""; 0], "it may still begin");
    ground.clock.advance(TimeDelta::minutes(30));
    assert_eq!(ground.events(&alarms, daily).await, ["missed"]);
    assert_eq!(ground.events(&alarms, daily).await, [""; 0]);
    // Another schedule has missed nothing, and a good backup ends the trouble.
    assert_eq!(ground.events(&alarms, Some("*/5 * * * *")).await, [""; 0]);
    job(&alarms, JobKind::Create, Ok(())).await;
    assert_eq!(ground.events(&alarms, None).await, ["recovery"]);
    ground.clock.advance(TimeDelta::days(7));
    assert_eq!(ground.events(&alarms, None).await, [""; 0]);
    ground.clock.advance(TimeDelta::minutes(16));
    assert_eq!(ground.events(&alarms, None).await, ["stale"]);
    // The machine slept for two weeks.
    ground.events(&alarms, daily).await;
    ground.clock.advance(TimeDelta::days(14));
    let mut events = ground.events(&alarms, daily).await;
    events.sort_unstable();
    assert_eq!(events, ["missed", "stale"]);
}

#[tokio::test]
async fn proofs_restores_and_beats_reach_those_who_want_them() {
    let ground = Ground::new().await;
    let url = Secret::new("http://127.0.0.1:1/");
    let beat = Heartbeat {
        start: Some(url.clone()),
        success: url.clone(),
        failure: Some(url),
        timeout: Duration::from_secs(1),
    };
    let beat = Channel { name: "hc".to_owned(), events: vec![], way: Way::Heartbeat(beat) };
    let alarms = ground.alarms(vec![channel("ops", &TROUBLE, "http://127.0.0.1:1/"), beat]).await;
    job(&alarms, JobKind::Verify, broken()).await;
    job(&alarms, JobKind::Drill, Ok(())).await;
    assert_eq!(ground.events(&alarms, None).await, ["proof_failed", "recovery"]);
    let key = Key::named("a.zip").expect("a key");
    alarms.vault.jobs().open(JobKind::Restore, Method::Api, &key).hand_over("r1").await;
    alarms.vault.jobs().settle(Some(("r1", broken()))).await;
    alarms.look(None).await.expect("looked");
    let news = ground.told("ops").await;
    assert_eq!(news.len(), 1);
    assert_eq!((news[0].event, news[0].kind.as_deref()), (Event::RolledBack, Some("restore")));
    assert_eq!(ground.told("hc").await, [], "these were no backups");
    for _ in 0..2 {
        let running = alarms.vault.jobs().open(JobKind::Create, Method::Api, &key);
        alarms.look(None).await.expect("looked");
        running.note("left out x");
        alarms.look(None).await.expect("looked");
        running.finish(&broken()).await;
        alarms.look(None).await.expect("looked");
    }
    let beats = ground.told("hc").await.into_iter().map(|note| note.event.as_str());
    assert_eq!(beats.collect::<Vec<_>>(), ["start", "failure", "start", "failure"]);
}

/// Answers requests with these statuses in turn, the last one for ever; 0 is silence.
async fn receiver(statuses: &'static [u16]) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let nth = counted.fetch_add(1, Ordering::SeqCst) as usize;
            let status = statuses[nth.min(statuses.len() - 1)];
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                if status == 0 {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    (url, count)
}

async fn until(what: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if what().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn receivers_that_fail_are_asked_again_and_slow_ones_delay_nobody() {
    let ground = Ground::new().await;
    let (flaky, flaky_count) = receiver(&[500, 503, 0, 204]).await;
    let (silent, silent_count) = receiver(&[0]).await;
    let (gone, gone_count) = receiver(&[410]).await;
    let (good, good_count) = receiver(&[200]).await;
    let mut alarms = ground
        .alarms(vec![
            channel("silent", &TROUBLE, &silent),
            channel("gone", &TROUBLE, &gone),
            channel("flaky", &TROUBLE, &flaky),
            channel("good", &TROUBLE, &good),
        ])
        .await;
    let first = Duration::from_millis(10);
    alarms.means.retry = Retry { tries: 5, first, longest: first };
    let mut tasks = JoinSet::new();
    for (channel, wake) in alarms.channels.iter() {
        tasks.spawn(alarms.means.clone().serve(channel.clone(), wake.clone()));
    }
    let begun = std::time::Instant::now();
    job(&alarms, JobKind::Create, broken()).await;
    alarms.look(None).await.expect("looked");
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for receivers");
    until(async || good_count.load(Ordering::SeqCst) == 1).await;
    assert!(silent_count.load(Ordering::SeqCst) < 5, "the slow one is still being tried");
    let empty = async |name| book::next(&ground.state, name).await.expect("read").is_none();
    for name in ["good", "gone", "flaky", "silent"] {
        until(async || empty(name).await).await;
    }
    assert_eq!(gone_count.load(Ordering::SeqCst), 1, "no other try helps");
    assert_eq!(flaky_count.load(Ordering::SeqCst), 4);
    assert_eq!(silent_count.load(Ordering::SeqCst), 5, "given up after the last try");
    assert_eq!(good_count.load(Ordering::SeqCst), 1);
}
