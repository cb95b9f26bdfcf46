//! The journal: one small file that says how far a restore has come.
//!
//! It is written before the thing it announces, durably and as a whole, and carries the names
//! of everything that moves, so that recovery after a crash never has to guess. A journal that
//! cannot be read is an error and never "no journal".

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::data_dir::{DataDir, STATE};
use crate::error::{Context, Error, Kind, Result};
use crate::restore::{Scope, disk};

/// The format of a restore of everything.
const VERSION: u32 = 1;
/// The format of a restore of a part, which the first program did not know. Any other format
/// is refused.
const VERSION_PARTIAL: u32 = 2;
/// The file's name inside [`DataDir::restore`].
const FILE: &str = "journal";

/// How far a restore has come. Each value is on the disk before its work begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new data is complete and checked; the live data is untouched.
    Staged,
    /// The old data is being moved out of the way.
    MovingOut,
    /// All old data is out; the new data is being moved in.
    MovingIn,
    /// The new data is in place and was not yet opened with success.
    Swapped,
    /// The new data was opened with success. The old data is kept for an undo.
    Proven,
    /// Rolling back: the new data is being moved out.
    TakingOut,
    /// Rolling back: the old data is being moved in again.
    PuttingBack,
    /// The old data is in place again, or was never touched.
    RolledBack,
}

impl Phase {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Proven | Self::RolledBack)
    }
}

/// What a swap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// An archive replaces the data.
    Restore,
    /// The data from before a restore comes back.
    Undo,
}

/// A relative path (one name, or a place inside `pb_data`), any bytes, readable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) OsString);

/// A folder of one bay: `<restore id>/new`, `<restore id>/old`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shelf {
    pub(super) id: String,
    pub(super) side: Side,
}

/// The two shelves of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    New,
    Old,
}

/// A folder whose children are swapped one by one: `pb_data` itself, and each folder below it
/// that cannot be renamed because it is, or holds, a mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Relative to `pb_data`, empty for itself.
    pub(super) dir: Name,
    /// Children that come in.
    pub(super) incoming: Vec<Name>,
    /// Children that go out; known once the swap begins.
    pub(super) outgoing: Vec<Name>,
}

/// Data that an undo can bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) shelf: Shelf,
    /// The backup that replaced this data.
    pub(super) key: String,
    /// Since when it is kept.
    pub(super) since: DateTime<Utc>,
    /// The places it was taken from.
    pub(super) dirs: Vec<Name>,
    /// How much of the data it is.
    #[serde(default)]
    pub(super) scope: Scope,
    /// How many names lie on its shelves; earlier programs did not note that.
    #[serde(default)]
    pub(super) names: Option<usize>,
}

/// The last restore or undo of one `pb_data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    pub(super) id: String,
    pub(super) operation: Operation,
    /// The backup that is restored, or whose restore is undone.
    pub(super) key: String,
    pub(super) started: DateTime<Utc>,
    pub(super) phase: Phase,
    /// How much of the data is replaced.
    #[serde(default)]
    pub(super) scope: Scope,
    /// How often the new data was handed to the application without a verdict.
    pub(super) attempts: u32,
    pub(super) incoming: Shelf,
    pub(super) outgoing: Shelf,
    pub(super) places: Vec<Place>,
    pub(super) kept: Option<Kept>,
    /// When the final phase was reached.
    pub(super) settled: Option<DateTime<Utc>>,
    /// Why it was rolled back.
    pub(super) reason: Option<String>,
}

impl Journal {
    /// A journal of phase [`Phase::Staged`], not yet written.
    pub(super) fn new(
        operation: Operation,
        id: &str,
        key: &str,
        started: DateTime<Utc>,
        scope: Scope,
        incoming: Shelf,
        places: Vec<Place>,
    ) -> Self {
        Self {
            version: if scope.is_all() { VERSION } else { VERSION_PARTIAL },
            id: id.to_owned(),
            operation,
            key: key.to_owned(),
            started,
            phase: Phase::Staged,
            scope,
            attempts: 0,
            incoming,
            outgoing: Shelf { id: id.to_owned(), side: Side::Old },
            places,
            kept: None,
            settled: None,
            reason: None,
        }
    }

    /// The journal of a folder, `None` when nothing was ever restored there.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is damaged or of another version; what to do then is in
    /// `docs/restore.md`.
    pub(super) fn load(data: &DataDir) -> Result<Option<Self>> {
        let path = path(data);
        let Some(bytes) = disk::read(&path)? else { return Ok(None) };
        parse(&bytes).map(Some).map_err(|why| {
            Error::new(Kind::Corrupt, format!("the restore journal {}: {why}", path.display()))
                .hint("see docs/restore.md, \"The journal cannot be read\"")
        })
    }

    /// Writes it durably.
    pub(super) fn save(&self, data: &DataDir) -> Result<()> {
        let json = serde_json::to_string(self).context("cannot word the restore journal")?;
        let checksum = crc32fast::hash(json.as_bytes());
        disk::create_dir_below(data.root(), &data.restore())?;
        disk::write(data.root(), &path(data), format!("{json}\n{checksum:08x}\n").as_bytes())
    }

    /// Writes it with the next phase; unchanged when that fails.
    pub(super) fn enter(&mut self, data: &DataDir, phase: Phase) -> Result<()> {
        let next = Self { phase, ..self.clone() };
        next.save(data)?;
        *self = next;
        Ok(())
    }

    /// The folders that are swapped.
    pub(super) fn dirs(&self) -> Vec<Name> {
        self.places.iter().map(|place| place.dir.clone()).collect()
    }

    /// Removes it.
    pub(super) fn remove(data: &DataDir) -> Result<()> {
        disk::remove_file(&path(data))
    }

    /// The live folder of a place.
    pub(super) fn live(data: &DataDir, dir: &Name) -> PathBuf {
        join(data.root(), dir)
    }

    /// One shelf of a place.
    pub(super) fn shelf(data: &DataDir, dir: &Name, shelf: &Shelf) -> PathBuf {
        let side = match shelf.side {
            Side::New => "new",
            Side::Old => "old",
        };
        bay(data, dir).join(&shelf.id).join(side)
    }
}

/// Where the restores of one place keep their data: inside the place, so that nothing but a
/// rename inside one file system is ever needed to swap.
pub(super) fn bay(data: &DataDir, dir: &Name) -> PathBuf {
    join(data.root(), dir).join(STATE).join("restore")
}

impl Name {
    /// The place that is `pb_data` itself.
    pub(super) fn root() -> Self {
        Self(OsString::new())
    }

    /// As a relative path.
    pub(super) fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        const ESCAPED: AsciiSet = CONTROLS.add(b'%');
        let bytes = self.0.as_bytes();
        // Plain UTF-8 stays readable; only names that are none are escaped byte by byte.
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(['%', '\0']) => serializer.serialize_str(text),
            _ => serializer.collect_str(&percent_encode(bytes, &ESCAPED)),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(Self(OsString::from_vec(percent_decode_str(&text).collect())))
    }
}

impl From<&OsStr> for Name {
    fn from(name: &OsStr) -> Self {
        Self(name.to_owned())
    }
}

fn path(data: &DataDir) -> PathBuf {
    data.restore().join(FILE)
}

/// `Path::join` with an empty path would end in a slash.
fn join(root: &Path, dir: &Name) -> PathBuf {
    if dir.0.is_empty() { root.to_owned() } else { root.join(dir.as_path()) }
}

fn parse(bytes: &[u8]) -> std::result::Result<Journal, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (json, checksum) =
        text.trim_end_matches('\n').rsplit_once('\n').ok_or("its end is missing")?;
    if checksum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return Err("its checksum does not match".to_owned());
    }
    let version: serde_json::Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    if ![VERSION, VERSION_PARTIAL].iter().any(|known| version["version"] == *known) {
        return Err(format!("it has the unknown version {}", version["version"]));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Journal {
        let place = Place {
            dir: Name::root(),
            incoming: vec![Name::from(OsStr::new("data.db")), Name(OsString::from("100%"))],
            outgoing: vec![Name(OsString::from_vec(vec![0xff, b'%', b'\n']))],
        };
        let shelf = Shelf { id: "r1".into(), side: Side::New };
        Journal::new(
            Operation::Restore,
            "r1",
            "ä b.zip",
            DateTime::UNIX_EPOCH,
            Scope::All,
            shelf,
            vec![place],
        )
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path(), None);
        assert_eq!(Journal::load(&data).expect("read"), None);
        let mut journal = example();
        journal.save(&data).expect("written");
        assert_eq!(Journal::load(&data).expect("read").as_ref(), Some(&journal));
        journal.enter(&data, Phase::MovingOut).expect("written");
        assert_eq!(Journal::load(&data).expect("read").expect("one").phase, Phase::MovingOut);
        Journal::remove(&data).expect("removed");
        assert_eq!(Journal::load(&data).expect("read"), None);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = DataDir::new(dir.path(), None);
        example().save(&data).expect("written");
        let whole = std::fs::read(path(&data)).expect("read");
        // The last byte is a line feed that only rounds the file off.
        for cut in 0..whole.len() - 1 {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for position in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[position] ^= 1;
            assert!(parse(&bytes).is_err(), "bit flipped at {position}");
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let json = r#"{"version":3}"#;
        let text = format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes()));
        assert!(parse(text.as_bytes()).expect_err("refused").contains("version 3"));
    }
}
