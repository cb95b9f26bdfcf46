//! Every request that Scalingo's command line (1.48.0) and Go client (v11) send for backups,
//! with its exact headers, as one conversation; then what is refused.

use regex::Regex;
use serde_json::{Value, json};

use super::{API_TOKEN, DB, Host, basic, go};
use crate::postgres::cluster::Cluster;
use crate::raw::Request;

/// A time as Go reads it.
const TIME: &str = r"~^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$";
const ID: &str = "~^[0-9a-f]{24}$";

/// With whose token.
#[derive(Debug, Clone, Copy)]
enum By {
    Token,
    Account,
    Database,
}

/// Whether JSON is as described: a text that begins with `~` is a pattern, `*` is anything.
fn fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(any), _) if any == "*" => true,
        (Value::String(pattern), Value::String(text)) if pattern.starts_with('~') => {
            Regex::new(&pattern[1..]).expect("a pattern").is_match(text)
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .all(|(name, value)| found.get(name).is_some_and(|found| fits(value, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(w, f)| fits(w, f))
        }
        _ => wanted == found,
    }
}

fn backup(status: &str, size: Value, started: Value) -> Value {
    json!({
        "id": ID, "created_at": TIME, "started_at": started, "name": r"~^20\d{12}_ledger$",
        "size": size, "status": status, "database_id": ID, "type": "postgresql",
        "method": "manual",
    })
}

fn addon(id: &str, title: &str, token: Option<Value>) -> Value {
    let kind = title.to_lowercase();
    let mut addon = json!({
        "id": id, "app_id": "my-app", "resource_id": &id[3..], "status": "running",
        "plan": { "id": kind, "name": kind, "display_name": title, "price": 0 },
        "addon_provider": { "id": kind, "name": title }, "provisioned_at": TIME,
    });
    if let Some(token) = token {
        addon["token"] = token;
    }
    addon
}

fn database(enabled: bool, hours: Value) -> Value {
    json!({ "database": {
        "id": ID, "created_at": TIME, "resource_id": "ledger", "app_name": "my-app",
        "encryption_at_rest": false, "features": [], "plan": "postgresql", "status": "running",
        "type_id": "postgresql", "type_name": "postgresql", "instances": [], "cluster": false,
        "periodic_backups_enabled": enabled, "periodic_backups_scheduled_at": hours,
    } })
}

/// Who sends what, and what is answered: status and body.
type Call = (By, String, &'static str, u16, Value);

/// `login`, and the way to a database.
fn opening(host: &str) -> Vec<Call> {
    let pg = addon("ad-ledger", "PostgreSQL", None);
    let with_token = addon("ad-ledger", "PostgreSQL", Some(json!(r"~^[\w-]+\.[\w-]+\.[\w-]+$")));
    let region = json!({
        "name": "local", "display_name": "local", "api": host, "database_api": host,
        "dashboard": format!("{host}/_vault/"), "ssh": "", "default": true,
    });
    let addons = "/v1/apps/my-app/addons";
    let own = str::to_owned;
    use By::{Account, Token};
    vec![
        // login --api-token
        (Token, own("POST /v1/tokens/exchange"), "{}", 200, json!({ "token": r"~^[\w.-]+$" })),
        (
            Account,
            own("GET /v1/users/self"),
            "",
            200,
            json!({ "user": {
            "id": "us-my-app", "username": "my-app", "fullname": "my-app",
            "email": "my-app@pocketvault.invalid", "flags": {},
        } }),
        ),
        (Account, own("GET /v1/regions"), "", 200, json!({ "regions": [region] })),
        // --addon postgresql
        (
            Account,
            format!("GET {addons}"),
            "",
            200,
            json!({ "addons": [pg, addon("ad-pb_data", "SQLite", None)] }),
        ),
        (
            Account,
            format!("POST {addons}/ad-ledger/token"),
            "{}",
            200,
            json!({ "addon": with_token }),
        ),
    ]
}

/// `backups`, `backups-create`, `backups-download`, `backups-config`.
fn work(host: &str) -> Vec<Call> {
    let pg = addon("ad-ledger", "PostgreSQL", None);
    let placed = backup("scheduled", Value::Null, Value::Null);
    let done = backup("done", json!("*"), json!(TIME));
    let schedule =
        r#"{"database":{"periodic_backups_scheduled_at":4,"periodic_backups_enabled":true}}"#;
    let unschedule = r#"{"database":{"periodic_backups_enabled":false}}"#;
    let addons = "/v1/apps/my-app/addons";
    let own = str::to_owned;
    use By::{Account, Database};
    vec![
        // backups, before and after backups-create
        (Database, format!("GET {DB}/backups"), "", 200, json!({ "database_backups": [] })),
        (Database, format!("POST {DB}/backups"), "{}", 201, json!({ "database_backup": placed })),
        (Database, own("GET /api/backups/{id}"), "", 200, json!({ "database_backup": done })),
        (Database, format!("GET {DB}/backups/{{id}}"), "", 200, json!({ "database_backup": done })),
        (Database, format!("GET {DB}/backups"), "", 200, json!({ "database_backups": [done] })),
        // backups-download
        (Account, format!("GET {addons}/ad-ledger"), "", 200, json!({ "addon": pg })),
        (
            Database,
            format!("GET {DB}/backups/{{id}}/archive"),
            "",
            200,
            json!({ "download_url":
                format!(r"~^{host}{DB}/backups/[0-9a-f]{{24}}/download\?token=[\w.-]+$")
            }),
        ),
        // backups-config
        (Database, format!("GET {DB}"), "", 200, database(false, json!([]))),
        (Database, format!("PATCH {DB}"), schedule, 200, database(true, json!([4]))),
        (Database, format!("PATCH {DB}"), unschedule, 200, database(false, json!([4]))),
        (Database, format!("PUT {DB}"), schedule, 200, database(true, json!([4]))),
        (Database, own("GET /api/databases/ledger"), "", 200, database(true, json!([4]))),
        (Database, format!("DELETE {DB}/backups/{{id}}"), "", 204, Value::Null),
        (Database, format!("GET {DB}/backups"), "", 200, json!({ "database_backups": [] })),
    ]
}

#[test]
fn the_conversation_of_their_command_line_is_held_to_its_end() {
    let Some(cluster) = Cluster::shared() else { return };
    let name = cluster.create("calls");
    let host = Host::new(&cluster.url(&name), "");
    let base = format!("http://{}", host.server.address());
    let mut id = String::new();
    for (by, line, body, status, wanted) in [opening(&base), work(&base)].concat() {
        let authorization = match by {
            By::Token => basic(API_TOKEN),
            By::Account => format!("Bearer {}", host.account),
            By::Database => format!("Bearer {}", host.database),
        };
        let request = go(&line.replace("{id}", &id), body, Some(authorization));
        let answer = host.server.send(&request);
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        if status == 204 {
            assert!(answer.body.is_empty());
            continue;
        }
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{line}");
        let found = answer.json();
        assert!(fits(&wanted, &found), "{line}\nwanted {wanted}\nfound  {found}");
        if status == 201 {
            id = found["database_backup"]["id"].as_str().expect("an id").to_owned();
            host.wait(&id, "done");
        }
    }
    // The pass is one that clients can read the end of: more than five minutes ahead.
    let claims = host.account.split('.').nth(1).expect("claims");
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
    let claims: Value = serde_json::from_slice(&claims.expect("base64")).expect("JSON");
    let ahead = claims["exp"].as_i64().expect("an end") - chrono::Utc::now().timestamp();
    assert!((3_000..=3_600).contains(&ahead), "{ahead}");
}

#[test]
fn what_is_refused_has_a_form_that_their_clients_read() {
    // No server is needed to say no.
    let host = Host::new("postgres://u@127.0.0.1:1/d", "");
    let (account, database) =
        (format!("Bearer {}", host.account), format!("Bearer {}", host.database));
    let other = format!("Bearer {}", host.pass("ad-pb_data"));
    let gone = |what: &str| json!({ "resource": what, "error": "not found" });
    let (closed, any) = (json!({ "error": "*" }), "{}");
    let hour = r#"{"database":{"periodic_backups_scheduled_at":24}}"#;
    let addons = "/v1/apps/my-app/addons";
    let none = "5b8b36104ffb090be1ac3ce1";
    let errors = |field: &str| json!({ "errors": { field: ["*"] } });
    let forbidden = json!({ "error": "*", "code": "forbidden" });
    for (line, authorization, body, status, wanted) in [
        ("POST /v1/tokens/exchange".to_owned(), "", any, 401, closed.clone()),
        ("POST /v1/tokens/exchange".to_owned(), &*basic("tk-us-wrong"), any, 401, closed.clone()),
        ("POST /v1/tokens/exchange".to_owned(), &*account, any, 401, closed.clone()),
        ("GET /v1/users/self".to_owned(), "", any, 401, closed.clone()),
        ("GET /v1/users/self".to_owned(), &*database, any, 401, closed.clone()),
        ("GET /v1/apps/other/addons".to_owned(), &*account, any, 404, gone("app")),
        (format!("GET {addons}/ad-none"), &*account, any, 404, gone("addon")),
        (format!("POST {addons}/ad-none/token"), &*account, any, 404, gone("addon")),
        (format!("DELETE {addons}/ad-ledger"), &*account, any, 404, gone("route")),
        (format!("GET {DB}/backups"), "", any, 401, closed.clone()),
        (format!("GET {DB}/backups"), &*account, any, 401, closed.clone()),
        (format!("GET {DB}/backups"), &*other, any, 403, forbidden.clone()),
        (format!("POST {DB}/backups"), &*other, any, 403, forbidden.clone()),
        (format!("PATCH {DB}"), &*other, any, 403, forbidden),
        ("GET /api/databases/ad-none".to_owned(), &*database, any, 404, gone("database")),
        (format!("GET /api/backups/{none}"), &*database, any, 404, gone("backup")),
        (format!("GET /api/backups/{none}"), "", any, 401, closed.clone()),
        ("GET /api/backups/nonsense".to_owned(), &*database, any, 404, gone("backup")),
        (format!("GET {DB}/backups/{none}/archive"), &*database, any, 404, gone("backup")),
        (format!("GET {DB}/backups/{none}/download"), &*database, any, 401, closed.clone()),
        (format!("POST {DB}/backups/{none}/restore"), &*database, any, 404, gone("backup")),
        (format!("DELETE {DB}/backups/{none}"), &*database, any, 404, gone("backup")),
        (
            format!("GET {DB}/backup_restorations/{none}"),
            &*database,
            any,
            404,
            gone("backup_restoration"),
        ),
        (format!("GET {DB}/pitr/recovery_window"), &*database, any, 404, gone("route")),
        (format!("PATCH {DB}"), &*database, hour, 422, errors("periodic_backups_scheduled_at")),
        (format!("PATCH {DB}"), &*database, any, 422, errors("database")),
        (format!("PATCH {DB}"), &*database, "{", 400, json!({ "error": "*", "code": "*" })),
    ] {
        let given = (!authorization.is_empty()).then(|| authorization.to_owned());
        let answer = host.server.send(&go(&line, body, given));
        let found = answer.json();
        assert_eq!(answer.status, status, "{line}: {found}");
        assert!(fits(&wanted, &found), "{line}\nwanted {wanted}\nfound  {found}");
    }
}

#[test]
fn pocketbases_own_paths_stay_pocketbases() {
    let host = Host::new("postgres://u@127.0.0.1:1/d", "");
    let token = host.server.login();
    let send = |line: &str| host.server.send(&Request::new(line).auth(&token));
    let id = "5b8b36104ffb090be1ac3ce1";
    assert_eq!(send("GET /api/backups").json(), json!([]));
    assert_eq!(send("GET /api/backups/a.zip").status, 403);
    let refused = send(&format!("GET /api/backups/{id}?token=x"));
    assert_eq!((refused.status, &refused.json()["status"]), (403, &json!(403)));
    assert_eq!(send(&format!("DELETE /api/backups/{id}")).json()["status"], 400);
    assert_eq!(send("GET /v1/anything").json()["status"], 404);
    // Nor is a superuser somebody whom Scalingo's routes know.
    assert_eq!(send(&format!("GET {DB}/backups")).status, 401);
    // Without the table there is no such face.
    let plain = crate::harness::Server::start_ours();
    let answer = plain.send(&go("GET /v1/users/self", "", None));
    assert_eq!((answer.status, &answer.json()["status"]), (404, &json!(404)));
}
