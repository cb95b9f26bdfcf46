//! An entry as a central directory describes it, before anything of it is believed.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use rawzip::time::ZipDateTimeKind;
use rawzip::{CompressionMethod, ZipArchiveEntryWayfinder, ZipFileHeaderRecord};

use crate::error::{Error, Kind};

const TYPE_MASK: u32 = 0o170_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// How an entry is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Store,
    /// Deflate.
    Deflate,
    /// Something that cannot be read here, by its number.
    Other(u16),
}

/// What an entry becomes when it is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    File,
    Folder,
    /// Symlinks, devices, FIFOs, sockets: nothing.
    Irregular,
}

/// One entry of an archive.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    name: Box<[u8]>,
    mode: u32,
    modified: Option<DateTime<Utc>>,
    method: Method,
    encrypted: bool,
    crc: u32,
    offset: u64,
    place: ZipArchiveEntryWayfinder,
}

/// Bytes of a local header before its name.
const LOCAL_HEADER_BYTES: u64 = 30;

impl StoredEntry {
    pub(super) fn new(record: &ZipFileHeaderRecord<'_>) -> Self {
        let method = match record.compression_method() {
            CompressionMethod::STORE => Method::Store,
            CompressionMethod::DEFLATE => Method::Deflate,
            other => Method::Other(other.as_u16()),
        };
        Self {
            name: record.file_path().as_ref().into(),
            mode: record.mode().value(),
            modified: time(&record.last_modified()),
            method,
            encrypted: record.flags().is_encrypted(),
            crc: record.crc32(),
            offset: record.local_header_offset(),
            place: record.wayfinder(),
        }
    }

    /// The name, byte for byte as it stands in the archive.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Unpacked size in bytes, as claimed.
    pub fn size_bytes(&self) -> u64 {
        self.place.uncompressed_size_hint()
    }

    /// Size inside the archive in bytes, as claimed.
    pub fn packed_bytes(&self) -> u64 {
        self.place.compressed_size_hint()
    }

    /// CRC-32 of the unpacked data, as claimed.
    pub fn crc32(&self) -> u32 {
        self.crc
    }

    /// How it is packed.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Unix mode with the file type bits, made up from DOS attributes where there is none.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Modification time, if it is a valid one; DOS times are taken for UTC.
    pub fn modified(&self) -> Option<DateTime<Utc>> {
        self.modified
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.form() == Form::Folder
    }

    /// The name without empty and `.` parts and with `..` resolved, as PocketBase resolves it;
    /// `None` when that leads nowhere or outside, or holds a NUL.
    pub fn path(&self) -> Option<Cow<'_, [u8]>> {
        normal(&self.name)
    }

    pub(super) fn form(&self) -> Form {
        match self.mode & TYPE_MASK {
            _ if self.name.ends_with(b"/") => Form::Folder,
            TYPE_FOLDER => Form::Folder,
            0 | TYPE_REGULAR => Form::File,
            _ => Form::Irregular,
        }
    }

    pub(super) fn place(&self) -> ZipArchiveEntryWayfinder {
        self.place
    }

    /// Where its local header begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The earliest byte at which something else may begin; `None` beyond all files.
    pub(super) fn least_end(&self) -> Option<u64> {
        let header = LOCAL_HEADER_BYTES + self.name.len() as u64;
        self.offset.checked_add(header)?.checked_add(self.packed_bytes())
    }

    /// The [`Kind::Corrupt`] error that says what is wrong with this entry.
    pub(super) fn corrupt(&self, reason: impl fmt::Display) -> Error {
        let name = String::from_utf8_lossy(&self.name);
        Error::new(Kind::Corrupt, format!("archive entry {name:?}: {reason}"))
    }

    /// As [`StoredEntry::corrupt`], for data that does not unpack to what is claimed.
    pub(super) fn damaged(&self, reason: &str) -> Error {
        if self.encrypted {
            return self.corrupt(format_args!("{reason} (it is marked as encrypted)"));
        }
        self.corrupt(reason)
    }
}

fn time(time: &ZipDateTimeKind) -> Option<DateTime<Utc>> {
    let date = NaiveDate::from_ymd_opt(
        i32::from(time.year()),
        u32::from(time.month()),
        u32::from(time.day()),
    )?;
    let time = date.and_hms_opt(
        u32::from(time.hour()),
        u32::from(time.minute()),
        u32::from(time.second()),
    )?;
    Some(time.and_utc())
}

fn normal(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    if name.contains(&0) {
        return None;
    }
    let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    if name.split(|byte| *byte == b'/').all(is_plain) {
        return Some(Cow::Borrowed(name));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(Cow::Owned(parts.join(&b'/'))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_as_pocketbase_resolves_them() {
        for (name, expected) in [
            (&b"a/b"[..], Some(&b"a/b"[..])),
            (b"/abs.txt", Some(b"abs.txt")),
            (b"./a", Some(b"a")),
            (b"a//b/", Some(b"a/b")),
            (b"a/../b", Some(b"b")),
            (b"a\\b", Some(b"a\\b")),
            (b"..a", Some(b"..a")),
            (b"\x01\x02", Some(b"\x01\x02")),
            (b"", None),
            (b"/", None),
            (b"./", None),
            (b"..", None),
            (b"../evil", None),
            (b"a/../../evil", None),
            (b"/../evil", None),
            (b"a/..", None),
            (b"a\0b", None),
        ] {
            assert_eq!(normal(name).as_deref(), expected, "{:?}", String::from_utf8_lossy(name));
        }
    }
}
