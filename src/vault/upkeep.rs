//! Housekeeping by the clock: what PocketBase does on its databases, and the data from before a
//! restore that nobody wants back.

use chrono::TimeDelta;
use tokio::task::spawn_blocking;

use crate::clock::pocketbase_time;
use crate::error::{Context, Result};
use crate::restore;
use crate::vault::schedule::{Duty, Scheduler};

impl Scheduler {
    /// Whether it is ours to restore, and so to clear up after restores.
    pub(super) fn has_old_data(&self) -> bool {
        self.duty != Duty::Nothing || self.vault.restore().commands.is_some()
    }

    /// [`Scheduler::forget_old_data`] as a duty of the house, not one of PocketBase's tasks.
    pub(super) async fn forget(&self) {
        if !self.has_old_data() {
            return;
        }
        if let Err(error) = self.forget_old_data().await {
            tracing::error!(error = error.full(), "the data from before a restore stays");
        }
    }

    /// The data from before a restore is kept for an undo, but not for ever. Under the flight:
    /// what a restore is staging right now looks like something old.
    async fn forget_old_data(&self) -> Result<()> {
        let age_max = TimeDelta::from_std(self.vault.restore().keep_old).unwrap_or(TimeDelta::MAX);
        let (data, clock) = (self.vault.data().clone(), self.clock.clone());
        let is_old = move || restore::has_old(&data, age_max, &clock);
        // Clients that make a backup are not turned away for nothing.
        if !spawn_blocking(is_old).await.context("a thread stopped")?? {
            return Ok(());
        }
        let Ok(ticket) = self.vault.hold() else { return Ok(()) };
        let (data, clock) = (self.vault.data().clone(), self.clock.clone());
        let pruned = spawn_blocking(move || restore::prune_old(&data, age_max, &clock));
        let pruned = pruned.await.context("a thread stopped")?;
        drop(ticket);
        if pruned? {
            tracing::info!("the data from before an old restore goes");
            restore::empty_trash_later(self.vault.data());
        }
        Ok(())
    }

    pub(super) async fn optimize(&self) -> Result<()> {
        for pool in [self.database.data(), self.database.auxiliary()] {
            for statement in ["PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize"] {
                sqlx::query(statement).execute(pool).await.context("cannot optimize a database")?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete_old_logs(&self) -> Result<()> {
        let days = self.settings.current().await?.values().logs.max_days;
        let age = TimeDelta::try_days(days.max(0));
        // Older than time itself: then everything is young enough.
        let Some(before) = age.and_then(|age| self.clock.now().checked_sub_signed(age)) else {
            return Ok(());
        };
        sqlx::query("DELETE FROM _logs WHERE created <= ?")
            .bind(pocketbase_time(before))
            .execute(self.database.auxiliary())
            .await
            .map(drop)
            .context("cannot delete old log lines")
    }
}
