//! The files that a pinned `data.db` names: for every collection its file fields, for every
//! record the names in them. Nothing here looks at the disk.

use std::borrow::Cow;

use serde::Deserialize;

use super::sqlite::raw::Connection;
use crate::data_dir::STORAGE;
use crate::error::{Context, Result};

/// A collection with at least one file field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileCollection {
    /// Its id, which names its folder in `storage`.
    pub(super) id: String,
    /// Its table.
    pub(super) table: String,
    /// Its file fields.
    fields: Vec<String>,
}

#[derive(Deserialize)]
struct Field<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
}

/// The collections of the database that have file fields; none when it is not PocketBase's.
///
/// # Errors
/// The database cannot be read.
pub(super) fn file_collections(connection: &Connection) -> Result<Vec<FileCollection>> {
    let columns = "SELECT group_concat(name) FROM pragma_table_info('_collections')";
    let columns = connection.text(columns)?;
    // Before 0.23 the column had another name and the same shape.
    let Some(column) = ["fields", "schema"]
        .into_iter()
        .find(|column| columns.split(',').any(|name| name == *column))
    else {
        return Ok(Vec::new());
    };
    // The records of a view are those of other collections, and so are their files.
    let sql = format!("SELECT id, name, {column} FROM _collections WHERE type != 'view'");
    let mut found = Vec::new();
    connection.rows(&sql, None, &mut |row| {
        let text = |column| String::from_utf8_lossy(row.bytes(column)).into_owned();
        let (id, table) = (text(0), text(1));
        let fields: Vec<Field<'_>> = serde_json::from_slice(row.bytes(2))
            .with_context(|| format!("cannot read the fields of the collection {table:?}"))?;
        let fields: Vec<String> = fields
            .into_iter()
            .filter(|field| field.kind == "file")
            .map(|field| field.name.into_owned())
            .collect();
        if !fields.is_empty() {
            found.push(FileCollection { id, table, fields });
        }
        Ok(true)
    })?;
    Ok(found)
}

impl FileCollection {
    /// Passes the path inside the folder of every file that a record names to `each`, newest
    /// record first; with `after`, only of records with a greater row number. The greatest row
    /// number is the result, `after` itself (or the least) when there was none.
    ///
    /// # Errors
    /// The table cannot be read, or those of `each`.
    pub(super) fn each_file(
        &self,
        connection: &Connection,
        after: Option<i64>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<i64> {
        let fields: Vec<String> = self.fields.iter().map(|field| quoted(field)).collect();
        let table = quoted(&self.table);
        let sql = format!(
            "SELECT rowid, id, {} FROM {table} WHERE rowid > ?1 ORDER BY rowid DESC",
            fields.join(", ")
        );
        let after = after.unwrap_or(i64::MIN);
        let mut greatest = after;
        let mut path = Vec::new();
        let first_field = 2;
        connection.rows(&sql, Some(after), &mut |row| {
            greatest = greatest.max(row.integer(0));
            path.clear();
            for part in [STORAGE.as_bytes(), self.id.as_bytes(), row.bytes(1)] {
                path.extend_from_slice(part);
                path.push(b'/');
            }
            let folder = path.len();
            for column in first_field..first_field + self.fields.len() {
                // SQLite has at most 32,767 columns.
                let column = i32::try_from(column).unwrap_or(i32::MAX);
                for name in names_of(row.bytes(column)) {
                    path.truncate(folder);
                    path.extend_from_slice(name.as_bytes());
                    each(&path)?;
                }
            }
            Ok(true)
        })?;
        Ok(greatest)
    }
}

/// The file names in a column's value: one as plain text, or several as a JSON array.
fn names_of(value: &[u8]) -> Vec<Cow<'_, str>> {
    // What begins with a bracket and is no array is a name, though none of PocketBase's.
    if value.first() == Some(&b'[')
        && let Ok(names) = serde_json::from_slice::<Vec<Name<'_>>>(value)
    {
        return names.into_iter().map(|name| name.0).filter(|name| !name.is_empty()).collect();
    }
    match std::str::from_utf8(value) {
        Ok(name) if !name.is_empty() && name != "null" => vec![Cow::Borrowed(name)],
        _ => Vec::new(),
    }
}

/// A string that is borrowed where it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_no_one_or_several_names() {
        for (value, expected) in [
            ("", &[] as &[&str]),
            ("[]", &[]),
            ("null", &[]),
            ("a.png", &["a.png"]),
            (r#"["a.png"]"#, &["a.png"]),
            (r#"["a.png","b \"c\".png",""]"#, &["a.png", "b \"c\".png"]),
            ("[a.png", &["[a.png"]),
        ] {
            assert_eq!(names_of(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn names_of_tables_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
