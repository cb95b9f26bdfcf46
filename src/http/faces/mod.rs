//! Faces: one folder per foreign API, and [`vault`] for our own. A face never imports another.

use actix_web::HttpResponse;

use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::routes::Route;

pub mod pocketbase;
pub mod vault;

/// Hands a request to the face of its route.
///
/// # Errors
/// What the client is told.
pub async fn dispatch(call: &mut Call, route: Route) -> Answer<HttpResponse> {
    match route {
        Route::Page(file) => vault::page::get(call, file.as_deref()),
        Route::Vault(route) => vault::dispatch(call, route).await,
        route => pocketbase::dispatch(call, route).await,
    }
}
