//! What the threads of the writing pipeline hand to each other, and what they share.
//!
//! The feeder puts jobs into a queue for the workers and, in the same order, the receiving end
//! of each job's parts into a queue for the writer. The writer therefore always drains the
//! oldest job, which some worker holds or has finished: no thread waits in a circle. Both
//! queues have [`window`] places, so at most that many jobs exist, each with about
//! [`BLOCK_BYTES`] before and after compression; that is the memory bound.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32fast::Hasher;

use crate::archive::Skipped;
use crate::archive::format::{Record, Stamp};
use crate::archive::ledger::Print;
use crate::archive::manners::{Manners, Throttle};
use crate::archive::reuse::{Fresh, PIECE_BYTES_MIN, Recycler};
use crate::backup::{Entry, EntryPath, Item};
use crate::control::Control;
use crate::error::{Error, Result};

/// Large entries are compressed in blocks of this many bytes.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// Entries listed with more bytes than this are read by the feeder in blocks; the others are
/// read whole, by a worker.
pub(super) const SMALL_BYTES_MAX: usize = 512 << 10;
/// Most small entries of one job.
pub(super) const BATCH_ENTRIES_MAX: usize = 256;
/// How many jobs may exist at once.
pub(super) fn window(threads: usize) -> usize {
    threads + 3
}

/// One piece of work for a worker; its parts go into `parts`.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) parts: SyncSender<Part>,
}

/// What there is to do.
pub(super) enum Work {
    /// Read, checksum and compress whole entries.
    Batch(Vec<Item>),
    /// Checksum and compress a piece of a large entry.
    Block(Block),
}

/// A piece of a large entry.
pub(super) struct Block {
    /// The entry, with its first block.
    pub(super) begin: Option<Box<Begin>>,
    pub(super) data: Vec<u8>,
    /// The end of the block before, for the compressor.
    pub(super) before: Vec<u8>,
    /// Whether the entry is stored as it is.
    pub(super) store: bool,
    /// Whether the entry ends with this block.
    pub(super) last: bool,
}

/// What headers need to know of an entry before its data.
pub(super) struct Begin {
    pub(super) path: EntryPath,
    pub(super) mode: u32,
    pub(super) stamp: Stamp,
    pub(super) method: u16,
}

impl Begin {
    pub(super) fn new(entry: Entry, method: u16) -> Self {
        Self { path: entry.path, mode: entry.mode, stamp: Stamp::new(entry.modified), method }
    }

    /// The record of this entry with its sizes, checksum and offset still 0.
    pub(super) fn record(&self, streamed: bool) -> Record<'_> {
        Record {
            name: self.path.as_bytes(),
            mode: self.mode,
            stamp: self.stamp,
            method: self.method,
            streamed,
            crc: 0,
            packed_bytes: 0,
            size_bytes: 0,
            offset: 0,
        }
    }
}

/// A piece of the archive, ready to be written.
pub(super) enum Part {
    /// Whole entries with their local headers.
    Entries(Parts),
    /// A piece of a streamed entry's data.
    Block(Packed),
}

/// A block after compression.
pub(super) struct Packed {
    pub(super) begin: Option<Box<Begin>>,
    pub(super) bytes: Vec<u8>,
    pub(super) crc: Hasher,
    pub(super) size_bytes: u64,
    pub(super) last: bool,
    /// For the ledger.
    pub(super) fresh: Option<Fresh>,
}

/// Whole entries.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) bytes: Vec<u8>,
    pub(super) done: Vec<Done>,
}

/// The outcome of one small entry.
pub(super) enum Done {
    /// In the archive; its local header begins `at` that byte of the part.
    Entry {
        begin: Begin,
        crc: u32,
        packed_bytes: u64,
        size_bytes: u64,
        at: usize,
        fresh: Option<Fresh>,
    },
    /// Left out.
    Skipped(Skipped),
}

/// What all threads of one write see.
pub(super) struct Shared {
    pub(super) control: Control,
    pub(super) pool: Pool,
    pub(super) level: u32,
    pub(super) recycler: Option<Recycler>,
    pub(super) manners: Manners,
    throttle: Option<Throttle>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Shared {
    pub(super) fn new(
        control: Control,
        level: u32,
        threads: usize,
        recycler: Option<Recycler>,
        manners: Manners,
    ) -> Self {
        // As many as can be in flight: one per job, and one more for each compression.
        let pool = Pool { buffers: Mutex::new(Vec::new()), most: window(threads) + threads };
        let throttle = Throttle::new(&manners);
        let (stopped, failure) = (AtomicBool::new(false), Mutex::new(None));
        Self { control, pool, level, recycler, manners, throttle, stopped, failure }
    }

    /// Keeps the first error and makes every thread stop at its next check.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.stopped.store(true, Ordering::Release);
    }

    /// The first error, once all threads have ended.
    pub(super) fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Counts what a thread has read, and lets it wait when that was too fast.
    pub(super) fn has_read(&self, bytes: usize) -> Result<()> {
        self.control.add_bytes(bytes as u64);
        match &self.throttle {
            Some(throttle) => throttle.wait(bytes as u64, || self.check()),
            None => Ok(()),
        }
    }

    /// Fails when the job was cancelled or another thread failed.
    pub(super) fn check(&self) -> Result<()> {
        self.control.check()?;
        if self.stopped.load(Ordering::Acquire) { Err(ended()) } else { Ok(()) }
    }

    /// The print of a piece that is large enough to be taken over.
    pub(super) fn print(&self, before: &[u8], data: &[u8], last: bool, crc: u32) -> Option<Print> {
        let recycler = self.recycler.as_ref().filter(|_| data.len() >= PIECE_BYTES_MIN)?;
        Some(recycler.print(before, data, last, crc))
    }

    /// See [`Recycler::take`].
    pub(super) fn take(
        &self,
        print: Option<Print>,
        size_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Option<Fresh> {
        self.recycler.as_ref()?.take(print?, size_bytes, out)
    }
}

/// The error of a thread whose neighbour is gone; the neighbour's own error came first.
pub(super) fn ended() -> Error {
    Error::internal("the archive pipeline ended early")
}

/// Buffers that go round between the threads, so that large ones are not mapped anew each time.
pub(super) struct Pool {
    buffers: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl Pool {
    /// A buffer of any length and content.
    pub(super) fn take(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut kept = lock(&self.buffers);
        // One that grew by an odd entry must not stay large.
        if kept.len() < self.most && buffer.capacity() <= 2 * BLOCK_BYTES {
            kept.push(buffer);
        }
    }
}

/// The data stays sound when a thread panics: every update is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
