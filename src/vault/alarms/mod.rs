//! Who is told when something goes wrong, and when it is well again.
//!
//! A watcher follows the records of jobs and the clock. A trouble (a *condition*) is told when
//! it begins, again when it goes on for long, and when it ends. What was told is kept in our own
//! database together with what is still on its way: a restart repeats nothing and loses nothing.

mod book;
mod deliver;
mod judge;
mod schedules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::{Clock, pocketbase_time};
use crate::config::notify::{Channel, Event, NotifyConfig, Way};
use crate::cron::Schedule;
use crate::error::{Error, Kind, Result};
use crate::notify::client::{Client, Origin};
use crate::notify::heartbeat::Beat;
use crate::notify::note::Note;
use crate::state::StateDb;
use crate::vault::Vault;
use crate::vault::jobs::{Job, JobKind, State, public_words};
use crate::vault::mailer::Mailer;
use crate::vault::schedule::{Scheduler, Task};

use self::book::{Book, Watch};
use self::deliver::Means;
use self::judge::Step;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often the storage is asked for the newest backup while the age is in doubt.
const AGE_EVERY: TimeDelta = TimeDelta::minutes(15);

/// The watcher, and the way to everybody. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Alarms {
    config: Arc<NotifyConfig>,
    channels: Arc<Vec<(Channel, Arc<Notify>)>>,
    vault: Arc<Vault>,
    clock: Clock,
    means: Means,
    seen: Arc<Mutex<Seen>>,
    /// Two looks at once would tell things twice.
    looking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Jobs whose beginning was told.
    begun: HashSet<u64>,
    /// When the age was looked at last.
    age: Option<DateTime<Utc>>,
}

impl Alarms {
    /// A watcher over the vault's jobs.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(
        config: NotifyConfig,
        vault: Arc<Vault>,
        state: StateDb,
        mailer: Mailer,
    ) -> Result<Self> {
        let channels =
            config.channels.iter().cloned().map(|channel| (channel, Arc::default())).collect();
        Ok(Self {
            config: Arc::new(config),
            channels: Arc::new(channels),
            clock: vault.clock().clone(),
            means: Means::new(state, mailer)?,
            vault,
            seen: Arc::default(),
            looking: Arc::default(),
        })
    }

    /// Begins to watch where nobody watched before: what happens from now on is news.
    ///
    /// # Errors
    /// Our database cannot be used.
    pub async fn begin(&self) -> Result<()> {
        let mut book = Book::open(&self.means.state).await?;
        if book.watch().await?.is_none() {
            let (now, jobs) = (self.clock.now(), self.vault.jobs().list());
            let good = |job: &&Job| is_good(job) && job.is_of_folder(JobKind::Create);
            let good = jobs.iter().filter(good).filter_map(|job| job.ended).max();
            let watch = Watch {
                revision: jobs.iter().map(|job| job.revision).max().unwrap_or(0),
                expression: String::new(),
                looked: now,
                good: good.unwrap_or(now),
            };
            book.save_watch(&watch).await?;
        }
        book.close().await
    }

    /// Watches and delivers. Never returns; what it does ends when it is dropped.
    pub async fn run(self, scheduler: Scheduler) {
        let mut tasks = JoinSet::new();
        for (channel, wake) in self.channels.iter() {
            tasks.spawn(self.means.clone().serve(channel.clone(), wake.clone()));
        }
        let mut changes = self.vault.jobs().changes();
        loop {
            changes.mark_unchanged();
            let schedule = schedule_of(&scheduler).await;
            if let Err(error) = self.look(schedule.as_ref()).await {
                tracing::error!(error = error.full(), "cannot watch over the backups");
            }
            // Many changes at once are one look.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        }
    }

    /// A scheduled backup failed, perhaps before it was a job.
    pub async fn scheduled_backup_failed(&self, error: &Error) {
        let now = self.clock.now();
        let (said, hint) = public_words(error);
        let text = format!("The scheduled backup failed.\n{said}");
        let mut note = judge::plain(Event::Failure, "A backup failed", text, now);
        note.hint = hint;
        note.kind = Some(JobKind::Create.as_str().to_owned());
        let step = Step::Raise(judge::BACKUP.to_owned(), note);
        let noted: Result<()> = async {
            let _looking = self.looking.lock().await;
            let mut book = Book::open(&self.means.state).await?;
            if let Some(mut watch) = book.watch().await? {
                // It was not missed.
                watch.looked = watch.looked.max(now);
                book.save_watch(&watch).await?;
            }
            self.follow(&mut book, &step, now).await?;
            book.close().await?;
            self.wake();
            Ok(())
        }
        .await;
        if let Err(error) = noted {
            tracing::error!(error = error.full(), "nobody was told of a failed backup");
        }
    }

    /// The troubles that go on: what each is about, and since when.
    ///
    /// # Errors
    /// Our database cannot be read.
    pub async fn troubles(&self) -> Result<Vec<(String, DateTime<Utc>)>> {
        book::troubles(&self.means.state).await
    }

    /// Everybody who is told of something.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(|(channel, _)| channel)
    }

    /// Sends a test to one of the configured receivers, once, and waits for it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown name; what the receiver has against it.
    pub async fn try_out(&self, name: &str) -> Result<()> {
        let channel = self.channels().find(|channel| channel.name == name);
        let channel = channel.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("There is no receiver named {name:?}."))
        })?;
        self.send_test(&self.means.client.clone(), channel).await
    }

    /// Sends a test to a receiver that a client of the API describes, once, and waits for it.
    /// Nothing inside the house is asked for it.
    ///
    /// # Errors
    /// [`Kind::Denied`] for what lies inside; what the receiver has against it.
    pub async fn try_out_new(&self, channel: &Channel) -> Result<()> {
        if matches!(&channel.way, Way::Mail(mail) if mail.smtp.is_some()) {
            return Err(Error::new(
                Kind::Denied,
                "A mail server is for the configuration file only.",
            ));
        }
        self.send_test(&Client::new(Origin::Api)?, channel).await
    }

    async fn send_test(&self, client: &Client, channel: &Channel) -> Result<()> {
        let now = self.clock.now();
        let text = "If you read this, news of backups arrive here.".to_owned();
        let note = judge::plain(Event::Test, "This is a test", text, now);
        let delivery = format!("{}-test", now.timestamp_millis());
        let sent = self.means.send(client, channel, &self.named(&note), &delivery).await;
        sent.map_err(|refused| refused.error)
    }

    /// Looks at the jobs and at the clock, and puts what is new on its way.
    async fn look(&self, schedule: Option<&Schedule>) -> Result<()> {
        let _looking = self.looking.lock().await;
        let now = self.clock.now();
        let mut jobs = self.vault.jobs().list();
        jobs.sort_by_key(|job| job.revision);
        let newest = self.newest_if_asked(now).await;
        let mut book = Book::open(&self.means.state).await?;
        let Some(mut watch) = book.watch().await? else { return book.close().await };
        for job in jobs.iter().filter(|job| job.revision > watch.revision) {
            for step in judge::of_job(job) {
                if let Step::Good(at) = step {
                    watch.good = watch.good.max(at);
                } else if self.is_new(job, &step) {
                    self.follow(&mut book, &step, now).await?;
                }
            }
        }
        watch.revision = jobs.last().map_or(watch.revision, |job| watch.revision.max(job.revision));
        self.look_at_schedule(&mut book, &mut watch, schedule, &jobs, now).await?;
        if let Some(newest) = newest {
            watch.good = watch.good.max(newest);
            self.look_at_age(&mut book, &watch, now).await?;
        }
        book.save_watch(&watch).await?;
        book.close().await?;
        self.wake();
        Ok(())
    }

    /// A beginning is told once, however often the job's record changes.
    fn is_new(&self, job: &Job, step: &Step) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Step::Tell(note) if note.event == Event::Start => seen.begun.insert(job.id),
            _ => {
                seen.begun.remove(&job.id);
                true
            }
        }
    }

    async fn look_at_schedule(
        &self,
        book: &mut Book,
        watch: &mut Watch,
        schedule: Option<&Schedule>,
        jobs: &[Job],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let expression = schedule.map(ToString::to_string).unwrap_or_default();
        let Some(schedule) = schedule.filter(|_| expression == watch.expression) else {
            // A new schedule has missed nothing yet.
            (watch.expression, watch.looked) = (expression, now);
            return Ok(());
        };
        let (missed, looked) = judge::missed(schedule, jobs, watch.looked, now);
        watch.looked = looked;
        let Some(last) = missed.last() else { return Ok(()) };
        let text = format!(
            "{} scheduled backup(s) did not begin; the last one was due at {}.",
            missed.len(),
            pocketbase_time(*last)
        );
        let mut note = judge::plain(Event::Missed, "A scheduled backup was missed", text, now);
        note.hint = Some("was the server stopped, or the machine asleep?".to_owned());
        self.follow(book, &Step::Raise(judge::SCHEDULE.to_owned(), note), now).await
    }

    /// When the newest backup was made that anybody made, if it is time to look at that.
    async fn newest_if_asked(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.age.is_some_and(|last| (now - last).abs() < AGE_EVERY) {
                return None;
            }
            seen.age = Some(now);
        }
        match self.vault.list().await {
            Ok(backups) => {
                let newest = backups.into_iter().map(|backup| backup.modified).max();
                // One of the future is a clock that was wrong.
                Some(newest.filter(|newest| *newest <= now).unwrap_or(DateTime::UNIX_EPOCH))
            }
            Err(error) => {
                tracing::warn!(error = error.full(), "cannot tell how old the backups are");
                Some(DateTime::UNIX_EPOCH)
            }
        }
    }

    async fn look_at_age(&self, book: &mut Book, watch: &Watch, now: DateTime<Utc>) -> Result<()> {
        let limit = TimeDelta::from_std(self.config.stale_after).unwrap_or(TimeDelta::MAX);
        let age = now - watch.good;
        let step = if age > limit {
            let text = format!(
                "There is no good backup since {} ({} h).",
                pocketbase_time(watch.good),
                age.num_hours()
            );
            let note = judge::plain(Event::Stale, "The last good backup is old", text, now);
            Step::Raise(judge::AGE.to_owned(), note)
        } else {
            let text = "There is a backup that is young enough.".to_owned();
            let note = judge::plain(Event::Recovery, "Backups are young again", text, now);
            Step::Clear(vec![judge::AGE.to_owned()], note)
        };
        self.follow(book, &step, now).await
    }

    async fn follow(&self, book: &mut Book, step: &Step, now: DateTime<Utc>) -> Result<()> {
        let repeat = TimeDelta::from_std(self.config.repeat).unwrap_or(TimeDelta::MAX);
        match step {
            Step::Good(_) => Ok(()),
            Step::Tell(note) => self.put(book, note, true, now).await,
            Step::Raise(condition, note) => {
                let told = book.raise(condition, now, repeat).await?;
                self.put(book, note, told, now).await
            }
            Step::Clear(conditions, note) => {
                let mut note = note.clone();
                let mut any = false;
                for condition in conditions {
                    if let Some(since) = book.clear(condition).await? {
                        any = true;
                        note.text.push_str(&format!(
                            "\nThe trouble ({condition}) began at {}.",
                            pocketbase_time(since)
                        ));
                    }
                }
                if any { self.put(book, &note, true, now).await } else { Ok(()) }
            }
        }
    }

    /// Puts news on their way to all who want them. Heartbeats get every beat of a backup.
    async fn put(
        &self,
        book: &mut Book,
        note: &Note,
        is_news: bool,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let of_backup = note.kind.as_deref() == Some(JobKind::Create.as_str());
        let note = self.named(note);
        for channel in self.channels() {
            let wanted = match &channel.way {
                Way::Heartbeat(_) => of_backup && Beat::of(note.event).is_some(),
                _ => is_news && channel.events.contains(&note.event),
            };
            if wanted {
                book.put(&channel.name, &note, now).await?;
            }
        }
        Ok(())
    }

    fn named(&self, note: &Note) -> Note {
        let mut note = note.clone();
        if !self.config.name.is_empty() {
            note.title = format!("{}: {}", self.config.name, note.title);
        }
        note
    }

    fn wake(&self) {
        for (_, wake) in self.channels.iter() {
            wake.notify_one();
        }
    }
}

fn is_good(job: &Job) -> bool {
    job.state == State::Done && job.complete
}

/// The schedule that is ours to keep to.
async fn schedule_of(scheduler: &Scheduler) -> Option<Schedule> {
    let crons = scheduler.crons().await.ok()?;
    let auto = crons.into_iter().find(|cron| cron.task == Task::AutoBackup)?;
    Schedule::parse(&auto.expression).ok()
}
