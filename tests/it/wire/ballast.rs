//! Files that make a backup take long enough to be observed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const BLOCK_BYTES: usize = 1 << 20;

/// Puts `megabytes` of bytes that do not compress into the folder; 0 takes them away.
pub(crate) fn set(data_dir: &Path, megabytes: usize) -> io::Result<()> {
    let folder = data_dir.join("storage/ballast");
    if megabytes == 0 {
        return fs::remove_dir_all(&folder);
    }
    fs::create_dir_all(&folder)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while block.len() < BLOCK_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend(state.to_le_bytes());
    }
    let mut file = File::create(folder.join("ballast.bin"))?;
    (0..megabytes).try_for_each(|_| file.write_all(&block))
}
