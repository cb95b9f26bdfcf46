//! Faces: one folder per foreign API, and [`vault`] for our own. A face never imports another.

use actix_web::{HttpRequest, HttpResponse};

use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::routes::{self, Route};
use crate::http::services::Services;

pub mod blnk;
pub mod bosbase;
pub mod pocketbase;
pub mod scalingo;
pub mod vault;

/// Whether we answer a request ourselves although a program behind us could.
pub fn is_ours(services: &Services, request: &HttpRequest) -> bool {
    let of_blnk = services.blnk.is_some() && routes::blnk::find(request.path()).is_some();
    of_blnk
        || scalingo::route_of(services, request).is_some()
        || Route::is_ours(request.method(), request.path())
}

/// The route of a request.
pub fn route(services: &Services, request: &HttpRequest) -> Route {
    let find = || Route::find(request.method(), request.uri().path());
    scalingo::route_of(services, request).map_or_else(find, Route::Scalingo)
}

/// Hands a request to the face of its route.
///
/// # Errors
/// What the client is told.
pub async fn dispatch(call: &mut Call, route: Route) -> Answer<HttpResponse> {
    if let Some(blnk) = call.services.blnk.clone()
        && let Some(place) = routes::blnk::find(call.request.uri().path())
    {
        return Ok(blnk::respond(call, &blnk, place).await);
    }
    if let Some(answer) = bosbase::respond(call, &route).await? {
        return Ok(answer);
    }
    match route {
        Route::Page(file) => match file.as_deref().and_then(vault::openapi::file) {
            Some(page) => Ok(page),
            None => vault::page::get(call, file.as_deref()),
        },
        Route::Scalingo(route) => Ok(scalingo::dispatch(call, route).await),
        Route::Description => vault::openapi::get(call),
        Route::Docs => Ok(vault::openapi::docs()),
        Route::Vault(route) => vault::dispatch(call, route).await,
        route => pocketbase::dispatch(call, route).await,
    }
}
