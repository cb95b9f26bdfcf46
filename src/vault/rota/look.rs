//! A look at the clock: what is due begins, what was missed is told.

use std::sync::atomic::Ordering;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::schedule::{ScheduleConfig, What};
use crate::error::Result;
use crate::vault::jobs::public_words;
use crate::vault::rota::Rota;
use crate::vault::rota::book::{self, Kept, Ran};
use crate::vault::rota::clockwork::Due;
use crate::vault::rota::work::Begun;

/// How late a run may be without anybody being told: as long as it may wait for other jobs.
const LATE_TOLD: TimeDelta = TimeDelta::minutes(35);

/// What follows from a look at the clock.
#[derive(Debug)]
struct Order {
    entry: ScheduleConfig,
    due: Due,
    /// Whether it runs now.
    runs: bool,
    /// Whether it does not because the run before still goes on.
    overlaps: bool,
}

impl Rota {
    /// Looks at the file and at the clock, and begins what is due.
    pub(super) async fn tick(&self, now: DateTime<Utc>) {
        self.follow_file();
        let (entries, is_complete) = self.entries().await;
        let (orders, changed) = self.decide(&entries, now);
        for name in changed {
            self.write(&name).await;
        }
        if is_complete {
            self.forget_others(&entries).await;
        }
        for order in orders {
            self.follow(order, now).await;
        }
    }

    pub(super) fn follow_file(&self) {
        let mut table = self.table();
        match table.file.changed() {
            Ok(None) => {}
            Ok(Some(list)) => {
                tracing::info!(schedules = list.len(), "the schedules were read again");
                table.list = list;
                drop(table);
                self.share_out();
            }
            Err(error) => {
                tracing::error!(error = error.full(), "THE SCHEDULES ARE THOSE OF BEFORE");
            }
        }
    }

    fn decide(&self, entries: &[ScheduleConfig], now: DateTime<Utc>) -> (Vec<Order>, Vec<String>) {
        let (mut orders, mut changed) = (Vec::new(), Vec::new());
        let mut table = self.table();
        for entry in entries {
            let expression = entry.when.text();
            let new = || Kept::new(expression.clone(), now);
            let is_known = table.kept.contains_key(&entry.name);
            let kept = table.kept.entry(entry.name.clone()).or_insert_with(new);
            let before = kept.clone();
            if kept.expression != expression {
                (kept.expression, kept.looked) = (expression.clone(), now);
            }
            let (looked, due) = self.timing(entry).look(kept.looked, now);
            kept.looked = looked;
            if let Some(due) = due {
                let overlaps = kept.is_running();
                let runs = !overlaps && (!due.is_late || entry.catch_up);
                kept.missed += due.before + u64::from(!runs && !overlaps);
                kept.skipped += u64::from(overlaps);
                if runs {
                    kept.begin(due.at, now);
                    kept.missed = due.before;
                }
                orders.push(Order { entry: entry.clone(), due, runs, overlaps });
            }
            if *kept != before || !is_known {
                changed.push(entry.name.clone());
            }
        }
        (orders, changed)
    }

    async fn forget_others(&self, entries: &[ScheduleConfig]) {
        let is_there = |name: &String| entries.iter().any(|entry| entry.name == *name);
        let gone: Vec<String> =
            self.table().kept.keys().filter(|name| !is_there(name)).cloned().collect();
        for name in gone {
            let _writing = self.0.writing.lock().await;
            self.table().kept.remove(&name);
            if let Err(error) = book::forget(&self.0.state, &name).await {
                tracing::warn!(error = error.full(), "the records keep a schedule that is gone");
            }
        }
    }

    /// Says what was missed, and begins what runs.
    async fn follow(&self, order: Order, now: DateTime<Utc>) {
        let (name, due) = (&order.entry.name, order.due);
        let missed = due.before + u64::from(!order.runs);
        if order.overlaps {
            tracing::warn!(schedule = name, due = %due.at, "SKIPPED: the run before goes on");
        } else if missed > 0 || due.is_late {
            tracing::warn!(
                schedule = name,
                missed,
                due = %due.at,
                made_up = order.runs,
                "runs of a schedule were missed"
            );
        }
        // PocketBase's own is watched by what it leaves behind.
        let is_told = missed > 0 || (due.is_late && now - due.at > LATE_TOLD);
        if is_told
            && order.entry.what != What::Automatic
            && let Some(alarms) = &self.scheduler().alarms
        {
            alarms.schedule_missed(name, missed.max(1), due.at, order.runs, order.overlaps).await;
        }
        if order.runs {
            let (rota, entry) = (self.clone(), order.entry);
            self.scheduler().vault.runtime().spawn(async move { rota.carry_out(entry).await });
        }
    }

    async fn carry_out(self, entry: ScheduleConfig) {
        tracing::info!(schedule = entry.name, what = entry.what.as_str(), "a schedule is due");
        let result = match self.begin_patiently(&entry).await {
            Ok(Begun { job, end }) => {
                self.change(&entry.name, |kept| kept.job = job).await;
                end.await
            }
            Err(error) => Err(error),
        };
        self.ended(&entry, result).await;
    }

    /// Keeps how a run ended, and tells of a backup that was not made.
    pub(super) async fn ended(&self, entry: &ScheduleConfig, result: Result<String>) {
        if result.is_err() && self.0.stopping.load(Ordering::Acquire) {
            // Its record stays as it is: under way.
            return;
        }
        let (state, said) = match &result {
            Ok(said) => (Ran::Done, said.clone()),
            Err(error) => (Ran::Failed, public_words(error).0),
        };
        let now = self.now();
        self.change(&entry.name, |kept| {
            (kept.state, kept.said, kept.ended) = (Some(state), said, Some(now));
        })
        .await;
        let scheduler = self.scheduler();
        if let Err(error) = &result {
            tracing::error!(schedule = entry.name, error = error.full(), "a schedule's run failed");
            // What a job says of itself is told by its record; who never got to a job is silent.
            let is_silent = matches!(entry.what, What::Backup | What::Dump(_));
            if is_silent && let Some(alarms) = &scheduler.alarms {
                alarms.scheduled_backup_failed(error).await;
            }
            if entry.what == What::Backup {
                scheduler.mailer.report_failed_backup(error).await;
            }
        } else if let Some(alarms) = &scheduler.alarms {
            alarms.schedule_kept(&entry.name).await;
        }
    }
}
