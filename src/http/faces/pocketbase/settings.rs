//! `/api/settings`

use actix_web::HttpResponse;
use serde_json::Value;

use crate::error::{Error, Kind, Violation};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, LOADING};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::http::services::s3_options;
use crate::settings::PatchError;
use crate::storage;

use super::behind;

pub(super) const SAVING: &str = "An error occurred while saving the new settings.";
const TESTING: &str = "Failed to test the S3 filesystem.";

/// `GET /api/settings`
pub(super) async fn get(call: &Call, superuser: &Superuser) -> Answer<HttpResponse> {
    if let Some(program) = &call.services.program {
        return behind::settings(call, program, superuser).await;
    }
    respond::ok(call, call.settings.as_ref())
}

/// `PATCH /api/settings`
pub(super) async fn patch(call: &mut Call, superuser: &Superuser) -> Answer<HttpResponse> {
    let services = call.services.clone();
    if let Some(program) = &services.program {
        return behind::change_settings(call, program, superuser).await;
    }
    let body = call.body().await.map_err(|_| ApiError::bad_request(LOADING))?;
    let saved = services.change_settings(|current| match &body {
        Body::Absent => current.patch(&Value::Object(serde_json::Map::new())),
        Body::Json(patch) => current.patch(patch),
        Body::Form(fields) => current.patch_form(fields),
        // Element names are those of Go's types, which nobody ever sent: nothing is known.
        Body::Xml(_) => Err(PatchError::Load),
    });
    let saved = saved.await.map_err(not_saved)?;
    tracing::info!(by = superuser.email(), "changed the settings");
    respond::ok(call, saved.as_ref())
}

/// `POST /api/settings/test/s3`
pub(super) async fn test_s3(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    const FORM: &[Field] =
        &[Field { name: "filesystem", element: "Filesystem", shape: Shape::Text }];
    let form = call
        .body()
        .await
        .and_then(|body| bind::bind(&body, FORM))
        .map_err(|_| ApiError::bad_request(LOADING))?;
    let filesystem = form.get("filesystem").and_then(Value::as_str).unwrap_or_default();
    let settings = call.settings.clone();
    let s3 = match filesystem {
        "storage" => &settings.values().s3,
        "backups" => &settings.values().backups.s3,
        "" => return Err(invalid("validation_required", "Cannot be blank.")),
        _ => return Err(invalid("validation_in_invalid", "Must be a valid value.")),
    };
    let result = match s3.enabled {
        true => storage::test_s3(&s3_options(s3)).await,
        false => Err(Error::internal("S3 storage filesystem is not enabled")),
    };
    match result {
        Ok(()) => Ok(respond::no_content()),
        Err(error) => {
            tracing::warn!(error = error.full(), "the S3 test failed");
            Err(ApiError::bad_request(format!(
                "Failed to test the S3 filesystem. Raw error: \n{}.",
                error.message().trim_end_matches('.')
            )))
        }
    }
}

fn invalid(code: &'static str, message: &'static str) -> ApiError {
    ApiError::invalid(TESTING, &[Violation::new("filesystem", code, message)])
}

fn not_saved(error: Error) -> ApiError {
    match error.kind() {
        Kind::Invalid(violations) => ApiError::invalid(error.message().to_owned(), violations),
        _ => {
            tracing::error!(error = error.full(), "cannot save the settings");
            ApiError::bad_request(SAVING)
        }
    }
}
