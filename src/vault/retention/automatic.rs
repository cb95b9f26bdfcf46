//! PocketBase's own retention: of the automatic backups the newest so many are kept.

use crate::backup::{AUTO_PREFIX, Key, snake_case};
use crate::vault::catalog::{Known, Origin};

/// Longest application name inside a generated key, in bytes.
const APP_NAME_BYTES_MAX: usize = 50;

/// Whose automatic backups lie in a place.
#[derive(Debug, Clone)]
pub(in crate::vault) enum Share {
    /// Ours alone: a folder inside the data.
    Alone,
    /// Maybe those of other applications too. Ours are those that we know, and those of our
    /// application's name from before we kept a catalog.
    Shared {
        /// The application's name.
        app_name: String,
        /// When the catalog began.
        since: chrono::DateTime<chrono::Utc>,
    },
}

/// The automatic backups beyond the newest `keep`, oldest first; 0 keeps all. Pinned ones stay
/// and hold no place.
pub(in crate::vault) fn expired_automatic(
    backups: &[Known],
    keep: usize,
    share: &Share,
) -> Vec<Key> {
    if keep == 0 {
        return Vec::new();
    }
    let mut automatic: Vec<&Known> =
        backups.iter().filter(|one| !one.pinned && is_ours(one, share)).collect();
    automatic.sort_by(|a, b| b.made.cmp(&a.made).then_with(|| b.key.cmp(&a.key)));
    // One that is known to be bad must not push out a good one, nor stand in its place.
    let is_bad = |one: &Known| one.proof.as_ref().is_some_and(|proof| !proof.ok);
    let mut places = 0;
    let mut expired = Vec::new();
    for one in automatic {
        if places >= keep {
            expired.push(one.key.clone());
        }
        places += usize::from(!is_bad(one));
    }
    expired.reverse();
    expired
}

fn is_ours(one: &Known, share: &Share) -> bool {
    let prefix = format!("{AUTO_PREFIX}pb_backup_");
    let Some(rest) = one.key.as_str().strip_prefix(&prefix) else { return false };
    match share {
        Share::Alone => true,
        Share::Shared { .. } if one.origin == Origin::Made => true,
        Share::Shared { app_name, since } => {
            let mut name = snake_case(app_name);
            name.truncate(APP_NAME_BYTES_MAX);
            let time = rest.strip_prefix(&name).and_then(|rest| rest.strip_prefix('_'));
            one.made < *since && time.is_some_and(is_time)
        }
    }
}

/// `20261121090000.zip`: nothing of a longer name stands between.
fn is_time(rest: &str) -> bool {
    let digits = rest.strip_suffix(".zip").unwrap_or_default();
    digits.len() == 14 && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::backup::Backup;
    use crate::vault::catalog::{Proof, ProofKind};

    fn backup(name: &str, minute: i64) -> Known {
        Known::found(&Backup {
            key: Key::existing(name).expect("a key"),
            size_bytes: 1,
            modified: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
        })
    }

    fn names(keys: &[Key]) -> Vec<&str> {
        keys.iter().map(Key::as_str).collect()
    }

    #[test]
    fn only_the_oldest_automatic_backups_expire() {
        let mut backups = [
            backup("@auto_pb_backup_a_1.zip", 1),
            backup("@auto_pb_backup_a_2.zip", 2),
            backup("@auto_pb_backup_b_3.zip", 3),
            backup("@auto_other.zip", 0),
            backup("by_hand.zip", 0),
        ];
        let expired = |backups: &[Known], keep| expired_automatic(backups, keep, &Share::Alone);
        assert_eq!(names(&expired(&backups, 2)), ["@auto_pb_backup_a_1.zip"]);
        let both = ["@auto_pb_backup_a_1.zip", "@auto_pb_backup_a_2.zip"];
        assert_eq!(names(&expired(&backups, 1)), both);
        assert!(expired(&backups, 0).is_empty() && expired(&backups, 3).is_empty());
        backups[2].proof = Some(Proof {
            when: DateTime::UNIX_EPOCH,
            kind: ProofKind::Read,
            ok: false,
            said: "damaged".to_owned(),
        });
        assert_eq!(names(&expired(&backups, 1)), both[..1], "a bad one takes no place");
        backups[0].pinned = true;
        assert!(expired(&backups, 1).is_empty());
    }

    #[test]
    fn two_applications_in_one_bucket_do_not_prune_each_other() {
        let old = "@auto_pb_backup_acme_20261121090000.zip";
        let twin = "@auto_pb_backup_acme_20261121090700.zip";
        let other = "@auto_pb_backup_acme_two_20261121090000.zip";
        let mut mine = backup("@auto_pb_backup_acme_20261121090800.zip", 8);
        mine.origin = Origin::Made;
        let newest = Known { made: mine.made + TimeDelta::minutes(1), ..mine.clone() };
        let backups = [backup(old, 1), backup(twin, 7), backup(other, 1), mine, newest];
        let since = DateTime::UNIX_EPOCH + TimeDelta::minutes(5);
        let share = Share::Shared { app_name: "Acme".to_owned(), since };
        let expired = expired_automatic(&backups, 1, &share);
        assert_eq!(names(&expired), [old, "@auto_pb_backup_acme_20261121090800.zip"]);
    }
}
