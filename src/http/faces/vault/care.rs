//! Backups with what is known about them; proofs, pins, and what the rules no longer keep.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::backup::Key;
use crate::clock::pocketbase_time;
use crate::error::{Error, Kind};
use crate::http::bind::{self, Field, Shape};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::faces::vault::{accepted, key_of};
use crate::http::fault::{Answer, ApiError, LOADING};
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::Method;
use crate::vault::catalog::{Known, ProofKind};

const FORM: &[Field] = &[
    Field { name: "name", element: "Name", shape: Shape::Text },
    Field { name: "label", element: "Label", shape: Shape::Text },
];
/// Longest label in characters.
const LABEL_CHARS_MAX: usize = 200;

/// A backup and what is known about it.
#[derive(Debug, Serialize)]
struct Shown {
    key: String,
    size: u64,
    modified: String,
    origin: &'static str,
    method: &'static str,
    label: String,
    job: Option<u64>,
    complete: bool,
    missing: u64,
    pinned: bool,
    sha256: Option<String>,
    proof: Option<ShownProof>,
}

#[derive(Debug, Serialize)]
struct ShownProof {
    when: String,
    kind: &'static str,
    ok: bool,
    said: String,
}

impl From<Known> for Shown {
    fn from(known: Known) -> Self {
        Self {
            key: known.key.to_string(),
            size: known.size_bytes,
            modified: pocketbase_time(known.made),
            origin: known.origin.as_str(),
            method: known.method.as_str(),
            label: known.label,
            job: known.job,
            complete: known.complete,
            missing: known.missing,
            pinned: known.pinned,
            sha256: known.sha256,
            proof: known.proof.map(|proof| ShownProof {
                when: pocketbase_time(proof.when),
                kind: proof.kind.as_str(),
                ok: proof.ok,
                said: proof.said,
            }),
        }
    }
}

/// `GET /api/vault/backups`
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let vault = &call.services.vault;
    let storage = vault.storage();
    let listed = storage.list().await?;
    let known = vault.catalog().about(&storage.place(), &listed).await?;
    let shown: Vec<Shown> = known.into_iter().map(Shown::from).collect();
    respond::ok(call, &shown)
}

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
    let (vault, key) = (&call.services.vault, key_of(key)?);
    let storage = vault.storage();
    let (place, backup) = (storage.place(), storage.head(&key).await.map_err(told)?);
    let known = Known { pinned, ..vault.catalog().find(&place, &backup).await? };
    vault.catalog().save(&place, &known).await?;
    respond::ok(call, &Shown::from(known))
}

/// `GET /api/vault/prune`: what would go.
pub(super) async fn pruning(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let pruning = call.services.vault.pruning().await?;
    let bytes: u64 = pruning.expired.iter().map(|one| one.size_bytes).sum();
    let kept = pruning.kept.len();
    let expired: Vec<Shown> = pruning.expired.into_iter().map(Shown::from).collect();
    let held = pruning.held;
    respond::ok(call, &json!({"held": held, "expired": expired, "bytes": bytes, "kept": kept}))
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
    let mut shown = services.vault.status().await?.to_json();
    let next = services.rota.next_backup().await;
    shown["nextRun"] = json!(next.map(pocketbase_time));
    respond::ok(call, &shown)
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
