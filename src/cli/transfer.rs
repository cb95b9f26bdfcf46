//! `pocketvault upload` and `pocketvault download`

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method as Verb;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE, LAST_MODIFIED, RANGE};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::app::offline::Offline;
use crate::backup::Key;
use crate::cli::backup::{find, known};
use crate::cli::list::text;
use crate::cli::output::{Bar, Output, size};
use crate::cli::remote::{Client, ServerOptions, segment};
use crate::cli::{offline_config, on_runtime};
use crate::clock::Clock;
use crate::config::FolderOptions;
use crate::config::storage::StorageOptions;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx::{Commit, PartialFile};
use crate::storage::ByteStream;

/// How much of a file is read at a time.
const BLOCK_BYTES: usize = 1 << 18;
/// How often a download that broke off is taken up again.
const TRIES: usize = 5;
/// What ends a part of a multipart body; no archive can hold it at a line's begin by chance.
const BOUNDARY: &str = "pocketvault-8d1f0c35b7a94e6e";

/// What to bring.
#[derive(Debug, Args)]
pub(super) struct UploadOptions {
    /// An archive file
    file: PathBuf,
    /// Its name there [default: that of the file]
    #[arg(long, value_name = "KEY")]
    name: Option<String>,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// What to fetch.
#[derive(Debug, Args)]
pub(super) struct DownloadOptions {
    /// The key of a backup
    key: String,
    /// The new file, or the folder for it; it is never replaced [default: KEY, here]
    #[arg(value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Runs `upload`.
pub(super) fn upload(options: &UploadOptions, output: Output) -> Result<()> {
    on_runtime(async {
        let last = options.file.file_name().unwrap_or_default().to_string_lossy();
        let key = Key::existing(options.name.as_deref().unwrap_or(&last))?;
        let (body, bytes) = read(&options.file).await?;
        let bar = output.bar("upload");
        let backup = match options.server.connect().await? {
            Some(server) => {
                send(&server, &key, body, bytes, bar).await?;
                find(&server, key.as_str()).await?
            }
            None => {
                let config = offline_config(&options.folder, &options.storage)?;
                let open = Offline::open(&config, &Clock::system()).await?;
                let mut sent = 0;
                let body = body.inspect_ok(move |block| {
                    sent += block.len() as u64;
                    bar.at("", sent, bytes);
                });
                let stored = open.vault.spawn_upload(key.clone(), body.boxed()).await;
                let backup = match stored.context("the storing task stopped")? {
                    Ok(_) => known(&open, &key).await,
                    Err(error) => Err(error),
                };
                open.close().await;
                backup?
            }
        };
        output.tell(&backup, format!("uploaded {key}, {}", size(bytes)))
    })
}

/// The file as a stream, and its size.
async fn read(path: &Path) -> Result<(ByteStream, u64)> {
    let failed = format!("cannot read {}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::NotFound, failed.clone()).because(error),
        _ => Error::internal(failed.clone()).because(error),
    })?;
    let bytes = file.metadata().await.with_context(|| failed.clone())?.len();
    let body = stream::try_unfold(file, move |mut file| {
        let failed = failed.clone();
        async move {
            let mut block = vec![0; BLOCK_BYTES];
            let n = AsyncReadExt::read(&mut file, &mut block).await.context(failed)?;
            block.truncate(n);
            Ok((n > 0).then(|| (Bytes::from(block), file)))
        }
    });
    Ok((body.boxed(), bytes))
}

async fn send(server: &Client, key: &Key, body: ByteStream, bytes: u64, bar: Bar) -> Result<()> {
    // Quotes and backslashes as browsers write them.
    let name = key.as_str().replace('"', "%22");
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/zip\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let length = head.len() as u64 + bytes + tail.len() as u64;
    let mut sent = 0;
    let counted = body.inspect_ok(move |block| {
        sent += block.len() as u64;
        bar.at("", sent, bytes);
    });
    let first = stream::iter([Ok(Bytes::from(head))]);
    let whole = first.chain(counted).chain(stream::iter([Ok(Bytes::from(tail))]));
    let request = server
        .request(Verb::POST, "api/backups/upload")?
        .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .header(CONTENT_LENGTH, length)
        .body(reqwest::Body::wrap_stream(whole));
    server.send(request).await.map(drop)
}

/// Runs `download`.
pub(super) fn download(options: &DownloadOptions, output: Output) -> Result<()> {
    on_runtime(async {
        let key = Key::existing(&options.key)?;
        let target = match &options.target {
            Some(path) if path.is_dir() => path.join(key.as_str()),
            Some(path) => path.clone(),
            None => PathBuf::from(key.as_str()),
        };
        if target.symlink_metadata().is_ok() {
            let message = format!("{} exists already", target.display());
            return Err(Error::new(Kind::Exists, message).hint("name another file"));
        }
        let mut file = PartialFile::create(&target)?;
        let bar = output.bar("download");
        let (bytes, expected) = match options.server.connect().await? {
            Some(server) => fetch(&server, &key, &mut file, &bar).await?,
            None => copy(options, &key, &mut file, &bar).await?,
        };
        let sha256 = checked(&mut file, expected.as_deref())?;
        file.commit(Commit::Create)?;
        drop(bar);
        let shown = target.display().to_string();
        let answer = json!({"key": key.as_str(), "file": shown, "size": bytes, "sha256": sha256});
        let proven = match expected {
            Some(_) => ", the same as when it was proven",
            None => "",
        };
        output.tell(&answer, format!("{shown}, {}, SHA-256 {sha256}{proven}", size(bytes)))
    })
}

/// From the storage itself: how many bytes, and the checksum that is known.
async fn copy(
    options: &DownloadOptions,
    key: &Key,
    file: &mut PartialFile,
    bar: &Bar,
) -> Result<(u64, Option<String>)> {
    let config = offline_config(&options.folder, &options.storage)?;
    let open = Offline::look(&config, &Clock::system()).await?;
    let (place, backup) = open.vault.nearest(key).await?;
    let known = open.vault.catalog().find(&place.storage.place(), &backup).await?;
    let mut blocks = place.storage.get(key, None).await?;
    let mut bytes = 0;
    while let Some(block) = blocks.next().await {
        let block = block?;
        bytes += block.len() as u64;
        file.file()?.write_all(&block).context("cannot write the file")?;
        bar.at("", bytes, backup.size_bytes);
    }
    open.close().await;
    whole(bytes, backup.size_bytes)?;
    Ok((bytes, known.sha256))
}

/// From a server; a connection that breaks is taken up where it broke.
async fn fetch(
    server: &Client,
    key: &Key,
    file: &mut PartialFile,
    bar: &Bar,
) -> Result<(u64, Option<String>)> {
    let backup = find(server, key.as_str()).await?;
    let total = backup["size"].as_u64().unwrap_or_default();
    let (mut bytes, mut version, mut tries) = (0, None, TRIES);
    loop {
        let got = piece(server, key, file, bar, (&mut bytes, total, &mut version)).await;
        match got {
            Ok(()) => break,
            Err(error) if error.kind() == &Kind::Unavailable && tries > 0 => {
                tries -= 1;
                tracing::warn!(error = error.full(), bytes, "the download broke off");
            }
            Err(error) => return Err(error),
        }
    }
    whole(bytes, total)?;
    let sha256 = text(&backup, "sha256");
    Ok((bytes, (!sha256.is_empty()).then(|| sha256.to_owned())))
}

/// One request for what is still missing.
async fn piece(
    server: &Client,
    key: &Key,
    file: &mut PartialFile,
    bar: &Bar,
    (bytes, total, version): (&mut u64, u64, &mut Option<String>),
) -> Result<()> {
    let token: Value = server.call(Verb::POST, "api/files/token", None).await?;
    let (key, token) = (segment(key.as_str()), segment(text(&token, "token")));
    let mut request = server.request(Verb::GET, &format!("api/backups/{key}?token={token}"))?;
    if let (Some(version), true) = (&version, *bytes > 0) {
        request = request.header(RANGE, format!("bytes={bytes}-")).header(IF_RANGE, version);
    }
    let mut answer = server.send(request).await?;
    if answer.status().as_u16() != 206 {
        // From the beginning: it is not what it was, or it cannot be taken up.
        *bytes = 0;
        let out = file.file()?;
        out.set_len(0).and_then(|()| out.seek(SeekFrom::Start(0))).context("cannot write")?;
        let modified = answer.headers().get(LAST_MODIFIED);
        *version = modified.and_then(|value| value.to_str().ok()).map(str::to_owned);
    }
    let broken = |error: reqwest::Error| {
        Error::new(Kind::Unavailable, "the download broke off").because(error.without_url())
    };
    while let Some(block) = answer.chunk().await.map_err(broken)? {
        file.file()?.write_all(&block).context("cannot write the file")?;
        *bytes += block.len() as u64;
        bar.at("", *bytes, total);
    }
    Ok(())
}

fn whole(bytes: u64, total: u64) -> Result<()> {
    if bytes == total {
        return Ok(());
    }
    let message = format!("{bytes} bytes arrived of {total}");
    Err(Error::new(Kind::Corrupt, message).hint("try again; nothing was kept"))
}

/// The SHA-256 of what was written, which must be the one that is known.
fn checked(file: &mut PartialFile, expected: Option<&str>) -> Result<String> {
    let mut hasher = Sha256::new();
    let written = file.file()?;
    written.seek(SeekFrom::Start(0)).context("cannot read what was written")?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match written.read(&mut block).context("cannot read what was written")? {
            0 => break,
            n => hasher.update(&block[..n]),
        }
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    match expected {
        Some(expected) if expected != found => {
            let message = "what arrived is not the archive that was proven";
            Err(Error::new(Kind::Corrupt, message).hint("try again; nothing was kept"))
        }
        _ => Ok(found),
    }
}
