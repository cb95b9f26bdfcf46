//! One archive and all that is asked of the reader about it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pocketvault::archive::{ExtractOptions, Limits, Reader, TailProbe};
use pocketvault::control::Control;
use pocketvault::error::{Kind, Result};
use tempfile::TempDir;

use crate::memory;

/// Longer than any of these small archives may take.
const CASE_LIMIT: Duration = Duration::from_secs(20);
/// What two threads of an extraction hold at most, whatever an archive claims: their buffers,
/// and the block that large files are written in.
const MEMORY_BYTES: usize = 24 << 20;
/// And for each byte of the archive: its directory is held, and the tail that is watched.
const MEMORY_PER_BYTE: usize = 16;

/// How far an archive came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused,
    Opened,
    Verified,
    Extracted,
}

/// How often each verdict was.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    refused: u64,
    opened: u64,
    verified: u64,
    extracted: u64,
}

impl Outcomes {
    pub(crate) fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Refused => &mut self.refused,
            Verdict::Opened => &mut self.opened,
            Verdict::Verified => &mut self.verified,
            Verdict::Extracted => &mut self.extracted,
        } += 1;
    }

    /// Whether every door was tried.
    pub(crate) fn are_mixed(&self) -> bool {
        self.refused.min(self.opened).min(self.verified).min(self.extracted) > 0
    }
}

/// Ends the process, saying why, when a case does not end.
pub(crate) struct Watchdog(Arc<Mutex<Option<(u64, Instant)>>>);

impl Watchdog {
    pub(crate) fn start() -> Self {
        let current = Arc::new(Mutex::new(None::<(u64, Instant)>));
        let watched = Arc::downgrade(&current);
        thread::spawn(move || {
            while let Some(current) = watched.upgrade() {
                let late = *current.lock().expect("not poisoned");
                if let Some((number, _)) = late.filter(|(_, begun)| begun.elapsed() > CASE_LIMIT) {
                    let _ = writeln!(std::io::stderr(), "case {number} hangs");
                    std::process::abort();
                }
                drop(current);
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self(current)
    }
}

/// An archive under examination.
pub(crate) struct Case<'a> {
    number: u64,
    archive: &'a [u8],
    watchdog: &'a Watchdog,
    scratch: TempDir,
}

impl<'a> Case<'a> {
    pub(crate) fn begin(number: u64, archive: &'a [u8], watchdog: &'a Watchdog) -> Self {
        *watchdog.0.lock().expect("not poisoned") = Some((number, Instant::now()));
        // In memory where that is possible: every extraction syncs.
        let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let scratch = scratch.expect("a folder");
        fs::write(scratch.path().join("a.zip"), archive).expect("written");
        fs::create_dir(scratch.path().join("beside")).expect("made");
        fs::write(scratch.path().join("beside/canary"), b"canary").expect("written");
        Self { number, archive, watchdog, scratch }
    }

    /// Asks everything; panics when an answer is wrong.
    pub(crate) fn judge(&self) -> Verdict {
        let mark = memory::mark();
        self.watch_it_pass();
        let verdict = self.read();
        let bound = MEMORY_BYTES + MEMORY_PER_BYTE * self.archive.len();
        let peak = memory::peak_since(mark);
        assert!(peak <= bound, "{peak} bytes of memory for {} bytes", self.archive.len());
        assert_eq!(names(self.scratch.path()), ["a.zip", "beside", "target"][..self.own()]);
        assert_eq!(names(&self.scratch.path().join("beside")), ["canary"]);
        let canary = fs::read(self.scratch.path().join("beside/canary")).expect("read");
        assert_eq!(canary, b"canary");
        assert!(!Path::new("/tmp/pocketvault-escaped").exists(), "it got out");
        verdict
    }

    /// How many names belong into the scratch folder.
    fn own(&self) -> usize {
        if self.scratch.path().join("target").exists() { 3 } else { 2 }
    }

    /// An upload is judged by its tail; any verdict is fine, in any pieces.
    fn watch_it_pass(&self) {
        let mut verdicts = [701, 1 << 20].map(|piece| {
            let mut probe = TailProbe::default();
            for block in self.archive.chunks(piece) {
                probe.push(Bytes::copy_from_slice(block));
            }
            probe.finish().is_ok()
        });
        verdicts.sort_unstable();
        assert_eq!(verdicts[0], verdicts[1], "the verdict depends on the pieces");
    }

    fn read(&self) -> Verdict {
        let path = self.scratch.path().join("a.zip");
        let Some(reader) = sound(Reader::open(&path, &Limits::default())) else {
            return Verdict::Refused;
        };
        let control = Control::default();
        let verified = sound(reader.verify(None, &control)).is_some();
        assert_eq!(verified, read_in_pieces(&reader), "the verdict depends on the buffer");
        let target = self.scratch.path().join("target");
        let extracted = sound(reader.extract(&target, &ExtractOptions::default(), &control));
        let files = if target.exists() { regular_files(&target) } else { Vec::new() };
        let Some(extracted) = extracted else {
            return if verified { Verdict::Verified } else { Verdict::Opened };
        };
        assert_eq!(extracted.files, files.len() as u64);
        self.compare(&reader, &target);
        if verified { Verdict::Extracted } else { Verdict::Opened }
    }

    /// What was extracted is, to the byte, what the directory promises.
    fn compare(&self, reader: &Reader, target: &Path) {
        use std::os::unix::ffi::OsStrExt;
        for entry in reader.entries() {
            let Some(path) = entry.path() else { panic!("an entry without a path was extracted") };
            let path = target.join(std::ffi::OsStr::from_bytes(&path));
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let last = reader.find(&entry.path().expect("a path")).expect("found");
            if !found.is_file() || !std::ptr::eq(last, entry) {
                continue;
            }
            let bytes = fs::read(&path).expect("read");
            assert_eq!(bytes.len() as u64, entry.size_bytes(), "{}", path.display());
            assert_eq!(crc32fast::hash(&bytes), entry.crc32(), "{}", path.display());
        }
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        *self.watchdog.0.lock().expect("not poisoned") = None;
        if thread::panicking() {
            let kept: PathBuf =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}.zip", self.number));
            let _ = fs::write(&kept, self.archive);
            let mut out = std::io::stderr();
            let _ = writeln!(out, "case {} failed, its archive: {}", self.number, kept.display());
        }
    }
}

/// The result, or nothing when the archive was refused. The only reason is the archive itself:
/// no fault of ours, no panic of a thread.
fn sound<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| assert_eq!(error.kind(), &Kind::Corrupt, "{error:?}")).ok()
}

/// Reads every entry that is no folder, in pieces that fit nothing.
fn read_in_pieces(reader: &Reader) -> bool {
    reader.entries().iter().filter(|entry| !entry.is_folder()).all(|entry| {
        let Some(mut content) = sound(reader.open_entry(entry)) else { return false };
        let mut piece = [0; 4_093];
        loop {
            match content.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    })
}

fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).expect("listed");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("listed").file_name();
    let mut names: Vec<_> =
        listed.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// All files of a tree, which holds nothing but files with one name and folders.
fn regular_files(root: &Path) -> Vec<PathBuf> {
    let (mut pending, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            let found = fs::symlink_metadata(&path).expect("examined");
            if found.is_dir() {
                pending.push(path);
                continue;
            }
            assert!(found.is_file() && found.nlink() == 1, "{}", path.display());
            assert_eq!(found.mode() & 0o7000, 0, "{}", path.display());
            files.push(path);
        }
    }
    files
}
