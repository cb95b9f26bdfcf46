//! Scalingo's face: what their command line and their client libraries need to list, make and
//! download backups of databases that they never provisioned.
//!
//! Three steps of trust, as with them: an API token of the configuration is exchanged for an
//! account's pass, that for one of a database, that for a link to one backup.

mod account;
mod backups;
mod bundle;
mod database;
mod download;
mod guard;
mod refusal;
mod restore;
mod shapes;

use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};

use crate::auth::passes::Passes;
use crate::config::scalingo::{Addon, AddonKind, ScalingoConfig};
use crate::http::call::Call;
use crate::http::fault::ApiError;
use crate::http::routes::scalingo::ScalingoRoute;
use crate::http::services::Services;
use crate::vault::orders::Orders;

use self::refusal::{Refusal, Reply};

/// What the face is made of.
#[derive(Debug)]
pub struct Scalingo {
    /// Its options.
    pub config: ScalingoConfig,
    /// The passes that it gives.
    pub passes: Passes,
    /// The backups of its databases.
    pub orders: Orders,
    /// Since when it is there, as far as clients want a date.
    pub since: DateTime<Utc>,
}

impl Scalingo {
    /// The addon that a client means: by its id, its database's id or its database's name.
    fn addon(&self, word: &str) -> Option<&Addon> {
        let addons = &self.config.addons;
        addons.iter().find(|addon| addon.id == word).or_else(|| {
            addons.iter().find(|addon| addon.database_id == word || addon.database == word)
        })
    }
}

/// The name under which an addon's backups are ordered.
fn target_of(addon: &Addon) -> &str {
    match addon.kind {
        AddonKind::Postgresql => &addon.database,
        AddonKind::Sqlite => "",
    }
}

/// What a request is to this face, where it is on.
pub fn route_of(services: &Services, request: &HttpRequest) -> Option<ScalingoRoute> {
    let face = services.scalingo.as_ref()?;
    let has_pass = || guard::has_pass(face, request, services.vault.clock().now());
    ScalingoRoute::find(request.method(), request.path(), request.query_string(), has_pass)
}

/// Hands a request to its handler. The answer to what is refused has Scalingo's form.
pub async fn dispatch(call: &mut Call, route: ScalingoRoute) -> HttpResponse {
    match handle(call, route).await {
        Ok(response) => response,
        Err(refusal) => refusal.respond(&call.request),
    }
}

/// An error from before the routes, in Scalingo's form.
pub fn told(call: &Call, error: &ApiError) -> HttpResponse {
    Refusal::from(error).respond(&call.request)
}

async fn handle(call: &mut Call, route: ScalingoRoute) -> Reply {
    use ScalingoRoute as R;
    let services = call.services.clone();
    let Some(face) = &services.scalingo else { return Err(Refusal::not_found("route")) };
    match route {
        R::Exchange => account::exchange(call, face).await,
        R::User => account::user(call, face),
        R::Regions => account::regions(call, face),
        R::Addons(app) => account::addons(call, face, &app),
        R::Addon(app, addon) => account::addon(call, face, &app, &addon),
        R::AddonToken(app, addon) => account::addon_token(call, face, &app, &addon),
        R::Database(db) => database::show(call, face, &db).await,
        R::DatabaseChange(db) => database::change(call, face, &db).await,
        R::Backups(db) => backups::list(call, face, &db).await,
        R::BackupCreate(db) => backups::create(call, face, &db).await,
        R::Backup(db, id) => backups::show(call, face, db.as_deref(), &id).await,
        R::Archive(db, id) => backups::archive(call, face, &db, &id).await,
        R::BackupDelete(db, id) => backups::delete(call, face, &db, &id).await,
        R::Download(db, id) => download::download(call, face, &db, &id).await,
        R::Restore(db, id) => restore::begin(call, face, &db, &id).await,
        R::Restoration(db, id) => restore::show(call, face, &db, &id).await,
        R::Unknown => Err(Refusal::not_found("route")),
    }
}
