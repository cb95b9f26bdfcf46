//! Whether there is room for another backup, asked before the work begins.

use crate::config::Space;
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::vault::Vault;
use crate::vault::catalog::{Known, Origin};
use crate::vault::places::Place;

impl Vault {
    /// Refuses a backup for which no destination has room.
    ///
    /// # Errors
    /// [`Kind::NoSpace`] with the numbers; with a quota the storage's own.
    pub(super) async fn require_room(&self) -> Result<()> {
        let mut refused = None;
        for place in self.places() {
            match self.patiently(self.require_room_at(&place)).await {
                Ok(()) => return Ok(()),
                // One that is silent now may take it, or it waits.
                Err(error) if error.kind() != &Kind::NoSpace && self.can_wait() => return Ok(()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The destinations that a new backup goes to, and those that have no room for it.
    pub(super) async fn places_with_room(&self) -> (Vec<Place>, Vec<(Place, Error)>) {
        let (mut roomy, mut full) = (self.places(), Vec::new());
        if roomy.len() == 1 {
            // That was asked before the job began.
            return (roomy, full);
        }
        for place in std::mem::take(&mut roomy) {
            match self.patiently(self.require_room_at(&place)).await {
                Err(error) if error.kind() == &Kind::NoSpace => full.push((place, error)),
                _ => roomy.push(place),
            }
        }
        (roomy, full)
    }

    /// Refuses a backup for which there is no room: it needs a tenth more than the last one.
    async fn require_room_at(&self, place: &Place) -> Result<()> {
        let (rule, storage) = (self.care().space, &place.storage);
        let earlier = match self.catalog().newest(&storage.place()).await {
            Ok(earlier) => earlier,
            Err(error) => {
                // Room that is not there will be missed later; a broken catalog stops no backup.
                tracing::warn!(error = error.full(), "the room for a backup is not known");
                return Ok(());
            }
        };
        let needed = estimate(&earlier);
        let stored = match rule.quota_bytes {
            None => 0,
            Some(_) => storage.list().await?.iter().map(|backup| backup.size_bytes).sum(),
        };
        let free = place.folder().and_then(|folder| fsx::free_bytes(&folder).ok());
        refuse(needed, free, stored, rule)
    }
}

/// What a backup will come to; 0 when nothing is known.
fn estimate(earlier: &[Known]) -> u64 {
    let last = earlier.iter().find(|one| one.origin == Origin::Made);
    last.map_or(0, |one| one.size_bytes.saturating_add(one.size_bytes / 10))
}

fn refuse(needed: u64, free: Option<u64>, stored: u64, rule: Space) -> Result<()> {
    if let Some(quota) = rule.quota_bytes
        && stored.saturating_add(needed) > quota
    {
        let message = format!(
            "The quota of {quota} bytes has no room for a backup of about {needed} bytes: \
             {stored} bytes are stored."
        );
        return Err(Error::new(Kind::NoSpace, message)
            .hint("remove backups, set rules in [retention], or raise quota in [space]"));
    }
    let Some(free) = free.filter(|_| needed > 0) else { return Ok(()) };
    if needed.saturating_add(rule.reserve_bytes) > free {
        let reserve = rule.reserve_bytes;
        let message = format!(
            "The backup needs about {needed} bytes and {reserve} bytes stay in reserve, but \
             only {free} bytes are free."
        );
        return Err(Error::new(Kind::NoSpace, message)
            .hint("make room on the disk, remove backups, or set rules in [retention]"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let rule = Space { reserve_bytes: 50, quota_bytes: Some(1_000) };
        for (needed, free, stored, why) in [
            (100, Some(150), 900, ""),
            (100, Some(149), 900, "only 149 bytes are free"),
            (100, None, 900, ""),
            (100, Some(150), 901, "quota of 1000 bytes"),
            (0, Some(0), 0, ""),
            (u64::MAX, Some(u64::MAX), 0, "quota"),
        ] {
            match refuse(needed, free, stored, rule) {
                Ok(()) => assert_eq!(why, "", "{needed} {free:?} {stored}"),
                Err(error) => {
                    assert_eq!(error.kind(), &Kind::NoSpace);
                    assert!(!why.is_empty() && error.message().contains(why), "{error:?}");
                    assert!(error.operator_hint().is_some());
                }
            }
        }
    }
}
