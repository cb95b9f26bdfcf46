//! A database, and its daily backup.

use serde_json::{Value, json};

use crate::config::scalingo::Addon;
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::faces::scalingo::account::ok;
use crate::http::faces::scalingo::guard::Grant;
use crate::http::faces::scalingo::refusal::{Refusal, Reply};
use crate::http::faces::scalingo::{Scalingo, shapes, target_of};
use crate::vault::orders::Daily;

const ENABLED: &str = "periodic_backups_enabled";
const HOUR: &str = "periodic_backups_scheduled_at";

/// `GET /api/databases/{db}`
pub(super) async fn show(call: &Call, face: &Scalingo, db: &str) -> Reply {
    let grant = Grant::of(call, face, Some(db))?;
    shown(call, face, grant.addon).await
}

/// `PATCH /api/databases/{db}`: the hour is sent as a number and shown as a list.
pub(super) async fn change(call: &mut Call, face: &Scalingo, db: &str) -> Reply {
    let unreadable = || Refusal::bad_request("unreadable", "The body is not readable as JSON.");
    let body = call.body().await.map_err(|_| unreadable())?;
    let grant = Grant::of(call, face, Some(db))?;
    let Body::Json(body) = body else { return Err(unreadable()) };
    let target = target_of(grant.addon);
    let before = face.orders.daily(target).await?;
    let daily = changed(before.unwrap_or(Daily { enabled: false, hour: 0 }), &body["database"])?;
    face.orders.set_daily(target, daily).await?;
    let (database, enabled, hour) = (&grant.addon.database, daily.enabled, daily.hour);
    tracing::info!(database, enabled, hour, ip = call.real_ip, "the daily backup was changed");
    shown(call, face, grant.addon).await
}

async fn shown(call: &Call, face: &Scalingo, addon: &Addon) -> Reply {
    let daily = face.orders.daily(target_of(addon)).await?;
    let database = shapes::database(face, addon, daily);
    Ok(ok(call, &json!({ "database": database })))
}

fn changed(mut daily: Daily, wanted: &Value) -> Result<Daily, Refusal> {
    let given = |field| wanted.get(field).filter(|value| !value.is_null());
    let (enabled, hour) = (given(ENABLED), given(HOUR));
    if enabled.is_none() && hour.is_none() {
        let message = "only the periodic backups can be changed here";
        return Err(Refusal::unprocessable("database", message));
    }
    if let Some(enabled) = enabled {
        let told = || Refusal::unprocessable(ENABLED, "must be true or false");
        daily.enabled = enabled.as_bool().ok_or_else(told)?;
    }
    if let Some(hour) = hour {
        let told = || Refusal::unprocessable(HOUR, "must be one hour from 0 to 23, UTC");
        let hour = match hour.as_array().map(Vec::as_slice) {
            Some([hour]) => hour,
            Some(_) => return Err(told()),
            None => hour,
        };
        let hour = hour.as_u64().filter(|hour| *hour < 24).ok_or_else(told)?;
        daily.hour = u8::try_from(hour).unwrap_or_default();
    }
    Ok(daily)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_one_of_the_day() {
        let before = Daily { enabled: false, hour: 4 };
        let after = |wanted: Value| changed(before, &wanted).ok().map(|d| (d.enabled, d.hour));
        assert_eq!(after(json!({ ENABLED: true, HOUR: 3 })), Some((true, 3)));
        assert_eq!(after(json!({ ENABLED: true, HOUR: [23] })), Some((true, 23)));
        assert_eq!(after(json!({ ENABLED: true })), Some((true, 4)));
        assert_eq!(after(json!({ HOUR: 0, ENABLED: null })), Some((false, 0)));
        for wrong in [
            json!(null),
            json!({}),
            json!({ "maintenance_window": {} }),
            json!({ HOUR: 24 }),
            json!({ HOUR: -1 }),
            json!({ HOUR: 3.5 }),
            json!({ HOUR: [3, 4] }),
            json!({ HOUR: "3" }),
            json!({ ENABLED: "yes" }),
        ] {
            assert_eq!(after(wrong.clone()), None, "{wrong}");
        }
    }
}
