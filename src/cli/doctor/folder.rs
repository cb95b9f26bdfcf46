//! The folder itself: whether it is one, may be used, and is free.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::app::offline::locked;
use crate::data_dir::{AUXILIARY_DB, DATA_DB, DATABASES, STORAGE};
use crate::error::Kind;
use crate::restore::{self, Phase};

use super::{Findings, Patient};

/// Files of `storage` that are looked at; what is wrong is mostly wrong with all of them.
const FILES_MAX: usize = 20_000;
/// File systems whose locks cannot be relied on, by their magic numbers.
const SHARED: [(u32, &str); 6] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x517B, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
];

/// Whether there is a `pb_data` to look at.
pub(super) fn is_there(patient: &Patient, found: &mut Findings) -> bool {
    let (data, root) = (&patient.config.data, patient.config.data.root());
    if !root.is_dir() {
        let said = format!("{} does not exist", root.display());
        found.fault("folder.missing", said, "name the pb_data folder with --dir");
        return false;
    }
    if data.data_db().symlink_metadata().is_ok() {
        return true;
    }
    let inner = root.join("pb_data");
    let above = root.parent().filter(|above| above.join(DATA_DB).is_file());
    let hint = match (inner.join(DATA_DB).is_file(), above) {
        (true, _) => format!("say --dir {}", inner.display()),
        (_, Some(above)) => format!("say --dir {}", above.display()),
        _ => "name the pb_data folder with --dir; `serve` would make a new one here".to_owned(),
    };
    let said = format!("{} is no pb_data: it has no {DATA_DB}", root.display());
    found.fault("folder.wrong", said, hint);
    false
}

/// Whether we may read what has to be backed up, and write where that has to go.
pub(super) fn permissions(patient: &Patient, found: &mut Findings) {
    let data = &patient.config.data;
    let denied = |path: &Path, access: Access| {
        path.symlink_metadata().is_ok() && rustix::fs::access(path, access).is_err()
    };
    let hint = match fs::metadata(data.root()) {
        Ok(owner) => format!("run as the folder's owner, user {} (sudo -u)", owner.uid()),
        Err(_) => "run as the folder's owner".to_owned(),
    };
    let mut unreadable: Vec<PathBuf> = [DATA_DB, AUXILIARY_DB]
        .map(|name| data.root().join(name))
        .into_iter()
        .filter(|path| denied(path, Access::READ_OK))
        .collect();
    unreadable.extend(unreadable_below(&data.root().join(STORAGE)));
    if let Some(first) = unreadable.first() {
        let (count, first) = (unreadable.len(), first.display());
        let said = format!("{count} files cannot be read, the first is {first}");
        found.fault("permissions.read", said, hint.clone());
    }
    let backups = data.backups();
    let places = [data.root(), data.state(), &backups];
    let writable = Access::WRITE_OK | Access::EXEC_OK;
    if let Some(first) = places.into_iter().find(|path| denied(path, writable)) {
        let said = format!("{} cannot be written to", first.display());
        found.fault("permissions.write", said, hint);
    }
}

fn unreadable_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                found.push(folder);
                continue;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            seen += 1;
            if seen > FILES_MAX {
                return found;
            }
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => open.push(path),
                Ok(meta)
                    if meta.is_file() && rustix::fs::access(&path, Access::READ_OK).is_err() =>
                {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found
}

/// Whether a pocketvault has the folder; the lock is taken for a moment only.
pub(super) fn lock(patient: &Patient, found: &mut Findings) -> bool {
    match locked(&patient.config.data) {
        Ok(_) => false,
        Err(error) if error.kind() == &Kind::InUse => true,
        Err(error) => {
            if matches!(error.kind(), Kind::Invalid(_)) {
                found.error("state.foreign", &error, "give each folder a --state of its own");
            }
            false
        }
    }
}

/// What an interrupted or failed restore left.
pub(super) fn restore(patient: &Patient, found: &mut Findings) {
    let data = &patient.config.data;
    if let Err(error) = restore::require_settled(data) {
        if !patient.is_served {
            let hint = "start `pocketvault serve`: it finishes the restore, or takes it back";
            found.error("restore.pending", &error, hint);
        }
        return;
    }
    let Ok(Some(status)) = restore::status(data) else { return };
    if status.phase == Phase::RolledBack {
        let (key, why) = (&status.subject.key, status.reason.unwrap_or_default());
        let said = format!("the last restore, of {key}, was taken back: {why}");
        found.doubt("restore.rolledBack", said, "the data of before is in place; try another one");
    }
}

/// Logs of transactions that nobody seems to use, and disks that cannot lock.
pub(super) fn logs(patient: &Patient, found: &mut Findings) {
    let root = patient.config.data.root();
    let log = |name: &str| fs::metadata(root.join(format!("{name}-wal"))).map_or(0, |at| at.len());
    let bytes: u64 = DATABASES.iter().map(|name| log(name)).sum();
    if bytes > 0 && patient.others.is_empty() && !patient.is_served {
        let said =
            format!("{bytes} bytes wait in write-ahead logs, and nobody that we see is there");
        found.doubt(
            "wal.unlocked",
            said,
            "if PocketBase runs in another container or as another user, always say --beside; \
             if it was killed, its next start takes care of it",
        );
    }
    if let Some(kind) = fs_kind(root) {
        let said = format!("{} lies on {kind}, whose locks SQLite cannot rely on", root.display());
        found.doubt("disk.shared", said, "keep pb_data on a local disk, and back up to the share");
    }
}

fn fs_kind(path: &Path) -> Option<&'static str> {
    shared(rustix::fs::statfs(path).ok()?.f_type.cast_unsigned())
}

/// Magic numbers have 32 bits, whatever the field has.
fn shared(magic: u64) -> Option<&'static str> {
    let of = |known: &(u32, &'static str)| u64::from(known.0) == magic & 0xFFFF_FFFF;
    SHARED.iter().find(|known| of(known)).map(|known| known.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_from_disks() {
        for (magic, kind) in [
            (0x6969, Some("NFS")),
            (0xFFFF_FFFF_FF53_4D42, Some("CIFS")),
            (0xEF53, None),
            (0x9123_683E, None),
            (0x0102_1994, None),
        ] {
            assert_eq!(shared(magic), kind, "{magic:x}");
        }
    }
}
