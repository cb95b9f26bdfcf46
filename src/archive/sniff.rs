//! Tells from the bytes alone whether compressing them again is a waste of time.

use std::sync::LazyLock;

use crate::archive::deflate::Deflater;
use crate::error::Result;

/// Below this many bytes compressing is cheaper than judging.
const JUDGED_BYTES_MIN: usize = 512;
/// How many bytes are counted for the entropy.
const SAMPLE_BYTES: usize = 8 << 10;
/// The sample is taken in runs of this length, spread over the data.
const RUN_BYTES: usize = 64;
/// How far below random bytes a sample may lie, in bits per byte, and still look random.
const BITS_BELOW_RANDOM: f64 = 0.18;
/// The same when the first bytes name a packed format.
const BITS_BELOW_RANDOM_NAMED: f64 = 1.0;
/// How much of the data is compressed for a trial when it looks random; data that is smaller
/// than one part in eight of this is believed without: its trial would be the work itself.
const TRIAL_BYTES: usize = 32 << 10;

/// First bytes of formats whose contents are compressed (offset, bytes).
const PACKED_FORMATS: &[(usize, &[u8])] = &[
    (0, b"\xff\xd8\xff"),                 // JPEG
    (0, b"\x89PNG\r\n\x1a\n"),            // PNG
    (0, b"GIF8"),                         // GIF
    (8, b"WEBP"),                         // WebP
    (4, b"ftyp"),                         // MP4, MOV, HEIC, AVIF, M4A
    (0, b"\x1a\x45\xdf\xa3"),             // Matroska, WebM
    (0, b"OggS"),                         // Ogg
    (0, b"fLaC"),                         // FLAC
    (0, b"ID3"),                          // MP3
    (0, b"\xff\xfb"),                     // MP3 without a tag
    (0, b"\xff\xf3"),                     //
    (0, b"PK\x03\x04"),                   // zip, docx, jar, apk, ...
    (0, b"\x1f\x8b"),                     // gzip
    (0, b"\x28\xb5\x2f\xfd"),             // zstd
    (0, b"\xfd7zXZ\x00"),                 // xz
    (0, b"BZh"),                          // bzip2
    (0, b"\x04\x22\x4d\x18"),             // lz4
    (0, b"7z\xbc\xaf\x27\x1c"),           // 7z
    (0, b"Rar!\x1a\x07"),                 // rar
    (0, b"wOF2"),                         // WOFF2
    (0, b"wOFF"),                         // WOFF
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87"), // JPEG XL
    (0, b"age-encryption.org"),           // age
];

/// Whether `data` will not get smaller. `start` says that it begins with a file's first byte.
///
/// # Errors
/// The compressor failed on the trial.
pub(super) fn is_packed(data: &[u8], start: bool, deflater: &mut Deflater) -> Result<bool> {
    if data.len() < JUDGED_BYTES_MIN {
        return Ok(false);
    }
    let missing = bits_below_random(data);
    if start && names_packed_format(data) {
        // The entropy guards against a name alone: a file of zeros behind a JPEG's first bytes.
        return Ok(missing <= BITS_BELOW_RANDOM_NAMED);
    }
    if missing > BITS_BELOW_RANDOM || data.len() < TRIAL_BYTES / 8 {
        return Ok(missing <= BITS_BELOW_RANDOM);
    }
    // Bytes may be evenly spread and still repeat.
    let from = (data.len() / 2).min(data.len().saturating_sub(TRIAL_BYTES));
    let trial = &data[from..data.len().min(from + TRIAL_BYTES)];
    let mut packed = Vec::with_capacity(trial.len() + trial.len() / 8);
    deflater.block(&[], trial, true, &mut packed)?;
    Ok(!is_worth_it(trial.len(), packed.len()))
}

/// Whether the packed form saves enough to make a reader unpack it: more than one part in 32.
pub(super) fn is_worth_it(plain_bytes: usize, packed_bytes: usize) -> bool {
    packed_bytes < plain_bytes - plain_bytes / 32
}

fn names_packed_format(data: &[u8]) -> bool {
    PACKED_FORMATS.iter().any(|(at, magic)| data[*at..].starts_with(magic))
}

/// How many bits per byte a sample has less than a sample of random bytes, by the frequencies
/// of single bytes.
fn bits_below_random(data: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    let mut counted = 0u32;
    let stride = (data.len() * RUN_BYTES / SAMPLE_BYTES).max(RUN_BYTES);
    for run in data.chunks(stride) {
        for byte in &run[..run.len().min(RUN_BYTES)] {
            counts[usize::from(*byte)] += 1;
            counted += 1;
        }
    }
    let total = f64::from(counted);
    // Even random bytes are uneven in a sample: 255 degrees of freedom cost that much.
    let random = 8.0 - 255.0 / (2.0 * total * std::f64::consts::LN_2);
    let distinct = counts.iter().filter(|count| **count > 0).count();
    let most = (distinct as f64).log2();
    if random - most > BITS_BELOW_RANDOM_NAMED {
        return random - most; // text: not worth its logarithms
    }
    let sum: f64 = counts.iter().map(|count| weight(*count)).sum();
    random - (total.log2() - sum / total)
}

/// `count * log2(count)`, from a table for the usual counts.
fn weight(count: u32) -> f64 {
    static WEIGHTS: LazyLock<[f64; 128]> =
        LazyLock::new(|| std::array::from_fn(|count| computed_weight(count as f64)));
    match WEIGHTS.get(count as usize) {
        Some(weight) => *weight,
        None => computed_weight(f64::from(count)),
    }
}

fn computed_weight(count: f64) -> f64 {
    if count > 0.0 { count * count.log2() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn random(bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        rand::rngs::SmallRng::seed_from_u64(7).fill(&mut data[..]);
        data
    }

    #[test]
    fn packed_data_is_told_from_data_that_shrinks() {
        let mut jpeg = random(64 << 10);
        jpeg[..3].copy_from_slice(b"\xff\xd8\xff");
        let mut empty_jpeg = vec![0; 64 << 10];
        empty_jpeg[..3].copy_from_slice(b"\xff\xd8\xff");
        let page = random(2 << 10);
        let hex: Vec<u8> =
            random(64 << 10).iter().map(|b| b"0123456789abcdef"[usize::from(b & 15)]).collect();
        let mut database = b"SQLite format 3\0".to_vec();
        database.extend(vec![0; 1 << 20]);
        for (what, data, expected) in [
            ("a jpeg", jpeg, true),
            ("a jpeg by name only", empty_jpeg, false),
            ("random bytes", random(1 << 20), true),
            ("few random bytes", random(5000), true),
            ("very few random bytes", random(600), true),
            ("a small jpeg", [b"\xff\xd8\xff", &random(700)[..]].concat(), true),
            ("a small text", b"a small text of few words, ".repeat(30), false),
            ("random letters", hex[..1000].to_vec(), false),
            ("random bytes that repeat", page.repeat(100), false),
            ("hexadecimal", hex.clone(), false),
            ("a database", database, false),
            ("text", b"the quick brown fox ".repeat(1000), false),
            ("nothing", Vec::new(), false),
        ] {
            let mut deflater = Deflater::new(2);
            assert_eq!(is_packed(&data, true, &mut deflater).expect("judged"), expected, "{what}");
        }
    }
}
