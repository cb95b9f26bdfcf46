//! Changes archives: single bits, bytes, pieces; and, because a blind change seldom gets past
//! the first signature, the fields of the records by name.

use rand::RngExt;
use rand::rngs::StdRng;

/// Most changes of one case.
const CHANGES_MAX: u32 = 4;

/// Places of fields in a record: offset and bytes.
type Fields = &'static [(usize, usize)];

/// Signatures, and the fields of the record behind each.
const RECORDS: [(&[u8; 4], Fields); 6] = [
    // Local header.
    (b"PK\x03\x04", &[(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]),
    // Central record.
    (
        b"PK\x01\x02",
        &[
            (4, 2),
            (8, 2),
            (10, 2),
            (16, 4),
            (20, 4),
            (24, 4),
            (28, 2),
            (30, 2),
            (32, 2),
            (34, 2),
            (38, 4),
            (42, 4),
        ],
    ),
    // End of the directory.
    (b"PK\x05\x06", &[(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
    // The same in zip64, and its locator.
    (b"PK\x06\x06", &[(4, 8), (12, 2), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)]),
    (b"PK\x06\x07", &[(4, 4), (8, 8), (16, 4)]),
    // Data descriptor.
    (b"PK\x07\x08", &[(4, 4), (8, 4), (12, 4)]),
];

/// Names that want to get out, or are odd.
const NAMES: [&[u8]; 12] = [
    b"../escaped",
    b"../../../../../../tmp/pocketvault-escaped",
    b"/tmp/pocketvault-escaped",
    b"a/../../escaped",
    b"..\\escaped",
    b"./data.db",
    b"data.db/",
    b"data.db/below",
    b"nul\0byte",
    b"\xff\xfe",
    b"storage//c/./r/empty",
    b"",
];

/// One of `seeds`, changed up to [`CHANGES_MAX`] times.
pub(crate) fn changed(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut archive = pick(seeds, rng).clone();
    for _ in 0..rng.random_range(1..=CHANGES_MAX) {
        match rng.random_range(0..12) {
            0 | 1 => flip(&mut archive, rng),
            2 => overwrite(&mut archive, rng),
            3 => cut(&mut archive, rng),
            4 => move_piece(&mut archive, rng),
            5 => archive = spliced(&archive, pick::<Vec<u8>>(seeds, rng), rng),
            6 | 7 => rename(&mut archive, rng),
            8 => list_twice(&mut archive, rng),
            _ => edit_field(&mut archive, rng),
        }
    }
    archive
}

fn pick<'a, T>(from: &'a [T], rng: &mut StdRng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// A place in the archive; 0 in an empty one.
fn place(archive: &[u8], rng: &mut StdRng) -> usize {
    if archive.is_empty() { 0 } else { rng.random_range(0..archive.len()) }
}

fn flip(archive: &mut [u8], rng: &mut StdRng) {
    let at = place(archive, rng);
    if let Some(byte) = archive.get_mut(at) {
        *byte ^= 1 << rng.random_range(0..8);
    }
}

fn overwrite(archive: &mut [u8], rng: &mut StdRng) {
    let at = place(archive, rng);
    let fill = [0, 0xff, rng.random::<u8>()][rng.random_range(0..3)];
    let length = rng.random_range(1..32);
    archive.iter_mut().skip(at).take(length).for_each(|byte| *byte = fill);
}

/// Ends it, begins it later, or takes a piece out.
fn cut(archive: &mut Vec<u8>, rng: &mut StdRng) {
    let at = place(archive, rng);
    match rng.random_range(0..3) {
        0 => archive.truncate(at),
        1 => drop(archive.drain(..at)),
        _ => {
            let end = archive.len().min(at + rng.random_range(1..100));
            archive.drain(at..end);
        }
    }
}

/// A piece is there twice, or foreign bytes come between.
fn move_piece(archive: &mut Vec<u8>, rng: &mut StdRng) {
    let (from, to) = (place(archive, rng), place(archive, rng));
    let end = archive.len().min(from + rng.random_range(1..200));
    let piece: Vec<u8> = if rng.random_bool(0.5) {
        archive[from..end].to_vec()
    } else {
        (from..end).map(|_| rng.random()).collect()
    };
    archive.splice(to..to, piece);
}

fn spliced(head: &[u8], tail: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let (to, from) = (place(head, rng), place(tail, rng));
    [&head[..to], &tail[from..]].concat()
}

/// Where each kind of record begins.
fn records(archive: &[u8]) -> Vec<(usize, Fields)> {
    let record_at = |(at, window): (usize, &[u8])| {
        RECORDS.iter().find(|(signature, _)| window == *signature).map(|(_, fields)| (at, *fields))
    };
    archive.windows(4).enumerate().filter_map(record_at).collect()
}

fn edit_field(archive: &mut [u8], rng: &mut StdRng) {
    let records = records(archive);
    if records.is_empty() {
        return;
    }
    let (at, fields) = *pick(&records, rng);
    let (offset, width) = *pick(fields, rng);
    let length = archive.len() as u64;
    let Some(field) = archive.get_mut(at + offset..at + offset + width) else { return };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(field);
    let old = u64::from_le_bytes(bytes);
    let most = u64::MAX >> (64 - 8 * width);
    let values: [u64; 13] = [
        0,
        1,
        most,
        most - 1,
        most / 2 + 1,
        old.wrapping_add(1),
        old.wrapping_sub(1),
        old.wrapping_mul(2),
        old ^ (1 << rng.random_range(0..8 * width)),
        length,
        length.wrapping_add(1),
        rng.random::<u64>() & most,
        rng.random_range(0..=length),
    ];
    let value = *pick(&values, rng);
    field.copy_from_slice(&value.to_le_bytes()[..width]);
}

/// Gives an entry another name in the directory, so that the way to the disk is tried; its
/// records are made consistent again, or all of this would be refused for its lengths.
fn rename(archive: &mut Vec<u8>, rng: &mut StdRng) {
    let central: Vec<usize> = starts(archive, b"PK\x01\x02");
    if central.is_empty() {
        return;
    }
    let at = *pick(&central, rng);
    let Some(old) = archive.get(at + 28..at + 30).map(|b| u16::from_le_bytes([b[0], b[1]])) else {
        return;
    };
    let name = pick(&NAMES, rng);
    let end = at + 46 + usize::from(old);
    if end > archive.len() {
        return;
    }
    archive[at + 28..at + 30].copy_from_slice(&(name.len() as u16).to_le_bytes());
    archive.splice(at + 46..end, name.iter().copied());
    grow_directory(archive, name.len() as i64 - i64::from(old), 0);
}

/// Lists an entry a second time.
fn list_twice(archive: &mut Vec<u8>, rng: &mut StdRng) {
    let central = starts(archive, b"PK\x01\x02");
    let Some(last) = central.last() else { return };
    let at = *pick(&central, rng);
    let next = central.iter().find(|other| **other > at).copied();
    let end = next.or_else(|| starts(archive, b"PK\x05\x06").first().copied());
    let Some(record) = end.and_then(|end| archive.get(at..end)).map(<[u8]>::to_vec) else { return };
    let length = record.len() as i64;
    archive.splice(*last..*last, record);
    grow_directory(archive, length, 1);
}

/// Tells the end record that the directory is longer.
fn grow_directory(archive: &mut [u8], bytes: i64, entries: u16) {
    let Some(end) = starts(archive, b"PK\x05\x06").last().copied() else { return };
    let Some(record) = archive.get_mut(end..end + 22) else { return };
    for at in [8, 10] {
        let count = u16::from_le_bytes([record[at], record[at + 1]]).wrapping_add(entries);
        record[at..at + 2].copy_from_slice(&count.to_le_bytes());
    }
    let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]);
    let size = (i64::from(size) + bytes) as u32;
    record[12..16].copy_from_slice(&size.to_le_bytes());
}

fn starts(archive: &[u8], signature: &[u8; 4]) -> Vec<usize> {
    let found = archive.windows(4).enumerate().filter(|(_, window)| window == signature);
    found.map(|(at, _)| at).collect()
}
