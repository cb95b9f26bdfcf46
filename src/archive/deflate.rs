//! The compressor behind one small seam: independent blocks of one raw Deflate stream.
//!
//! A block may refer to the 32 KiB before it and ends on a byte boundary, so blocks that were
//! compressed on different threads, one behind the other, are one valid stream (pigz's way).
//! zlib-rs does it everywhere; with the feature `isal` ISA-L does the fast levels.

use flate2::{Compress, Compression, FlushCompress, Status};

#[cfg(feature = "isal")]
use crate::archive::isal;
use crate::error::{Context, Error, Result};

/// How far back Deflate can refer, in bytes.
pub(super) const WINDOW_BYTES: usize = 32 << 10;

/// A compressor with its tables, made once per thread.
#[derive(Debug)]
pub(super) enum Deflater {
    /// zlib-rs: pure Rust, everywhere.
    Zlib(Box<Compress>),
    /// ISA-L: the levels up to [`isal::LEVEL_MAX`].
    #[cfg(feature = "isal")]
    Isal(isal::Stream),
}

/// A number for what compresses at `level`: the same number makes the same bytes.
pub(super) fn label(level: u32) -> u32 {
    #[cfg(feature = "isal")]
    if level <= isal::LEVEL_MAX {
        return 0x100 | level;
    }
    level
}

impl Deflater {
    /// A compressor of `level` 1 (fastest) to 9 (smallest).
    pub(super) fn new(level: u32) -> Self {
        #[cfg(feature = "isal")]
        if level <= isal::LEVEL_MAX {
            return Self::Isal(isal::Stream::new(level));
        }
        Self::Zlib(Box::new(Compress::new(Compression::new(level.clamp(1, 9)), false)))
    }

    /// Appends the compressed form of `input` to `out`. `before` is what came before it in the
    /// stream (up to [`WINDOW_BYTES`], or nothing); `last` ends the stream.
    ///
    /// # Errors
    /// The compressor refuses, which its contract excludes.
    pub(super) fn block(
        &mut self,
        before: &[u8],
        input: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match self {
            Self::Zlib(zlib) => zlib_block(zlib, before, input, last, out),
            #[cfg(feature = "isal")]
            Self::Isal(stream) => stream.block(before, input, last, out),
        }
    }
}

fn zlib_block(
    zlib: &mut Compress,
    before: &[u8],
    input: &[u8],
    last: bool,
    out: &mut Vec<u8>,
) -> Result<()> {
    zlib.reset();
    if !before.is_empty() {
        zlib.set_dictionary(before).context("the compressor refused its dictionary")?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    out.reserve(input.len() / 2 + 64);
    loop {
        let consumed = zlib.total_in() as usize;
        let rest = input.get(consumed..).unwrap_or_default();
        let status = zlib.compress_vec(rest, out, flush).context("cannot compress")?;
        let consumed = zlib.total_in() as usize;
        // Room left over means that the compressor has nothing more to say.
        let ended = match status {
            Status::StreamEnd => true,
            _ => !last && consumed == input.len() && out.len() < out.capacity(),
        };
        if ended {
            return Ok(());
        }
        if out.len() < out.capacity() {
            return Err(Error::internal("the compressor stopped early"));
        }
        out.reserve(input.len().saturating_sub(consumed) / 2 + 1024);
    }
}

/// Appends `input` as stored blocks of the stream: what to do with a part that does not shrink.
/// The stream must be on a byte boundary, as it is after every [`Deflater::block`].
pub(super) fn stored_block(input: &[u8], last: bool, out: &mut Vec<u8>) {
    let mut parts = input.chunks(usize::from(u16::MAX)).peekable();
    if parts.peek().is_none() {
        stored_part(&[], last, out);
    }
    while let Some(part) = parts.next() {
        stored_part(part, last && parts.peek().is_none(), out);
    }
}

fn stored_part(part: &[u8], last: bool, out: &mut Vec<u8>) {
    let length = part.len() as u16;
    out.push(u8::from(last));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn inflated(packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::DeflateDecoder::new(packed).read_to_end(&mut out).expect("valid Deflate");
        out
    }

    #[test]
    fn an_empty_stream_is_valid() {
        for stored in [false, true] {
            let mut out = Vec::new();
            if stored {
                stored_block(&[], true, &mut out);
            } else {
                Deflater::new(2).block(&[], &[], true, &mut out).expect("compressed");
            }
            assert_eq!(inflated(&out), b"");
        }
    }

    #[test]
    fn a_block_finds_what_it_repeats_in_the_block_before() {
        let words: Vec<u8> =
            (0..8000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut alone = Vec::new();
        let mut with = Vec::new();
        let mut deflater = Deflater::new(2);
        deflater.block(&[], &words, true, &mut alone).expect("compressed");
        deflater.block(&words, &words, true, &mut with).expect("compressed");
        assert!(with.len() < alone.len() / 10, "{} against {}", with.len(), alone.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn blocks_of_any_kind_join_to_one_stream(
            blocks in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..9000), any::<bool>(), 0usize..40), 1..6),
            level in 1u32..7,
        ) {
            let mut deflater = Deflater::new(level);
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            let count = blocks.len();
            for (n, (seed, stored, times)) in blocks.into_iter().enumerate() {
                let data = seed.repeat(times);
                let last = n + 1 == count;
                if stored {
                    stored_block(&data, last, &mut packed);
                } else {
                    let from = plain.len().saturating_sub(WINDOW_BYTES);
                    let before = plain[from..].to_vec();
                    deflater.block(&before, &data, last, &mut packed).expect("compressed");
                }
                plain.extend_from_slice(&data);
            }
            prop_assert_eq!(inflated(&packed), plain);
        }
    }
}
