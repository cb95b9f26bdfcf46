//! Archives made by hand, byte by byte, so that every field can lie.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// One entry; the fields say what the archive says, whatever the data is.
#[derive(Debug, Clone)]
pub(super) struct Craft {
    pub(super) name: Vec<u8>,
    pub(super) local_name: Option<Vec<u8>>,
    pub(super) packed: Vec<u8>,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) made_by: u16,
    pub(super) attributes: u32,
    pub(super) crc: u32,
    pub(super) packed_bytes: u32,
    pub(super) size_bytes: u32,
    pub(super) extra: Vec<u8>,
    /// Where the directory says that the local header is, when that is a lie.
    pub(super) offset: Option<u32>,
    /// No local header and no data: only the directory knows this entry.
    pub(super) phantom: bool,
}

pub(super) const UNIX: u16 = 3 << 8 | 20;

impl Craft {
    /// A stored file.
    pub(super) fn stored(name: &[u8], data: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            local_name: None,
            packed: data.to_vec(),
            method: 0,
            flags: 0,
            made_by: UNIX,
            attributes: 0o100_644 << 16,
            crc: crc32fast::hash(data),
            packed_bytes: data.len() as u32,
            size_bytes: data.len() as u32,
            extra: Vec::new(),
            offset: None,
            phantom: false,
        }
    }

    /// A deflated file.
    pub(super) fn deflated(name: &[u8], data: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).expect("compressed");
        let packed = encoder.finish().expect("compressed");
        let packed_bytes = packed.len() as u32;
        Self { packed, packed_bytes, method: 8, ..Self::stored(name, data) }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The end record's fields.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) entries: u16,
    pub(super) bytes: u32,
    pub(super) offset: u32,
    pub(super) comment: Vec<u8>,
    /// Zip64 records before it: entries, bytes, offset.
    pub(super) zip64: Option<(u64, u64, u64)>,
}

/// An archive of `crafts`, with its end record changed.
pub(super) fn zip_with(crafts: &[Craft], change: impl FnOnce(&mut End)) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for craft in crafts {
        let offset = craft.offset.unwrap_or(out.len() as u32);
        let name = craft.local_name.as_ref().unwrap_or(&craft.name);
        if !craft.phantom {
            put(&mut out, &[0x4b50, 0x0403, 20, craft.flags, craft.method, 0, 33]);
            put32(&mut out, &[craft.crc, craft.packed_bytes, craft.size_bytes]);
            put(&mut out, &[name.len() as u16, 0]);
            out.extend_from_slice(name);
            out.extend_from_slice(&craft.packed);
        }
        put(&mut directory, &[0x4b50, 0x0201, craft.made_by, 20, craft.flags, craft.method, 0, 33]);
        put32(&mut directory, &[craft.crc, craft.packed_bytes, craft.size_bytes]);
        put(&mut directory, &[craft.name.len() as u16, craft.extra.len() as u16, 0, 0, 0]);
        put32(&mut directory, &[craft.attributes, offset]);
        directory.extend_from_slice(&craft.name);
        directory.extend_from_slice(&craft.extra);
    }
    let mut end = End {
        entries: crafts.len() as u16,
        bytes: directory.len() as u32,
        offset: out.len() as u32,
        comment: Vec::new(),
        zip64: None,
    };
    change(&mut end);
    out.extend_from_slice(&directory);
    if let Some((entries, bytes, offset)) = end.zip64 {
        let at = out.len() as u64;
        put32(&mut out, &[0x0606_4b50]);
        put64(&mut out, &[44]);
        put(&mut out, &[45, 45]);
        put32(&mut out, &[0, 0]);
        put64(&mut out, &[entries, entries, bytes, offset]);
        put32(&mut out, &[0x0706_4b50, 0]);
        put64(&mut out, &[at]);
        put32(&mut out, &[1]);
    }
    put32(&mut out, &[0x0605_4b50, 0]);
    put(&mut out, &[end.entries, end.entries]);
    put32(&mut out, &[end.bytes, end.offset]);
    put(&mut out, &[end.comment.len() as u16]);
    out.extend_from_slice(&end.comment);
    out
}

/// An honest archive of `crafts`.
pub(super) fn zip(crafts: &[Craft]) -> Vec<u8> {
    zip_with(crafts, |_| ())
}

/// A zip64 extra field of the given numbers.
pub(super) fn zip64_field(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, &[1, numbers.len() as u16 * 8]);
    put64(&mut out, numbers);
    out
}

fn put(out: &mut Vec<u8>, values: &[u16]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, values: &[u32]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, values: &[u64]) {
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
