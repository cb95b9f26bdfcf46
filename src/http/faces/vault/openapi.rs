//! The description of the API, OpenAPI 3.1: the routes by a table that a test compares with the
//! route tables, the answers from the structs that are answered.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use crate::http::call::Call;
use crate::http::faces::vault::{backups, jobs, page};
use crate::http::fault::Answer;
use crate::http::respond;

/// One route.
#[derive(Debug)]
struct Described {
    method: &'static str,
    path: &'static str,
    /// Who may ask.
    who: Who,
    /// The status of success.
    status: u16,
    /// The schema of its answer; empty for none or any.
    answer: &'static str,
    summary: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Everybody,
    Superuser,
    /// A record of any collection.
    Record,
    /// Whoever has a file token of a superuser.
    FileToken,
}

const fn route(
    method: &'static str,
    path: &'static str,
    who: Who,
    (status, answer): (u16, &'static str),
    summary: &'static str,
) -> Described {
    Described { method, path, who, status, answer, summary }
}

const ROUTES: &[Described] = &{
    use Who::{Everybody as All, FileToken as File, Record, Superuser as Admin};
    const OK: (u16, &str) = (200, "");
    const EMPTY: (u16, &str) = (204, "");
    const BEGUN: (u16, &str) = (202, "");
    [
        route("get", "/api/health", All, OK, "Whether the server answers"),
        route("get", "/api/openapi.json", All, OK, "This description"),
        route("get", "/api/docs", All, (307, ""), "This description, to be read"),
        route("get", "/api/backups", Admin, OK, "The backups, as PocketBase lists them"),
        route("post", "/api/backups", Admin, EMPTY, "Makes a backup and waits for it"),
        route("post", "/api/backups/upload", Admin, EMPTY, "Takes in an archive"),
        route("get", "/api/backups/{key}", File, OK, "Downloads a backup"),
        route("delete", "/api/backups/{key}", Admin, EMPTY, "Deletes a backup"),
        route("post", "/api/backups/{key}/restore", Admin, EMPTY, "Restores a backup"),
        route("post", "/api/files/token", Record, OK, "A token for downloads"),
        route("get", "/api/collections/{collection}/auth-methods", All, OK, "How to log in"),
        route("post", "/api/collections/{collection}/auth-with-password", All, OK, "Logs in"),
        route("post", "/api/collections/{collection}/auth-refresh", Record, OK, "A new token"),
        route("post", "/api/collections/{collection}/request-otp", All, OK, "Sends a password"),
        route("post", "/api/collections/{collection}/auth-with-otp", All, OK, "Logs in with it"),
        route(
            "post",
            "/api/collections/{collection}/impersonate/{id}",
            Admin,
            OK,
            "A token for another",
        ),
        route("get", "/api/settings", Admin, OK, "PocketBase's settings"),
        route("patch", "/api/settings", Admin, OK, "Changes PocketBase's settings"),
        route("post", "/api/settings/test/s3", Admin, EMPTY, "Tries the saved S3 settings"),
        route("get", "/api/crons", Admin, OK, "What runs by the clock, as PocketBase lists it"),
        route("post", "/api/crons/{id}", Admin, EMPTY, "Runs one of it now"),
        route("get", "/api/vault/events", Admin, OK, "Changes of jobs as Server-Sent Events"),
        route("get", "/api/vault/jobs", Admin, (200, "Jobs"), "The jobs, newest first"),
        route("get", "/api/vault/jobs/{id}", Admin, (200, "Job"), "One job"),
        route("delete", "/api/vault/jobs/{id}", Admin, (200, "Job"), "Stops a job"),
        route("get", "/api/vault/metrics", Admin, OK, "Numbers for Prometheus"),
        route("get", "/api/vault/notify", Admin, OK, "Who is told of what"),
        route("post", "/api/vault/notify/test", Admin, EMPTY, "Sends a test"),
        route("get", "/api/vault/program", Admin, OK, "How the program behind us is"),
        route(
            "get",
            "/api/vault/restore",
            Admin,
            OK,
            "The last restore, and what an undo brings back",
        ),
        route("post", "/api/vault/restore/undo", Admin, BEGUN, "Takes the last restore back"),
        route(
            "get",
            "/api/vault/backups",
            Admin,
            (200, "Backups"),
            "The backups and where they are",
        ),
        route("post", "/api/vault/backups", Admin, BEGUN, "Begins a backup"),
        route("post", "/api/vault/backups/{key}/verify", Admin, BEGUN, "Reads a backup back"),
        route(
            "post",
            "/api/vault/backups/{key}/drill",
            Admin,
            BEGUN,
            "Restores a backup for a trial",
        ),
        route(
            "post",
            "/api/vault/backups/{key}/pin",
            Admin,
            (200, "Backup"),
            "Keeps a backup from the rules",
        ),
        route(
            "delete",
            "/api/vault/backups/{key}/pin",
            Admin,
            (200, "Backup"),
            "Leaves a backup to the rules",
        ),
        route("post", "/api/vault/backups/{key}/plan", Admin, OK, "What a restore would do"),
        route(
            "post",
            "/api/vault/backups/{key}/restore",
            Admin,
            BEGUN,
            "Restores a backup, or a part",
        ),
        route("get", "/api/vault/schedules", Admin, OK, "The schedules"),
        route("post", "/api/vault/schedules/{name}/run", Admin, BEGUN, "Runs a schedule now"),
        route("get", "/api/vault/status", Admin, OK, "How it stands"),
        route("get", "/api/vault/prune", Admin, OK, "What the rules would remove"),
        route("post", "/api/vault/prune", Admin, BEGUN, "Removes it"),
        route("get", "/api/vault/tokens", Admin, OK, "The tokens for scripts"),
        route("post", "/api/vault/tokens", Admin, (201, ""), "Makes a token, shown once"),
        route("delete", "/api/vault/tokens/{id}", Admin, EMPTY, "Revokes a token"),
        route("get", "/api/vault/audit", Admin, OK, "Who did what"),
        route("get", "/api/vault/databases", Admin, OK, "The PostgreSQL databases"),
        route("get", "/api/vault/databases/{name}", Admin, OK, "One of them"),
        route("get", "/api/vault/databases/{name}/backups", Admin, OK, "Its dumps"),
        route("post", "/api/vault/databases/{name}/backups", Admin, (201, ""), "Makes a dump"),
        route(
            "post",
            "/api/vault/databases/{name}/undo",
            Admin,
            BEGUN,
            "Takes its last restore back",
        ),
        route("get", "/api/vault/databases/{name}/backups/{key}", Admin, OK, "Downloads a dump"),
        route(
            "delete",
            "/api/vault/databases/{name}/backups/{key}",
            Admin,
            EMPTY,
            "Deletes a dump",
        ),
        route(
            "post",
            "/api/vault/databases/{name}/backups/{key}/plan",
            Admin,
            OK,
            "What a restore of it would do",
        ),
        route(
            "post",
            "/api/vault/databases/{name}/backups/{key}/restore",
            Admin,
            BEGUN,
            "Restores a dump",
        ),
    ]
};

static DESCRIPTION: LazyLock<Value> = LazyLock::new(description);

/// `GET /api/openapi.json`
///
/// # Errors
/// None that a request can cause.
pub fn get(call: &Call) -> Answer<HttpResponse> {
    respond::ok(call, &*DESCRIPTION)
}

/// `GET /api/docs`: the page is one of the admin page's files.
pub fn docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((LOCATION, "/_vault/docs.html")).finish()
}

/// The files of that page, below `/_vault/` as those of the admin page; `None` for any other.
pub fn file(name: &[u8]) -> Option<HttpResponse> {
    let (kind, text) = match name {
        b"docs.html" => ("text/html; charset=utf-8", include_str!("../../../../ui/docs.html")),
        b"docs.js" => ("text/javascript; charset=utf-8", include_str!("../../../../ui/docs.js")),
        _ => return None,
    };
    Some(
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, kind))
            .insert_header((CONTENT_SECURITY_POLICY, page::POLICY))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(text),
    )
}

fn description() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    let schema = |inner: Value, of: &str| match of {
        "" => inner,
        of => json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{of}")}}),
    };
    let token = json!({"type": "apiKey", "in": "header", "name": "Authorization",
        "description": "A token of auth-with-password, with or without `Bearer `"});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pocketvault",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Backups behind PocketBase's own API, and below /api/vault what goes \
                            beyond it.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": token},
            "schemas": {
                "Job": json!(jobs::Shown::schema()),
                "Jobs": schema(Value::Null, "Job"),
                "Proof": json!(backups::ShownProof::schema()),
                "Destination": json!(backups::Destination::schema()),
                "Backup": json!(backups::Shown::schema()),
                "ListedBackup": json!(backups::Listed::schema()),
                "Backups": schema(Value::Null, "ListedBackup"),
                "Error": {
                    "type": "object",
                    "required": ["data", "message", "status"],
                    "properties": {
                        "data": {"type": "object"},
                        "message": {"type": "string"},
                        "status": {"type": "integer"},
                    },
                },
            },
        },
    })
}

fn operation(route: &Described) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    if route.who == Who::FileToken {
        parameters.push(json!({"name": "token", "in": "query", "required": true,
            "schema": {"type": "string"}, "description": "of POST /api/files/token"}));
    }
    let mut good = json!({"description": match route.status {
        202 => "Begun: the job is in `Location`",
        _ => route.summary,
    }});
    if !route.answer.is_empty() {
        let schema = json!({"$ref": format!("#/components/schemas/{}", route.answer)});
        good["content"] = json!({"application/json": {"schema": schema}});
    }
    let error = json!({"$ref": "#/components/schemas/Error"});
    let mut shown = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            route.status.to_string(): good,
            "default": {
                "description": "It was refused",
                "content": {"application/json": {"schema": error}},
            },
        },
    });
    if matches!(route.who, Who::Superuser | Who::Record) {
        shown["security"] = json!([{"token": []}]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use super::*;
    use crate::http::routes::Route;

    /// The sources of the route tables: each variant says in its doc what it is.
    const TABLES: [&str; 3] = [
        include_str!("../../routes/mod.rs"),
        include_str!("../../routes/vault.rs"),
        include_str!("../../routes/databases.rs"),
    ];

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let line = regex::Regex::new(r"(?m)^    /// `([A-Z]+) (/api/[^`]*)`").expect("a pattern");
        let mut tables = 0;
        for found in TABLES.iter().flat_map(|table| line.captures_iter(table)) {
            let (method, path) = (found[1].to_lowercase(), found[2].to_owned());
            assert!(DESCRIPTION["paths"][&path][&method].is_object(), "{method} {path}");
            tables += 1;
        }
        assert_eq!(tables, ROUTES.len(), "one is described twice, or is no route");
        for route in ROUTES {
            let method = Method::from_bytes(route.method.to_uppercase().as_bytes());
            let path = route.path.replace(['{', '}'], "");
            let found = Route::find(&method.expect("a method"), &path);
            assert!(!matches!(found, Route::Unknown | Route::UnknownFile), "{route:?}");
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let text = DESCRIPTION.to_string();
        let reference = regex::Regex::new(r##""\$ref":"#/components/schemas/(\w+)""##);
        let mut seen = 0;
        for found in reference.expect("a pattern").captures_iter(&text) {
            assert!(DESCRIPTION["components"]["schemas"][&found[1]].is_object(), "{}", &found[1]);
            seen += 1;
        }
        assert!(seen > ROUTES.len(), "{seen} references");
        let job = &DESCRIPTION["components"]["schemas"]["Job"]["properties"];
        assert!(job["etaSeconds"].is_object() && job["state"].is_object(), "{job}");
    }
}
