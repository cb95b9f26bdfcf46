//! Who is told of what, and trying it out.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::pocketbase_time;
use crate::config::notify::{ChannelTable, Event, Way};
use crate::error::{Error, Kind};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, LOADING, NOT_FOUND};
use crate::http::guard::Superuser;
use crate::http::respond;

/// `GET /api/vault/notify`
#[derive(Debug, Serialize)]
struct Shown {
    channels: Vec<Receiver>,
    troubles: Vec<Trouble>,
}

/// Without its address, which may hold a secret.
#[derive(Debug, Serialize)]
struct Receiver {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Trouble {
    condition: String,
    since: String,
}

/// `GET /api/vault/notify`
pub(super) async fn list(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let alarms = &call.services.alarms;
    let channels = alarms.channels().map(|channel| {
        let (kind, events) = match &channel.way {
            Way::Webhook(_) => ("webhook", channel.events.clone()),
            Way::Mail(_) => ("mail", channel.events.clone()),
            Way::Heartbeat(_) => ("heartbeat", vec![Event::Start, Event::Success, Event::Failure]),
        };
        Receiver { name: channel.name.clone(), kind, events }
    });
    let troubles = alarms.troubles().await?;
    let troubles = troubles
        .into_iter()
        .map(|(condition, since)| Trouble { condition, since: pocketbase_time(since) });
    respond::ok(call, &Shown { channels: channels.collect(), troubles: troubles.collect() })
}

/// `POST /api/vault/notify/test` with `{"name": …}` for a configured receiver, or with all that
/// a table of the configuration has for a new one.
pub(super) async fn test(call: &mut Call, _: &Superuser) -> Answer<HttpResponse> {
    let unreadable = || ApiError::bad_request(LOADING);
    let body = match call.body().await.map_err(|_| unreadable())? {
        Body::Json(Value::Object(body)) => body,
        _ => return Err(unreadable()),
    };
    let alarms = &call.services.alarms;
    let sent = match (body.get("name").and_then(Value::as_str), body.contains_key("type")) {
        (Some(name), false) => alarms.try_out(name).await,
        _ => {
            let table: ChannelTable = table_of(body).ok_or_else(unreadable)?;
            let told = |error: Error| ApiError::bad_request(error.message());
            let channel = table.resolve(1).map_err(told)?;
            alarms.try_out_new(&channel).await
        }
    };
    sent.map(|()| respond::no_content()).map_err(not_sent)
}

fn table_of(body: Map<String, Value>) -> Option<ChannelTable> {
    serde_json::from_value(Value::Object(body)).ok()
}

/// What a client may know: what went wrong, never what a receiver's answer said.
fn not_sent(error: Error) -> ApiError {
    tracing::warn!(error = error.full(), "a test was not told");
    match error.kind() {
        Kind::NotFound => ApiError::not_found(NOT_FOUND),
        Kind::Denied => ApiError::forbidden(error.message()),
        Kind::Unavailable => ApiError::new(StatusCode::BAD_GATEWAY, error.message().to_owned()),
        _ => ApiError::from(error),
    }
}
