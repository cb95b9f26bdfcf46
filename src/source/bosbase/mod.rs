//! BosBase as a source: its PostgreSQL database and its `pb_data`, in one archive.
//!
//! The order is: a moment of the database is held; the files that its records name are pinned
//! by links; that moment is dumped; then the pinned files and all others are read. So every
//! file that a dumped record names is in the archive, whatever is deleted meanwhile, and files
//! that are newer than the dump do no harm.

mod items;
mod pins;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::backup::EntryPath;
use crate::data_dir::STORAGE;
use crate::error::{Context, Error, Kind, Result};
use crate::source::postgres::{ident, literal, query_one, query_texts};

pub use items::Whole;
pub use pins::{Pins, Staging};

/// The dump's name in an archive.
pub const DUMP: &str = "database.dump";
/// The name in an archive of what says what it is.
pub const MANIFEST: &str = "pocketvault.json";
/// The tables without which a database is none of BosBase's.
const TABLES: [&str; 3] = ["_collections", "_params", "_superusers"];
/// What [`Manifest::kind`] says.
const KIND: &str = "bosbase";
const FORMAT: u32 = 1;

/// What an archive says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: u32,
    kind: String,
    /// The SHA-256 of the dump, in hex.
    pub dump_sha256: String,
    /// The size of the dump in bytes.
    pub dump_bytes: u64,
    /// The version of the server.
    pub server_version: String,
    /// The version of the `pg_dump`.
    pub program_version: String,
    /// How many files the dumped records name.
    pub named_files: u64,
    /// How many of them were not there.
    pub missing_files: u64,
}

impl Manifest {
    /// One of this format, with nothing counted.
    pub fn new(dump_sha256: String, dump_bytes: u64) -> Self {
        Self {
            format: FORMAT,
            kind: KIND.to_owned(),
            dump_sha256,
            dump_bytes,
            server_version: String::new(),
            program_version: String::new(),
            named_files: 0,
            missing_files: 0,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: it is none, or of a newer pocketvault.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt = |said: &'static str| Error::new(Kind::Corrupt, said);
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| corrupt("The archive's manifest is damaged.").because(error))?;
        if manifest.kind != KIND || manifest.format != FORMAT {
            return Err(corrupt("The archive is of another kind, or of a newer pocketvault."));
        }
        Ok(manifest)
    }
}

/// Whether a database is BosBase's.
///
/// # Errors
/// [`Kind::Invalid`] when it is not; what the server says.
pub async fn require_bosbase(connection: &mut PgConnection) -> Result<()> {
    for table in TABLES {
        let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(&of_public(table)));
        if !query_one::<bool>(connection, &sql).await? {
            let message = format!("The database is not BosBase's: it has no table {table}.");
            return Err(Error::new(Kind::Invalid(Vec::new()), message));
        }
    }
    Ok(())
}

/// The files that records name, as paths inside `pb_data`, sorted, each once.
///
/// # Errors
/// What the server says.
pub async fn named_files(connection: &mut PgConnection) -> Result<Vec<EntryPath>> {
    let sql = "SELECT json_build_array(id::text, name, fields)::text FROM _collections \
        WHERE type <> 'view'";
    let mut files = Vec::new();
    for row in query_texts(connection, sql).await? {
        let row: (String, String, Value) = serde_json::from_str(&row).context("a strange row")?;
        let (id, name, fields) = row;
        let fields = file_fields(&fields);
        if fields.is_empty() {
            continue;
        }
        let table = of_public(&name);
        let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(&table));
        if !query_one::<bool>(connection, &sql).await? {
            continue;
        }
        let columns: Vec<String> = fields.iter().map(|field| ident(field)).collect();
        let sql =
            format!("SELECT json_build_array(id::text, {})::text FROM {table}", columns.join(", "));
        for row in query_texts(connection, &sql).await? {
            let row: Vec<Value> = serde_json::from_str(&row).context("a strange row")?;
            let Some((Value::String(record), values)) = row.split_first() else { continue };
            let names = values.iter().flat_map(names_in);
            // A name that is no path of one part is none that BosBase made.
            files.extend(names.filter(|name| !name.contains('/')).filter_map(|name| {
                EntryPath::parse(format!("{STORAGE}/{id}/{record}/{name}")).ok()
            }));
        }
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

fn of_public(table: &str) -> String {
    format!("public.{}", ident(table))
}

/// The names of a collection's fields that hold files.
fn file_fields(fields: &Value) -> Vec<String> {
    let fields = fields.as_array().into_iter().flatten();
    let files = fields.filter(|field| field["type"] == "file");
    files.filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
}

/// A name, a list of names, or such a list as a text.
fn names_in(value: &Value) -> Vec<String> {
    match value {
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        }
        Value::String(text) if text.starts_with('[') => match serde_json::from_str(text) {
            Ok(list @ Value::Array(_)) => names_in(&list),
            _ => vec![text.clone()],
        },
        Value::String(name) if !name.is_empty() => vec![name.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_file_fields_are_names() {
        for (value, expected) in [
            (json!("a.png"), vec!["a.png"]),
            (json!(""), vec![]),
            (json!(null), vec![]),
            (json!(["a.png", "", "b.png"]), vec!["a.png", "b.png"]),
            (json!("[\"a.png\",\"b.png\"]"), vec!["a.png", "b.png"]),
            (json!("[]"), vec![]),
            (json!("[odd].png"), vec!["[odd].png"]),
        ] {
            assert_eq!(names_in(&value), expected, "{value}");
        }
        let fields = json!([{"name": "f", "type": "file"}, {"name": "t", "type": "text"}, {}]);
        assert_eq!(file_fields(&fields), ["f"]);
    }

    #[test]
    fn a_manifest_of_another_kind_is_refused() {
        let ours = Manifest::new("ab".to_owned(), 7);
        let bytes = serde_json::to_vec(&ours).expect("written");
        assert_eq!(Manifest::parse(&bytes).expect("read"), ours);
        let text = String::from_utf8(bytes).expect("UTF-8");
        for other in [text.replace("bosbase", "x"), text.replace("\"format\":1", "\"format\":2")] {
            assert_eq!(Manifest::parse(other.as_bytes()).expect_err("none").kind(), &Kind::Corrupt);
        }
        assert!(Manifest::parse(b"{").is_err());
    }
}
