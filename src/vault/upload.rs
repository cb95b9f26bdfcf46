//! Taking in an archive: streamed once, straight to its place, kept only if it is a zip.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::task::JoinHandle;

use crate::archive::TailProbe;
use crate::backup::{Backup, Key};
use crate::control::Step;
use crate::error::Result;
use crate::storage::{ByteStream, PutMode};
use crate::vault::Vault;
use crate::vault::jobs::{JobKind, Method};

impl Vault {
    /// Stores an uploaded archive under `key`. Not bound to the flight, as in PocketBase.
    ///
    /// The task ends with [`crate::error::Kind::Exists`] when the key is taken, with
    /// [`crate::error::Kind::Corrupt`] when the bytes are no readable zip, or with the
    /// stream's own error; nothing is left behind then.
    pub fn spawn_upload(
        self: &Arc<Self>,
        key: Key,
        body: ByteStream,
    ) -> JoinHandle<Result<Backup>> {
        let vault = self.clone();
        self.runtime.spawn(async move {
            let job = vault.jobs.open(JobKind::Upload, Method::Api, &key);
            job.control().enter(Step::Transferring);
            let control = job.control().clone();
            let counted = body.inspect(move |block| {
                if let Ok(block) = block {
                    control.add_bytes(block.len() as u64);
                }
            });
            let storage = vault.storage();
            let result = storage.put(&key, probed(counted.boxed()), PutMode::Create).await;
            if let Ok(backup) = &result {
                tracing::info!(%key, size_bytes = backup.size_bytes, "took in a backup");
            }
            job.finish(&result);
            result
        })
    }
}

/// The same stream, ending with an error unless what passed was a readable zip.
fn probed(body: ByteStream) -> ByteStream {
    let state = Some((body, TailProbe::default()));
    futures_util::stream::unfold(state, |state| async move {
        let (mut body, mut probe) = state?;
        match body.next().await {
            Some(Ok(block)) => {
                probe.push(block.clone());
                Some((Ok(block), Some((body, probe))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => match probe.finish() {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            },
        }
    })
    .boxed()
}
