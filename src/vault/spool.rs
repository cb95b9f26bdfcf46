//! What is done with a backup that not every destination took: it is noted who lacks it, and
//! it waits where it is, in the spool if nowhere else.

use crate::backup::{Backup, Key};
use crate::config::destination::{SPOOL, SpoolWhen};
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::vault::Vault;
use crate::vault::jobs::JobHandle;
use crate::vault::places::Place;
use crate::vault::spread::Sent;

/// What a client is told of a backup that only the spool has.
pub const WAITS: &str = "The backup was made, but its storage does not take it: it waits on the \
                         server and is sent as soon as that is possible.";
/// Room that the spool leaves to others on its disk, in bytes.
const RESERVE_BYTES: u64 = 64 << 20;

/// A backup that somebody has.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) backup: Backup,
    /// Which destinations have it, without the spool.
    pub(super) places: Vec<Place>,
}

/// Whether trying later can help: not with a name or an archive that is refused.
pub(super) fn may_pass(error: &Error) -> bool {
    !matches!(error.kind(), Kind::Exists | Kind::Invalid(_) | Kind::Corrupt | Kind::Cancelled)
}

impl Vault {
    /// Whether the spool can help: not when everything is on this machine's disk anyway.
    pub(super) fn needs_spool(&self) -> bool {
        self.spool_when() != SpoolWhen::Never && !self.places().iter().all(Place::is_local)
    }

    /// Fails when the disk of the spool has no room for the whole source. An archive is
    /// smaller as a rule; nobody shall find the disk full because of it.
    ///
    /// # Errors
    /// [`Kind::NoSpace`].
    pub(super) fn require_spool_room(&self) -> Result<()> {
        let Some(spool) = &self.beside.spool else { return Ok(()) };
        fsx::create_dir_durably(&spool.folder)?;
        let needed = self.source.estimate(std::time::Duration::from_millis(200))?.bytes;
        if fsx::free_bytes(&spool.folder)? < needed.saturating_add(RESERVE_BYTES) {
            let message = "No destination took the backup, and there is no room for it here.";
            return Err(Error::new(Kind::NoSpace, message));
        }
        Ok(())
    }

    /// Notes who has a new backup and for whom it waits.
    ///
    /// # Errors
    /// Nobody has it: the first destination's error. Only the spool has it: [`WAITS`].
    pub(super) async fn settle(&self, mut sent: Sent, key: &Key, job: &JobHandle) -> Result<Kept> {
        if sent.kept.is_empty() {
            for (place, error) in sent.failed.iter().filter(|_| sent.failed.len() > 1) {
                tracing::error!(name = place.name.as_ref(), %key, error = error.full(), "failed");
                job.note(format!("not at {}: {}", place.name, error.message()));
            }
            let none = || Error::internal("there is no destination");
            return Err(if sent.failed.is_empty() { none() } else { sent.failed.swap_remove(0).1 });
        }
        let mut waits = false;
        for (place, error) in &sent.failed {
            let name = place.name.as_ref();
            tracing::error!(name, %key, error = error.full(), "a destination lacks the backup");
            if name == SPOOL {
                continue;
            }
            let later = match &self.beside.spool {
                Some(spool) if may_pass(error) => {
                    spool.waiting.add(key, name, error.message()).await?;
                    waits = true;
                    "; it is sent there later"
                }
                _ => "",
            };
            job.note(format!("not at {name}: {}{later}", error.message()));
        }
        if !waits && let Some(index) = spooled(&sent) {
            // Everybody who can have it has it.
            let (place, backup) = sent.kept.remove(index);
            if sent.kept.is_empty() {
                sent.kept.push((place, backup));
            } else if let Err(error) = self.delete_at(&place, key).await {
                tracing::warn!(error = error.full(), "a backup stays in the spool");
            }
        }
        sent.kept.retain(|(place, _)| place.name.as_ref() != SPOOL);
        let (places, backups): (Vec<Place>, Vec<Backup>) = sent.kept.into_iter().unzip();
        match backups.into_iter().next() {
            Some(backup) => Ok(Kept { backup, places }),
            None => {
                let first = sent.failed.into_iter().next().map(|(_, error)| error.full());
                let error = Error::new(Kind::Unavailable, WAITS);
                Err(error.because(first.unwrap_or_default()))
            }
        }
    }
}

fn spooled(sent: &Sent) -> Option<usize> {
    sent.kept.iter().position(|(place, _)| place.name.as_ref() == SPOOL)
}
