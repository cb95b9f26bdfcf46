//! Where backups are kept: one trait, its implementations, and nothing about who asks.

mod local;
mod s3;
mod unavailable;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::backup::{Backup, DUMP_SUFFIX, Key};
use crate::error::Result;

pub use local::LocalStorage;
pub use s3::{Credentials, Finding, Profile, S3Options, S3Storage, Verdict, probe, test_s3};
pub use unavailable::UnavailableStorage;

/// The bytes of an archive on their way; an error inside it aborts whatever consumes it.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Whether a put may replace a backup of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fail with [`crate::error::Kind::Exists`] when the key is taken; decided atomically.
    Create,
    /// Replace what is there, atomically.
    Replace,
}

/// A place's lock, held: of all servers that keep backups there its holder works. It expires
/// when it is not renewed, and dies with its holder so.
#[async_trait]
pub trait Lease: fmt::Debug + Send + Sync {
    /// How long apart renewals are.
    fn renew_every(&self) -> Duration;

    /// Keeps it.
    ///
    /// # Errors
    /// [`crate::error::Kind::Busy`]: another has it now. Anything else may pass.
    async fn renew(&mut self) -> Result<()>;

    /// Gives it back. Best effort: it expires anyway.
    async fn release(&mut self);
}

/// A place that keeps backups.
///
/// Readers never see a partial object: a put appears under its key only after a clean end of
/// its stream, complete and durable. A stream that ends with an error leaves nothing behind.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync {
    /// All backups, ascending by the bytes of their keys.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unavailable`] or `Internal` when the place cannot be read.
    async fn list(&self) -> Result<Vec<Backup>>;

    /// One backup.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] when there is none.
    async fn head(&self, key: &Key) -> Result<Backup>;

    /// The bytes of one backup, or of a range of them.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] when there is none.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream>;

    /// Stores a backup.
    ///
    /// # Errors
    /// The stream's own error, [`crate::error::Kind::Exists`], `NoSpace`, or a fault of the
    /// place.
    async fn put(&self, key: &Key, body: ByteStream, mode: PutMode) -> Result<Backup>;

    /// Removes a backup.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] when there is none.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Gives back what broken-off uploads left in the place, only our own; how many there were.
    ///
    /// # Errors
    /// The place or our records cannot be read.
    async fn sweep_uploads(&self) -> Result<usize> {
        Ok(0)
    }

    /// The media type that was stored with a backup.
    async fn content_type(&self, key: &Key) -> String {
        let _ = key;
        "application/zip".to_owned()
    }

    /// Names the place, the same after every restart, for records about what is kept there.
    fn place(&self) -> String {
        "local".to_owned()
    }

    /// Takes the place's lock; `None` where one machine's own locks do.
    ///
    /// # Errors
    /// [`crate::error::Kind::Busy`]: another server has it. The place cannot be asked.
    async fn lock(&self) -> Result<Option<Box<dyn Lease>>> {
        Ok(None)
    }

    /// An address from which whoever has it can download a backup until `valid` is over;
    /// `None` where there is no such thing. Whether the backup exists is not asked.
    ///
    /// # Errors
    /// The address cannot be signed.
    async fn presign(&self, key: &Key, valid: Duration) -> Result<Option<String>> {
        let _ = (key, valid);
        Ok(None)
    }

    /// The file of a backup where it lies on the local disk.
    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        let _ = key;
        None
    }
}

/// What a new backup is, by its name.
fn media_type(name: &str) -> &'static str {
    if name.ends_with(DUMP_SUFFIX) { "application/octet-stream" } else { "application/zip" }
}
