//! PocketBase's face: the answers of its v0.40.4, but for the deviations in `docs/api.md`.

mod auth;
mod backups;
mod behind;
mod crons;
mod download;
mod health;
mod key;
mod otp;
mod settings;
mod upload;

use actix_web::HttpResponse;

use crate::http::call::Call;
use crate::http::fault::{self, Answer, ApiError};
use crate::http::guard::Superuser;
use crate::http::routes::Route;

/// Hands a request to its handler.
///
/// # Errors
/// What the client is told.
pub async fn dispatch(call: &mut Call, route: Route) -> Answer<HttpResponse> {
    let superuser = |call: &Call| Superuser::of(call).map_err(ApiError::from);
    match route {
        Route::Health => health::health(call).await,
        Route::BackupList => backups::list(call, &superuser(call)?).await,
        Route::BackupCreate => {
            let superuser = superuser(call)?;
            backups::create(call, &superuser).await
        }
        Route::BackupUpload => {
            let superuser = superuser(call)?;
            upload::upload(call, &superuser).await
        }
        Route::BackupDownload(key) => download::download(call, &key).await,
        Route::BackupDelete(key) => backups::delete(call, &superuser(call)?, &key).await,
        Route::BackupRestore(key) => backups::restore(call, &superuser(call)?, &key).await,
        Route::FileToken => auth::file_token(call).await,
        Route::AuthMethods(name) => auth::methods(call, &name).await,
        Route::AuthPassword(name) => auth::with_password(call, &name).await,
        Route::AuthRefresh(name) => auth::refresh(call, &name).await,
        Route::OtpRequest(name) => otp::request(call, &name).await,
        Route::AuthOtp(name) => otp::login(call, &name).await,
        Route::Impersonate(name, id) => {
            let superuser = superuser(call)?;
            auth::impersonate(call, &superuser, &name, &id).await
        }
        Route::SettingsGet => settings::get(call, &superuser(call)?).await,
        Route::SettingsPatch => {
            let superuser = superuser(call)?;
            settings::patch(call, &superuser).await
        }
        Route::SettingsTestS3 => {
            let superuser = superuser(call)?;
            settings::test_s3(call, &superuser).await
        }
        Route::CronList => crons::list(call, &superuser(call)?).await,
        Route::CronRun(id) => crons::run(call, &superuser(call)?, &id).await,
        Route::UnknownFile => Err(ApiError::not_found("File not found.")),
        Route::Page(_)
        | Route::Scalingo(_)
        | Route::Vault(_)
        | Route::Description
        | Route::Docs
        | Route::Unknown => Err(ApiError::not_found(fault::NOT_FOUND)),
    }
}
