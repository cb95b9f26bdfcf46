//! What an archive may claim before it is believed.

/// Limits for reading an archive. The defaults let every honest backup through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub entries: u64,
    /// Largest central directory in bytes: it is held in memory while the archive is open.
    pub directory_bytes: u64,
    /// Most bytes of all entries together, unpacked.
    pub total_bytes: u64,
    /// Most unpacked bytes per byte of the archive.
    pub ratio: u64,
    /// Longest path of an entry in bytes.
    pub path_bytes: usize,
    /// Longest part of a path in bytes; file systems end at 255.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            directory_bytes: 512 << 20,
            total_bytes: 16 << 40,
            // Deflate alone ends at 1,032.
            ratio: 1_100,
            path_bytes: 4_096,
            name_bytes: 255,
        }
    }
}
