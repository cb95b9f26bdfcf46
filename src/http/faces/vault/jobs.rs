//! How each job goes and went.

use std::time::Duration;

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::pocketbase_time;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::{Cancel, Job, State};

/// How long a cancel waits for the end of the job.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(10);

/// A job as JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct Shown {
    id: u64,
    kind: &'static str,
    method: &'static str,
    /// The PostgreSQL database that it is about.
    database: Option<String>,
    key: String,
    state: &'static str,
    step: &'static str,
    bytes: u64,
    #[serde(rename = "bytesEstimate")]
    bytes_estimate: u64,
    entries: u64,
    #[serde(rename = "entriesEstimate")]
    entries_estimate: u64,
    /// Bytes per second, on the average.
    rate: u64,
    #[serde(rename = "etaSeconds")]
    eta_s: Option<u64>,
    error: Option<String>,
    hint: Option<String>,
    notes: Vec<String>,
    complete: bool,
    started: String,
    ended: Option<String>,
}

/// `GET /api/vault/jobs`, newest first
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let (jobs, now) = (call.services.vault.jobs().list(), now(call));
    let shown: Vec<Shown> = jobs.into_iter().map(|job| Shown::new(job, now)).collect();
    respond::ok(call, &shown)
}

/// `GET /api/vault/jobs/{id}`
pub(super) async fn get(call: &Call, _: &Superuser, id: &[u8]) -> Answer<HttpResponse> {
    let id = number(id)?;
    let job = call.services.vault.jobs().find_ever(id).await?;
    respond::ok(call, &Shown::new(job.ok_or_else(unknown)?, now(call)))
}

/// `DELETE /api/vault/jobs/{id}` asks it to stop, waits a moment, and shows the job.
pub(super) async fn cancel(call: &Call, _: &Superuser, id: &[u8]) -> Answer<HttpResponse> {
    let id = number(id)?;
    let jobs = call.services.vault.jobs();
    let mut changes = jobs.changes();
    match jobs.cancel(id) {
        Cancel::Told => {}
        Cancel::Ended => return Err(ApiError::bad_request("The job has ended already.")),
        Cancel::Unknown if jobs.find_ever(id).await?.is_some() => {
            return Err(ApiError::bad_request("The job has ended already."));
        }
        Cancel::Unknown => return Err(unknown()),
    }
    let ended = async {
        while jobs.find(id).is_some_and(|job| job.state == State::Running) {
            // The sender lives as long as the jobs.
            let _ = changes.changed().await;
        }
    };
    // A job that takes longer to stop goes on stopping; its record says when it has.
    let _ = tokio::time::timeout(CANCEL_WAIT_MAX, ended).await;
    respond::ok(call, &Shown::new(jobs.find(id).ok_or_else(unknown)?, now(call)))
}

fn now(call: &Call) -> DateTime<Utc> {
    call.services.vault.clock().now()
}

fn number(id: &[u8]) -> Answer<u64> {
    std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found(NOT_FOUND)
}

impl Shown {
    /// The record as the API shows it at `now`.
    pub(super) fn new(job: Job, now: DateTime<Utc>) -> Self {
        let (error, hint) = match &job.state {
            State::Failed { message, hint } => (Some(message.clone()), hint.clone()),
            _ => (None, None),
        };
        let progress = job.progress;
        let (rate, eta_s) = pace(&job, now);
        Self {
            id: job.id,
            kind: job.kind.as_str(),
            method: job.method.as_str(),
            database: Some(job.vault).filter(|name| !name.is_empty()),
            key: job.key.to_string(),
            state: job.state.as_str(),
            step: progress.step.as_str(),
            bytes: progress.bytes,
            bytes_estimate: progress.bytes_estimate,
            entries: progress.entries,
            entries_estimate: progress.entries_estimate,
            rate,
            eta_s,
            error,
            hint,
            notes: job.notes,
            complete: job.complete,
            started: pocketbase_time(job.started),
            ended: job.ended.map(pocketbase_time),
        }
    }
}

/// Bytes per second so far, and how many seconds are left if it goes on like this.
fn pace(job: &Job, now: DateTime<Utc>) -> (u64, Option<u64>) {
    let millis = (job.ended.unwrap_or(now) - job.started).num_milliseconds();
    let millis = u64::try_from(millis).unwrap_or(0).max(1);
    let rate = job.progress.bytes.saturating_mul(1_000) / millis;
    let left = job.progress.bytes_estimate.saturating_sub(job.progress.bytes);
    let is_known = job.state == State::Running && rate > 0 && left > 0;
    (rate, is_known.then(|| left.div_ceil(rate)))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::backup::Key;
    use crate::clock::Clock;
    use crate::vault::{JobKind, Jobs, Method};

    #[test]
    fn pace_is_told_while_it_means_something() {
        let clock = Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"));
        let jobs = Jobs::new(clock.clone());
        let key = Key::named("a.zip").expect("a key");
        let handle = jobs.open(JobKind::Create, Method::Api, &key);
        let pace_now = |seconds| {
            let job = jobs.find(1).expect("there");
            let now = job.started + TimeDelta::seconds(seconds);
            pace(&job, now)
        };
        assert_eq!(pace_now(0), (0, None));
        handle.control().add_bytes(3_000);
        assert_eq!(pace_now(3), (1_000, None), "nothing is expected");
        handle.control().expect(10_000, 0);
        assert_eq!(pace_now(3), (1_000, Some(7)));
        handle.control().add_bytes(9_000);
        assert_eq!(pace_now(3), (4_000, None), "more came than was expected");
    }
}
