//! How much of the data a restore replaces: all of it, the databases, the files, one path.

use std::fmt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::data_dir::{DATABASES, is_restored, is_sqlite_side_file};
use crate::error::{Error, Kind, Result};

/// What a restore replaces. Everything else stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    /// Everything that an archive can hold.
    #[default]
    All,
    /// `data.db` and `auxiliary.db`.
    Databases,
    /// Everything but the databases.
    Files,
    /// One file, or one folder with what is in it: a relative path in its normal form.
    Path(String),
}

impl Scope {
    /// Parses `all`, `databases`, `files`, or a path inside of `pb_data` such as
    /// `storage/COLLECTION/RECORD`.
    ///
    /// # Errors
    /// [`Kind::Invalid`]: a path that leads outside, that no restore replaces, or a database.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let message = format!("{text:?} cannot be restored alone: {why}.");
            Err(Error::new(Kind::Invalid(Vec::new()), message))
        };
        match text {
            "all" => return Ok(Self::All),
            "databases" => return Ok(Self::Databases),
            "files" => return Ok(Self::Files),
            _ => {}
        }
        let path = text.trim_end_matches('/');
        let parts = Path::new(path).components();
        if path.is_empty() || !parts.clone().all(|part| matches!(part, Component::Normal(_))) {
            return refused("it is no path inside of pb_data");
        }
        let first = parts.clone().next().map(|part| part.as_os_str().to_string_lossy());
        let first = first.unwrap_or_default();
        if !is_restored(&first) {
            return refused("no restore replaces it");
        }
        if is_database(first.as_bytes()) {
            return refused("the databases belong together; say \"databases\"");
        }
        let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
        Ok(Self::Path(parts.join("/")))
    }

    /// Whether an archive's path is part of it.
    pub fn takes(&self, path: &[u8]) -> bool {
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        match self {
            Self::All => true,
            Self::Databases => path == first && is_database(first),
            Self::Files => !is_database(first),
            Self::Path(wanted) => {
                let rest = path.strip_prefix(wanted.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
        }
    }

    /// Whether the databases are replaced.
    pub fn has_databases(&self) -> bool {
        matches!(self, Self::All | Self::Databases)
    }

    /// Whether everything is replaced.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// Whether a name at the root belongs to one of the databases.
fn is_database(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    DATABASES.contains(&name.as_ref()) || is_sqlite_side_file(&name)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Databases => "databases",
            Self::Files => "files",
            Self::Path(path) => path,
        })
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_and_takes_what_it_says() {
        let files: [&[u8]; 5] =
            [b"data.db", b"data.db-wal", b"storage/a/b", b"storage/ab", b"auxiliary.db"];
        for (text, taken) in [
            ("all", [true; 5]),
            ("databases", [true, true, false, false, true]),
            ("files", [false, false, true, true, false]),
            ("storage/a", [false, false, true, false, false]),
            ("storage/a/b/", [false, false, true, false, false]),
            ("storage", [false, false, true, true, false]),
        ] {
            let scope = Scope::parse(text).expect(text);
            assert_eq!(files.map(|file| scope.takes(file)), taken, "{text}");
            assert_eq!(Scope::parse(&scope.to_string()).expect("again"), scope);
        }
        assert!(!Scope::Databases.takes(b"data.db/x"));
    }

    #[test]
    fn what_cannot_be_restored_alone_is_refused() {
        for text in
            ["", "/", "..", "../x", "a/../b", "/etc", "data.db", "data.db-wal", "backups/a.zip"]
        {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
    }
}
