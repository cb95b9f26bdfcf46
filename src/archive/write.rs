//! Writing: the public entry point, and the one thread that writes parts in their order.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::archive::Skipped;
use crate::archive::deflate;
use crate::archive::directory::Directory;
use crate::archive::feeder::Feeder;
use crate::archive::format::Record;
use crate::archive::ledger::{Ledger, Of};
use crate::archive::manners::Manners;
use crate::archive::parallel::default_threads;
use crate::archive::pipeline::{Begin, Done, Packed, Part, Parts, Shared, window};
use crate::archive::reuse::{Fresh, Recycler, Reuse};
use crate::archive::worker::Worker;
use crate::backup::Items;
use crate::control::Control;
use crate::error::{Context, Error, Result};

/// How an archive is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Threads that read and compress; `None` is one per core, 12 at most either way.
    pub threads: Option<NonZeroUsize>,
    /// Deflate level 1 (fastest) to 9 (smallest); `None` is 2, the best trade.
    pub level: Option<u32>,
    /// A folder for an unnamed file that takes the central directory once it outgrows 16 MiB
    /// (about 130,000 entries); `None` keeps it in memory.
    pub spill: Option<PathBuf>,
    /// Whether compressed pieces are taken over from an archive before.
    pub reuse: Reuse,
    /// How much of the machine it may take.
    pub manners: Manners,
}

/// Level 2 of zlib-rs beats Go's level 1 in speed and size; its level 1 is larger than Go's.
const LEVEL_DEFAULT: u32 = 2;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes read from the entries.
    pub bytes_in: u64,
    /// Bytes of the archive.
    pub bytes_out: u64,
    /// What was left out, in the order of the items.
    pub skipped: Vec<Skipped>,
    /// Bytes of the entries that were not compressed, because the archive before had them.
    pub reused_bytes: u64,
    /// Pieces of the archive before that were found damaged, and made anew.
    pub spoiled_pieces: u64,
    /// What the next archive needs to take pieces over; with [`Reuse::Off`] nothing.
    pub ledger: Option<Ledger>,
}

/// Writes `items` as a zip to `sink`, which is never seeked, and flushes it.
///
/// Entries stand in the archive in the order of the items. An entry holds what was read when
/// its turn came, whatever its listed size said. Vanished entries and those whose name no zip
/// can hold are left out and listed. Memory stays below 64 MiB.
///
/// # Errors
/// [`Control::check`]'s when the job was cancelled; the first error of the items, their
/// contents or the sink; two entries of one name. What the sink got then is no archive.
pub fn write(
    items: &mut dyn Items,
    sink: impl Write,
    options: &WriteOptions,
    control: &Control,
) -> Result<Summary> {
    let threads = default_threads(options.threads);
    let level = options.level.unwrap_or(LEVEL_DEFAULT);
    let (recycler, ledger) = Recycler::new(&options.reuse, deflate::label(level)).unzip();
    let shared = Shared::new(control.clone(), level, threads, recycler, options.manners);
    let (order_in, order) = mpsc::sync_channel(window(threads));
    let (jobs_in, jobs) = mpsc::sync_channel(window(threads));
    let jobs = std::sync::Mutex::new(jobs);
    let directory = Directory::new(options.spill.as_deref());
    let mut writer = Writer {
        sink,
        directory,
        open: None,
        offset: 0,
        scratch: Vec::new(),
        shared: &shared,
        summary: Summary { ledger, ..Summary::default() },
    };
    thread::scope(|scope| {
        let feeder = scope.spawn(|| Feeder::new(&shared, jobs_in, order_in).run(items));
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| Worker::new(&shared).run(&jobs))).collect();
        writer.drain(order);
        // `drain` dropped the receiving end, which ends the feeder and through it the workers.
        for thread in workers.into_iter().chain([feeder]) {
            if thread.join().is_err() {
                shared.fail(Error::internal("a thread of the archive pipeline panicked"));
            }
        }
    });
    shared.failure().map_or(Ok(()), Err)?;
    writer.finish()
}

/// A streamed entry whose end has not come yet.
struct Open {
    begin: Begin,
    offset: u64,
    crc: crc32fast::Hasher,
    packed_bytes: u64,
    size_bytes: u64,
}

struct Writer<'a, W> {
    sink: W,
    directory: Directory,
    open: Option<Open>,
    offset: u64,
    scratch: Vec<u8>,
    shared: &'a Shared,
    summary: Summary,
}

impl<W: Write> Writer<'_, W> {
    /// Takes every part of every job in order, until the end or the first failure.
    fn drain(&mut self, order: Receiver<Receiver<Part>>) {
        for job in order {
            if let Err(error) = self.job(job) {
                self.shared.fail(error);
                return;
            }
        }
    }

    fn job(&mut self, parts: Receiver<Part>) -> Result<()> {
        for part in parts {
            self.shared.check()?;
            match part {
                Part::Entries(entries) => self.entries(entries)?,
                Part::Block(block) => self.block(block)?,
            }
        }
        self.shared.check()
    }

    fn entries(&mut self, parts: Parts) -> Result<()> {
        let Parts { bytes, done } = parts;
        for done in done {
            match done {
                Done::Skipped(skipped) => self.summary.skipped.push(skipped),
                Done::Entry { begin, crc, packed_bytes, size_bytes, at, fresh } => {
                    let record = Record {
                        crc,
                        packed_bytes,
                        size_bytes,
                        offset: self.offset + at as u64,
                        ..begin.record(false)
                    };
                    let data_at = record.offset + record.local_header_bytes() as u64;
                    self.directory.add(&record)?;
                    self.note(fresh, data_at, packed_bytes, Of::Entry);
                    self.shared.control.add_entries(1);
                    self.summary.bytes_in += size_bytes;
                }
            }
        }
        self.put(&bytes)?;
        self.shared.pool.give(bytes);
        Ok(())
    }

    fn begin(&mut self, begin: Begin) -> Result<()> {
        let mut header = std::mem::take(&mut self.scratch);
        header.clear();
        begin.record(true).local_header(&mut header);
        let offset = self.offset;
        self.put(&header)?;
        self.scratch = header;
        let crc = crc32fast::Hasher::new();
        self.open = Some(Open { begin, offset, crc, packed_bytes: 0, size_bytes: 0 });
        Ok(())
    }

    /// Adds a piece to the ledger.
    fn note(&mut self, fresh: Option<Fresh>, offset: u64, packed_bytes: u64, of: Of) {
        let piece = fresh.and_then(|fresh| fresh.at(offset, packed_bytes));
        if let (Some(ledger), Some(piece)) = (&mut self.summary.ledger, piece) {
            ledger.add(piece, of);
        }
    }

    fn block(&mut self, block: Packed) -> Result<()> {
        let Packed { begin, bytes, crc, size_bytes, last, fresh } = block;
        if let Some(begin) = begin {
            self.begin(*begin)?;
        }
        self.note(fresh, self.offset, bytes.len() as u64, Of::Block);
        let Some(mut open) = self.open.take() else {
            return Err(Error::internal("a block came without its entry"));
        };
        self.put(&bytes)?;
        open.packed_bytes += bytes.len() as u64;
        open.size_bytes += size_bytes;
        open.crc.combine(&crc);
        self.shared.pool.give(bytes);
        if !last {
            self.open = Some(open);
            return Ok(());
        }
        let record = Record {
            crc: open.crc.finalize(),
            packed_bytes: open.packed_bytes,
            size_bytes: open.size_bytes,
            offset: open.offset,
            ..open.begin.record(true)
        };
        let mut descriptor = std::mem::take(&mut self.scratch);
        descriptor.clear();
        record.descriptor(&mut descriptor);
        self.put(&descriptor)?;
        self.scratch = descriptor;
        self.directory.add(&record)?;
        self.shared.control.add_entries(1);
        self.summary.bytes_in += record.size_bytes;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).context("cannot write the archive")?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        if self.open.is_some() {
            return Err(Error::internal("the last entry has no end"));
        }
        self.summary.entries = self.directory.entries();
        if let Some(ledger) = &mut self.summary.ledger {
            ledger.sort();
        }
        if let Some(recycler) = &self.shared.recycler {
            self.summary.reused_bytes = recycler.reused_bytes();
            self.summary.spoiled_pieces = recycler.spoiled();
        }
        self.summary.bytes_out = self.directory.finish(self.offset, &mut self.sink)?;
        Ok(self.summary)
    }
}
