//! Backups as objects in a bucket, at its root, as PocketBase lays them out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, GetOptions, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};
use url::Url;

use crate::backup::{Backup, Key};
use crate::error::{Context, Error, Kind, Result};
use crate::storage::{ByteStream, PutMode, Storage};

/// Smallest part of an upload, in bytes; a smaller archive is one put.
const PART_BYTES_MIN: usize = 16 << 20;
/// Parts after which the part size doubles: S3 allows 10,000 parts.
const PARTS_PER_SIZE: usize = 1_000;
/// How long a server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the test of a bucket may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How long one request is retried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 5;

/// Where a bucket is and how to open it.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The server, with or without a scheme.
    pub endpoint: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret: String,
    /// The bucket is in the path and not in the host's name.
    pub force_path_style: bool,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Options({} at {})", self.bucket, self.endpoint)
    }
}

/// A bucket of backups.
#[derive(Debug, Clone)]
pub struct S3Storage {
    store: Arc<AmazonS3>,
}

impl S3Storage {
    /// A client of the bucket; nothing is sent yet.
    ///
    /// # Errors
    /// The options make no client, or the machine has no root certificates.
    pub fn new(options: &S3Options) -> Result<Self> {
        let endpoint = endpoint(options)?;
        let insecure = endpoint.starts_with("http://");
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout(READ_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(insecure);
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::new()
            .with_bucket_name(&options.bucket)
            .with_region(&options.region)
            .with_endpoint(endpoint)
            .with_access_key_id(&options.access_key)
            .with_secret_access_key(&options.secret)
            .with_virtual_hosted_style_request(!options.force_path_style)
            .with_unsigned_payload(true)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .map_err(|error| failure(&error, "set up"))?;
        Ok(Self { store: Arc::new(store) })
    }

    async fn put_parts(
        &self,
        path: &Path,
        first: Bytes,
        body: &mut ByteStream,
        upload: &mut Box<dyn MultipartUpload>,
    ) -> Result<()> {
        let mut next = Some(first);
        let mut parts = 0;
        while let Some(part) = next {
            let sent = upload.put_part(PutPayload::from(part));
            sent.await.map_err(|error| failure(&error, path.as_ref()))?;
            parts += 1;
            let size_bytes = PART_BYTES_MIN << (parts / PARTS_PER_SIZE);
            next = Some(collect(body, size_bytes).await?).filter(|part| !part.is_empty());
        }
        upload.complete().await.map_err(|error| failure(&error, path.as_ref()))?;
        Ok(())
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn list(&self) -> Result<Vec<Backup>> {
        let mut objects = self.store.list(None);
        let mut backups = Vec::new();
        while let Some(object) =
            objects.try_next().await.map_err(|error| failure(&error, "list"))?
        {
            if let Some(backup) = backup(&object) {
                backups.push(backup);
            }
        }
        backups.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(backups)
    }

    async fn head(&self, key: &Key) -> Result<Backup> {
        let path = path(key)?;
        let object = self.store.head(&path).await.map_err(|error| failure(&error, key.as_str()))?;
        backup(&object).ok_or_else(|| Error::new(Kind::NotFound, format!("no backup {key}")))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        if range.as_ref().is_some_and(|range| range.is_empty()) {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let found = self.store.get_opts(&path(key)?, options).await;
        let found = found.map_err(|error| failure(&error, key.as_str()))?;
        let key = key.clone();
        Ok(found.into_stream().map_err(move |error| failure(&error, key.as_str())).boxed())
    }

    async fn put(&self, key: &Key, mut body: ByteStream, mode: PutMode) -> Result<Backup> {
        let path = path(key)?;
        let exists = || Error::new(Kind::Exists, format!("a backup {key} exists already"));
        if mode == PutMode::Create && self.exists(key).await? {
            return Err(exists());
        }
        let attributes =
            Attributes::from_iter([(Attribute::ContentType, "application/zip".to_owned())]);
        let first = collect(&mut body, PART_BYTES_MIN).await?;
        if first.len() < PART_BYTES_MIN {
            let options = PutOptions {
                mode: match mode {
                    PutMode::Create => object_store::PutMode::Create,
                    PutMode::Replace => object_store::PutMode::Overwrite,
                },
                attributes,
                ..PutOptions::default()
            };
            let put = self.store.put_opts(&path, PutPayload::from(first), options).await;
            put.map_err(|error| failure(&error, key.as_str()))?;
            return self.head(key).await;
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let upload = self.store.put_multipart_opts(&path, options).await;
        let mut upload = upload.map_err(|error| failure(&error, key.as_str()))?;
        if let Err(error) = self.put_parts(&path, first, &mut body, &mut upload).await {
            if let Err(left) = upload.abort().await {
                tracing::warn!(%key, error = %left, "parts of a failed upload are left behind");
            }
            return Err(error);
        }
        self.head(key).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let path = path(key)?;
        self.store.delete(&path).await.map_err(|error| failure(&error, key.as_str()))
    }
}

impl S3Storage {
    async fn exists(&self, key: &Key) -> Result<bool> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == &Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The server's address, with the bucket in its host unless it stands in the path.
fn endpoint(options: &S3Options) -> Result<String> {
    let unusable = || {
        Error::new(Kind::Unavailable, "the S3 endpoint is not usable")
            .hint("it is a URL such as https://s3.example.com; a bare address needs path style")
    };
    let text = match options.endpoint.contains("://") {
        true => options.endpoint.clone(),
        false => format!("https://{}", options.endpoint),
    };
    let mut url = Url::parse(&text).map_err(|error| unusable().because(error))?;
    if !options.force_path_style {
        let Some(url::Host::Domain(host)) = url.host() else { return Err(unusable()) };
        let host = format!("{}.{host}", options.bucket);
        url.set_host(Some(&host)).map_err(|error| unusable().because(error))?;
        if url.host_str() != Some(host.to_ascii_lowercase().as_str()) {
            return Err(unusable());
        }
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Tries a bucket as PocketBase does: put an object, list it, delete it.
///
/// # Errors
/// What the server or the way to it answered.
pub async fn test_s3(options: &S3Options) -> Result<()> {
    let storage = S3Storage::new(options)?;
    let unique: u32 = rand::random();
    let folder = Path::from(format!("pb_settings_test_{unique:08x}"));
    let object = folder.clone().join("test.txt");
    let step = |error: object_store::Error| failure(&error, "test");
    let trial = async {
        storage.store.put(&object, PutPayload::from_static(b"test")).await.map_err(step)?;
        let listed: Result<Vec<_>, _> = storage.store.list(Some(&folder)).try_collect().await;
        // Whatever the list says, nothing of ours may stay.
        storage.store.delete(&object).await.map_err(step)?;
        listed.map_err(step)
    };
    let listed = tokio::time::timeout(TEST_TIME_MAX, trial)
        .await
        .map_err(|_| Error::new(Kind::Unavailable, "the S3 server does not answer in time"))??;
    match listed.len() {
        1 => Ok(()),
        found => Err(Error::new(Kind::Unavailable, format!("the list shows {found} of 1 object"))),
    }
}

/// Blocks of the stream until there are `size_bytes` or it ends.
async fn collect(body: &mut ByteStream, size_bytes: usize) -> Result<Bytes> {
    let mut part = BytesMut::new();
    while part.len() < size_bytes {
        match body.next().await {
            Some(block) => part.extend_from_slice(&block?),
            None => break,
        }
    }
    Ok(part.freeze())
}

fn path(key: &Key) -> Result<Path> {
    Path::parse(key.as_str()).context("the key cannot be that of an object")
}

/// Objects whose names are no keys (in folders, side-cars) are none of ours.
fn backup(object: &ObjectMeta) -> Option<Backup> {
    let key = Key::existing(object.location.as_ref()).ok()?;
    Some(Backup { key, size_bytes: object.size, modified: object.last_modified })
}

fn failure(error: &object_store::Error, what: &str) -> Error {
    use object_store::Error as E;
    let (kind, said) = match error {
        E::NotFound { .. } => (Kind::NotFound, "not found"),
        E::AlreadyExists { .. } | E::Precondition { .. } => (Kind::Exists, "exists already"),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            (Kind::Unavailable, "the S3 server refused the credentials")
        }
        _ => (Kind::Unavailable, "the S3 server does not answer as it should"),
    };
    Error::new(kind, format!("{what}: {said}")).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_goes_into_the_host_or_the_path_or_nowhere() {
        for (given, path_style, expected) in [
            ("https://s3.example.com", false, Some("https://b1.s3.example.com")),
            ("s3.example.com/", true, Some("https://s3.example.com")),
            ("http://127.0.0.1:9000", true, Some("http://127.0.0.1:9000")),
            ("http://127.0.0.1:9000", false, None),
            ("http://[::1]:9", false, None),
            ("https://", true, None),
        ] {
            let options = S3Options {
                bucket: "b1".to_owned(),
                region: "r".to_owned(),
                endpoint: given.to_owned(),
                access_key: "a".to_owned(),
                secret: "s".to_owned(),
                force_path_style: path_style,
            };
            assert_eq!(endpoint(&options).ok().as_deref(), expected, "{given}");
        }
        let mut options = S3Options {
            bucket: "b/../x".to_owned(),
            region: String::new(),
            endpoint: "https://s3.example.com".to_owned(),
            access_key: String::new(),
            secret: String::new(),
            force_path_style: false,
        };
        assert!(endpoint(&options).is_err());
        options.bucket = "B1".to_owned();
        assert!(endpoint(&options).is_ok());
    }
}
