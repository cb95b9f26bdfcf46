//! What runs by the clock, and how it went.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::clock::pocketbase_time;
use crate::config::schedule::What;
use crate::http::call::Call;
use crate::http::faces::vault::accepted;
use crate::http::faces::vault::care::told;
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::rota::{self, Kept, Ran};

/// A schedule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    cron: String,
    time_zone: &'static str,
    what: &'static str,
    database: Option<String>,
    percent: Option<u8>,
    label: String,
    jitter_seconds: u64,
    catch_up: bool,
    next_run: Option<String>,
    last_run: Option<Run>,
    /// Runs that did not take place since the run before the last.
    missed: u64,
    skipped: u64,
}

/// How the last run went.
#[derive(Debug, Serialize)]
struct Run {
    due: Option<String>,
    started: String,
    ended: Option<String>,
    state: &'static str,
    job: Option<u64>,
    said: String,
}

/// `GET /api/vault/schedules`
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let shown: Vec<Shown> = call.services.rota.list().await.into_iter().map(Shown::from).collect();
    respond::ok(call, &shown)
}

/// `POST /api/vault/schedules/{name}/run`: runs it now, as a job where it is one.
pub(super) async fn run(call: &Call, _: &Superuser, name: &[u8]) -> Answer<HttpResponse> {
    let name = std::str::from_utf8(name).map_err(|_| ApiError::not_found(NOT_FOUND))?;
    match call.services.rota.run_now(name).await.map_err(told)? {
        Some(job) => Ok(accepted(job)),
        None => Ok(respond::empty(StatusCode::ACCEPTED)),
    }
}

impl From<rota::Shown> for Shown {
    fn from(shown: rota::Shown) -> Self {
        let (config, kept) = (shown.config, shown.kept);
        let (missed, skipped) = kept.as_ref().map_or((0, 0), |kept| (kept.missed, kept.skipped));
        Self {
            cron: config.when.schedule.to_string(),
            time_zone: config.when.zone.name(),
            what: config.what.as_str(),
            percent: match config.what {
                What::Verify(percent) => Some(percent),
                _ => None,
            },
            database: match config.what {
                What::Dump(name) => Some(name),
                _ => None,
            },
            label: config.label,
            jitter_seconds: config.jitter.as_secs(),
            catch_up: config.catch_up,
            next_run: shown.next.map(pocketbase_time),
            last_run: kept.and_then(Run::of),
            missed,
            skipped,
            name: config.name,
        }
    }
}

impl Run {
    fn of(kept: Kept) -> Option<Self> {
        let time = |time: Option<DateTime<Utc>>| time.map(pocketbase_time);
        Some(Self {
            due: time(kept.due),
            started: pocketbase_time(kept.started?),
            ended: time(kept.ended),
            state: kept.state.map(Ran::as_str).unwrap_or_default(),
            job: kept.job,
            said: kept.said,
        })
    }
}
