//! Following a job of a server to its end, also over the restart that a restore needs.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Client;
use crate::cli::output::Bar;
use crate::error::{Context, Error, Kind, Result};

/// How often a job is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// How long a server that answered once may say nothing: it may be restarting.
const AWAY_MAX: Duration = Duration::from_secs(120);

impl Client {
    /// Follows a job until it ends: its record. An interrupt ends the watching, not the job.
    ///
    /// # Errors
    /// [`Kind::Cancelled`] when somebody interrupts; the job cannot be found; the server is
    /// away for too long.
    pub(in crate::cli) async fn follow(&self, id: u64, bar: &Bar) -> Result<Value> {
        let mut away: Option<Instant> = None;
        loop {
            match self.get(&format!("api/vault/jobs/{id}")).await {
                Ok(job) if job["state"] != "running" => return Ok(job),
                Ok(job) => {
                    away = None;
                    let number = |name: &str| job[name].as_u64().unwrap_or_default();
                    let step = job["step"].as_str().unwrap_or_default();
                    bar.at(step, number("bytes"), number("bytesEstimate"));
                }
                Err(error) if error.kind() == &Kind::Unavailable => {
                    let since = *away.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY_MAX {
                        return Err(error);
                    }
                    bar.at("waiting for the server", 0, 0);
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.context("cannot wait for signals")?;
                    let message = format!("job {id} goes on without us");
                    let hint = format!("`pocketvault jobs cancel {id}` stops it");
                    return Err(Error::new(Kind::Cancelled, message).hint(hint));
                }
            }
        }
    }

    /// Follows a job that must end well: its record.
    ///
    /// # Errors
    /// As [`Client::follow`], and what the job failed with.
    pub(in crate::cli) async fn finish(&self, id: u64, bar: &Bar) -> Result<Value> {
        let job = self.follow(id, bar).await?;
        let text = |name: &str| job[name].as_str().map(str::to_owned);
        match job["state"].as_str().unwrap_or_default() {
            "done" => Ok(job),
            "cancelled" => Err(Error::new(Kind::Cancelled, format!("job {id} was cancelled"))),
            "interrupted" => {
                let message = format!("job {id} was interrupted: the server ended");
                Err(Error::new(Kind::Unavailable, message).hint("start it again"))
            }
            _ => {
                let said = text("error").unwrap_or_else(|| "it failed".to_owned());
                let error = Error::new(kind_of(&said), format!("job {id}: {said}"));
                Err(match text("hint") {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
        }
    }
}

/// A record has words, and no kind.
fn kind_of(said: &str) -> Kind {
    let has = |sign: &str| said.contains(sign);
    match () {
        () if has("damaged") || has("corrupt") || has("cannot be restored") => Kind::Corrupt,
        () if has("data of before is back") => Kind::Corrupt,
        () if has("not enough room") || has("does not fit") => Kind::NoSpace,
        () => Kind::Internal,
    }
}
