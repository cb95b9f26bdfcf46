//! Measures the archive engine on a folder: write, verify, extract.
//!
//! `cargo bench --bench archive -- FOLDER [--threads N] [--level N] [--rounds N] [--keep FILE]
//! [--write-only]`; without a folder it makes a small one, which keeps this program alive in CI.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use chrono::DateTime;
use pocketvault::archive::{ExtractOptions, Limits, Reader, WriteOptions, write};
use pocketvault::backup::{Content, Entry, EntryPath, Item, Items};
use pocketvault::control::Control;

/// What to measure.
struct Arguments {
    folder: Option<PathBuf>,
    options: WriteOptions,
    rounds: u32,
    keep: Option<PathBuf>,
    write_only: bool,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let scratch = tempfile::tempdir()?;
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => sample(&scratch.path().join("sample"))?,
    };
    for _ in 0..arguments.rounds {
        round(&folder, scratch.path(), &arguments)?;
    }
    Ok(())
}

fn round(folder: &Path, scratch: &Path, arguments: &Arguments) -> Result<()> {
    let own = scratch.join("bench.zip");
    let archive = arguments.keep.as_ref().unwrap_or(&own);
    let control = Control::default();
    let idle = peak_mib();

    let clock = Clock::start();
    let mut tree = Tree { root: folder.to_owned(), pending: vec![folder.to_owned()] };
    let summary = write(&mut tree, File::create(archive)?, &arguments.options, &control)?;
    clock.report("write", summary.bytes_in);
    println!(
        "        {} entries, {} skipped, {:.1} MB packed ({:.3}), peak {} MiB above idle",
        summary.entries,
        summary.skipped.len(),
        summary.bytes_out as f64 / 1e6,
        summary.bytes_out as f64 / summary.bytes_in.max(1) as f64,
        peak_mib().saturating_sub(idle),
    );
    if arguments.write_only {
        return Ok(());
    }

    let clock = Clock::start();
    let reader = Reader::open(archive, &Limits::default())?;
    clock.report("open", summary.bytes_in);
    let clock = Clock::start();
    let verified = reader.verify(arguments.options.threads, &control)?;
    clock.report("verify", verified.bytes);

    let target = scratch.join("extracted");
    let clock = Clock::start();
    let options = ExtractOptions { threads: arguments.options.threads };
    let extracted = reader.extract(&target, &options, &control)?;
    clock.report("extract", extracted.bytes);
    fs::remove_dir_all(&target)?;
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments {
        folder: None,
        options: WriteOptions::default(),
        rounds: 1,
        keep: None,
        write_only: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--bench" => {}
            "--threads" => arguments.options.threads = Some(value()?.parse::<NonZeroUsize>()?),
            "--level" => arguments.options.level = Some(value()?.parse()?),
            "--rounds" => arguments.rounds = value()?.parse()?,
            "--write-only" => arguments.write_only = true,
            "--keep" => arguments.keep = Some(value()?.into()),
            _ => arguments.folder = Some(word.into()),
        }
    }
    Ok(arguments)
}

/// Wall time and CPU time (user, system) since its start.
struct Clock(Instant, [f64; 2]);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn report(&self, what: &str, bytes: u64) {
        let seconds = self.0.elapsed().as_secs_f64();
        let megabytes = bytes as f64 / 1e6;
        let [user, system] = cpu_seconds();
        println!(
            "{what:8} {seconds:7.3} s  CPU {:6.2} s user {:6.2} s system  {:8.1} MB/s of {:.1} MB",
            user - self.1[0],
            system - self.1[1],
            megabytes / seconds,
            megabytes,
        );
    }
}

fn cpu_seconds() -> [f64; 2] {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|t| t.parse::<f64>().ok());
    // Ticks, of which Linux shows 100 per second.
    [11, 12].map(|at| ticks(at).unwrap_or(0.0) / 100.0)
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Walks a folder in byte order, depth first.
struct Tree {
    root: PathBuf,
    pending: Vec<PathBuf>,
}

/// A file, opened when its turn comes.
struct OnDisk(PathBuf);

impl Content for OnDisk {
    fn open(self: Box<Self>) -> pocketvault::error::Result<Option<Box<dyn Read + Send>>> {
        Ok(File::open(self.0).ok().map(|file| Box::new(file) as Box<dyn Read + Send>))
    }
}

impl Items for Tree {
    fn next(&mut self) -> pocketvault::error::Result<Option<Item>> {
        while let Some(path) = self.pending.pop() {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() {
                let listed = fs::read_dir(&path).into_iter().flatten().flatten();
                let mut children: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
                children.sort_unstable_by(|a, b| b.as_os_str().cmp(a.as_os_str()));
                self.pending.extend(children);
            } else if meta.is_file() {
                let name = path.strip_prefix(&self.root).unwrap_or(&path);
                let entry = Entry {
                    path: EntryPath::parse(name.as_os_str().as_bytes())?,
                    size_bytes: meta.len(),
                    modified: DateTime::from_timestamp(meta.mtime(), 0).unwrap_or_default(),
                    mode: meta.mode(),
                };
                return Ok(Some(Item { entry, content: Box::new(OnDisk(path)) }));
            }
        }
        Ok(None)
    }
}

/// A small tree of every kind: text that shrinks, bytes that do not, many tiny files.
fn sample(root: &Path) -> Result<PathBuf> {
    fs::create_dir_all(root.join("storage"))?;
    let mut state = 1u64;
    let mut noise = vec![0u8; 4 << 20];
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    fs::write(root.join("storage/picture.jpg"), &noise)?;
    let mut text = File::create(root.join("data.db"))?;
    for n in 0..200_000u32 {
        writeln!(
            text,
            "row {n} holds the number {} and some words",
            n.wrapping_mul(2_654_435_761)
        )?;
    }
    for n in 0..2_000 {
        fs::write(root.join(format!("storage/{n}.txt")), format!("file number {n}\n").repeat(50))?;
    }
    Ok(root.to_owned())
}
