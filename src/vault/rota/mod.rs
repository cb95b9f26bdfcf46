//! The rota: every schedule of the configuration and PocketBase's own, kept by the clock.
//!
//! What was decided is in our own database before anything begins, so that a restart repeats
//! nothing, and a run that was missed or cut off is made up for.

mod book;
mod clockwork;
mod look;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::config::schedule::{ScheduleConfig, ScheduleFile, Schedules, What};
use crate::cron::Schedule;
use crate::cron::zoned::Zoned;
use crate::error::{Error, Kind, Result};
use crate::state::StateDb;
use crate::vault::databases::Vaults;
use crate::vault::schedule::{Scheduler, Task};

use self::clockwork::Timing;

pub use self::book::{Kept, Ran};

/// How long after the start the first run may begin.
const START_WAIT: Duration = Duration::from_secs(5);
/// How often the clock and the file are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// All schedules. Cheap to clone; clones are the same schedules.
#[derive(Debug, Clone)]
pub struct Rota(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    databases: Vaults,
    state: StateDb,
    seed: u64,
    table: Mutex<Table>,
    /// Held while a row is written, so that rows are written in order.
    writing: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Table {
    list: Vec<ScheduleConfig>,
    file: ScheduleFile,
    kept: BTreeMap<String, Kept>,
}

/// One schedule, as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What it is.
    pub config: ScheduleConfig,
    /// When the next run begins.
    pub next: Option<DateTime<Utc>>,
    /// How it went so far; `None` before the first look at the clock.
    pub kept: Option<Kept>,
}

impl Rota {
    /// The rota, with what was kept of it; without that it begins anew.
    pub async fn load(
        schedules: &Schedules,
        scheduler: &Scheduler,
        databases: &Vaults,
        state: &StateDb,
    ) -> Self {
        let rows = book::load(state).await.unwrap_or_else(|error| {
            tracing::error!(error = error.full(), "it is not known what the schedules did");
            Vec::new()
        });
        let mut kept: BTreeMap<String, Kept> = rows.into_iter().collect();
        for (name, kept) in &mut kept {
            let entry = schedules.list.iter().find(|entry| entry.name == *name);
            let (was, due) = (kept.state, kept.due);
            if kept.is_running() {
                kept.state = Some(Ran::Interrupted);
            }
            // Cut off once: it is made up for. Twice: it may be what ends us.
            if was == Some(Ran::Running) && entry.is_none_or(|entry| entry.catch_up) {
                kept.looked = due.map_or(kept.looked, |due| due - TimeDelta::minutes(1));
            }
        }
        let table = Table { list: schedules.list.clone(), file: schedules.file.clone(), kept };
        let rota = Self(Arc::new(Inner {
            scheduler: scheduler.clone(),
            databases: databases.clone(),
            state: state.clone(),
            seed: rand::random(),
            table: Mutex::new(table),
            writing: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        }));
        rota.share_out();
        rota
    }

    /// Keeps to the schedules. Never returns.
    pub async fn run(self) {
        tokio::time::sleep(START_WAIT).await;
        loop {
            self.tick(self.now()).await;
            let now = self.now();
            let starts = self.list().await.into_iter().filter_map(|one| one.next);
            let wait = starts.min().and_then(|next| (next - now).to_std().ok());
            // A machine that sleeps meanwhile looks this long after it wakes up.
            let wait = wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            tokio::time::sleep(wait + Duration::from_millis(50)).await;
        }
    }

    /// From here on what fails was stopped with us, and is made up for after the next start.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// All schedules, PocketBase's last, as the file says at this moment.
    pub async fn list(&self) -> Vec<Shown> {
        self.follow_file();
        let (entries, _) = self.entries().await;
        let (table, now) = (self.table(), self.now());
        let shown = |config: ScheduleConfig| {
            let kept = table.kept.get(&config.name);
            let kept = kept.filter(|kept| kept.expression == config.when.text()).cloned();
            let looked = kept.as_ref().map_or(now, |kept| kept.looked);
            Shown { next: self.timing(&config).next(looked, now), kept, config }
        };
        entries.into_iter().map(shown).collect()
    }

    /// When the next backup of the folder begins by itself.
    pub async fn next_backup(&self) -> Option<DateTime<Utc>> {
        let list = self.list().await.into_iter();
        list.filter(|one| one.config.what.is_backup()).filter_map(|one| one.next).min()
    }

    /// Runs a schedule now, beside its times. The number of its job, where it is one.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Busy`] while its last run or another job goes on.
    pub async fn run_now(&self, name: &str) -> Result<Option<u64>> {
        let (entries, _) = self.entries().await;
        let entry = entries.into_iter().find(|entry| entry.name == name);
        let entry = entry
            .ok_or_else(|| Error::new(Kind::NotFound, format!("There is no schedule {name:?}.")))?;
        let now = self.now();
        let before = {
            let mut table = self.table();
            let new = || Kept::new(entry.when.text(), now);
            let kept = table.kept.entry(entry.name.clone()).or_insert_with(new);
            if kept.is_running() {
                return Err(Error::new(
                    Kind::Busy,
                    "Try again later - the last run of this schedule is not over.",
                ));
            }
            let before = kept.clone();
            kept.begin(now, now);
            before
        };
        match self.begin(&entry).await {
            Ok(begun) => {
                let job = begun.job;
                self.change(name, |kept| kept.job = job).await;
                let rota = self.clone();
                self.scheduler().vault.runtime().spawn(async move {
                    let result = begun.end.await;
                    rota.ended(&entry, result).await;
                });
                Ok(job)
            }
            Err(error) => {
                self.change(name, |kept| *kept = before).await;
                Err(error)
            }
        }
    }

    /// The schedules of this moment, and whether these are all: PocketBase's settings may not be
    /// readable.
    async fn entries(&self) -> (Vec<ScheduleConfig>, bool) {
        let mut entries = self.table().list.clone();
        let crons = match self.scheduler().crons().await {
            Ok(crons) => crons,
            Err(error) => {
                tracing::error!(
                    error = error.full(),
                    "cannot tell when PocketBase's backup is due"
                );
                return (entries, false);
            }
        };
        let automatic = crons.into_iter().find(|cron| cron.task == Task::AutoBackup);
        match automatic.map(|cron| Schedule::parse(&cron.expression)) {
            None => {}
            Some(Ok(schedule)) => entries.push(ScheduleConfig {
                name: Task::AutoBackup.id().to_owned(),
                when: Zoned { schedule, zone: Tz::UTC },
                what: What::Automatic,
                label: String::new(),
                jitter: Duration::ZERO,
                catch_up: true,
            }),
            Some(Err(error)) => tracing::warn!(%error, "PocketBase's schedule is not readable"),
        }
        (entries, true)
    }

    /// What a schedule does is not done by the daily round as well.
    fn share_out(&self) {
        let list = &self.table().list;
        let has = |fits: fn(&What) -> bool| list.iter().any(|entry| fits(&entry.what));
        let scheduled = &self.scheduler().scheduled;
        scheduled.prune.store(has(|what| *what == What::Prune), Ordering::Relaxed);
        scheduled.verify.store(has(|what| matches!(what, What::Verify(_))), Ordering::Relaxed);
    }

    /// Whether a backup that was made removes what the rules no longer keep: no schedule does.
    fn prunes_by_itself(&self) -> bool {
        self.scheduler().vault.has_rules()
            && !self.scheduler().scheduled.prune.load(Ordering::Relaxed)
    }

    async fn change(&self, name: &str, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.table().kept.get_mut(name) {
            change(kept);
        }
        self.write(name).await;
    }

    /// Brings what is known of a schedule to the disk. Best effort: the schedules are kept to
    /// without it.
    async fn write(&self, name: &str) {
        let _writing = self.0.writing.lock().await;
        let Some(kept) = self.table().kept.get(name).cloned() else { return };
        if let Err(error) = book::save(&self.0.state, name, &kept).await {
            tracing::error!(error = error.full(), "what a schedule did is not recorded");
        }
    }

    fn timing<'a>(&self, entry: &'a ScheduleConfig) -> Timing<'a> {
        let ScheduleConfig { name, when, jitter, .. } = entry;
        Timing { name, when, jitter: *jitter, seed: self.0.seed }
    }

    fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    fn databases(&self) -> &Vaults {
        &self.0.databases
    }

    fn now(&self) -> DateTime<Utc> {
        self.scheduler().clock.now()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
