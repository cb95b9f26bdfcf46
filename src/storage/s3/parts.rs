//! How an archive of unknown size is cut into at most 10,000 parts within a fixed memory, and
//! what the store must say about them.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use md5::{Digest, Md5};

use crate::error::Result;
use crate::storage::ByteStream;
use crate::storage::s3::profile::Profile;

/// Most parts of one upload (S3's limit).
pub(super) const PARTS_MAX: usize = 10_000;
/// Parts of the first size; the rest are twice as large and half as many at a time.
const SMALL_PARTS: usize = 2_000;
/// Smallest part, in bytes (S3's limit for all but the last).
const PART_BYTES_MIN: usize = 5 << 20;

/// Sizes of parts, and how many are on their way at once. Memory is that of the parts on their
/// way and of the one that is being filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    memory_bytes: usize,
    at_once: usize,
    equal: bool,
}

impl Plan {
    pub(super) fn new(memory_bytes: usize, profile: &Profile) -> Self {
        Self { memory_bytes, at_once: profile.parts_at_once.max(1), equal: profile.equal_parts }
    }

    /// Bytes of a part; numbers begin with 1.
    pub(super) fn part_bytes(&self, number: usize) -> usize {
        let large = (self.memory_bytes / 3).max(PART_BYTES_MIN);
        let small = (self.memory_bytes / 6).max(PART_BYTES_MIN);
        if self.equal || number > SMALL_PARTS { large } else { small }
    }

    /// How many parts may be on their way while part `number` is being filled.
    pub(super) fn at_once(&self, number: usize) -> usize {
        // The one being filled is not on its way yet.
        let fitting = self.memory_bytes / self.part_bytes(number);
        self.at_once.min(fitting.saturating_sub(1)).max(1)
    }

    /// The largest archive, in bytes.
    pub(super) fn largest_bytes(&self) -> u64 {
        let bytes = |number, count: usize| self.part_bytes(number) as u64 * count as u64;
        bytes(1, SMALL_PARTS) + bytes(SMALL_PARTS + 1, PARTS_MAX - SMALL_PARTS)
    }
}

/// The memory of parts, used again and again: an allocator that gets such pieces back and
/// gives them out again in another order keeps more and more of them.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<BytesMut>);

impl Spare {
    /// Takes back the memory of a part, unless somebody still reads it.
    pub(super) fn take_back(&mut self, part: Bytes) {
        if let Ok(mut buffer) = part.try_into_mut() {
            buffer.clear();
            self.0.push(buffer);
        }
    }

    /// Empty memory for a part.
    pub(super) fn give(&mut self, size_bytes: usize) -> BytesMut {
        let spare = self.0.pop().filter(|buffer| buffer.capacity() >= size_bytes);
        spare.unwrap_or_else(|| BytesMut::with_capacity(size_bytes))
    }
}

/// Blocks of the stream until there are `size_bytes` or it ends; the rest of a block that is
/// too long stays in `left`.
pub(super) async fn fill(
    body: &mut ByteStream,
    left: &mut Bytes,
    size_bytes: usize,
    mut part: BytesMut,
) -> Result<Bytes> {
    loop {
        let taken = left.len().min(size_bytes - part.len());
        part.extend_from_slice(&left.split_to(taken));
        if part.len() == size_bytes {
            return Ok(part.freeze());
        }
        match body.next().await {
            Some(block) => *left = block?,
            None => return Ok(part.freeze()),
        }
    }
}

/// The MD5 sum of bytes, as an ETag writes it.
pub(super) fn etag_of(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// The ETag of an object that was put together from parts with these ETags.
pub(super) fn composite_etag(parts: &[String]) -> String {
    let mut sum = Md5::new();
    for part in parts {
        let digits = part.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap_or(""));
        let bytes: Vec<u8> = digits.filter_map(|two| u8::from_str_radix(two, 16).ok()).collect();
        sum.update(bytes);
    }
    format!("{}-{}", hex(&sum.finalize()), parts.len())
}

/// Whether an ETag is a sum that can be compared: of one put, or of parts. Stores that encrypt
/// with a key service, and a few others, answer with something else.
pub(super) fn is_sum(etag: &str) -> bool {
    let (sum, count) = etag.split_once('-').unwrap_or((etag, "1"));
    sum.len() == 32
        && sum.bytes().all(|byte| byte.is_ascii_hexdigit())
        && count.parse::<usize>().is_ok()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::config::provider::Provider;
    use crate::config::storage::S3Extras;
    use crate::error::{Error, Kind};
    use crate::storage::s3::profile;

    #[test]
    fn memory_is_bounded_and_archives_beyond_fifty_gigabytes_fit() {
        let memory = S3Extras::default().upload_memory_bytes;
        for (_, provider) in Provider::NAMED {
            let plan = Plan::new(memory, &profile::of(provider));
            for number in [1, SMALL_PARTS, SMALL_PARTS + 1, PARTS_MAX] {
                let bytes = plan.part_bytes(number);
                let used = bytes * (plan.at_once(number) + 1);
                assert!(used <= memory && bytes >= PART_BYTES_MIN, "{provider:?} {number}");
                assert!(plan.at_once(number) <= profile::of(provider).parts_at_once);
            }
            // Parts of both sizes are on their way where the size changes.
            let most = plan.part_bytes(1) * plan.at_once(1) + plan.part_bytes(SMALL_PARTS + 1);
            assert!(most <= memory, "{provider:?}");
            assert!(plan.largest_bytes() > 100 << 30, "{provider:?}");
        }
        let r2 = Plan::new(memory, &profile::of(Provider::R2));
        assert_eq!(r2.part_bytes(1), r2.part_bytes(PARTS_MAX));
        let aws = Plan::new(memory, &profile::of(Provider::Aws));
        assert_eq!((aws.at_once(1), aws.part_bytes(1)), (4, 6 << 20));
    }

    #[tokio::test]
    async fn parts_are_cut_at_their_size_wherever_blocks_end() {
        let blocks = ["abc", "", "defgh", "i"].map(|text| Ok(Bytes::from(text)));
        let mut body: ByteStream = stream::iter(blocks).boxed();
        let mut left = Bytes::new();
        let mut parts = Vec::new();
        loop {
            let part = fill(&mut body, &mut left, 4, BytesMut::new()).await.expect("filled");
            if part.is_empty() {
                break;
            }
            parts.push(String::from_utf8(part.to_vec()).expect("text"));
        }
        assert_eq!(parts, ["abcd", "efgh", "i"]);
        let broken = [Ok(Bytes::from("ab")), Err(Error::new(Kind::Cancelled, "stop"))];
        let mut body: ByteStream = stream::iter(broken).boxed();
        let error =
            fill(&mut body, &mut Bytes::new(), 4, BytesMut::new()).await.expect_err("broken");
        assert_eq!(error.kind(), &Kind::Cancelled);
    }

    #[test]
    fn sums_are_those_of_s3() {
        // The example of one part is the sum of the sum's sixteen bytes.
        let one = etag_of(b"");
        assert_eq!(one, "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(
            composite_etag(std::slice::from_ref(&one)),
            "59adb24ef3cdbe0297f05b395827453f-1"
        );
        for (etag, expected) in [
            (one.as_str(), true),
            ("59adb24ef3cdbe0297f05b395827453f-12", true),
            ("59adb24ef3cdbe0297f05b395827453f-x", false),
            ("opaque-5", false),
            ("", false),
        ] {
            assert_eq!(is_sum(etag), expected, "{etag}");
        }
    }
}
