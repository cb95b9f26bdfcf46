//! The program behind us: [`supervisor`] runs it, [`proxy`] speaks to it, [`headers`] knows
//! what of a request and an answer belongs to one connection only. Nothing here knows whose
//! routes are whose, or what a backup is.

pub mod headers;
mod log;
pub mod proxy;
mod spawn;
pub mod supervisor;

use std::time::Duration;

use http::{Method, Request};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

pub use proxy::{Answer, Failure, Outgoing, Upstream};
pub use supervisor::{Program, Status, Supervisor, Verdict};

/// Pause before a program that refused a connection is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// The way to the program, for everything that is not ours.
#[derive(Debug, Clone)]
pub struct Front {
    status: watch::Receiver<Status>,
    upstream: Upstream,
    wait: Duration,
    leaving: watch::Receiver<bool>,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// The program is down, and did not come back in time. Nothing was done.
    Down,
    /// The connection broke after the request was sent: it may have been carried out.
    Broken(String),
}

impl Front {
    /// A front to what `supervisor` runs. A request waits up to `wait` for it; what has no end
    /// of its own (events, tunnels) ends when `leaving` becomes true.
    pub fn new(supervisor: &Supervisor, wait: Duration, leaving: watch::Receiver<bool>) -> Self {
        let upstream = supervisor.upstream().clone();
        Self { status: supervisor.status(), upstream, wait, leaving }
    }

    /// How the program is.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Becomes true when the server is about to stop.
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.clone()
    }

    /// Sends a request to the program, once it is there. One that cannot have reached it is
    /// sent again, and so is one that may be repeated without harm.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn pass(&self, request: Request<Outgoing>) -> Result<Answer, Unanswered> {
        let end = Instant::now() + self.wait;
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD)
            && request.body().is_empty()
            && !headers::asks_for_upgrade(request.headers());
        let mut repeated = !repeatable;
        let mut status = self.status.clone();
        loop {
            let there = status.wait_for(|status| status.address.is_some());
            let address = match timeout_at(end, there).await {
                Ok(Ok(status)) => status.address,
                _ => None,
            };
            let Some(address) = address else { return Err(Unanswered::Down) };
            match self.upstream.send(address, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unreachable) if Instant::now() < end => sleep(PAUSE).await,
                Err(Failure::Unreachable) => return Err(Unanswered::Down),
                Err(Failure::Broken(_)) if !repeated => repeated = true,
                Err(Failure::Broken(why)) => return Err(Unanswered::Broken(why)),
            }
        }
    }
}
