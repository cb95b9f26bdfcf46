//! Being a host like Scalingo for its clients: the table `[scalingo]` of the file.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::databases::DatabaseConfig;
use crate::error::{Error, Kind, Result};

/// The application unless told otherwise.
const APP_DEFAULT: &str = "pocketvault";
/// The region unless told otherwise.
const REGION_DEFAULT: &str = "local";
/// How long a download link is good for unless told otherwise, in seconds.
const LINK_S_DEFAULT: u64 = 3600;
/// Longest id of an addon, and longest name of an application or region, in bytes.
const WORD_BYTES_MAX: usize = 63;
/// Shortest API token that is taken from the environment, in bytes.
const TOKEN_BYTES_MIN: usize = 16;
/// Length of a database's id, in hexadecimal digits.
const DATABASE_ID_LENGTH: usize = 24;

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScalingoTable {
    app: Option<String>,
    region: Option<String>,
    url: Option<String>,
    #[serde(default)]
    token_hashes: Vec<String>,
    tokens_env: Option<String>,
    link_seconds: Option<u64>,
    #[serde(default)]
    addon: Vec<AddonTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddonTable {
    id: Option<String>,
    #[serde(default, rename = "type")]
    kind: AddonKind,
    database: Option<String>,
}

/// What kind of database an addon is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddonKind {
    /// One of the `[[database]]`s.
    #[default]
    Postgresql,
    /// The `pb_data` folder.
    Sqlite,
}

impl AddonKind {
    /// Scalingo's word for it, or one like theirs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Sqlite => "sqlite",
        }
    }

    /// The word as a human reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// A database as Scalingo's clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addon {
    /// Its id in paths; `ad-…` so that clients take it for one.
    pub id: String,
    /// What it is.
    pub kind: AddonKind,
    /// The name of the `[[database]]`; `pb_data` for the folder.
    pub database: String,
    /// 24 hexadecimal digits, the same as long as the id is.
    pub database_id: String,
}

/// The face, checked.
#[derive(Debug, Clone)]
pub struct ScalingoConfig {
    /// The one application.
    pub app: String,
    /// The one region.
    pub region: String,
    /// How clients reach us, without a slash at the end; `None` for what they say themselves.
    pub url: Option<String>,
    /// SHA-256 of each API token.
    pub tokens: Vec<[u8; 32]>,
    /// How long a download link is good for.
    pub link: Duration,
    /// The databases, in the order of the file.
    pub addons: Vec<Addon>,
}

impl ScalingoConfig {
    /// Which of the API tokens this is; `None` for a wrong one. Takes the same time for all.
    pub fn token(&self, text: &str) -> Option<&[u8; 32]> {
        let hash = Sha256::digest(text.as_bytes());
        let differs = |known: &[u8; 32]| {
            known.iter().zip(hash.iter()).fold(0, |sum, (one, other)| sum | (one ^ other))
        };
        let mut found = None;
        for known in &self.tokens {
            if differs(known) == 0 {
                found = Some(known);
            }
        }
        found
    }
}

/// The face, if there is a table of it.
///
/// # Errors
/// [`Kind::Invalid`] with what is wrong.
pub(super) fn resolve(
    table: Option<ScalingoTable>,
    databases: &[DatabaseConfig],
) -> Result<Option<ScalingoConfig>> {
    table.map(|table| table.resolve(databases, |name| std::env::var(name).ok())).transpose()
}

impl ScalingoTable {
    fn resolve(
        self,
        databases: &[DatabaseConfig],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ScalingoConfig> {
        let app = word("app", self.app.unwrap_or_else(|| APP_DEFAULT.to_owned()))?;
        let region = word("region", self.region.unwrap_or_else(|| REGION_DEFAULT.to_owned()))?;
        let mut tokens = Vec::new();
        for text in &self.token_hashes {
            tokens.push(hash_of(text).ok_or_else(|| {
                unusable(format!("{text:?} in token_hashes is no SHA-256"))
                    .hint("printf %s \"$TOKEN\" | sha256sum")
            })?);
        }
        if let Some(name) = &self.tokens_env {
            let given = variable(name).unwrap_or_default();
            for token in given.split(',').map(str::trim).filter(|token| !token.is_empty()) {
                if token.len() < TOKEN_BYTES_MIN {
                    let least = format!("have {TOKEN_BYTES_MIN} characters at least");
                    return Err(unusable(format!("the tokens of {name} must {least}")));
                }
                tokens.push(Sha256::digest(token.as_bytes()).into());
            }
        }
        if tokens.is_empty() {
            return Err(unusable("there is no API token")
                .hint("give token_hashes, or a variable that is set in tokens_env"));
        }
        let url = self.url.map(|url| url.trim_end_matches('/').to_owned());
        if url
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            return Err(unusable("url does not begin with http:// or https://"));
        }
        Ok(ScalingoConfig {
            app,
            region,
            url,
            tokens,
            link: Duration::from_secs(self.link_seconds.unwrap_or(LINK_S_DEFAULT)),
            addons: addons(self.addon, databases)?,
        })
    }
}

/// The addons of the file; without any, every database is one.
fn addons(tables: Vec<AddonTable>, databases: &[DatabaseConfig]) -> Result<Vec<Addon>> {
    let every = || {
        databases.iter().map(|database| AddonTable {
            id: None,
            kind: AddonKind::Postgresql,
            database: Some(database.name.clone()),
        })
    };
    let tables = if tables.is_empty() { every().collect() } else { tables };
    let (mut addons, mut seen) = (Vec::new(), BTreeSet::new());
    for table in tables {
        let name = match (table.kind, table.database) {
            (AddonKind::Sqlite, None) => "pb_data".to_owned(),
            (AddonKind::Sqlite, Some(_)) => {
                return Err(unusable("an addon of type sqlite is the pb_data: no database"));
            }
            (AddonKind::Postgresql, None) => return Err(unusable("an addon without a database")),
            (AddonKind::Postgresql, Some(name)) => {
                if !databases.iter().any(|database| database.name == name) {
                    return Err(unusable(format!("there is no [[database]] {name:?}")));
                }
                name
            }
        };
        let id = word("an addon's id", table.id.unwrap_or_else(|| format!("ad-{name}")))?;
        if !seen.insert((table.kind.as_str(), name.clone())) || !seen.insert(("id", id.clone())) {
            return Err(unusable(format!("the addon {id:?} is there twice")));
        }
        let database_id = database_id(&id);
        addons.push(Addon { id, kind: table.kind, database: name, database_id });
    }
    match addons.is_empty() {
        true => Err(unusable("there is neither an addon nor a [[database]]")),
        false => Ok(addons),
    }
}

fn database_id(addon: &str) -> String {
    let hash = Sha256::digest(format!("pocketvault scalingo database {addon}"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..DATABASE_ID_LENGTH]
        .to_owned()
}

fn hash_of(hex: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

fn word(what: &str, text: String) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text),
        false => Err(unusable(format!("{what} is not made of letters, digits, _ and -"))),
    }
}

fn unusable(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the table [scalingo]: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        database: Vec<crate::config::databases::DatabaseTable>,
        scalingo: ScalingoTable,
    }

    fn parsed(text: &str) -> Result<ScalingoConfig> {
        let file: File = toml::from_str(text).expect("a file");
        let databases = crate::config::databases::resolve(file.database)?;
        let variable = |name: &str| (name == "SET").then(|| "one-token-of-16-b, ,".to_owned());
        file.scalingo.resolve(&databases, variable)
    }

    fn ledger(more: &str) -> String {
        format!("[[database]]\nname = 'ledger'\nurl = 'postgres://u@h/d'\n[scalingo]\n{more}")
    }

    #[test]
    fn without_addons_every_database_is_one() {
        let found = parsed(&ledger(&format!("token_hashes = ['{HASH}']"))).expect("usable");
        assert_eq!((found.app.as_str(), found.link.as_secs()), ("pocketvault", 3600));
        assert_eq!((found.addons.len(), found.addons[0].id.as_str()), (1, "ad-ledger"));
        assert_eq!(found.addons[0].database_id.len(), 24);
        assert!(found.token("test").is_some() && found.token("tesu").is_none());
    }

    #[test]
    fn addons_have_ids_of_their_own_and_tokens_come_from_the_environment() {
        let found = parsed(&ledger(
            "tokens_env = 'SET'\nurl = 'https://b.example/'\n[[scalingo.addon]]\n\
             id = 'ad-1'\ndatabase = 'ledger'\n[[scalingo.addon]]\ntype = 'sqlite'",
        ));
        let found = found.expect("usable");
        assert_eq!(found.url.as_deref(), Some("https://b.example"));
        let shown: Vec<_> = found.addons.iter().map(|a| (a.id.as_str(), a.kind.as_str())).collect();
        assert_eq!(shown, [("ad-1", "postgresql"), ("ad-pb_data", "sqlite")]);
        assert!(found.token("one-token-of-16-b").is_some() && found.token("").is_none());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let tokens = format!("token_hashes = ['{HASH}']\n");
        for (text, word) in [
            (ledger(""), "no API token"),
            (ledger("tokens_env = 'UNSET'"), "no API token"),
            (ledger("token_hashes = ['abc']"), "SHA-256"),
            (format!("[scalingo]\n{tokens}"), "neither"),
            (ledger(&format!("{tokens}url = 'ftp://x'")), "http"),
            (ledger(&format!("{tokens}app = 'a/b'")), "app"),
            (ledger(&format!("{tokens}[[scalingo.addon]]\ndatabase = 'none'")), "none"),
            (ledger(&format!("{tokens}[[scalingo.addon]]")), "without a database"),
            (
                ledger(&format!("{tokens}[[scalingo.addon]]\ntype = 'sqlite'\ndatabase = 'x'")),
                "pb_data",
            ),
            (ledger(&(tokens.clone() + &"[[scalingo.addon]]\ntype='sqlite'\n".repeat(2))), "twice"),
        ] {
            let error = parsed(&text).expect_err(&text);
            assert!(error.full().contains(word), "{text}: {}", error.full());
        }
    }
}
