//! Is what passes by a readable zip? Decided at its end, from its last bytes, while the stream
//! goes on to its place: nothing is read back and nothing is held but the tail.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::error::{Error, Kind, Result};

/// Bytes of the end that are kept: the directory of about 150,000 entries.
const TAIL_BYTES_MAX: u64 = 16 << 20;
/// The end record of a zip, and how far from the end it may begin (its comment's limit).
const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END_BYTES_MAX: u64 = 22 + 65_535;

/// Watches an archive pass by.
#[derive(Debug, Default)]
pub struct TailProbe {
    blocks: VecDeque<Bytes>,
    kept: u64,
    total: u64,
}

impl TailProbe {
    /// Takes the next bytes.
    pub fn push(&mut self, block: Bytes) {
        self.total += block.len() as u64;
        self.kept += block.len() as u64;
        self.blocks.push_back(block);
        while let Some(first) = self.blocks.front() {
            let without = self.kept - first.len() as u64;
            if without < TAIL_BYTES_MAX {
                break;
            }
            self.kept = without;
            self.blocks.pop_front();
        }
    }

    /// Judges what passed. A directory that is larger than the kept tail is judged by its end
    /// record alone.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when no zip reader could open it.
    pub fn finish(self) -> Result<()> {
        let mut tail = Vec::with_capacity(usize::try_from(self.kept).unwrap_or_default());
        for block in self.blocks {
            tail.extend_from_slice(&block);
        }
        let mut reader =
            TailReader { start: self.total - self.kept, tail, position: 0, missed: false };
        let opened = zip::ZipArchive::new(&mut reader).map(drop);
        match opened {
            Ok(()) => Ok(()),
            Err(_) if reader.missed && reader.has_end_record() => Ok(()),
            Err(error) => {
                Err(Error::new(Kind::Corrupt, "the archive is not a readable zip").because(error))
            }
        }
    }
}

/// The whole stream as far as its tail is known.
struct TailReader {
    start: u64,
    tail: Vec<u8>,
    position: u64,
    missed: bool,
}

impl TailReader {
    fn has_end_record(&self) -> bool {
        let from = self.tail.len().saturating_sub(usize::try_from(END_BYTES_MAX).unwrap_or(0));
        self.tail[from..].windows(END_SIGNATURE.len()).any(|window| window == END_SIGNATURE)
    }

    fn end(&self) -> u64 {
        self.start + self.tail.len() as u64
    }
}

impl Read for TailReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position < self.start {
            self.missed = true;
            return Err(io::Error::other("these bytes have passed"));
        }
        let at = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        let rest = self.tail.get(at..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for TailReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => i128::from(offset),
            SeekFrom::End(offset) => i128::from(self.end()) + i128::from(offset),
            SeekFrom::Current(offset) => i128::from(self.position) + i128::from(offset),
        };
        self.position = u64::try_from(target)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zip(entries: usize, padding: usize) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for n in 0..entries {
            writer.start_file(format!("{n}"), options).expect("started");
            writer.write_all(&vec![7; padding]).expect("written");
        }
        writer.finish().expect("finished").into_inner()
    }

    fn judge(bytes: &[u8]) -> bool {
        let mut probe = TailProbe::default();
        for block in bytes.chunks(100_000) {
            probe.push(Bytes::copy_from_slice(block));
        }
        probe.finish().is_ok()
    }

    #[test]
    fn zips_pass_and_everything_else_does_not() {
        let small = zip(1, 1);
        assert!(judge(&small) && judge(&zip(0, 0)) && judge(&zip(3, 12 << 20)));
        assert!(!judge(b"") && !judge(b"PK\x03\x04") && !judge(b"hello"));
        for cut in 1..small.len() {
            assert!(!judge(&small[..cut]), "cut to {cut} of {}", small.len());
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut probe = TailProbe::default();
        for _ in 0..100 {
            probe.push(Bytes::from(vec![0; 1 << 20]));
        }
        assert!(probe.kept <= TAIL_BYTES_MAX + (1 << 20));
    }
}
