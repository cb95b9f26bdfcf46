//! Options of further destinations of backups (`[[destination]]`), beside the storage that
//! PocketBase's settings name, and of the spool (`[spool]`), where backups wait for those that
//! do not take them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::care::{Policy, RetentionTable};
use crate::config::resolved as resolved_path;
use crate::config::storage::{Bucket, S3Extras, StorageConfig, StorageFile, StorageOptions};
use crate::error::{Error, Kind, Result};

/// The name of the storage that PocketBase's settings name.
pub const PRIMARY: &str = "pocketbase";
/// The name of the place where backups wait.
pub const SPOOL: &str = "spool";
/// First wait before a waiting backup is sent, unless told otherwise; it doubles.
const RETRY_S_DEFAULT: u64 = 30;

/// One `[[destination]]`; the options of a bucket are those of `[s3]`.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct DestinationFile(toml::Table);

/// It may hold a secret.
impl fmt::Debug for DestinationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "destination {:?}", self.0.get("name"))
    }
}

/// The table `[spool]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpoolFile {
    #[serde(default)]
    when: SpoolWhen,
    retry: Option<u64>,
}

/// When a backup is written to the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpoolWhen {
    /// When no destination took it: it is made once more, into the spool.
    #[default]
    Failure,
    /// Always, while it is sent; it goes when all destinations have it.
    Always,
    /// Never: what no destination takes has failed.
    Never,
}

/// The spool's options, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// When it is used.
    pub when: SpoolWhen,
    /// First wait before a waiting backup is sent; it doubles.
    pub retry: Duration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { when: SpoolWhen::default(), retry: Duration::from_secs(RETRY_S_DEFAULT) }
    }
}

/// A destination's options, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationConfig {
    /// Its name: letters, digits, `-` and `_`; no other has it.
    pub name: String,
    /// Where it is.
    pub place: PlaceConfig,
    /// How many automatic backups are kept there, 0 for all; `None` for what PocketBase's
    /// settings say.
    pub keep: Option<usize>,
    /// Which backups are kept there (`[destination.retention]`); `None` for what `[retention]`
    /// says.
    pub retention: Option<Policy>,
}

/// Where a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceConfig {
    /// A folder, as an absolute path.
    Local(PathBuf),
    /// A bucket.
    S3(Box<Bucket>, Box<S3Extras>),
}

/// What the file says of them.
pub(super) type Others = (Vec<DestinationFile>, SpoolFile);

impl StorageConfig {
    /// Resolves all options of where the backups of the folder `data` are kept.
    pub(super) fn of(
        options: &StorageOptions,
        file: StorageFile,
        (others, spool): Others,
        data: &Path,
    ) -> Result<Self> {
        let config = Self::resolve(options, file, |name| std::env::var(name).ok())?;
        let destinations = destinations(others, data)?;
        Ok(Self { destinations, spool: spool.resolve(), ..config })
    }
}

/// Resolves all destinations of the backups of the folder `data`.
fn destinations(files: Vec<DestinationFile>, data: &Path) -> Result<Vec<DestinationConfig>> {
    let inside = |folder: &Path| resolved_path(folder).starts_with(resolved_path(data));
    let mut names = BTreeSet::from([PRIMARY.to_owned(), SPOOL.to_owned()]);
    let mut resolved = Vec::new();
    for file in files {
        let destination = file.resolve()?;
        if !names.insert(destination.name.clone()) {
            return Err(unusable(format!("there are two destinations {:?}", destination.name)));
        }
        if matches!(&destination.place, PlaceConfig::Local(folder) if inside(folder)) {
            let message = format!("the destination {} lies in the data itself", destination.name);
            return Err(unusable(message));
        }
        resolved.push(destination);
    }
    Ok(resolved)
}

impl SpoolFile {
    pub(super) fn resolve(&self) -> SpoolConfig {
        let retry = Duration::from_secs(self.retry.unwrap_or(RETRY_S_DEFAULT).max(1));
        SpoolConfig { when: self.when, retry }
    }
}

impl DestinationFile {
    fn resolve(self) -> Result<DestinationConfig> {
        let mut table = self.0;
        let mut text = |name: &str| match table.remove(name) {
            None => Ok(None),
            Some(toml::Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(unusable(format!("a destination's {name} must be a text"))),
        };
        let name = text("name")?.unwrap_or_default();
        let (kind, folder) = (text("type")?, text("folder")?);
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(sound) {
            let message = format!("a destination cannot be named {name:?}");
            return Err(unusable(message).hint("a name has letters, digits, - and _"));
        }
        let keep = match table.remove("keep") {
            None => None,
            Some(toml::Value::Integer(keep)) if keep >= 0 => usize::try_from(keep).ok(),
            Some(_) => return Err(unusable(format!("keep of {name} must be a number from 0 on"))),
        };
        let retention = match table.remove("retention") {
            None => None,
            Some(rules) => Some(policy(&name, rules)?),
        };
        let place = match (kind.as_deref(), folder) {
            (Some("local"), Some(folder)) if table.is_empty() => local(&name, &folder)?,
            (Some("local"), Some(_)) => {
                let unknown: Vec<&str> = table.keys().map(String::as_str).collect();
                let unknown = unknown.join(", ");
                return Err(unusable(format!("a local destination has no {unknown}: {name}")));
            }
            (Some("local"), None) => return Err(unusable(format!("{name} needs a folder"))),
            (Some("s3"), None) => bucket(&name, table)?,
            (Some("s3"), Some(_)) => {
                return Err(unusable(format!("{name}: a bucket has a prefix and no folder")));
            }
            _ => return Err(unusable(format!("the type of {name} must be local or s3"))),
        };
        Ok(DestinationConfig { name, place, keep, retention })
    }
}

fn policy(name: &str, rules: toml::Value) -> Result<Policy> {
    let wrong = || unusable(format!("the retention of the destination {name} is not usable"));
    let rules: RetentionTable = rules.try_into().map_err(|error| wrong().because(error))?;
    rules.resolve().map_err(|error| wrong().because(error))
}

fn local(name: &str, folder: &str) -> Result<PlaceConfig> {
    let folder = std::path::absolute(folder)
        .map_err(|error| unusable(format!("{name}: the folder is not usable")).because(error))?;
    Ok(PlaceConfig::Local(folder))
}

fn bucket(name: &str, table: toml::Table) -> Result<PlaceConfig> {
    let wrong = || unusable(format!("the destination {name} is not usable"));
    let file: StorageFile = table.try_into().map_err(|error| wrong().because(error))?;
    let resolved = StorageConfig::resolve(&StorageOptions::default(), file, |_| None);
    let resolved = resolved.map_err(|error| wrong().because(error))?;
    let bucket = resolved.bucket.ok_or_else(|| unusable(format!("{name} needs a bucket")))?;
    Ok(PlaceConfig::S3(Box::new(bucket), Box::new(resolved.extras)))
}

fn unusable(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Invalid(Vec::new()), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        destination: Vec<DestinationFile>,
    }

    fn resolve(text: &str) -> Result<Vec<DestinationConfig>> {
        destinations(
            toml::from_str::<File>(text).expect("a file").destination,
            Path::new("/data/pb_data"),
        )
    }

    #[test]
    fn folders_and_buckets_are_taken_in_their_order() {
        let found = resolve(
            "[[destination]]\nname = 'disk'\ntype = 'local'\nfolder = '/mnt/b'\nkeep = 30\n\
             retention = { last = 3 }\n\
             [[destination]]\nname = 'far'\ntype = 's3'\nbucket = 'b'\nprefix = 'p'\n",
        );
        let found = found.expect("usable");
        assert_eq!(found[0].place, PlaceConfig::Local("/mnt/b".into()));
        assert_eq!((found[0].keep, found[1].keep), (Some(30), None));
        assert_eq!(found[0].retention.as_ref().map(|policy| policy.last), Some(3));
        assert_eq!(found[1].retention, None);
        let PlaceConfig::S3(bucket, extras) = &found[1].place else { panic!("a bucket") };
        assert_eq!((bucket.name.as_str(), extras.prefix.as_str()), ("b", "p"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "type = 'local'\nfolder = '/a'",
            "name = 'spool'\ntype = 'local'\nfolder = '/a'",
            "name = 'pocketbase'\ntype = 'local'\nfolder = '/a'",
            "name = 'a b'\ntype = 'local'\nfolder = '/a'",
            "name = 'a'\nfolder = '/a'",
            "name = 'a'\ntype = 'local'",
            "name = 'a'\ntype = 'local'\nfolder = '/a'\nbucket = 'b'",
            "name = 'a'\ntype = 'local'\nfolder = '/a'\nkeep = -1",
            "name = 'a'\ntype = 'local'\nfolder = '/data/pb_data/backups'",
            "name = 'a'\ntype = 'local'\nfolder = '/a'\nretention = { lsat = 1 }",
            "name = 'a'\ntype = 'local'\nfolder = '/a'\nretention = { minimum = 0 }",
            "name = 'a'\ntype = 's3'",
            "name = 'a'\ntype = 's3'\nbucket = 'b'\nbuckte = 'c'",
            "name = 'a'\ntype = 's3'\nbucket = 'b'\nfolder = '/a'",
        ] {
            assert!(resolve(&format!("[[destination]]\n{text}")).is_err(), "{text}");
        }
        let twice = "[[destination]]\nname = 'a'\ntype = 'local'\nfolder = '/a'\n";
        assert!(resolve(&format!("{twice}{twice}")).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[[destination]]\nname = 'a'\ntype = 's3'\nbucket = 'b'\n\
                    access_key = 'open'\nsecret_key = 'sesame'";
        let file = toml::from_str::<File>(text).expect("a file").destination;
        assert!(!format!("{file:?}").contains("sesame"));
        assert!(!format!("{:?}", resolve(text).expect("usable")).contains("sesame"));
    }
}
