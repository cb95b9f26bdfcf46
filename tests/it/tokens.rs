//! Tokens for scripts: each scope against each route; and the audit log.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::Request;

const SCOPES: [&str; 5] = ["read", "create", "download", "restore", "admin"];

/// Routes, and the scopes that open them beside `admin`.
const ROUTES: [(&str, &[&str]); 24] = [
    ("GET /api/backups", &["read"]),
    ("POST /api/backups", &["create"]),
    ("POST /api/backups/upload", &["create"]),
    ("GET /api/backups/a.zip", &["download"]),
    ("DELETE /api/backups/none.zip", &[]),
    ("POST /api/backups/none.zip/restore", &["restore"]),
    ("GET /api/vault/backups", &["read"]),
    ("GET /api/vault/jobs", &["read"]),
    ("GET /api/vault/jobs/1", &["read", "create", "restore"]),
    ("DELETE /api/vault/jobs/1", &[]),
    ("GET /api/vault/status", &["read"]),
    ("GET /api/vault/schedules", &["read"]),
    ("POST /api/vault/schedules/none/run", &[]),
    ("GET /api/vault/metrics", &["read"]),
    ("GET /api/vault/notify", &["read"]),
    ("POST /api/vault/notify/test", &[]),
    ("GET /api/vault/restore", &["read", "restore"]),
    ("POST /api/vault/backups/none.zip/plan", &["restore"]),
    ("POST /api/vault/backups/none.zip/verify", &["create"]),
    ("POST /api/vault/backups/none.zip/pin", &[]),
    ("GET /api/vault/prune", &["read"]),
    ("GET /api/vault/databases", &["read"]),
    ("GET /api/vault/tokens", &[]),
    ("GET /api/vault/audit", &[]),
];

/// Routes that no token opens.
const CLOSED: [&str; 4] =
    ["GET /api/settings", "PATCH /api/settings", "GET /api/crons", "POST /api/files/token"];

fn made(server: &Server, superuser: &str, wish: Value) -> String {
    let request = Request::new("POST /api/vault/tokens").auth(superuser).json(&wish);
    let answer = server.send(&request);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn status(server: &Server, line: &str, token: &str) -> u16 {
    server.send(&Request::new(line).auth(token)).status
}

#[test]
fn each_scope_opens_its_routes_and_no_other() {
    let server = Server::start_ours();
    let superuser = server.login();
    let create = Request::new("POST /api/backups").auth(&superuser);
    assert_eq!(server.send(&create.json(&json!({"name": "a.zip"}))).status, 204);
    server.wait_until_idle(&superuser);
    for scope in SCOPES {
        let wish = json!({"name": scope, "scopes": [scope]});
        let token = made(&server, &superuser, wish);
        for (line, opened_by) in ROUTES {
            let opens = scope == "admin" || opened_by.contains(&scope);
            let status = status(&server, line, &token);
            assert_eq!(status != 403 && status != 401, opens, "{scope}: {line}: {status}");
        }
        for line in CLOSED {
            assert_eq!(status(&server, line, &token), 401, "{scope}: {line}");
        }
        let wish = json!({"name": "another", "scopes": ["admin"]});
        let mint = Request::new("POST /api/vault/tokens").auth(&token).json(&wish);
        let expected = if scope == "admin" { 201 } else { 403 };
        assert_eq!(server.send(&mint).status, expected, "{scope} makes tokens");
        server.wait_until_idle(&superuser);
    }
    let token = made(&server, &superuser, json!({"name": "d", "scopes": ["download"]}));
    assert_eq!(status(&server, "GET /api/backups/a.zip", &format!("Bearer {token}")), 200);
    let in_query = format!("GET /api/backups/a.zip?token={token}");
    assert_eq!(server.send(&Request::new(&in_query)).status, 403, "not in an address");
    assert!(!server.log().contains(&token));
}

#[test]
fn a_token_is_of_its_vault_ends_and_is_taken_back() {
    let server = Server::start_ours();
    let superuser = server.login();
    let wish = json!({"name": "f", "scopes": ["admin"], "database": "pb_data"});
    let folder = made(&server, &superuser, wish);
    assert_eq!(status(&server, "GET /api/backups", &folder), 200);
    for line in ["GET /api/vault/jobs", "GET /api/vault/tokens", "GET /api/vault/databases/x"] {
        assert_eq!(status(&server, line, &folder), 403, "{line}");
    }
    for wish in [
        json!({"name": "x", "scopes": ["write"]}),
        json!({"name": "x", "scopes": ["read"], "database": "none"}),
        json!({"name": "x", "scopes": ["read"], "expiresIn": "soon"}),
        json!({"name": "", "scopes": ["read"]}),
    ] {
        let request = Request::new("POST /api/vault/tokens").auth(&superuser).json(&wish);
        assert_eq!(server.send(&request).status, 400, "{wish}");
    }
    let wish = json!({"name": "s", "scopes": ["read"], "expiresIn": "1s"});
    let short = made(&server, &superuser, wish);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(status(&server, "GET /api/backups", &short), 401);
    let command = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pocketvault"))
            .arg("token")
            .args(arguments)
            .arg("--dir")
            .arg(server.data_dir())
            .output()
            .expect("run");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let token = command(&["create", "ci", "--scope", "read,create", "--expires-in", "1d"]);
    assert_eq!(status(&server, "GET /api/backups", &token), 200, "a running server takes it");
    let list = command(&["list"]);
    let line = list.lines().find(|line| line.contains("  ci  read,create  all")).expect(&list);
    assert!(!list.contains(&token[4..]), "{list}");
    command(&["revoke", line.split(' ').next().expect("a number")]);
    assert_eq!(status(&server, "GET /api/backups", &token), 401);
    let shown = server.send(&Request::new("GET /api/vault/tokens").auth(&superuser));
    assert!(shown.status == 200 && !shown.text().contains("pvt_"), "{}", shown.text());
}

#[test]
fn the_audit_log_says_who_did_what_and_holds_no_secret() {
    let server = Server::start_ours();
    let superuser = server.login();
    let path = "POST /api/collections/_superusers/auth-with-password";
    let wrong = json!({"identity": EMAIL, "password": "wr0ng-passw0rd"});
    assert_eq!(server.send(&Request::new(path).json(&wrong)).status, 400);
    let token = made(&server, &superuser, json!({"name": "ci", "scopes": ["create", "download"]}));
    let create = Request::new("POST /api/backups").auth(&token);
    assert_eq!(server.send(&create.json(&json!({"name": "a.zip"}))).status, 204);
    assert_eq!(status(&server, "GET /api/backups/a.zip", &token), 200);
    assert_eq!(status(&server, "DELETE /api/backups/a.zip", &token), 403);
    server.wait_until_idle(&superuser);
    assert_eq!(status(&server, "DELETE /api/backups/a.zip", &superuser), 204);
    let patch = Request::new("PATCH /api/settings").auth(&superuser);
    assert_eq!(server.send(&patch.json(&json!({"meta": {"appName": "x"}}))).status, 200);
    let answer = server.send(&Request::new("GET /api/vault/audit?perPage=100").auth(&superuser));
    let log = answer.json();
    let mut found: Vec<(String, String, String, u64)> = Vec::new();
    for one in log["items"].as_array().expect("a list").iter().rev() {
        let text = |name: &str| one[name].as_str().expect("a text").to_owned();
        assert_eq!(text("address"), "127.0.0.1");
        let status = one["status"].as_u64().expect("a number");
        found.push((text("who"), text("action"), text("subject"), status));
    }
    let expected = [
        (EMAIL, "login", "_superusers", 200),
        (EMAIL, "login", "_superusers", 400),
        (EMAIL, "token", "", 201),
        ("token 1 (ci)", "create", "", 204),
        ("token 1 (ci)", "download", "a.zip", 200),
        ("token 1 (ci)", "delete", "a.zip", 403),
        (EMAIL, "delete", "a.zip", 204),
        (EMAIL, "settings", "", 200),
    ];
    let expected = expected.map(|(who, action, subject, status)| {
        (who.to_owned(), action.to_owned(), subject.to_owned(), status)
    });
    assert_eq!(found, expected);
    for secret in [PASSWORD, "wr0ng-passw0rd", &token[..], &superuser[..]] {
        assert!(!answer.text().contains(secret));
    }
    let page = server.send(&Request::new("GET /api/vault/audit?page=2&perPage=5").auth(&superuser));
    assert_eq!(
        (&page.json()["totalItems"], page.json()["items"].as_array().map(Vec::len)),
        (&json!(8), Some(3))
    );
}
