//! An S3 server for tests, inside the test's own process: small, exact, and faulty on request.
//!
//! It answers what a backup needs (path style, listing in pages, ranges, conditional writes,
//! multipart uploads), checks every signature, and keeps what it saw. Faults are programmed per
//! operation and part. It is included by several test binaries, each of which uses a part of it.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bucket;
mod faults;
mod http;
mod operations;
mod signature;
mod sums;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) use bucket::{Bucket, Object, Upload};
pub(crate) use faults::{Conditions, Effect, Fault, Habits};
pub(crate) use operations::{Operation, Seen};
pub(crate) use sums::Checksums;

/// The key that opens the server.
pub(crate) const ACCESS_KEY: &str = "test-access-key";
/// Its secret.
pub(crate) const SECRET: &str = "test-secret-key";
/// The region that signatures must name.
pub(crate) const REGION: &str = "test-region";
/// The bucket that exists from the start.
pub(crate) const BUCKET: &str = "backups";

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Everything that connections share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) habits: Habits,
    pub(crate) seen: Vec<Seen>,
}

impl World {
    pub(crate) fn bucket(&mut self, name: &str) -> Option<&mut Bucket> {
        self.buckets.iter_mut().find(|bucket| bucket.name == name)
    }
}

/// A running server; dropped, it takes no more connections.
#[derive(Debug)]
pub(crate) struct S3Server {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    stopped: Arc<AtomicBool>,
}

impl S3Server {
    /// A server on a free port with one empty bucket.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let world = World { buckets: vec![Bucket::new(BUCKET)], ..World::default() };
        let world = Arc::new(Mutex::new(world));
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, until) = (world.clone(), stopped.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if until.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (world, until) = (shared.clone(), until.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(IDLE)).expect("a timeout");
                    stream.set_nodelay(true).expect("no delay");
                    operations::serve(&stream, &world, &until);
                });
            }
        });
        Self { address, world, stopped }
    }

    /// Its address, as an endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it holds and does.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Programs a fault.
    pub(crate) fn fault(&self, fault: Fault) {
        self.world().faults.push(fault);
    }

    /// Changes what it does all the time.
    pub(crate) fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.world().habits);
    }

    /// No more faults, and no bad habits.
    pub(crate) fn heal(&self) {
        let mut world = self.world();
        world.faults.clear();
        world.habits = Habits::default();
    }

    /// The keys in the bucket, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut world = self.world();
        world.bucket(BUCKET).expect("the bucket").objects.keys().cloned().collect()
    }

    /// One object of the bucket.
    pub(crate) fn object(&self, key: &str) -> Option<Object> {
        self.world().bucket(BUCKET).expect("the bucket").objects.get(key).cloned()
    }

    /// Puts an object into the bucket, as somebody else would.
    pub(crate) fn place(&self, key: &str, body: &[u8]) {
        let object = Object::new(body.to_vec(), Vec::new());
        let mut world = self.world();
        world.bucket(BUCKET).expect("the bucket").objects.insert(key.to_owned(), object);
    }

    /// The uploads that are neither completed nor aborted.
    pub(crate) fn uploads(&self) -> Vec<Upload> {
        self.world().bucket(BUCKET).expect("the bucket").uploads.clone()
    }

    /// How many requests of that kind came, answered or not.
    pub(crate) fn count(&self, operation: Operation) -> usize {
        self.world().seen.iter().filter(|seen| seen.operation == operation).count()
    }

    /// The requests of that kind.
    pub(crate) fn seen(&self, operation: Operation) -> Vec<Seen> {
        self.world().seen.iter().filter(|seen| seen.operation == operation).cloned().collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the listener up; whether it still listens does not matter.
        let _ = std::net::TcpStream::connect(self.address);
    }
}
