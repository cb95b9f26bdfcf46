//! BosBase's face: PocketBase's backups API for the superusers of a BosBase. Whose token it is
//! decides whose backups are meant: PocketBase's own callers never come here.

mod session;

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::backup::Key;
use crate::clock::pocketbase_time;
use crate::error::{Context, Error, Kind, Violation};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::download::{self, Object, Source};
use crate::http::fault::{Answer, ApiError, LOADING, NOT_FOUND, SOMETHING, VALIDATION};
use crate::http::prefer::Preference;
use crate::http::query;
use crate::http::respond;
use crate::http::routes::Route;
use crate::restore::postgres::Wish;
use crate::settings::addresses;
use crate::vault::Method;
use crate::vault::databases::DatabaseVault;

const FORM: &[Field] = &[Field { name: "name", element: "Name", shape: Shape::Text }];
const MEDIA_TYPE: &str = "application/zip";

/// Answers a request of a BosBase's superuser; `None` when it is anybody else's.
///
/// # Errors
/// What the client is told.
pub async fn respond(call: &mut Call, route: &Route) -> Answer<Option<HttpResponse>> {
    let is_ours = matches!(
        route,
        Route::Health
            | Route::FileToken
            | Route::BackupList
            | Route::BackupCreate
            | Route::BackupUpload
            | Route::BackupDownload(_)
            | Route::BackupDelete(_)
            | Route::BackupRestore(_)
    );
    if !is_ours || call.caller.is_some() {
        return Ok(None);
    }
    let found = match route {
        Route::BackupDownload(_) => session::of_file_token(call).await,
        _ => session::of_caller(call).await,
    };
    let Some((vault, superuser)) = found? else { return Ok(None) };
    if !call.superuser_may_come_from_here() {
        return Err(ApiError::forbidden("You are not allowed to perform this request."));
    }
    let answer = match route {
        Route::Health => health(call, &vault),
        Route::FileToken => {
            let none = || ApiError::bad_request("Failed to generate file token.");
            let token = superuser.file_token().ok_or_else(none)?;
            respond::ok(call, &json!({ "token": token }))
        }
        Route::BackupList => list(call, &vault).await,
        Route::BackupCreate => create(call, &vault).await,
        Route::BackupDownload(key) => {
            let key = key_of(key).ok_or_else(|| ApiError::not_found(NOT_FOUND))?;
            tracing::info!(%key, by = superuser.email, ip = call.real_ip, "a download");
            download(call, &vault, &key).await
        }
        Route::BackupDelete(key) => delete(&vault, key).await,
        Route::BackupRestore(key) => restore(&vault, key).await,
        _ => Err(ApiError::bad_request(
            "Archives of a BosBase cannot be uploaded here: put them into its folder of backups.",
        )),
    };
    answer.map(Some)
}

fn health(call: &Call, vault: &DatabaseVault) -> Answer<HttpResponse> {
    let trusted = &call.settings.values().trusted_proxy;
    let header = addresses::possible_proxy_header(trusted, |name| call.values_of(name));
    let data = json!({
        "canBackup": vault.flight().current().is_none(),
        "realIP": call.real_ip,
        // BosBase's own field: nothing here needs a bucket.
        "requireS3": false,
        "possibleProxyHeader": header,
    });
    let body = json!({ "message": "API is healthy.", "code": 200, "data": data });
    respond::ok(call, &body)
}

async fn list(call: &Call, vault: &DatabaseVault) -> Answer<HttpResponse> {
    let backups = vault.list().await.map_err(|error| failed(&error, SOMETHING))?;
    let listed: Vec<Value> = backups
        .iter()
        .map(|backup| {
            json!({
                "modified": pocketbase_time(backup.modified),
                "key": backup.key.as_str(),
                "size": backup.size_bytes,
            })
        })
        .collect();
    respond::ok(call, &listed)
}

async fn create(call: &mut Call, vault: &Arc<DatabaseVault>) -> Answer<HttpResponse> {
    vault.flight().check()?;
    let chosen = chosen_name(call).await?;
    let not_made = |error: Error| match error.kind() {
        Kind::Exists => ApiError::invalid(
            VALIDATION,
            &[Violation::new(
                "name",
                "validation_backup_name_exists",
                "The backup file name is invalid or already exists.",
            )],
        ),
        _ => failed(&error, "Failed to create backup."),
    };
    let creating = vault.begin_create(chosen, Method::Api).await.map_err(not_made)?;
    let (job, task) = (creating.job(), creating.spawn());
    let preference = Preference::of(call);
    let wait: Duration = preference.wait(call.services.create_wait);
    match tokio::time::timeout(wait, task).await {
        Ok(ended) => {
            ended.context("the job's task stopped")?.map_err(not_made)?;
            Ok(respond::no_content())
        }
        Err(_) => Ok(preference.let_go(StatusCode::NO_CONTENT, job)),
    }
}

/// The name in the body, or (as some SDKs do) `basename` in the query of a request without one.
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

async fn download(call: &Call, vault: &DatabaseVault, key: &Key) -> Answer<HttpResponse> {
    let missing = |error: Error| match error.kind() {
        Kind::NotFound => ApiError::not_found(NOT_FOUND),
        _ => failed(&error, SOMETHING),
    };
    let storage = vault.storage().clone();
    let backup = storage.head(key).await.map_err(missing)?;
    let object = Object {
        name: key.to_string(),
        size_bytes: backup.size_bytes,
        modified: backup.modified,
        content_type: MEDIA_TYPE.to_owned(),
    };
    let source = Source::stored(storage, key).await.map_err(missing)?;
    download::respond(&call.request, &object, source).await.map_err(missing)
}

async fn delete(vault: &DatabaseVault, key: &[u8]) -> Answer<HttpResponse> {
    const GONE: &str = "Invalid or already deleted backup file.";
    let key = key_of(key).ok_or_else(|| ApiError::bad_request(GONE))?;
    vault.delete(&key).await.map_err(|error| failed(&error, GONE))?;
    Ok(respond::no_content())
}

async fn restore(vault: &Arc<DatabaseVault>, key: &[u8]) -> Answer<HttpResponse> {
    const MISSING: &str = "Missing or invalid backup file.";
    vault.flight().check()?;
    let key = key_of(key).ok_or_else(|| ApiError::bad_request(MISSING))?;
    let begun = vault.begin_restore(&key, &Wish::default(), Method::Api).await;
    let restoring = begun.map_err(|error| match error.kind() {
        // What speaks against the archive is said: it names nothing of the server.
        Kind::Corrupt => ApiError::bad_request(error.message()),
        _ => failed(&error, MISSING),
    })?;
    // How it ends is in the job record.
    drop(restoring.spawn());
    Ok(respond::no_content())
}

fn key_of(segment: &[u8]) -> Option<Key> {
    Key::existing(std::str::from_utf8(segment).ok()?).ok()
}

/// PocketBase's words, but for what the client can do something about.
fn failed(error: &Error, words: &str) -> ApiError {
    match error.kind() {
        Kind::Busy | Kind::InUse => ApiError::bad_request(error.message()),
        Kind::NotFound => ApiError::bad_request(words),
        _ => {
            tracing::error!(error = error.full(), "a request of a BosBase's superuser failed");
            ApiError::bad_request(words)
        }
    }
}
