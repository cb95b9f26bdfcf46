//! A part of a local file as a stream: large blocks, read by position on blocking threads,
//! a few of them ahead of the socket. A file that turns out shorter is an error, so that the
//! connection breaks instead of ending cleanly.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::range::ByteRange;
use crate::error::{Context as _, Error, Result};

/// Bytes per read: measured, smaller ones cost throughput and processor time.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes per read while many streams run, to bound the memory.
const BLOCK_BYTES_CROWDED: usize = 256 << 10;
/// Above this many streams it is crowded.
const STREAMS_ROOMY_MAX: usize = 8;
/// Reads in flight or waiting for the socket, per stream.
const BLOCKS_AHEAD: usize = 2;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// The stream; must be polled within a tokio runtime.
#[derive(Debug)]
pub struct FileBlocks {
    file: Arc<File>,
    next: u64,
    end: u64,
    reads: VecDeque<JoinHandle<Result<Bytes>>>,
    failed: bool,
}

impl FileBlocks {
    /// Streams one range of a file.
    pub fn new(file: Arc<File>, range: ByteRange) -> Self {
        STREAMS.fetch_add(1, Ordering::Relaxed);
        let end = range.start.saturating_add(range.len);
        Self { file, next: range.start, end, reads: VecDeque::new(), failed: false }
    }

    fn read_ahead(&mut self) {
        let crowded = STREAMS.load(Ordering::Relaxed) > STREAMS_ROOMY_MAX;
        let block = if crowded { BLOCK_BYTES_CROWDED } else { BLOCK_BYTES };
        while self.reads.len() < BLOCKS_AHEAD && self.next < self.end {
            let len = usize::try_from(self.end - self.next).unwrap_or(block).min(block);
            let (file, offset) = (self.file.clone(), self.next);
            self.reads.push_back(spawn_blocking(move || read_at(&file, offset, len)));
            self.next += len as u64;
        }
    }
}

impl Stream for FileBlocks {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        this.read_ahead();
        let Some(read) = this.reads.front_mut() else { return Poll::Ready(None) };
        let block = ready!(Pin::new(read).poll(cx));
        this.reads.pop_front();
        let block =
            block.unwrap_or_else(|lost| Err(Error::internal("a read was lost").because(lost)));
        this.failed = block.is_err();
        this.read_ahead();
        Poll::Ready(Some(block))
    }
}

impl Drop for FileBlocks {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read_at(file: &File, offset: u64, len: usize) -> Result<Bytes> {
    let mut block = Vec::with_capacity(len);
    while block.len() < len {
        let at = offset + block.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut block), at) {
            Ok(0) => {
                let short = io::Error::from(ErrorKind::UnexpectedEof);
                return Err(short).context("the file became shorter while it was read");
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno)).context("cannot read the file"),
        }
    }
    // The allocator may have given more room than asked for, and the read may have used it.
    block.truncate(len);
    Ok(Bytes::from(block))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn collect(file: File, start: u64, len: u64) -> Result<Vec<u8>> {
        let blocks = FileBlocks::new(Arc::new(file), ByteRange { start, len });
        let mut all = Vec::new();
        for block in blocks.collect::<Vec<_>>().await {
            all.extend_from_slice(&block?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn ranges_come_out_whole_and_a_short_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let content: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).expect("written");
        let open = || File::open(&path).expect("open");
        let len = content.len() as u64;
        for (start, count) in [(0, len), (1, len - 1), (5, 10), (BLOCK_BYTES as u64 - 1, 2), (9, 0)]
        {
            let found = collect(open(), start, count).await.expect("read");
            let expected = &content[usize::try_from(start).expect("fits")..][..found.len()];
            assert!(found.len() as u64 == count && found == expected, "{start} {count}");
        }
        assert!(collect(open(), 0, len + 1).await.is_err());
    }
}
