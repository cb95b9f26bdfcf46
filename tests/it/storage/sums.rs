//! Stores that keep checksums are told CRC-32, and need neither MD5 nor SHA-256 from us; all
//! others are taken at their ETags.

use pocketvault::error::Kind;
use pocketvault::storage::{PutMode, Storage};

use super::suite::suite;
use super::{Bench, PART, body, key, noise};
use crate::s3::{Checksums, Effect, Fault, Operation};

const SUM: &str = "x-amz-checksum-crc32";

fn bench(checksums: Checksums) -> Bench {
    let bench = Bench::with(|options| options.extras.retry_for = std::time::Duration::from_secs(2));
    bench.server.habits(|habits| habits.checksums = checksums);
    bench
}

/// Whether each part that came had a checksum and an unsigned body.
fn by_checksum(bench: &Bench) -> bool {
    let parts = bench.server.seen(Operation::Part);
    assert!(!parts.is_empty());
    let summed = parts.iter().filter(|part| part.header(SUM).is_some()).count();
    let unsigned = |value| value == Some("UNSIGNED-PAYLOAD");
    let signed = parts.iter().filter(|part| !unsigned(part.header("x-amz-content-sha256")));
    assert_eq!(signed.count(), parts.len() - summed, "only a body with a sum is not signed");
    assert!(summed == 0 || summed == parts.len(), "all parts or none");
    summed > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_with_checksums_does_everything() {
    for forgets in [false, true] {
        let bench = bench(Checksums::Kept);
        bench.server.habits(|habits| {
            // Nor are ETags or marks needed then.
            habits.opaque_etags = forgets;
            habits.forgets_metadata = forgets;
        });
        suite(&bench.storage).await;
        assert!(by_checksum(&bench));
        bench.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_wrong_is_sent_again_or_told() {
    let bench = bench(Checksums::Kept);
    let bytes = noise(4 * PART);
    for (number, effect) in [
        Effect::KeepOnlyBytes(1_000),
        Effect::SpoilLastByte,
        Effect::ResetAfterBytes(100_000),
        Effect::ResetInsteadOfAnswer,
        Effect::Status(503, "SlowDown"),
    ]
    .into_iter()
    .enumerate()
    {
        bench.server.fault(Fault::on(Operation::Part, effect.clone()).part(2));
        let name = format!("{number}.zip");
        let put = bench.storage.put(&key(&name), body(&bytes), PutMode::Create).await;
        assert_eq!(put.expect("stored").size_bytes, bytes.len() as u64, "{effect:?}");
        assert!(*bench.server.object(&name).expect("there").body == bytes, "{effect:?}");
        bench.server.world().faults.clear();
    }
    bench.server.fault(Fault::on(Operation::Part, Effect::SpoilLastByte).part(2).always());
    let put = bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await;
    assert!(put.is_err(), "it never arrives whole");
    assert!(bench.server.object("a.zip").is_none());
    assert!(by_checksum(&bench));
    bench.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_checksums_is_taken_at_its_etags() {
    let bytes = noise(2 * PART);
    for checksums in [Checksums::Ignored, Checksums::Refused] {
        let bench = bench(checksums);
        for name in ["a.zip", "b.zip"] {
            let put = bench.storage.put(&key(name), body(&bytes), PutMode::Create).await;
            assert_eq!(put.expect("stored").size_bytes, bytes.len() as u64, "{checksums:?}");
        }
        assert!(!by_checksum(&bench), "{checksums:?}");
        bench.assert_clean();
    }
    let bench = Bench::with(|options| options.extras.checksums = false);
    bench.server.habits(|habits| habits.checksums = Checksums::Kept);
    bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await.expect("stored");
    assert!(!by_checksum(&bench), "they are switched off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_breaks_its_promise_is_found_out_and_not_believed_again() {
    let (bench, bytes) = (bench(Checksums::Forgotten), noise(2 * PART));
    let put = bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await;
    assert!(put.is_err_and(|error| error.kind() != &Kind::Exists));
    assert!(bench.server.object("a.zip").is_none());
    bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await.expect("by its ETags");
    assert!(*bench.server.object("a.zip").expect("there").body == bytes);
    bench.assert_clean();
}
