//! What every storage has to do, run by the local folder and by S3, with and without a prefix,
//! conditional writes, metadata and sums.

use pocketvault::error::Kind;
use pocketvault::storage::{LocalStorage, PutMode, S3Storage, Storage};

use super::{Bench, PART, body, broken, key, names, noise, options, read};
use crate::s3::{Conditions, S3Server};

/// The whole suite on an empty storage; leaves it empty.
pub(super) async fn suite(storage: &dyn Storage) {
    an_empty_place_is_no_error(storage).await;
    what_is_put_comes_back(storage).await;
    a_taken_name_is_kept_or_replaced_as_asked(storage).await;
    what_breaks_off_leaves_nothing(storage).await;
    names_with_strange_letters_are_names(storage).await;
    of_two_at_once_one_creates(storage).await;
    assert!(names(storage).await.is_empty(), "the suite leaves nothing behind");
}

async fn an_empty_place_is_no_error(storage: &dyn Storage) {
    assert!(names(storage).await.is_empty());
    for missing in ["a.zip", "no such.zip"] {
        let missing = key(missing);
        let not_found = Some(&Kind::NotFound);
        assert_eq!(storage.head(&missing).await.err().as_ref().map(|e| e.kind()), not_found);
        assert_eq!(storage.delete(&missing).await.err().as_ref().map(|e| e.kind()), not_found);
        let opened = storage.get(&missing, None).await.err();
        assert_eq!(opened.as_ref().map(|e| e.kind()), not_found);
        let opened = storage.get(&missing, Some(0..0)).await.err();
        assert_eq!(opened.as_ref().map(|e| e.kind()), not_found);
    }
}

async fn what_is_put_comes_back(storage: &dyn Storage) {
    for (name, length) in [("0.zip", 0), ("1.zip", 1), ("5.zip", PART), ("11.zip", 2 * PART + 7)] {
        let bytes = noise(length);
        let put = storage.put(&key(name), body(&bytes), PutMode::Create).await.expect(name);
        assert_eq!((put.key.as_str(), put.size_bytes), (name, length as u64));
        let head = storage.head(&key(name)).await.expect("there");
        assert_eq!((head.size_bytes, head.modified), (put.size_bytes, put.modified), "{name}");
        let age = chrono::Utc::now() - put.modified;
        assert!(age.num_seconds().abs() < 60, "{name} is from {}", put.modified);
        assert!(read(storage, name, None).await.expect("read") == bytes, "{name}");
        for range in [0..0, 0..1, 3..length, length / 2..length, length..length] {
            if range.end > length || range.start > range.end {
                continue;
            }
            let expected = &bytes[range.clone()];
            let range = range.start as u64..range.end as u64;
            let found = read(storage, name, Some(range.clone())).await.expect("read");
            assert!(found == expected, "{name} {range:?}");
        }
        assert_eq!(storage.content_type(&key(name)).await, "application/zip");
    }
    assert_eq!(names(storage).await, ["0.zip", "1.zip", "11.zip", "5.zip"]);
    let listed = storage.list().await.expect("listed");
    assert_eq!(listed.iter().map(|b| b.size_bytes).sum::<u64>(), (3 * PART + 8) as u64);
    for name in ["0.zip", "1.zip", "11.zip", "5.zip"] {
        storage.delete(&key(name)).await.expect("deleted");
        assert_eq!(storage.head(&key(name)).await.expect_err("gone").kind(), &Kind::NotFound);
    }
}

async fn a_taken_name_is_kept_or_replaced_as_asked(storage: &dyn Storage) {
    for length in [5, PART + 5] {
        let (old, new) = (noise(length), vec![7; length + 1]);
        storage.put(&key("a.zip"), body(&old), PutMode::Create).await.expect("stored");
        let taken = storage.put(&key("a.zip"), body(&new), PutMode::Create).await;
        assert_eq!(taken.expect_err("taken").kind(), &Kind::Exists);
        assert!(read(storage, "a.zip", None).await.expect("read") == old);
        storage.put(&key("a.zip"), body(&new), PutMode::Replace).await.expect("replaced");
        assert!(read(storage, "a.zip", None).await.expect("read") == new);
        storage.delete(&key("a.zip")).await.expect("deleted");
    }
}

async fn what_breaks_off_leaves_nothing(storage: &dyn Storage) {
    for length in [0, 5, 2 * PART + 5] {
        for mode in [PutMode::Create, PutMode::Replace] {
            let put = storage.put(&key("a.zip"), broken(&noise(length)), mode).await;
            assert_eq!(put.expect_err("broken").kind(), &Kind::Cancelled, "{length}");
            assert!(names(storage).await.is_empty(), "{length}");
        }
    }
    storage.put(&key("a.zip"), body(b"old"), PutMode::Create).await.expect("stored");
    let put = storage.put(&key("a.zip"), broken(&noise(2 * PART)), PutMode::Replace).await;
    assert_eq!(put.expect_err("broken").kind(), &Kind::Cancelled);
    assert_eq!(read(storage, "a.zip", None).await.expect("read"), b"old");
    storage.delete(&key("a.zip")).await.expect("deleted");
}

async fn names_with_strange_letters_are_names(storage: &dyn Storage) {
    let strange = ["@auto_pb_backup_x_1.zip", "a b+c&d=e%2F.zip", "é<>\"'.zip", "#?.ZIP"];
    for name in strange {
        let put = storage.put(&key(name), body(name.as_bytes()), PutMode::Create).await;
        put.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(read(storage, name, None).await.expect("read"), name.as_bytes());
    }
    let mut sorted = strange.map(str::to_owned);
    sorted.sort_unstable();
    assert_eq!(names(storage).await, sorted);
    for name in strange {
        storage.delete(&key(name)).await.expect("deleted");
    }
}

async fn of_two_at_once_one_creates(storage: &dyn Storage) {
    for length in [9, PART + 9] {
        let (one, other) = (noise(length), vec![3; length]);
        let name = key("race.zip");
        let put = |bytes: &[u8]| storage.put(&name, body(bytes), PutMode::Create);
        let (first, second) = tokio::join!(put(&one), put(&other));
        let winner = match (&first, &second) {
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
                assert_eq!(error.kind(), &Kind::Exists, "{error:?}");
                if first.is_ok() { &one } else { &other }
            }
            both => panic!("not one of them: {both:?}"),
        };
        assert!(read(storage, "race.zip", None).await.expect("read") == *winner);
        storage.delete(&name).await.expect("deleted");
    }
}

#[tokio::test]
async fn the_local_folder_does_what_a_storage_does() {
    let home = tempfile::tempdir().expect("a folder");
    suite(&LocalStorage::new(home.path().join("backups"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_does_what_a_storage_does() {
    let bench = Bench::new();
    suite(&bench.storage).await;
    bench.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_a_shared_bucket_does_what_a_storage_does() {
    let bench = Bench::with(|options| options.extras.prefix = "one/two".to_owned());
    let foreign = ["root.zip", "one/above.zip", "one/two/below/x.zip", "one/twox.zip"];
    for name in foreign {
        bench.server.place(name, b"not ours");
    }
    bench.server.place("one/two/notes.txt", b"not ours");
    suite(&bench.storage).await;
    bench.assert_clean();
    assert_eq!(bench.server.keys().len(), 5, "all others are still there");
}

/// Without conditional writes two at once cannot be told apart in every case; all else holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_conditional_writes_does_all_but_the_race() {
    for conditions in [Conditions::Ignored, Conditions::Refused] {
        let bench = Bench::new();
        bench.server.habits(|habits| habits.conditions = conditions);
        an_empty_place_is_no_error(&bench.storage).await;
        what_is_put_comes_back(&bench.storage).await;
        a_taken_name_is_kept_or_replaced_as_asked(&bench.storage).await;
        what_breaks_off_leaves_nothing(&bench.storage).await;
        bench.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_forgets_and_has_no_sums_does_all_but_the_race() {
    let bench = Bench::new();
    bench.server.habits(|habits| {
        habits.forgets_metadata = true;
        habits.opaque_etags = true;
        habits.page_keys = 3;
    });
    suite(&bench.storage).await;
    bench.assert_clean();
}

#[tokio::test]
async fn lists_go_on_over_many_pages() {
    let server = S3Server::start();
    server.habits(|habits| habits.page_keys = 7);
    for number in 0..50 {
        server.place(&format!("{number:03}.zip"), b"x");
        server.place(&format!("folder-{number}/x.zip"), b"x");
        server.place(&format!("picture-{number}.jpg"), b"x");
    }
    let storage = S3Storage::new(&options(&server)).expect("a client");
    let expected: Vec<String> = (0..50).map(|number| format!("{number:03}.zip")).collect();
    assert_eq!(names(&storage).await, expected);
}
