//! Large files written past the page cache: large aligned blocks straight to the disk, where
//! the file system can do that, and ordinary writes where it cannot.
//!
//! An archive is written once and seldom read soon. Through the page cache it costs a copy, the
//! cache of the application, and a long wait at its fsync; straight to the disk it costs a
//! quarter of the processor time and none of the cache.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Bytes per write; a multiple of every block size.
const BLOCK_BYTES: usize = 2 << 20;
/// What direct writes must be aligned to, in memory and in the file.
const ALIGNMENT: usize = 4096;

/// A writer of a new file from its beginning. Call [`DirectWriter::finish`], or the end of the
/// file is missing.
#[derive(Debug)]
pub struct DirectWriter<'a> {
    file: &'a mut File,
    direct: bool,
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl<'a> DirectWriter<'a> {
    /// Takes an empty file, positioned at its beginning.
    pub fn new(file: &'a mut File) -> Self {
        // The memory is only taken when the first block is begun.
        Self { direct: true, file, memory: Vec::new(), start: 0, filled: 0 }
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> io::Result<()> {
        // The last block has any length: only ordinary writes take it.
        set_direct(self.file, false)?;
        let end = self.start + self.filled;
        self.file.write_all(&self.memory[self.start..end])?;
        self.filled = 0;
        Ok(())
    }

    fn take_memory(&mut self) {
        self.memory = vec![0; BLOCK_BYTES + ALIGNMENT];
        self.start = self.memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    }

    fn write_block(&mut self) -> io::Result<()> {
        let block = self.start..self.start + BLOCK_BYTES;
        if self.direct {
            match set_direct(self.file, true)
                .and_then(|()| self.file.write(&self.memory[block.clone()]))
            {
                Ok(BLOCK_BYTES) => {
                    self.filled = 0;
                    return Ok(());
                }
                Ok(written) => {
                    // A short write leaves the file at an odd place: go on without.
                    self.give_up_direct()?;
                    self.file.write_all(&self.memory[block][written..])?;
                    self.filled = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    return self.write_block();
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.give_up_direct()?;
                }
                Err(error) => return Err(error),
            }
        }
        self.file.write_all(&self.memory[block])?;
        self.filled = 0;
        Ok(())
    }

    fn give_up_direct(&mut self) -> io::Result<()> {
        self.direct = false;
        set_direct(self.file, false)
    }
}

impl Write for DirectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.memory.is_empty() {
            self.take_memory();
        }
        let taken = bytes.len().min(BLOCK_BYTES - self.filled);
        let from = self.start + self.filled;
        self.memory[from..from + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Switches direct writes on or off; file systems without them refuse to switch them on.
fn set_direct(file: &File, on: bool) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    let wanted = if on { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
    if wanted != flags {
        fcntl_setfl(file, wanted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use super::*;

    fn round_trip(folder: &Path, length: usize) {
        let path = folder.join("file");
        let mut file = File::create(&path).expect("created");
        let bytes: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
        let mut writer = DirectWriter::new(&mut file);
        for chunk in bytes.chunks(700_001) {
            writer.write_all(chunk).expect("written");
        }
        writer.finish().expect("finished");
        file.sync_all().expect("synced");
        let mut read = Vec::new();
        File::open(&path).expect("opened").read_to_end(&mut read).expect("read");
        assert!(read == bytes, "{length} bytes in {}", folder.display());
    }

    #[test]
    fn what_is_written_is_read_back_on_disks_and_in_memory() {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let mut folders = vec![disk.path().to_owned()];
        let memory = tempfile::tempdir_in("/dev/shm").ok();
        folders.extend(memory.as_ref().map(|dir| dir.path().to_owned()));
        for folder in folders {
            for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7]
            {
                round_trip(&folder, length);
            }
        }
    }
}
