//! Extraction into a fresh private folder: in parallel, checked, and on the disk at the end.
//!
//! Nothing can lead outside: paths are judged before anything is written, every file is
//! created new below the folder's own descriptor, and no link is ever made there.

use std::ffi::OsStr;
use std::fs::{File, FileTimes};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::archive::Skipped;
use crate::archive::inflate::Gear;
use crate::archive::parallel::{default_threads, each};
use crate::archive::plan::Plan;
use crate::archive::reader::{READ_BYTES, Reader};
use crate::archive::stored::StoredEntry;
use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;

/// How an archive is extracted.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// Threads; `None` is one per core, 12 at most either way.
    pub threads: Option<NonZeroUsize>,
}

/// Files at the top of an archive that somebody waits for.
pub struct Early<'a> {
    /// Their names; those that the archive lacks are not waited for.
    pub names: &'a [&'a str],
    /// Called once, on a thread of the extraction, when all of them are written and if there
    /// are any. They are not durable by then.
    pub ready: &'a (dyn Fn() + Sync),
    /// Which paths are extracted at all; of the others only the names are judged.
    pub takes: &'a (dyn Fn(&[u8]) -> bool + Sync),
}

impl Early<'_> {
    /// Everything is extracted, and nobody waits for anything.
    const NONE: Self = Self { names: &[], ready: &|| {}, takes: &|_| true };

    /// Some file systems do not tell cases apart, so neither do we.
    fn has(&self, path: &[u8]) -> bool {
        self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(path))
    }
}

impl std::fmt::Debug for Early<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Early").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// Files written.
    pub files: u64,
    /// Folders made.
    pub folders: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Entries that are neither file nor folder, in archive order.
    pub skipped: Vec<Skipped>,
}

/// Up to this many files each is synced by itself; more are synced with their file system.
const SYNCED_ALONE_MAX: u64 = 64;
/// Files from this size on are written past the page cache. For smaller ones the cache is
/// faster: it takes them at once and writes them in large pieces.
const DIRECT_BYTES: u64 = 4 << 20;
/// Early files up to this size go through the cache as well: they are read next.
const READ_NEXT_BYTES_MAX: u64 = 1 << 30;
/// The kernel takes no longer path at once, its closing NUL included.
const PATH_BYTES_MAX: usize = 4096;
/// Files and folders keep these bits; setuid, setgid and sticky are dropped.
const MODE_MASK: u32 = 0o777;

impl Reader {
    /// Extracts everything into `target`, which is made and must not hold anything yet. At the
    /// end all of it is on the disk. The last of several entries of one path wins; modes are
    /// narrowed by the umask and owners can always read and write.
    ///
    /// On an error `target` holds a part; removing it is the caller's.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] naming the entry and the reason, [`Kind::NoSpace`] before anything is
    /// written when there is not enough room, [`Kind::Exists`] when `target` is not empty,
    /// [`Control::check`]'s.
    pub fn extract(
        &self,
        target: &Path,
        options: &ExtractOptions,
        control: &Control,
    ) -> Result<Extracted> {
        self.extract_early(target, options, &Early::NONE, control)
    }

    /// As [`Reader::extract`], but only what `early` takes, and first the files that it names.
    ///
    /// # Errors
    /// As [`Reader::extract`].
    pub fn extract_early(
        &self,
        target: &Path,
        options: &ExtractOptions,
        early: &Early<'_>,
        control: &Control,
    ) -> Result<Extracted> {
        let plan = Plan::new(self, early.takes)?;
        let root = fresh_folder(target)?;
        let free_bytes = fsx::free_bytes(target)?;
        if plan.room_bytes > free_bytes {
            let needed = plan.room_bytes;
            let message = format!("extracting needs {needed} bytes, {free_bytes} are free");
            return Err(Error::new(Kind::NoSpace, message));
        }
        for folder in &plan.folders {
            make_folder(root.as_fd(), folder)?;
        }
        let alone = plan.files <= SYNCED_ALONE_MAX;
        let mut order = self.work_order(plan.reads.iter().copied());
        let is_early = |index: usize| plan.target(index).is_some_and(|path| early.has(path));
        order.sort_by_key(|index| !is_early(*index));
        let awaited = AtomicUsize::new(order.iter().filter(|index| is_early(**index)).count());
        let state = || (Gear::default(), vec![0; READ_BYTES]);
        let threads = default_threads(options.threads);
        each(threads, &order, control, state, |(gear, buffer), index| {
            let Some(path) = plan.target(index) else {
                return self.pour(index, gear, buffer, control, &mut |_| Ok(()));
            };
            let entry = &self.entries()[index];
            let failed = || format!("cannot write {}", shown(path));
            let mut file = create(root.as_fd(), path, entry.mode())?;
            let read_next = is_early(index) && entry.size_bytes() <= READ_NEXT_BYTES_MAX;
            if entry.size_bytes() >= DIRECT_BYTES && !read_next {
                let mut direct = fsx::DirectWriter::new(&mut file);
                self.pour(index, gear, buffer, control, &mut |bytes| {
                    direct.write_all(bytes).with_context(failed)
                })?;
                direct.finish().with_context(failed)?;
            } else {
                self.pour(index, gear, buffer, control, &mut |bytes| {
                    file.write_all(bytes).with_context(failed)
                })?;
            }
            set_time(&file, entry).with_context(failed)?;
            if alone {
                file.sync_all().with_context(failed)?;
            }
            if is_early(index) && awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
                (early.ready)();
            }
            Ok(())
        })?;
        control.check()?;
        sync(root.as_fd(), alone, &plan)?;
        fsx::sync_parent(target)?;
        Ok(Extracted {
            files: plan.files,
            folders: plan.folders.len() as u64,
            bytes: plan.bytes,
            skipped: plan.skipped,
        })
    }
}

fn fresh_folder(target: &Path) -> Result<OwnedFd> {
    let failed = || format!("cannot use the folder {}", target.display());
    match std::fs::DirBuilder::new().mode(0o700).create(target) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(io).with_context(failed)?;
    if std::fs::read_dir(target).with_context(failed)?.next().is_some() {
        let message = format!("the folder {} is not empty", target.display());
        return Err(Error::new(Kind::Exists, message));
    }
    Ok(root)
}

fn make_folder(root: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    let mode = Mode::from_raw_mode(MODE_MASK);
    beneath(root, path, |folder, rest| rustix::fs::mkdirat(folder, rest, mode))
        .with_context(|| format!("cannot make the folder {}", shown(path)))
}

fn create(root: BorrowedFd<'_>, path: &[u8], mode: u32) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode((mode & MODE_MASK) | 0o600);
    beneath(root, path, |folder, rest| rustix::fs::openat(folder, rest, flags, mode))
        .map(File::from)
        .with_context(|| format!("cannot create {}", shown(path)))
}

fn set_time(file: &File, entry: &StoredEntry) -> std::io::Result<()> {
    let Some(modified) = entry.modified() else { return Ok(()) };
    file.set_times(FileTimes::new().set_modified(SystemTime::from(modified)))
}

/// Brings files and names to the disk: one by one, or the whole file system in one go, which
/// for thousands of small files is faster by orders of magnitude.
fn sync(root: BorrowedFd<'_>, alone: bool, plan: &Plan<'_>) -> Result<()> {
    let failed = "cannot sync what was extracted";
    if !alone {
        return rustix::fs::syncfs(root).map_err(io).context(failed);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for folder in &plan.folders {
        beneath(root, folder, |at, rest| rustix::fs::openat(at, rest, flags, Mode::empty()))
            .and_then(|folder| rustix::fs::fsync(folder).map_err(io))
            .context(failed)?;
    }
    rustix::fs::fsync(root).map_err(io).context(failed)
}

/// Calls `act` with a folder and the rest of `path` below it, walking down as far as a path is
/// too long for one call.
fn beneath<T>(
    root: BorrowedFd<'_>,
    path: &[u8],
    act: impl FnOnce(BorrowedFd<'_>, &Path) -> Result<T, Errno>,
) -> std::io::Result<T> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut rest = path;
    let mut held: Option<OwnedFd> = None;
    while rest.len() >= PATH_BYTES_MAX {
        let Some(slash) = rest[..PATH_BYTES_MAX - 1].iter().rposition(|byte| *byte == b'/') else {
            return Err(io(Errno::NAMETOOLONG));
        };
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        let next = rustix::fs::openat(at, as_path(&rest[..slash]), flags, Mode::empty());
        held = Some(next.map_err(io)?);
        rest = &rest[slash + 1..];
    }
    act(held.as_ref().map_or(root, AsFd::as_fd), as_path(rest)).map_err(io)
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn io(errno: Errno) -> std::io::Error {
    errno.into()
}

fn shown(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}
