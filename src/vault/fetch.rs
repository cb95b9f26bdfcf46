//! The archive of a backup as a file on the local disk, wherever the backup is kept.

use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::backup::Backup;
use crate::control::{Control, Step};
use crate::data_dir::DataDir;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::storage::Storage;

/// The archive of a backup; a copy that was fetched for it is removed when this is dropped.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    fetched: bool,
}

impl Archive {
    /// The archive of `backup`: the file itself where it lies on the local disk, else a copy
    /// in the state folder of `data`.
    ///
    /// # Errors
    /// [`Kind::NoSpace`], [`Kind::Corrupt`] when not all of it arrives, the storage's own,
    /// [`Control::check`]'s.
    pub async fn of(
        storage: &dyn Storage,
        backup: &Backup,
        data: &DataDir,
        control: &Control,
    ) -> Result<Self> {
        if let Some(path) = storage.local_path(&backup.key) {
            return Ok(Self { path, fetched: false });
        }
        control.enter(Step::Transferring);
        let folder = data.fetched();
        fsx::create_dir_durably(&folder)?;
        // Root may be at work here, but whoever serves sweeps it.
        fsx::give_to_owner_of(data.root(), &folder)?;
        let needed = backup.size_bytes;
        if fsx::free_bytes(&folder)? < needed {
            let message = format!("the archive of {needed} bytes does not fit beside the data");
            return Err(Error::new(Kind::NoSpace, message));
        }
        // Two may want the same one at the same time.
        let path = folder.join(format!("{:016x}.zip", rand::random::<u64>()));
        let archive = Self { path, fetched: true };
        archive.fetch(storage, backup, control).await?;
        Ok(archive)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn fetch(&self, storage: &dyn Storage, backup: &Backup, control: &Control) -> Result<()> {
        let failed = "cannot write the fetched backup";
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&self.path).await.context(failed)?;
        let mut stream = storage.get(&backup.key, None).await?;
        let mut size_bytes = 0;
        while let Some(block) = stream.next().await {
            let block = block?;
            control.check()?;
            control.add_bytes(block.len() as u64);
            size_bytes += block.len() as u64;
            file.write_all(&block).await.context(failed)?;
        }
        file.flush().await.context(failed)?;
        if size_bytes != backup.size_bytes {
            let message = format!("{size_bytes} bytes arrived of {}", backup.size_bytes);
            return Err(Error::new(Kind::Corrupt, message));
        }
        Ok(())
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if self.fetched {
            // Best effort: the folder is swept at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
