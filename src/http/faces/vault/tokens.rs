//! Tokens of our API, and the audit log.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::pocketbase_time;
use crate::config::duration;
use crate::error::{Error, Violation};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, LOADING, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::{query, respond};
use crate::vault::audit::Entry;
use crate::vault::tokens::{FOLDER, Scope, Token, Wish};

/// Entries of a page of the audit log unless asked otherwise, and at most.
const PER_PAGE: u32 = 50;
const PER_PAGE_MAX: u32 = 500;

#[derive(Debug, Serialize)]
struct Shown {
    id: u64,
    name: String,
    scopes: Vec<&'static str>,
    database: Option<String>,
    created: String,
    expires: Option<String>,
    used: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    name: String,
    scopes: Vec<String>,
    database: Option<String>,
    expires_in: Option<String>,
}

/// `GET /api/vault/tokens`
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let tokens = call.services.tokens.list().await?;
    let shown: Vec<Shown> = tokens.into_iter().map(Shown::from).collect();
    respond::ok(call, &shown)
}

/// `POST /api/vault/tokens`: makes one; the only answer that has its text.
pub(super) async fn create(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    let unreadable = || ApiError::bad_request(LOADING);
    let form: Form = match call.body().await.map_err(|_| unreadable())? {
        Body::Json(body) => serde_json::from_value(body).map_err(|_| unreadable())?,
        _ => return Err(unreadable()),
    };
    let refused = |field: &str, message: &'static str| {
        Error::invalid(Violation::new(field, "validation_invalid_value", message))
    };
    let is_known = |name: &String| name == FOLDER || call.services.databases.find(name).is_some();
    if form.database.as_ref().is_some_and(|name| !is_known(name)) {
        return Err(refused("database", "Must be pb_data or a database.").into());
    }
    let valid = match form.expires_in.as_deref().map(duration) {
        None => None,
        Some(Some(valid)) => Some(valid),
        Some(None) => return Err(refused("expiresIn", "Must be a time like 90d.").into()),
    };
    let wish = Wish { name: form.name, scopes: form.scopes, vault: form.database, valid };
    let (text, token) = call.services.tokens.create(&wish).await?;
    let mut shown = serde_json::to_value(Shown::from(token)).unwrap_or_default();
    shown["token"] = Value::String(text);
    respond::json(call, StatusCode::CREATED, &shown)
}

/// `DELETE /api/vault/tokens/{id}`
pub(super) async fn revoke(call: &Call, _: &Superuser, id: &[u8]) -> Answer<HttpResponse> {
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| ApiError::not_found(NOT_FOUND))?;
    call.services.tokens.revoke(id).await?;
    Ok(respond::no_content())
}

/// `GET /api/vault/audit?page=1&perPage=50`, newest first
pub(super) async fn audit(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let number = |name: &str, default: u32| {
        let text = query::first(call.request.query_string(), name);
        text.and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(default)
    };
    let (page, per_page) = (number("page", 1), number("perPage", PER_PAGE).min(PER_PAGE_MAX));
    let (total, entries) = call.services.audit.page(page, per_page).await?;
    let items: Vec<Value> = entries.iter().map(entry).collect();
    let shown = json!({"page": page, "perPage": per_page, "totalItems": total, "items": items});
    respond::ok(call, &shown)
}

fn entry(entry: &Entry) -> Value {
    json!({"id": entry.id, "time": pocketbase_time(entry.time), "who": entry.who,
        "address": entry.address, "action": entry.action, "subject": entry.subject,
        "status": entry.status})
}

impl From<Token> for Shown {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            scopes: token.scopes.into_iter().map(Scope::as_str).collect(),
            database: token.vault,
            created: pocketbase_time(token.created),
            expires: token.expires.map(pocketbase_time),
            used: token.used.map(pocketbase_time),
        }
    }
}
