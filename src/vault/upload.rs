//! Taking in an archive: streamed once, straight to its place, kept only if it is a zip.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::archive::TailProbe;
use crate::backup::{Backup, Key};
use crate::config::destination::SpoolWhen;
use crate::control::{Control, Step};
use crate::error::{Error, Kind, Result};
use crate::storage::ByteStream;
use crate::vault::Vault;
use crate::vault::catalog::{Known, Origin};
use crate::vault::jobs::{JobHandle, JobKind, Method};
use crate::vault::spread;

/// How long a client may send nothing before the upload is given up.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How soon a cancelled upload stops.
const CHECK_EVERY: Duration = Duration::from_millis(250);

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
            let body = watched(body, job.control().clone());
            let result = vault.take_in(probed(body), &key, &job).await;
            if let Ok(backup) = &result {
                tracing::info!(%key, size_bytes = backup.size_bytes, "took in a backup");
            }
            job.finish(&result).await;
            result
        })
    }

    /// Stores the stream everywhere. It comes only once: where no destination takes it and
    /// nothing is always spooled, the client has to send it again, and is told.
    async fn take_in(&self, body: ByteStream, key: &Key, job: &JobHandle) -> Result<Backup> {
        let mut places = self.places();
        if self.spool_when() == SpoolWhen::Always && self.needs_spool() {
            places.extend(self.spool_place());
        }
        let mut sent = spread::send(body, &places, key).await;
        if let Some(error) = sent.broken.take() {
            return Err(error);
        }
        for (place, backup) in &sent.kept {
            let known = Known { origin: Origin::Uploaded, ..Known::found(backup) };
            if let Err(error) = self.catalog().save(&place.storage.place(), &known).await {
                tracing::warn!(error = error.full(), "the catalog lacks an upload");
            }
        }
        Ok(self.settle(sent, key, job).await?.backup)
    }
}

/// The same stream, counted; it ends with an error once the job is cancelled or the client is
/// silent for too long.
fn watched(body: ByteStream, control: Control) -> ByteStream {
    let state = Some((body, control));
    futures_util::stream::unfold(state, |state| async move {
        let (mut body, control) = state?;
        let since = Instant::now();
        loop {
            if let Err(error) = control.check() {
                return Some((Err(error), None));
            }
            match timeout(CHECK_EVERY, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some((Err(error), None)),
                Ok(Some(Ok(block))) => {
                    control.add_bytes(block.len() as u64);
                    return Some((Ok(block), Some((body, control))));
                }
                Err(_) if since.elapsed() < SILENCE_MAX => {}
                Err(_) => {
                    let message = "the client stopped sending in the middle of the upload";
                    return Some((Err(Error::new(Kind::Unavailable, message)), None));
                }
            }
        }
    })
    .boxed()
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
