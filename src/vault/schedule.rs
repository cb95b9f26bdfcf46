//! What runs by the clock: PocketBase's automatic backup, and the housekeeping that PocketBase
//! does on its databases. Minutes are UTC, as PocketBase's are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::auth::directory::Directory;
use crate::clock::Clock;
use crate::cron::Schedule;
use crate::database::Database;
use crate::error::{Context, Error, Kind, Result};
use crate::restore;
use crate::settings::limits::Limiter;
use crate::settings::store::Store;
use crate::vault::Vault;
use crate::vault::alarms::Alarms;
use crate::vault::jobs::Method;
use crate::vault::mailer::Mailer;
use chrono::{DateTime, TimeDelta, Timelike, Utc};

/// Minutes that a late wake-up makes up for at most: a machine that slept longer starts anew.
const CATCH_UP_MINUTES_MAX: i64 = 5;
/// Tries of an automatic backup that found the flight taken, a minute apart.
const BUSY_TRIES: u32 = 30;
const BUSY_WAIT: Duration = Duration::from_secs(60);
/// How often the age of the data from before a restore is looked at.
const FORGET_EVERY_MINUTES: u32 = 15;
/// How long after the start nothing is forgotten: the clock of a machine that was just started
/// may be wrong until the network says otherwise.
const FORGET_AFTER: Duration = Duration::from_secs(5 * 60);

/// A task that runs by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Cuts back the write-ahead logs and lets SQLite refresh its statistics.
    Optimize,
    /// Deletes second-factor sessions that are over.
    MfaCleanup,
    /// Deletes one-time passwords that are over.
    OtpCleanup,
    /// Deletes old log lines.
    LogsCleanup,
    /// Makes an automatic backup and prunes the older ones.
    AutoBackup,
    /// Forgets who was counted by the rate limits long ago.
    LimitsCleanup,
}

impl Task {
    /// PocketBase's name of it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Optimize => "__pbDBOptimize__",
            Self::MfaCleanup => "__pbMFACleanup__",
            Self::OtpCleanup => "__pbOTPCleanup__",
            Self::LogsCleanup => "__pbLogsCleanup__",
            Self::AutoBackup => "__pbAutoBackup__",
            Self::LimitsCleanup => "__pbRateLimitersCleanup__",
        }
    }
}

/// A task and when it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// What runs.
    pub task: Task,
    /// When, in PocketBase's grammar.
    pub expression: String,
}

/// Whose the work by the clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// All of it is ours.
    All,
    /// The backups are ours; the program that owns the databases keeps them tidy itself.
    Backups,
    /// None: two schedulers on one folder would both make backups.
    Nothing,
}

/// What schedules of the configuration do, so that the daily round leaves it to them.
#[derive(Debug, Default)]
pub(super) struct Scheduled {
    pub(super) prune: AtomicBool,
    pub(super) verify: AtomicBool,
}

/// Runs tasks by the clock, those that are our duty.
#[derive(Debug, Clone)]
pub struct Scheduler {
    pub(super) vault: Arc<Vault>,
    pub(super) database: Database,
    directory: Directory,
    pub(super) settings: Arc<Store>,
    pub(super) mailer: Mailer,
    limits: Arc<Limiter>,
    pub(super) clock: Clock,
    pub(super) duty: Duty,
    pending: Arc<AtomicBool>,
    pub(super) alarms: Option<Alarms>,
    pub(super) scheduled: Arc<Scheduled>,
}

impl Scheduler {
    /// A scheduler; [`Scheduler::run`] starts it.
    pub fn new(
        vault: &Arc<Vault>,
        database: &Database,
        directory: &Directory,
        settings: &Arc<Store>,
        mailer: &Mailer,
        limits: &Arc<Limiter>,
    ) -> Self {
        let clock = vault.clock().clone();
        let (duty, pending, alarms) = (Duty::All, Arc::default(), None);
        let scheduled = Arc::default();
        Self {
            vault: vault.clone(),
            database: database.clone(),
            directory: directory.clone(),
            settings: settings.clone(),
            mailer: mailer.clone(),
            limits: limits.clone(),
            clock,
            duty,
            pending,
            alarms,
            scheduled,
        }
    }

    /// The same, telling others of backups that failed.
    #[must_use]
    pub fn with_alarms(mut self, alarms: Alarms) -> Self {
        self.alarms = Some(alarms);
        self
    }

    /// The same, with another duty than all.
    #[must_use]
    pub fn with_duty(mut self, duty: Duty) -> Self {
        self.duty = duty;
        self
    }

    /// What runs at this moment's settings, in PocketBase's order.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub async fn crons(&self) -> Result<Vec<Cron>> {
        let cron = |task, expression: &str| Cron { task, expression: expression.to_owned() };
        let mut crons = match self.duty {
            Duty::Nothing => return Ok(Vec::new()),
            Duty::Backups => Vec::new(),
            Duty::All => vec![
                cron(Task::Optimize, "0 0 * * *"),
                cron(Task::MfaCleanup, "0 * * * *"),
                cron(Task::OtpCleanup, "0 * * * *"),
                cron(Task::LogsCleanup, "0 */6 * * *"),
            ],
        };
        if self.duty == Duty::All && self.limits.has_counted() {
            crons.push(cron(Task::LimitsCleanup, "2 * * * *"));
        }
        let settings = self.settings.current().await?;
        if !settings.values().backups.cron.is_empty() {
            crons.push(cron(Task::AutoBackup, &settings.values().backups.cron));
        }
        Ok(crons)
    }

    /// Wakes up each minute and runs what is due. Never returns.
    pub async fn run(self) {
        let mut last = minute_of(self.clock.now());
        let begun = Instant::now();
        if self.has_old_data() {
            restore::empty_trash_later(self.vault.data());
        }
        loop {
            let now = self.clock.now();
            let next = minute_of(now) + TimeDelta::minutes(1);
            let wait = (next - now).to_std().unwrap_or(Duration::from_secs(1));
            tokio::time::sleep(wait.min(Duration::from_secs(60))).await;
            let now = minute_of(self.clock.now());
            match self.due(last, now).await {
                Ok(due) => due.into_iter().for_each(|task| self.clone().spawn(task)),
                Err(error) => {
                    tracing::error!(error = error.full(), "cannot tell which tasks are due");
                }
            }
            let is_settled = begun.elapsed() >= FORGET_AFTER;
            if is_settled && now.minute().is_multiple_of(FORGET_EVERY_MINUTES) {
                self.forget().await;
                self.make_round().await;
            }
            last = last_after(last, now);
        }
    }

    /// Looks after the backups. Who only reads the folder leaves them to its owner.
    async fn make_round(&self) {
        if self.duty == Duty::Nothing {
            return;
        }
        let is_free = |by_schedule: &AtomicBool| !by_schedule.load(Ordering::Relaxed);
        let (prune, verify) = (is_free(&self.scheduled.prune), is_free(&self.scheduled.verify));
        if let Err(error) = self.vault.make_round(prune, verify).await {
            tracing::error!(error = error.full(), "old backups were not looked after");
        }
    }

    /// The tasks of the minutes after `last` up to `now`, each once.
    async fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<Task>> {
        let earliest = now - TimeDelta::minutes(CATCH_UP_MINUTES_MAX);
        let first = (last + TimeDelta::minutes(1)).max(earliest);
        let mut crons = self.crons().await?;
        // That one is kept by the rota, with all other schedules.
        crons.retain(|cron| cron.task != Task::AutoBackup);
        if self.duty == Duty::Backups {
            // Nobody asked for it, so nobody is shown it.
            crons.push(Cron { task: Task::Optimize, expression: "0 0 * * *".to_owned() });
        }
        Ok(due_between(&crons, first, now))
    }

    /// Runs a task in the background; how it ends is logged.
    pub fn spawn(self, task: Task) {
        let runtime = self.vault.runtime().clone();
        runtime.spawn(async move {
            let result = match task {
                Task::AutoBackup => self.automatic().await,
                task => self.perform(task).await,
            };
            if let Err(error) = result {
                tracing::error!(task = task.id(), error = error.full(), "a scheduled task failed");
            }
        });
    }

    /// Makes PocketBase's automatic backup, and tells of one that was not made.
    ///
    /// # Errors
    /// It was not made.
    pub(super) async fn automatic(&self) -> Result<()> {
        let result = self.perform(Task::AutoBackup).await;
        if let Err(error) = &result {
            self.mailer.report_failed_backup(error).await;
            if let Some(alarms) = &self.alarms {
                alarms.scheduled_backup_failed(error).await;
            }
        }
        result
    }

    async fn perform(&self, task: Task) -> Result<()> {
        match task {
            Task::Optimize => match self.duty {
                Duty::All => self.optimize().await,
                _ => Ok(()),
            },
            Task::LimitsCleanup => {
                self.limits.sweep();
                Ok(())
            }
            Task::MfaCleanup => self.directory.delete_expired_mfas().await.map(drop),
            Task::OtpCleanup => self.directory.delete_expired_otps().await.map(drop),
            Task::LogsCleanup => self.delete_old_logs().await,
            Task::AutoBackup => self.auto_backup().await,
        }
    }

    /// One at a time: a second one that is asked for while the first waits is that one.
    async fn auto_backup(&self) -> Result<()> {
        if self.pending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let made = self.make_auto_backup().await;
        self.pending.store(false, Ordering::Release);
        if !made? {
            tracing::warn!("the backup is not complete: no older one is removed");
            return Ok(());
        }
        let settings = self.settings.current().await?;
        let app_name = &settings.values().meta.app_name;
        let keep = usize::try_from(settings.values().backups.cron_max_keep).unwrap_or(0);
        if let Err(error) = self.vault.prune_automatic(keep, app_name).await {
            tracing::error!(error = error.full(), "old automatic backups were not removed");
        }
        Ok(())
    }

    /// Whether what was made is complete.
    async fn make_auto_backup(&self) -> Result<bool> {
        let settings = self.settings.current().await?;
        let app_name = &settings.values().meta.app_name;
        for _ in 0..BUSY_TRIES {
            match self.vault.begin_create(None, app_name, Method::Scheduled).await {
                Ok(creating) => {
                    let job = creating.job();
                    creating.spawn().await.context("the backup's task stopped")??;
                    return Ok(self.vault.jobs().find(job).is_some_and(|job| job.complete));
                }
                Err(error) if error.kind() == &Kind::Busy => tokio::time::sleep(BUSY_WAIT).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Busy, "no moment was free for the automatic backup"))
    }
}

/// The last minute that was looked at, after a look at `now`. A clock that was set back by more
/// than a little is believed: nothing would run until the old time came again.
fn last_after(last: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    if now + TimeDelta::minutes(CATCH_UP_MINUTES_MAX) < last { now } else { last.max(now) }
}

fn minute_of(time: DateTime<Utc>) -> DateTime<Utc> {
    time.with_second(0).and_then(|time| time.with_nanosecond(0)).unwrap_or(time)
}

fn due_between(crons: &[Cron], first: DateTime<Utc>, last: DateTime<Utc>) -> Vec<Task> {
    let mut due = Vec::new();
    for cron in crons {
        let Ok(schedule) = Schedule::parse(&cron.expression) else {
            tracing::warn!(task = cron.task.id(), "the schedule is not readable");
            continue;
        };
        let mut minute = first;
        while minute <= last {
            if schedule.matches(minute) {
                due.push(cron.task);
                break;
            }
            minute += TimeDelta::minutes(1);
        }
    }
    due
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
