//! Databases and their dumps.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::backup::{Backup, Key};
use crate::clock::pocketbase_time;
use crate::error::{Context, Error, Kind};
use crate::http::bind::{self, Field, Shape};
use crate::http::call::Call;
use crate::http::download::{self, Object, Source};
use crate::http::fault::{Answer, ApiError, LOADING, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::prefer::Preference;
use crate::http::query;
use crate::http::respond;
use crate::http::routes::databases::DatabaseRoute;
use crate::restore::postgres::{Plan, Wish};
use crate::source::postgres::shown_version;
use crate::vault::databases::{DatabaseVault, Proof};
use crate::vault::{Method, Operation};

const FORM: &[Field] = &[Field { name: "name", element: "Name", shape: Shape::Text }];
const MEDIA_TYPE: &str = "application/octet-stream";

/// A database.
#[derive(Debug, Serialize)]
struct Database {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// `user@host:port/database`
    target: String,
    busy: Option<Busy>,
    undo: Option<Kept>,
}

/// What is under way.
#[derive(Debug, Serialize)]
struct Busy {
    operation: &'static str,
    key: String,
}

/// What an undo would bring back.
#[derive(Debug, Serialize)]
struct Kept {
    /// The old database's name on its server.
    database: String,
    key: String,
    since: String,
}

/// A dump.
#[derive(Debug, Serialize)]
struct Listed {
    modified: String,
    key: String,
    size: u64,
    sha256: Option<String>,
    #[serde(rename = "serverVersion")]
    server_version: Option<String>,
    #[serde(rename = "programVersion")]
    program_version: Option<String>,
}

/// What a restore would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    way: &'static str,
    owners: bool,
    of_database: String,
    of_server: String,
    program_version: String,
    tables: u64,
    live_bytes: u64,
    notes: Vec<String>,
}

/// Hands a request to its handler.
pub(super) async fn dispatch(
    call: &mut Call,
    _: &Superuser,
    route: DatabaseRoute,
) -> Answer<HttpResponse> {
    match route {
        DatabaseRoute::All => {
            let vaults = call.services.databases.iter();
            let shown: Answer<Vec<Database>> = vaults.map(|vault| shown(vault)).collect();
            respond::ok(call, &shown?)
        }
        DatabaseRoute::One(name) => {
            let vault = find(call, &name)?;
            respond::ok(call, &shown(&vault)?)
        }
        DatabaseRoute::List(name) => list(call, &name).await,
        DatabaseRoute::Create(name) => create(call, &name).await,
        DatabaseRoute::Undo(name) => undo(call, &name).await,
        DatabaseRoute::Download(name, key) => download(call, &name, &key).await,
        DatabaseRoute::Delete(name, key) => {
            let vault = find(call, &name)?;
            let deleted = vault.delete(&key_of(&vault, &key)?).await;
            deleted.map_err(told)?;
            Ok(respond::no_content())
        }
        DatabaseRoute::Plan(name, key) => {
            let vault = find(call, &name)?;
            let plan = vault.plan(&key_of(&vault, &key)?, &wish_of(call)?).await;
            respond::ok(call, &Planned::from(plan.map_err(told)?))
        }
        DatabaseRoute::Restore(name, key) => restore(call, &name, &key).await,
    }
}

async fn list(call: &Call, name: &[u8]) -> Answer<HttpResponse> {
    let vault = find(call, name)?;
    let mut listed = Vec::new();
    for backup in vault.list().await.map_err(told)? {
        let proof = vault.proof(&backup.key).await;
        listed.push(Listed::new(backup, proof));
    }
    respond::ok(call, &listed)
}

async fn create(call: &mut Call, name: &[u8]) -> Answer<HttpResponse> {
    let vault = find(call, name)?;
    let chosen = chosen_name(call, &vault).await?;
    let creating = vault.begin_create(chosen, Method::Api).await.map_err(told)?;
    let (job, task) = (creating.job(), creating.spawn());
    let preference = Preference::of(call);
    let wait = preference.wait(call.services.create_wait);
    match tokio::time::timeout(wait, task).await {
        Ok(ended) => {
            let (backup, proof) = ended.context("the job's task stopped")?.map_err(told)?;
            respond::json(call, StatusCode::CREATED, &Listed::new(backup, Some(proof)))
        }
        Err(_) => Ok(preference.let_go(StatusCode::ACCEPTED, job)),
    }
}

async fn restore(call: &Call, name: &[u8], key: &[u8]) -> Answer<HttpResponse> {
    let vault = find(call, name)?;
    let (key, wish) = (key_of(&vault, key)?, wish_of(call)?);
    let restoring = vault.begin_restore(&key, &wish, Method::Api).await.map_err(told)?;
    let job = restoring.job();
    // How it ends is in the job record.
    drop(restoring.spawn());
    Ok(Preference::None.let_go(StatusCode::ACCEPTED, job))
}

async fn undo(call: &Call, name: &[u8]) -> Answer<HttpResponse> {
    let restoring = find(call, name)?.begin_undo(Method::Api).await.map_err(told)?;
    let job = restoring.job();
    drop(restoring.spawn());
    Ok(Preference::None.let_go(StatusCode::ACCEPTED, job))
}

async fn download(call: &Call, name: &[u8], key: &[u8]) -> Answer<HttpResponse> {
    let vault = find(call, name)?;
    let key = key_of(&vault, key)?;
    let storage = vault.storage().clone();
    let backup = storage.head(&key).await.map_err(told)?;
    let object = Object {
        name: key.to_string(),
        size_bytes: backup.size_bytes,
        modified: backup.modified,
        content_type: MEDIA_TYPE.to_owned(),
    };
    let source = Source::stored(storage, &key).await.map_err(told)?;
    tracing::info!(database = vault.name(), %key, ip = call.real_ip, "a dump is downloaded");
    download::respond(&call.request, &object, source).await.map_err(told)
}

fn shown(vault: &DatabaseVault) -> Answer<Database> {
    let operation = |operation| match operation {
        Operation::Create => "create",
        Operation::Restore => "restore",
    };
    let busy = vault.flight().current();
    Ok(Database {
        name: vault.name().to_owned(),
        kind: vault.kind().as_str(),
        target: vault.source().target().shown(),
        busy: busy
            .map(|busy| Busy { operation: operation(busy.operation), key: busy.key.to_string() }),
        undo: vault.kept()?.map(|kept| Kept {
            database: kept.name,
            key: kept.key,
            since: pocketbase_time(kept.since),
        }),
    })
}

fn find(call: &Call, name: &[u8]) -> Answer<Arc<DatabaseVault>> {
    let name = std::str::from_utf8(name).ok();
    let vault = name.and_then(|name| call.services.databases.find(name));
    vault.cloned().ok_or_else(|| ApiError::not_found(NOT_FOUND))
}

fn key_of(vault: &DatabaseVault, segment: &[u8]) -> Answer<Key> {
    let ends = |name: &&str| name.ends_with(vault.kind().suffix());
    let name = std::str::from_utf8(segment).ok().filter(ends);
    name.and_then(|name| Key::existing(name).ok()).ok_or_else(|| ApiError::not_found(NOT_FOUND))
}

async fn chosen_name(call: &mut Call, vault: &DatabaseVault) -> Answer<Option<Key>> {
    let body = call.body().await.map_err(|_| ApiError::bad_request(LOADING))?;
    let form = bind::bind(&body, FORM).map_err(|_| ApiError::bad_request(LOADING))?;
    match form.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(vault.chosen(name)?)),
        None => Ok(None),
    }
}

/// `?into=NAME&owners=true`
fn wish_of(call: &Call) -> Answer<Wish> {
    let query = call.request.query_string();
    let owners = match query::first(query, "owners").as_deref() {
        None | Some("") => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => return Err(ApiError::bad_request("`owners` is true or false.")),
    };
    Ok(Wish { into: query::first(query, "into").filter(|into| !into.is_empty()), owners })
}

/// What a client may know: these messages name no places on the server's disk and no secrets.
fn told(error: Error) -> ApiError {
    match error.kind() {
        Kind::NotFound if error.message().starts_with("There is no database") => {
            ApiError::bad_request(error.message())
        }
        Kind::Busy | Kind::InUse | Kind::NotFound | Kind::Invalid(_) => ApiError::from(error),
        _ if error.message().contains('/') => ApiError::from(error),
        _ => {
            tracing::warn!(error = error.full(), "a request about a database failed");
            ApiError::bad_request(error.message())
        }
    }
}

impl Listed {
    fn new(backup: Backup, proof: Option<Proof>) -> Self {
        // A proof of another size is that of another dump of this name.
        let proof = proof.filter(|proof| proof.bytes == backup.size_bytes);
        Self {
            modified: pocketbase_time(backup.modified),
            key: backup.key.to_string(),
            size: backup.size_bytes,
            sha256: proof.as_ref().map(|proof| proof.sha256.clone()),
            server_version: proof.as_ref().map(|proof| proof.server_version.clone()),
            program_version: proof.map(|proof| proof.program_version),
        }
    }
}

impl From<Plan> for Planned {
    fn from(plan: Plan) -> Self {
        Self {
            way: plan.word(),
            owners: plan.owners,
            of_server: shown_version(plan.outline.server_version),
            program_version: plan.program_version(),
            tables: plan.outline.tables,
            live_bytes: plan.live_bytes,
            of_database: plan.outline.database,
            notes: plan.notes,
        }
    }
}
