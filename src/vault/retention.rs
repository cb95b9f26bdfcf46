//! PocketBase's own retention: of the automatic backups the newest so many are kept.

use crate::backup::{AUTO_PREFIX, Backup, Key};
use crate::error::Result;
use crate::vault::Vault;

/// The automatic backups beyond the newest `keep`, oldest first; 0 keeps all.
fn expired_automatic(backups: &[Backup], keep: usize) -> Vec<Key> {
    if keep == 0 {
        return Vec::new();
    }
    let prefix = format!("{AUTO_PREFIX}pb_backup_");
    let mut automatic: Vec<&Backup> =
        backups.iter().filter(|backup| backup.key.as_str().starts_with(&prefix)).collect();
    automatic.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| b.key.cmp(&a.key)));
    automatic.into_iter().skip(keep).rev().map(|backup| backup.key.clone()).collect()
}

impl Vault {
    /// Deletes the automatic backups beyond the newest `keep`; how many that were.
    ///
    /// # Errors
    /// The storage cannot be listed, or a delete fails; those before it are gone then.
    pub async fn prune_automatic(&self, keep: usize) -> Result<usize> {
        let expired = expired_automatic(&self.list().await?, keep);
        for key in &expired {
            self.delete(key).await?;
        }
        Ok(expired.len())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn backup(name: &str, minute: i64) -> Backup {
        Backup {
            key: Key::existing(name).expect("a key"),
            size_bytes: 1,
            modified: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
        }
    }

    #[test]
    fn only_the_oldest_automatic_backups_expire() {
        let backups = [
            backup("@auto_pb_backup_a_1.zip", 1),
            backup("@auto_pb_backup_a_2.zip", 2),
            backup("@auto_pb_backup_a_3.zip", 3),
            backup("@auto_other.zip", 0),
            backup("by_hand.zip", 0),
        ];
        let expired =
            |keep| expired_automatic(&backups, keep).iter().map(Key::to_string).collect::<Vec<_>>();
        assert_eq!(expired(2), ["@auto_pb_backup_a_1.zip"]);
        assert_eq!(expired(1), ["@auto_pb_backup_a_1.zip", "@auto_pb_backup_a_2.zip"]);
        assert!(expired(0).is_empty() && expired(3).is_empty());
    }
}
