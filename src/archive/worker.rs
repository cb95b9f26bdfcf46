//! A worker thread: reads small entries, checksums and compresses, makes local headers.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use crate::archive::Skipped;
use crate::archive::deflate::{Deflater, stored_block};
use crate::archive::feeder::{VANISHED, cut, fill};
use crate::archive::format::{DEFLATE, STORE};
use crate::archive::pipeline::{
    Begin, Block, Done, Job, Packed, Part, Parts, SMALL_BYTES_MAX, Shared, Work, ended,
};
use crate::archive::reuse::Fresh;
use crate::archive::sniff;
use crate::archive::tiny::{self, TINY_BYTES_MAX};
use crate::backup::{Entry, Item};
use crate::error::{Context, Error, Result};

/// A finished part is sent on once it has this many bytes.
const PART_BYTES: usize = 512 << 10;

/// Up to this level a tenth of a tiny entry's size is given for most of its time.
const TINY_LEVEL_MAX: u32 = 3;

/// One worker with its own compressor and buffer.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    deflater: Deflater,
    input: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        // One byte more than a small entry has: so that a longer one shows.
        Self { shared, deflater: Deflater::new(shared.level), input: vec![0; SMALL_BYTES_MAX + 1] }
    }

    /// Works until the queue ends or somebody fails.
    pub(super) fn run(mut self, jobs: &Mutex<Receiver<Job>>) {
        self.shared.manners.adopt();
        loop {
            // Its own statement: the lock must not be held while working.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            // After a failure or a panic the worker goes on taking jobs, each of which ends at
            // its first check: a job that nobody takes would make the writer wait for ever.
            match catch_unwind(AssertUnwindSafe(|| self.work(job))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.shared.fail(error),
                Err(_) => self.shared.fail(Error::internal("an archive worker panicked")),
            }
        }
    }

    fn work(&mut self, job: Job) -> Result<()> {
        self.shared.check()?;
        match job.work {
            Work::Block(block) => {
                let part = pack(block, self.shared, &mut self.deflater)?;
                job.parts.send(part).map_err(|_| ended())
            }
            Work::Batch(items) => self.batch(items, &job.parts),
        }
    }

    fn batch(&mut self, items: Vec<Item>, to: &SyncSender<Part>) -> Result<()> {
        let mut parts = self.parts();
        for item in items {
            self.shared.check()?;
            let path = item.entry.path.clone();
            let content = item.content.open().with_context(|| format!("cannot open {path}"))?;
            let Some(mut content) = content else {
                let reason = VANISHED.to_owned();
                parts.done.push(Done::Skipped(Skipped { path, reason }));
                continue;
            };
            let read = fill(&mut content, &mut self.input)
                .with_context(|| format!("cannot read {path}"))?;
            self.shared.has_read(read)?;
            if read > SMALL_BYTES_MAX {
                let next = self.parts();
                self.send(std::mem::replace(&mut parts, next), to)?;
                self.grown(item.entry, read, &mut content, to)?;
                continue;
            }
            self.small(item.entry, read, &mut parts)?;
            if parts.bytes.len() >= PART_BYTES {
                let next = self.parts();
                self.send(std::mem::replace(&mut parts, next), to)?;
            }
        }
        self.send(parts, to)
    }

    fn parts(&self) -> Parts {
        let mut bytes = self.shared.pool.take();
        bytes.clear();
        Parts { bytes, done: Vec::new() }
    }

    fn send(&self, parts: Parts, to: &SyncSender<Part>) -> Result<()> {
        to.send(Part::Entries(parts)).map_err(|_| ended())
    }

    /// Appends a whole entry of the first `read` bytes of the buffer.
    fn small(&mut self, entry: Entry, read: usize, parts: &mut Parts) -> Result<()> {
        let data = &self.input[..read];
        let out = &mut parts.bytes;
        let at = out.len();
        let mut begin = Begin::new(entry, STORE);
        // The header's length is known, its content only after compression.
        let from = at + begin.record(false).local_header_bytes();
        out.resize(from, 0);
        let crc = crc32fast::hash(data);
        let print = self.shared.print(&[], data, true, crc);
        let mut fresh = self.shared.take(print, read, out);
        if fresh.is_some() {
            begin.method = DEFLATE;
        } else if read <= TINY_BYTES_MAX && self.shared.level <= TINY_LEVEL_MAX {
            tiny::deflate(data, out);
            if sniff::is_worth_it(read, out.len() - from) {
                begin.method = DEFLATE;
            }
        } else if !data.is_empty() && !sniff::is_packed(data, true, &mut self.deflater)? {
            self.deflater.block(&[], data, true, out)?;
            if sniff::is_worth_it(read, out.len() - from) {
                begin.method = DEFLATE;
                fresh = print.map(|print| Fresh::new(print, &out[from..]));
            }
        }
        if begin.method == STORE {
            out.truncate(from);
            out.extend_from_slice(data);
        }
        let (packed_bytes, size_bytes) = ((out.len() - from) as u64, read as u64);
        let mut header = Vec::with_capacity(from - at);
        let mut record = begin.record(false);
        (record.crc, record.packed_bytes, record.size_bytes) = (crc, packed_bytes, size_bytes);
        record.local_header(&mut header);
        out[at..from].copy_from_slice(&header);
        parts.done.push(Done::Entry { begin, crc, packed_bytes, size_bytes, at, fresh });
        Ok(())
    }

    /// An entry listed as small that turned out large: its blocks are made here, one by one.
    fn grown(
        &mut self,
        entry: Entry,
        read: usize,
        content: &mut dyn Read,
        to: &SyncSender<Part>,
    ) -> Result<()> {
        let (shared, start) = (self.shared, &self.input[..read]);
        let mut packer = Deflater::new(shared.level);
        cut(entry, start, content, shared, &mut self.deflater, &mut |block| {
            to.send(pack(block, shared, &mut packer)?).map_err(|_| ended())
        })
    }
}

/// Checksums and compresses one block.
fn pack(block: Block, shared: &Shared, deflater: &mut Deflater) -> Result<Part> {
    let Block { begin, data, before, store, last } = block;
    let mut crc = Hasher::new();
    crc.update(&data);
    let size_bytes = data.len() as u64;
    if store {
        return Ok(Part::Block(Packed { begin, bytes: data, crc, size_bytes, last, fresh: None }));
    }
    let mut bytes = shared.pool.take();
    bytes.clear();
    let print = shared.print(&before, &data, last, crc.clone().finalize());
    let mut fresh = shared.take(print, data.len(), &mut bytes);
    if fresh.is_none() {
        // A database may hold pictures: parts that do not shrink are not worth the time.
        if begin.is_none() && sniff::is_packed(&data, false, deflater)? {
            stored_block(&data, last, &mut bytes);
        } else {
            deflater.block(&before, &data, last, &mut bytes)?;
            fresh = print.map(|print| Fresh::new(print, &bytes));
        }
    }
    shared.pool.give(data);
    Ok(Part::Block(Packed { begin, bytes, crc, size_bytes, last, fresh }))
}
