//! Where backups are kept: one suite for every implementation, and what only S3 can do wrong.

mod bucket;
mod destinations;
mod faults;
mod lock;
mod redirect;
mod rules;
mod server;
mod spooling;
mod suite;
mod sums;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use pocketvault::backup::Key;
use pocketvault::config::storage::{S3Extras, Secret};
use pocketvault::error::{Error, Kind, Result};
use pocketvault::storage::{ByteStream, Credentials, S3Options, S3Storage, Storage};
use tempfile::TempDir;

use crate::s3::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET};

/// Smallest part that S3 takes.
const PART: usize = 5 << 20;

/// A server, a client of it, and the folder in which uploads are remembered.
struct Bench {
    server: S3Server,
    storage: S3Storage,
    home: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A client with other options.
    fn with(change: impl FnOnce(&mut S3Options)) -> Self {
        let server = S3Server::start();
        let home = tempfile::tempdir().expect("a folder");
        let mut options = options(&server);
        options.ledger = Some(home.path().join("uploads"));
        change(&mut options);
        let storage = S3Storage::new(&options).expect("a client");
        Self { server, storage, home }
    }

    /// How many uploads are remembered.
    fn remembered(&self) -> usize {
        std::fs::read_dir(self.home.path().join("uploads")).map_or(0, Iterator::count)
    }

    /// Nothing is on its way, and nothing is remembered.
    fn assert_clean(&self) {
        assert_eq!(self.server.uploads().len(), 0, "parts are left behind");
        assert_eq!(self.remembered(), 0, "uploads are remembered that are over");
    }
}

/// A client's options for the server; small parts and little patience, for quick tests.
fn options(server: &S3Server) -> S3Options {
    // Set up by the program elsewhere; a second time is refused, and that is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    S3Options {
        bucket: BUCKET.to_owned(),
        region: REGION.to_owned(),
        endpoint: server.endpoint(),
        force_path_style: true,
        credentials: Credentials::Keys(ACCESS_KEY.to_owned(), Secret::new(SECRET)),
        extras: S3Extras {
            upload_memory_bytes: 6 * PART,
            retry_for: Duration::from_secs(10),
            ..S3Extras::default()
        },
        ledger: None,
    }
}

fn key(name: &str) -> Key {
    Key::existing(name).expect("a key")
}

/// Bytes that differ everywhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A stream of the bytes in uneven blocks; as the vault's, it must not be asked after its end.
fn body(bytes: &[u8]) -> ByteStream {
    let blocks: Vec<Bytes> = bytes.chunks(700_001).map(Bytes::copy_from_slice).collect();
    let next = |mut blocks: std::vec::IntoIter<Bytes>| async move {
        blocks.next().map(|block| (Ok(block), blocks))
    };
    stream::unfold(blocks.into_iter(), next).boxed()
}

/// A stream that breaks after the bytes.
fn broken(bytes: &[u8]) -> ByteStream {
    let end = stream::iter([Err(Error::new(Kind::Cancelled, "stop"))]);
    body(bytes).chain(end).boxed()
}

async fn read(
    storage: &dyn Storage,
    name: &str,
    range: Option<std::ops::Range<u64>>,
) -> Result<Vec<u8>> {
    let blocks: Vec<Bytes> = storage.get(&key(name), range).await?.try_collect().await?;
    Ok(blocks.concat())
}

async fn names(storage: &dyn Storage) -> Vec<String> {
    let listed = storage.list().await.expect("listed");
    listed.into_iter().map(|backup| backup.key.to_string()).collect()
}
