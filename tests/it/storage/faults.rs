//! What goes wrong between us and a bucket, one line each: what the caller gets, and that the
//! bucket and the disk hold either the whole backup or nothing of it.

use std::time::{Duration, Instant};

use pocketvault::error::Kind;
use pocketvault::storage::{PutMode, S3Options, Storage};

use super::{Bench, PART, body, key, names, noise, read};
use crate::s3::{Effect, Fault, Habits, Operation};

type Change<T> = fn(&mut T);

/// How an upload must end.
#[derive(Debug, Clone)]
enum End {
    /// The backup is there, byte for byte.
    Stored,
    /// An error of that kind, with that word in it for the operator; nothing is there.
    Refused(Kind, &'static str),
}

/// Short patience: what does not pass shall fail soon.
fn impatient() -> Bench {
    Bench::with(|options| options.extras.retry_for = Duration::from_secs(1))
}

/// Uploads three parts (or a small object) under the faults, and checks every side of it.
async fn upload(sentence: &str, bench: Bench, length: usize, end: End) {
    let bytes = noise(length);
    let put = bench.storage.put(&key("a.zip"), body(&bytes), PutMode::Create).await;
    match &end {
        End::Stored => {
            let put = put.unwrap_or_else(|error| panic!("{sentence}: {error:?}"));
            assert_eq!(put.size_bytes, length as u64, "{sentence}");
            bench.server.heal();
            let found = read(&bench.storage, "a.zip", None).await.expect(sentence);
            assert!(found == bytes, "{sentence}");
        }
        End::Refused(kind, word) => {
            let error = put.expect_err(sentence);
            assert_eq!(error.kind(), kind, "{sentence}: {error:?}");
            assert!(error.full().contains(word), "{sentence}: {}", error.full());
            assert!(!format!("{error:?}").contains(crate::s3::SECRET), "{sentence}: a secret");
            bench.server.heal();
            assert!(names(&bench.storage).await.is_empty(), "{sentence}: something is listed");
            assert!(bench.server.keys().is_empty(), "{sentence}: something is there");
        }
    }
    // What could not be aborted while the store was away is remembered, and swept.
    bench.storage.sweep_uploads().await.expect(sentence);
    // An upload whose very name got lost can stay, but it is empty.
    let parts = bench.server.uploads().iter().map(|upload| upload.parts.len()).sum::<usize>();
    assert_eq!(parts, 0, "{sentence}: parts are left behind");
    assert_eq!(bench.remembered(), 0, "{sentence}: an upload is remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_does_not_cost_the_backup() {
    use Effect::*;
    use Operation::*;
    let three = 2 * PART + 5;
    let slow_down = || Status(503, "SlowDown");
    for (sentence, fault, length) in [
        ("503 for every part twice", Fault::on(Part, slow_down()).times(6), three),
        ("500 at the start", Fault::on(Initiate, Status(500, "InternalError")).times(2), three),
        ("503 at the end", Fault::on(Complete, slow_down()).times(2), three),
        ("200 with an error inside", Fault::on(Complete, ErrorInside("InternalError")), three),
        ("an answer to the start that is cut", Fault::on(Initiate, TruncateAfterBytes(40)), three),
        ("an answer to the end that is cut", Fault::on(Complete, TruncateAfterBytes(30)), three),
        ("an answer to the end that is lost", Fault::on(Complete, ResetInsteadOfAnswer), three),
        ("answers to parts that are lost", Fault::on(Part, ResetInsteadOfAnswer).times(2), three),
        ("a wrong ETag of part 2", Fault::on(Part, WrongEtag).part(2), three),
        ("a part that arrives short", Fault::on(Part, KeepOnlyBytes(100)).part(1), three),
        ("a proxy that speaks of itself", Fault::on(Initiate, NotXml), three),
        ("400 RequestTimeout", Fault::on(Part, Status(400, "RequestTimeout")), three),
        ("429", Fault::on(Part, Status(429, "TooManyRequests")), three),
        ("a look that fails once", Fault::on(Head, Status(500, "InternalError")), three),
        ("an object that is seen late", Fault::on(Head, Status(404, "")).times(3), three),
        ("a small one: 503", Fault::on(Put, slow_down()).times(2), 9),
        ("a small one: the answer is lost", Fault::on(Put, ResetInsteadOfAnswer), 9),
        ("a small one: reset", Fault::on(Put, ResetAfterBytes(4)), 9),
    ] {
        let bench = Bench::new();
        bench.server.fault(fault);
        upload(sentence, bench, length, End::Stored).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_any_part_is_made_good() {
    for number in 1..=3 {
        for bytes in [0, 1000, 4 << 20] {
            let bench = Bench::new();
            bench
                .server
                .fault(Fault::on(Operation::Part, Effect::ResetAfterBytes(bytes)).part(number));
            let sentence = format!("a reset after {bytes} bytes of part {number}");
            upload(&sentence, bench, 3 * PART, End::Stored).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_pass_is_told_and_leaves_nothing() {
    use Effect::*;
    use Operation::*;
    let three = 2 * PART + 5;
    let unavailable = |word| End::Refused(Kind::Unavailable, word);
    for (sentence, fault, length, end) in [
        (
            "every part is refused",
            Fault::on(Part, Status(500, "InternalError")).always(),
            three,
            unavailable("InternalError"),
        ),
        (
            "part 2 never gets through",
            Fault::on(Part, ResetAfterBytes(1000)).part(2).always(),
            three,
            unavailable("does not answer"),
        ),
        (
            "part 3 always has another ETag",
            Fault::on(Part, WrongEtag).part(3).always(),
            three,
            unavailable("another ETag"),
        ),
        (
            "the end is refused",
            Fault::on(Complete, Status(400, "EntityTooSmall")).always(),
            three,
            unavailable("EntityTooSmall"),
        ),
        (
            "the whole has another ETag",
            Fault::on(Head, WrongEtag).always(),
            three,
            End::Refused(Kind::Corrupt, "verify_etags"),
        ),
        (
            "a small one arrives short",
            Fault::on(Put, KeepOnlyBytes(5)).always(),
            9,
            End::Refused(Kind::Corrupt, "something else"),
        ),
        (
            "the store is full",
            Fault::on(Part, Status(507, "StorageFull")).always(),
            three,
            End::Refused(Kind::NoSpace, "no room"),
        ),
        (
            "the key may not write",
            Fault::on(Initiate, Status(403, "AccessDenied")).always(),
            three,
            unavailable("must be allowed"),
        ),
    ] {
        let bench = impatient();
        bench.server.fault(fault);
        upload(sentence, bench, length, end).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_wrong_all_the_time_is_told_in_words() {
    let unavailable = |word| End::Refused(Kind::Unavailable, word);
    let habits: [(_, Change<Habits>, _); 4] = [
        ("down", |habits| habits.down = true, unavailable("does not answer")),
        ("read only", |habits| habits.read_only = true, unavailable("must be allowed")),
        ("clock ahead", |habits| habits.clock_ahead_s = 3600, unavailable("credentials")),
        ("clock behind", |habits| habits.clock_ahead_s = -3600, unavailable("credentials")),
    ];
    for (sentence, change, end) in habits {
        for length in [9, PART + 9] {
            let bench = impatient();
            bench.server.habits(change);
            upload(sentence, bench, length, end.clone()).await;
        }
    }
    // A list says more than a look, whose answers have no body.
    let bench = impatient();
    bench.server.habits(|habits| habits.clock_ahead_s = 3600);
    let error = bench.storage.list().await.expect_err("skewed");
    assert!(error.message().contains("clocks"), "{}", error.full());

    let words: [(_, Change<S3Options>); 3] = [
        ("bucket does not exist", |options| options.bucket = "no-such-bucket".to_owned()),
        ("does not know the access key", |options| {
            options.credentials = credentials("unknown", crate::s3::SECRET);
        }),
        ("does not accept the signature", |options| {
            options.credentials = credentials(crate::s3::ACCESS_KEY, "wrong");
        }),
    ];
    for (word, change) in words {
        let bench = Bench::with(change);
        let error = bench.storage.list().await.expect_err(word);
        assert!(error.message().contains(word), "{word}: {}", error.full());
        let put = bench.storage.put(&key("a.zip"), body(b"x"), PutMode::Create).await;
        assert_eq!(put.expect_err(word).kind(), &Kind::Unavailable, "{word}");
        assert!(bench.server.keys().is_empty(), "{word}");
    }
}

fn credentials(access_key: &str, secret: &str) -> pocketvault::storage::Credentials {
    let secret = pocketvault::config::storage::Secret::new(secret);
    pocketvault::storage::Credentials::Keys(access_key.to_owned(), secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_outlives_a_store_that_is_down_for_a_while() {
    let bench = Bench::new();
    let (server, storage) = (&bench.server, &bench.storage);
    let bytes = noise(4 * PART);
    let name = key("a.zip");
    let upload = storage.put(&name, body(&bytes), PutMode::Create);
    let weather = async {
        while server.count(Operation::Part) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.habits(|habits| habits.down = true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.heal();
    };
    let (stored, ()) = tokio::join!(upload, weather);
    stored.expect("stored");
    assert!(read(storage, "a.zip", None).await.expect("read") == bytes);
    bench.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_only_takes_its_time() {
    let bench = impatient();
    bench.server.fault(Fault::on(Operation::Part, Effect::BytesPerSecond(2 << 20)).times(2));
    let started = Instant::now();
    upload("2 MB/s for two parts", bench, 2 * PART + 5, End::Stored).await;
    assert!(started.elapsed() > Duration::from_secs(2), "it was slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_go_on_where_they_broke_off() {
    let bench = Bench::new();
    let bytes = noise(1 << 20);
    bench.server.place("a.zip", &bytes);
    for (sentence, fault) in [
        ("cut", Fault::on(Operation::Get, Effect::TruncateAfterBytes(200_000)).times(3)),
        ("cut at once", Fault::on(Operation::Get, Effect::TruncateAfterBytes(0)).times(2)),
        ("503 first", Fault::on(Operation::Get, Effect::Status(503, "SlowDown")).times(2)),
        ("reset", Fault::on(Operation::Get, Effect::ResetInsteadOfAnswer).times(2)),
    ] {
        for range in [None, Some(1000..900_000)] {
            bench.server.fault(fault.clone());
            let expected = match &range {
                None => &bytes[..],
                Some(range) => &bytes[range.start as usize..range.end as usize],
            };
            let found = read(&bench.storage, "a.zip", range.clone()).await.expect(sentence);
            assert!(found == expected, "{sentence} {range:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_never_mixes_two_objects() {
    use futures_util::StreamExt;
    let bench = impatient();
    bench.server.place("a.zip", &noise(1 << 20));
    bench.server.fault(Fault::on(Operation::Get, Effect::TruncateAfterBytes(500_000)));
    let mut stream = bench.storage.get(&key("a.zip"), None).await.expect("opened");
    stream.next().await.expect("a block").expect("read");
    bench.server.place("a.zip", &vec![1; 1 << 20]);
    let mut last = Ok(bytes::Bytes::new());
    while let Some(block) = stream.next().await {
        last = block;
    }
    assert!(last.is_err(), "the second half is another object's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_again_when_they_are_cut() {
    let bench = Bench::new();
    bench.server.place("a.zip", b"x");
    for effect in [Effect::TruncateAfterBytes(90), Effect::NotXml, Effect::Status(500, "")] {
        bench.server.fault(Fault::on(Operation::List, effect.clone()));
        assert_eq!(names(&bench.storage).await, ["a.zip"], "{effect:?}");
    }
}
