//! `GET` and `HEAD /api/backups/{key}?token=…`

use std::fs::File;

use actix_web::HttpResponse;

use crate::auth::keys::TokenKind;
use crate::backup::Key;
use crate::error::{Context, Error, Kind, Result};
use crate::http::call::Call;
use crate::http::download::{self, Object, Source};
use crate::http::fault::{Answer, ApiError, NOT_FOUND, SOMETHING};
use crate::http::query;

/// Sends a backup to whoever holds a superuser's file token.
pub(super) async fn download(call: &Call, key: &[u8]) -> Answer<HttpResponse> {
    let insufficient = || ApiError::forbidden("Insufficient permissions to access the resource.");
    let token = query::first(call.request.query_string(), "token").unwrap_or_default();
    let caller = call.services.directory.identify(&token, TokenKind::File).await?;
    let caller = caller.filter(|caller| caller.is_superuser()).ok_or_else(insufficient)?;
    if !call.superuser_may_come_from_here() {
        return Err(insufficient());
    }
    let key = super::key::of_path(key).map_err(|error| missing(&error))?;
    let (object, source) = open(call, &key).await.map_err(|error| missing(&error))?;
    tracing::info!(%key, by = caller.email(), ip = call.real_ip, "a backup is downloaded");
    download::respond(&call.request, &object, source).await.map_err(|error| missing(&error))
}

async fn open(call: &Call, key: &Key) -> Result<(Object, Source)> {
    let storage = call.services.vault.storage();
    let backup = storage.head(key).await?;
    let object = Object {
        name: key.to_string(),
        size_bytes: backup.size_bytes,
        modified: backup.modified,
        content_type: storage.content_type(key).await,
    };
    let source = match storage.local_path(key) {
        Some(path) => {
            let file = tokio::task::spawn_blocking(move || File::open(path)).await;
            Source::File(file.context("a thread stopped")?.map_err(unopened)?)
        }
        None => {
            let key = key.clone();
            Source::Ranges(Box::new(move |range| {
                let (storage, key) = (storage.clone(), key.clone());
                Box::pin(async move { storage.get(&key, Some(range)).await })
            }))
        }
    };
    Ok((object, source))
}

/// A backup that was deleted since it was looked up is missing like any other.
fn unopened(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Internal,
    };
    Error::new(kind, "cannot open the backup").because(error)
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
