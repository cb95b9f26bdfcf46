//! A restore that changes nothing: unpacked into a scratch folder, checked as every restore is,
//! counted, and removed.

use std::path::{Path, PathBuf};

use crate::archive::{ExtractOptions, Limits, Reader};
use crate::control::{Control, Step};
use crate::data_dir::{DATA_DB, DataDir, STORAGE};
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::restore::check::{self, Begun};
use crate::restore::disk;
use crate::restore::stage::SPARE_BYTES;

/// What a restored archive came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// Superusers who could log in; at least one.
    pub superusers: u64,
    /// Collections that have tables.
    pub collections: u64,
    /// Rows of those tables.
    pub records: u64,
    /// Files of records.
    pub files: u64,
    /// Entries that are neither files nor folders, which a restore leaves out.
    pub skipped: u64,
}

/// Restores the archive in the file `archive` into a scratch folder in the state folder, opens
/// and checks its databases, and counts. Blocking; nothing is left, whatever happens.
///
/// # Errors
/// [`Kind::Corrupt`] with the reason why this archive could not be restored,
/// [`Kind::NoSpace`], [`Control::check`]'s.
pub fn rehearse(data: &DataDir, archive: &Path, control: &Control) -> Result<Rehearsal> {
    let reader = Reader::open(archive, &Limits::default())?;
    let outline = reader.outline(&|_| true)?;
    let room_bytes = outline.room_bytes;
    let within = format!("{STORAGE}/");
    let is_upload = |path: &[u8]| path.starts_with(within.as_bytes());
    let files = outline.files.keys().filter(|path| is_upload(path)).count() as u64;
    control.expect(outline.bytes, outline.files.len() as u64 + outline.folders);
    drop(outline);
    let scratch = Scratch::open(data)?;
    let free = fsx::free_bytes(&scratch.0)?;
    let needed = room_bytes.saturating_add(SPARE_BYTES);
    if free < needed {
        let message =
            format!("The drill needs {needed} bytes of free disk space, there are {free}.");
        return Err(Error::new(Kind::NoSpace, message));
    }
    control.enter(Step::Extracting);
    let extracted = reader.extract(&scratch.0, &ExtractOptions::default(), control)?;
    control.enter(Step::Checking);
    let report = check::check(&scratch.0, Begun::default(), control)?;
    let (collections, records) = check::on_runtime(check::count(&scratch.0.join(DATA_DB)))?;
    let skipped = extracted.skipped.len() as u64;
    Ok(Rehearsal { superusers: report.superusers, collections, records, files, skipped })
}

/// A folder that goes with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn open(data: &DataDir) -> Result<Self> {
        fsx::create_dir_durably(&data.drill())?;
        let folder = data.drill().join(format!("{:016x}", rand::random::<u64>()));
        disk::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the folder is swept at the next start.
        let _ = disk::remove_tree(&self.0);
    }
}
