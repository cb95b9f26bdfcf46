//! Where restores keep data inside `pb_data` beside its root: a mount cannot be renamed, so in
//! each folder that is a mount point, or holds one, they swap through a state folder inside it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fsx;

/// The folders strictly below `root` (absolute, without links) that are mount points or hold
/// some, relative to it. Empty where the system has no such list.
pub(super) fn places(root: &Path) -> Vec<Vec<u8>> {
    std::fs::read(fsx::MOUNTS).map(|list| listed(root, &list)).unwrap_or_default()
}

/// [`places`] for the contents of the kernel's list.
pub(super) fn listed(root: &Path, list: &[u8]) -> Vec<Vec<u8>> {
    let mut places: Vec<Vec<u8>> = fsx::mounts_below(root, list)
        .into_iter()
        .flat_map(|mount| {
            let with_parents = mount.ancestors().map(|path| path.as_os_str().as_bytes().to_vec());
            with_parents.filter(|path| !path.is_empty()).collect::<Vec<_>>()
        })
        .collect();
    places.sort();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_and_the_folders_that_hold_them_are_places() {
        let list = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 22 0:5 / /pb\\040data rw - tmpfs x rw\n\
            31 30 0:6 / /pb\\040data/storage rw shared:3 - tmpfs x rw\n\
            32 30 0:6 / /pb\\040data/a/b\\134c rw - tmpfs x rw\n\
            33 22 0:7 / /pb\\040data2/other rw - tmpfs x rw\n";
        let expected: [&[u8]; 3] = [b"a", b"a/b\\c", b"storage"];
        assert_eq!(listed(Path::new("/pb data"), list), expected);
    }
}
