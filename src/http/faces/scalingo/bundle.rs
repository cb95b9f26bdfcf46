//! A backup as a `.tar.gz` with one file, made while it is sent, any range of it.
//!
//! The backup is compressed already, so the gzip stores. It is a chain of small gzip members,
//! one per piece of the tar, as every reader of gzip takes it: a member's checksum is that of
//! its own bytes, and its length is known beforehand. So the whole has a length before it is
//! read, and a range costs no more than its own pieces.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::backup::Key;
use crate::error::{Error, Result};
use crate::storage::{ByteStream, Storage};

/// Size of a block of a tar.
const BLOCK: u64 = 512;
/// Blocks of zeros at the end of a tar, in bytes.
const TAR_END: u64 = 2 * BLOCK;
/// Most bytes of a stored block of deflate.
const STORED_MAX: usize = 65_535;
/// Stored blocks of a piece.
const STORED_PER_PIECE: usize = 16;
/// Bytes of the tar in one gzip member; the last has what is left.
const PIECE: u64 = (STORED_PER_PIECE * STORED_MAX) as u64;
/// Head of a gzip member: deflate, no name, no time, made anywhere.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Head, checksum and length of a gzip member, in bytes.
const GZIP_EXTRA: u64 = 18;
/// Head of a stored block, in bytes.
const STORED_EXTRA: u64 = 5;
/// Largest size that a tar writes in octal digits.
const OCTAL_MAX: u64 = 0o777_7777_7777;
/// Longest name of a file in a tar, in bytes.
const NAME_MAX: usize = 100;

/// The form of one archive.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    head: Bytes,
    data_bytes: u64,
}

impl Bundle {
    /// Of a file with this name, size and time.
    pub(super) fn new(name: &str, data_bytes: u64, modified: DateTime<Utc>) -> Self {
        let seconds = u64::try_from(modified.timestamp()).unwrap_or(0);
        Self { head: head(name, data_bytes, seconds), data_bytes }
    }

    /// Of any file of this size, for its length.
    pub(super) fn of(data_bytes: u64) -> Self {
        Self { head: Bytes::new(), data_bytes }
    }

    /// Its length.
    pub(super) fn size_bytes(&self) -> u64 {
        let (pieces, rest) = (self.tar_bytes() / PIECE, self.tar_bytes() % PIECE);
        pieces * member_bytes(PIECE) + if rest == 0 { 0 } else { member_bytes(rest) }
    }

    /// A range of it, which is not empty; the data is read from a backup.
    pub(super) async fn open(
        &self,
        range: Range<u64>,
        storage: &dyn Storage,
        key: &Key,
    ) -> Result<ByteStream> {
        let whole = member_bytes(PIECE);
        let (first, end) = (range.start / whole, range.end.div_ceil(whole));
        let of_tar = first * PIECE..(end * PIECE).min(self.tar_bytes());
        let left = of_tar.end - of_tar.start;
        let tar = self.tar(of_tar, storage, key).await?;
        let members = stream::try_unfold((tar, BytesMut::new(), left), next_member);
        // What of the first and the last member was not asked for is cut off.
        let (mut skip, mut left) = (range.start - first * whole, range.end - range.start);
        let wanted = members.map_ok(move |mut member| {
            let mut wanted = member.split_off(len(skip).min(member.len()));
            wanted.truncate(len(left));
            (skip, left) = (0, left - wanted.len() as u64);
            wanted
        });
        Ok(wanted.boxed())
    }

    fn tar_bytes(&self) -> u64 {
        BLOCK + self.data_bytes.next_multiple_of(BLOCK) + TAR_END
    }

    /// A range of the tar.
    async fn tar(&self, range: Range<u64>, storage: &dyn Storage, key: &Key) -> Result<ByteStream> {
        let one = |bytes: Bytes| stream::iter([Ok(bytes)]).boxed();
        let mut parts: Vec<ByteStream> = Vec::new();
        if let Some(part) = overlap(&range, &(0..BLOCK), 0) {
            parts.push(one(self.head.slice(len(part.start)..len(part.end))));
        }
        let data = BLOCK..BLOCK + self.data_bytes;
        if let Some(part) = overlap(&range, &data, BLOCK) {
            parts.push(storage.get(key, Some(part)).await?);
        }
        if let Some(part) = overlap(&range, &(data.end..self.tar_bytes()), data.end) {
            parts.push(one(Bytes::from(vec![0; len(part.end - part.start)])));
        }
        Ok(stream::iter(parts).flatten().boxed())
    }
}

/// The part of `range` in `place`, counted from `origin`.
fn overlap(range: &Range<u64>, place: &Range<u64>, origin: u64) -> Option<Range<u64>> {
    let (start, end) = (range.start.max(place.start), range.end.min(place.end));
    (start < end).then(|| start - origin..end - origin)
}

fn member_bytes(piece: u64) -> u64 {
    GZIP_EXTRA + STORED_EXTRA * piece.div_ceil(STORED_MAX as u64) + piece
}

type Cutting = (ByteStream, BytesMut, u64);

/// Cuts the next piece off a tar, and makes a gzip member of it.
async fn next_member((mut tar, mut held, left): Cutting) -> Result<Option<(Bytes, Cutting)>> {
    if left == 0 {
        return Ok(None);
    }
    let piece = len(left.min(PIECE));
    while held.len() < piece {
        let block = tar.try_next().await?;
        held.extend_from_slice(
            &block.ok_or_else(|| Error::internal("the backup ended too early"))?,
        );
    }
    let member = member(&held.split_to(piece));
    Ok(Some((member, (tar, held, left - piece as u64))))
}

/// What is in memory has such a length.
fn len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn member(piece: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(len(member_bytes(piece.len() as u64)));
    out.put_slice(&GZIP_HEAD);
    let mut blocks = piece.chunks(STORED_MAX).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.put_u8(u8::from(blocks.peek().is_none()));
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(block);
    }
    out.put_u32_le(crc32fast::hash(piece));
    out.put_u32_le(u32::try_from(piece.len()).unwrap_or(u32::MAX));
    out.freeze()
}

/// The head of a file in a tar, in the form that GNU's and POSIX's readers share.
fn head(name: &str, size: u64, seconds: u64) -> Bytes {
    let mut head = [0_u8; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(NAME_MAX)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size <= OCTAL_MAX {
        true => put(124, format!("{size:011o}\0").as_bytes()),
        false => {
            // Larger ones as GNU's tar writes them: binary, marked by the first bit.
            put(124, &[0x80]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, format!("{:011o}\0", seconds.min(OCTAL_MAX)).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Bytes::copy_from_slice(&head)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{LocalStorage, PutMode};

    const NAME: &str = "20180902010000_kibana-3938.pgsql";

    fn modified() -> DateTime<Utc> {
        "2018-09-02T01:00:00Z".parse().expect("a date")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// Data that repeats nowhere near, in a folder of its own.
    async fn stored(home: &std::path::Path, bytes: usize) -> (LocalStorage, Key, Vec<u8>) {
        let data: Vec<u8> = (0..bytes).map(|at| (at * 31 + at / 253) as u8).collect();
        let (storage, key) = (LocalStorage::new(home), Key::existing("a.dump").expect("a key"));
        let body = stream::iter([Ok(Bytes::from(data.clone()))]).boxed();
        storage.put(&key, body, PutMode::Replace).await.expect("stored");
        (storage, key, data)
    }

    async fn read(
        bundle: &Bundle,
        range: Range<u64>,
        (storage, key): (&LocalStorage, &Key),
    ) -> Vec<u8> {
        let opened = bundle.open(range, storage, key).await.expect("opened");
        let blocks: Vec<Bytes> = opened.try_collect().await.expect("read");
        blocks.concat()
    }

    fn unpacked(gzip: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        MultiGzDecoder::new(gzip).read_to_end(&mut tar).expect("sound members");
        tar
    }

    #[test]
    fn the_whole_is_a_tar_of_the_announced_length() {
        let home = tempfile::tempdir().expect("a folder");
        runtime().block_on(async {
            for bytes in [0, 1, 511, 512, 513, 70_000, 1_047_024, 1_047_025, 2_097_120, 2_500_000] {
                let (storage, key, data) = stored(home.path(), bytes).await;
                let bundle = Bundle::new(NAME, bytes as u64, modified());
                let gzip = read(&bundle, 0..bundle.size_bytes(), (&storage, &key)).await;
                assert_eq!(gzip.len() as u64, bundle.size_bytes(), "{bytes}");
                let tar = unpacked(&gzip);
                assert_eq!(&tar[512..512 + bytes], data, "{bytes}");
                assert!(
                    tar.len().is_multiple_of(512) && tar[512 + bytes..].iter().all(|b| *b == 0)
                );
                assert!(tar.len() - bytes >= 1536, "{bytes}");
            }
        });
    }

    #[test]
    fn tar_itself_takes_it() {
        let home = tempfile::tempdir().expect("a folder");
        let (file, bytes) = (home.path().join("a.tar.gz"), 1_500_000);
        let data = runtime().block_on(async {
            let (storage, key, data) = stored(&home.path().join("stored"), bytes).await;
            let bundle = Bundle::new(NAME, bytes as u64, modified());
            let whole = 0..bundle.size_bytes();
            std::fs::write(&file, read(&bundle, whole, (&storage, &key)).await).expect("written");
            data
        });
        let mut tar = std::process::Command::new("tar");
        let output = tar.arg("xzf").arg(&file).arg("-C").arg(home.path()).output().expect("tar");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        let found = std::fs::read(home.path().join(NAME)).expect("unpacked");
        assert!(found == data, "{} bytes", found.len());
    }

    #[test]
    fn a_size_above_8_gib_is_written_as_gnu_writes_it() {
        let size = 17_484_513_608;
        let head = head(NAME, size, 0);
        assert_eq!((head[124], &head[128..136]), (0x80, &size.to_be_bytes()[..]));
        let whole = Bundle::new(NAME, size, modified()).size_bytes();
        assert!(whole > size && whole < size + size / 5_000, "{whole}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_range_is_that_part_of_the_whole(
            bytes in 0_usize..3_200_000,
            ends in (0.0_f64..1.0, 0.0_f64..1.0),
        ) {
            let home = tempfile::tempdir().expect("a folder");
            runtime().block_on(async {
                let (storage, key, _) = stored(home.path(), bytes).await;
                let bundle = Bundle::new(NAME, bytes as u64, modified());
                let size = bundle.size_bytes();
                let whole = read(&bundle, 0..size, (&storage, &key)).await;
                let at = |part: f64| ((size - 1) as f64 * part) as u64;
                let (start, last) = (at(ends.0.min(ends.1)), at(ends.0.max(ends.1)));
                for range in [start..last + 1, start..size, 0..last + 1, size - 1..size] {
                    let found = read(&bundle, range.clone(), (&storage, &key)).await;
                    let expected = &whole[len(range.start)..len(range.end)];
                    assert!(found == expected, "{range:?} of {bytes} bytes");
                }
            });
        }
    }

    #[test]
    fn a_backup_that_ends_too_early_breaks_the_download() {
        let home = tempfile::tempdir().expect("a folder");
        runtime().block_on(async {
            let (storage, key, _) = stored(home.path(), 1000).await;
            let bundle = Bundle::new(NAME, 5000, modified());
            let opened = bundle.open(0..bundle.size_bytes(), &storage, &key).await;
            if let Ok(opened) = opened {
                assert!(opened.try_collect::<Vec<_>>().await.is_err());
            }
        });
    }
}
