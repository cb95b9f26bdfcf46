//! The table `[blnk]`: Blnk's two backup routes, configured as Blnk itself is.
//!
//! What the table leaves out comes from Blnk's own `BLNK_*` variables, then from its
//! `blnk.json`, then from the names that other tools use (`AWS_*`, `S3_BACKUP_BUCKET`). What is
//! missing after that is no fault of the start: the routes answer with it, as Blnk's do.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use crate::config::databases::{DatabaseConfig, DatabaseTable, resolve as databases};
use crate::config::storage::{Secret, StorageConfig, StorageFile, StorageOptions};
use crate::error::{Context, Error, Kind, Result};

/// Blnk's own file, read where it exists.
const FILE_DEFAULT: &str = "blnk.json";
/// The name of the database among ours unless told otherwise.
const NAME_DEFAULT: &str = "blnk";
/// How names of backups begin unless told otherwise.
const PREFIX_DEFAULT: &str = "blnk_backup";

/// Where a value of the bucket comes from: our key, Blnk's variable, the key in its file, the
/// variables of other tools.
const BUCKET: [(&str, &str, &str, &[&str]); 5] = [
    ("bucket", "BLNK_S3_BUCKET_NAME", "s3_bucket_name", &["S3_BACKUP_BUCKET"]),
    ("region", "BLNK_S3_REGION", "s3_region", &["AWS_REGION", "AWS_DEFAULT_REGION"]),
    ("endpoint", "BLNK_S3_ENDPOINT", "s3_endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
    ("access_key", "BLNK_AWS_ACCESS_KEY_ID", "aws_access_key_id", &["AWS_ACCESS_KEY_ID"]),
    (
        "secret_key",
        "BLNK_AWS_SECRET_ACCESS_KEY",
        "aws_secret_access_key",
        &["AWS_SECRET_ACCESS_KEY"],
    ),
];
/// What of it has no default.
const BUCKET_NEEDS: [&str; 4] = ["bucket", "region", "access_key", "secret_key"];

/// The table of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlnkTable {
    file: Option<PathBuf>,
    secret_key: Option<Secret>,
    secure: Option<bool>,
    backup_dir: Option<PathBuf>,
    delete_local: Option<bool>,
    /// Keys of a `[[database]]`.
    #[serde(default)]
    database: Table,
    /// Keys of `[s3]`.
    #[serde(default)]
    s3: Table,
}

/// Blnk's routes, resolved.
#[derive(Debug, Clone)]
pub struct Blnk {
    /// The name of Blnk's database among ours; `None` when no address of it is known.
    pub database: Option<String>,
    /// The key that may do everything; `None` leaves only the keys that Blnk itself keeps.
    pub secret_key: Option<Secret>,
    /// Whether a key is asked for.
    pub secure: bool,
    /// Where `/backup` keeps its files.
    pub backup_dir: Option<PathBuf>,
    /// Whether `/backup-s3` removes the local copy once it is in the bucket.
    pub delete_local: bool,
    /// The bucket of `/backup-s3`.
    pub s3: StorageConfig,
    /// What is missing for it, by the names that Blnk has for that.
    pub s3_missing: Vec<String>,
}

impl BlnkTable {
    /// Looks everything up, and adds Blnk's database to the others.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with what is wrong; Blnk's file cannot be read.
    pub(super) fn resolve(
        self,
        all: &mut Vec<DatabaseConfig>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Blnk> {
        let file = read(self.file.as_deref())?;
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let found = |name: &str, at: &str| variable(name).or_else(|| text(&file, at));
        let backup_dir =
            self.backup_dir.or(found("BLNK_BACKUP_DIR", "/backup_dir").map(Into::into));
        let backup_dir = backup_dir.map(std::path::absolute).transpose();
        let backup_dir = backup_dir.context("[blnk] backup_dir is no usable path")?;
        let url = found("BLNK_DATA_SOURCE_DNS", "/data_source/dns");
        let database = database(self.database, url, backup_dir.as_deref(), all)?;
        let (s3, s3_missing) = bucket(self.s3, &variable, &file)?;
        let secret_key = found("BLNK_SERVER_SECRET_KEY", "/server/secret_key");
        Ok(Blnk {
            database,
            secret_key: self.secret_key.or(secret_key.map(Secret::new)),
            secure: self.secure.unwrap_or(true),
            // Without a folder for them nobody asked for local copies.
            delete_local: self.delete_local.unwrap_or(backup_dir.is_none()),
            backup_dir,
            s3,
            s3_missing,
        })
    }
}

/// Blnk's own file: the named one, or the default one if it is there.
fn read(named: Option<&Path>) -> Result<Value> {
    let path = named.unwrap_or(Path::new(FILE_DEFAULT));
    if named.is_none() && !path.exists() {
        return Ok(Value::Null);
    }
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read Blnk's file {shown}"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // Its position only: the text has secrets in it.
        let at = format!("line {}, column {}", error.line(), error.column());
        unusable(format!("Blnk's file {shown} is no JSON: {at}"))
    })
}

fn text(file: &Value, at: &str) -> Option<String> {
    let found = file.pointer(at).and_then(Value::as_str);
    found.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Adds the database; its name, or `None` when there is no address.
fn database(
    mut table: Table,
    url: Option<String>,
    backup_dir: Option<&Path>,
    all: &mut Vec<DatabaseConfig>,
) -> Result<Option<String>> {
    if !table.contains_key("url") && !table.contains_key("url_env") {
        let Some(url) = url else { return Ok(None) };
        table.insert("url".to_owned(), url.into());
    }
    let name = table.get("name").and_then(toml::Value::as_str).unwrap_or(NAME_DEFAULT).to_owned();
    let mut default = |key: &str, value: String| {
        table.entry(key).or_insert(value.into());
    };
    default("name", name.clone());
    default("key_prefix", PREFIX_DEFAULT.to_owned());
    if let Some(folder) = backup_dir {
        default("folder", folder.to_string_lossy().into_owned());
    }
    let parsed = DatabaseTable::deserialize(table)
        .map_err(|error| unusable(format!("[blnk.database] is not usable: {}", error.message())))?;
    if all.iter().any(|other| other.name == name) {
        return Err(unusable(format!("[blnk.database] and a [[database]] are both {name:?}")));
    }
    all.extend(databases(vec![parsed])?);
    Ok(Some(name))
}

/// The bucket, and what is missing for it.
fn bucket(
    mut table: Table,
    variable: &impl Fn(&str) -> Option<String>,
    file: &Value,
) -> Result<(StorageConfig, Vec<String>)> {
    let mut missing = Vec::new();
    for (key, of_blnk, at, others) in BUCKET {
        let other = || others.iter().find_map(|name| variable(name));
        let found = || variable(of_blnk).or_else(|| text(file, &format!("/{at}"))).or_else(other);
        if !table.contains_key(key)
            && let Some(value) = found()
        {
            table.insert(key.to_owned(), value.into());
        }
        if !table.contains_key(key) && BUCKET_NEEDS.contains(&key) {
            missing.push(format!("{at} ({of_blnk})"));
        }
    }
    // As Blnk does it: the stores that are named have no names of their buckets' own.
    if table.contains_key("endpoint") {
        table.entry("path_style").or_insert(true.into());
    }
    if !missing.is_empty() {
        for key in ["bucket", "access_key", "secret_key"] {
            table.remove(key);
        }
    }
    let parsed = StorageFile::deserialize(table)
        .map_err(|error| unusable(format!("[blnk.s3] is not usable: {}", error.message())))?;
    let config = StorageConfig::resolve(&StorageOptions::default(), parsed, |_| None)?;
    Ok((config, missing))
}

fn unusable(message: String) -> Error {
    Error::new(Kind::Invalid(Vec::new()), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"project_name": "x", "backup_dir": "/b", "s3_region": "file",
        "data_source": {"dns": "postgres://u:p@h:5432/blnk?sslmode=disable"},
        "server": {"secure": false, "secret_key": "master", "port": "5001"},
        "aws_access_key_id": "id", "s3_bucket_name": ""}"#;

    fn resolve(table: &str, file: &str, variables: &[(&str, &str)]) -> Result<Blnk> {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("blnk.json");
        std::fs::write(&path, file).expect("written");
        let mut table: BlnkTable = toml::from_str(table).expect("a table");
        table.file = Some(path);
        let variable = |name: &str| {
            variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned())
        };
        table.resolve(&mut Vec::new(), variable)
    }

    #[test]
    fn the_table_wins_over_blnk_s_variables_those_over_its_file_and_that_over_others() {
        let variables = [
            ("BLNK_S3_BUCKET_NAME", "of-blnk"),
            ("S3_BACKUP_BUCKET", "of-others"),
            ("AWS_SECRET_ACCESS_KEY", "sesame"),
            ("AWS_REGION", "others"),
            ("AWS_ENDPOINT_URL", "http://others"),
        ];
        let found = resolve("", FILE, &variables).expect("usable");
        assert_eq!(found.database.as_deref(), Some("blnk"));
        assert_eq!(found.backup_dir.as_deref(), Some(Path::new("/b")));
        assert!(found.secure && !found.delete_local, "what Blnk's file says of keys is not enough");
        let bucket = found.s3.bucket.clone().expect("a bucket");
        assert_eq!((bucket.name.as_str(), bucket.region.as_deref()), ("of-blnk", Some("file")));
        assert!(bucket.path_style && found.s3_missing.is_empty());
        let shown = format!("{found:?}");
        assert!(!shown.contains("sesame") && !shown.contains("master"), "{shown}");
        let found = resolve("s3 = { bucket = 'ours' }", FILE, &variables).expect("usable");
        assert_eq!(found.s3.bucket.expect("a bucket").name, "ours");
    }

    #[test]
    fn what_is_missing_is_known_and_no_fault_of_the_start() {
        let found = resolve("", "{}", &[]).expect("usable");
        assert_eq!((&found.database, &found.backup_dir, found.delete_local), (&None, &None, true));
        assert_eq!(found.s3_missing.len(), 4);
        let found = resolve("", FILE, &[]).expect("usable");
        let names = "s3_bucket_name (BLNK_S3_BUCKET_NAME) \
            aws_secret_access_key (BLNK_AWS_SECRET_ACCESS_KEY)";
        assert_eq!(found.s3_missing.join(" "), names);
        assert_eq!(found.s3.bucket, None);
    }

    #[test]
    fn what_cannot_be_used_is_named_without_secrets() {
        for (table, file, word) in [
            ("", "{\"server\": geheim", "JSON"),
            ("s3 = { sse = 'rot13' }", FILE, "rot13"),
            ("s3 = { buckte = 'b' }", FILE, "buckte"),
            ("database = { jbos = 1 }", FILE, "jbos"),
        ] {
            let error = resolve(table, file, &[]).expect_err(table);
            assert!(error.full().contains(word), "{table}: {}", error.full());
            assert!(!error.full().contains("geheim"), "{}", error.full());
        }
    }
}
