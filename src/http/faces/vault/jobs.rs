//! How each job goes and went.

use actix_web::HttpResponse;
use serde::Serialize;

use crate::clock::pocketbase_time;
use crate::control::Step;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::{Job, JobKind, Method, State};

#[derive(Debug, Serialize)]
struct Shown {
    id: u64,
    kind: &'static str,
    method: &'static str,
    key: String,
    state: &'static str,
    step: &'static str,
    bytes: u64,
    #[serde(rename = "bytesEstimate")]
    bytes_estimate: u64,
    entries: u64,
    #[serde(rename = "entriesEstimate")]
    entries_estimate: u64,
    error: Option<String>,
    hint: Option<String>,
    notes: Vec<String>,
    complete: bool,
    started: String,
    ended: Option<String>,
}

/// `GET /api/vault/jobs`, newest first
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let shown: Vec<Shown> = call.services.vault.jobs().list().into_iter().map(shown).collect();
    respond::ok(call, &shown)
}

/// `GET /api/vault/jobs/{id}`
pub(super) async fn get(call: &Call, _: &Superuser, id: &[u8]) -> Answer<HttpResponse> {
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    let job = id.and_then(|id| call.services.vault.jobs().find(id));
    let job = job.ok_or_else(|| ApiError::not_found(NOT_FOUND))?;
    respond::ok(call, &shown(job))
}

fn shown(job: Job) -> Shown {
    let (state, error, hint) = match job.state {
        State::Running => ("running", None, None),
        State::Done => ("done", None, None),
        State::Cancelled => ("cancelled", None, None),
        State::Failed { message, hint } => ("failed", Some(message), hint),
    };
    Shown {
        id: job.id,
        kind: match job.kind {
            JobKind::Create => "create",
            JobKind::Upload => "upload",
            JobKind::Restore => "restore",
        },
        method: match job.method {
            Method::Api => "api",
            Method::Scheduled => "scheduled",
        },
        key: job.key.to_string(),
        state,
        step: step(job.progress.step),
        bytes: job.progress.bytes,
        bytes_estimate: job.progress.bytes_estimate,
        entries: job.progress.entries,
        entries_estimate: job.progress.entries_estimate,
        error,
        hint,
        notes: job.notes,
        complete: job.complete,
        started: pocketbase_time(job.started),
        ended: job.ended.map(pocketbase_time),
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Waiting => "waiting",
        Step::Pinning => "pinning",
        Step::Archiving => "archiving",
        Step::Transferring => "transferring",
        Step::Checking => "checking",
        Step::Extracting => "extracting",
        Step::Swapping => "swapping",
        Step::Finished => "finished",
    }
}
