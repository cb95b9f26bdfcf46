//! Tokens that nobody gave out.

use serde_json::{Value, json};

use super::{Attempt, FORBIDDEN_FILE, UNAUTHENTICATED, Want, file_token, run};
use crate::harness::Server;
use crate::raw::Request;
use crate::wire::jwt::{sign, tampered};

/// Values of `Authorization` that are no token.
const NO_TOKENS: &[&str] = &[
    "x",
    ".",
    "..",
    "...",
    "a.b.c",
    "Bearer",
    "Bearer null",
    "Bearer undefined",
    "Basic YWRtaW5AZXhhbXBsZS5jb206MTIzNDU2Nzg5MA==",
    "Digest username=\"admin\"",
    "null",
    "[object Object]",
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJhbGciOiJIUzI1NiJ9.",
    "eyJhbGciOiJIUzI1NiJ9..",
    "eyJhbGciOiJIUzI1NiJ9.e30.",
    "e30.e30.e30",
    "W10.W10.W10",
    "bnVsbA.bnVsbA.bnVsbA",
    "' OR '1'='1",
    "../../data.db",
    "ÿþ",
    "💣.💣.💣",
    "%2e%2e",
];

/// Headers of forged tokens, all signed with a key of the forger's.
fn forged_headers() -> Vec<Value> {
    vec![
        json!({"alg": "HS256", "typ": "JWT"}),
        json!({"alg": "HS384", "typ": "JWT"}),
        json!({"alg": "HS512", "typ": "JWT"}),
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "NONE"}),
        json!({"alg": ""}),
        json!({"alg": null}),
        json!({"alg": ["HS256"]}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": "HS256", "kid": "../../../dev/null"}),
        json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys"}),
        json!({"alg": "HS256", "crit": ["x"], "x": 1}),
        json!({}),
        json!([]),
        json!("HS256"),
    ]
}

/// Claims besides the sound ones.
fn forged_claims(id: &str) -> Vec<Value> {
    let sound = json!({
        "id": id, "type": "auth", "collectionId": "pbc_3142635823", "refreshable": true,
        "exp": 4_000_000_000_u64,
    });
    let with = |name: &str, value: Value| {
        let mut claims = sound.clone();
        claims[name] = value;
        claims
    };
    vec![
        with("exp", json!(-1)),
        with("exp", json!("never")),
        with("exp", json!(1e300)),
        with("exp", json!(null)),
        with("id", json!("' OR 1=1 --")),
        with("id", json!(1)),
        with("id", json!({"$gt": ""})),
        with("id", json!("a".repeat(10_000))),
        with("collectionId", json!("_superusers")),
        with("collectionId", json!("../_superusers")),
        with("collectionId", json!(["pbc_3142635823"])),
        with("type", json!("file")),
        with("type", json!(true)),
        json!({}),
        json!([]),
        json!(null),
    ]
}

pub(super) const COUNT: usize = 2 * (NO_TOKENS.len() + 17 + 16 + 4);

#[test]
fn no_forged_token_opens_anything() {
    let server = Server::start();
    let token = server.login();
    let id = superuser_id(&token);
    let claims = json!({
        "id": id, "type": "auth", "collectionId": "pbc_3142635823", "refreshable": true,
        "exp": 4_000_000_000_u64,
    });
    let secret = "a secret of the forger, 32 bytes";
    let mut tokens: Vec<String> = NO_TOKENS.iter().map(|text| (*text).to_owned()).collect();
    tokens.extend(forged_headers().iter().map(|header| sign(header, &claims, secret)));
    let header = json!({"alg": "HS256", "typ": "JWT"});
    tokens.extend(forged_claims(&id).iter().map(|claims| sign(&header, claims, secret)));
    tokens.push(tampered(&token));
    tokens.push(format!("{}.", token.rsplit_once('.').expect("a token").0));
    tokens.push(format!("{token}{token}"));
    tokens.push("A".repeat(20_000));
    assert_eq!(2 * tokens.len(), COUNT);
    let mut attempts = Vec::new();
    for token in &tokens {
        let list = Request::new("GET /api/backups").auth(token);
        attempts.push(Attempt::new(format!("header {token:.80}"), &server, &list, UNAUTHENTICATED));
        let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let download = Request::new(&format!("GET /api/backups/a.zip?token={encoded}"));
        attempts.push(Attempt::new(
            format!("query {token:.80}"),
            &server,
            &download,
            FORBIDDEN_FILE,
        ));
    }
    run(&server, &attempts);
}

#[test]
fn bytes_that_are_no_text_open_nothing() {
    let server = Server::start();
    let token = server.login();
    let mut attempts = Vec::new();
    for (name, value) in [
        ("latin-1", &b"\xff\xfe\xfd"[..]),
        ("cut UTF-8", b"Bearer \xf0\x9f\x92"),
        ("a good token and a high byte", &[token.as_bytes(), b"\xff"].concat()),
    ] {
        let mut bytes = b"GET /api/backups HTTP/1.1\r\nHost: x\r\nAuthorization: ".to_vec();
        bytes.extend(value);
        bytes.extend(b"\r\nConnection: close\r\n\r\n");
        attempts.push(Attempt::raw(name, bytes, UNAUTHENTICATED));
    }
    run(&server, &attempts);
}

#[test]
fn each_kind_of_token_opens_only_its_own_doors() {
    let server = Server::start();
    let token = server.login();
    let file_token = file_token(&server, &token);
    let get = |target: &str| Request::new(&format!("GET {target}"));
    let attempts = [
        ("file token as header", get("/api/backups").auth(&file_token), UNAUTHENTICATED),
        ("auth token as query", get(&format!("/api/backups/a?token={token}")), FORBIDDEN_FILE),
        ("auth token as header", get("/api/backups/a").auth(&token), FORBIDDEN_FILE),
        (
            "file token makes a file token",
            Request::new("POST /api/files/token").auth(&file_token),
            UNAUTHENTICATED,
        ),
        ("two tokens", get("/api/settings").auth("x").auth(&token), UNAUTHENTICATED),
    ]
    .map(|(name, request, want)| Attempt::new(name, &server, &request, want));
    run(&server, &attempts);
}

#[test]
fn a_deleted_superuser_is_out_at_once() {
    let server = Server::start();
    let email = "second@example.com";
    server.superuser(&["create", email, "second-pw-1"]);
    let token = server.login_as(email, "second-pw-1");
    let file_token = file_token(&server, &token);
    let list = Request::new("GET /api/backups").auth(&token);
    assert_eq!(server.send(&list).status, 200);
    server.superuser(&["delete", email]);
    let download = Request::new(&format!("GET /api/backups/a?token={file_token}"));
    let impersonate = "POST /api/collections/_superusers/auth-refresh";
    let attempts = [
        ("list", list, UNAUTHENTICATED),
        ("download", download, FORBIDDEN_FILE),
        ("refresh", Request::new(impersonate).auth(&token), UNAUTHENTICATED),
    ]
    .map(|(name, request, want)| Attempt::new(name, &server, &request, want));
    run(&server, &attempts);
}

#[test]
fn a_changed_password_ends_old_tokens() {
    let server = Server::start();
    let email = "second@example.com";
    server.superuser(&["create", email, "second-pw-1"]);
    let token = server.login_as(email, "second-pw-1");
    server.superuser(&["update", email, "second-pw-2"]);
    let list = Request::new("GET /api/backups").auth(&token);
    let login = Request::new("POST /api/collections/_superusers/auth-with-password")
        .json(&json!({"identity": email, "password": "second-pw-1"}));
    let attempts = [
        ("old token", list, UNAUTHENTICATED),
        ("old password", login, Want::Error(400, "Failed to authenticate.")),
    ]
    .map(|(name, request, want)| Attempt::new(name, &server, &request, want));
    run(&server, &attempts);
    server.login_as(email, "second-pw-2");
}

/// The id in a token.
fn superuser_id(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = token.split('.').nth(1).expect("claims");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    claims["id"].as_str().expect("an id").to_owned()
}
