//! What only a bucket can do right or wrong: options, sharing, presigning, sweeping, memory.

use std::time::{Duration, SystemTime};

use pocketvault::config::storage::Encryption;
use pocketvault::error::Kind;
use pocketvault::storage::{PutMode, S3Storage, Storage};

use super::{Bench, PART, body, key, names, noise, options};
use crate::s3::{Operation, Upload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_class_and_encryption_are_asked_for() {
    let bench = Bench::with(|options| {
        options.extras.storage_class = Some("GLACIER_IR".to_owned());
        options.extras.encryption = Some(Encryption::Kms(Some("my-key".to_owned())));
    });
    for (name, length) in [("small.zip", 9), ("large.zip", PART + 9)] {
        let put = bench.storage.put(&key(name), body(&noise(length)), PutMode::Create).await;
        put.expect("stored");
        let object = bench.server.object(name).expect("there");
        for (header, value) in [
            ("content-type", "application/zip"),
            ("x-amz-storage-class", "GLACIER_IR"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "my-key"),
            ("x-amz-meta-original-filename", name),
        ] {
            assert_eq!(object.header(header), Some(value), "{name} {header}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_neither_seen_nor_touched() {
    let bench = Bench::new();
    let foreign = ["photo.jpg", "folder/a.zip", ".zip", "notes", "a.zip.attrs"];
    for name in foreign {
        bench.server.place(name, b"not ours");
    }
    assert!(names(&bench.storage).await.is_empty());
    for name in ["photo.jpg", ".zip", "notes"] {
        let deleted = bench.storage.delete(&key(name)).await;
        assert_eq!(deleted.expect_err("not ours").kind(), &Kind::NotFound, "{name}");
        assert!(bench.storage.head(&key(name)).await.is_err(), "{name}");
        let put = bench.storage.put(&key(name), body(b"x"), PutMode::Replace).await;
        assert!(put.is_err(), "{name} would never be listed");
    }
    assert_eq!(bench.server.keys().len(), foreign.len());
    assert_eq!(bench.server.object("photo.jpg").expect("there").body[..], *b"not ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_go_out_several_at_a_time_and_payloads_are_signed() {
    let bench = Bench::new();
    let bytes = noise(7 * PART);
    let put = bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await;
    put.expect("stored");
    let parts = bench.server.seen(Operation::Part);
    assert_eq!(parts.len(), 7);
    for part in parts {
        let digest = part.header("x-amz-content-sha256").expect("a digest");
        assert_eq!(digest.len(), 64, "{digest}");
    }
    assert_eq!(bench.server.seen(Operation::Complete)[0].header("if-none-match"), Some("*"));
    assert!(*bench.server.object("a.zip").expect("there").body == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_presigned_address_opens_one_backup_for_a_while() {
    let bench = Bench::new();
    let name = key("a b@.zip");
    bench.storage.put(&name, body(b"content"), PutMode::Create).await.expect("stored");
    let url = bench.storage.presign(&name, Duration::from_secs(60)).await.expect("signed");
    let url: url::Url = url.expect("an address").parse().expect("a URL");
    assert_eq!(fetched(&url).await, (200, b"content".to_vec()));
    let mut other = url.clone();
    other.set_path("/backups/other.zip");
    assert_eq!(fetched(&other).await.0, 403);
    bench.server.habits(|habits| habits.clock_ahead_s = 61);
    assert_eq!(fetched(&url).await.0, 403, "it is over");
    assert!(bench.storage.presign(&key("photo.jpg"), Duration::from_secs(60)).await.is_err());
}

async fn fetched(url: &url::Url) -> (u16, Vec<u8>) {
    let response = reqwest::get(url.clone()).await.expect("an answer");
    (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_is_swept_and_nothing_else() {
    let bench = Bench::new();
    // An upload that hangs in its second half, whose process is gone then.
    let storage = bench.storage.clone();
    let hanging = tokio::spawn(async move {
        use futures_util::StreamExt;
        let forever = futures_util::stream::pending();
        let body = body(&noise(2 * PART)).chain(forever).boxed();
        storage.put(&key("a.zip"), body, PutMode::Create).await
    });
    while bench.server.uploads().iter().map(|upload| upload.parts.len()).sum::<usize>() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.storage.sweep_uploads().await.expect("swept"), 0, "it is worked on");
    assert_eq!(bench.server.uploads().len(), 1);
    hanging.abort();
    assert!(hanging.await.expect_err("aborted").is_cancelled());
    assert_eq!(bench.remembered(), 1, "what is on its way is written down");

    foreign_upload(&bench, "b.zip", Duration::from_secs(3600));
    let again = S3Storage::new(&with_ledger(&bench)).expect("a client");
    assert_eq!(again.sweep_uploads().await.expect("swept"), 1);
    assert_eq!(bench.remembered(), 0);
    let left: Vec<String> = bench.server.uploads().into_iter().map(|upload| upload.key).collect();
    assert_eq!(left, ["b.zip"], "somebody else's upload goes on");
    assert!(bench.server.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_swept_now_is_swept_later() {
    let bench = Bench::with(|options| options.extras.retry_for = Duration::ZERO);
    bench
        .server
        .fault(crate::s3::Fault::on(Operation::Abort, crate::s3::Effect::Status(503, "SlowDown")));
    let (name, broken) = (key("a.zip"), super::broken(&noise(2 * PART)));
    let put = bench.storage.put(&name, broken, PutMode::Create).await;
    assert_eq!(put.expect_err("broken").kind(), &Kind::Cancelled);
    assert_eq!((bench.server.uploads().len(), bench.remembered()), (1, 1));
    bench.server.habits(|habits| habits.down = true);
    assert_eq!(bench.storage.sweep_uploads().await.expect("nothing to do"), 0);
    assert_eq!(bench.remembered(), 1);
    bench.server.heal();
    assert_eq!(bench.storage.sweep_uploads().await.expect("swept"), 1);
    bench.assert_clean();
}

#[tokio::test]
async fn old_uploads_are_swept_only_when_that_is_asked_for() {
    let week = Duration::from_secs(7 * 24 * 3600);
    let bench = Bench::with(|options| options.extras.prefix = "ours".to_owned());
    for name in ["ours/old.zip", "ours/sub/old.zip", "ours/old.txt", "old.zip"] {
        foreign_upload(&bench, name, 2 * week);
    }
    foreign_upload(&bench, "ours/young.zip", week / 2);
    assert_eq!(bench.storage.sweep_uploads().await.expect("swept"), 0);
    assert_eq!(bench.server.uploads().len(), 5);
    let mut options = with_ledger(&bench);
    options.extras.prefix = "ours".to_owned();
    options.extras.sweep_uploads_after = Some(week);
    let storage = S3Storage::new(&options).expect("a client");
    assert_eq!(storage.sweep_uploads().await.expect("swept"), 1);
    assert!(bench.server.uploads().iter().all(|upload| upload.key != "ours/old.zip"));
}

fn with_ledger(bench: &Bench) -> pocketvault::storage::S3Options {
    let mut options = options(&bench.server);
    options.ledger = Some(bench.home.path().join("uploads"));
    options
}

fn foreign_upload(bench: &Bench, name: &str, age: Duration) {
    let mut world = bench.server.world();
    let bucket = world.bucket(crate::s3::BUCKET).expect("the bucket");
    bucket.uploads.push(Upload {
        id: format!("foreign-{name}"),
        key: name.to_owned(),
        headers: Vec::new(),
        initiated: SystemTime::now() - age,
        parts: std::collections::BTreeMap::new(),
    });
}
