//! `/api/backups`: list, create, delete, restore. Upload and download have their own files.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::backup::{Backup, Key};
use crate::clock::pocketbase_time;
use crate::error::{Error, Kind, Violation};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, LOADING, VALIDATION};
use crate::http::guard::Superuser;
use crate::http::prefer::Preference;
use crate::http::query;
use crate::http::respond;
use crate::restore::Scope;
use crate::vault::{Creating, Method, WAITS};

const FORM: &[Field] = &[Field { name: "name", element: "Name", shape: Shape::Text }];

/// How the answer to a failed delete begins.
const GONE: &str = "Invalid or already deleted backup file. Raw error: \n";

/// One line of the list, in PocketBase's order of fields.
#[derive(Debug, Serialize)]
struct Listed {
    modified: String,
    key: String,
    size: u64,
}

impl From<Backup> for Listed {
    fn from(backup: Backup) -> Self {
        Self {
            modified: pocketbase_time(backup.modified),
            key: backup.key.to_string(),
            size: backup.size_bytes,
        }
    }
}

/// `GET /api/backups`
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let backups = call.services.vault.list().await.map_err(|error| {
        tracing::error!(error = error.full(), "cannot list the backups");
        ApiError::bad_request(format!(
            "Failed to retrieve backup items. Raw error: \n{}.",
            error.message()
        ))
    })?;
    let listed: Vec<Listed> = backups.into_iter().map(Listed::from).collect();
    respond::ok(call, &listed)
}

/// `POST /api/backups`
pub(super) async fn create(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    let services = call.services.clone();
    services.vault.flight().check()?;
    let chosen = chosen_name(call).await?;
    let named = chosen.is_some();
    let app_name = &call.settings.values().meta.app_name;
    let begun = services.vault.begin_create(chosen, app_name, Method::Api).await;
    let creating = begun.map_err(|error| not_begun(&error, named))?;
    let preference = Preference::of(call);
    finish(creating, preference, services.create_wait).await
}

/// `DELETE /api/backups/{key}`
pub(super) async fn delete(call: &Call, _: &Superuser, key: &[u8]) -> Answer<HttpResponse> {
    if key == b"." && call.services.vault.list().await.is_ok_and(|backups| backups.is_empty()) {
        // PocketBase removes its empty folder; ours is made anew when it is needed.
        return Ok(respond::no_content());
    }
    let segment = key.to_vec();
    let gone = |error: &Error| match error.kind() {
        Kind::InUse => ApiError::bad_request(error.message()),
        Kind::NotFound | Kind::Corrupt => {
            ApiError::bad_request(format!("{GONE}{}", super::key::not_deleted(&segment)))
        }
        _ => {
            let key = String::from_utf8_lossy(&segment);
            tracing::error!(%key, error = error.full(), "cannot delete a backup");
            let said = error.message().trim_end_matches('.');
            ApiError::bad_request(format!("{GONE}[key: {key}] {said}."))
        }
    };
    let key = super::key::of_path(key).map_err(|error| gone(&error))?;
    call.services.vault.delete(&key).await.map_err(|error| gone(&error))?;
    Ok(respond::no_content())
}

/// `POST /api/backups/{key}/restore`
pub(super) async fn restore(call: &Call, _: &Superuser, key: &[u8]) -> Answer<HttpResponse> {
    let vault = &call.services.vault;
    vault.flight().check()?;
    let missing = |error: Error| match error.kind() {
        Kind::Busy => ApiError::bad_request(error.message()),
        _ => {
            tracing::warn!(error = error.full(), "a restore cannot begin");
            ApiError::bad_request("Missing or invalid backup file.")
        }
    };
    let in_use = |error: Error| ApiError::bad_request(error.message());
    call.services.require_restorable().map_err(in_use)?;
    let key = super::key::of_path(key).map_err(missing)?;
    let restoring = vault.begin_restore(&key, Scope::All).await.map_err(|error| {
        // Its plan says that it cannot succeed, and why.
        if error.kind() == &Kind::Corrupt { in_use(error) } else { missing(error) }
    })?;
    // How it ends is in the job record: the process that answers then is another one.
    drop(restoring.spawn());
    Ok(respond::no_content())
}

/// The name that a client chose: in the body, or (as some SDKs do) as `basename` in the query
/// of a request without one.
async fn chosen_name(call: &mut Call) -> Answer<Option<Key>> {
    let body = call.body().await.map_err(|_| ApiError::bad_request(LOADING))?;
    if body == Body::Absent {
        let basename = query::first(call.request.query_string(), "basename");
        return Ok(basename.and_then(|name| Key::named(&name).ok()));
    }
    let form = bind::bind(&body, FORM).map_err(|_| ApiError::bad_request(LOADING))?;
    match form.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(Key::named(name)?)),
        None => Ok(None),
    }
}

fn not_begun(error: &Error, named: bool) -> ApiError {
    if !matches!(error.kind(), Kind::Busy | Kind::Exists) {
        tracing::error!(error = error.full(), "a backup cannot begin");
    }
    match error.kind() {
        Kind::Busy | Kind::NoSpace => ApiError::bad_request(error.message()),
        // PocketBase says the same of a name that is taken and of a storage that is silent.
        _ if named => name_taken(),
        _ => failed(error),
    }
}

fn name_taken() -> ApiError {
    let violation = Violation::new(
        "name",
        "validation_backup_name_exists",
        "The backup file name is invalid or already exists.",
    );
    ApiError::invalid(VALIDATION, &[violation])
}

fn failed(error: &Error) -> ApiError {
    match error.kind() {
        Kind::Exists => name_taken(),
        _ if error.message() == WAITS => ApiError::bad_request(WAITS),
        _ => ApiError::bad_request("Failed to create backup."),
    }
}

/// Waits for the end as long as it was agreed, then lets the job go on.
async fn finish(
    creating: Creating,
    preference: Preference,
    create_wait: Duration,
) -> Answer<HttpResponse> {
    let job = creating.job();
    let task = creating.spawn();
    let wait = preference.wait(create_wait);
    let ended = match preference {
        Preference::Async => None,
        _ => tokio::time::timeout(wait, task).await.ok(),
    };
    if let Some(ended) = ended {
        let ended = ended.map_err(|_| ApiError::bad_request("Failed to create backup."))?;
        ended.map_err(|error| failed(&error))?;
        return Ok(respond::no_content());
    }
    Ok(let_go(job, preference))
}

/// PocketBase's clients know 204 only; who stated a preference understands 202.
fn let_go(job: u64, preference: Preference) -> HttpResponse {
    let status = match preference {
        Preference::None => StatusCode::NO_CONTENT,
        _ => StatusCode::ACCEPTED,
    };
    preference.let_go(status, job)
}
