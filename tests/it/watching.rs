//! What monitoring sees of a server, and what nobody may see in its log.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::Request;

#[test]
fn metrics_open_to_superusers_and_to_a_token_of_their_own() {
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("pocketvault.toml");
    fs::write(&config, "[metrics]\ntoken = 'scr4pe'\n").expect("written");
    let server = Server::start_ours_with(&["--config", config.to_str().expect("a path")]);
    let token = server.login();
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    for path in ["GET /metrics", "GET /api/vault/metrics"] {
        for (who, status) in
            [("", 401), ("wrong", 401), ("scr4pe", 200), ("Bearer scr4pe", 200), (&token, 200)]
        {
            let answer = server.send(&Request::new(path).auth(who));
            assert_eq!(answer.status, status, "{path} {who}");
            let text = answer.text();
            let shows = text
                .contains("pocketvault_last_success_age_seconds{kind=\"create\",database=\"\"}");
            assert_eq!(shows, status == 200, "{text}");
        }
    }
    let list = server.send(&Request::new("GET /api/backups").auth("scr4pe"));
    assert_eq!(list.status, 401, "it opens nothing else");
}

#[test]
fn the_log_of_a_session_is_json_and_holds_no_secret() {
    let mut server = Server::start_ours_with(&["--log-format", "json"]);
    let token = server.login();
    let path = "POST /api/collections/_superusers/auth-with-password";
    let wrong = json!({"identity": EMAIL, "password": "wr0ng-passw0rd"});
    assert_eq!(server.send(&Request::new(path).json(&wrong)).status, 400);
    let files = server.send(&Request::new("POST /api/files/token").auth(&token)).json();
    let file_token = files["token"].as_str().expect("a token").to_owned();
    let create = Request::new("POST /api/backups").auth(&token).json(&json!({"name": "a.zip"}));
    assert_eq!(server.send(&create).status, 204);
    let get = format!("GET /api/backups/a.zip?token={file_token}");
    assert_eq!(server.send(&Request::new(&get)).status, 200);
    let s3 = json!({"enabled": true, "bucket": "b", "region": "r", "accessKey": "acc3ss",
        "endpoint": "http://127.0.0.1:1", "secret": "s3cr3t-key", "forcePathStyle": true});
    let patch = Request::new("PATCH /api/settings").auth(&token);
    assert_eq!(server.send(&patch.json(&json!({"backups": {"s3": s3}}))).status, 200);
    let test = Request::new("POST /api/settings/test/s3").auth(&token);
    assert_eq!(server.send(&test.json(&json!({"filesystem": "backups"}))).status, 400);
    assert_eq!(server.stop(std::time::Duration::from_secs(5)), Some(true));
    let log = server.log();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.len() > 3, "{log}");
    assert!(lines.iter().all(|line| line["level"].is_string()), "{log}");
    for secret in [&token, &file_token, PASSWORD, "wr0ng-passw0rd", "s3cr3t-key", "acc3ss"] {
        assert!(!log.contains(secret), "{secret}\n{log}");
    }
}
