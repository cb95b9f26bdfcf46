//! The folder as an open handle: looking at and opening what lies in it, such that nothing
//! there can make a backup hang, leave the folder, or unlock a live database.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::mounts;
use super::report::Reason;
use crate::data_dir::{DATABASES, is_archived};
use crate::error::{Context, Result};

/// Bytes that the system may fill with names at once.
const LIST_BYTES: usize = 32 * 1024;
/// From this length on the system takes no path at once, its final NUL included.
const PATH_BYTES_MAX: usize = 4096;

/// An open `pb_data`.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    /// Device and inode of the databases and their side files.
    live: Vec<(u64, u64)>,
    /// Folders inside which restores keep data, see `mounts`.
    places: Vec<Vec<u8>>,
}

/// A regular file that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) meta: Meta,
}

/// What an entry needs to know of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) size_bytes: u64,
    pub(super) modified: DateTime<Utc>,
    pub(super) mode: u32,
}

/// Why there is no file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoFile {
    /// Nothing has that name (any more).
    Gone,
    /// It has to be left out.
    Refused(Reason),
    /// This process has no file descriptor left.
    NoDescriptor,
}

/// The sorted names of one folder, in one allocation.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The folder, while it may be kept open.
    dir: Option<OwnedFd>,
    names: Vec<u8>,
    /// Begin and length of each name, and whether it is surely a folder or surely not.
    entries: Vec<(u32, u16, Looks)>,
}

/// What a folder says about an entry without looking at the entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    Folder,
    Other,
    Unknown,
}

impl Root {
    /// Opens the folder. Call it while connections to its databases are open, so that their
    /// side files exist.
    ///
    /// # Errors
    /// The folder is not there or not readable.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot open the folder {}", path.display()))?;
        let mut live = Vec::new();
        for database in DATABASES {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let name = format!("{database}{suffix}");
                if let Ok(stat) = statat(&dir, name.as_str(), AtFlags::empty()) {
                    live.push((stat.st_dev, stat.st_ino));
                }
            }
        }
        let places = std::fs::canonicalize(path).map(|path| mounts::places(&path));
        Ok(Self { dir, live, places: places.unwrap_or_default() })
    }

    /// Looks at what has the name `path` without following a last link.
    pub(super) fn look(&self, path: &[u8]) -> Result<(FileType, Stat), NoFile> {
        look_at(&self.dir, path)
    }

    /// [`Root::look`] at what is called `name` in a folder that was listed: without walking
    /// down its whole path, which is most of the time of a look.
    pub(super) fn look_in(
        &self,
        listing: &Listing,
        name: &[u8],
        path: &[u8],
    ) -> Result<(FileType, Stat), NoFile> {
        match &listing.dir {
            // A path that is too long to be opened is found so here and not later.
            Some(dir) if path.len() < PATH_BYTES_MAX => look_at(dir, name),
            _ => self.look(path),
        }
    }

    /// Whether a file is a live database (or a side file of one) under whatever name.
    pub(super) fn is_live(&self, stat: &Stat) -> bool {
        self.live.contains(&(stat.st_dev, stat.st_ino))
    }

    /// Whether restores keep data in a state folder inside the folder `prefix`, which ends
    /// with `/`.
    pub(super) fn is_place(&self, prefix: &[u8]) -> bool {
        let path = prefix.strip_suffix(b"/").unwrap_or_default();
        self.places.iter().any(|place| place == path)
    }

    /// Pretends that something is mounted at `path`.
    #[cfg(test)]
    pub(super) fn mount(&mut self, path: &[u8]) {
        self.places.push(path.to_vec());
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<OpenFile, NoFile> {
        // NONBLOCK: a FIFO that took the name since the last look would hang us otherwise.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.dir, path, flags, Mode::empty()).map_err(no_file)?;
        let stat = fstat(&fd).map_err(no_file)?;
        if self.is_live(&stat) {
            // Closing it would drop SQLite's locks on that file in this process. It can be
            // reached only by a rename between look and open, so one descriptor is given up.
            std::mem::forget(fd);
            return Err(NoFile::Refused(Reason::LiveDatabase));
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(NoFile::Refused(Reason::Special));
        }
        Ok(OpenFile { file: File::from(fd), meta: Meta::of(&stat) })
    }

    /// The names in a folder, sorted by their bytes; `path` is empty for the root.
    ///
    /// `scratch` is what the system writes into; a walk keeps it from one folder to the next.
    pub(super) fn list(&self, path: &[u8], scratch: &mut Vec<u8>) -> Result<Listing, NoFile> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.dir, path, flags, Mode::empty()).map_err(no_file)?;
        let mut listing = Listing::default();
        scratch.clear();
        scratch.reserve(LIST_BYTES);
        let mut entries = RawDir::new(&fd, scratch.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(no_file)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                listing.push(name, entry.file_type());
            }
        }
        listing.sort();
        listing.dir = Some(fd);
        Ok(listing)
    }

    /// Where a link leads, if that is a regular file of this folder that archives may hold:
    /// its path inside the folder.
    pub(super) fn resolve(&self, path: &[u8]) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let base = std::fs::canonicalize(descriptor_path(&self.dir)).ok()?;
        let link = base.join(std::ffi::OsStr::from_bytes(path));
        let target = std::fs::canonicalize(link).ok()?;
        let inside = target.strip_prefix(&base).ok()?;
        let first = inside.components().next()?.as_os_str().to_str();
        // A name that is no text cannot be one of the excluded names.
        if first.is_some_and(|name| !is_archived(name)) {
            return None;
        }
        let inside = inside.as_os_str().as_bytes().to_vec();
        let (kind, stat) = self.look(&inside).ok()?;
        (kind == FileType::RegularFile && !self.is_live(&stat)).then_some(inside)
    }
}

impl Meta {
    /// From what the system says of a file.
    pub(super) fn of(stat: &Stat) -> Self {
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let modified = DateTime::from_timestamp(stat.st_mtime, nanoseconds);
        Self {
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified.unwrap_or(DateTime::UNIX_EPOCH),
            mode: stat.st_mode,
        }
    }
}

impl Listing {
    fn push(&mut self, name: &[u8], kind: FileType) {
        let looks = match kind {
            FileType::Directory => Looks::Folder,
            FileType::Unknown => Looks::Unknown,
            _ => Looks::Other,
        };
        // Names have at most 255 bytes; four gigabytes of names do not fit into one folder.
        let (Ok(begin), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            return;
        };
        self.names.extend_from_slice(name);
        self.entries.push((begin, length, looks));
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.entries.sort_unstable_by(|a, b| slice(names, a).cmp(slice(names, b)));
    }

    /// Lets the folder go; its entries are looked at by their whole paths then.
    pub(super) fn release(&mut self) {
        self.dir = None;
    }

    /// The name at `index`, and what it looks like.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], Looks)> {
        self.entries.get(index).map(|entry| (slice(&self.names, entry), entry.2))
    }
}

fn look_at(dir: &OwnedFd, path: &[u8]) -> Result<(FileType, Stat), NoFile> {
    let stat = statat(dir, path, AtFlags::SYMLINK_NOFOLLOW).map_err(no_file)?;
    Ok((FileType::from_raw_mode(stat.st_mode), stat))
}

fn slice<'a>(names: &'a [u8], entry: &(u32, u16, Looks)) -> &'a [u8] {
    let begin = entry.0 as usize;
    &names[begin..begin + usize::from(entry.1)]
}

/// A path that names an open folder, whatever it is called by now.
fn descriptor_path(dir: &OwnedFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", dir.as_raw_fd()).into()
}

fn no_file(error: Errno) -> NoFile {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::STALE => NoFile::Gone,
        // NOFOLLOW on a link, or too many links on the way.
        Errno::LOOP => NoFile::Refused(Reason::Symlink),
        Errno::NAMETOOLONG => NoFile::Refused(Reason::PathTooLong),
        // The answer for sockets and for devices without a driver.
        Errno::NXIO | Errno::NODEV => NoFile::Refused(Reason::Special),
        Errno::MFILE | Errno::NFILE => NoFile::NoDescriptor,
        error => NoFile::Refused(Reason::Unreadable(std::io::Error::from(error).to_string())),
    }
}
