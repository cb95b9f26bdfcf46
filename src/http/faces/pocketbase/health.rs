//! `GET /api/health`

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::settings::addresses;

#[derive(Debug, Serialize)]
struct Health {
    message: &'static str,
    code: u16,
    data: Value,
}

/// Everybody learns that we are here, superusers a little more.
pub(super) async fn health(call: &Call) -> Answer<HttpResponse> {
    if let Some(program) = &call.services.program
        && let Some(words) = super::behind::unwell(call, program).await?
    {
        return Ok(words);
    }
    let data = match Superuser::of(call) {
        Err(_) => json!({}),
        Ok(_) => {
            let trusted = &call.settings.values().trusted_proxy;
            json!({
                "canBackup": call.services.vault.flight().current().is_none(),
                "realIP": call.real_ip,
                "possibleProxyHeader":
                    addresses::possible_proxy_header(trusted, |name| call.values_of(name)),
            })
        }
    };
    respond::ok(call, &Health { message: "API is healthy.", code: 200, data })
}
