//! The account, its region, and the application's addons.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::scalingo::Addon;
use crate::http::call::Call;
use crate::http::faces::scalingo::guard::{self, Account};
use crate::http::faces::scalingo::refusal::{Refusal, Reply};
use crate::http::faces::scalingo::{Scalingo, shapes};
use crate::http::json;

/// `POST /v1/tokens/exchange`
pub(super) async fn exchange(call: &Call, face: &Scalingo) -> Reply {
    let account = Account::by_token(call, face)?;
    Ok(ok(call, &json!({ "token": account.pass(call, face) })))
}

/// `GET /v1/users/self`
pub(super) fn user(call: &Call, face: &Scalingo) -> Reply {
    Account::of(call, face)?;
    let app = &face.config.app;
    let email = format!("{app}@pocketvault.invalid");
    let user = json!({
        "id": format!("us-{app}"),
        "username": app,
        "fullname": app,
        "email": email,
        "flags": {},
    });
    Ok(ok(call, &json!({ "user": user })))
}

/// `GET /v1/regions`
pub(super) fn regions(call: &Call, face: &Scalingo) -> Reply {
    Account::of(call, face)?;
    let base = guard::base(call, face);
    let region = json!({
        "name": face.config.region,
        "display_name": face.config.region,
        "api": base,
        "database_api": base,
        "dashboard": format!("{base}/_vault/"),
        "ssh": "",
        "default": true,
    });
    Ok(ok(call, &json!({ "regions": [region] })))
}

/// `GET /v1/apps/{app}/addons`
pub(super) fn addons(call: &Call, face: &Scalingo, app: &str) -> Reply {
    let shown = |addon| shapes::addon(face, addon);
    let (_, all) = of_app(call, face, app)?;
    let addons: Vec<Value> = all.iter().map(shown).collect();
    Ok(ok(call, &json!({ "addons": addons })))
}

/// `GET /v1/apps/{app}/addons/{addon}`
pub(super) fn addon(call: &Call, face: &Scalingo, app: &str, word: &str) -> Reply {
    of_app(call, face, app)?;
    let addon = face.addon(word).ok_or_else(|| Refusal::not_found("addon"))?;
    Ok(ok(call, &json!({ "addon": shapes::addon(face, addon) })))
}

/// `POST /v1/apps/{app}/addons/{addon}/token`
pub(super) fn addon_token(call: &Call, face: &Scalingo, app: &str, word: &str) -> Reply {
    let (account, _) = of_app(call, face, app)?;
    let addon = face.addon(word).ok_or_else(|| Refusal::not_found("addon"))?;
    let mut shown = shapes::addon(face, addon);
    shown["token"] = Value::String(account.database_pass(call, face, addon));
    Ok(ok(call, &json!({ "addon": shown })))
}

fn of_app<'a>(
    call: &Call,
    face: &'a Scalingo,
    app: &str,
) -> Result<(Account, &'a [Addon]), Refusal> {
    let account = Account::of(call, face)?;
    match app == face.config.app {
        true => Ok((account, &face.config.addons)),
        false => Err(Refusal::not_found("app")),
    }
}

/// 200 with JSON.
pub(super) fn ok(call: &Call, body: &impl Serialize) -> HttpResponse {
    reply(call, StatusCode::OK, body)
}

/// JSON with any status. Nothing picks of its fields here.
pub(super) fn reply(call: &Call, status: StatusCode, body: &impl Serialize) -> HttpResponse {
    json::respond_error(&call.request, status, body)
}
