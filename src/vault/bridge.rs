//! From whoever makes bytes to a stream that is stored: bounded, and honest about its end.
//!
//! A sender that is dropped before [`BlockSender::finish`] ends the stream with an error, so a
//! source that failed or a client that left is never stored as a short archive.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::storage::ByteStream;

/// Bytes per block on the way to the storage.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that may wait; with the one being filled this bounds the memory.
const BLOCKS_WAITING: usize = 4;

/// The sending end.
#[derive(Debug)]
pub struct BlockSender {
    sender: mpsc::Sender<Result<Bytes>>,
    finished: Arc<AtomicBool>,
}

/// A sender and the stream of what it sends.
pub fn channel() -> (BlockSender, ByteStream) {
    let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
    let finished = Arc::new(AtomicBool::new(false));
    let state = Some((receiver, finished.clone()));
    let stream = futures_util::stream::unfold(state, |state| async move {
        let (mut receiver, finished) = state?;
        match receiver.recv().await {
            Some(block) => Some((block, Some((receiver, finished)))),
            None if finished.load(Ordering::Acquire) => None,
            None => Some((Err(Error::internal("the archive was broken off")), None)),
        }
    });
    (BlockSender { sender, finished }, stream.boxed())
}

impl BlockSender {
    /// Sends a block; whether anybody still takes it.
    pub async fn send(&self, block: Bytes) -> bool {
        self.sender.send(Ok(block)).await.is_ok()
    }

    /// Ends the stream cleanly.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Ends the stream with `error`, from a blocking thread.
    fn fail(self, error: Error) {
        // Nobody listens: then nobody stores it either.
        let _ = self.sender.blocking_send(Err(error));
    }
}

/// The sending end for a blocking thread that writes.
#[derive(Debug)]
pub(super) struct BlockWriter {
    sender: BlockSender,
    block: BytesMut,
}

/// A writer and the stream of what it writes.
pub(super) fn pipe() -> (BlockWriter, ByteStream) {
    let (sender, stream) = channel();
    (BlockWriter { sender, block: BytesMut::with_capacity(BLOCK_BYTES) }, stream)
}

impl BlockWriter {
    /// Sends what is left and ends the stream cleanly. A reader that is gone has an error of
    /// its own, and that one is reported.
    pub(super) fn finish(mut self) {
        if self.send_block().is_ok() {
            self.sender.finish();
        }
    }

    /// Ends the stream with `error`.
    pub(super) fn fail(self, error: Error) {
        self.sender.fail(error);
    }

    fn send_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, BytesMut::with_capacity(BLOCK_BYTES));
        self.sender
            .sender
            .blocking_send(Ok(block.freeze()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the storage stopped reading"))
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_BYTES {
            self.send_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn collect(stream: ByteStream) -> Result<usize> {
        let blocks: Vec<Bytes> = stream.try_collect().await?;
        Ok(blocks.iter().map(Bytes::len).sum())
    }

    #[tokio::test]
    async fn everything_written_arrives() {
        let (mut writer, stream) = pipe();
        let thread = std::thread::spawn(move || {
            writer.write_all(&vec![7; 3 * BLOCK_BYTES + 5]).expect("written");
            writer.finish();
        });
        assert_eq!(collect(stream).await.expect("a clean end"), 3 * BLOCK_BYTES + 5);
        thread.join().expect("joined");
    }

    #[tokio::test]
    async fn a_writer_that_leaves_is_an_error_and_not_an_end() {
        let (mut writer, stream) = pipe();
        let thread = std::thread::spawn(move || {
            writer.write_all(&vec![7; BLOCKS_WAITING * BLOCK_BYTES + 1]).expect("written");
        });
        thread.join().expect("joined");
        assert!(collect(stream).await.is_err());
    }

    #[tokio::test]
    async fn a_reader_that_leaves_stops_the_writer() {
        let (mut writer, stream) = pipe();
        drop(stream);
        let thread = std::thread::spawn(move || writer.write_all(&vec![7; 9 * BLOCK_BYTES]));
        assert!(thread.join().expect("joined").is_err());
    }
}
