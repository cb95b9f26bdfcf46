//! All backups, and where each of them is.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::backup::Key;
use crate::error::{Error, Result};
use crate::vault::Vault;
use crate::vault::catalog::Known;
use crate::vault::places::Place;
use crate::vault::waiting::Waiting;

/// A backup and where it is.
#[derive(Debug, Clone)]
pub struct Spread {
    /// What is known about it, by the first destination that knows it.
    pub known: Known,
    /// One line per destination; the spool is one if the backup is there.
    pub places: Vec<(Arc<str>, At)>,
}

/// What is known of a backup at one destination.
#[derive(Debug, Clone)]
pub enum At {
    /// It is there.
    Stored(Known),
    /// It is not there yet, and is sent when that is possible; what went wrong last.
    Waiting(String),
    /// It is not there.
    Missing,
    /// The destination cannot be asked.
    Unknown,
}

/// What one place says, or, of one that is silent, what was there by our own records.
struct Heard {
    place: Place,
    known: BTreeMap<Key, Known>,
    silent: Option<Error>,
}

impl Vault {
    /// All backups and where they are, ascending by key. Those of a destination that is silent
    /// are told from what was kept about them.
    ///
    /// # Errors
    /// No destination can be listed, and nothing is known.
    pub async fn overview(&self) -> Result<Vec<Spread>> {
        let spool = self.spool_place();
        let mut places = self.places();
        places.extend(spool.clone());
        let heard = join_all(places.into_iter().map(|place| self.hear(place))).await;
        let mut heard: Vec<Heard> = heard.into_iter().collect::<Result<_>>()?;
        let mut first: BTreeMap<Key, Known> = BTreeMap::new();
        // What somebody has says more than what a silent one had.
        for is_silent in [false, true] {
            for place in heard.iter().filter(|place| place.silent.is_some() == is_silent) {
                for (key, known) in &place.known {
                    first.entry(key.clone()).or_insert_with(|| known.clone());
                }
            }
        }
        if first.is_empty()
            && heard.iter().all(|heard| heard.silent.is_some() || is(&spool, &heard.place))
            && let Some(error) = heard.iter_mut().find_map(|heard| heard.silent.take())
        {
            return Err(error);
        }
        let waiting = self.waiting();
        let spread = |(key, known)| {
            let lines = heard.iter_mut().filter_map(|heard| {
                let at = match (heard.known.remove(&key), &heard.silent) {
                    (Some(known), None) => At::Stored(known),
                    (None, _) if is(&spool, &heard.place) => return None,
                    (_, silent) => absent(&waiting, &key, &heard.place.name, silent.is_none()),
                };
                Some((heard.place.name.clone(), at))
            });
            Spread { known, places: lines.collect() }
        };
        Ok(first.into_iter().map(spread).collect())
    }

    async fn hear(&self, place: Place) -> Result<Heard> {
        let at = place.storage.place();
        let (known, silent) = match self.patiently(place.storage.list()).await {
            Ok(listed) => (self.catalog().about(&at, &listed).await?, None),
            Err(error) => {
                let name = place.name.as_ref();
                tracing::warn!(name, error = error.full(), "a destination cannot be listed");
                (self.catalog().newest(&at).await?, Some(error))
            }
        };
        let known = known.into_iter().map(|known| (known.key.clone(), known)).collect();
        Ok(Heard { place, known, silent })
    }
}

fn is(spool: &Option<Place>, place: &Place) -> bool {
    spool.as_ref().is_some_and(|spool| spool.name == place.name)
}

fn absent(waiting: &[Waiting], key: &Key, name: &str, is_asked: bool) -> At {
    let waits = waiting.iter().find(|waiting| waiting.key == key.as_str());
    match waits.and_then(|waiting| waiting.destinations.get(name)) {
        Some(error) => At::Waiting(error.clone()),
        None if is_asked => At::Missing,
        None => At::Unknown,
    }
}
