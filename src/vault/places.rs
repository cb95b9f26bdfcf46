//! Where the backups of a vault are: the storage of PocketBase's settings, further
//! destinations, and the spool, where backups wait.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::backup::{Backup, Key};
use crate::config::Policy;
use crate::config::destination::{PRIMARY, SPOOL, SpoolConfig, SpoolWhen};
use crate::error::{Error, Kind, Result};
use crate::storage::{LocalStorage, Storage};
use crate::vault::Vault;
use crate::vault::catalog::Known;
use crate::vault::waiting::{Waiting, WaitingList};

/// How long a destination may take to be looked at where there are others to ask.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// One destination.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: Arc<str>,
    /// Its backups.
    pub storage: Arc<dyn Storage>,
    /// How many automatic backups are kept there, 0 for all; `None` for what PocketBase's
    /// settings say.
    pub keep: Option<usize>,
    /// Which backups our own rules keep there; `None` for the rules of all.
    pub retention: Option<Policy>,
}

impl Place {
    /// A destination under the rules of all.
    pub fn new(name: &str, storage: Arc<dyn Storage>) -> Self {
        Self { name: name.into(), storage, keep: None, retention: None }
    }

    /// Whether its backups lie on a disk of this machine.
    pub(super) fn is_local(&self) -> bool {
        self.folder().is_some()
    }

    /// The folder of its backups on a disk of this machine.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let any = Key::generate("", chrono::DateTime::UNIX_EPOCH, false);
        self.storage.local_path(&any)?.parent().map(PathBuf::from)
    }
}

/// What there is beside the storage of PocketBase's settings.
#[derive(Debug, Default)]
pub struct Beside {
    /// Further destinations.
    pub places: Vec<Place>,
    /// Where backups wait, and the list of those that do; `None` to have neither.
    pub spool: Option<Spool>,
}

/// The place where backups wait for destinations that did not take them.
#[derive(Debug)]
pub struct Spool {
    /// Its backups.
    pub storage: LocalStorage,
    /// Its folder, for looking how much room there is.
    pub folder: PathBuf,
    /// Its options.
    pub config: SpoolConfig,
    /// What waits.
    pub waiting: Arc<WaitingList>,
}

impl Vault {
    /// The destinations, PocketBase's own first.
    pub fn places(&self) -> Vec<Place> {
        std::iter::once(Place::new(PRIMARY, self.storage()))
            .chain(self.beside.places.iter().cloned())
            .collect()
    }

    /// Everything that backups can be read from, the nearest first.
    pub(super) fn sources(&self) -> Vec<Place> {
        let mut sources: Vec<Place> = self.spool_place().into_iter().collect();
        sources.extend(self.places());
        // A stable sort: among equals the order of the configuration decides.
        sources.sort_by_key(|place| !place.is_local());
        sources
    }

    /// The spool as a place.
    pub(super) fn spool_place(&self) -> Option<Place> {
        let spool = self.beside.spool.as_ref()?;
        Some(Place::new(SPOOL, Arc::new(spool.storage.clone())))
    }

    /// Whether a backup may be taken though a destination is silent.
    pub(super) fn can_wait(&self) -> bool {
        !self.beside.places.is_empty() || self.spool_when() != SpoolWhen::Never
    }

    /// What is known of each backup at a place.
    ///
    /// # Errors
    /// The place cannot be listed, or the catalog not be read.
    pub(super) async fn known_at(&self, place: &Place) -> Result<Vec<Known>> {
        let listed = place.storage.list().await?;
        self.catalog.about(&place.storage.place(), &listed).await
    }

    /// The nearest place that has a backup.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or that of a place that cannot be asked while no other has it.
    pub async fn nearest(&self, key: &Key) -> Result<(Place, Backup)> {
        let mut failed = None;
        for place in self.sources() {
            match place.storage.head(key).await {
                Ok(backup) => return Ok((place, backup)),
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let missing = || Error::new(Kind::NotFound, format!("there is no backup {key}"));
        Err(failed.unwrap_or_else(missing))
    }

    /// Whether no place has a backup of that name. A place that is silent has none, if it is
    /// not the only one: what is there after all is found out when the backup is sent there.
    pub(super) async fn is_free(&self, key: &Key) -> Result<bool> {
        let sources = self.sources();
        let looks = sources.iter().map(|place| {
            let storage = place.storage.clone();
            async move { self.patiently(storage.head(key)).await }
        });
        for (place, looked) in sources.iter().zip(join_all(looks).await) {
            match looked {
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) if self.can_wait() => {
                    let name = place.name.as_ref();
                    tracing::warn!(name, error = error.full(), "a destination cannot be asked");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Removes a backup everywhere.
    pub(super) async fn delete_everywhere(&self, key: &Key) -> Result<()> {
        if let Some(spool) = &self.beside.spool {
            // First: what waits no longer is not sent again.
            spool.waiting.forget(key).await?;
        }
        let sources = self.sources();
        let (mut found, mut failed) = (false, None);
        let deletes = sources.iter().map(|place| place.storage.delete(key));
        for (place, deleted) in sources.iter().zip(join_all(deletes).await) {
            match deleted {
                Ok(()) => {
                    found = true;
                    self.forget(place, key).await;
                }
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) => {
                    let name = place.name.as_ref();
                    tracing::error!(name, %key, error = error.full(), "a backup stays there");
                    failed = failed.or(Some(error));
                }
            }
        }
        match (failed, found) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(()),
            (None, false) => Err(Error::new(Kind::NotFound, format!("there is no backup {key}"))),
        }
    }

    /// Lets no rule remove a backup, or lets them again, wherever it is. What is known about
    /// the nearest copy.
    ///
    /// # Errors
    /// [`Kind::NotFound`], that of a place that cannot be asked, or of the catalog.
    pub async fn pin(&self, key: &Key, pinned: bool) -> Result<Known> {
        let (mut nearest, mut failed) = (None, None);
        for place in self.sources() {
            let at = place.storage.place();
            match self.patiently(place.storage.head(key)).await {
                Ok(backup) => {
                    let known = Known { pinned, ..self.catalog.find(&at, &backup).await? };
                    self.catalog.save(&at, &known).await?;
                    nearest = nearest.or(Some(known));
                }
                Err(error) if error.kind() == &Kind::NotFound => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let missing = || Error::new(Kind::NotFound, format!("there is no backup {key}"));
        match (nearest, failed) {
            (_, Some(error)) => Err(error),
            (nearest, None) => nearest.ok_or_else(missing),
        }
    }

    /// Removes a backup at one place.
    ///
    /// # Errors
    /// As [`Storage::delete`].
    pub(super) async fn delete_at(&self, place: &Place, key: &Key) -> Result<()> {
        place.storage.delete(key).await?;
        self.forget(place, key).await;
        Ok(())
    }

    async fn forget(&self, place: &Place, key: &Key) {
        if let Err(error) = self.catalog.forget(&place.storage.place(), key).await {
            tracing::warn!(error = error.full(), "the catalog still has a deleted backup");
        }
    }

    /// Whether a place lacks backups that wait for it. It keeps what it has until it has them.
    pub(super) fn lacks_backups(&self, place: &Place) -> bool {
        self.waiting().iter().any(|entry| entry.destinations.contains_key(place.name.as_ref()))
    }

    /// What waits, and for whom.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        self.beside.spool.as_ref().map(|spool| spool.waiting.all()).unwrap_or_default()
    }

    /// When the spool is used.
    pub(super) fn spool_when(&self) -> SpoolWhen {
        self.beside.spool.as_ref().map_or(SpoolWhen::Never, |spool| spool.config.when)
    }

    /// The answer of a place; where there are others, only if it comes soon.
    pub(super) async fn patiently<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.can_wait() {
            return answer.await;
        }
        let silent = || Error::new(Kind::Unavailable, "the destination does not answer in time");
        tokio::time::timeout(LOOK_MAX, answer).await.unwrap_or_else(|_| Err(silent()))
    }
}
