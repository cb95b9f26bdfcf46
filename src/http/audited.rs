//! What of a request goes into the audit log: who changed, took or tried what.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use chrono::DateTime;

use crate::http::call::Call;
use crate::http::fault::ApiError;
use crate::http::routes::Route;
use crate::http::routes::databases::DatabaseRoute;
use crate::http::routes::vault::VaultRoute;
use crate::vault::audit::Entry;

/// Writes down how a request ended that changes, takes or opens something.
pub async fn write(
    call: &Call,
    deed: (&'static str, String),
    answer: &Result<HttpResponse, ApiError>,
) {
    let (action, mut subject) = deed;
    let status = match answer {
        Ok(response) => response.status(),
        Err(error) => error.status,
    };
    let place = answer.as_ref().ok().and_then(|response| response.headers().get(LOCATION));
    if let Some(place) = place.and_then(|place| place.to_str().ok()) {
        subject = format!("{subject} {place}").trim().to_owned();
    }
    let entry = Entry {
        id: 0,
        time: DateTime::UNIX_EPOCH,
        who: who(call),
        address: call.real_ip.clone(),
        action: action.to_owned(),
        subject,
        status: status.as_u16(),
    };
    call.services.audit.write(entry).await;
}

fn who(call: &Call) -> String {
    if let Some(said) = call.said.get() {
        return said.clone();
    }
    match (&call.caller, &call.token) {
        (Some(identity), _) if identity.email().is_empty() => identity.id().to_owned(),
        (Some(identity), _) => identity.email().to_owned(),
        (None, Some(token)) => format!("token {} ({})", token.id, token.name),
        (None, None) => String::new(),
    }
}

/// What a request does that is written down, in a word, and with what.
pub fn deed(route: &Route) -> Option<(&'static str, String)> {
    let (action, subject): (_, &[u8]) = match route {
        Route::BackupCreate => ("create", b""),
        Route::BackupUpload => ("upload", b""),
        Route::BackupDownload(key) => ("download", key),
        Route::BackupDelete(key) => ("delete", key),
        Route::BackupRestore(key) => ("restore", key),
        Route::AuthPassword(collection) | Route::AuthOtp(collection) => ("login", collection),
        Route::Impersonate(_, id) => ("impersonate", id),
        Route::SettingsPatch => ("settings", b""),
        Route::CronRun(id) => ("run", id),
        Route::Vault(route) => return deed_of_vault(route),
        _ => return None,
    };
    Some((action, shown(subject)))
}

fn deed_of_vault(route: &VaultRoute) -> Option<(&'static str, String)> {
    let (action, subject): (_, &[u8]) = match route {
        VaultRoute::Database(route) => return deed_of_database(route),
        VaultRoute::JobCancel(id) => ("cancel", id),
        VaultRoute::RestoreUndo => ("undo", b""),
        VaultRoute::BackupCreate => ("create", b""),
        VaultRoute::BackupPin(key) => ("pin", key),
        VaultRoute::BackupUnpin(key) => ("unpin", key),
        VaultRoute::ScheduleRun(name) => ("run", name),
        VaultRoute::Prune => ("prune", b""),
        VaultRoute::BackupRestore(key) => ("restore", key),
        VaultRoute::TokenCreate => ("token", b""),
        VaultRoute::TokenRevoke(id) => ("revoke", id),
        _ => return None,
    };
    Some((action, shown(subject)))
}

fn deed_of_database(route: &DatabaseRoute) -> Option<(&'static str, String)> {
    let of = |name: &[u8], key: &[u8]| format!("{}/{}", shown(name), shown(key));
    Some(match route {
        DatabaseRoute::Create(name) => ("create", shown(name)),
        DatabaseRoute::Undo(name) => ("undo", shown(name)),
        DatabaseRoute::Download(name, key) => ("download", of(name, key)),
        DatabaseRoute::Delete(name, key) => ("delete", of(name, key)),
        DatabaseRoute::Restore(name, key) => ("restore", of(name, key)),
        _ => return None,
    })
}

fn shown(segment: &[u8]) -> String {
    String::from_utf8_lossy(segment).into_owned()
}
