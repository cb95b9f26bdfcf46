//! `GET /backup-s3`: dump, upload, read back, and the local copy.

use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ROWS, Served, blnk_json, ready, restored};
use crate::raw::Response;
use crate::s3::{Effect, Fault, Operation, S3Server};

/// Little patience, for quick tests.
const QUICK: &str = "[blnk.s3]\nretry_for = 1\nverify_etags = false\n";

fn assert_failed(served: &Served, bucket: &S3Server, answer: &Response, words: &[&str]) {
    assert_eq!(answer.status, 500, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["error_detail"]["code"], "ADMIN_BACKUP_FAILED", "{body}");
    let cause = body["error"]["details"]["cause"].as_str().expect("a cause").to_owned();
    assert!(words.iter().all(|word| cause.contains(word)), "{words:?}: {cause}");
    assert!(served.files().is_empty(), "{:?}", served.files());
    let left = (bucket.keys().len(), bucket.uploads().len());
    assert_eq!(left, (0, 0), "{:?}", bucket.keys());
    assert_eq!(served.newest_job()["state"], "failed");
}

#[test]
fn a_backup_lies_at_the_root_of_the_bucket_and_in_the_folder() {
    let Some((cluster, database)) = ready() else { return };
    let bucket = S3Server::start();
    let options = "[blnk.s3]\nstorage_class = 'STANDARD_IA'\nsse = 'AES256'\n";
    let served = Served::whole(&cluster.url(&database), Some(&bucket), options);
    let answer = served.send("GET /backup-s3");
    assert_eq!((answer.status, answer.text().as_str()), (200, "\"backup successful\""));
    let name = answer.header("X-Backup-Name").expect("a name").to_owned();
    assert_eq!(bucket.keys(), [name.as_str()]);
    assert_eq!(served.files(), [name.as_str()]);
    let object = bucket.object(&name).expect("the object");
    let sum: String =
        Sha256::digest(object.body.as_slice()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("X-Backup-SHA256"), Some(sum.as_str()));
    let put = bucket.seen(Operation::Put).pop().expect("one request stored it");
    assert_eq!(put.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(put.header("x-amz-server-side-encryption"), Some("AES256"));
    let puts = bucket.world().seen.iter().position(|seen| seen.operation == Operation::Put);
    let gets = bucket.world().seen.iter().rposition(|seen| seen.operation == Operation::Get);
    assert!(puts < gets, "it was read back");
    let copied = served.home.path().join("backup.dump");
    fs::write(&copied, object.body.as_slice()).expect("written");
    assert_eq!(restored(&cluster, &copied), cluster.sql(&database, ROWS));
    // The next one in the same second has a name of its own.
    let second = served.send("GET /backup-s3");
    assert_eq!(second.status, 200, "{}", second.text());
    assert_eq!((bucket.keys().len(), served.files().len()), (2, 2));
}

#[test]
fn the_local_copy_goes_when_that_is_wanted_or_nobody_named_a_folder() {
    let Some((cluster, database)) = ready() else { return };
    let bucket = S3Server::start();
    let mut file = blnk_json(&cluster.url(&database), Some(&bucket));
    let served = Served::new(&file, "delete_local = true");
    assert_eq!(served.send("GET /backup-s3").status, 200);
    assert_eq!((bucket.keys().len(), served.files().len()), (1, 0));
    file.as_object_mut().expect("an object").remove("backup_dir");
    let served = Served::new(&file, "");
    assert_eq!(served.send("GET /backup-s3").status, 200);
    assert_eq!(bucket.keys().len(), 2);
    let state = served.server.data_dir().join(".pocketvault/databases/blnk/backups");
    let kept: Vec<_> = fs::read_dir(state).into_iter().flatten().flatten().collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn what_the_bucket_needs_is_named_when_it_is_missing() {
    let Some((cluster, database)) = ready() else { return };
    let bucket = S3Server::start();
    for (key, names) in [
        ("s3_bucket_name", "BLNK_S3_BUCKET_NAME"),
        ("s3_region", "BLNK_S3_REGION"),
        ("aws_access_key_id", "BLNK_AWS_ACCESS_KEY_ID"),
        ("aws_secret_access_key", "BLNK_AWS_SECRET_ACCESS_KEY"),
    ] {
        let mut file = blnk_json(&cluster.url(&database), Some(&bucket));
        file[key] = json!("");
        let served = Served::new(&file, "");
        let answer = served.send("GET /backup-s3");
        assert_eq!(answer.status, 400, "{}", answer.text());
        let missing = &answer.json()["error"]["details"]["missing"];
        assert_eq!(missing, &json!([format!("{key} ({names})")]));
        assert!(served.files().is_empty() && bucket.keys().is_empty());
        assert_eq!(served.send("GET /backup").status, 200, "the folder needs no bucket");
    }
}

#[test]
fn a_bucket_that_fails_is_named_with_the_step_and_leaves_nothing() {
    let Some((cluster, database)) = ready() else { return };
    let bucket = S3Server::start();
    let url = cluster.url(&database);
    let mut file = blnk_json(&url, Some(&bucket));
    file["s3_bucket_name"] = json!("not-there");
    let served = Served::new(&file, QUICK);
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["upload", "the bucket does not exist"]);

    let served = Served::whole(&url, Some(&bucket), QUICK);
    bucket.habits(|habits| habits.read_only = true);
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["upload"]);
    bucket.heal();

    bucket.fault(Fault::on(Operation::Get, Effect::Status(500, "InternalError")).always());
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["verified"]);
    bucket.heal();

    bucket.habits(|habits| habits.opaque_etags = true);
    bucket.fault(Fault::on(Operation::Put, Effect::SpoilLastByte).always());
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["verified", "not what was sent"]);
    bucket.heal();

    bucket.habits(|habits| habits.down = true);
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["bucket", "does not answer"]);
    bucket.heal();

    assert_eq!(served.send("GET /backup-s3").status, 200, "once it is well again");
    assert_eq!((bucket.keys().len(), served.files().len()), (1, 1));
}

#[test]
fn a_database_that_is_not_there_is_no_matter_of_the_bucket() {
    let Some((cluster, database)) = ready() else { return };
    let bucket = S3Server::start();
    let url = cluster.url_as("postgres", "geheim-und-falsch", &database);
    let served = Served::whole(&url, Some(&bucket), QUICK);
    let answer = served.send("GET /backup-s3");
    assert_failed(&served, &bucket, &answer, &["refuses the credentials"]);
    assert_eq!(bucket.count(Operation::Put), 0);
}
