//! The ledger of an archive: which compressed pieces it holds and where they lie, kept so that
//! the next archive can take them over.
//!
//! A piece is what one call of the compressor made: a whole small entry, or a block of a large
//! one. It is known by what went in, never by a name or a time, and what came out has a
//! checksum of its own from the moment it was made. A ledger is only a hint: a lost, torn or
//! foreign one costs time and nothing else.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::backup::Key;
use crate::error::{Context, Error, Result};
use crate::fsx::{self, Commit, PartialFile};

/// Most small entries in a ledger; what is beyond is compressed anew each time.
const ENTRIES_MAX: usize = 200_000;
/// Most blocks of large entries in a ledger: 50 GiB of them.
const BLOCKS_MAX: usize = 50_000;
/// The first bytes of a ledger's file.
const MAGIC: &[u8; 8] = b"pvlgr\0\0\x01";

/// What goes into a piece: 96 bits of its hash, and its CRC-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Print {
    pub(super) hash: [u32; 3],
    pub(super) crc: u32,
}

/// One compressed piece and its place in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) print: Print,
    pub(super) packed_bytes: u32,
    /// CRC-32 of the packed bytes.
    pub(super) packed_crc: u32,
    pub(super) offset: u64,
}

/// Which kind of piece, for the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Entry,
    Block,
}

/// The pieces of one archive, sorted by what went in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The seed of the hashes, secret and the same along a chain of archives.
    pub(super) seed: u64,
    /// What compressed them; another compressor or level starts anew.
    pub(super) label: u32,
    /// How many archives before this one handed pieces down.
    pub(super) generation: u32,
    pieces: Vec<Piece>,
    blocks: usize,
}

/// The file of an archive, as far as it can be told from another one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity([u64; 4]);

impl Ledger {
    pub(super) fn new(seed: u64, label: u32, generation: u32) -> Self {
        Self { seed, label, generation, pieces: Vec::new(), blocks: 0 }
    }

    /// Adds a piece while there is room.
    pub(super) fn add(&mut self, piece: Piece, of: Of) {
        let room = match of {
            Of::Entry => self.pieces.len() - self.blocks < ENTRIES_MAX,
            Of::Block => self.blocks < BLOCKS_MAX,
        };
        if room {
            self.blocks += usize::from(of == Of::Block);
            self.pieces.push(piece);
        }
    }

    /// Ends the adding.
    pub(super) fn sort(&mut self) {
        self.pieces.sort_unstable_by_key(|piece| piece.print);
    }

    pub(super) fn find(&self, print: &Print) -> Option<&Piece> {
        let at = self.pieces.binary_search_by_key(print, |piece| piece.print).ok()?;
        self.pieces.get(at)
    }

    /// Keeps it in the file `at` as the ledger of the archive `key`, which lies at `archive`.
    ///
    /// # Errors
    /// The archive is not there, or a fault of the disk. What was kept before is kept then.
    pub fn keep(&self, at: &Path, key: &Key, archive: &Path) -> Result<()> {
        let failed = || format!("cannot write {}", at.display());
        let identity = Identity::of(&fs::metadata(archive).with_context(failed)?);
        if let Some(folder) = at.parent() {
            fsx::create_dir_durably(folder)?;
        }
        let mut partial = PartialFile::create(at)?;
        let mut out = Digested::new(BufWriter::new(partial.file()?));
        self.write(&mut out, key, identity).and_then(|()| out.seal()).with_context(failed)?;
        partial.commit(Commit::Replace)
    }

    fn write(&self, out: &mut impl Write, key: &Key, identity: Identity) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&[key.as_str().len() as u8])?;
        out.write_all(key.as_str().as_bytes())?;
        for number in identity.0 {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&self.seed.to_le_bytes())?;
        out.write_all(&self.label.to_le_bytes())?;
        out.write_all(&self.generation.to_le_bytes())?;
        out.write_all(&(self.pieces.len() as u32).to_le_bytes())?;
        for piece in &self.pieces {
            let [a, b, c] = piece.print.hash;
            for word in [a, b, c, piece.print.crc, piece.packed_bytes, piece.packed_crc] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(&piece.offset.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`Ledger::keep`] wrote, with the key and the file of its archive; `None`
    /// when the archive is not the one that the ledger was made for.
    ///
    /// # Errors
    /// There is no such file, or it is not whole.
    pub(super) fn read(
        at: &Path,
        locate: impl FnOnce(&Key) -> Option<std::path::PathBuf>,
    ) -> Result<Option<(Self, Key, File)>> {
        let failed = || format!("cannot read {}", at.display());
        let file = File::open(at).with_context(failed)?;
        let mut from = Digested::new(BufReader::new(file));
        let (ledger, key, identity) = Self::parse(&mut from).with_context(failed)?;
        from.check().with_context(failed)?;
        let Some(archive) = locate(&key).and_then(|path| File::open(path).ok()) else {
            return Ok(None);
        };
        let found = Identity::of(&archive.metadata().with_context(failed)?);
        Ok((found == identity).then_some((ledger, key, archive)))
    }

    fn parse(from: &mut impl Read) -> io::Result<(Self, Key, Identity)> {
        let torn = || io::Error::from(io::ErrorKind::InvalidData);
        if &bytes::<8>(from)? != MAGIC {
            return Err(torn());
        }
        let [length] = bytes::<1>(from)?;
        let mut name = vec![0; usize::from(length)];
        from.read_exact(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| torn())?;
        let key = Key::existing(&name).map_err(|_| torn())?;
        let mut identity = Identity([0; 4]);
        for number in &mut identity.0 {
            *number = u64::from_le_bytes(bytes(from)?);
        }
        let seed = u64::from_le_bytes(bytes(from)?);
        let [label, generation, count] = [number(from)?, number(from)?, number(from)?];
        let mut ledger = Self::new(seed, label, generation);
        if count as usize > ENTRIES_MAX + BLOCKS_MAX {
            return Err(torn());
        }
        ledger.pieces.reserve_exact(count as usize);
        for _ in 0..count {
            let hash = [number(from)?, number(from)?, number(from)?];
            let print = Print { hash, crc: number(from)? };
            let (packed_bytes, packed_crc) = (number(from)?, number(from)?);
            let offset = u64::from_le_bytes(bytes(from)?);
            ledger.pieces.push(Piece { print, packed_bytes, packed_crc, offset });
        }
        Ok((ledger, key, identity))
    }
}

impl Identity {
    /// Whoever writes to a file changes its change time, and whoever replaces it its inode.
    fn of(meta: &fs::Metadata) -> Self {
        let changed = meta.ctime().wrapping_mul(1_000_000_000).wrapping_add(meta.ctime_nsec());
        let modified = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
        Self([meta.size(), meta.ino(), changed as u64, modified as u64])
    }
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    bytes(from).map(u32::from_le_bytes)
}

/// A reader or writer that digests what passes, so that a torn file shows.
struct Digested<T> {
    inner: T,
    digest: Xxh3,
}

impl<T> Digested<T> {
    fn new(inner: T) -> Self {
        Self { inner, digest: Xxh3::new() }
    }
}

impl<T: Write> Digested<T> {
    fn seal(mut self) -> io::Result<()> {
        self.inner.write_all(&self.digest.digest().to_le_bytes())?;
        self.inner.flush()
    }
}

impl<T: Read> Digested<T> {
    fn check(mut self) -> Result<()> {
        let kept = bytes(&mut self.inner).context("a ledger has no end")?;
        if u64::from_le_bytes(kept) == self.digest.digest() {
            return Ok(());
        }
        Err(Error::internal("a ledger is damaged"))
    }
}

impl<T: Write> Write for Digested<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Digested<T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.digest.update(&out[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(pieces: u32) -> Ledger {
        let mut ledger = Ledger::new(7, 2, 3);
        for n in (0..pieces).rev() {
            let print = Print { hash: [n % 5, n, 9], crc: n };
            let offset = u64::from(n) << 33;
            ledger.add(Piece { print, packed_bytes: n, packed_crc: !n, offset }, Of::Entry);
        }
        ledger.sort();
        ledger
    }

    #[test]
    fn what_is_kept_is_read_for_the_same_archive_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let (at, archive) = (dir.path().join("state/ledger"), dir.path().join("a.zip"));
        let key = Key::existing("a.zip").expect("a key");
        fs::write(&archive, b"archive").expect("written");
        let kept = ledger(100);
        kept.keep(&at, &key, &archive).expect("kept");
        let read = || Ledger::read(&at, |_| Some(archive.clone())).expect("whole");
        let (read_back, read_key, _) = read().expect("the same archive");
        assert_eq!((&read_back.pieces, &read_key), (&kept.pieces, &key));
        assert_eq!((read_back.seed, read_back.label, read_back.generation), (7, 2, 3));
        let piece = kept.pieces[17];
        assert_eq!(read_back.find(&piece.print), Some(&piece));
        assert_eq!(read_back.find(&Print { crc: piece.print.crc ^ 1, ..piece.print }), None);
        fs::write(&archive, b"ARCHIVE").expect("written");
        assert!(read().is_none(), "another content under the same name");
        fs::remove_file(&archive).expect("removed");
        assert!(read().is_none(), "the archive is gone");
    }

    #[test]
    fn a_torn_or_changed_ledger_is_refused_wherever_it_is_hit() {
        let dir = tempfile::tempdir().expect("a folder");
        let (at, archive) = (dir.path().join("ledger"), dir.path().join("a.zip"));
        fs::write(&archive, b"archive").expect("written");
        let key = Key::existing("a.zip").expect("a key");
        ledger(5).keep(&at, &key, &archive).expect("kept");
        let whole = fs::read(&at).expect("read");
        let read = || Ledger::read(&at, |_| Some(archive.clone()));
        for n in 0..whole.len() {
            fs::write(&at, &whole[..n]).expect("written");
            assert!(read().is_err(), "cut to {n}");
            let mut changed = whole.clone();
            changed[n] ^= 1;
            fs::write(&at, &changed).expect("written");
            assert!(read().is_err(), "changed at {n}");
        }
        fs::remove_file(&at).expect("removed");
        assert!(read().is_err());
    }

    #[test]
    fn a_ledger_is_bounded_and_files_leave_room_for_databases() {
        let mut full = Ledger::new(0, 0, 0);
        let print = Print { hash: [0; 3], crc: 0 };
        let piece = Piece { print, packed_bytes: 1, packed_crc: 0, offset: 0 };
        for of in [Of::Entry, Of::Block] {
            for _ in 0..ENTRIES_MAX + 10 {
                full.add(piece, of);
            }
        }
        assert_eq!((full.pieces.len(), full.blocks), (ENTRIES_MAX + BLOCKS_MAX, BLOCKS_MAX));
        // Two of them, the one before and the one that grows, and no more than that.
        assert!(2 * full.pieces.len() * size_of::<Piece>() <= 16 << 20);
    }
}
