//! Plans, restores of a part, and undoing.

use actix_web::HttpResponse;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::clock::pocketbase_time;
use crate::error::{Context, Error, Kind};
use crate::http::call::Call;
use crate::http::faces::vault::{accepted, key_of};
use crate::http::fault::{Answer, ApiError, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::query;
use crate::http::respond;
use crate::restore::{self, Operation, Phase, PlanOptions, Scope, Status};

/// `GET /api/vault/restore`
#[derive(Debug, Serialize)]
struct Shown {
    last: Option<Last>,
    undo: Option<Kept>,
}

/// The last restore or undo.
#[derive(Debug, Serialize)]
struct Last {
    id: String,
    operation: &'static str,
    key: String,
    only: String,
    phase: Phase,
    /// Whether nothing is left to do.
    settled: bool,
    started: String,
    ended: Option<String>,
    reason: Option<String>,
}

/// What an undo would bring back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    key: String,
    only: String,
    since: String,
    age_seconds: i64,
    until: String,
}

/// `GET /api/vault/restore`
pub(super) async fn status(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let data = call.services.data.clone();
    let status = tokio::task::spawn_blocking(move || restore::status(&data));
    let status = status.await.context("a thread stopped")??;
    let keep_old = call.services.vault.restore().keep_old;
    let keep_old = TimeDelta::from_std(keep_old).unwrap_or(TimeDelta::MAX);
    respond::ok(call, &shown(status, keep_old, Utc::now()))
}

fn shown(status: Option<Status>, keep_old: TimeDelta, now: DateTime<Utc>) -> Shown {
    let Some(status) = status else { return Shown { last: None, undo: None } };
    let undo = status.undo.map(|undo| Kept {
        key: undo.key,
        only: undo.scope.to_string(),
        since: pocketbase_time(undo.since),
        age_seconds: (now - undo.since).num_seconds().max(0),
        until: undo.since.checked_add_signed(keep_old).map(pocketbase_time).unwrap_or_default(),
    });
    let operation = match status.subject.operation {
        Operation::Restore => "restore",
        Operation::Undo => "undo",
    };
    let last = Last {
        id: status.subject.id,
        operation,
        key: status.subject.key,
        only: status.scope.to_string(),
        phase: status.phase,
        settled: status.phase.is_final(),
        started: pocketbase_time(status.subject.started),
        ended: status.settled.map(pocketbase_time),
        reason: status.reason,
    };
    Shown { last: Some(last), undo }
}

/// `POST /api/vault/backups/{key}/plan?only=…&quick=true`
pub(super) async fn plan(call: &Call, _: &Superuser, key: &[u8]) -> Answer<HttpResponse> {
    let key = key_of(key)?;
    let query = call.request.query_string();
    let quick = query::first(query, "quick").is_some_and(|value| value != "false" && value != "0");
    let options = PlanOptions { scope: scope_of(call)?, deep: !quick };
    let planned = call.services.vault.plan(&key, options).await;
    let mut plan = planned.map_err(not_begun)?;
    if let Err(error) = call.services.require_restorable() {
        plan.refused.get_or_insert(error.message().to_owned());
    }
    respond::ok(call, &plan)
}

/// `POST /api/vault/backups/{key}/restore?only=…`
pub(super) async fn restore(call: &Call, _: &Superuser, key: &[u8]) -> Answer<HttpResponse> {
    let vault = &call.services.vault;
    vault.flight().check()?;
    call.services.require_restorable().map_err(not_begun)?;
    let (key, scope) = (key_of(key)?, scope_of(call)?);
    let restoring = vault.begin_restore(&key, scope).await.map_err(not_begun)?;
    let job = restoring.job();
    // How it ends is in the job record, and after the restart in `GET /api/vault/restore`.
    drop(restoring.spawn());
    Ok(accepted(job))
}

/// `POST /api/vault/restore/undo`
pub(super) async fn undo(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let vault = &call.services.vault;
    vault.flight().check()?;
    call.services.require_restorable().map_err(not_begun)?;
    Ok(accepted(vault.undo().await.map_err(not_begun)?))
}

/// What a client may know: our own words, unless they name a place on the server's disk.
fn not_begun(error: Error) -> ApiError {
    match error.kind() {
        Kind::NotFound if error.message().starts_with("There is no restore") => {
            ApiError::bad_request(error.message())
        }
        Kind::NotFound => ApiError::not_found(NOT_FOUND),
        Kind::Busy | Kind::Corrupt | Kind::Unavailable => ApiError::bad_request(error.message()),
        _ => ApiError::from(error),
    }
}

fn scope_of(call: &Call) -> Answer<Scope> {
    match query::first(call.request.query_string(), "only") {
        None => Ok(Scope::All),
        Some(text) => Scope::parse(&text).map_err(|error| ApiError::bad_request(error.message())),
    }
}
