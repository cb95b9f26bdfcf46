//! A `pb_data` folder as a database of Scalingo's clients.

use std::fs;

use serde_json::{Value, json};

use super::{Host, go, unpacked};
use crate::postgres::until;
use crate::raw::Request;

const DB: &str = "/api/databases/ad-pb_data";

#[test]
fn a_pb_data_is_backed_up_downloaded_and_restored_like_any_database() {
    let host = Host::new("postgres://u@127.0.0.1:1/d", "");
    let pass = format!("Bearer {}", host.pass("ad-pb_data"));
    let send = |line: &str| host.server.send(&go(line, "{}", Some(pass.clone())));
    let created = send(&format!("POST {DB}/backups"));
    assert_eq!(created.status, 201, "{}", created.text());
    let id = created.json()["database_backup"]["id"].as_str().expect("an id").to_owned();
    let mut backup = Value::Null;
    until("the backup is done", || {
        backup = send(&format!("GET /api/backups/{id}")).json()["database_backup"].clone();
        backup["status"] == "done"
    });
    assert_eq!(backup["type"], "sqlite");
    // It is a backup of PocketBase's like every other.
    let token = host.server.login();
    let listed = host.server.send(&Request::new("GET /api/backups").auth(&token)).json();
    let key = listed[0]["key"].as_str().expect("a key").to_owned();

    let archive = send(&format!("GET {DB}/backups/{id}/archive")).json();
    let url = archive["download_url"].as_str().expect("a URL");
    let (_, link) = url.split_once(&host.server.address().to_string()).expect("our address");
    let downloaded = host.download(link);
    assert_eq!(json!(downloaded.body.len()), backup["size"]);
    let home = tempfile::tempdir().expect("a folder");
    let file = unpacked(home.path(), &downloaded.body);
    let stored = host.server.data_dir().join("backups").join(&key);
    assert!(fs::read(&file).expect("read") == fs::read(stored).expect("read"), "the archive");

    fs::write(host.server.data_dir().join("storage/newer.txt"), "newer")
        .or_else(|_| {
            let folder = host.server.data_dir().join("storage");
            fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("newer.txt"), "newer"))
        })
        .expect("written");
    let begun = send(&format!("POST {DB}/backups/{id}/restore"));
    assert_eq!(begun.status, 201, "{}", begun.text());
    let restoration = begun.json()["backup_restoration"]["id"].as_str().expect("an id").to_owned();
    host.server.wait_until_idle(&token);
    let line = format!("GET {DB}/backup_restorations/{restoration}");
    until("the restore is done", || send(&line).json()["backup_restoration"]["status"] == "done");
    assert!(!host.server.data_dir().join("storage/newer.txt").exists(), "the data of before");
    let status =
        send(&format!("GET /api/backups/{id}")).json()["database_backup"]["status"].clone();
    assert_eq!(status, "done");
}
