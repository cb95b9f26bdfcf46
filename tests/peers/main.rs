//! Real clients and real PocketBases against the real binary.
//!
//! `scripts` runs the SDKs that people use (npm and PyPI) through the whole life of a backup.
//! `pocketbase` puts an unchanged PocketBase and our server on the same folders and archives.
//! `bench` keeps the measurements of `benches/versus` alive.
//! `trees` gives our archives to everything that reads zips.
//! `bucket` has both keep their backups in one bucket of a real, independent S3 server.
//! `compose` runs what `docker-compose.yml` says, without the containers around it.
//! `browser` opens the pages in a real Chromium and does what people do there.
//! `raw` sends, byte for byte, what the SDKs send that cannot be run here.
//!
//! What a test needs is fetched by the ordinary clients (`npm`, `pip`, `go`) into the target
//! folder; where such a tool is absent the test says `SKIPPED` on standard error and passes.
//! `POCKETVAULT_PEERS=require` (CI) turns a failed installation from a skip into a failure.
//! `POCKETVAULT_PEER_BASE_CMD=/path/to/pocketbase` runs `scripts` and `raw` against a real
//! PocketBase instead of ours: that is how they are proven to be true of it.

#![expect(clippy::expect_used, reason = "a peer that cannot be driven fails the test on the spot")]

mod bench;
mod browser;
mod bucket;
mod compose;
mod http;
mod pocketbase;
mod raw;
#[path = "../s3/mod.rs"]
mod s3;
mod scripts;
mod server;
mod spellings;
mod supervise;
mod tools;
mod trees;
mod world;
