//! The description of the API: served to everybody, and true of what the server answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::raw::Request;

/// Resolves references until a schema has properties; parts of `allOf` are laid together.
fn properties(told: &Value, schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return properties(told, &told["components"]["schemas"][name], into);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        properties(told, part, into);
    }
    into.extend(schema["properties"].as_object().into_iter().flat_map(|map| map.keys().cloned()));
}

/// The object answers just the fields that the schema `name` has.
fn fits(told: &Value, name: &str, answer: &Value) {
    let mut described = BTreeSet::new();
    properties(told, &told["components"]["schemas"][name], &mut described);
    let answered: BTreeSet<String> =
        answer.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(answered, described, "{name}");
}

#[test]
fn the_api_describes_itself_and_answers_as_it_says() {
    let server = Server::start_ours();
    let token = server.login();
    let get = |path: &str| server.send(&Request::new(&format!("GET {path}")).auth(&token));
    let told = server.send(&Request::new("GET /api/openapi.json"));
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.json();
    assert_eq!(told["openapi"], "3.1.0");
    let page = server.send(&Request::new("GET /api/docs"));
    assert_eq!((page.status, page.header("location")), (307, Some("/_vault/docs.html")));
    assert_eq!(get("/_vault/docs.html").status, 200);
    assert_eq!(get("/_vault/docs.js").status, 200);

    let begun =
        Request::new("POST /api/vault/backups").auth(&token).json(&json!({"name": "a.zip"}));
    let begun = server.send(&begun);
    assert_eq!(begun.status, 202, "{}", begun.text());
    server.wait_until_idle(&token);
    let job = get(begun.header("location").expect("a place")).json();
    fits(&told, "Job", &job);
    let backups = get("/api/vault/backups").json();
    fits(&told, "ListedBackup", &backups[0]);
    fits(&told, "Destination", &backups[0]["destinations"][0]);
    let pinned = server.send(&Request::new("POST /api/vault/backups/a.zip/pin").auth(&token));
    fits(&told, "Backup", &pinned.json());
    fits(&told, "Error", &get("/api/vault/jobs/999").json());

    // Whoever has no token gets what the description says: the public routes and no other.
    for (path, methods) in told["paths"].as_object().expect("paths") {
        if let Some(told) = methods.get("get").filter(|_| !path.contains('{')) {
            let answer = server.send(&Request::new(&format!("GET {path}")));
            assert_eq!(answer.status == 401, told["security"].is_array(), "{path}");
        }
    }
}
