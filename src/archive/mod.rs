//! Archives: ordinary zip files of Store and Deflate entries, written as a stream and read
//! back with suspicion.
//!
//! [`write()`] reads, checksums and compresses entries on all cores and writes them in their
//! order to anything that takes bytes; memory is bounded by a constant. What [`Previous`]
//! holds compressed already is taken over from it. [`Reader`] opens an
//! archive under [`Limits`], verifies it, and extracts it into a folder of ours. It does not
//! know where entries come from, where archives are kept, or what a restore does with them.

use crate::backup::EntryPath;

pub use extract::{Early, ExtractOptions, Extracted};
pub use inflate::EntryReader;
pub use ledger::Ledger;
pub use limits::Limits;
pub use manners::Manners;
pub use outline::Outline;
pub use reader::{Probe, Reader, Verified, probe};
pub use reuse::{Previous, Reuse};
pub use stored::{Method, StoredEntry};
pub use tail::TailProbe;
pub use write::{Summary, WriteOptions, write};

mod deflate;
mod directory;
mod extract;
mod feeder;
mod format;
mod inflate;
#[cfg(feature = "isal")]
mod isal;
mod ledger;
mod limits;
mod manners;
mod outline;
mod parallel;
mod pipeline;
mod plan;
mod reader;
mod reuse;
mod sniff;
mod stored;
mod tail;
mod tiny;
mod worker;
mod write;

#[cfg(test)]
mod tests;

/// An entry that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The entry.
    pub path: EntryPath,
    /// Why, in words for an operator.
    pub reason: String,
}
