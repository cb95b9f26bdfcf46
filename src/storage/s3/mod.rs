//! Backups as objects in a bucket, at its root or below a prefix, as PocketBase lays them out.
//!
//! Ours are the objects directly below the prefix whose names end with `.zip` (with `.dump` for
//! a database's); nothing else is listed, read or deleted here.

mod client;
mod failure;
mod lease;
mod ledger;
mod listing;
mod options;
mod parts;
mod probe;
mod profile;
mod sums;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Method, StatusCode};
use object_store::client::HttpError;

use crate::backup::{Backup, DUMP_SUFFIX, Key};
use crate::config::storage::{Encryption, S3Extras};
use crate::error::{Error, Kind, Result, Violation, chain};
use crate::storage::{ByteStream, Lease, PutMode, Storage};

use client::{Call, Client, Patience, Reply, SILENCE_MAX, SharedClient};
use failure::Failure;
use lease::S3Lease;
use ledger::{Ledger, Record};
use parts::Plan;
use upload::Upload;

pub use options::{Credentials, S3Options};
pub use probe::{Finding, Verdict, probe, test_s3};
pub use profile::Profile;

/// How names of backups end in a bucket that may hold anything else as well.
const SUFFIX: &str = ".zip";

/// A bucket of backups.
#[derive(Debug, Clone)]
pub struct S3Storage {
    /// For transfers, which outlive a store that is down for a while.
    client: SharedClient,
    /// For questions, whose askers wait.
    asking: SharedClient,
    extras: S3Extras,
    profile: Profile,
    plan: Plan,
    ledger: Ledger,
    conditions: Known,
    checksums: Known,
    /// How names of backups end here.
    suffix: &'static str,
}

/// Whether the store knows something that not all know; learnt from its first refusal.
#[derive(Debug, Clone)]
struct Known(Arc<AtomicBool>);

impl Known {
    fn assumed(known: bool) -> Self {
        Self(Arc::new(AtomicBool::new(known)))
    }

    fn are_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl S3Storage {
    /// A client of the bucket; nothing is sent yet.
    ///
    /// # Errors
    /// The options make no client, or the machine has no root certificates.
    pub fn new(options: &S3Options) -> Result<Self> {
        let profile = options.profile();
        let client = Client::new(options)?;
        Ok(Self {
            asking: Arc::new(client.brief()),
            client: Arc::new(client),
            extras: options.extras.clone(),
            profile,
            plan: Plan::new(options.extras.upload_memory_bytes, &profile),
            ledger: Ledger::new(options.ledger.clone()),
            suffix: SUFFIX,
            conditions: Known::assumed(profile.conditional_writes),
            checksums: Known::assumed(options.extras.checksums && profile.checksums),
        })
    }

    /// The same place for dumps of a database instead of archives.
    #[must_use]
    pub fn for_dumps(self) -> Self {
        Self { suffix: DUMP_SUFFIX, ..self }
    }

    fn is_ours(&self, name: &str) -> bool {
        name.len() > self.suffix.len() && name.to_ascii_lowercase().ends_with(self.suffix)
    }

    /// How its provider is spoken to.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The largest archive that an upload can hold, in bytes.
    pub fn largest_bytes(&self) -> u64 {
        self.plan.largest_bytes()
    }

    /// The object's full name.
    fn object(&self, key: &Key) -> String {
        format!("{}{key}", self.folder())
    }

    /// The prefix with `/` at its end; empty for the root.
    fn folder(&self) -> String {
        match self.extras.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    fn require_ours(&self, key: &Key) -> Result<()> {
        if self.is_ours(key.as_str()) {
            return Ok(());
        }
        Err(Error::new(Kind::NotFound, format!("there is no backup {key}")))
    }

    fn compares_etags(&self) -> bool {
        self.extras.verify_etags
            && self.profile.etags_are_sums
            && !matches!(self.extras.encryption, Some(Encryption::Kms(_)))
    }

    fn offers_checksums(&self) -> bool {
        self.checksums.are_known()
    }

    async fn look(&self, key: &Key) -> Result<Option<Backup>> {
        self.require_ours(key)?;
        match self.asking.send(&Call::new(Method::HEAD, &self.object(key))).await {
            Ok(found) => self.backup_of(key, &found).map(Some),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into_error(key.as_str())),
        }
    }

    fn backup_of(&self, key: &Key, found: &Reply) -> Result<Backup> {
        let told = |what: &str| {
            Error::new(Kind::Unavailable, format!("{key}: the S3 server does not tell its {what}"))
        };
        let size = found.header("content-length").parse().map_err(|_| told("size"))?;
        let modified = httpdate::parse_http_date(found.header("last-modified"));
        let modified = modified.map_err(|_| told("time"))?;
        Ok(Backup { key: key.clone(), size_bytes: size, modified: modified.into() })
    }

    /// Gives the parts of an upload back; whether that is done. An upload that is not there
    /// (any more) has none.
    async fn abort(&self, record: &Record) -> bool {
        let call = Call::new(Method::DELETE, &record.object).query("uploadId", &record.upload);
        match self.client.send_once(&call).await {
            Ok(_) => true,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => true,
            Err(failure) => {
                let error = failure.into_error(&record.object);
                tracing::warn!(error = error.full(), "parts of an upload are left behind for now");
                false
            }
        }
    }

    /// Uploads below our prefix that are older than `age`, whoever began them.
    async fn sweep_older(&self, age: Duration) -> Result<usize> {
        let folder = self.folder();
        let pending = listing::uploads(&self.asking, &folder).await;
        let mut swept = 0;
        for upload in pending.map_err(|failure| failure.into_error("uploads"))? {
            let name = upload.object.strip_prefix(&folder).unwrap_or_default();
            let began = SystemTime::from(upload.initiated);
            let old = began.elapsed().is_ok_and(|elapsed| elapsed > age);
            if old && self.is_ours(name) && Key::existing(name).is_ok() {
                let bucket = self.client.bucket_url().to_owned();
                let record = Record { bucket, object: upload.object, upload: upload.upload };
                swept += usize::from(self.abort(&record).await);
            }
        }
        Ok(swept)
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn list(&self) -> Result<Vec<Backup>> {
        let folder = self.folder();
        let listed = listing::objects(&self.asking, &folder).await;
        let listed = listed.map_err(|failure| failure.into_error("list"))?;
        let mut backups: Vec<Backup> = listed
            .into_iter()
            .filter_map(|object| {
                let name = object.object.strip_prefix(&folder)?;
                let name = Some(name).filter(|name| self.is_ours(name))?;
                let key = Key::existing(name).ok()?;
                Some(Backup { key, size_bytes: object.size_bytes, modified: object.modified })
            })
            .collect();
        backups.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(backups)
    }

    async fn head(&self, key: &Key) -> Result<Backup> {
        let found = self.look(key).await?;
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no backup {key}")))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.require_ours(key)?;
        if range.as_ref().is_some_and(|range| range.is_empty()) {
            self.head(key).await?;
            return Ok(stream::empty().boxed());
        }
        let reading = Reading {
            client: self.client.clone(),
            key: key.clone(),
            object: self.object(key),
            next: range.as_ref().map_or(0, |range| range.start),
            end: range.map(|range| range.end),
            etag: None,
            patience: self.asking.patience(),
            body: None,
        };
        // Opened here: what is wrong from the start is no broken stream.
        let mut reading = reading.opened().await?;
        reading.patience = self.client.patience();
        Ok(stream::try_unfold(reading, Reading::block).boxed())
    }

    async fn put(&self, key: &Key, body: ByteStream, mode: PutMode) -> Result<Backup> {
        if !self.is_ours(key.as_str()) {
            let suffix = self.suffix;
            let message = format!("A backup in a bucket must have a name that ends with {suffix}.");
            return Err(Error::invalid(Violation::new(
                "name",
                "validation_match_invalid",
                message,
            )));
        }
        // Before anything is sent: a taken name shall not cost an upload.
        if mode == PutMode::Create && self.look(key).await?.is_some() {
            return Err(Error::new(Kind::Exists, format!("a backup {key} exists already")));
        }
        Upload::new(self, key, mode).store(body).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.head(key).await?;
        let sent = self.asking.send(&Call::new(Method::DELETE, &self.object(key))).await;
        sent.map(drop).map_err(|failure| failure.into_error(key.as_str()))
    }

    fn place(&self) -> String {
        format!("s3:{}/{}", self.client.bucket_url(), self.folder())
    }

    async fn lock(&self) -> Result<Option<Box<dyn Lease>>> {
        Ok(Some(Box::new(S3Lease::take(self).await?)))
    }

    async fn presign(&self, key: &Key, valid: Duration) -> Result<Option<String>> {
        self.require_ours(key)?;
        let url = self.client.presign(&self.object(key), valid).await?;
        Ok(Some(url.into()))
    }

    async fn sweep_uploads(&self) -> Result<usize> {
        let mut swept = 0;
        for (record, entry) in self.ledger.abandoned()? {
            // Those of another bucket wait until it is used again.
            if record.bucket == self.client.bucket_url() && self.abort(&record).await {
                entry.close()?;
                swept += 1;
            }
        }
        if let Some(age) = self.extras.sweep_uploads_after {
            swept += self.sweep_older(age).await?;
        }
        Ok(swept)
    }
}

/// A download that goes on where it broke off, as long as the object is the same one.
struct Reading {
    client: SharedClient,
    key: Key,
    object: String,
    next: u64,
    /// Where it ends; `None` until the first answer told.
    end: Option<u64>,
    etag: Option<String>,
    patience: Patience,
    body: Option<BoxStream<'static, Result<Bytes, HttpError>>>,
}

impl Reading {
    async fn opened(mut self) -> Result<Self> {
        while self.body.is_none() {
            if let Err(failure) = self.open().await {
                self.wait(failure).await?;
            }
        }
        Ok(self)
    }

    async fn open(&mut self) -> Result<(), Failure> {
        let mut call = Call::new(Method::GET, &self.object);
        let ranged = self.next > 0 || self.end.is_some();
        if let (true, Some(end)) = (ranged, self.end) {
            call = call.header("range", format!("bytes={}-{}", self.next, end.saturating_sub(1)));
        }
        if let Some(etag) = &self.etag {
            call = call.header("if-match", etag.clone());
        }
        let (parts, body) = self.client.open(&call).await?.into_parts();
        if ranged && parts.status != StatusCode::PARTIAL_CONTENT {
            return Err(Failure::final_one("the S3 server has no ranges"));
        }
        let reply = Reply { headers: parts.headers, body: Bytes::new() };
        let etag = reply.header("etag").to_owned();
        if self.etag.as_ref().is_some_and(|known| *known != etag) {
            return Err(Failure::final_one("the object was replaced while it was read"));
        }
        let length: Option<u64> = reply.header("content-length").parse().ok();
        let length = length.ok_or_else(|| Failure::transport("the answer has no length"))?;
        self.etag = Some(etag).filter(|etag| !etag.is_empty());
        // A range may reach beyond the end of the object.
        self.end = Some(self.end.unwrap_or(u64::MAX).min(self.next + length));
        self.body = Some(body.bytes_stream());
        Ok(())
    }

    async fn block(mut self) -> Result<Option<(Bytes, Self)>> {
        while self.end.is_none_or(|end| self.next < end) {
            let Some(body) = &mut self.body else {
                self = self.opened().await?;
                continue;
            };
            let failure = match tokio::time::timeout(SILENCE_MAX, body.next()).await {
                Ok(Some(Ok(block))) => {
                    self.next += block.len() as u64;
                    self.patience.renew();
                    return Ok(Some((block, self)));
                }
                Ok(Some(Err(error))) => Failure::transport(chain(&error)),
                Ok(None) => Failure::transport("the answer ended too early"),
                Err(_) => Failure::transport("the S3 server fell silent"),
            };
            self.body = None;
            self.wait(failure).await?;
        }
        Ok(None)
    }

    async fn wait(&mut self, failure: Failure) -> Result<()> {
        let waited = self.patience.wait(failure).await;
        waited.map_err(|failure| failure.into_error(self.key.as_str()))
    }
}
