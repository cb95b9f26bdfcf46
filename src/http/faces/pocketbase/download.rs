//! `GET` and `HEAD /api/backups/{key}?token=…`

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};

use crate::auth::keys::TokenKind;
use crate::backup::Key;
use crate::error::{Error, Kind, Result};
use crate::http::call::Call;
use crate::http::download::{self, Object, Source};
use crate::http::fault::{Answer, ApiError, NOT_FOUND, SOMETHING};
use crate::http::query;

/// How long an address in the store opens a backup; a download that began goes on.
const ADDRESS_VALID: Duration = Duration::from_secs(15 * 60);

/// Sends a backup to whoever holds a superuser's file token.
pub(super) async fn download(call: &Call, key: &[u8]) -> Answer<HttpResponse> {
    let insufficient = || ApiError::forbidden("Insufficient permissions to access the resource.");
    let by = match call.admitted {
        true => "a token".to_owned(),
        false => holder(call).await?.ok_or_else(insufficient)?,
    };
    if !call.superuser_may_come_from_here() {
        return Err(insufficient());
    }
    let key = super::key::of_path(key).map_err(|error| missing(&error))?;
    if let Some(address) = elsewhere(call, &key).await.map_err(|error| missing(&error))? {
        tracing::info!(%key, by, ip = call.real_ip, "a download is sent on");
        return Ok(redirected(&address));
    }
    let (object, source) = open(call, &key).await.map_err(|error| missing(&error))?;
    tracing::info!(%key, by, ip = call.real_ip, "a backup is downloaded");
    download::respond(&call.request, &object, source).await.map_err(|error| missing(&error))
}

/// Where in the store the backup can be had, if the client or our own options want that.
/// HEAD is answered here: an address is signed for one method.
async fn elsewhere(call: &Call, key: &Key) -> Result<Option<String>> {
    let asked = query::first(call.request.query_string(), "redirect");
    let wanted = match asked.as_deref() {
        None => call.services.storage.redirect,
        Some(value) => matches!(value, "1" | "true"),
    };
    if !wanted || call.request.method() != Method::GET {
        return Ok(None);
    }
    let (place, _) = call.services.vault.nearest(key).await?;
    place.storage.presign(key, ADDRESS_VALID).await
}

/// Nobody may keep the address: it opens the backup without a token while it is valid.
fn redirected(address: &str) -> HttpResponse {
    let mut response = HttpResponse::TemporaryRedirect();
    response.insert_header((LOCATION, address)).insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header((REFERRER_POLICY, "no-referrer")).finish()
}

/// The superuser whose file token a request has.
async fn holder(call: &Call) -> Result<Option<String>> {
    let token = query::first(call.request.query_string(), "token").unwrap_or_default();
    let caller = call.services.directory.identify(&token, TokenKind::File).await?;
    let email = caller.filter(|caller| caller.is_superuser()).map(|one| one.email().to_owned());
    if let Some(email) = &email {
        // Nobody said anything before.
        let _ = call.said.set(email.clone());
    }
    Ok(email)
}

async fn open(call: &Call, key: &Key) -> Result<(Object, Source)> {
    let (place, backup) = call.services.vault.nearest(key).await?;
    let storage = place.storage;
    let object = Object {
        name: key.to_string(),
        size_bytes: backup.size_bytes,
        modified: backup.modified,
        content_type: storage.content_type(key).await,
    };
    Ok((object, Source::stored(storage, key).await?))
}

fn missing(error: &Error) -> ApiError {
    match error.kind() {
        Kind::NotFound => ApiError::not_found(NOT_FOUND),
        _ => {
            tracing::warn!(error = error.full(), "a download failed");
            ApiError::bad_request(SOMETHING)
        }
    }
}
