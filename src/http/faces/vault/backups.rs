//! All backups with what is known about them, and where each of them is.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::pocketbase_time;
use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::vault::catalog::{Known, Proof};
use crate::vault::{At, Spread};

/// A backup and what is known about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct Shown {
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

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Proof)]
pub(super) struct ShownProof {
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
            proof: known.proof.map(ShownProof::from),
        }
    }
}

impl From<Proof> for ShownProof {
    fn from(proof: Proof) -> Self {
        Self {
            when: pocketbase_time(proof.when),
            kind: proof.kind.as_str(),
            ok: proof.ok,
            said: proof.said,
        }
    }
}

/// A backup and where it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedBackup)]
pub(super) struct Listed {
    #[serde(flatten)]
    shown: Shown,
    /// `stored` when at least one destination has it and it waits for none; `waiting` when it
    /// still has to be sent; `unknown` when only a destination could have it that is silent.
    state: &'static str,
    destinations: Vec<Destination>,
}

/// A backup at one destination.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Destination {
    name: String,
    state: &'static str,
    size: Option<u64>,
    modified: Option<String>,
    proof: Option<ShownProof>,
    error: Option<String>,
}

/// `GET /api/vault/backups`, ascending by key
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let backups = call.services.vault.overview().await?;
    let shown: Vec<Listed> = backups.into_iter().map(Listed::from).collect();
    respond::ok(call, &shown)
}

impl From<Spread> for Listed {
    fn from(spread: Spread) -> Self {
        let any = |fits: fn(&At) -> bool| spread.places.iter().any(|(_, at)| fits(at));
        let state = if any(|at| matches!(at, At::Waiting(_))) {
            "waiting"
        } else if any(|at| matches!(at, At::Stored(_))) {
            "stored"
        } else {
            "unknown"
        };
        let destinations = spread.places.into_iter();
        let destinations =
            destinations.map(|(name, at)| Destination::new(name.to_string(), at)).collect();
        Self { shown: Shown::from(spread.known), state, destinations }
    }
}

impl Destination {
    fn new(name: String, at: At) -> Self {
        let (state, known, error) = match at {
            At::Stored(known) => ("stored", Some(known), None),
            At::Waiting(error) => ("waiting", None, Some(error)),
            At::Missing => ("missing", None, None),
            At::Unknown => ("unknown", None, None),
        };
        let size = known.as_ref().map(|known| known.size_bytes);
        let modified = known.as_ref().map(|known| pocketbase_time(known.made));
        let proof = known.and_then(|known| known.proof).map(ShownProof::from);
        Self { name, state, size, modified, proof, error }
    }
}
