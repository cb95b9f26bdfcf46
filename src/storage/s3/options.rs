//! Where a bucket is and how to open it, and the addresses that follow from it.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::config::storage::{Bucket, S3Extras, Secret};
use crate::error::{Error, Kind, Result};
use crate::storage::s3::profile::{self, Profile};

/// The region of AWS, and of every server that has none.
const REGION_DEFAULT: &str = "us-east-1";

/// Where a bucket is and how to open it.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Its region; empty for AWS's first.
    pub region: String,
    /// The server, with or without a scheme; empty for that of AWS.
    pub endpoint: String,
    /// The bucket is in the path and not in the host's name.
    pub force_path_style: bool,
    /// What opens it.
    pub credentials: Credentials,
    /// What goes beyond PocketBase's settings.
    pub extras: S3Extras,
    /// Where uploads on their way are remembered; `None` to remember none.
    pub ledger: Option<PathBuf>,
}

/// What opens a bucket.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// An access key and its secret.
    Keys(String, Secret),
    /// `AWS_*` variables, or else the role of the instance or container.
    Environment,
}

impl S3Options {
    /// A bucket that is named in the options and not in PocketBase's settings.
    pub fn configured(bucket: &Bucket, extras: &S3Extras) -> Self {
        Self {
            bucket: bucket.name.clone(),
            region: bucket.region.clone().unwrap_or_default(),
            endpoint: bucket.endpoint.clone().unwrap_or_default(),
            force_path_style: bucket.path_style,
            credentials: match &bucket.keys {
                Some((access_key, secret)) => Credentials::Keys(access_key.clone(), secret.clone()),
                None => Credentials::Environment,
            },
            extras: extras.clone(),
            ledger: None,
        }
    }

    /// Its region.
    pub fn region(&self) -> &str {
        if self.region.is_empty() { REGION_DEFAULT } else { &self.region }
    }

    /// How its provider is spoken to: as named, or as its host tells.
    pub fn profile(&self) -> Profile {
        let host = self.server().ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        let told = host.map_or(profile::provider_at(""), |host| profile::provider_at(&host));
        profile::of(self.extras.provider.unwrap_or(told))
    }

    /// The bucket's own address, without `/` at its end.
    ///
    /// # Errors
    /// The endpoint is no URL, or the bucket cannot be part of its host.
    pub fn bucket_url(&self) -> Result<String> {
        let mut url = self.server()?;
        // An address has no names below it: where it is one, only the path is left.
        let named = matches!(url.host(), Some(url::Host::Domain(_)));
        if self.force_path_style || self.profile().path_style {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if self.bucket.is_empty() || !self.bucket.chars().all(sound) {
                return Err(unusable());
            }
            let base = url.as_str().trim_end_matches('/').to_owned();
            return Ok(format!("{base}/{}", self.bucket));
        }
        if !named || self.bucket.is_empty() {
            return Err(unusable());
        }
        let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|error| unusable().because(error))?;
        if url.host_str() != Some(host.to_ascii_lowercase().as_str()) {
            return Err(unusable());
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    fn server(&self) -> Result<Url> {
        let text = match self.endpoint.as_str() {
            "" => format!("https://s3.{}.amazonaws.com", self.region()),
            given if given.contains("://") => given.to_owned(),
            given => format!("https://{given}"),
        };
        let url = Url::parse(&text).map_err(|error| unusable().because(error))?;
        let web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        if web && url.username().is_empty() && url.query().is_none() {
            Ok(url)
        } else {
            Err(unusable())
        }
    }
}

/// Without what opens it.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Options({} at {:?}, {:?})", self.bucket, self.endpoint, self.extras)
    }
}

fn unusable() -> Error {
    Error::new(Kind::Unavailable, "the S3 endpoint is not usable")
        .hint("it is a URL such as https://s3.example.com; a bare address needs path style")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::provider::Provider;

    fn options(endpoint: &str, path_style: bool) -> S3Options {
        S3Options {
            bucket: "b1".to_owned(),
            region: "r".to_owned(),
            endpoint: endpoint.to_owned(),
            force_path_style: path_style,
            credentials: Credentials::Keys("open".to_owned(), Secret::new("sesame")),
            extras: S3Extras::default(),
            ledger: None,
        }
    }

    #[test]
    fn the_bucket_goes_into_the_host_or_the_path_or_nowhere() {
        for (given, path_style, expected) in [
            ("https://s3.example.com", false, Some("https://b1.s3.example.com")),
            ("s3.example.com/", true, Some("https://s3.example.com/b1")),
            ("https://s3.example.com/base", true, Some("https://s3.example.com/base/b1")),
            ("http://127.0.0.1:9000", true, Some("http://127.0.0.1:9000/b1")),
            ("http://127.0.0.1:9000", false, None),
            ("http://[::1]:9", false, None),
            ("https://", true, None),
            ("ftp://s3.example.com", true, None),
            ("https://user@s3.example.com", true, None),
            ("", false, Some("https://b1.s3.r.amazonaws.com")),
            ("https://s3.eu.backblazeb2.com", false, Some("https://s3.eu.backblazeb2.com/b1")),
        ] {
            let found = options(given, path_style).bucket_url().ok();
            assert_eq!(found.as_deref(), expected, "{given}");
        }
        for bucket in ["b/../x", "", "b?x", "b#x"] {
            for path_style in [true, false] {
                let mut options = options("https://s3.example.com", path_style);
                options.bucket = bucket.to_owned();
                assert!(options.bucket_url().is_err(), "{bucket} {path_style}");
            }
        }
        let mut capital = options("https://s3.example.com", false);
        capital.bucket = "B1".to_owned();
        assert!(capital.bucket_url().is_ok());
    }

    #[test]
    fn a_named_provider_wins_over_the_host() {
        let mut options = options("https://x.r2.cloudflarestorage.com", true);
        assert_eq!(options.profile().provider, Provider::R2);
        options.extras.provider = Some(Provider::Ceph);
        assert_eq!(options.profile().provider, Provider::Ceph);
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = options("https://s3.example.com", true);
        let shown = format!("{options:?} {:?}", options.credentials);
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
