//! What is sent, field by field.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::scalingo::Addon;
use crate::http::faces::scalingo::Scalingo;
use crate::http::faces::scalingo::bundle::Bundle;
use crate::vault::Method;
use crate::vault::orders::{Daily, Order, OrderState};

/// A backup: the nine fields of their documents' table and samples together. Its size is that
/// of what a download brings.
#[derive(Debug, Serialize)]
pub(super) struct Backup {
    id: String,
    created_at: String,
    started_at: Option<String>,
    name: String,
    size: Option<u64>,
    status: &'static str,
    database_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    method: &'static str,
}

impl Backup {
    pub(super) fn new(addon: &Addon, order: &Order) -> Self {
        Self {
            id: order.id.clone(),
            created_at: time(order.placed),
            started_at: order.started.map(time),
            name: name(addon, order),
            size: Some(order.size_bytes.map_or(0, |bytes| Bundle::of(bytes).size_bytes())),
            status: match order.state {
                OrderState::Waiting => "scheduled",
                OrderState::Running => "running",
                OrderState::Done => "done",
                OrderState::Failed => "error",
            },
            database_id: addon.database_id.clone(),
            kind: addon.kind.as_str(),
            method: match order.method {
                Method::Scheduled => "periodic",
                Method::Api | Method::Manual => "manual",
            },
        }
    }

    /// One that was just ordered: its size is not known rather than nothing.
    pub(super) fn placed(addon: &Addon, order: &Order) -> Self {
        Self { size: None, ..Self::new(addon, order) }
    }
}

/// `YYYYMMDDHHMMSS_<database>`, the moment in UTC.
pub(super) fn name(addon: &Addon, order: &Order) -> String {
    format!("{}_{}", order.placed.format("%Y%m%d%H%M%S"), addon.database)
}

/// An addon of the application.
pub(super) fn addon(face: &Scalingo, addon: &Addon) -> Value {
    let (kind, title) = (addon.kind.as_str(), addon.kind.title());
    json!({
        "id": addon.id,
        "app_id": face.config.app,
        "resource_id": addon.database,
        "status": "running",
        "plan": { "id": kind, "name": kind, "display_name": title, "price": 0 },
        "addon_provider": { "id": kind, "name": title },
        "provisioned_at": time(face.since),
    })
}

/// A database and when it is backed up.
pub(super) fn database(face: &Scalingo, addon: &Addon, daily: Option<Daily>) -> Value {
    let hours: Vec<u8> = daily.iter().map(|daily| daily.hour).collect();
    json!({
        "id": addon.database_id,
        "created_at": time(face.since),
        "resource_id": addon.database,
        "app_name": face.config.app,
        "encryption_at_rest": false,
        "features": [],
        "plan": addon.kind.as_str(),
        "status": "running",
        "type_id": addon.kind.as_str(),
        "type_name": addon.kind.as_str(),
        "instances": [],
        "cluster": false,
        "periodic_backups_enabled": daily.is_some_and(|daily| daily.enabled),
        "periodic_backups_scheduled_at": hours,
    })
}

/// `2018-09-02T03:00:00.178+00:00`
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalingo::AddonKind;

    #[test]
    fn a_backup_has_nine_fields_in_scalingos_words() {
        let addon = Addon {
            id: "ad-1".to_owned(),
            kind: AddonKind::Postgresql,
            database: "kibana-3938".to_owned(),
            database_id: "597601234ffb097af4f3099b".to_owned(),
        };
        let at = "2018-09-02T01:00:00.178Z".parse().expect("a date");
        let mut order = Order {
            id: "5b8b36104ffb090be1ac3ce1".to_owned(),
            method: Method::Api,
            state: OrderState::Waiting,
            key: None,
            size_bytes: None,
            placed: at,
            started: None,
        };
        let shown = |backup: Backup| serde_json::to_value(backup).expect("JSON");
        let expected = json!({
            "id": "5b8b36104ffb090be1ac3ce1",
            "created_at": "2018-09-02T01:00:00.178+00:00",
            "started_at": null,
            "name": "20180902010000_kibana-3938",
            "size": null,
            "status": "scheduled",
            "database_id": "597601234ffb097af4f3099b",
            "type": "postgresql",
            "method": "manual",
        });
        assert_eq!(shown(Backup::placed(&addon, &order)), expected);
        for (state, word) in [
            (OrderState::Running, "running"),
            (OrderState::Failed, "error"),
            (OrderState::Done, "done"),
        ] {
            order = Order { state, method: Method::Scheduled, started: Some(at), ..order };
            let shown = shown(Backup::new(&addon, &order));
            assert_eq!((&shown["status"], &shown["method"]), (&json!(word), &json!("periodic")));
            assert_eq!((&shown["size"], &shown["started_at"]), (&json!(0), &shown["created_at"]));
        }
        order.size_bytes = Some(17_484_513_608);
        let size = shown(Backup::new(&addon, &order))["size"].as_u64().expect("a number");
        assert!(size > 17_484_513_608, "{size}");
    }
}
