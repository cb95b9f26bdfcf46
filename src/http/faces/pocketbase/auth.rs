//! Logging in: `/api/collections/{collection}/…` of auth collections, and file tokens.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::USER_AGENT;
use serde_json::{Map, Value, json};

use crate::auth::collection::{AuthOptions, Collection};
use crate::auth::directory::{Credentials, Issue};
use crate::auth::mfa::{Admission, Login, Method};
use crate::auth::origins::Origin;
use crate::auth::record::Identity;
use crate::error::{Error, Kind, Violation};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::BodyError;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, LOADING, SOMETHING, VALIDATION};
use crate::http::guard::Superuser;
use crate::http::query;
use crate::http::respond;

/// Longest identity, password or other credential, in characters.
const CREDENTIAL_MAX: usize = 255;
const UNSUPPORTED: &str = "Unsupported Content-Type.";
const NOT_ALLOWED_HERE: &str = "You are not allowed to perform this request.";

const CREDENTIALS: &[Field] = &[
    Field { name: "identity", element: "Identity", shape: Shape::Text },
    Field { name: "password", element: "Password", shape: Shape::Text },
    Field { name: "identityField", element: "IdentityField", shape: Shape::Text },
];

/// `GET …/auth-methods`
pub(super) async fn methods(call: &Call, name: &[u8]) -> Answer<HttpResponse> {
    let (_, options) = auth_collection(call, name).await?;
    let duration = |on: bool, seconds: i64| if on { seconds } else { 0 };
    let enabled =
        |on: bool, seconds: i64| json!({ "enabled": on, "duration": duration(on, seconds) });
    let passwords = &options.password_auth;
    let allows = |field: &str| {
        passwords.enabled && passwords.identity_fields.iter().any(|name| name == field)
    };
    let fields: &[String] = if passwords.enabled { &passwords.identity_fields } else { &[] };
    respond::ok(
        call,
        &json!({
            "password": { "identityFields": fields, "enabled": passwords.enabled },
            "oauth2": { "providers": [], "enabled": options.oauth2.enabled },
            "mfa": enabled(options.mfa.enabled, options.mfa.duration),
            "otp": enabled(options.otp.enabled, options.otp.duration),
            "authProviders": [],
            "usernamePassword": allows("username"),
            "emailPassword": allows("email"),
        }),
    )
}

/// `POST …/auth-with-password`
pub(super) async fn with_password(call: &mut Call, name: &[u8]) -> Answer<HttpResponse> {
    let (collection, options) = auth_collection(call, name).await?;
    if !options.password_auth.enabled {
        return Err(ApiError::forbidden(
            "The collection is not configured to allow password authentication.",
        ));
    }
    let form = credentials_form(call, CREDENTIALS).await?;
    let (identity, password) = (text(&form, "identity"), text(&form, "password"));
    let field = Some(text(&form, "identityField")).filter(|field| !field.is_empty());
    let mut broken = Vec::new();
    broken.extend(required("identity", identity));
    broken.extend(required("password", password));
    let fields = &options.password_auth.identity_fields;
    if field.is_some_and(|field| !fields.iter().any(|known| known == field)) {
        broken.push(Violation::new(
            "identityField",
            "validation_in_invalid",
            "Must be a valid value.",
        ));
    }
    if !broken.is_empty() {
        return Err(ApiError::invalid(VALIDATION, &broken));
    }
    let name = format!("{}/{identity}", collection.name);
    // Nobody said anything before.
    let _ = call.said.set(identity.to_owned());
    if let Some(wait) = call.services.login_wait(&call.address, &name) {
        return Err(ApiError::too_many(wait));
    }
    let credentials = Credentials { identity, password, identity_field: field };
    let found = call.services.directory.authenticate_password(&collection, &credentials).await;
    let Some(found) = internal(found)? else {
        return Err(ApiError::bad_request("Failed to authenticate."));
    };
    call.services.login_succeeded(&call.address, &name);
    admit(call, &found, Method::Password, form_mfa_id(call)).await
}

/// `POST …/auth-refresh`
pub(super) async fn refresh(call: &mut Call, name: &[u8]) -> Answer<HttpResponse> {
    let caller = call.caller.clone().ok_or_else(ApiError::unauthorized)?;
    let Some(collection) = find_collection(call, name).await? else {
        return Err(missing_collection());
    };
    if caller.collection().id != collection.id {
        return Err(ApiError::forbidden(format!(
            "The request requires auth record from {} collection.",
            caller.collection().name
        )));
    }
    call.body().await.map_err(|error| match error {
        BodyError::UnsupportedType => ApiError::bad_request(UNSUPPORTED),
        _ => ApiError::bad_request(SOMETHING),
    })?;
    let directory = &call.services.directory;
    directory.check_auth_rule(&caller, Some(&caller))?;
    let token = match caller.refreshable() {
        true => internal(directory.issue(&caller, Issue::Auth))?,
        false => call.header_token().unwrap_or_default().to_owned(),
    };
    respond::ok(call, &json!({ "record": caller.record(), "token": token }))
}

/// `POST …/impersonate/{id}`
pub(super) async fn impersonate(
    call: &mut Call,
    _: &Superuser,
    name: &[u8],
    id: &[u8],
) -> Answer<HttpResponse> {
    const FORM: &[Field] = &[Field { name: "duration", element: "Duration", shape: Shape::Whole }];
    let (collection, _) = auth_collection(call, name).await?;
    let id = String::from_utf8_lossy(id).into_owned();
    let found = internal(call.services.directory.record(&collection, &id).await)?;
    let Some(found) = found else {
        return Err(ApiError::not_found(super::fault::NOT_FOUND));
    };
    let form = call
        .body()
        .await
        .and_then(|body| bind::bind(&body, FORM))
        .map_err(|_| ApiError::bad_request(LOADING))?;
    let seconds = form.get("duration").and_then(Value::as_i64).unwrap_or(0);
    let Ok(seconds) = u64::try_from(seconds) else {
        let broken = Violation::new(
            "duration",
            "validation_min_greater_equal_than_required",
            "Must be no less than 0.",
        );
        return Err(ApiError::invalid(VALIDATION, &[broken.with("threshold", 0)]));
    };
    let issue = Issue::Static(Duration::from_secs(seconds));
    let token = internal(call.services.directory.issue(&found, issue))?;
    respond::ok(call, &json!({ "record": found.record(), "token": token }))
}

/// `POST /api/files/token`
pub(super) async fn file_token(call: &Call) -> Answer<HttpResponse> {
    let caller = call.caller.as_ref().ok_or_else(ApiError::unauthorized)?;
    let token = internal(call.services.directory.issue(caller, Issue::File))?;
    respond::ok(call, &json!({ "token": token }))
}

/// The last steps of every login: allowed from here, allowed at all, one factor or two.
pub(super) async fn admit(
    call: &Call,
    identity: &Identity,
    method: Method,
    mfa_id: Option<String>,
) -> Answer<HttpResponse> {
    if identity.is_superuser() && !call.superuser_may_come_from_here() {
        return Err(ApiError::forbidden(NOT_ALLOWED_HERE));
    }
    let directory = &call.services.directory;
    let login = Login { method, mfa_id: mfa_id.as_deref(), requester: call.caller.as_ref() };
    match directory.admit(identity, &login).await {
        Ok(Admission::Granted) => {}
        Ok(Admission::SecondFactor { mfa_id }) => {
            return respond::json(call, StatusCode::UNAUTHORIZED, &json!({ "mfaId": mfa_id }));
        }
        Err(error) => return Err(refused(error)),
    }
    let agent = call.request.headers().get(USER_AGENT);
    let user_agent = agent.map(|value| value.as_bytes()).unwrap_or_default();
    directory.remember_origin(identity, Origin { ip: &call.real_ip, user_agent }).await;
    let token = internal(directory.issue(identity, Issue::Auth))?;
    tracing::info!(?identity, ip = call.real_ip, "logged in");
    respond::ok(call, &json!({ "record": identity.record(), "token": token }))
}

fn refused(error: Error) -> ApiError {
    match error.kind() {
        Kind::Invalid(violations) => ApiError::invalid(error.message().to_owned(), violations),
        Kind::Unavailable => ApiError::bad_request("Failed to authenticate."),
        _ => error.into(),
    }
}

/// The fields of a login, with the messages that only logins have.
pub(super) async fn credentials_form(
    call: &mut Call,
    fields: &'static [Field],
) -> Answer<Map<String, Value>> {
    let body = call.body().await;
    body.and_then(|body| bind::bind(&body, fields)).map_err(|error| match error {
        BodyError::UnsupportedType => ApiError::bad_request(UNSUPPORTED),
        _ => ApiError::bad_request(LOADING),
    })
}

/// The session of the first factor, from the query.
pub(super) fn form_mfa_id(call: &Call) -> Option<String> {
    query::first(call.request.query_string(), "mfaId").filter(|id| !id.is_empty())
}

pub(super) fn text<'a>(form: &'a Map<String, Value>, name: &str) -> &'a str {
    form.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Not blank, and not longer than a credential may be.
pub(super) fn required(field: &str, value: &str) -> Option<Violation> {
    if value.is_empty() {
        return Some(Violation::new(field, "validation_required", "Cannot be blank."));
    }
    (value.chars().count() > CREDENTIAL_MAX).then(|| {
        Violation::new(
            field,
            "validation_length_out_of_range",
            format!("The length must be between 1 and {CREDENTIAL_MAX}."),
        )
        .with("min", 1)
        .with("max", CREDENTIAL_MAX)
    })
}

/// The auth collection of a path.
pub(super) async fn auth_collection(
    call: &Call,
    name: &[u8],
) -> Answer<(Arc<Collection>, AuthOptions)> {
    let collection = find_collection(call, name).await?.ok_or_else(missing_collection)?;
    match collection.auth.clone() {
        Some(options) => Ok((collection, options)),
        None => Err(ApiError::not_found("Missing or invalid auth collection context.")),
    }
}

async fn find_collection(call: &Call, name: &[u8]) -> Answer<Option<Arc<Collection>>> {
    let name = String::from_utf8_lossy(name);
    internal(call.services.directory.collection(&name).await)
}

fn missing_collection() -> ApiError {
    ApiError::not_found("Missing or invalid collection context.")
}

/// An error that no client caused.
fn internal<T>(result: crate::error::Result<T>) -> Answer<T> {
    result.map_err(ApiError::from)
}
