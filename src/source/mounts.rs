//! Where restores keep data inside `pb_data` beside its root: a mount cannot be renamed, so in
//! each folder that is a mount point, or holds one, they swap through a state folder inside it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where Linux tells what is mounted for us.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The folders strictly below `root` (absolute, without links) that are mount points or hold
/// some, relative to it. Empty where the system has no such list.
pub(super) fn places(root: &Path) -> Vec<Vec<u8>> {
    std::fs::read(MOUNTS).map(|list| listed(root, &list)).unwrap_or_default()
}

/// [`places`] for the contents of the kernel's list.
pub(super) fn listed(root: &Path, list: &[u8]) -> Vec<Vec<u8>> {
    let mut places: Vec<Vec<u8>> = list
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter_map(|mount| mount.strip_prefix(root).map(Path::to_owned).ok())
        .flat_map(|mount| {
            let with_parents = mount.ancestors().map(|path| path.as_os_str().as_bytes().to_vec());
            with_parents.filter(|path| !path.is_empty()).collect::<Vec<_>>()
        })
        .collect();
    places.sort();
    places.dedup();
    places
}

/// The kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match text.and_then(|text| u8::from_str_radix(text, 8).ok()) {
            Some(value) => {
                out.push(value);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
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
