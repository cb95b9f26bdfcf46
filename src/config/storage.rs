//! Options of where backups are kept: a bucket by flags, `POCKETVAULT_S3_*`, the `[s3]` table of
//! the file, or the names that other tools use (`S3_BACKUP_BUCKET`, `AWS_ENDPOINT_URL`,
//! `AWS_REGION`).
//!
//! PocketBase's own settings say where a bucket is, too, and win where they are enabled: they
//! can be changed while the server runs. What they cannot say (prefix, storage class,
//! encryption, …) comes from here in either case.

use std::fmt;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use serde::Deserialize;

use crate::config::destination::{DestinationConfig, SpoolConfig};
use crate::config::provider::Provider;
use crate::error::{Error, Kind, Result};

/// Memory of one upload unless told otherwise, in MiB.
const UPLOAD_MEMORY_MIB_DEFAULT: u64 = 36;
/// Below this a part would be smaller than S3 takes.
const UPLOAD_MEMORY_MIB_MIN: u64 = 30;
/// Longest time without success before an upload is given up, unless told otherwise.
const RETRY_FOR_S_DEFAULT: u64 = 300;
/// How long the lock of a silent server counts, unless told otherwise.
const LOCK_LEASE_S_DEFAULT: u64 = 120;
/// Longest prefix, in bytes: prefix, key and a test's suffix stay below S3's 1,024.
const PREFIX_BYTES_MAX: usize = 512;

/// Flags and variables.
#[derive(Debug, Clone, Default, Args)]
pub struct StorageOptions {
    /// Bucket for backups, unless PocketBase's settings name one [env also: S3_BACKUP_BUCKET]
    #[arg(long, value_name = "NAME", env = "POCKETVAULT_S3_BUCKET")]
    pub s3_bucket: Option<String>,
    /// Address of the S3 server [env also: AWS_ENDPOINT_URL] [default: that of AWS]
    #[arg(long, value_name = "URL", env = "POCKETVAULT_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,
    /// Region of the bucket [env also: AWS_REGION] [default: us-east-1]
    #[arg(long, value_name = "NAME", env = "POCKETVAULT_S3_REGION")]
    pub s3_region: Option<String>,
    /// The bucket stands in the path of addresses and not in the host's name
    #[arg(
        long,
        env = "POCKETVAULT_S3_PATH_STYLE",
        value_parser = FalseyValueParser::new()
    )]
    pub s3_path_style: bool,
    /// Folder inside the bucket; nothing outside of it is listed or touched
    #[arg(long, value_name = "PREFIX", env = "POCKETVAULT_S3_PREFIX")]
    pub s3_prefix: Option<String>,
    /// Provider: aws, r2, b2, digitalocean, hetzner, scaleway, wasabi, minio, garage, ceph, other
    #[arg(long, value_name = "NAME", env = "POCKETVAULT_S3_PROVIDER")]
    pub s3_provider: Option<Provider>,
    /// Storage class of new backups, such as STANDARD_IA or INTELLIGENT_TIERING
    #[arg(long, value_name = "CLASS", env = "POCKETVAULT_S3_STORAGE_CLASS")]
    pub s3_storage_class: Option<String>,
    /// Server-side encryption: AES256 or aws:kms
    #[arg(long, value_name = "KIND", env = "POCKETVAULT_S3_SSE")]
    pub s3_sse: Option<String>,
    /// Key of aws:kms [default: the account's]
    #[arg(long, value_name = "ID", env = "POCKETVAULT_S3_KMS_KEY_ID")]
    pub s3_kms_key_id: Option<String>,
}

/// The table `[s3]` of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StorageFile {
    bucket: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    access_key: Option<String>,
    secret_key: Option<Secret>,
    prefix: Option<String>,
    provider: Option<Provider>,
    storage_class: Option<String>,
    sse: Option<String>,
    kms_key_id: Option<String>,
    upload_memory_mib: Option<u64>,
    retry_for: Option<u64>,
    verify_etags: Option<bool>,
    checksums: Option<bool>,
    sweep_uploads_after_days: Option<u32>,
    redirect: Option<bool>,
    lock_lease: Option<u64>,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// Server-side encryption of new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys that the store manages.
    Aes256,
    /// With a key of the key service; `None` for the account's own.
    Kms(Option<String>),
}

/// What goes beyond PocketBase's own settings of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Extras {
    /// Folder inside the bucket, without `/` at its ends; empty for the root.
    pub prefix: String,
    /// Whose server it is; `None` to tell it from the address.
    pub provider: Option<Provider>,
    /// Storage class of new objects; `None` for the bucket's own.
    pub storage_class: Option<String>,
    /// Encryption of new objects; `None` for the bucket's own.
    pub encryption: Option<Encryption>,
    /// Memory of one upload, in bytes: parts on their way and the one being filled.
    pub upload_memory_bytes: usize,
    /// Longest time without success before a request is given up.
    pub retry_for: Duration,
    /// Whether the ETags that the store answers must be the MD5 sums of what was sent.
    pub verify_etags: bool,
    /// Whether stores that keep checksums are told them; else MD5 and SHA-256 must do.
    pub checksums: bool,
    /// How long the lock of a server counts that is silent.
    pub lock_lease: Duration,
    /// Age beyond which uploads are swept that nobody here remembers; `None` for never.
    pub sweep_uploads_after: Option<Duration>,
}

impl Default for S3Extras {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            provider: None,
            storage_class: None,
            encryption: None,
            upload_memory_bytes: mib(UPLOAD_MEMORY_MIB_DEFAULT),
            retry_for: Duration::from_secs(RETRY_FOR_S_DEFAULT),
            verify_etags: true,
            checksums: true,
            lock_lease: Duration::from_secs(LOCK_LEASE_S_DEFAULT),
            sweep_uploads_after: None,
        }
    }
}

/// Where a bucket is that is not in PocketBase's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The server; `None` for that of AWS.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// The bucket stands in the path of addresses.
    pub path_style: bool,
    /// Access key and secret; `None` for those of the environment or the instance's role.
    pub keys: Option<(String, Secret)>,
}

/// The options, resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StorageConfig {
    /// The bucket to use unless PocketBase's settings name one; `None` for the local folder.
    pub bucket: Option<Bucket>,
    /// What holds for either.
    pub extras: S3Extras,
    /// Whether downloads are redirected to the store unless the client says otherwise.
    pub redirect: bool,
    /// Further destinations, in their order.
    pub destinations: Vec<DestinationConfig>,
    /// Where backups wait for destinations that do not take them.
    pub spool: SpoolConfig,
}

impl StorageConfig {
    /// Flags win over the file, that over the variables of other tools.
    pub(super) fn resolve(
        options: &StorageOptions,
        file: StorageFile,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let given = |flag: &Option<String>, file: Option<String>| {
            flag.clone().or(file).filter(|value| !value.is_empty())
        };
        let keys = match (file.access_key, file.secret_key) {
            (Some(access_key), Some(secret)) => Some((access_key, secret)),
            (None, None) => None,
            _ => return Err(unusable("[s3] needs both access_key and secret_key, or neither")),
        };
        let name = given(&options.s3_bucket, file.bucket).or_else(|| variable("S3_BACKUP_BUCKET"));
        let bucket = name.map(|name| Bucket {
            name,
            endpoint: given(&options.s3_endpoint, file.endpoint)
                .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
                .or_else(|| variable("AWS_ENDPOINT_URL")),
            region: given(&options.s3_region, file.region)
                .or_else(|| variable("AWS_REGION"))
                .or_else(|| variable("AWS_DEFAULT_REGION")),
            path_style: options.s3_path_style || file.path_style.unwrap_or(false),
            keys,
        });
        let memory_mib = file.upload_memory_mib.unwrap_or(UPLOAD_MEMORY_MIB_DEFAULT);
        if !(UPLOAD_MEMORY_MIB_MIN..=64 * 1024).contains(&memory_mib) {
            let least = UPLOAD_MEMORY_MIB_MIN;
            return Err(unusable(format!("[s3] upload_memory_mib must be {least} or more")));
        }
        let encryption = encryption(
            given(&options.s3_sse, file.sse).as_deref(),
            given(&options.s3_kms_key_id, file.kms_key_id),
        )?;
        let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        Ok(Self {
            bucket,
            redirect: file.redirect.unwrap_or(false),
            destinations: Vec::new(),
            spool: SpoolConfig::default(),
            extras: S3Extras {
                prefix: prefix(given(&options.s3_prefix, file.prefix).unwrap_or_default())?,
                provider: options.s3_provider.or(file.provider),
                storage_class: given(&options.s3_storage_class, file.storage_class),
                encryption,
                upload_memory_bytes: mib(memory_mib),
                retry_for: Duration::from_secs(file.retry_for.unwrap_or(RETRY_FOR_S_DEFAULT)),
                verify_etags: file.verify_etags.unwrap_or(true),
                checksums: file.checksums.unwrap_or(true),
                lock_lease: Duration::from_secs(file.lock_lease.unwrap_or(LOCK_LEASE_S_DEFAULT)),
                sweep_uploads_after: file.sweep_uploads_after_days.map(days),
            },
        })
    }
}

fn encryption(kind: Option<&str>, key: Option<String>) -> Result<Option<Encryption>> {
    match (kind, key) {
        (None, None) => Ok(None),
        (Some("AES256"), None) => Ok(Some(Encryption::Aes256)),
        (Some("aws:kms") | None, Some(key)) => Ok(Some(Encryption::Kms(Some(key)))),
        (Some("aws:kms"), None) => Ok(Some(Encryption::Kms(None))),
        (Some("AES256"), Some(_)) => Err(unusable("a KMS key does not go with sse AES256")),
        (Some(other), _) => {
            Err(unusable(format!("sse can be AES256 or aws:kms and not {other:?}")))
        }
    }
}

/// Without `/` at the ends; only parts that every store keeps as they are.
fn prefix(text: String) -> Result<String> {
    let prefix = text.trim_matches('/').to_owned();
    let sound = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || c == '\\')
    };
    if prefix.len() > PREFIX_BYTES_MAX || !(prefix.is_empty() || prefix.split('/').all(sound)) {
        return Err(unusable(format!("{text:?} cannot be the prefix of backups in a bucket")));
    }
    Ok(prefix)
}

fn mib(count: u64) -> usize {
    usize::try_from(count << 20).unwrap_or(usize::MAX)
}

fn unusable(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Invalid(Vec::new()), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str, variables: &[(&str, &str)]) -> Result<StorageConfig> {
        resolve_with(&StorageOptions::default(), file, variables)
    }

    fn resolve_with(
        options: &StorageOptions,
        file: &str,
        variables: &[(&str, &str)],
    ) -> Result<StorageConfig> {
        let variable = |name: &str| {
            variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned())
        };
        StorageConfig::resolve(options, toml::from_str(file).expect("a table"), variable)
    }

    #[test]
    fn without_a_bucket_backups_stay_local() {
        let region = [("AWS_REGION", "eu-west-1"), ("S3_BACKUP_BUCKET", "")];
        assert_eq!(resolve("", &region).expect("usable"), StorageConfig::default());
    }

    #[test]
    fn flags_win_over_the_file_and_that_over_other_tools() {
        let variables = [("S3_BACKUP_BUCKET", "seed"), ("AWS_ENDPOINT_URL", "http://seed")];
        let name = |config: StorageConfig| config.bucket.expect("a bucket").name;
        assert_eq!(name(resolve("", &variables).expect("usable")), "seed");
        assert_eq!(name(resolve("bucket = 'file'", &variables).expect("usable")), "file");
        let options =
            StorageOptions { s3_bucket: Some("flag".to_owned()), ..StorageOptions::default() };
        let config = resolve_with(&options, "bucket = 'file'\nregion = 'r'", &variables);
        let bucket = config.expect("usable").bucket.expect("a bucket");
        assert_eq!((bucket.name.as_str(), bucket.region.as_deref()), ("flag", Some("r")));
        assert_eq!(bucket.endpoint.as_deref(), Some("http://seed"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for file in [
            "access_key = 'a'",
            "sse = 'rot13'",
            "sse = 'AES256'\nkms_key_id = 'k'",
            "upload_memory_mib = 1",
            "prefix = 'a//b'",
            "prefix = '../b'",
        ] {
            assert!(resolve(file, &[]).is_err(), "{file}");
        }
        assert!(toml::from_str::<StorageFile>("provider = 'floppy'").is_err());
        assert!(toml::from_str::<StorageFile>("buckte = 'b'").is_err());
    }

    #[test]
    fn the_rest_is_taken_over() {
        let file = "prefix = '/a/b/'\nprovider = 'R2'\nkms_key_id = 'k'\nretry_for = 7\n\
                    storage_class = 'GLACIER_IR'\nsweep_uploads_after_days = 2";
        let extras = resolve(file, &[]).expect("usable").extras;
        assert_eq!((extras.prefix.as_str(), extras.provider), ("a/b", Some(Provider::R2)));
        assert_eq!(extras.encryption, Some(Encryption::Kms(Some("k".to_owned()))));
        assert_eq!(extras.retry_for, Duration::from_secs(7));
        assert_eq!(extras.sweep_uploads_after, Some(Duration::from_secs(172_800)));
    }

    #[test]
    fn secrets_are_not_shown() {
        let file = "bucket = 'b'\naccess_key = 'open'\nsecret_key = 'sesame'";
        let shown = format!("{:?}", resolve(file, &[]).expect("usable"));
        assert!(shown.contains("open") && !shown.contains("sesame"), "{shown}");
    }
}
