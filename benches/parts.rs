//! The parts of the pipeline, one by one, with criterion: `cargo bench --bench parts`.
//!
//! What a part costs for each kind of data; `benches/archive` and `benches/versus` measure the
//! whole. `cargo test` runs every bench once, which keeps this program alive.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::expect_used, reason = "a bench that cannot run ends")]

use std::fs::File;
use std::io::{Cursor, Read, sink};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pocketvault::archive::{ExtractOptions, Limits, Reader, WriteOptions, write};
use pocketvault::auth::bootstrap;
use pocketvault::backup::{Content, Entry, EntryPath, Item, Items};
use pocketvault::clock::Clock;
use pocketvault::control::Control;
use pocketvault::data_dir::DataDir;
use pocketvault::error::Result;
use pocketvault::source::{Access, PocketBaseFolder};

/// Bytes of each kind but the tiny ones.
const BYTES: usize = 8 << 20;
/// Side-cars of uploads: many and small.
const TINY: usize = 2_000;

/// One kind of data, as the files it lies in.
struct Kind {
    name: &'static str,
    files: Vec<Vec<u8>>,
}

impl Kind {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    fn items(&self) -> InMemory<'_> {
        InMemory { files: &self.files, at: 0 }
    }
}

/// What shrinks well, what shrinks a little, what does not, and what is tiny.
fn kinds() -> [Kind; 4] {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 40
    };
    let rows = |random: &mut dyn FnMut() -> u64| -> Vec<u8> {
        let mut rows = String::with_capacity(BYTES + 200);
        while rows.len() < BYTES {
            let (id, views) = (random(), random() % 1000);
            rows.push_str(&format!(
                "{{\"id\":\"{id:015x}\",\"title\":\"post\",\"views\":{views}}}\n"
            ));
        }
        rows.into_bytes()
    };
    let rows = rows(&mut random);
    let noise: Vec<u8> = (0..BYTES).map(|_| random() as u8).collect();
    // Half of each page is content and half is empty, as in a database that has lived.
    let pages = rows
        .chunks(2048)
        .zip(noise.chunks(512))
        .flat_map(|(text, odd)| [text, odd, &[0; 1536][..]].concat());
    let pages: Vec<u8> = pages.take(BYTES).collect();
    let tiny = (0..TINY).map(|n| format!("{{\"user.content_type\":\"image/jpeg\",\"n\":{n}}}"));
    [
        Kind { name: "pages", files: vec![pages] },
        Kind { name: "text", files: rows.chunks(100_000).map(<[u8]>::to_vec).collect() },
        Kind { name: "packed", files: noise.chunks(200_000).map(<[u8]>::to_vec).collect() },
        Kind { name: "tiny", files: tiny.map(String::into_bytes).collect() },
    ]
}

struct InMemory<'a> {
    files: &'a [Vec<u8>],
    at: usize,
}

struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn open(self: Box<Self>) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(Cursor::new(self.0))))
    }
}

impl Items for InMemory<'_> {
    fn next(&mut self) -> Result<Option<Item>> {
        let Some(file) = self.files.get(self.at) else { return Ok(None) };
        let name = format!("storage/{:08}", self.at);
        self.at += 1;
        let entry = Entry {
            path: EntryPath::parse(name.into_bytes())?,
            size_bytes: file.len() as u64,
            modified: DateTime::<Utc>::UNIX_EPOCH,
            mode: 0o100_644,
        };
        Ok(Some(Item { entry, content: Box::new(Bytes(file.clone())) }))
    }
}

fn writing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    for kind in kinds() {
        group.throughput(Throughput::Bytes(kind.bytes()));
        group.bench_function(kind.name, |bencher| {
            bencher.iter(|| {
                write(&mut kind.items(), sink(), &WriteOptions::default(), &Control::default())
                    .expect("written")
            });
        });
    }
    group.finish();
}

fn archive(kind: &Kind, at: &Path) -> Reader {
    let file = File::create(at).expect("a file");
    write(&mut kind.items(), file, &WriteOptions::default(), &Control::default()).expect("written");
    Reader::open(at, &Limits::default()).expect("an archive")
}

fn reading(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("read");
    for kind in kinds() {
        let reader = archive(&kind, &home.path().join(kind.name));
        group.throughput(Throughput::Bytes(kind.bytes()));
        group.bench_function(format!("verify {}", kind.name), |bencher| {
            bencher.iter(|| reader.verify(None, &Control::default()).expect("sound"));
        });
        group.bench_function(format!("extract {}", kind.name), |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(home.path()).expect("a folder"),
                |target| {
                    let options = ExtractOptions::default();
                    reader
                        .extract(target.path(), &options, &Control::default())
                        .expect("extracted");
                    target
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn snapshots(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a folder");
    let data = DataDir::new(home.path().join("pb_data"), None);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(bootstrap::create(data.root(), &Clock::system())).expect("a pb_data");
    let uploads = data.root().join("storage/c/r");
    std::fs::create_dir_all(&uploads).expect("made");
    for n in 0..500 {
        std::fs::write(uploads.join(format!("{n}.txt")), vec![b'x'; 2_000]).expect("written");
    }
    let source = PocketBaseFolder::new(data, Access::Owned);
    criterion.bench_function("snapshot, read to the end", |bencher| {
        bencher.iter(|| {
            let mut snapshot = source.pin(&Control::default()).expect("pinned");
            let mut bytes = 0;
            while let Some(item) = snapshot.next().expect("an item") {
                let content = item.content.open().expect("opened");
                bytes += content.map_or(0, |mut content| {
                    std::io::copy(&mut content, &mut sink()).expect("read")
                });
            }
            bytes
        });
    });
}

criterion_group! {
    name = parts;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = writing, reading, snapshots
}
criterion_main!(parts);
