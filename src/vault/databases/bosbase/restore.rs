//! Restoring a backup: looked into, unpacked beside the data, files placed, databases exchanged.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::archive::{Early, ExtractOptions, Limits, Reader};
use crate::backup::Key;
use crate::control::{Control, Step};
use crate::data_dir::{DATA_DB, DataDir};
use crate::error::{Context, Error, Kind, Result};
use crate::restore::postgres as pg;
use crate::source::bosbase::{DUMP, MANIFEST, Manifest, Staging};
use crate::storage::{LocalStorage, Storage};
use crate::vault::databases::bosbase::Bosbase;
use crate::vault::databases::bosbase::place::place;
use crate::vault::fetch;

/// The folder of the dump in a staging folder.
const LOOK: &str = "look";
/// The folder of the files in a staging folder.
const FILES: &str = "files";

/// An archive that was looked into, and its dump beside the data.
#[derive(Debug)]
pub(in crate::vault::databases) struct Prepared {
    zip: fetch::Archive,
    staging: Staging,
    data: PathBuf,
    /// The dump.
    pub(in crate::vault::databases) dump: pg::Archive,
}

impl Bosbase {
    /// Looks into an archive, and unpacks its dump.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Corrupt`]: it is no archive of a BosBase, with the reason.
    pub(in crate::vault::databases) async fn prepare(
        &self,
        name: &str,
        state: PathBuf,
        storage: &dyn Storage,
        key: &Key,
        control: &Control,
    ) -> Result<Prepared> {
        let backup = storage.head(key).await?;
        let place = DataDir::new(self.data.root(), Some(state));
        let zip = fetch::Archive::of(storage, &backup, &place, control).await?;
        let (data, name, control) = (self.data.root().to_owned(), name.to_owned(), control.clone());
        let key = key.clone();
        let looked = spawn_blocking(move || {
            let reader = Reader::open(zip.path(), &Limits::default())?;
            require_ours(&reader)?;
            let staging = Staging::new(&data, &name)?;
            let look = staging.path().join(LOOK);
            extract(&reader, &look, &control, &|path| is_about(path))?;
            let manifest = fs::read(look.join(MANIFEST)).context("cannot read the manifest")?;
            let manifest = Manifest::parse(&manifest)?;
            // Under the backup's own name, which journals and records show.
            fs::rename(look.join(DUMP), look.join(key.as_str())).context("cannot name the dump")?;
            let dump = pg::Archive {
                storage: Arc::new(LocalStorage::new(look)),
                key,
                sha256: Some(manifest.dump_sha256),
            };
            Ok::<_, Error>(Prepared { zip, staging, data, dump })
        });
        looked.await.context("a thread stopped")?
    }
}

impl Prepared {
    /// Unpacks the files, and puts them among the live ones.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], [`Kind::NoSpace`], [`Control::check`]'s; files that came in by then
    /// stay, which harms nobody.
    pub(in crate::vault::databases) async fn place_files(
        self: &Arc<Self>,
        control: &Control,
    ) -> Result<u64> {
        control.enter(Step::Extracting);
        let (this, control) = (self.clone(), control.clone());
        let placed = spawn_blocking(move || {
            let reader = Reader::open(this.zip.path(), &Limits::default())?;
            let files = this.staging.path().join(FILES);
            extract(&reader, &files, &control, &|path| !is_about(path))?;
            place(&files, &this.data, &control)
        });
        placed.await.context("a thread stopped")?
    }
}

/// Unpacks a part, which belongs to whom the data belongs.
fn extract(
    reader: &Reader,
    target: &std::path::Path,
    control: &Control,
    takes: &(dyn Fn(&[u8]) -> bool + Sync),
) -> Result<()> {
    let early = Early { names: &[], ready: &|| {}, takes };
    reader.extract_early(target, &ExtractOptions::default(), &early, control)?;
    match target.parent() {
        Some(above) => crate::fsx::give_tree_to_owner_of(above, target),
        None => Ok(()),
    }
}

/// What is not a file of `pb_data`.
fn is_about(path: &[u8]) -> bool {
    [MANIFEST.as_bytes(), DUMP.as_bytes()].contains(&path)
}

/// Whether it is an archive of a BosBase that we made.
fn require_ours(reader: &Reader) -> Result<()> {
    let has = |name: &str| reader.find(name.as_bytes()).is_some();
    let said = match (has(DUMP) && has(MANIFEST), has(DATA_DB)) {
        (true, false) => return Ok(()),
        (true, true) => "The archive has a dump of PostgreSQL and a data.db: it is neither's.",
        (false, true) => {
            "The archive is a PocketBase's: it has a data.db and no dump of PostgreSQL. Restore \
             it where that PocketBase's data is."
        }
        (false, false) => {
            "The archive has no database in it. BosBase's own backups hold files only, and \
             cannot bring a row back."
        }
    };
    Err(Error::new(Kind::Corrupt, said))
}
