//! Backups as files in one folder, laid out as PocketBase lays them out: the archive under its
//! key, and beside it a small `<key>.attrs` that names its media type.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::backup::{Backup, Key};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx::{self, Commit, DirectWriter, PartialFile};
use crate::storage::{ByteStream, PutMode, Storage, media_type};

/// Bytes per read of a download, and per write of an upload.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that may wait between the network and the disk.
const BLOCKS_AHEAD: usize = 4;
/// Largest side-car that is read, in bytes.
const ATTRS_BYTES_MAX: u64 = 64 * 1024;
/// Where PocketBase keeps a backup's attributes.
const ATTRS_SUFFIX: &str = ".attrs";
/// Without a side-car nobody knows what a file is (PocketBase's answer).
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A folder of backups.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    folder: PathBuf,
    place: String,
}

impl LocalStorage {
    /// The folder; it is made when the first backup is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), place: "local".to_owned() }
    }

    /// The same, as one of several: its place is that of `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.place = format!("local:{name}");
        self
    }

    /// Removes what a crash left half written; how many files that were.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep(&self) -> Result<usize> {
        fsx::sweep_partials(&self.folder)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.as_str())
    }
}

#[async_trait]
impl Storage for LocalStorage {
    async fn list(&self) -> Result<Vec<Backup>> {
        let folder = self.folder.clone();
        blocking(move || list(&folder)).await
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    async fn head(&self, key: &Key) -> Result<Backup> {
        let (path, key) = (self.path(key), key.clone());
        blocking(move || stat(&path, key)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
        let (path, key) = (self.path(key), key.clone());
        let (file, range) = blocking(move || {
            let backup = stat(&path, key)?;
            let mut file = File::open(&path).context("cannot open the backup")?;
            let range = range.unwrap_or(0..backup.size_bytes);
            file.seek(SeekFrom::Start(range.start)).context("cannot seek in the backup")?;
            Ok((file, range))
        })
        .await?;
        Ok(read_blocks(file, range.end.saturating_sub(range.start)))
    }

    async fn put(&self, key: &Key, mut body: ByteStream, mode: PutMode) -> Result<Backup> {
        let (target, folder, key) = (self.path(key), self.folder.clone(), key.clone());
        let (sender, receiver) = mpsc::channel::<Bytes>(BLOCKS_AHEAD);
        let (finished_sender, finished) = std::sync::mpsc::channel::<()>();
        let writer = spawn_blocking(move || {
            fsx::create_dir_durably(&folder)?;
            let partial = write_all(&target, receiver)?;
            // Only a clean end of the stream commits: a dropped sender alone is an abort.
            if finished.try_recv().is_err() {
                return Err(Error::internal("the upload was broken off"));
            }
            commit(partial, &target, mode)?;
            stat(&target, key)
        });
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    drop(sender);
                    // The writer's error is only that nothing more came.
                    let _ = writer.await;
                    return Err(error);
                }
            };
            if sender.send(chunk).await.is_err() {
                // The writer gave up; its own error says why.
                return joined(writer.await).and_then(|_| Err(Error::internal("writer left")));
            }
        }
        // The writer only stops listening when it failed, and then its error is reported.
        let _ = finished_sender.send(());
        drop(sender);
        joined(writer.await)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (path, key) = (self.path(key), key.clone());
        blocking(move || {
            stat(&path, key)?;
            fs::remove_file(&path).context("cannot remove the backup")?;
            match fs::remove_file(attrs_path(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("cannot remove the backup's attributes");
                }
                _ => {}
            }
            fsx::sync_parent(&path)
        })
        .await
    }

    async fn content_type(&self, key: &Key) -> String {
        let path = self.path(key);
        spawn_blocking(move || stored_type(&path))
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| UNKNOWN_TYPE.to_owned())
    }

    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.path(key))
    }
}

fn list(folder: &Path) -> Result<Vec<Backup>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot read the folder of backups"),
    };
    let mut backups = Vec::new();
    for entry in entries {
        let entry = entry.context("cannot read the folder of backups")?;
        let Some(key) = entry.file_name().to_str().and_then(|name| Key::existing(name).ok()) else {
            continue;
        };
        // A backup that is deleted while we list is simply no longer there.
        if let Ok(backup) = stat(&entry.path(), key) {
            backups.push(backup);
        }
    }
    backups.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(backups)
}

fn stat(path: &Path, key: Key) -> Result<Backup> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Err(Error::new(Kind::NotFound, format!("{key} is not a file"))),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(Error::new(Kind::NotFound, format!("there is no backup {key}")));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look at {key}")),
    };
    let modified: DateTime<Utc> =
        metadata.modified().with_context(|| format!("cannot tell the time of {key}"))?.into();
    Ok(Backup { key, size_bytes: metadata.len(), modified })
}

/// Writes all blocks; ends at the end of the channel, clean or not.
fn write_all(target: &Path, mut blocks: mpsc::Receiver<Bytes>) -> Result<PartialFile> {
    let mut partial = PartialFile::create(target)?;
    let mut writer = DirectWriter::new(partial.file()?);
    while let Some(block) = blocks.blocking_recv() {
        writer.write_all(&block).context("cannot write the backup")?;
    }
    writer.finish().context("cannot write the backup")?;
    Ok(partial)
}

/// Gives the archive its name. The side-car comes first, as PocketBase does it: an archive
/// without one would be served as an unknown type, a side-car without an archive is nothing.
fn commit(partial: PartialFile, target: &Path, mode: PutMode) -> Result<()> {
    if mode == PutMode::Create && target.exists() {
        return Err(Error::new(Kind::Exists, format!("{} exists already", target.display())));
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let attributes = serde_json::json!({
        "user.cache_control": "",
        "user.content_disposition": "",
        "user.content_encoding": "",
        "user.content_language": "",
        "user.content_type": media_type(&name),
        "user.metadata": { "original-filename": name },
        "md5": null,
    });
    let how = match mode {
        PutMode::Create => Commit::Create,
        PutMode::Replace => Commit::Replace,
    };
    let committed = fsx::write_durably(&attrs_path(target), attributes.to_string().as_bytes())
        .and_then(|()| partial.commit(how));
    if committed.is_err() && !target.exists() {
        // Best effort: a side-car alone is nothing.
        let _ = fs::remove_file(attrs_path(target));
    }
    committed
}

fn attrs_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ATTRS_SUFFIX);
    PathBuf::from(name)
}

fn stored_type(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(attrs_path(path)).ok()?.take(ATTRS_BYTES_MAX).read_to_string(&mut text).ok()?;
    let attributes: serde_json::Value = serde_json::from_str(&text).ok()?;
    attributes.get("user.content_type")?.as_str().map(ToOwned::to_owned)
}

/// Reads `length` bytes in large blocks on a blocking thread, a few ahead of the consumer.
fn read_blocks(mut file: File, length: u64) -> ByteStream {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(BLOCKS_AHEAD);
    spawn_blocking(move || {
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let mut block = BytesMut::zeroed(want);
            let read = file.read_exact(&mut block).context("cannot read the backup");
            let failed = read.is_err();
            if sender.blocking_send(read.map(|()| block.freeze())).is_err() || failed {
                return;
            }
            left -= want as u64;
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|block| (block, receiver))
    })
    .boxed()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(spawn_blocking(work).await)
}

fn joined<T>(result: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    result.context("a storage thread stopped")?
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};

    use super::*;

    fn key(name: &str) -> Key {
        Key::existing(name).expect("a key")
    }

    fn body(parts: &[&'static str]) -> ByteStream {
        let parts: Vec<_> = parts.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
        stream::iter(parts).boxed()
    }

    async fn read(storage: &LocalStorage, name: &str, range: Option<Range<u64>>) -> Vec<u8> {
        let stream = storage.get(&key(name), range).await.expect("opened");
        let blocks: Vec<Bytes> = stream.try_collect().await.expect("read");
        blocks.concat()
    }

    #[tokio::test]
    async fn what_is_put_is_listed_read_and_deleted() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = LocalStorage::new(dir.path().join("backups"));
        assert!(storage.list().await.expect("listed").is_empty());
        let put = storage.put(&key("b.zip"), body(&["ab", "cd"]), PutMode::Create).await;
        assert_eq!(put.expect("stored").size_bytes, 4);
        storage.put(&key("A.zip"), body(&["x"]), PutMode::Create).await.expect("stored");
        let keys: Vec<_> =
            storage.list().await.expect("listed").into_iter().map(|b| b.key.to_string()).collect();
        assert_eq!(keys, ["A.zip", "b.zip"]);
        assert_eq!(read(&storage, "b.zip", None).await, b"abcd");
        assert_eq!(read(&storage, "b.zip", Some(1..3)).await, b"bc");
        assert_eq!(storage.content_type(&key("b.zip")).await, "application/zip");
        storage.delete(&key("b.zip")).await.expect("deleted");
        let gone = storage.delete(&key("b.zip")).await.expect_err("gone");
        assert_eq!(gone.kind(), &Kind::NotFound);
        assert_eq!(fs::read_dir(dir.path().join("backups")).expect("listed").count(), 2);
    }

    #[tokio::test]
    async fn a_taken_key_is_not_replaced_by_a_create() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = LocalStorage::new(dir.path());
        storage.put(&key("a.zip"), body(&["old"]), PutMode::Create).await.expect("stored");
        let taken = storage.put(&key("a.zip"), body(&["new"]), PutMode::Create).await;
        assert_eq!(taken.expect_err("taken").kind(), &Kind::Exists);
        assert_eq!(read(&storage, "a.zip", None).await, b"old");
        storage.put(&key("a.zip"), body(&["new"]), PutMode::Replace).await.expect("replaced");
        assert_eq!(read(&storage, "a.zip", None).await, b"new");
    }

    #[tokio::test]
    async fn a_broken_stream_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = LocalStorage::new(dir.path());
        let broken = stream::iter([
            Ok(Bytes::from_static(b"half")),
            Err(Error::new(Kind::Cancelled, "stop")),
        ])
        .boxed();
        let put = storage.put(&key("a.zip"), broken, PutMode::Create).await;
        assert_eq!(put.expect_err("broken").kind(), &Kind::Cancelled);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[tokio::test]
    async fn partial_files_folders_and_side_cars_are_no_backups() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["a.zip.attrs", "a.zip.00.pocketvault-part", "a.zip.17a2b3c4d5e6f708.tmp"] {
            fs::write(dir.path().join(name), b"x").expect("written");
        }
        fs::create_dir(dir.path().join("folder")).expect("made");
        let storage = LocalStorage::new(dir.path());
        assert!(storage.list().await.expect("listed").is_empty());
        assert_eq!(storage.sweep().expect("swept"), 1);
    }
}
