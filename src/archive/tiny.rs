//! Deflate for a few hundred bytes: the side-car of every upload.
//!
//! A general compressor clears its tables and builds Huffman trees for each input, which for so
//! little is nearly all of its time. This one looks for repetitions with a table of 1 KiB and
//! uses the codes that the format itself fixes (RFC 1951, section 3.2.6).

/// Longest input, in bytes.
pub(super) const TINY_BYTES_MAX: usize = 512;

/// Shortest repetition that is looked for.
const MATCH_BYTES_MIN: usize = 4;
/// Longest one that the format knows.
const MATCH_BYTES_MAX: usize = 258;
const TABLE_BITS: u32 = 9;
/// No position.
const NONE: u16 = u16::MAX;
/// The symbol that ends a block; those of the lengths follow it.
const END: usize = 256;

/// The shortest length and the number of extra bits of each length symbol.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// The same for distances, as far as an input reaches.
const DISTANCES: [(u16, u8); 18] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
];
/// For each literal and length symbol its code, first bit lowest, and the code's bits.
const CODES: [(u16, u8); END + 1 + LENGTHS.len()] = codes();

/// Appends `input`, at most [`TINY_BYTES_MAX`] bytes, as one whole Deflate stream.
pub(super) fn deflate(input: &[u8], out: &mut Vec<u8>) {
    debug_assert!(input.len() <= TINY_BYTES_MAX);
    let mut bits = Bits { out, held: 0, count: 0 };
    let mut table = [NONE; 1 << TABLE_BITS];
    bits.put(1, 1); // the last block
    bits.put(1, 2); // of fixed codes
    let mut at = 0;
    while at < input.len() {
        let before = visit(input, at, &mut table);
        let length = before.map_or(0, |before| common(input, before, at));
        match before {
            Some(before) if length >= MATCH_BYTES_MIN => {
                bits.repeat(length, at - before);
                for inside in at + 1..at + length {
                    visit(input, inside, &mut table);
                }
                at += length;
            }
            _ => {
                bits.symbol(usize::from(input[at]));
                at += 1;
            }
        }
    }
    bits.symbol(END);
    bits.finish();
}

/// Where the four bytes at `at` were perhaps seen last; notes that they are here.
fn visit(input: &[u8], at: usize, table: &mut [u16; 1 << TABLE_BITS]) -> Option<usize> {
    let bytes = input.get(at..)?.first_chunk::<MATCH_BYTES_MIN>()?;
    let hash = u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS);
    let before = std::mem::replace(&mut table[hash as usize], at as u16);
    (before != NONE).then_some(usize::from(before))
}

/// How many bytes from `before` on are those from `at` on.
fn common(input: &[u8], before: usize, at: usize) -> usize {
    let pairs = input[before..].iter().zip(&input[at..]).take(MATCH_BYTES_MAX);
    pairs.take_while(|(a, b)| a == b).count()
}

/// The fixed codes: 8, 9, 7 and 8 bits for four ranges of symbols, counted upwards.
const fn codes() -> [(u16, u8); END + 1 + LENGTHS.len()] {
    let mut codes = [(0, 0); END + 1 + LENGTHS.len()];
    let mut symbol = 0;
    while symbol < codes.len() {
        let (code, bits) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        codes[symbol] = ((code as u16).reverse_bits() >> (16 - bits), bits);
        symbol += 1;
    }
    codes
}

/// Bits on their way into bytes, lowest first.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    fn put(&mut self, value: u16, bits: u8) {
        self.held |= u64::from(value) << self.count;
        self.count += u32::from(bits);
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    fn symbol(&mut self, symbol: usize) {
        let (code, bits) = CODES[symbol];
        self.put(code, bits);
    }

    fn repeat(&mut self, length: usize, distance: usize) {
        let (symbol, rest, bits) = part(&LENGTHS, length);
        self.symbol(END + 1 + symbol);
        self.put(rest, bits);
        let (symbol, rest, bits) = part(&DISTANCES, distance);
        self.put((symbol as u16).reverse_bits() >> 11, 5);
        self.put(rest, bits);
    }

    fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
    }
}

/// The symbol of a value, and what its extra bits say.
fn part(table: &[(u16, u8)], value: usize) -> (usize, u16, u8) {
    let value = value as u16;
    let symbol = table.partition_point(|(least, _)| *least <= value) - 1;
    let (least, bits) = table[symbol];
    (symbol, value - least, bits)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn inflated(packed: &[u8]) -> Vec<u8> {
        let mut from = flate2::read::DeflateDecoder::new(packed);
        let mut out = Vec::new();
        from.read_to_end(&mut out).expect("valid Deflate");
        assert_eq!(from.total_in(), packed.len() as u64, "nothing behind the stream");
        out
    }

    fn check(input: &[u8]) -> usize {
        let mut out = b"before".to_vec();
        deflate(input, &mut out);
        let packed = out.strip_prefix(b"before").expect("appended");
        assert!(inflated(packed) == input, "{input:?}");
        packed.len()
    }

    #[test]
    fn every_length_and_every_distance_survives() {
        for length in 0..=TINY_BYTES_MAX {
            check(&vec![b'a'; length]);
            // No four bytes repeat, but for the first ones at the end.
            let mut input: Vec<u8> = (0..length).map(|n| ((n * n) >> (n % 7)) as u8).collect();
            check(&input);
            let start = input.len().min(9);
            input.truncate(TINY_BYTES_MAX - 9);
            input.extend_from_within(..start.min(input.len()));
            check(&input);
        }
        for byte in 0..=255 {
            check(&[byte]);
        }
    }

    #[test]
    fn a_side_car_shrinks() {
        let car =
            br#"{"user.cache_control":"","user.content_disposition":"","user.content_encoding"
            :"","user.content_language":"","user.content_type":"image/jpeg","user.metadata":
            {"original-filename":"holiday.jpg"},"md5":"H7/8sEsY1+JqDsIoAQ5Xrg=="}"#;
        assert!(check(car) < car.len() * 3 / 4);
    }

    proptest! {
        #[test]
        fn any_bytes_survive(
            parts in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0usize..9), 0..9),
        ) {
            let mut input: Vec<u8> =
                parts.into_iter().flat_map(|(part, times)| part.repeat(times)).collect();
            input.truncate(TINY_BYTES_MAX);
            check(&input);
        }
    }
}
