//! The nouns: a backup's key, a stored backup, and the entries of an archive.

use std::fmt;
use std::io::Read;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use regex::Regex;

use crate::error::{Error, Kind, Result, Violation};

/// Longest name a client may choose for a new backup, in bytes (PocketBase's rule).
pub const NAME_BYTES_MAX: usize = 150;
/// Longest key that is kept at all, in bytes: a file name that leaves room for our suffixes.
pub const KEY_BYTES_MAX: usize = 234;
/// Longest application name inside a generated key, in bytes (PocketBase's rule).
const APP_NAME_BYTES_MAX: usize = 50;
/// The prefix of keys made by PocketBase's schedule.
pub const AUTO_PREFIX: &str = "@auto_";
/// How names of dumps of a PostgreSQL database end.
pub const DUMP_SUFFIX: &str = ".dump";

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
    Regex::new(r"^[a-z0-9_-]+\.zip$").expect("a valid pattern")
});

/// The name of a backup, one path element, valid for every storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A name that a client chose for a new backup: `[a-z0-9_-]+.zip`, 1 to 150 bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with PocketBase's codes under `name`.
    pub fn named(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(
                Violation::new(
                    "name",
                    "validation_length_out_of_range",
                    format!("The length must be between 1 and {NAME_BYTES_MAX}."),
                )
                .with("min", 1)
                .with("max", NAME_BYTES_MAX),
            ));
        }
        if !NAME.is_match(name) {
            return Err(Error::invalid(Violation::new(
                "name",
                "validation_match_invalid",
                "Must be in a valid format.",
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// A name that already exists somewhere (uploaded, listed, asked for): one path element
    /// without control characters, at most [`KEY_BYTES_MAX`] bytes, not a side-car, not ours.
    ///
    /// # Errors
    /// [`Kind::NotFound`]: no backup can have that name.
    pub fn existing(name: &str) -> Result<Self> {
        let forbidden = name.is_empty()
            || name.len() > KEY_BYTES_MAX
            || name == "."
            || name == ".."
            || name.contains('/')
            || name.chars().any(|c| c.is_control() && c != '\t')
            || name.ends_with(".attrs")
            || is_partial(name);
        if forbidden {
            return Err(Error::new(Kind::NotFound, format!("no backup can be named {name:?}")));
        }
        Ok(Self(name.to_owned()))
    }

    /// A generated name: `pb_backup_<app>_<UTC yyyymmddHHMMSS>.zip` (PocketBase's form),
    /// with [`AUTO_PREFIX`] in front for scheduled ones.
    pub fn generate(app_name: &str, now: DateTime<Utc>, scheduled: bool) -> Self {
        let mut app = snake_case(app_name);
        app.truncate(APP_NAME_BYTES_MAX);
        let prefix = if scheduled { AUTO_PREFIX } else { "" };
        Self(format!("{prefix}pb_backup_{app}_{}.zip", now.format("%Y%m%d%H%M%S")))
    }

    /// The name of the backup that is made before a restore: `pre_restore_<UTC>.zip`, which any
    /// client may also choose itself.
    pub fn before_restore(now: DateTime<Utc>) -> Self {
        Self(format!("pre_restore_{}.zip", now.format("%Y%m%d%H%M%S")))
    }

    /// A name that a client chose for a new dump: `[a-z0-9_-]+.dump`, 1 to 150 bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] under `name`, as [`Key::named`].
    pub fn named_dump(name: &str) -> Result<Self> {
        let zip = name.strip_suffix(DUMP_SUFFIX).map(|stem| format!("{stem}.zip"));
        Self::named(zip.as_deref().unwrap_or(if name.is_empty() { "" } else { "?" }))?;
        Ok(Self(name.to_owned()))
    }

    /// A generated name of a dump: `<prefix>_<UTC yyyymmdd_HHMMSS>.dump`.
    pub fn generate_dump(prefix: &str, now: DateTime<Utc>) -> Self {
        Self(format!("{prefix}_{}{DUMP_SUFFIX}", now.format("%Y%m%d_%H%M%S")))
    }

    /// The same key with a counter before its extension, for generated names that are taken.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Self {
        let (stem, suffix) = match self.0.strip_suffix(DUMP_SUFFIX) {
            Some(stem) => (stem, DUMP_SUFFIX),
            None => (self.0.strip_suffix(".zip").unwrap_or(&self.0), ".zip"),
        };
        Self(format!("{stem}_{n}{suffix}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The suffix of files of ours that are still being written; such files are never listed.
pub const PARTIAL_SUFFIX: &str = ".pocketvault-part";

/// Whether a file name is that of a file being written (ours, or PocketBase's `*.<16 hex>.tmp`).
pub fn is_partial(name: &str) -> bool {
    if name.ends_with(PARTIAL_SUFFIX) {
        return true;
    }
    let Some(stem) = name.strip_suffix(".tmp") else { return false };
    let Some((_, hex)) = stem.rsplit_once('.') else { return false };
    hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// PocketBase's snake case: ASCII words in lower case joined by `_`, with a new one at each
/// upper-case letter that does not follow another; everything else parts words.
pub fn snake_case(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut previous_upper = true;
        if !out.is_empty() {
            out.push('_');
        }
        for c in word.chars() {
            if c.is_ascii_uppercase() && !previous_upper {
                out.push('_');
            }
            previous_upper = c.is_ascii_uppercase();
            out.push(c.to_ascii_lowercase());
        }
    }
    out
}

/// A stored backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name.
    pub key: Key,
    /// Size of its archive in bytes.
    pub size_bytes: u64,
    /// When it was stored, by the storage's clock.
    pub modified: DateTime<Utc>,
}

/// The relative path of an entry inside an archive: `/` between parts, no `.`, `..`, empty
/// or absolute parts. Bytes, because file names on Unix are bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Parses a path that is already in its normal form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] for empty, absolute or climbing paths and for NUL bytes.
    pub fn parse(path: impl Into<Vec<u8>>) -> Result<Self> {
        let path = path.into();
        let sound = !path.is_empty()
            && !path.contains(&0)
            && path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        if !sound {
            let shown = String::from_utf8_lossy(&path).into_owned();
            return Err(Error::new(Kind::Corrupt, format!("unusable entry path {shown:?}")));
        }
        Ok(Self(path))
    }

    /// The path as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as a relative file-system path.
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: EntryPath,
    /// Its size in bytes when it was listed; what is read later decides.
    pub size_bytes: u64,
    /// Its modification time.
    pub modified: DateTime<Utc>,
    /// Unix mode including the file type bits (`st_mode`).
    pub mode: u32,
}

/// How an entry's bytes are had. Opened on a worker thread, possibly much later than listed.
pub trait Content: Send {
    /// Opens it; `None` when the file vanished since it was listed.
    ///
    /// # Errors
    /// Whatever reading the source can fail with; the backup fails with it.
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>>;
}

/// An entry together with its bytes.
pub struct Item {
    /// What it is.
    pub entry: Entry,
    /// How to read it.
    pub content: Box<dyn Content>,
}

/// A stream of entries in the order in which the archive shall hold them.
pub trait Items: Send {
    /// The next one, `None` at the end.
    ///
    /// # Errors
    /// The source cannot be read; the backup fails with it.
    fn next(&mut self) -> Result<Option<Item>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_choose() {
        let code = |name: &str| match Key::named(name).map_err(|e| e.kind().clone()) {
            Ok(_) => "ok".to_owned(),
            Err(Kind::Invalid(v)) => v[0].code.to_string(),
            Err(other) => format!("{other:?}"),
        };
        let long = |n: usize| format!("{}.zip", "a".repeat(n));
        for (name, expected) in [
            ("a.zip", "ok"),
            ("my_backup-2024.zip", "ok"),
            ("", "validation_length_out_of_range"),
            ("A.zip", "validation_match_invalid"),
            ("a.zip\n", "validation_match_invalid"),
            ("../a.zip", "validation_match_invalid"),
            ("@auto_a.zip", "validation_match_invalid"),
            ("a", "validation_match_invalid"),
            (".zip", "validation_match_invalid"),
            (&long(146), "ok"),
            (&long(147), "validation_length_out_of_range"),
        ] {
            assert_eq!(code(name), expected, "{name:?}");
        }
    }

    #[test]
    fn names_that_exist() {
        for name in ["a b.zip", "@auto_pb_backup__1.zip", ".hidden", "a\"b", "x.tmp", "ä.zip"] {
            assert!(Key::existing(name).is_ok(), "{name:?}");
        }
        let partial = format!("a.zip.1{PARTIAL_SUFFIX}");
        let long = "a".repeat(235);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\0",
            "a\n",
            "a.attrs",
            &partial,
            &long,
            "a.zip.17a2b3c4d5e6f708.tmp",
        ] {
            assert!(Key::existing(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn generated_names_are_pocketbase_s() {
        let now = "2026-11-21T09:02:11Z".parse().expect("a date");
        for (app, expected) in [
            ("Acme", "pb_backup_acme_20261121090211.zip"),
            ("My Great-App 2", "pb_backup_my_great_app_2_20261121090211.zip"),
            ("", "pb_backup__20261121090211.zip"),
        ] {
            assert_eq!(Key::generate(app, now, false).as_str(), expected);
        }
        assert_eq!(
            Key::generate("Acme", now, true).numbered(2).as_str(),
            "@auto_pb_backup_acme_20261121090211_2.zip"
        );
    }

    #[test]
    fn names_of_dumps() {
        for (name, expected) in [
            ("a.dump", true),
            ("nightly_2026-11-21.dump", true),
            ("", false),
            ("a.zip", false),
            (".dump", false),
            ("A.dump", false),
            ("../a.dump", false),
            ("a.dump.dump", false),
        ] {
            assert_eq!(Key::named_dump(name).is_ok(), expected, "{name:?}");
        }
        let now = "2026-11-21T09:02:11Z".parse().expect("a date");
        let key = Key::generate_dump("ledger", now);
        assert_eq!(key.as_str(), "ledger_20261121_090211.dump");
        assert_eq!(key.numbered(3).as_str(), "ledger_20261121_090211_3.dump");
    }

    #[test]
    fn words_are_parted_as_pocketbase_parts_them() {
        // The expected values were made with PocketBase v0.40.4's own function.
        let cases = [
            ("", ""),
            (" _!@#. ", ""),
            ("John Doe", "john_doe"),
            ("_a__b_", "a_b"),
            ("HelloWorld1HelloWorld2", "hello_world1_hello_world2"),
            (".a!b@c#d$e%123. ", "a_b_c_d_e_123"),
            ("myTestDB", "my_test_db"),
            ("ABc", "abc"),
            ("GmbH", "gmb_h"),
            ("a1B", "a1_b"),
            ("x-Y", "x_y"),
            ("aÄb", "a_b"),
            ("äB", "b"),
            ("aéB", "a_b"),
            ("café", "caf"),
            ("Müller GmbH", "m_ller_gmb_h"),
            ("日本", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(snake_case(text), expected, "{text:?}");
        }
    }

    #[test]
    fn entry_paths_never_climb() {
        for path in ["a", "a/b", ".hidden", "a b/ä", "..a"] {
            assert!(EntryPath::parse(path).is_ok(), "{path:?}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "a/../b", "..", "./a", "a\0b"] {
            assert!(EntryPath::parse(path).is_err(), "{path:?}");
        }
    }
}
