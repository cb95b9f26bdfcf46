//! What a restore would do: looked at, not done.

use std::sync::Arc;

use rand::RngExt;

use crate::backup::Key;
use crate::control::Control;
use crate::error::{Error, Kind, Result};
use crate::restore::postgres::facts::Facts;
use crate::source::postgres::{
    Lock, Outline, Postgres, Programs, Reader, close, query_one, query_texts, shown_version,
};
use crate::storage::Storage;

/// Longest name of a database in PostgreSQL, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Roles whose objects the role of the connection may make.
const ROLES: &str =
    "SELECT rolname::text FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')";

/// A stored dump.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Where it is kept.
    pub storage: Arc<dyn Storage>,
    /// Its key.
    pub key: Key,
    /// The sum that it was stored with, if that is known.
    pub sha256: Option<String>,
}

impl Archive {
    /// Its bytes.
    pub(super) async fn reader(&self) -> Result<Reader> {
        self.storage.get(&self.key, None).await
    }
}

/// What is asked of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Another database, which must not exist; `None` is the live one.
    pub into: Option<String>,
    /// Whether owners and privileges of the dump are kept; `None` keeps them when all of its
    /// roles are there and the role of the connection may act for them.
    pub owners: Option<bool>,
}

/// How a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A fresh database takes the live one's name; the live one is kept.
    Swap,
    /// The live one's objects are replaced in one transaction, for this reason.
    InPlace(String),
    /// A fresh database gets this name.
    Into(String),
}

/// A restore that can be carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How it goes.
    pub way: Way,
    /// Whether owners and privileges of the dump are kept.
    pub owners: bool,
    /// What the dump says about itself.
    pub outline: Outline,
    /// The size of the live database on its server, in bytes; about as much is needed again.
    pub live_bytes: u64,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    pub(super) programs: Programs,
    pub(super) facts: Facts,
    /// The name of a fresh database while it is loaded.
    pub(super) fresh: String,
    /// The name that the live database gets.
    pub(super) outgoing: String,
}

impl Plan {
    /// The word for the way: `swap`, `in_place` or `into`.
    pub fn word(&self) -> &'static str {
        match self.way {
            Way::Swap => "swap",
            Way::InPlace(_) => "in_place",
            Way::Into(_) => "into",
        }
    }

    /// The version of the `pg_restore` that loads it.
    pub fn program_version(&self) -> String {
        shown_version(self.programs.version)
    }
}

/// Looks at the dump, the database and the role, and says what a restore would do.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Corrupt`]: the dump is missing or none; [`Kind::Denied`]: the
/// role may not do what is wished; [`Kind::Exists`]: the database of [`Wish::into`] is there;
/// [`Kind::Unavailable`]: the server is silent or no program fits.
pub async fn plan(
    source: &Postgres,
    lock: &mut Lock,
    archive: &Archive,
    wish: &Wish,
    control: &Control,
) -> Result<Plan> {
    let found = source.programs().await;
    let newest = found.last().ok_or_else(|| none_found(lock.server_version()))?;
    let outline = source.outline(newest, archive.reader().await?, control).await?;
    let programs = Programs::for_restore(&found, outline.dump_version, lock.server_version())?;
    let facts = Facts::read(lock.connection()).await?;
    let roles = query_texts(lock.connection(), ROLES).await?;
    let of_dump = outline.owners_are_among(&roles);
    let owners = wish.owners.unwrap_or(of_dump);
    let way = way(source, lock, &facts, wish).await?;
    let mut notes = Vec::new();
    if !owners && !of_dump {
        let note = "not all roles of the dump are usable here: everything will belong to the \
            role of the connection, without the dump's privileges";
        notes.push(note.to_owned());
    }
    if let Way::InPlace(reason) = &way {
        notes.push(format!(
            "{reason}: the dump is loaded over the live database in one transaction; objects \
             that are newer than the dump stay, and there is no undo"
        ));
    }
    if outline.server_version / 10_000 > lock.server_version() / 10_000 {
        let (from, to) = (outline.server_version, lock.server_version());
        notes.push(format!(
            "the dump is of a newer server ({}) than this one ({}): it may not load",
            shown_version(from),
            shown_version(to)
        ));
    }
    let database = source.target().database();
    let id = format!("{:08x}", rand::rng().random::<u32>());
    Ok(Plan {
        owners,
        live_bytes: facts.bytes(),
        notes,
        programs: programs.clone(),
        facts,
        fresh: beside(wish.into.as_deref().unwrap_or(database), &id, ""),
        outgoing: beside(database, &id, "_old"),
        outline,
        way,
    })
}

async fn way(source: &Postgres, lock: &mut Lock, facts: &Facts, wish: &Wish) -> Result<Way> {
    let denied = facts.why_not_rename();
    if let Some(into) = &wish.into {
        if into.is_empty() || into.len() > NAME_BYTES_MAX || into.contains('\0') {
            let message = "That is no name of a database.";
            return Err(Error::new(Kind::Invalid(Vec::new()), message));
        }
        let names = query_texts(lock.connection(), "SELECT datname::text FROM pg_database").await?;
        if names.contains(into) {
            return Err(Error::new(Kind::Exists, "A database of that name exists already."));
        }
        let may: bool = query_one(
            lock.connection(),
            "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user",
        )
        .await?;
        if !may {
            return Err(Error::new(Kind::Denied, "The role may not create databases."));
        }
        return Ok(Way::Into(into.clone()));
    }
    if let Some(reason) = denied {
        return Ok(Way::InPlace(reason.to_owned()));
    }
    match source.connect(&maintenance(source)).await {
        Ok(connection) => {
            close(connection).await;
            Ok(Way::Swap)
        }
        Err(error) => {
            tracing::warn!(error = error.full(), "there is no database to rename others from");
            Ok(Way::InPlace("there is no other database to rename this one from".to_owned()))
        }
    }
}

/// The database from which others are made, renamed and dropped.
pub(super) fn maintenance(source: &Postgres) -> String {
    match source.maintenance_database() {
        same if same == source.target().database() => "template1".to_owned(),
        other => other.to_owned(),
    }
}

/// `<database>_pocketvault_<id><end>`, cut to fit.
pub(super) fn beside(database: &str, id: &str, end: &str) -> String {
    let tail = format!("_pocketvault_{id}{end}");
    let mut stem = database.to_owned();
    while stem.len() + tail.len() > NAME_BYTES_MAX {
        stem.pop();
    }
    stem + &tail
}

fn none_found(server: u32) -> Error {
    let server = shown_version(server);
    Error::new(
        Kind::Unavailable,
        format!("No pg_restore fits: there is none on this machine, and the server is {server}."),
    )
    .hint("install the package postgresql-client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_fit_and_tell_whose_they_are() {
        assert_eq!(beside("ledger", "0123abcd", "_old"), "ledger_pocketvault_0123abcd_old");
        let long = beside(&"é".repeat(31), "0123abcd", "_old");
        assert!(long.len() <= 63 && long.ends_with("é_pocketvault_0123abcd_old"), "{long}");
    }
}
