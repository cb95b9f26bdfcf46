//! Whether the first bytes of a file are those of a plain zip archive, by the rules of the
//! library PocketBase uses (mimetype 1.4.15), and the made-up file name its refusal shows.
//! Formats that are zips inside (docx, jar, apk, odt …) do not pass.

use rand::RngExt;

use crate::backup::snake_case;

/// Bytes of a file that are looked at.
pub const SNIFF_BYTES: usize = 4096;

const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
/// Entries that are looked at.
const ENTRIES_MAX: usize = 100;
const APK_ENTRIES: &[&[u8]] = &[
    b"AndroidManifest.xml",
    b"META-INF/com/android/build/gradle/app-metadata.properties",
    b"classes.dex",
    b"resources.arsc",
    b"res/drawable",
];
const JAR_ENTRIES: &[&[u8]] = &[b"META-INF/", b"META-INF/MANIFEST.MF"];
/// What the first entry of an Office file may be, besides the content types.
const OFFICE_FIRST: &[&[u8]] = &[b"_rels/", b"docProps/", b"customXml/", b"[trash]/"];
/// Formats that say what they are in their first entry, called `mimetype`.
const DECLARED: &[(&[u8], &str)] = &[
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ".odt"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", ".ods"),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", ".odp"),
    (b"mimetypeapplication/vnd.oasis.opendocument.graphics", ".odg"),
    (b"mimetypeapplication/vnd.oasis.opendocument.formula", ".odf"),
    (b"mimetypeapplication/vnd.oasis.opendocument.chart", ".odc"),
    (b"mimetypeapplication/vnd.sun.xml.calc", ".sxc"),
];

/// Whether a file that begins so is a plain zip archive.
pub fn is_zip(head: &[u8]) -> bool {
    let head = &head[..head.len().min(SNIFF_BYTES)];
    has_zip_magic(head) && zip_based(head).is_none()
}

/// The bytes 3 to 4 need not fit together.
fn has_zip_magic(head: &[u8]) -> bool {
    matches!(head, [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..])
}

/// The extension of the zip-based format, `None` for plain zips.
fn zip_based(head: &[u8]) -> Option<&'static str> {
    let declares = |text: &[u8]| head.get(30..).is_some_and(|rest| rest.starts_with(text));
    let office = [(&b"word/"[..], ".docx"), (b"ppt/", ".pptx"), (b"xl/", ".xlsx")];
    if let Some((_, extension)) = office.iter().find(|(folder, _)| is_office(head, folder)) {
        return Some(extension);
    }
    if declares(b"mimetypeapplication/epub+zip") {
        return Some(".epub");
    }
    if has_empty_first_entry(head)
        || entries(head).take(ENTRIES_MAX).any(|name| APK_ENTRIES.contains(&name))
    {
        return Some(".apk");
    }
    if is_executable_jar(head) || entries(head).take(1).any(|name| JAR_ENTRIES.contains(&name)) {
        return Some(".jar");
    }
    if let Some((_, extension)) = DECLARED.iter().find(|(text, _)| declares(text)) {
        return Some(extension);
    }
    if entries(head).take(ENTRIES_MAX).any(|name| name == b"doc.kml") {
        return Some(".kmz");
    }
    is_office(head, b"visio/").then_some(".vsdx")
}

/// The names of entries: after each local header's magic, wherever it stands; up to one that
/// has no name or is not all there.
fn entries(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let at = memchr::memmem::find(rest, LOCAL_HEADER)?;
        let len = usize::from(u16_at(rest, at + 26)?);
        rest = rest.get(at + 30..)?;
        rest.get(..len).filter(|name| !name.is_empty())
    })
}

fn is_office(head: &[u8], folder: &[u8]) -> bool {
    let mut names = entries(head).take(ENTRIES_MAX);
    let Some(first) = names.next() else { return false };
    if first.starts_with(folder) {
        return true;
    }
    let expected = first == b"[Content_Types].xml"
        || OFFICE_FIRST.iter().any(|folder| first.starts_with(folder));
    expected && names.any(|name| name.starts_with(folder))
}

/// A first entry without name, content, checksum or compression: a mark of Android's tools.
fn has_empty_first_entry(head: &[u8]) -> bool {
    let zero = |from: usize, to: usize| {
        head.get(from..to).is_some_and(|bytes| bytes.iter().all(|b| *b == 0))
    };
    let extra = u16_at(head, 28).map(usize::from);
    memchr::memmem::find(head, LOCAL_HEADER).is_some()
        && zero(8, 10)
        && zero(14, 28)
        && extra.is_some_and(|len| head.len() >= 30 + len)
}

/// The extra field of the first entry begins with 0xCAFE.
fn is_executable_jar(head: &[u8]) -> bool {
    let Some(name_len) = u16_at(head, 26) else { return false };
    let extra = 30 + usize::from(name_len);
    // A name that leads beyond the sniffed bytes is ignored, like there.
    let at = if extra <= head.len() { extra } else { 28 };
    u16_at(head, at) == Some(0xCAFE)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The name that stands in the refusal of a file: its stem in snake case, ten random
/// characters, its extension cleaned. `head` gives an extension to names that have none; only
/// formats a person might mistake for a backup are told apart.
pub fn mangled(name: &str, head: &[u8]) -> String {
    let name = last_bytes(name, 300);
    let extension = extension(name);
    let mut clean: String = extension.chars().filter(|c| is_extension_char(*c)).collect();
    clean = format!(".{}", clean.trim_matches('.'));
    if clean == "." {
        clean = detected(head).to_owned();
    }
    if clean.len() > 20 {
        clean = format!(".{}", clean[clean.len() - 20..].trim_matches('.'));
    }
    let mut stem = snake_case(name.strip_suffix(extension).unwrap_or(name).trim_matches('.'));
    if stem.len() < 3 {
        stem.push_str(&random());
    }
    stem.truncate(100);
    format!("{stem}_{}{clean}", random())
}

fn last_bytes(text: &str, count: usize) -> &str {
    let from =
        (text.len().saturating_sub(count)..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(text.len())..]
}

/// With its dot; `.tar.gz` and the like count as one.
fn extension(name: &str) -> &str {
    let Some(last) = name.rfind('.') else { return "" };
    &name[name[..last].rfind('.').unwrap_or(last)..]
}

fn is_extension_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.*-+=#".contains(c)
}

fn random() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    (0..10).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

fn detected(head: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"7z\xbc\xaf\x27\x1c", ".7z"),
        (b"%PDF-", ".pdf"),
        (b"\x89PNG\r\n\x1a\n", ".png"),
        (b"\x1f\x8b", ".gz"),
        (b"SQLite format 3\0", ".sqlite"),
        (b"\xfd7zXZ\0", ".xz"),
        (b"\x28\xb5\x2f\xfd", ".zst"),
        (b"<html", ".html"),
        (b"<?xml", ".xml"),
        (b"#!/bin/sh", ".sh"),
    ];
    let head = &head[..head.len().min(SNIFF_BYTES)];
    if has_zip_magic(head) {
        return zip_based(head).unwrap_or(".zip");
    }
    if let Some((_, extension)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return extension;
    }
    if serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(head).is_ok() {
        return ".json";
    }
    let binary = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\n' | 0x0c | b'\r' | 0x1b);
    if head.iter().any(binary) { "" } else { ".txt" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Local headers of stored entries of one byte each, and an end record's magic.
    fn zip(names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for name in names {
            let len = u16::try_from(name.len()).expect("short").to_le_bytes();
            out.extend_from_slice(b"PK\x03\x04\x14\0\x08\0\0\0\0\0\0\0\x83\x16\xdc\x8c");
            out.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, len[0], len[1], 0, 0]);
            out.extend_from_slice(name.as_bytes());
            out.push(b'x');
        }
        out.extend_from_slice(b"PK\x05\x06");
        out
    }

    #[test]
    fn formats_are_told_apart_as_pocketbase_tells_them() {
        let declaring = |text: &str| {
            let mut raw = zip(&["mimetype"]);
            raw.truncate(38);
            raw.extend_from_slice(text.as_bytes());
            raw
        };
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("classes.dex");
        let zeros = |count: usize| [b"PK\x03\x04".to_vec(), vec![0; count]].concat();
        let cases: Vec<(&str, Vec<u8>, bool)> = vec![
            ("a backup", zip(&["data.db", "auxiliary.db"]), true),
            ("no entries", zip(&[]), true),
            ("magic 3/4", b"PK\x03\x04".to_vec(), true),
            ("magic 7/8", b"PK\x07\x08".to_vec(), true),
            ("magic 3/6", b"PK\x03\x06".to_vec(), true),
            ("short magic", b"PK\x03".to_vec(), false),
            ("empty", vec![], false),
            ("a script in front", [b"#!/bin/sh\n".to_vec(), zip(&["a"])].concat(), false),
            ("jar", zip(&["META-INF/MANIFEST.MF"]), false),
            ("jar folder", zip(&["META-INF/"]), false),
            ("jar second", zip(&["a", "META-INF/MANIFEST.MF"]), true),
            ("not jar", zip(&["META-INF/x"]), true),
            ("apk", zip(&["a", "AndroidManifest.xml"]), false),
            ("apk dex", zip(&["data.db", "classes.dex"]), false),
            ("apk out of sight", zip(&many), true),
            ("docx", zip(&["[Content_Types].xml", "word/document.xml"]), false),
            ("docx first", zip(&["word/x"]), false),
            ("not docx", zip(&["data.db", "word/x"]), true),
            ("xlsx", zip(&["_rels/x", "xl/x"]), false),
            ("pptx", zip(&["docProps/x", "ppt/x"]), false),
            ("visio", zip(&["customXml/x", "visio/x"]), false),
            ("types only", zip(&["[Content_Types].xml"]), true),
            ("kmz", zip(&["a", "doc.kml"]), false),
            ("odt", declaring("application/vnd.oasis.opendocument.text"), false),
            ("odc", declaring("application/vnd.oasis.opendocument.chart"), false),
            ("odb", declaring("application/vnd.oasis.opendocument.base"), true),
            ("epub", declaring("application/epub+zip"), false),
            ("sxc", declaring("application/vnd.sun.xml.calc"), false),
            ("zeros", zeros(26), false),
            ("fewer zeros", zeros(25), true),
        ];
        for (what, head, expected) in cases {
            assert_eq!(is_zip(&head), expected, "{what}");
        }
    }

    #[test]
    fn mangled_names_look_like_pocketbases() {
        // `#` stands for ten random characters. Taken from v0.40.4 with these names.
        let long = format!("{}.zip", "x".repeat(400));
        let long_mangled = format!("{}_#.zip", "x".repeat(100));
        let cases = [
            ("text.zip", "text_#.zip"),
            ("My File (1).ZIP", "my_file_1_#.ZIP"),
            ("archive.tar.gz", "archive_#.tar.gz"),
            ("a.b.c.d.zip", "a_b_c_#.d.zip"),
            ("a.zip", "a#_#.zip"),
            (".hidden.zip", "#_#.hidden.zip"),
            ("..zip", "#_#.zip"),
            ("zip", "zip_#.txt"),
            ("name.", "name_#.txt"),
            ("ünï.zip", "n#_#.zip"),
            ("myTestDB.zip", "my_test_db_#.zip"),
            ("MYBackup2Day.zip", "mybackup2_day_#.zip"),
            ("a<b>.zip", "a_b_#.zip"),
            ("x.ünï", "x#_#.n"),
            ("x.verylongextensionmorethantwentychars", "x#_#.nmorethantwentychars"),
            ("__a--b__.zip", "a_b_#.zip"),
            ("aÄb.zip", "a_b_#.zip"),
            ("file name.with spaces.zip", "file_name_#.withspaces.zip"),
            ("%2e%2e%2fx.zip", "2e_2e_2fx_#.zip"),
            ("x.z*i-p+=", "x#_#.z*i-p+="),
            (long.as_str(), long_mangled.as_str()),
        ];
        for (name, expected) in cases {
            let found = mangled(name, b"hello world");
            let pattern = regex::escape(expected).replace("\\#", "[a-z0-9]{10}");
            let pattern = regex::Regex::new(&format!("^{pattern}$")).expect("a pattern");
            assert!(pattern.is_match(&found), "{name}: {found} is not {expected}");
        }
        for (head, extension) in [
            (&b"PK\x03\x04"[..], ".zip"),
            (b"{\"a\":1}", ".json"),
            (b"\0\x01", ""),
            (b"\x1f\x8b\x08", ".gz"),
        ] {
            let found = mangled("noext", head);
            assert_eq!(found.split_at(16).1, extension, "{found}");
        }
    }
}
