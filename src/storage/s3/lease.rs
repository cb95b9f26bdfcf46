//! The lock in a bucket: one small object below the prefix, which is never listed as a backup.
//! Of all servers that keep backups there, its holder works and the others are told to wait.
//!
//! It is taken by a conditional write and kept by writing it anew; each write must match the
//! ETag of the one before, so that a holder that slept learns that it lost. How old it is, the
//! store's own clock says.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::storage::Lease;
use crate::storage::s3::S3Storage;
use crate::storage::s3::client::{Call, Reply};
use crate::storage::s3::failure::Failure;

/// Its name below the prefix.
const NAME: &str = ".pocketvault-lock";
/// How long two that write at once are waited for where the store has no conditional writes.
const SETTLING: Duration = Duration::from_secs(2);
/// Longest lease that is believed of another, in seconds.
const LEASE_S_MAX: u64 = 3_600;

/// What the object holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Content {
    /// Who holds it: a number of this one lock.
    holder: String,
    /// For people that look into the bucket.
    pid: u32,
    /// How long after its last write it counts, in seconds.
    lease_s: u64,
    /// Different with each write, so that the ETag is.
    written: u64,
}

/// The lock, held.
#[derive(Debug)]
pub(super) struct S3Lease {
    storage: S3Storage,
    content: Content,
    etag: String,
}

/// The object as it is found.
struct Found {
    holder: String,
    etag: String,
    expired: bool,
}

impl S3Lease {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another holds it; the store's own.
    pub(super) async fn take(storage: &S3Storage) -> Result<Self> {
        let content = Content {
            holder: format!("{:032x}", rand::random::<u128>()),
            pid: std::process::id(),
            lease_s: storage.extras.lock_lease.as_secs().clamp(1, LEASE_S_MAX),
            written: 0,
        };
        let mut lease = Self { storage: storage.clone(), content, etag: String::new() };
        let found = lease.look().await?;
        if found.as_ref().is_some_and(|found| !found.expired) {
            return Err(busy());
        }
        let condition = match &found {
            Some(found) => {
                tracing::warn!("the lock in the bucket is that of a dead server");
                ("if-match", format!("\"{}\"", found.etag))
            }
            None => ("if-none-match", "*".to_owned()),
        };
        match lease.write(condition).await {
            Ok(_) => {}
            // Somebody was faster, or it was we and the answer was lost: the look tells.
            Err(failure) if failure.is(StatusCode::PRECONDITION_FAILED) => {}
            // AWS says this of two conditional writes at once.
            Err(failure) if failure.is(StatusCode::CONFLICT) => return Err(busy()),
            Err(failure) => match lease.look().await? {
                Some(found) if found.holder == lease.content.holder => {}
                _ => return Err(failure.into_error("lock")),
            },
        }
        if !storage.conditions.are_known() {
            tokio::time::sleep(SETTLING).await;
        }
        match lease.look().await? {
            Some(found) if found.holder == lease.content.holder => {
                lease.etag = found.etag;
                Ok(lease)
            }
            _ => Err(busy()),
        }
    }

    fn object(&self) -> String {
        format!("{}{NAME}", self.storage.folder())
    }

    async fn look(&self) -> Result<Option<Found>> {
        match self.storage.asking.send(&Call::new(Method::GET, &self.object())).await {
            Ok(reply) => Ok(Some(found(&reply))),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into_error("lock")),
        }
    }

    async fn write(&self, condition: (&'static str, String)) -> Result<Reply, Failure> {
        let body = serde_json::to_vec(&self.content).unwrap_or_default();
        let call = Call::new(Method::PUT, &self.object());
        let call = call.header("content-type", "application/json").body(Bytes::from(body));
        if self.storage.conditions.are_known() {
            let (name, value) = condition;
            match self.storage.asking.send_once(&call.clone().header(name, value)).await {
                Err(failure) if failure.refuses_conditions() => {
                    tracing::warn!("the S3 server has no conditional writes");
                    self.storage.conditions.forget();
                }
                sent => return sent,
            }
        }
        self.storage.asking.send_once(&call).await
    }
}

#[async_trait]
impl Lease for S3Lease {
    fn renew_every(&self) -> Duration {
        Duration::from_secs(self.content.lease_s) / 4
    }

    async fn renew(&mut self) -> Result<()> {
        self.content.written += 1;
        // Some stores ignore conditions without a word.
        let found = self.look().await?;
        if found.is_none_or(|found| found.holder != self.content.holder) {
            return Err(busy());
        }
        match self.write(("if-match", format!("\"{}\"", self.etag))).await {
            Ok(reply) => {
                self.etag = reply.etag().to_owned();
                return Ok(());
            }
            Err(failure) if failure.is(StatusCode::PRECONDITION_FAILED) => {}
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Err(busy()),
            Err(failure) => return Err(failure.into_error("lock")),
        }
        // Another's, or ours by a write whose answer was lost.
        match self.look().await? {
            Some(found) if found.holder == self.content.holder => {
                self.etag = found.etag;
                Ok(())
            }
            _ => Err(busy()),
        }
    }

    async fn release(&mut self) {
        let ours = match self.look().await {
            Ok(found) => found.is_some_and(|found| found.holder == self.content.holder),
            Err(_) => false,
        };
        let call = Call::new(Method::DELETE, &self.object());
        if ours && let Err(failure) = self.storage.asking.send_once(&call).await {
            let error = failure.into_error("lock");
            tracing::warn!(error = error.full(), "the lock in the bucket stays until it expires");
        }
    }
}

fn found(reply: &Reply) -> Found {
    // One that makes no sense is as old as it looks, and belongs to nobody that we know.
    let content: Option<Content> = serde_json::from_slice(&reply.body).ok();
    let lease_s = content.as_ref().map_or(LEASE_S_MAX, |content| content.lease_s);
    let time = |name: &str| {
        let time = httpdate::parse_http_date(reply.header(name)).ok()?;
        Some(DateTime::<Utc>::from(time))
    };
    let now = time("date").unwrap_or_else(Utc::now);
    let age_s = time("last-modified").map_or(0, |modified| (now - modified).num_seconds());
    let expired = age_s > i64::try_from(lease_s.min(LEASE_S_MAX)).unwrap_or(i64::MAX);
    let holder = content.map(|content| content.holder).unwrap_or_default();
    Found { holder, etag: reply.etag().to_owned(), expired }
}

fn busy() -> Error {
    Error::new(
        Kind::Busy,
        "Try again later - another backup/restore process has already been started.",
    )
    .hint("another server works in the same bucket and folder")
}
