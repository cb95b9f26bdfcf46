//! Reading one entry: unpacks, and lets the end be reached only when size and checksum are as
//! the directory claims.

use std::io::{self, Read};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};
use rawzip::{FileReader, ZipArchive, ZipReader};

use crate::archive::reader::is_outside;
use crate::archive::stored::{Method, StoredEntry};
use crate::error::{Error, Result};

/// Packed bytes read at a time.
const INPUT_BYTES: usize = 128 << 10;

/// What is costly to make anew for each entry.
#[derive(Debug)]
pub(super) struct Gear {
    inflate: Decompress,
    input: Vec<u8>,
}

impl Default for Gear {
    fn default() -> Self {
        Self { inflate: Decompress::new(false), input: Vec::new() }
    }
}

/// The unpacked bytes of one entry.
#[derive(Debug)]
pub struct EntryReader<'a> {
    entry: &'a StoredEntry,
    packed: ZipReader<&'a FileReader>,
    gear: Gear,
    /// The part of the input buffer that is still to be unpacked.
    from: usize,
    to: usize,
    crc: Hasher,
    size_bytes: u64,
    ended: bool,
}

impl<'a> EntryReader<'a> {
    pub(super) fn new(
        archive: &'a ZipArchive<FileReader>,
        entry: &'a StoredEntry,
        mut gear: Gear,
    ) -> Result<Self> {
        if let Method::Other(method) = entry.method() {
            return Err(entry.corrupt(format_args!("unsupported compression method {method}")));
        }
        let packed = archive
            .get_entry(entry.place())
            .map_err(|error| read_error(entry, "its local header is damaged", error))?
            .reader();
        gear.inflate.reset(false);
        gear.input.resize(INPUT_BYTES, 0);
        let crc = Hasher::new();
        Ok(Self { entry, packed, gear, from: 0, to: 0, crc, size_bytes: 0, ended: false })
    }

    pub(super) fn into_gear(self) -> Gear {
        self.gear
    }

    /// The next unpacked bytes; 0 at the end, which is reached only when all is as claimed.
    pub(super) fn next(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let n = match self.entry.method() {
            Method::Store => self.packed_bytes(out)?,
            _ => self.inflate(out)?,
        };
        self.crc.update(&out[..n]);
        self.size_bytes += n as u64;
        if self.size_bytes > self.entry.size_bytes() {
            return Err(self.entry.damaged("it is longer than it claims"));
        }
        if n == 0 {
            self.check_end()?;
        }
        Ok(n)
    }

    fn check_end(&mut self) -> Result<()> {
        if self.size_bytes < self.entry.size_bytes() {
            return Err(self.entry.damaged("it is shorter than it claims"));
        }
        if std::mem::take(&mut self.crc).finalize() != self.entry.crc32() {
            return Err(self.entry.damaged("checksum error"));
        }
        self.ended = true;
        Ok(())
    }

    fn packed_bytes(&mut self, out: &mut [u8]) -> Result<usize> {
        self.packed.read(out).map_err(|error| io_error(self.entry, error))
    }

    fn inflate(&mut self, out: &mut [u8]) -> Result<usize> {
        loop {
            if self.from == self.to {
                self.from = 0;
                self.to = self
                    .packed
                    .read(&mut self.gear.input)
                    .map_err(|error| io_error(self.entry, error))?;
            }
            let (in_before, out_before) =
                (self.gear.inflate.total_in(), self.gear.inflate.total_out());
            let status = self
                .gear
                .inflate
                .decompress(&self.gear.input[self.from..self.to], out, FlushDecompress::None)
                .map_err(|error| self.entry.damaged("corrupt Deflate data").because(error))?;
            let consumed = (self.gear.inflate.total_in() - in_before) as usize;
            let made = (self.gear.inflate.total_out() - out_before) as usize;
            self.from += consumed;
            if made > 0 || status == Status::StreamEnd {
                return Ok(made);
            }
            if self.from == self.to && self.to == 0 {
                return Err(self.entry.damaged("its Deflate data ends too early"));
            }
            if consumed == 0 && self.from < self.to {
                return Err(self.entry.damaged("corrupt Deflate data"));
            }
        }
    }
}

impl Read for EntryReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.next(out).map_err(io::Error::from)
    }
}

fn io_error(entry: &StoredEntry, error: io::Error) -> Error {
    if is_outside(&error) {
        return entry.corrupt("its data lies outside the file");
    }
    let name = String::from_utf8_lossy(entry.name()).into_owned();
    Error::internal(format!("cannot read archive entry {name:?}")).because(error)
}

fn read_error(entry: &StoredEntry, reason: &str, error: rawzip::Error) -> Error {
    match error.into_kind() {
        rawzip::ErrorKind::IO(io) => io_error(entry, io),
        _ => entry.corrupt(reason),
    }
}
