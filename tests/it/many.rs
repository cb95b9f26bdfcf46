//! Ten thousand backups, which years of hourly ones come to.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::archives::small_zip;
use crate::harness::Server;
use crate::raw::Request;

const BACKUPS: usize = 10_000;

#[test]
fn ten_thousand_backups_are_listed_each_once() {
    let server = Server::start_ours();
    let backups = server.data_dir().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let archive = small_zip();
    for n in 0..BACKUPS {
        fs::write(backups.join(format!("b{n:05}.zip")), &archive).unwrap();
    }
    let token = server.login();
    let list = || {
        let answer = server.send(&Request::new("GET /api/backups").auth(&token));
        assert_eq!(answer.status, 200);
        let listed: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
        assert!(listed.iter().all(|backup| backup["size"] == archive.len()));
        let keys: BTreeSet<String> =
            listed.iter().map(|backup| backup["key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(keys.len(), listed.len(), "each once");
        keys
    };
    assert_eq!(list().len(), BACKUPS);
    let gone = server.send(&Request::new("DELETE /api/backups/b05000.zip").auth(&token));
    assert_eq!(gone.status, 204);
    let left = list();
    assert_eq!(left.len(), BACKUPS - 1);
    assert!(!left.contains("b05000.zip") && left.contains("b09999.zip"));
}
