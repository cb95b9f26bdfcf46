//! New backups, proofs, pins, and what the rules no longer keep.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::backup::Key;
use crate::clock::pocketbase_time;
use crate::error::{Error, Kind};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::faces::vault::backups::Shown;
use crate::http::faces::vault::{accepted, key_of};
use crate::http::fault::{Answer, ApiError, LOADING};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::catalog::ProofKind;
use crate::vault::prune::Pruning;
use crate::vault::status::Report;
use crate::vault::{Method, Place};

const FORM: &[Field] = &[
    Field { name: "name", element: "Name", shape: Shape::Text },
    Field { name: "label", element: "Label", shape: Shape::Text },
];
/// Longest label in characters.
const LABEL_CHARS_MAX: usize = 200;

/// `POST /api/vault/backups` with an optional `name` and `label`: begins one, as a job.
pub(super) async fn create(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    let vault = call.services.vault.clone();
    vault.flight().check()?;
    let body = call.body().await.map_err(|_| ApiError::bad_request(LOADING))?;
    let form = match body {
        Body::Absent => serde_json::Map::new(),
        body => bind::bind(&body, FORM).map_err(|_| ApiError::bad_request(LOADING))?,
    };
    let text = |name: &str| form.get(name).and_then(Value::as_str).unwrap_or_default();
    let chosen = match text("name") {
        "" => None,
        name => Some(Key::named(name)?),
    };
    let label: String = text("label").chars().take(LABEL_CHARS_MAX).collect();
    let app_name = &call.settings.values().meta.app_name;
    let begun = vault.begin_create(chosen, app_name, Method::Api).await;
    let creating = begun.map_err(told)?.labelled(label);
    let job = creating.job();
    drop(creating.spawn());
    Ok(accepted(job))
}

/// `POST /api/vault/backups/{key}/verify` and `…/drill`: begins a proof, as a job.
pub(super) async fn prove(
    call: &Call,
    _: &Superuser,
    key: &[u8],
    kind: ProofKind,
) -> Answer<HttpResponse> {
    let key = key_of(key)?;
    let proving = call.services.vault.begin_proof(&key, kind, Method::Api).await.map_err(told)?;
    let job = proving.job();
    drop(proving.spawn());
    Ok(accepted(job))
}

/// `POST` and `DELETE /api/vault/backups/{key}/pin`
pub(super) async fn pin(
    call: &Call,
    _: &Superuser,
    key: &[u8],
    pinned: bool,
) -> Answer<HttpResponse> {
    let known = call.services.vault.pin(&key_of(key)?, pinned).await.map_err(told)?;
    respond::ok(call, &Shown::from(known))
}

/// `GET /api/vault/prune`: what would go, of PocketBase's storage and of each destination.
pub(super) async fn pruning(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let tell = |(place, pruning): (Place, Pruning)| {
        let bytes: u64 = pruning.expired.iter().map(|one| one.size_bytes).sum();
        let expired: Vec<Shown> = pruning.expired.into_iter().map(Shown::from).collect();
        let (name, kept) = (place.name.as_ref(), pruning.kept.len());
        json!({"name": name, "held": pruning.held, "expired": expired, "bytes": bytes,
            "kept": kept})
    };
    let all = call.services.vault.pruning().await?;
    respond::ok(call, &with_each(all.into_iter().map(tell).collect()))
}

/// `POST /api/vault/prune`: lets it go, as a job.
pub(super) async fn prune(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let (job, task) = call.services.vault.prune(Method::Api).await?;
    drop(task);
    Ok(accepted(job))
}

/// `GET /api/vault/status`
pub(super) async fn status(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let services = &call.services;
    let tell = |(place, report, waiting): (Place, Report, usize)| {
        let mut shown = report.to_json();
        shown["name"] = json!(place.name.as_ref());
        shown["waiting"] = json!(waiting);
        shown
    };
    let of_each = services.vault.status().await?.into_iter().map(tell).collect();
    let mut shown = with_each(of_each);
    let next = services.rota.next_backup().await;
    shown["nextRun"] = json!(next.map(pocketbase_time));
    respond::ok(call, &shown)
}

/// What is told of each destination, below `destinations`; at the top that of the first.
fn with_each(of_each: Vec<Value>) -> Value {
    let mut shown = of_each.first().cloned().unwrap_or_default();
    shown["destinations"] = Value::Array(of_each);
    shown
}

/// What a client may know of why something cannot begin.
pub(super) fn told(error: Error) -> ApiError {
    match error.kind() {
        Kind::Exists | Kind::Unavailable => ApiError::bad_request(error.message()),
        Kind::NoSpace => {
            let hint = error.operator_hint().map(|hint| format!(" Hint: {hint}."));
            let message = format!("{}{}", error.message(), hint.unwrap_or_default());
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, message)
        }
        _ => ApiError::from(error),
    }
}
