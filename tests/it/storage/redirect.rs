//! Downloads that are sent on to the store.

use super::server::{create, file_token, served};
use crate::raw::Request;
use crate::s3::S3Server;

#[test]
fn a_download_is_sent_to_the_store_only_with_a_token_and_only_on_request() {
    let bucket = S3Server::start();
    let (server, token) = served(&bucket, &[]);
    assert_eq!(create(&server, &token, "a.zip").status, 204);
    let object = bucket.object("a.zip").expect("there");
    let files = file_token(&server, &token);
    let ask = |method: &str, query: &str| {
        server.send(&Request::new(&format!("{method} /api/backups/{query}")))
    };
    for query in ["a.zip?redirect=1".to_owned(), format!("a.zip?redirect=1&token={token}")] {
        let refused = ask("GET", &query);
        assert_eq!((refused.status, refused.header("location")), (403, None), "{query}");
    }
    for query in [format!("a.zip?token={files}"), format!("a.zip?redirect=0&token={files}")] {
        let whole = ask("GET", &query);
        assert_eq!(whole.status, 200);
        assert!(whole.body == *object.body);
    }
    assert_eq!(ask("GET", &format!("no.zip?redirect=1&token={files}")).status, 404);
    assert_eq!(ask("HEAD", &format!("a.zip?redirect=1&token={files}")).status, 200);

    let sent = ask("GET", &format!("a.zip?redirect=1&token={files}"));
    assert_eq!((sent.status, sent.header("cache-control")), (307, Some("no-store")));
    let address = sent.header("location").expect("an address");
    let path = address.strip_prefix(&bucket.endpoint()).expect("the store's");
    let there = Request::new(&format!("GET {path}"));
    let whole = there.send(bucket.address()).expect("an answer");
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert!(whole.body == *object.body);
    let part = Request::new(&format!("GET {path}")).header("Range", "bytes=10-19");
    let part = part.send(bucket.address()).expect("an answer");
    assert_eq!((part.status, &part.body[..]), (206, &object.body[10..20]));
    assert!(!server.log().contains("X-Amz-Signature"), "who reads the log cannot download");
}

#[test]
fn a_backup_on_the_disk_is_never_sent_elsewhere() {
    let server = crate::harness::Server::start_ours();
    let token = server.login();
    assert_eq!(create(&server, &token, "a.zip").status, 204);
    let files = file_token(&server, &token);
    let target = format!("GET /api/backups/a.zip?redirect=1&token={files}");
    assert_eq!(server.send(&Request::new(&target)).status, 200);
}
