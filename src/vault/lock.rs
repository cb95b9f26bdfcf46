//! Of several servers with one bucket, one works at a time: the lock lies in the bucket, and a
//! job that loses it is stopped.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::control::Control;
use crate::error::{Kind, Result};
use crate::storage::Lease;
use crate::vault::Vault;

/// The lock of a job. Dropped without [`Held::release`] it expires by itself.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Option<Renewing>>);

#[derive(Debug)]
struct Renewing {
    over: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Vault {
    /// Takes the lock of the first destination that has one. While that is silent, nothing can
    /// be written there, and the job goes on without.
    ///
    /// # Errors
    /// [`Kind::Busy`]: another server works.
    pub(super) async fn lock(&self) -> Result<Option<Box<dyn Lease>>> {
        for place in self.places() {
            match self.patiently(place.storage.lock()).await {
                Ok(None) => {}
                Ok(Some(lease)) => return Ok(Some(lease)),
                Err(error) if error.kind() == &Kind::Busy => return Err(error),
                Err(error) => {
                    let name = place.name.as_ref();
                    tracing::warn!(name, error = error.full(), "there is no lock for this job");
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

impl Held {
    /// Keeps the lock while the job works, and stops the job when it is lost.
    pub(super) fn keep(lease: Option<Box<dyn Lease>>, control: &Control) -> Self {
        let Some(lease) = lease else { return Self::default() };
        let (over, ended) = oneshot::channel();
        let task = tokio::spawn(renew(lease, control.clone(), ended));
        Self(Mutex::new(Some(Renewing { over, task })))
    }

    /// Gives the lock back.
    pub(super) async fn release(&self) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Renewing { over, task }) = held {
            drop(over);
            // A task that panicked leaves a lock that expires.
            let _ = task.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Renewing { task, .. }) = held {
            task.abort();
        }
    }
}

async fn renew(mut lease: Box<dyn Lease>, control: Control, mut ended: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut ended => break,
            () = tokio::time::sleep(lease.renew_every()) => {}
        }
        let renewed = tokio::select! {
            _ = &mut ended => break,
            renewed = lease.renew() => renewed,
        };
        match renewed {
            Ok(()) => {}
            Err(error) if error.kind() == &Kind::Busy => {
                tracing::error!("another server took the lock over: the job is stopped");
                control.cancel();
                return;
            }
            // Nobody else can take it either.
            Err(error) => tracing::warn!(error = error.full(), "the lock cannot be renewed"),
        }
    }
    lease.release().await;
}
