//! Taking compressed pieces over from the archive before, instead of compressing them again.
//!
//! Every file is read and checksummed all the same. A piece is taken over only when the bytes
//! in hand have the hash and the CRC-32 of those it was made of, and only
//! when its packed bytes still have the checksum they had when the compressor made them:
//! damage on the disk is never handed down.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use xxhash_rust::xxh3::Xxh3;

use crate::archive::ledger::{Ledger, Piece, Print};
use crate::backup::Key;
use crate::error::Result;

/// Smaller pieces are compressed sooner than they are found and read.
pub(super) const PIECE_BYTES_MIN: usize = 8 << 10;
/// After so many archives everything is compressed anew, once: whatever went wrong unseen
/// (memory, a compressor's fault) does not live longer than that.
const GENERATIONS_MAX: u32 = 30;

/// Whether an archive takes pieces over, and hands its own down.
#[derive(Debug, Clone, Default)]
pub enum Reuse {
    /// Neither.
    #[default]
    Off,
    /// It has none before it, and hands its own down.
    First,
    /// From this one, and hands its own down.
    From(Arc<Previous>),
}

/// An archive whose pieces can be taken over.
#[derive(Debug)]
pub struct Previous {
    file: File,
    key: Key,
    ledger: Ledger,
}

impl Previous {
    /// Reads the ledger in the file `at` and opens its archive, which lies where `locate` says.
    /// `None`: there is no ledger, or its archive was removed, replaced or changed, or too many
    /// archives have handed pieces down by now.
    ///
    /// # Errors
    /// The ledger is damaged or cannot be read; it can be done without.
    pub fn open(
        at: &Path,
        locate: impl FnOnce(&Key) -> Option<PathBuf>,
    ) -> Result<Option<Arc<Self>>> {
        if !at.exists() {
            return Ok(None);
        }
        let read = Ledger::read(at, locate)?;
        let young = read.filter(|(ledger, ..)| ledger.generation < GENERATIONS_MAX);
        Ok(young.map(|(ledger, key, file)| Arc::new(Self { file, key, ledger })))
    }

    /// The backup it is.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// What the workers of one write share.
#[derive(Debug)]
pub(super) struct Recycler {
    seed: u64,
    previous: Option<Arc<Previous>>,
    /// Bytes before compression whose pieces were taken over.
    reused_bytes: AtomicU64,
    /// Pieces that were not as they had been written.
    spoiled: AtomicU64,
}

/// A piece that was made or taken over, before its place is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) print: Print,
    pub(super) packed_crc: u32,
}

impl Recycler {
    /// For an archive compressed by `label`, and the ledger that it begins.
    pub(super) fn new(reuse: &Reuse, label: u32) -> Option<(Self, Ledger)> {
        let previous = match reuse {
            Reuse::Off => return None,
            Reuse::First => None,
            Reuse::From(previous) => Some(previous).filter(|old| old.ledger.label == label),
        };
        let (seed, generation) = match previous {
            None => (rand::rng().random(), 0),
            Some(previous) => (previous.ledger.seed, previous.ledger.generation + 1),
        };
        let recycler = Self {
            seed,
            previous: previous.cloned(),
            reused_bytes: AtomicU64::new(0),
            spoiled: AtomicU64::new(0),
        };
        Some((recycler, Ledger::new(seed, label, generation)))
    }

    /// The print of a piece: all that its packed form depends on.
    pub(super) fn print(&self, before: &[u8], data: &[u8], last: bool, crc: u32) -> Print {
        let mut hash = Xxh3::with_seed(self.seed);
        hash.update(data);
        hash.update(before);
        hash.update(&[u8::from(last)]);
        hash.update(&(data.len() as u64).to_le_bytes());
        let hash = hash.digest128();
        Print { hash: [hash as u32, (hash >> 32) as u32, (hash >> 64) as u32], crc }
    }

    /// Appends the packed form of a piece of `size_bytes` to `out` if the archive before holds
    /// it, sound.
    pub(super) fn take(&self, print: Print, size_bytes: usize, out: &mut Vec<u8>) -> Option<Fresh> {
        let previous = self.previous.as_deref()?;
        let piece = previous.ledger.find(&print)?;
        let from = out.len();
        // Packed data is never much longer: a longer claim is none of ours.
        if piece.packed_bytes as usize > size_bytes + size_bytes / 8 + 1024 {
            return None;
        }
        out.resize(from + piece.packed_bytes as usize, 0);
        let read = previous.file.read_exact_at(&mut out[from..], piece.offset);
        if read.is_err() || crc32fast::hash(&out[from..]) != piece.packed_crc {
            self.spoiled.fetch_add(1, Ordering::Relaxed);
            out.truncate(from);
            return None;
        }
        self.reused_bytes.fetch_add(size_bytes as u64, Ordering::Relaxed);
        Some(Fresh { print, packed_crc: piece.packed_crc })
    }

    pub(super) fn reused_bytes(&self) -> u64 {
        self.reused_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn spoiled(&self) -> u64 {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl Fresh {
    /// A piece that the compressor just made.
    pub(super) fn new(print: Print, packed: &[u8]) -> Self {
        Self { print, packed_crc: crc32fast::hash(packed) }
    }

    /// The piece at its place; `None` for what is too long for a ledger.
    pub(super) fn at(self, offset: u64, packed_bytes: u64) -> Option<Piece> {
        let packed_bytes = u32::try_from(packed_bytes).ok()?;
        let Self { print, packed_crc } = self;
        Some(Piece { print, packed_bytes, packed_crc, offset })
    }
}
