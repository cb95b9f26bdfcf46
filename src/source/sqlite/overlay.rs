//! The bytes of a pinned database: its file, with the frames of its log laid over it.

use std::io::{self, Read};

use super::Frames;
use super::raw::{Connection, Part};
use crate::error::{Error, Kind, Result};

/// Bytes read from the database file at once.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Bytes before the first frame of a log.
const WAL_HEADER_BYTES: u64 = 32;
/// Bytes before the page of a frame.
const FRAME_HEADER_BYTES: usize = 24;

/// A reader of a database as it was when it was pinned. Holds the pin until it is dropped.
///
/// Memory: one block, and eight bytes for each page that the log holds anew.
pub(super) struct Overlay {
    connection: Connection,
    page_size: usize,
    page_count: u32,
    /// Page number and its last frame, sorted by page.
    frames: Vec<(u32, u32)>,
    /// The next page to read, counted from 0.
    next_page: u32,
    /// Bytes that were read for callers with buffers smaller than a page.
    buffer: Vec<u8>,
    used: usize,
}

impl Overlay {
    /// Reads the headers of the frames that count.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: the log is not the one that the WAL-index describes.
    pub(super) fn open(
        connection: Connection,
        page_size: u32,
        page_count: u32,
        frames: Frames,
    ) -> Result<Self> {
        let page_size = page_size as usize;
        let frames = last_frames(&connection, page_size, page_count, frames)?;
        let (next_page, buffer, used) = (0, Vec::new(), 0);
        Ok(Self { connection, page_size, page_count, frames, next_page, buffer, used })
    }

    /// Fills `out`, a whole number of pages, from `next_page` on.
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let page_size = self.page_size;
        let first = self.next_page;
        let pages = u32::try_from(out.len() / page_size)
            .map_err(|_| Error::internal("a block of a database is too large"))?;
        self.connection.read_at(Part::Main, out, u64::from(first) * page_size as u64)?;
        // Pages are numbered from 1 in frames.
        let begin = self.frames.partition_point(|(page, _)| *page <= first);
        for (page, frame) in &self.frames[begin..] {
            let Some(index) = page.checked_sub(first + 1).filter(|index| *index < pages) else {
                break;
            };
            let start = index as usize * page_size;
            let offset = frame_offset(*frame, page_size) + FRAME_HEADER_BYTES as u64;
            self.connection.read_at(Part::Wal, &mut out[start..start + page_size], offset)?;
        }
        self.next_page += pages;
        Ok(())
    }

    fn pages_left(&self) -> usize {
        (self.page_count - self.next_page) as usize
    }
}

impl Read for Overlay {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            let pages = (out.len().min(BLOCK_BYTES) / self.page_size).min(self.pages_left());
            if pages > 0 {
                let bytes = pages * self.page_size;
                self.fill(&mut out[..bytes])?;
                return Ok(bytes);
            }
            let pages = (BLOCK_BYTES / self.page_size).min(self.pages_left());
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(pages * self.page_size, 0);
            self.used = 0;
            if pages > 0 {
                self.fill(&mut buffer)?;
            }
            self.buffer = buffer;
        }
        let bytes = out.len().min(self.buffer.len() - self.used);
        out[..bytes].copy_from_slice(&self.buffer[self.used..self.used + bytes]);
        self.used += bytes;
        Ok(bytes)
    }
}

/// The last frame of each page among the frames that count, sorted by page.
fn last_frames(
    connection: &Connection,
    page_size: usize,
    page_count: u32,
    frames: Frames,
) -> Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    let mut header = [0; FRAME_HEADER_BYTES];
    for frame in frames.backfilled.saturating_add(1)..=frames.last {
        connection.read_at(Part::Wal, &mut header, frame_offset(frame, page_size))?;
        if header[8..16] != frames.salts {
            return Err(Error::new(Kind::Corrupt, "a frame of the log has foreign salts")
                .hint("something other than SQLite changed the -wal or -shm file"));
        }
        let [a, b, c, d, ..] = header;
        let page = u32::from_be_bytes([a, b, c, d]);
        // A page behind the end was cut off by a later commit of the same moment.
        if (1..=page_count).contains(&page) {
            found.push((page, frame));
        }
    }
    found.sort_unstable();
    // Of equal pages the last frame is the last in order: keep that one.
    found.reverse();
    found.dedup_by_key(|(page, _)| *page);
    found.reverse();
    found.shrink_to_fit();
    Ok(found)
}

/// Where a frame begins; frames are numbered from 1.
fn frame_offset(frame: u32, page_size: usize) -> u64 {
    let frame_bytes = (page_size + FRAME_HEADER_BYTES) as u64;
    WAL_HEADER_BYTES + u64::from(frame - 1) * frame_bytes
}
