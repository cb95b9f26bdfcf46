//! The storage that stands in for one that cannot be set up: it answers everything with the
//! reason, and it loses nothing because it takes nothing.

use std::ops::Range;

use async_trait::async_trait;

use crate::backup::{Backup, Key};
use crate::error::{Error, Kind, Result};
use crate::storage::{ByteStream, PutMode, Storage};

/// No storage, and why.
#[derive(Debug, Clone)]
pub struct UnavailableStorage {
    reason: String,
}

impl UnavailableStorage {
    /// Because of `reason`, which is for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    fn error<T>(&self) -> Result<T> {
        Err(Error::new(Kind::Unavailable, "the storage cannot be set up")
            .because(self.reason.clone())
            .hint("check the S3 settings of backups"))
    }
}

#[async_trait]
impl Storage for UnavailableStorage {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.error()
    }

    async fn head(&self, _: &Key) -> Result<Backup> {
        self.error()
    }

    async fn get(&self, _: &Key, _: Option<Range<u64>>) -> Result<ByteStream> {
        self.error()
    }

    async fn put(&self, _: &Key, _: ByteStream, _: PutMode) -> Result<Backup> {
        self.error()
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        self.error()
    }
}
