//! Blnk's face: its two backup routes, with its keys and its envelopes.

mod answer;

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;

use crate::error::{Error, Kind};
use crate::http::call::Call;
use crate::vault::blnk::{Blnk, Failure, Place, Standing};

use answer::Refusal;

/// The header that Blnk reads.
const KEY_HEADER: &str = "x-blnk-key";
/// How the guessing of keys is counted.
const GUESS: &str = "blnk api key";

/// Answers a request for one of the routes.
pub async fn respond(call: &Call, blnk: &Arc<Blnk>, place: Place) -> HttpResponse {
    // Whatever else is asked for shall not make a backup, HEAD least of all.
    if call.request.method() != Method::GET {
        return answer::not_found();
    }
    if let Err(refusal) = admit(call, blnk).await {
        return answer::refused(&refusal);
    }
    match blnk.back_up(place).await {
        Ok(made) => answer::made(call, place, &made),
        Err(failure) => {
            if let Failure::Failed(error) = &failure {
                tracing::error!(error = error.full(), ip = call.real_ip, "no backup was made");
            }
            answer::failed(&failure)
        }
    }
}

async fn admit(call: &Call, blnk: &Blnk) -> Result<(), Refusal> {
    if !blnk.is_secure() {
        return Ok(());
    }
    let key = key_of(call).ok_or(Refusal::Missing)?;
    if blnk.is_master(&key) {
        return Ok(());
    }
    let throttled = |error: Error| match error.kind() {
        Kind::Throttled => Refusal::TooMany,
        _ => Refusal::Unknowable(error),
    };
    call.services.begin_login(&call.address, GUESS).map_err(throttled)?;
    let standing = blnk.standing(&key).await.map_err(Refusal::Unknowable)?;
    if standing != Standing::Unknown {
        call.services.login_succeeded(&call.address, GUESS);
    }
    match standing {
        Standing::Sufficient => Ok(()),
        Standing::Insufficient => Err(Refusal::Insufficient),
        Standing::Ended => Err(Refusal::Ended),
        Standing::Unknown => Err(Refusal::Invalid),
    }
}

/// The key: `X-Blnk-Key` as Blnk has it, or `Authorization: Bearer` as its documents say.
fn key_of(call: &Call) -> Option<String> {
    let headers = call.request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = text(KEY_HEADER).map(str::trim).filter(|key| !key.is_empty());
    let bearer = || {
        let (scheme, key) = text(AUTHORIZATION.as_str())?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    };
    own.or_else(bearer).filter(|key| !key.is_empty()).map(str::to_owned)
}
