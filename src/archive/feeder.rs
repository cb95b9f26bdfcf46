//! The thread that pulls items and cuts them into jobs, and how a large entry becomes blocks.

use std::io::Read;
use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::archive::Skipped;
use crate::archive::deflate::{Deflater, WINDOW_BYTES};
use crate::archive::format::{DEFLATE, NAME_BYTES_MAX, STORE};
use crate::archive::pipeline::{
    BATCH_ENTRIES_MAX, BLOCK_BYTES, Begin, Block, Done, Job, Part, Parts, SMALL_BYTES_MAX, Shared,
    Work, ended,
};
use crate::archive::sniff;
use crate::backup::{Entry, EntryPath, Item, Items};
use crate::error::{Context, Result};

/// Pulls items; small ones travel in batches, large ones are read here.
pub(super) struct Feeder<'a> {
    shared: &'a Shared,
    jobs: SyncSender<Job>,
    order: SyncSender<Receiver<Part>>,
    batch: Vec<Item>,
    batch_bytes: u64,
}

impl<'a> Feeder<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        jobs: SyncSender<Job>,
        order: SyncSender<Receiver<Part>>,
    ) -> Self {
        Self { shared, jobs, order, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Feeds until the items end or somebody fails.
    pub(super) fn run(mut self, items: &mut dyn Items) {
        self.shared.manners.adopt();
        if let Err(error) = self.feed(items) {
            self.shared.fail(error);
        }
    }

    fn feed(&mut self, items: &mut dyn Items) -> Result<()> {
        // Only for trials: the blocks themselves are compressed by the workers.
        let mut deflater = Deflater::new(self.shared.level);
        while let Some(item) = items.next()? {
            self.shared.check()?;
            if item.entry.path.as_bytes().len() > NAME_BYTES_MAX {
                self.flush()?;
                let reason = format!("the name is longer than {NAME_BYTES_MAX} bytes");
                self.skip(item.entry.path, reason)?;
            } else if item.entry.size_bytes > SMALL_BYTES_MAX as u64 {
                self.flush()?;
                self.large(item, &mut deflater)?;
            } else {
                self.small(item)?;
            }
        }
        self.flush()
    }

    fn small(&mut self, item: Item) -> Result<()> {
        self.batch_bytes += item.entry.size_bytes;
        self.batch.push(item);
        let full =
            self.batch.len() >= BATCH_ENTRIES_MAX || self.batch_bytes >= SMALL_BYTES_MAX as u64;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.send(Work::Batch(batch))
    }

    fn large(&self, item: Item, deflater: &mut Deflater) -> Result<()> {
        let path = item.entry.path.clone();
        let Some(mut content) =
            item.content.open().with_context(|| format!("cannot open {path}"))?
        else {
            return self.skip(path, VANISHED.to_owned());
        };
        cut(item.entry, &[], &mut content, self.shared, deflater, &mut |block| {
            self.send(Work::Block(block))
        })
    }

    fn skip(&self, path: EntryPath, reason: String) -> Result<()> {
        let (parts, receiver) = mpsc::sync_channel(1);
        self.order.send(receiver).map_err(|_| ended())?;
        let done = vec![Done::Skipped(Skipped { path, reason })];
        parts.send(Part::Entries(Parts { done, bytes: Vec::new() })).map_err(|_| ended())
    }

    fn send(&self, work: Work) -> Result<()> {
        let (parts, receiver) = mpsc::sync_channel(1);
        self.order.send(receiver).map_err(|_| ended())?;
        self.jobs.send(Job { work, parts }).map_err(|_| ended())
    }
}

/// Why an entry is missing that was there when it was listed.
pub(super) const VANISHED: &str = "it vanished before it could be read";

/// Cuts an entry into blocks, of which `start` was read already. The first block decides how
/// all of them are written.
pub(super) fn cut(
    entry: Entry,
    start: &[u8],
    content: &mut dyn Read,
    shared: &Shared,
    deflater: &mut Deflater,
    emit: &mut dyn FnMut(Block) -> Result<()>,
) -> Result<()> {
    let path = entry.path.clone();
    let mut entry = Some(entry);
    let mut store = false;
    let mut before = Vec::new();
    loop {
        shared.check()?;
        let mut data = shared.pool.take();
        let had = if entry.is_some() { start } else { &[] };
        data.resize(BLOCK_BYTES, 0);
        data[..had.len()].copy_from_slice(had);
        let read =
            fill(content, &mut data[had.len()..]).with_context(|| format!("cannot read {path}"))?;
        shared.has_read(read)?;
        data.truncate(had.len() + read);
        let last = data.len() < BLOCK_BYTES;
        let begin = match entry.take() {
            None => None,
            Some(entry) => {
                store = data.is_empty() || sniff::is_packed(&data, true, deflater)?;
                let method = if store { STORE } else { DEFLATE };
                Some(Box::new(Begin::new(entry, method)))
            }
        };
        let tail = data[data.len().saturating_sub(WINDOW_BYTES)..].to_vec();
        let before = std::mem::replace(&mut before, tail);
        emit(Block { begin, data, before, store, last })?;
        if last {
            return Ok(());
        }
    }
}

/// Reads until `buffer` is full or the content ends; how much came.
pub(super) fn fill(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
