//! `POST /api/backups/upload`

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;

use crate::backup::Key;
use crate::error::{Kind, Violation};
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, VALIDATION};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::http::upload::{Fault, FilePart};
use crate::vault;

/// Longest name that a file system takes, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;
/// What is still read of an upload that is refused, so that its client hears the answer.
const DRAIN_BYTES_MAX: u64 = 64 << 20;

/// Takes in an archive. It is streamed to its place and appears there only when the whole
/// request was sound and the archive is a readable zip.
pub(super) async fn upload(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    let content_type = call.request.headers().get(CONTENT_TYPE);
    let content_type = content_type.map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    let part = FilePart::open(&content_type, call.payload.take()).await;
    let mut part = part.map_err(|_| blank())?;
    if !part.is_zip() {
        let message = part.type_message();
        drain(&mut part).await?;
        return Err(refused("validation_invalid_mime_type", message));
    }
    let key = match key_of(part.file_name()) {
        Ok(key) => key,
        Err(error) => {
            drain(&mut part).await?;
            return Err(error);
        }
    };
    let (sender, stream) = vault::channel();
    let stored = call.services.vault.spawn_upload(key, stream);
    let whole = loop {
        match part.next().await {
            Ok(Some(block)) => {
                if !sender.send(block).await {
                    // The storage gave up; its own error is the answer, once the client listens.
                    break drain(&mut part).await.is_ok();
                }
            }
            Ok(None) => {
                sender.finish();
                break true;
            }
            Err(_) => break false,
        }
    };
    if !whole {
        return Err(blank());
    }
    let stored = stored.await.map_err(|_| failed())?;
    match stored {
        Ok(_) => Ok(respond::no_content()),
        Err(error) if error.kind() == &Kind::Exists => Err(taken()),
        Err(error) if error.kind() == &Kind::Corrupt => {
            Err(refused("validation_invalid_mime_type", "The file is not a readable zip archive."))
        }
        Err(_) => Err(failed()),
    }
}

/// Reads on until the client listens; one that sends for ever is answered anyway. Only a body
/// that is broken is told so first, as PocketBase does, who reads all of it before it looks.
async fn drain(part: &mut FilePart) -> Answer<()> {
    match part.drain(DRAIN_BYTES_MAX).await {
        Ok(()) | Err(Fault::Refused) => Ok(()),
        Err(Fault::Blank) => Err(blank()),
    }
}

/// The key that a file name gives, with PocketBase's answers for names that give none.
fn key_of(name: Option<&str>) -> Result<Key, ApiError> {
    let Some(name) = name else { return Err(taken()) };
    if name.len() > FILE_NAME_BYTES_MAX || name.ends_with(".attrs") {
        return Err(taken());
    }
    Key::existing(name).map_err(|_| failed())
}

fn blank() -> ApiError {
    refused("validation_required", "Cannot be blank.")
}

fn taken() -> ApiError {
    refused("validation_backup_name_exists", "Backup file with the specified name already exists.")
}

fn failed() -> ApiError {
    ApiError::bad_request("Failed to upload backup.")
}

fn refused(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(VALIDATION, &[Violation::new("file", code, message.into())])
}
