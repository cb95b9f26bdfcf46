//! Which `pg_dump` and `pg_restore` are on the machine, and which pair fits a server.
//!
//! `pg_dump` reads servers of its own major version and older ones, never newer ones;
//! `pg_restore` reads archives of its own `pg_dump` and of older ones. A newer pair than needed
//! is a risk for a restore: it may set parameters that an older server does not know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Kind, Result};

/// Oldest server that present clients can read.
const SERVER_OLDEST: u32 = 90_200;
/// Debian's starter in `/usr/bin`, which chooses a version by rules of its own.
const WRAPPER: &str = "pg_wrapper";
/// Folders whose children, with `bin` below, hold one version each.
const SHELVES: [&str; 4] =
    ["/usr/lib/postgresql", "/usr/libexec/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
/// Folders that hold one version.
const FOLDERS: [&str; 3] = ["/usr/local/pgsql/bin", "/opt/postgresql/bin", "/usr/local/bin"];

/// A pair of programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The folder that they lie in.
    pub folder: PathBuf,
    /// Their version as `server_version_num` counts: 150018 is 15.18.
    pub version: u32,
}

impl Programs {
    /// Every pair on the machine, those of `first` before all others; oldest first otherwise.
    pub fn find(first: Option<&Path>) -> Vec<Self> {
        if let Some(found) = first.and_then(Self::in_folder) {
            return vec![found];
        }
        let mut seen = BTreeSet::new();
        let mut found: Vec<Self> = folders()
            .into_iter()
            .filter_map(|folder| folder.canonicalize().ok())
            .filter(|folder| seen.insert(folder.clone()))
            .filter_map(|folder| Self::in_folder(&folder))
            .collect();
        found.sort_by_key(|programs| programs.version);
        found
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let dump = folder.join("pg_dump");
        let real = dump.canonicalize().ok()?;
        if real.file_name().is_some_and(|name| name == WRAPPER) {
            return None;
        }
        let version = version_of(&dump)?;
        let pair = version_of(&folder.join("pg_restore")) == Some(version);
        pair.then(|| Self { folder: folder.to_owned(), version })
    }

    /// The pair for dumps of a server: the oldest that is not older than it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] with the versions that there are.
    pub fn for_dump(found: &[Self], server: u32) -> Result<&Self> {
        if server < SERVER_OLDEST {
            let server = shown(server);
            return Err(Error::new(
                Kind::Unavailable,
                format!("The server is version {server}; 9.2 is the oldest that can be dumped."),
            ));
        }
        let fits = found.iter().filter(|programs| major(programs.version) >= major(server));
        fits.min_by_key(|programs| (major(programs.version), u32::MAX - programs.version))
            .ok_or_else(|| none_fits(found, server, "pg_dump", "the server"))
    }

    /// The pair for the restore of an archive that `pg_dump` of version `archive` wrote: that
    /// of the server if it can read it, otherwise the oldest that can.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] with the versions that there are.
    pub fn for_restore(found: &[Self], archive: u32, server: u32) -> Result<&Self> {
        let reads = |programs: &&Self| major(programs.version) >= major(archive);
        let fits = found.iter().filter(reads);
        fits.min_by_key(|programs| {
            let of_server = major(programs.version) == major(server);
            (!of_server, major(programs.version), u32::MAX - programs.version)
        })
        .ok_or_else(|| none_fits(found, archive, "pg_restore", "the backup"))
    }
}

/// A version in people's words: `15.18`, `9.6.3`.
pub fn shown(version: u32) -> String {
    match version {
        0..100_000 => {
            format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
        }
        _ => format!("{}.{}", version / 10_000, version % 10_000),
    }
}

/// The version in a text such as `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
pub(super) fn parse_version(text: &str) -> Option<u32> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let major = parts.next()?;
    match major {
        0..10 => Some(major * 10_000 + parts.next().unwrap_or(0) * 100 + parts.next().unwrap_or(0)),
        _ => Some(major * 10_000 + parts.next().unwrap_or(0)),
    }
}

/// What counts for whether versions fit: 15 of 15.18, 9.6 of 9.6.3.
fn major(version: u32) -> u32 {
    if version < 100_000 { version / 100 } else { version / 10_000 * 100 }
}

fn none_fits(found: &[Programs], wanted: u32, program: &str, of: &str) -> Error {
    let there: Vec<String> = found.iter().map(|programs| shown(programs.version)).collect();
    let there = match there.is_empty() {
        true => "there is none on this machine".to_owned(),
        false => format!("this machine has {}", there.join(", ")),
    };
    let wanted = shown(wanted);
    Error::new(
        Kind::Unavailable,
        format!("No {program} fits: {of} is of version {wanted}, {there}."),
    )
    .hint("install the package postgresql-client of that version")
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(FOLDERS.map(PathBuf::from));
    for shelf in SHELVES {
        folders.extend(children(Path::new(shelf)).map(|version| version.join("bin")));
    }
    // The packages of PostgreSQL's own yum repository.
    let of_yum = children(Path::new("/usr")).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"))
    });
    folders.extend(of_yum.map(|version| version.join("bin")));
    folders
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn version_of(program: &Path) -> Option<u32> {
    if !program.is_file() {
        return None;
    }
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(versions: &[u32]) -> Vec<Programs> {
        let of = |version: &u32| Programs { folder: PathBuf::new(), version: *version };
        versions.iter().map(of).collect()
    }

    #[test]
    fn versions_are_read_and_shown() {
        for (text, version, again) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 150_018, "15.18"),
            ("pg_restore (PostgreSQL) 9.6.24", 90_624, "9.6.24"),
            ("17beta1", 170_000, "17.0"),
            ("15.3", 150_003, "15.3"),
        ] {
            assert_eq!(parse_version(text), Some(version), "{text}");
            assert_eq!(shown(version), again);
        }
        assert_eq!(parse_version("none"), None);
    }

    #[test]
    fn the_oldest_pair_that_is_new_enough_dumps() {
        let found = machine(&[90_624, 130_001, 150_018, 150_019, 170_002]);
        for (server, expected) in [
            (90_300, Some(90_624)),
            (90_624, Some(90_624)),
            (100_005, Some(130_001)),
            (150_020, Some(150_019)),
            (160_001, Some(170_002)),
            (180_000, None),
            (90_100, None),
        ] {
            let chosen = Programs::for_dump(&found, server).ok().map(|found| found.version);
            assert_eq!(chosen, expected, "{server}");
        }
        let none = Programs::for_dump(&machine(&[150_018]), 170_000).expect_err("too new");
        assert!(none.message().contains("17.0") && none.message().contains("15.18"), "{none}");
        let none = Programs::for_dump(&[], 170_000).expect_err("none");
        assert!(none.message().contains("none on this machine"), "{none}");
    }

    #[test]
    fn the_servers_own_pair_restores_if_it_can_read_the_archive() {
        let found = machine(&[130_001, 150_018, 170_002]);
        for (archive, server, expected) in [
            (130_001, 150_001, Some(150_018)),
            (150_018, 150_001, Some(150_018)),
            (160_001, 150_001, Some(170_002)),
            (130_000, 140_001, Some(130_001)),
            (180_000, 150_001, None),
        ] {
            let chosen = Programs::for_restore(&found, archive, server).ok();
            assert_eq!(chosen.map(|found| found.version), expected, "{archive} {server}");
        }
    }
}
