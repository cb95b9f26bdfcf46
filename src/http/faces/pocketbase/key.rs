//! A backup's key as it stands in a path, read as PocketBase's file driver reads it.

use crate::backup::Key;
use crate::error::{Error, Kind, Result};

/// The key of a decoded path segment: `/x` and `./x` are `x`.
///
/// # Errors
/// [`Kind::NotFound`]: no backup can have that name. [`Kind::Corrupt`]: PocketBase would fail
/// on it otherwise than by not finding it (not UTF-8, too long a name, a side-car).
pub(super) fn of_path(segment: &[u8]) -> Result<Key> {
    let Ok(name) = std::str::from_utf8(segment) else {
        return Err(Error::new(Kind::Corrupt, "the key is not UTF-8"));
    };
    let mut name = name;
    while let Some(rest) = name.strip_prefix('/').or_else(|| name.strip_prefix("./")) {
        name = rest;
    }
    if name.len() > 255 {
        return Err(Error::new(Kind::Corrupt, "the key is too long for a file name"));
    }
    if name.ends_with(".attrs") {
        return Err(Error::new(Kind::Corrupt, "the key is that of a side-car"));
    }
    Key::existing(name)
}

/// What PocketBase's file driver says of a key that it cannot delete. The folder of the
/// server's disk, which stands there in PocketBase's text, is always `/pb_data` here.
pub(super) fn not_deleted(segment: &[u8]) -> String {
    let Ok(key) = std::str::from_utf8(segment) else {
        return format!("Delete key must be a valid UTF-8 string: {}.", quoted(segment));
    };
    let reason = match key {
        _ if key.ends_with(".attrs") => "file extension \".attrs\" is reserved".to_owned(),
        ".." => "remove /pb_data: directory not empty".to_owned(),
        _ => {
            let name = escaped(key.trim_start_matches('/'));
            format!("remove /pb_data/backups/{name}: no such file or directory\nresource not found")
        }
    };
    format!("[key: {key}] {reason}.")
}

/// As a string in Go's source: bytes that are no text in hexadecimal.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// A slash that ends a name or follows `..` or another slash, and control characters, are
/// written as `__0x2f__`.
fn escaped(key: &str) -> String {
    let mut name = String::new();
    let mut before = String::new();
    let mut rest = key.chars().peekable();
    while let Some(letter) = rest.next() {
        let special = letter == '/'
            && (rest.peek().is_none() || before.ends_with("..") || before.ends_with('/'));
        if special || letter < ' ' {
            name.push_str(&format!("__{:#x}__", u32::from(letter)));
        } else {
            name.push(letter);
        }
        before.push(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_deleted() {
        for (segment, expected) in [
            (&b"\xff.zip"[..], r#"Delete key must be a valid UTF-8 string: "\xff.zip"."#),
            (b"a.attrs", "[key: a.attrs] file extension \".attrs\" is reserved."),
            (b"..", "[key: ..] remove /pb_data: directory not empty."),
            (
                b"../data.db",
                "[key: ../data.db] remove /pb_data/backups/..__0x2f__data.db: \
                 no such file or directory\nresource not found.",
            ),
            (
                b"noext/",
                "[key: noext/] remove /pb_data/backups/noext__0x2f__: \
                 no such file or directory\nresource not found.",
            ),
        ] {
            assert_eq!(not_deleted(segment), expected);
        }
    }

    #[test]
    fn keys_of_paths() {
        let long = "x".repeat(300);
        for (segment, expected) in [
            ("a.zip", Ok("a.zip")),
            ("/a.zip", Ok("a.zip")),
            ("./a.zip", Ok("a.zip")),
            ("x/../a.zip", Err(Kind::NotFound)),
            ("../data.db", Err(Kind::NotFound)),
            ("a.zip/", Err(Kind::NotFound)),
            ("a\n.zip", Err(Kind::NotFound)),
            ("..", Err(Kind::NotFound)),
            ("a.zip.attrs", Err(Kind::Corrupt)),
            (&long, Err(Kind::Corrupt)),
        ] {
            let found = of_path(segment.as_bytes());
            let found = found.as_ref().map(Key::as_str).map_err(|error| error.kind().clone());
            assert_eq!(found, expected, "{segment:?}");
        }
        assert_eq!(of_path(b"\xff").expect_err("not text").kind(), &Kind::Corrupt);
    }
}
