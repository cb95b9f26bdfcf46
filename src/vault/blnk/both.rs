//! A folder and a bucket as one place: a backup is in it when it is in the bucket, was read
//! back from there, and, where that is wanted, lies in the folder as well.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::backup::{Backup, Key};
use crate::error::{Error, Kind, Result};
use crate::storage::{ByteStream, PutMode, S3Storage, Storage};

/// A folder and a bucket.
#[derive(Debug)]
pub(super) struct Both {
    local: Arc<dyn Storage>,
    bucket: S3Storage,
    keep_local: bool,
}

impl Both {
    pub(super) fn new(local: Arc<dyn Storage>, bucket: S3Storage, keep_local: bool) -> Self {
        Self { local, bucket, keep_local }
    }

    /// Uploads what lies in the folder, and reads it back.
    async fn upload(&self, key: &Key, mode: PutMode, sum: &[u8]) -> Result<Backup> {
        let body = self.local.get(key, None).await?;
        let stored = self.bucket.put(key, body, mode).await;
        let stored = stored.map_err(|error| step("The upload to the bucket failed", error))?;
        let verified = self.verify(key, sum).await;
        if let Err(error) = verified {
            self.forget(&self.bucket, key).await;
            return Err(step("The object in the bucket could not be verified", error));
        }
        Ok(stored)
    }

    async fn verify(&self, key: &Key, sum: &[u8]) -> Result<()> {
        let (mut stream, mut hash) = (self.bucket.get(key, None).await?, Sha256::new());
        while let Some(block) = stream.next().await {
            hash.update(&block?);
        }
        if hash.finalize().as_slice() == sum {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, "it is not what was sent"))
    }

    async fn forget(&self, storage: &dyn Storage, key: &Key) {
        if let Err(error) = storage.delete(key).await {
            tracing::warn!(error = error.full(), %key, "a backup that failed stays");
        }
    }
}

#[async_trait]
impl Storage for Both {
    async fn list(&self) -> Result<Vec<Backup>> {
        self.bucket.list().await
    }

    /// Found in either: a name is free when it is free in both.
    async fn head(&self, key: &Key) -> Result<Backup> {
        match self.local.head(key).await {
            Err(error) if error.kind() == &Kind::NotFound => {
                let found = self.bucket.head(key).await;
                found.map_err(|error| match error.kind() {
                    Kind::NotFound => error,
                    _ => step("The bucket cannot be asked", error),
                })
            }
            found => found,
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.bucket.get(key, range).await
    }

    async fn put(&self, key: &Key, body: ByteStream, mode: PutMode) -> Result<Backup> {
        let hash = Arc::new(Mutex::new(Sha256::new()));
        let seen = hash.clone();
        let body = body.inspect(move |block| {
            if let Ok(block) = block {
                seen.lock().unwrap_or_else(PoisonError::into_inner).update(block);
            }
        });
        self.local.put(key, body.boxed(), mode).await?;
        let sum = hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
        let stored = self.upload(key, mode, &sum).await;
        if stored.is_err() || !self.keep_local {
            self.forget(self.local.as_ref(), key).await;
        }
        stored
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        if self.keep_local {
            self.local.delete(key).await?;
        }
        self.bucket.delete(key).await
    }

    async fn sweep_uploads(&self) -> Result<usize> {
        self.bucket.sweep_uploads().await
    }

    fn place(&self) -> String {
        self.bucket.place()
    }
}

/// Says at which step something went wrong, and keeps the kind.
fn step(what: &str, error: Error) -> Error {
    let kind = match error.kind() {
        // To whoever asked it would mean that there is nothing to do.
        Kind::NotFound => Kind::Unavailable,
        kind => kind.clone(),
    };
    let message = format!("{what}: {}", error.message());
    Error::new(kind, message).because(error.full())
}
