//! From the disk to a running application: data that was just swapped in is proven by that, or
//! rolled back; a program that owns the folder is started. `docs/restore.md` has the rules.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::app::outside::{self, NotUp};
use crate::app::{App, encryption_of};
use crate::clock::Clock;
use crate::config::Config;
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::front::{Front, Supervisor, Verdict};
use crate::http::services::Behind;
use crate::occupants;
use crate::restore::{self, Phase, Recovery};
use crate::settings::held::Keeper;
use crate::settings::store::Store;

/// Pause before a program that cannot be run is looked for again.
const PROGRAM_PAUSE: Duration = Duration::from_secs(5);
/// Where the held part of the settings lies in the state folder.
const HELD: &str = "settings";

/// How long the databases may stay open after the program was stopped.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// Why restored data was not accepted.
enum Refused {
    /// It cannot be used, and nobody has it open any more.
    Free(Error),
    /// Somebody may have it open still: nothing may be moved.
    Held(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Free(error)
    }
}

/// What an application is started with.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The time.
    pub clock: &'a Clock,
    /// Who runs the program behind us, if there is one.
    pub supervisor: Option<&'a Supervisor>,
    /// Becomes true when we are about to stop.
    pub leaving: watch::Receiver<bool>,
}

impl Start<'_> {
    /// Starts the application after `recovery`.
    ///
    /// # Errors
    /// The data cannot be used, neither the new nor the old; the program cannot be run.
    pub async fn after(&self, recovery: Recovery) -> Result<App> {
        match recovery {
            Recovery::Nothing { swept } => {
                if swept > 0 {
                    tracing::info!(swept, "removed what abandoned restores left");
                }
                let app = self.begin().await?;
                app.settle_earlier(self.earlier_verdict()).await;
                Ok(app)
            }
            Recovery::RolledBack { subject, reason } => {
                tracing::error!(key = subject.key, reason, "a restore was rolled back");
                let app = self.begin().await?;
                app.settle(Some((&subject.id, Err(rolled_back())))).await;
                Ok(app)
            }
            Recovery::Swapped { subject, attempt } => {
                tracing::info!(key = subject.key, attempt, "restored data is in place");
                let keeper = match self.keeper() {
                    Ok(keeper) => keeper,
                    Err(error) => {
                        // A wrong key, say: the new data was not even looked at.
                        restore::forget_attempt(&self.config.data)?;
                        return Err(error);
                    }
                };
                match self.with_new_data(keeper).await {
                    Ok(app) => {
                        restore::prove(&self.config.data, self.clock)?;
                        tracing::info!(key = subject.key, "the restore is proven");
                        app.settle(Some((&subject.id, Ok(())))).await;
                        Ok(app)
                    }
                    Err(Refused::Held(error)) => {
                        let hint = "stop what uses the data, then start pocketvault again: it \
                                    finishes the restore or takes it back";
                        Err(error.hint(hint))
                    }
                    Err(Refused::Free(error)) => {
                        let reason = error.full();
                        tracing::error!(reason, "the restored data cannot be used: ROLLING BACK");
                        restore::roll_back(&self.config.data, &reason, self.clock)?;
                        // The old data carries its schedule itself.
                        let app = self.begin().await?;
                        app.settle(Some((&subject.id, Err(rolled_back())))).await;
                        Ok(app)
                    }
                }
            }
        }
    }

    /// How the last restore ended, for a record that was not told: we were killed in between,
    /// or the command line finished it.
    fn earlier_verdict(&self) -> Option<(String, Result<()>)> {
        let status = restore::status(&self.config.data).unwrap_or_else(|error| {
            tracing::warn!(error = error.full(), "cannot tell how the last restore ended");
            None
        })?;
        match status.phase {
            Phase::Proven => Some((status.subject.id, Ok(()))),
            Phase::RolledBack => Some((status.subject.id, Err(rolled_back()))),
            _ => None,
        }
    }

    /// With data that nobody doubts.
    async fn begin(&self) -> Result<App> {
        let keeper = self.keeper()?;
        let Some(supervisor) = self.supervisor else {
            let app = self.build(None).await?;
            if let Err(NotUp { error, .. }) = outside::start(self.config).await {
                tracing::error!(error = error.full(), "START THE APPLICATION BY HAND");
            }
            return Ok(app);
        };
        if !self.config.data.data_db().exists() {
            // The program makes its own data; it must not know of a schedule later either.
            tracing::info!("a first start of the program, which makes its data");
            supervisor.start();
            let verdict = supervisor.verdict(self.start_timeout()).await;
            supervisor.stop().await;
            if !self.config.data.data_db().exists() {
                let folder = self.config.data.root().display();
                let message = format!("the program made no data in {folder}: {verdict:?}");
                return Err(Error::new(Kind::Unavailable, message)
                    .hint("is it a PocketBase, and does its command line say `serve`?"));
            }
        }
        self.settle(keeper.as_deref()).await?;
        let app = self.build(keeper).await?;
        supervisor.start();
        match supervisor.verdict(self.start_timeout()).await {
            Verdict::Well => {}
            Verdict::NotStarted(why) => {
                supervisor.stop().await;
                app.close().await;
                return Err(Error::new(Kind::Unavailable, why));
            }
            // Backups can be had, and restored, all the same.
            verdict => tracing::error!(?verdict, "the program does not answer as it should"),
        }
        Ok(app)
    }

    /// With data that was just swapped in.
    async fn with_new_data(
        &self,
        keeper: Option<Arc<Keeper>>,
    ) -> std::result::Result<App, Refused> {
        if !self.config.data.data_db().exists() {
            // An empty one would be made, and proven.
            let message = "the restored data has no data.db";
            return Err(Refused::Free(Error::new(Kind::Corrupt, message)));
        }
        if self.supervisor.is_some() {
            self.settle(keeper.as_deref()).await?;
        }
        let app = self.build(keeper).await?;
        if let Err(error) = app.check_login().await {
            app.close().await;
            return Err(Refused::Free(error));
        }
        let Some(supervisor) = self.supervisor else {
            if let Err(NotUp { error, is_down }) = outside::start(self.config).await {
                app.close().await;
                return Err(if is_down { Refused::Free(error) } else { Refused::Held(error) });
            }
            return Ok(app);
        };
        supervisor.start();
        loop {
            let against = match supervisor.verdict(self.start_timeout()).await {
                Verdict::Well => return Ok(app),
                Verdict::Odd(status) => {
                    // It came up with this data; what it means by that is not the data's fault.
                    tracing::warn!(status, "the program is up, but says that it is not well");
                    return Ok(app);
                }
                Verdict::NotStarted(why) => {
                    tracing::error!(why, "no verdict on the restored data without the program");
                    tokio::time::sleep(PROGRAM_PAUSE).await;
                    continue;
                }
                Verdict::Silent => "the program did not answer in time".to_owned(),
                Verdict::Dies(how) => format!("the program dies when it is started: {how}"),
            };
            supervisor.stop().await;
            app.close().await;
            return Err(self.refused(Error::new(Kind::Corrupt, against)).await);
        }
    }

    /// What the program's end means: one that could not be ended still writes.
    async fn refused(&self, error: Error) -> Refused {
        let data = self.config.data.clone();
        let left = spawn_blocking(move || occupants::lasting_processes(&data, RELEASE_MAX)).await;
        match left {
            Ok(left) if left.is_empty() => Refused::Free(error),
            left => {
                tracing::error!(?left, "the program was stopped, but its data is in use");
                Refused::Held(error)
            }
        }
    }

    /// Takes over the schedule while nobody runs on the data.
    async fn settle(&self, keeper: Option<&Keeper>) -> Result<()> {
        let Some(keeper) = keeper else { return Ok(()) };
        let database = Database::open(self.config.data.root(), Access::ReadWrite)?;
        let encryption = encryption_of(self.config);
        let row = Store::new(database.clone(), encryption, self.clock.clone()).as_stored();
        let settled = keeper.settle(&row).await;
        database.close().await;
        settled
    }

    fn keeper(&self) -> Result<Option<Arc<Keeper>>> {
        if self.supervisor.is_none() {
            return Ok(None);
        }
        let path = self.config.data.state().join(HELD);
        let keeper = Keeper::open(path, encryption_of(self.config))?;
        Ok(Some(Arc::new(keeper)))
    }

    async fn build(&self, keeper: Option<Arc<Keeper>>) -> Result<App> {
        let program = self.supervisor.zip(keeper).map(|(supervisor, keeper)| Behind {
            front: Front::new(supervisor, self.config.request_wait, self.leaving.clone()),
            keeper,
            read: std::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        App::build(self.config, self.clock.clone(), Handle::current(), program).await
    }

    fn start_timeout(&self) -> Duration {
        self.config.supervise.as_ref().map(|program| program.start_timeout).unwrap_or_default()
    }
}

/// What the record of a restore says whose data could not be used.
fn rolled_back() -> Error {
    Error::new(Kind::Corrupt, "The restored data could not be used; the data of before is back.")
        .hint("the log of the start says why")
}
