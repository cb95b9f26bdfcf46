//! The bytes of a zip file, as far as we write them: local headers, data descriptors, central
//! records and the end records. Knows nothing of compression, files or streams.
//!
//! Written by hand because no crate offers the combination an archive of ours needs: names
//! kept byte for byte *with* the UTF-8 flag (`rawzip` rewrites `\`, `:` and `..` in names that
//! carry the flag), the time stamp in both headers, sizes in the local header where they are
//! known, and central records that are finished bytes as soon as their entry is written.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// Method number of plain bytes.
pub(super) const STORE: u16 = 0;
/// Method number of Deflate.
pub(super) const DEFLATE: u16 = 8;
/// Longest name a zip can hold, in bytes.
pub(super) const NAME_BYTES_MAX: usize = u16::MAX as usize;

const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const MADE_BY_UNIX: u16 = 3 << 8;
const EXTRA_TIME: u16 = 0x5455;
const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_TIME_BYTES: usize = 9;
const LOCAL_BYTES: usize = 30;
/// From here on a 32-bit field says "look into the zip64 field".
const MAX_32: u64 = u32::MAX as u64;
/// From here on the 16-bit entry count says the same.
const MAX_16: u64 = u16::MAX as u64;

/// A modification time in both forms that an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    dos_time: u16,
    dos_date: u16,
    unix_seconds: u32,
}

impl Stamp {
    /// DOS fields in UTC, clamped to 1980..=2107; Unix seconds clamped to 32 unsigned bits.
    pub(super) fn new(time: DateTime<Utc>) -> Self {
        let unix_seconds = u32::try_from(time.timestamp().max(0)).unwrap_or(u32::MAX);
        let (dos_date, dos_time) = match time.year() {
            ..1980 => (dos_date(0, 1, 1), 0),
            2108.. => (dos_date(127, 12, 31), dos_time(23, 59, 58)),
            year => (
                dos_date(year - 1980, time.month(), time.day()),
                dos_time(time.hour(), time.minute(), time.second()),
            ),
        };
        Self { dos_time, dos_date, unix_seconds }
    }
}

fn dos_date(years: i32, month: u32, day: u32) -> u16 {
    (((years as u32) << 9) | (month << 5) | day) as u16
}

fn dos_time(hour: u32, minute: u32, second: u32) -> u16 {
    ((hour << 11) | (minute << 5) | (second / 2)) as u16
}

/// All that headers say about one entry.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) name: &'a [u8],
    /// `st_mode`.
    pub(super) mode: u32,
    pub(super) stamp: Stamp,
    pub(super) method: u16,
    /// Sizes and checksum follow the data in a descriptor; the local header says 0.
    pub(super) streamed: bool,
    pub(super) crc: u32,
    pub(super) packed_bytes: u64,
    pub(super) size_bytes: u64,
    /// Where the local header begins in the archive.
    pub(super) offset: u64,
}

impl Record<'_> {
    /// The UTF-8 flag only where it says something: names that are UTF-8 and not ASCII.
    fn flags(&self) -> u16 {
        let utf8 = !self.name.is_ascii() && std::str::from_utf8(self.name).is_ok();
        (if self.streamed { FLAG_DESCRIPTOR } else { 0 }) | (if utf8 { FLAG_UTF8 } else { 0 })
    }

    fn wide_sizes(&self) -> bool {
        self.packed_bytes >= MAX_32 || self.size_bytes >= MAX_32
    }

    /// Bytes that [`Record::local_header`] makes.
    pub(super) fn local_header_bytes(&self) -> usize {
        LOCAL_BYTES + self.name.len() + EXTRA_TIME_BYTES
    }

    /// Appends the local header. An entry that is not streamed must be below 4 GiB.
    pub(super) fn local_header(&self, out: &mut Vec<u8>) {
        let known = |value: u64| if self.streamed { 0 } else { value as u32 };
        put32(out, 0x0403_4b50);
        put16(out, VERSION);
        self.common(out);
        put32(out, known(u64::from(self.crc)));
        put32(out, known(self.packed_bytes));
        put32(out, known(self.size_bytes));
        put16(out, self.name.len() as u16);
        put16(out, EXTRA_TIME_BYTES as u16);
        out.extend_from_slice(self.name);
        self.time_field(out);
    }

    /// Appends the descriptor that follows the data of a streamed entry.
    pub(super) fn descriptor(&self, out: &mut Vec<u8>) {
        put32(out, 0x0807_4b50);
        put32(out, self.crc);
        if self.wide_sizes() {
            put64(out, self.packed_bytes);
            put64(out, self.size_bytes);
        } else {
            put32(out, self.packed_bytes as u32);
            put32(out, self.size_bytes as u32);
        }
    }

    /// Appends the central record.
    pub(super) fn central(&self, out: &mut Vec<u8>) {
        let (wide_sizes, wide_offset) = (self.wide_sizes(), self.offset >= MAX_32);
        // Both sizes go into the zip64 field when either must: the descriptor holds both wide.
        let zip64_bytes = usize::from(wide_sizes) * 16 + usize::from(wide_offset) * 8;
        let extra = EXTRA_TIME_BYTES + if zip64_bytes > 0 { 4 + zip64_bytes } else { 0 };
        let version = if zip64_bytes > 0 { VERSION_ZIP64 } else { VERSION };
        let narrow = |value: u64, wide: bool| if wide { u32::MAX } else { value as u32 };
        put32(out, 0x0201_4b50);
        put16(out, MADE_BY_UNIX | version);
        put16(out, version);
        self.common(out);
        put32(out, self.crc);
        put32(out, narrow(self.packed_bytes, wide_sizes));
        put32(out, narrow(self.size_bytes, wide_sizes));
        put16(out, self.name.len() as u16);
        put16(out, extra as u16);
        put16(out, 0); // comment
        put16(out, 0); // disk
        put16(out, 0); // internal attributes
        put32(out, self.mode << 16);
        put32(out, narrow(self.offset, wide_offset));
        out.extend_from_slice(self.name);
        self.time_field(out);
        if zip64_bytes > 0 {
            put16(out, EXTRA_ZIP64);
            put16(out, zip64_bytes as u16);
            if wide_sizes {
                put64(out, self.size_bytes);
                put64(out, self.packed_bytes);
            }
            if wide_offset {
                put64(out, self.offset);
            }
        }
    }

    fn common(&self, out: &mut Vec<u8>) {
        put16(out, self.flags());
        put16(out, self.method);
        put16(out, self.stamp.dos_time);
        put16(out, self.stamp.dos_date);
    }

    fn time_field(&self, out: &mut Vec<u8>) {
        put16(out, EXTRA_TIME);
        put16(out, 5);
        out.push(1); // only the modification time
        put32(out, self.stamp.unix_seconds);
    }
}

/// The name inside a central record, and the record's length; `None` for anything else.
pub(super) fn central_name(record: &[u8]) -> Option<(&[u8], usize)> {
    let at16 = |at: usize| {
        let bytes = record.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    let name_bytes = at16(28)?;
    let length = 46 + name_bytes + at16(30)? + at16(32)?;
    Some((record.get(46..46 + name_bytes)?, length))
}

/// Appends the end records, with the zip64 ones only where a number needs them.
pub(super) fn end_records(out: &mut Vec<u8>, entries: u64, bytes: u64, offset: u64) {
    if entries >= MAX_16 || bytes >= MAX_32 || offset >= MAX_32 {
        put32(out, 0x0606_4b50);
        put64(out, 44); // what follows in this record
        put16(out, MADE_BY_UNIX | VERSION_ZIP64);
        put16(out, VERSION_ZIP64);
        put32(out, 0);
        put32(out, 0);
        put64(out, entries);
        put64(out, entries);
        put64(out, bytes);
        put64(out, offset);
        put32(out, 0x0706_4b50);
        put32(out, 0);
        put64(out, offset + bytes);
        put32(out, 1);
    }
    put32(out, 0x0605_4b50);
    put16(out, 0);
    put16(out, 0);
    put16(out, entries.min(MAX_16) as u16);
    put16(out, entries.min(MAX_16) as u16);
    put32(out, bytes.min(MAX_32) as u32);
    put32(out, offset.min(MAX_32) as u32);
    put16(out, 0); // comment
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8]) -> Record<'_> {
        Record {
            name,
            mode: 0o100644,
            stamp: Stamp::new(DateTime::UNIX_EPOCH),
            method: DEFLATE,
            streamed: false,
            crc: 1,
            packed_bytes: 2,
            size_bytes: 3,
            offset: 4,
        }
    }

    #[test]
    fn times_are_clamped_to_what_dos_can_say() {
        for (time, date, clock, unix) in [
            ("1950-06-01T00:00:00Z", (1 << 5) | 1, 0, 0),
            ("1979-12-31T23:59:59Z", (1 << 5) | 1, 0, 315_532_799),
            (
                "2026-11-21T09:02:11Z",
                (46 << 9) | (11 << 5) | 21,
                (9 << 11) | (2 << 5) | 5,
                1_795_251_731,
            ),
            ("2107-12-31T23:59:59Z", 0xff9f, 0xbf7d, u32::MAX),
            ("2300-01-01T00:00:00Z", 0xff9f, 0xbf7d, u32::MAX),
        ] {
            let stamp = Stamp::new(time.parse().expect("a date"));
            let expected = Stamp { dos_date: date, dos_time: clock, unix_seconds: unix };
            assert_eq!(stamp, expected, "{time}");
        }
    }

    #[test]
    fn only_names_that_need_it_carry_the_utf8_flag() {
        for (name, flag) in [
            (&b"a\\b:c~\x01"[..], 0),
            ("ä".as_bytes(), FLAG_UTF8),
            ("ä\\b:c".as_bytes(), FLAG_UTF8),
            (&b"\xff\xfe"[..], 0),
        ] {
            assert_eq!(record(name).flags(), flag, "{name:?}");
        }
    }

    #[test]
    fn zip64_fields_appear_only_where_a_number_needs_them() {
        let length = |change: &dyn Fn(&mut Record<'_>)| {
            let mut record = record(b"a");
            change(&mut record);
            let mut out = Vec::new();
            record.central(&mut out);
            assert_eq!(central_name(&out), Some((&b"a"[..], out.len())));
            out.len()
        };
        let plain = length(&|_| ());
        assert_eq!(plain, 46 + 1 + 9);
        assert_eq!(length(&|r| r.offset = MAX_32 - 1), plain);
        assert_eq!(length(&|r| r.offset = MAX_32), plain + 12);
        assert_eq!(length(&|r| r.size_bytes = MAX_32), plain + 20);
        assert_eq!(length(&|r| (r.packed_bytes, r.offset) = (MAX_32, MAX_32)), plain + 28);

        let end = |entries, bytes, offset| {
            let mut out = Vec::new();
            end_records(&mut out, entries, bytes, offset);
            out.len()
        };
        assert_eq!(end(MAX_16 - 1, 0, MAX_32 - 1), 22);
        assert_eq!(end(MAX_16, 0, 0), 22 + 56 + 20);
        assert_eq!(end(0, 0, MAX_32), 22 + 56 + 20);
    }
}
