//! `/api/backups` for a BosBase's superusers, with tokens forged from what its database says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{ROWS, World};
use crate::harness::Server;
use crate::postgres::until;
use crate::raw::{Request, Response};

/// The superuser of the schema, and BosBase's collection of superusers.
const ID: &str = "0190d2c0-0000-7000-8000-000000000001";
const COLLECTION: &str = "pbc_3142635823";
/// The token key of the superuser and the collection's two secrets.
const AUTH_KEY: &str = "token-keys1";
const FILE_KEY: &str = "token-keyf1";
/// Seconds of a hundred years: what BosBase gives its superusers.
const CENTURY: i64 = 100 * 365 * 86400;

fn forged(kind: &str, id: &str, collection: &str, lives: i64, key: &str) -> String {
    let expires = chrono::Utc::now().timestamp() + lives;
    let claims = json!({ "id": id, "collectionId": collection, "type": kind, "exp": expires,
        "refreshable": false });
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed =
        format!("{}.{}", encoded(&json!({"alg": "HS256", "typ": "JWT"})), encoded(&claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn auth() -> String {
    forged("auth", ID, COLLECTION, CENTURY, AUTH_KEY)
}

fn served(world: &World) -> Server {
    world.sql(
        "UPDATE _collections SET options = '{\"authToken\": {\"secret\": \"s1\"}, \"fileToken\": \
         {\"secret\": \"f1\", \"duration\": 180}}' WHERE name = '_superusers'",
    );
    let config = world.place.config();
    Server::start_ours_with(&["--config", config.to_str().expect("UTF-8")])
}

#[test]
fn tokens_are_taken_where_and_as_bosbase_takes_them() {
    let Some(world) = World::new() else { return };
    let server = served(&world);
    let status = |request: Request| server.send(&request).status;
    let list = || Request::new("GET /api/backups");
    let token = auth();
    assert_eq!(status(list().auth(&token)), 200);
    assert_eq!(status(list().auth(&format!("Bearer {token}"))), 200);
    assert_eq!(status(list().auth(&format!("bearer {token}"))), 401, "its case counts");
    assert_eq!(status(Request::new(&format!("GET /api/backups?token={token}"))), 200);
    let object = format!("%7B%22token%22%3A%22{token}%22%7D");
    for cookie in [format!("a=b; pb_auth={token}"), format!("pb_auth={object}")] {
        assert_eq!(status(list().header("Cookie", cookie)), 200);
    }
    assert_eq!(status(list()), 401);
    let pocketbase_id = "abcdefghij12345";
    for (kind, id, collection, lives, key) in [
        ("auth", ID, COLLECTION, CENTURY, "token-keyother"),
        ("auth", ID, COLLECTION, CENTURY, FILE_KEY),
        ("auth", ID, COLLECTION, -1, AUTH_KEY),
        ("auth", ID, "pbc_notes", CENTURY, AUTH_KEY),
        ("file", ID, COLLECTION, CENTURY, AUTH_KEY),
        ("auth", "0190d2c0-0000-7000-8000-000000000009", COLLECTION, CENTURY, AUTH_KEY),
        ("auth", pocketbase_id, COLLECTION, CENTURY, AUTH_KEY),
    ] {
        let token = forged(kind, id, collection, lives, key);
        assert_eq!(status(list().auth(&token)), 401, "{kind} {id} {collection} {lives} {key}");
    }
    // A changed password changes the token key, and with it every token.
    world.sql("UPDATE _superusers SET \"tokenKey\" = 'changed'");
    assert_eq!(status(list().auth(&token)), 401);
    world.sql("UPDATE _superusers SET \"tokenKey\" = ''");
    assert_eq!(status(list().auth(&forged("auth", ID, COLLECTION, CENTURY, "s1"))), 401);
}

#[test]
fn whose_token_it_is_decides_whose_backups_are_meant() {
    let Some(world) = World::new() else { return };
    let server = served(&world);
    let send = |line: &str| server.send(&Request::new(line).auth(&auth()));
    let named = |name: &str| {
        let create = Request::new("POST /api/backups").auth(&auth());
        server.send(&create.json(&json!({ "name": name })))
    };
    let keys = |answer: Response| -> Vec<String> {
        let listed = answer.json();
        let keys = listed.as_array().expect("a list").iter().map(|one| one["key"].as_str());
        keys.map(|key| key.expect("a key").to_owned()).collect()
    };
    assert_eq!(named("ours.zip").status, 204);
    let again = named("ours.zip");
    assert_eq!(again.status, 400);
    assert_eq!(again.json()["data"]["name"]["code"], "validation_backup_name_exists");
    assert_eq!(named("Bad.zip").json()["data"]["name"]["code"], "validation_match_invalid");
    assert_eq!(keys(send("GET /api/backups")), ["ours.zip"]);
    let of_pocketbase = server.login();
    let listed = server.send(&Request::new("GET /api/backups").auth(&of_pocketbase));
    assert!(keys(listed).is_empty(), "PocketBase's superuser sees PocketBase's backups");

    let health = send("GET /api/health").json();
    assert_eq!(health["data"]["canBackup"], json!(true), "{health}");
    assert_eq!(health["data"]["requireS3"], json!(false), "{health}");

    let issued = send("POST /api/files/token").json()["token"].as_str().expect("one").to_owned();
    let target = format!("/api/backups/ours.zip?token={issued}");
    let got = server.send(&Request::new(&format!("GET {target}")));
    assert_eq!((got.status, &got.body[..2]), (200, &b"PK"[..]));
    let range = Request::new(&format!("GET {target}")).header("Range", "bytes=0-1");
    assert_eq!(server.send(&range).status, 206);
    let foreign = forged("file", ID, COLLECTION, 100, FILE_KEY);
    let got = server.send(&Request::new(&format!("GET /api/backups/ours.zip?token={foreign}")));
    assert_eq!(got.status, 200, "BosBase's own file tokens open it, too");
    assert_eq!(send("GET /api/backups/ours.zip").status, 403, "a header alone does not");
    let missing = format!("GET /api/backups/none.zip?token={issued}");
    assert_eq!(server.send(&Request::new(&missing)).status, 404);
    assert_eq!(send("POST /api/backups/upload").status, 400);

    let before = world.sql(ROWS);
    world.sql("DELETE FROM \"Odd notes\"");
    assert_eq!(send("POST /api/backups/none.zip/restore").status, 400);
    assert_eq!(send("POST /api/backups/ours.zip/restore").status, 204);
    until("the rows are back", || {
        let idle = send("GET /api/health");
        let idle = idle.status == 200 && idle.json()["data"]["canBackup"] == json!(true);
        idle && world.sql(ROWS) == before
    });
    assert_eq!(send("DELETE /api/backups/ours.zip").status, 204);
    assert_eq!(send("DELETE /api/backups/ours.zip").status, 400);
    assert!(keys(send("GET /api/backups")).is_empty());
    let log = server.log();
    assert!(!log.contains(&auth()[..40]) && !log.contains(&issued), "a token is logged");
}

#[test]
fn pocketbase_s_clients_do_not_depend_on_bosbase_s_database() {
    let Some(world) = World::new() else { return };
    let config = world.place.config();
    let text = std::fs::read_to_string(&config).expect("read");
    let url = world.cluster.url(&world.database);
    std::fs::write(&config, text.replace(&url, "postgres://u@127.0.0.1:1/d")).expect("written");
    let server = Server::start_ours_with(&["--config", config.to_str().expect("UTF-8")]);
    let token = server.login();
    let send = |line: &str| server.send(&Request::new(line).auth(&token));
    assert_eq!(send("GET /api/backups").status, 200);
    assert_eq!(send("POST /api/backups").status, 204);
    let key = send("GET /api/backups").json()[0]["key"].as_str().expect("a key").to_owned();
    let issued = send("POST /api/files/token").json()["token"].as_str().expect("one").to_owned();
    let download = format!("GET /api/backups/{key}?token={issued}");
    assert_eq!(server.send(&Request::new(&download)).status, 200);
    let of_bosbase = Request::new("GET /api/backups").auth(&auth());
    assert_eq!(server.send(&of_bosbase).status, 400, "its own token cannot be judged");
}
