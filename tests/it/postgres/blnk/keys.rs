//! Who may: exact requests, and Blnk's statuses, codes and envelopes.

use std::net::TcpListener;

use serde_json::json;

use super::{MASTER, Served, add_key, blnk_json, ready};
use crate::raw::Request;

/// 16 characters that all keys begin with: they are found by those.
const STEM: &str = "0123456789abcdef";

#[test]
fn keys_are_judged_as_blnk_judges_them() {
    let Some((cluster, database)) = ready() else { return };
    for (name, scopes, ends, revoked) in [
        ("read", "{ledgers:read,backup:read}", "now() + interval '1 day'", false),
        ("all", "{*:*}", "now() + interval '1 day'", false),
        ("write", "{backup:write,ledgers:*}", "now() + interval '1 day'", false),
        ("old", "{*:*}", "now() - interval '1 second'", false),
        ("gone", "{*:*}", "now() + interval '1 day'", true),
    ] {
        add_key(&cluster, &database, &format!("{STEM}-{name}"), scopes, ends, revoked);
    }
    let served = Served::whole(&cluster.url(&database), None, "");
    let key = |name: &str| format!("{STEM}-{name}");
    let done = (200, "");
    let missing = (401, "AUTH_MISSING_API_KEY");
    let invalid = (401, "AUTH_INVALID_API_KEY");
    let ended = (401, "AUTH_EXPIRED_API_KEY");
    for (name, value, (status, code)) in [
        ("X-Unrelated", "x".to_owned(), missing),
        ("X-Blnk-Key", String::new(), missing),
        ("Authorization", "Bearer ".to_owned(), missing),
        ("Authorization", MASTER.to_owned(), missing),
        ("X-Blnk-Key", MASTER.to_owned(), done),
        ("x-blnk-key", MASTER.to_owned(), done),
        ("Authorization", format!("Bearer {MASTER}"), done),
        ("Authorization", format!("bearer {MASTER}"), done),
        ("X-Blnk-Key", format!("{MASTER}x"), invalid),
        ("X-Blnk-Key", key("read"), done),
        ("Authorization", format!("Bearer {}", key("read")), done),
        ("X-Blnk-Key", key("all"), done),
        ("X-Blnk-Key", key("write"), (403, "AUTH_INSUFFICIENT_PERMISSIONS")),
        ("X-Blnk-Key", key("old"), ended),
        ("X-Blnk-Key", key("gone"), ended),
        ("X-Blnk-Key", key("unknown"), invalid),
        ("X-Blnk-Key", "x' OR '1'='1".to_owned(), invalid),
    ] {
        let before = served.files().len();
        let answer = served.server.send(&Request::new("GET /backup").header(name, &*value));
        assert_eq!(answer.status, status, "{name}: {value}: {}", answer.text());
        let is_json = answer.header("Content-Type") == Some("application/json; charset=utf-8");
        assert!(is_json, "{:?}", answer.headers);
        if status == 200 {
            assert_eq!(answer.text(), "\"backup successful\"");
            continue;
        }
        let body = answer.json();
        assert_eq!(body["error_detail"]["code"], code, "{name}: {value}");
        assert!(body["error"].is_string(), "{body}");
        assert_eq!(body["error_detail"]["message"], body["error"]);
        assert_eq!(served.files().len(), before, "a refused call made something");
    }
    let refused = Request::new("GET /backup-s3").header("X-Blnk-Key", key("write"));
    let said = served.server.send(&refused).json()["error"].as_str().map(str::to_owned);
    assert!(said.is_some_and(|said| said.ends_with("backup:read")));
    let log = served.server.log();
    assert!(!log.contains(MASTER) && !log.contains(STEM), "a key is logged: {log}");
}

#[test]
fn only_get_makes_a_backup_and_only_where_the_face_is_served() {
    let Some((cluster, database)) = ready() else { return };
    let served = Served::whole(&cluster.url(&database), None, "");
    for method in ["POST", "HEAD", "PUT", "DELETE"] {
        let answer = served.send(&format!("{method} /backup"));
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(answer.header("Content-Type"), Some("text/plain"), "{method}");
    }
    assert!(served.files().is_empty());
    assert_eq!(served.send("GET /backup/").status, 404);
    assert_eq!(served.send("GET /api/backup").status, 404);
    let without = crate::harness::Server::start_ours();
    let answer = without.send(&Request::new("GET /backup").header("X-Blnk-Key", MASTER));
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["status"], 404, "PocketBase's own answer");
}

#[test]
fn a_key_that_cannot_be_looked_up_is_no_wrong_key() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("postgres://u@127.0.0.1:{}/d", socket.local_addr().expect("one").port());
    drop(socket);
    let served = Served::new(&blnk_json(&silent, None), "");
    let request = Request::new("GET /backup").header("X-Blnk-Key", format!("{STEM}-read"));
    let answer = served.server.send(&request);
    assert_eq!(answer.status, 500, "{}", answer.text());
    let cause = &answer.json()["error"]["details"]["cause"];
    assert_eq!(cause, "The database server does not answer.");
}

#[test]
fn without_a_key_only_when_our_own_file_says_so() {
    let Some((cluster, database)) = ready() else { return };
    let mut file = blnk_json(&cluster.url(&database), None);
    file["server"]["secure"] = json!(false);
    let served = Served::new(&file, "");
    let bare = Request::new("GET /backup");
    assert_eq!(served.server.send(&bare).status, 401, "a link alone makes no backup");
    let served = Served::new(&file, "secure = false");
    assert_eq!(served.server.send(&bare).status, 200);
}
