//! From the first answer to the last: serves until somebody or something ends it, then leaves
//! in good order. Who is served gets an answer, who comes waits in the listener's queue.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::error::{Context, Error, Result};
use crate::front::Supervisor;
use crate::http::door::Door;
use crate::http::server;
use crate::restore::Restart;
use crate::vault::Ticket;

/// How long clients that speak all the time get to hear that they should come again.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long accepted connections get to reach a worker before the server stops.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause between two looks whether a job is over.
const JOB_PAUSE: Duration = Duration::from_millis(100);

/// Why serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// A restore is staged, or somebody sent a SIGHUP: replace the process.
    Restart,
}

/// The signals that we follow.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Follows them from now on.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn follow() -> Result<Self> {
        let follow = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: follow(SignalKind::terminate())?,
            interrupt: follow(SignalKind::interrupt())?,
            hangup: follow(SignalKind::hangup())?,
        })
    }

    /// Waits to be told to stop; other signals are passed over.
    pub async fn stop(&mut self) {
        while self.next().await == Ended::Restart {
            tracing::info!("a SIGHUP during a start, or the trial before one, means nothing new");
        }
    }

    async fn next(&mut self) -> Ended {
        tokio::select! {
            _ = self.terminate.recv() => Ended::Stopped,
            _ = self.interrupt.recv() => Ended::Stopped,
            _ = self.hangup.recv() => Ended::Restart,
        }
    }

    fn stop_came(&mut self) -> bool {
        self.terminate.recv().now_or_never().is_some()
            || self.interrupt.recv().now_or_never().is_some()
    }
}

/// A server whose door may still be closed.
#[derive(Debug)]
pub struct Serving {
    door: Arc<Door>,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    /// Takes connections from `listener` on; requests wait until `door` is open.
    ///
    /// # Errors
    /// The listener cannot be served.
    pub fn start(listener: TcpListener, door: Arc<Door>) -> Result<Self> {
        let (server, handle) = server::start(listener, &door)?;
        Ok(Self { door, handle, task: tokio::spawn(server) })
    }

    /// Opens the door to `app` and serves until a signal or a restore ends it. Then requests
    /// in flight are finished, the program behind us is stopped, the databases are closed.
    /// With a restart ahead the listener goes on queueing new clients.
    ///
    /// # Errors
    /// The server breaks.
    pub async fn run(
        mut self,
        app: App,
        supervisor: Option<&Supervisor>,
        mut signals: Signals,
        restart: &Restart,
    ) -> Result<Ended> {
        self.door.open(app.services.clone());
        let scheduler = tokio::spawn(app.services.scheduler.clone().run());
        let rota = tokio::spawn(app.services.rota.clone().run());
        let watcher = app.services.alarms.clone().run(app.services.scheduler.clone());
        let watcher = tokio::spawn(watcher);
        let sweeper = tokio::spawn(app.services.vault.clone().sweep_uploads());
        let sender = tokio::spawn(app.services.vault.clone().send_waiting());
        let mut wanted = app.services.vault.restart_wanted();
        let ended = tokio::select! {
            ended = told(&mut signals, &app, restart) => ended,
            _ = wanted.wait_for(|wanted| *wanted) => Ended::Restart,
            served = &mut self.task => {
                app.close().await;
                served.context("the server's task stopped")?.context("the server broke")?;
                return Err(Error::internal("the server ended by itself"));
            }
        };
        tracing::info!(?ended, "stopping");
        scheduler.abort();
        rota.abort();
        app.services.rota.stop();
        if let Some(face) = &app.services.scalingo {
            face.orders.stop();
        }
        watcher.abort();
        sweeper.abort();
        sender.abort();
        self.door.leave();
        app.services.stopping.send_replace(true);
        if ended == Ended::Restart {
            tokio::time::sleep(FAREWELL).await;
            self.handle.pause().await;
            tokio::time::sleep(PAUSE).await;
        } else {
            // Clients that wait for their jobs hear of their end before the server goes.
            app.finish_jobs().await;
        }
        self.stop().await;
        if let Some(supervisor) = supervisor {
            supervisor.stop().await;
        }
        app.close().await;
        // Told to stop while it was restarting: the next start swaps the restored data in.
        Ok(if signals.stop_came() { Ended::Stopped } else { ended })
    }

    /// Ends the server; requests in flight are finished.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        // The process is replaced or ends now: what the server says is only worth a line.
        if let Err(error) = self.task.await.unwrap_or(Ok(())) {
            tracing::error!(%error, "the server broke while it stopped");
        }
    }
}

/// Waits for a signal that can be followed. For a restart, that is when no job runs, and when
/// the program on the disk can be run.
async fn told(signals: &mut Signals, app: &App, restart: &Restart) -> Ended {
    loop {
        if signals.next().await == Ended::Stopped {
            return Ended::Stopped;
        }
        let tried = tokio::select! {
            tried = restart.try_out() => tried,
            () = signals.stop() => return Ended::Stopped,
        };
        if let Err(error) = tried {
            tracing::error!(error = error.full(), "no restart: the old program goes on");
            continue;
        }
        tracing::info!("a SIGHUP came: the process is replaced when no job runs");
        tokio::select! {
            ticket = free_moment(app) => {
                // Nothing begins any more until the next image is there.
                std::mem::forget(ticket);
                return Ended::Restart;
            }
            again = signals.next() => if again == Ended::Stopped { return again },
        }
    }
}

async fn free_moment(app: &App) -> Ticket {
    loop {
        if let Ok(ticket) = app.services.vault.hold() {
            return ticket;
        }
        tokio::time::sleep(JOB_PAUSE).await;
    }
}
