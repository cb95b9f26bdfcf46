//! The entries of an archive: manifest, dump, pinned files, and everything else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use chrono::{DateTime, Utc};

use super::pins::Pins;
use super::{DUMP, MANIFEST};
use crate::backup::{Content, Entry, EntryPath, Item, Items};
use crate::control::Control;
use crate::data_dir::{DataDir, is_archived};
use crate::error::{Context, Result};
use crate::source::files::Walk;
use crate::source::report::Report;
use crate::source::root::Root;

/// The mode of files that we make up.
const MODE: u32 = 0o100_600;

/// Everything of a BosBase, as a stream of entries.
pub struct Whole {
    first: IntoIter<Item>,
    pinned: IntoIter<(EntryPath, PathBuf)>,
    taken: BTreeSet<EntryPath>,
    root: Arc<Root>,
    walk: Walk,
    report: Report,
    control: Control,
}

impl Whole {
    /// The manifest, the dump at `dump`, what is pinned, and then all else that lies in the
    /// folder.
    ///
    /// # Errors
    /// The folder or the dump cannot be opened.
    pub fn new(
        data: &DataDir,
        manifest: Vec<u8>,
        dump: &Path,
        pins: Pins,
        control: &Control,
    ) -> Result<Self> {
        let report = Report::new(data);
        let root = Arc::new(Root::open(data.root())?);
        let now = Utc::now();
        let size_bytes = manifest.len() as u64;
        let manifest = item(MANIFEST, size_bytes, now, Box::new(Bytes(manifest)))?;
        let size_bytes = std::fs::metadata(dump).context("cannot look at the dump")?.len();
        let dump = item(DUMP, size_bytes, now, Box::new(Pinned(dump.to_owned())))?;
        let walk = Walk::new(Arc::clone(&root), report.clone(), is_ours)?;
        let taken = pins.held.keys().cloned().collect();
        let pinned: Vec<(EntryPath, PathBuf)> = pins.held.into_iter().collect();
        Ok(Self {
            first: vec![manifest, dump].into_iter(),
            pinned: pinned.into_iter(),
            taken,
            root,
            walk,
            report,
            control: control.clone(),
        })
    }

    /// What is left out; complete when everything was read.
    pub fn report(&self) -> Report {
        self.report.clone()
    }
}

impl Items for Whole {
    fn next(&mut self) -> Result<Option<Item>> {
        self.control.check()?;
        if let Some(item) = self.first.next() {
            return Ok(Some(item));
        }
        if let Some((path, pin)) = self.pinned.next() {
            let meta = std::fs::metadata(&pin).context("a pinned file is gone")?;
            let modified = meta.modified().map_or(DateTime::UNIX_EPOCH, DateTime::from);
            let mode = std::os::unix::fs::MetadataExt::mode(&meta);
            let entry = Entry { path, size_bytes: meta.len(), modified, mode };
            return Ok(Some(Item { entry, content: Box::new(Pinned(pin)) }));
        }
        while let Some(found) = self.walk.next()? {
            if !self.taken.contains(&found.path) {
                let (item, _) = found.into_item(&self.root, &self.report);
                return Ok(Some(item));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whole").field("pinned", &self.taken.len()).finish_non_exhaustive()
    }
}

/// What is archived at the root of the folder: not what bears one of our names.
fn is_ours(name: &[u8]) -> bool {
    let ours = [MANIFEST.as_bytes(), DUMP.as_bytes()].contains(&name);
    !ours && std::str::from_utf8(name).map_or(true, is_archived)
}

fn item(
    name: &str,
    size_bytes: u64,
    modified: DateTime<Utc>,
    content: Box<dyn Content>,
) -> Result<Item> {
    let entry = Entry { path: EntryPath::parse(name)?, size_bytes, modified, mode: MODE };
    Ok(Item { entry, content })
}

struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(Cursor::new(self.0))))
    }
}

/// A file that nobody else removes.
struct Pinned(PathBuf);

impl Content for Pinned {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(File::open(&self.0).context("cannot open a pinned file")?)))
    }
}
