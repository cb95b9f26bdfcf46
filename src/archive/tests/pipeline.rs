//! The writing pipeline under everything that can go wrong.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::archive::pipeline::{BLOCK_BYTES, SMALL_BYTES_MAX, window};
use crate::archive::tests::{Given, Source, archived, entry, noise, opened, source};
use crate::archive::{Limits, Summary, WriteOptions, write};
use crate::backup::{Content, Item};
use crate::control::Control;
use crate::error::{Error, Kind, Result};

/// Content made by a function.
struct Made<F>(F);

impl<F> Content for Made<F>
where
    F: FnOnce() -> Result<Option<Box<dyn Read + Send>>> + Send,
{
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        (self.0)()
    }
}

fn made(
    path: &str,
    size_bytes: u64,
    open: impl FnOnce() -> Result<Option<Box<dyn Read + Send>>> + Send + 'static,
) -> Item {
    Item { entry: entry(path.as_bytes(), size_bytes), content: Box::new(Made(open)) }
}

fn run(items: Vec<Result<Item>>, sink: impl Write, control: &Control) -> Result<Summary> {
    write(&mut Source(items.into_iter()), sink, &WriteOptions::default(), control)
}

/// Gives bytes, then fails.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.0);
        if n == 0 {
            return Err(io::Error::other("the disk has gone"));
        }
        out[..n].fill(b'x');
        self.0 -= n;
        Ok(n)
    }
}

/// Takes so many bytes.
struct Narrow(usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LARGE: u64 = 5 * BLOCK_BYTES as u64;

fn filler(n: usize) -> Vec<Result<Item>> {
    (0..n)
        .map(|n| Ok(made(&format!("f{n}"), 9, || Ok(Some(Box::new(&b"something"[..]))))))
        .collect()
}

#[test]
fn every_failure_ends_the_write_with_its_own_error() {
    let zeros = || made("zeros", LARGE, || Ok(Some(Box::new(io::repeat(0).take(LARGE)))));
    let fails =
        |size: u64, after: usize| made("bad", size, move || Ok(Some(Box::new(Failing(after)))));
    let refuses = |size: u64| made("bad", size, || Err(Error::new(Kind::Unavailable, "refused")));
    let panics = |size: u64| made("bad", size, || panic!("a test's own panic"));
    let cases: Vec<(&str, Result<Item>, Kind, &str)> = vec![
        ("a small read", Ok(fails(10, 5)), Kind::Internal, "cannot read bad: the disk has gone"),
        ("a large read", Ok(fails(LARGE, 3_000_000)), Kind::Internal, "cannot read bad"),
        ("a small open", Ok(refuses(10)), Kind::Unavailable, "cannot open bad: refused"),
        ("a large open", Ok(refuses(LARGE)), Kind::Unavailable, "cannot open bad: refused"),
        ("a small panic", Ok(panics(10)), Kind::Internal, "panicked"),
        ("a large panic", Ok(panics(LARGE)), Kind::Internal, "panicked"),
        ("the items", Err(Error::new(Kind::NotFound, "no list")), Kind::NotFound, "no list"),
    ];
    for (what, bad, kind, message) in cases {
        let mut items = filler(600);
        items.push(Ok(zeros()));
        items.push(bad);
        items.extend(filler(600).into_iter().skip(600));
        let error = run(items, io::sink(), &Control::default()).expect_err(what);
        assert_eq!(error.kind(), &kind, "{what}: {error:?}");
        assert!(error.full().contains(message), "{what}: {error:?}");
    }
}

#[test]
fn a_full_disk_is_no_space_wherever_it_happens() {
    let (whole, _) = archived(vec![Given::new(&b"a"[..], noise(3 << 20, 1))]);
    for room in (0..whole.len()).step_by(whole.len() / 20) {
        let mut items = source(vec![Given::new(&b"a"[..], noise(3 << 20, 1))]);
        let options = WriteOptions::default();
        let error =
            write(&mut items, Narrow(room), &options, &Control::default()).expect_err("no room");
        assert_eq!(error.kind(), &Kind::NoSpace, "{room} bytes: {error:?}");
    }
}

#[test]
fn two_entries_of_one_name_are_an_error() {
    let mut items = filler(300);
    items.extend(filler(1));
    let error = run(items, io::sink(), &Control::default()).expect_err("twice");
    assert!(error.full().contains("two entries are named \"f0\""), "{error:?}");
}

#[test]
fn a_cancel_ends_it_within_a_second_and_progress_is_told() {
    for size in [10, u64::MAX] {
        let control = Control::default();
        let remote = control.clone();
        let endless = (0u64..).map(move |n| {
            if n == 500 || size > 10 {
                remote.cancel();
            }
            // Endless as well, for the large one.
            let content = io::repeat(b'z').take(size);
            Ok(made(&format!("{n}"), size, move || Ok(Some(Box::new(content)))))
        });
        let begun = Instant::now();
        let options = WriteOptions::default();
        let error = write(&mut Source(endless), io::sink(), &options, &control).expect_err("never");
        assert_eq!(error.kind(), &Kind::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let control = Control::default();
    let summary = run(filler(1000), io::sink(), &control).expect("written");
    assert_eq!(control.progress().entries, 1000);
    assert_eq!(control.progress().bytes, summary.bytes_in);
}

#[test]
fn vanished_entries_are_skipped_and_listed_in_order() {
    let gone = |path: &str, size| Ok(made(path, size, || Ok(None)));
    let mut items = vec![gone("a", 1), gone("b", LARGE)];
    items.extend(filler(3));
    items.push(gone("z", 5));
    let long = "n".repeat(70_000);
    items.push(Ok(made(&long, 1, || panic!("never opened"))));
    let summary = run(items, io::sink(), &Control::default()).expect("written");
    let names: Vec<_> = summary.skipped.iter().map(|s| s.path.to_string()).collect();
    assert_eq!(names, ["a", "b", "z", &long]);
    assert_eq!(summary.entries, 3);
    assert!(summary.skipped[0].reason.contains("vanished"));
    assert!(summary.skipped[3].reason.contains("longer than"));
}

#[test]
fn what_was_read_is_archived_whatever_was_listed() {
    let sizes = [0, 1, 1000, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, BLOCK_BYTES, 3 * BLOCK_BYTES];
    let mut given = Vec::new();
    for real in sizes {
        for listed in sizes {
            let data = if listed % 2 == 0 { noise(real, 5) } else { vec![b'a'; real] };
            let name = format!("{real} listed as {listed}");
            given.push(Given { listed: Some(listed as u64), ..Given::new(name, data) });
        }
    }
    let (bytes, summary) = archived(given.clone());
    assert_eq!(summary.entries, given.len() as u64);
    let reader = opened(&bytes, &Limits::default()).expect("opened");
    for (entry, given) in reader.entries().iter().zip(&given) {
        assert_eq!(entry.name(), given.path, "in the order of the items");
        let mut data = Vec::new();
        reader.open_entry(entry).expect("opened").read_to_end(&mut data).expect("read");
        assert!(data == given.data, "{}", String::from_utf8_lossy(&given.path));
    }
}

#[test]
fn no_more_jobs_exist_than_the_window_has_places() {
    // The sink never takes anything, so whatever is read piles up in the pipeline.
    struct Stuck;
    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(300));
            Err(io::Error::other("stuck"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let read = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    struct Counted(Arc<AtomicUsize>);
    impl Read for Counted {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            out.fill(1);
            self.0.fetch_add(out.len(), Ordering::SeqCst);
            Ok(out.len())
        }
    }
    let items = vec![Ok(made("endless", u64::MAX, move || {
        Ok(Some(Box::new(Counted(counter)) as Box<dyn Read + Send>))
    }))];
    let threads = 3;
    let options = WriteOptions { threads: NonZeroUsize::new(threads), ..WriteOptions::default() };
    write(&mut Source(items.into_iter()), Stuck, &options, &Control::default()).expect_err("stuck");
    // The queue, the job at the writer, and the block the feeder wants to hand over.
    let most = (window(threads) + 2) * BLOCK_BYTES;
    let read = read.load(Ordering::SeqCst);
    assert!((BLOCK_BYTES..=most).contains(&read), "{read} bytes of at most {most}");
    // The documented bound: all places full of input, and as much again being compressed.
    assert!((window(12) + 12) * BLOCK_BYTES <= 32 << 20);
}
