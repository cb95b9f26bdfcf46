//! What the kernel has mounted below a folder.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where Linux tells what is mounted for us.
pub const MOUNTS: &str = "/proc/self/mountinfo";

/// The mount points strictly below `root` (absolute, without links), relative to it, from the
/// contents of [`MOUNTS`]. Source: proc_pid_mountinfo(5).
pub fn mounts_below(root: &Path, list: &[u8]) -> Vec<PathBuf> {
    list.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter_map(|path| path.strip_prefix(root).map(Path::to_owned).ok())
        .filter(|path| !path.as_os_str().as_bytes().is_empty())
        .collect()
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
    fn mounts_below_a_folder_are_read_from_the_kernel_s_list() {
        let list = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 22 0:5 / /pb\\040data rw - tmpfs x rw\n\
            31 30 0:6 / /pb\\040data/storage rw shared:3 - tmpfs x rw\n\
            32 30 0:6 / /pb\\040data/storage/a\\134b rw - tmpfs x rw\n\
            33 22 0:7 / /pb\\040data2/storage rw - tmpfs x rw\n";
        let found = mounts_below(Path::new("/pb data"), list);
        assert_eq!(found, [Path::new("storage"), Path::new("storage/a\\b")]);
        assert!(mounts_below(Path::new("/elsewhere"), list).is_empty());
    }
}
