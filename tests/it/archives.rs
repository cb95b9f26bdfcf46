//! Zip archives written by hand, so that a test can make broken and hostile ones.

use std::io::{Cursor, Read, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// A regular file, readable by all (`st_mode`).
pub(crate) const REGULAR: u32 = 0o100_644;

/// One file of an archive to be written.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) method: u16,
    /// Bits to set in the general purpose flags.
    pub(crate) flags: u16,
    /// Sizes that the headers claim instead of the true ones.
    pub(crate) claimed_size: Option<u32>,
}

impl Member {
    pub(crate) fn stored(name: &str, data: impl Into<Vec<u8>>) -> Self {
        let (name, data) = (name.to_owned(), data.into());
        Self { name, data, mode: REGULAR, method: STORED, flags: 0, claimed_size: None }
    }
}

/// The members of an archive; folders come as names that end with a slash.
pub(crate) fn read_zip(archive: &[u8]) -> Vec<Member> {
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).expect("a zip");
    (0..zip.len())
        .map(|at| {
            let mut file = zip.by_index(at).expect("an entry");
            let name = file.name().expect("a name").into_owned();
            let mut data = Vec::new();
            file.read_to_end(&mut data).expect("its bytes");
            Member { method: DEFLATED, ..Member::stored(&name, data) }
        })
        .collect()
}

/// The 113 bytes of an archive with the one entry `data.db` = `x`; every recorded download is
/// one of it.
pub(crate) fn small_zip() -> Vec<u8> {
    stored_zip(&[("data.db".to_owned(), "x".to_owned())])
}

/// An archive of stored entries: name and content.
pub(crate) fn stored_zip(entries: &[(String, String)]) -> Vec<u8> {
    let members: Vec<_> =
        entries.iter().map(|(name, data)| Member::stored(name, data.as_str())).collect();
    write_zip(&members, false)
}

/// Writes an archive; with `zip64`, every size is in a zip64 field.
pub(crate) fn write_zip(members: &[Member], zip64: bool) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for member in members {
        let offset = out.len() as u32;
        let packed = pack(member);
        let sizes = (packed.len() as u32, member.claimed_size.unwrap_or(member.data.len() as u32));
        let (shown, extra) = if zip64 {
            let mut extra = vec![1, 0, 16, 0];
            extra.extend(u64::from(sizes.1).to_le_bytes());
            extra.extend(u64::from(sizes.0).to_le_bytes());
            ((u32::MAX, u32::MAX), extra)
        } else {
            (sizes, Vec::new())
        };
        let version: u16 = if zip64 { 45 } else { 20 };
        // From "version needed" to "extra length", the same in both kinds of headers.
        let mut common = Vec::new();
        for half in [version, member.flags, member.method, 0x1883, 0x5822] {
            common.extend(half.to_le_bytes());
        }
        for word in [crc32fast::hash(&member.data), shown.0, shown.1] {
            common.extend(word.to_le_bytes());
        }
        for half in [member.name.len() as u16, extra.len() as u16] {
            common.extend(half.to_le_bytes());
        }
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(member.name.bytes());
        out.extend(&extra);
        out.extend(&packed);
        central.extend(b"PK\x01\x02");
        central.extend([version as u8, 3]);
        central.extend(&common);
        central.extend([0; 6]);
        central.extend((member.mode << 16).to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend(member.name.bytes());
        central.extend(&extra);
    }
    let directory = out.len() as u32;
    out.extend(&central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(directory.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// The bytes of a member as its method demands. A method that we cannot write gets the plain
/// bytes: who reads the archive has to refuse it by its number.
fn pack(member: &Member) -> Vec<u8> {
    if member.method != DEFLATED || member.name.ends_with('/') {
        return member.data.clone();
    }
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&member.data).expect("memory");
    encoder.finish().expect("memory")
}
