//! Any order of creates, deletes and rewrites while a backup is read, step by step: uploads
//! before the commit that names them, removals after the commit that forgets them, many such
//! changes under way at once, and the reader as far as chance lets it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::Access;
use super::super::sqlite::raw::Connection;
use super::agree::{check, remove, tables_in, upload};
use super::support::{Archive, Folder, aloud};
use crate::backup::{Item, Items};
use crate::control::Control;

/// Orders that are tried.
const CASES: u64 = 200;
/// Changes that are under way at once.
const UNDER_WAY_MAX: usize = 6;

/// One step of a change; what stands between two of them is what a crash would leave.
enum Step {
    Upload(String),
    Commit(String),
    Remove(String),
    /// The record may be changed again, and by now has these files.
    Done(u32, Vec<u32>),
}

/// An application whose changes stand still until they are told to go on.
struct Application {
    folder: Folder,
    writer: Connection,
    rng: StdRng,
    /// Records that nothing is under way for, and the numbers of their files.
    living: BTreeMap<u32, Vec<u32>>,
    under_way: Vec<VecDeque<Step>>,
    last: u32,
}

fn file(record: u32, n: u32) -> String {
    format!("c1/r{record}/f{n}.png")
}

/// The first file is in a field of its own, the others are in a list.
fn columns(files: &[u32]) -> (String, String) {
    let names: Vec<String> = files.iter().map(|n| format!("f{n}.png")).collect();
    let one = names.first().cloned().unwrap_or_default();
    let many: Vec<String> = names.iter().skip(1).map(|name| format!("\"{name}\"")).collect();
    (one, format!("[{}]", many.join(",")))
}

impl Application {
    fn new(seed: u64) -> Self {
        let folder = Folder::in_memory();
        let writer = tables_in(&folder);
        let rng = StdRng::seed_from_u64(seed);
        Self { folder, writer, rng, living: BTreeMap::new(), under_way: Vec::new(), last: 0 }
    }

    fn fresh(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// Lets chance do up to so many steps.
    fn go_on(&mut self, steps_max: u32) {
        for _ in 0..self.rng.random_range(0..=steps_max) {
            let new = self.under_way.len() < UNDER_WAY_MAX && self.rng.random_bool(0.4);
            if new || self.under_way.is_empty() {
                let change = self.change();
                self.under_way.push(change);
            }
            let at = self.rng.random_range(0..self.under_way.len());
            let Some(step) = self.under_way[at].pop_front() else { continue };
            self.act(step);
            self.under_way.retain(|steps| !steps.is_empty());
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Upload(path) => upload(self.folder.root(), &path),
            Step::Commit(sql) => self.writer.exec(&sql).expect("written"),
            Step::Remove(path) => remove(self.folder.root(), &path),
            Step::Done(record, files) => drop(self.living.insert(record, files)),
        }
    }

    /// A new record, the end of one, or other files for one.
    fn change(&mut self) -> VecDeque<Step> {
        let kind = self.rng.random_range(0..3);
        let at = self.rng.random_range(0..self.living.len().max(1));
        let chosen = self.living.keys().nth(at).copied().filter(|_| kind > 0);
        let added = self.rng.random_range(1..4);
        let new: Vec<u32> = (0..added).map(|_| self.fresh()).collect();
        let Some(record) = chosen else {
            let record = self.fresh();
            let (one, many) = columns(&new);
            let sql = format!(
                "INSERT INTO posts (id, one, many) VALUES ('r{record}', '{one}', '{many}')"
            );
            return steps(record, &new, sql, &[], Some(new.clone()));
        };
        let old = self.living.remove(&record).expect("a living record");
        if kind == 1 {
            let sql = format!("DELETE FROM posts WHERE id = 'r{record}'");
            return steps(record, &[], sql, &old, None);
        }
        // Some files stay, in any order with the new ones.
        let (kept, gone): (Vec<u32>, Vec<u32>) =
            old.iter().partition(|_| self.rng.random_bool(0.5));
        let mut files = kept;
        for n in &new {
            files.insert(self.rng.random_range(0..=files.len()), *n);
        }
        let (one, many) = columns(&files);
        let sql = format!("UPDATE posts SET one = '{one}', many = '{many}' WHERE id = 'r{record}'");
        steps(record, &new, sql, &gone, Some(files))
    }

    /// Reads a backup as an archive does that opens what it has queued in any order.
    fn back_up(&mut self) -> Archive {
        let access = [Access::ReadOnly, Access::Owned][self.rng.random_range(0..2)];
        let queue_max = [1, 3, 30][self.rng.random_range(0..3)];
        let pace = [1, 2, 8][self.rng.random_range(0..3)];
        let source = self.folder.source(access);
        let mut snapshot = source.pin(&Control::default()).expect("a snapshot");
        let (mut archive, mut queue) = (Archive::new(), Vec::<Item>::new());
        let mut more = true;
        while more || !queue.is_empty() {
            self.go_on(pace);
            if more && queue.len() < queue_max {
                match snapshot.next().expect("an item") {
                    Some(item) => queue.push(item),
                    None => more = false,
                }
                continue;
            }
            if !queue.is_empty() {
                let at = self.rng.random_range(0..queue.len());
                let item = queue.swap_remove(at);
                self.take(item, pace, &mut archive);
            }
        }
        assert_eq!(snapshot.skipped(), []);
        archive
    }

    fn take(&mut self, item: Item, pace: u32, archive: &mut Archive) {
        let path = String::from_utf8_lossy(item.entry.path.as_bytes()).into_owned();
        let Some(mut content) = item.content.open().expect("opened") else { return };
        let (mut bytes, mut piece) = (Vec::new(), [0; 20_000]);
        loop {
            self.go_on(pace);
            match content.read(&mut piece).expect("read") {
                0 => break,
                n => bytes.extend_from_slice(&piece[..n]),
            }
        }
        assert!(archive.insert(path.clone(), bytes).is_none(), "{path} came twice");
    }
}

fn steps(
    record: u32,
    uploads: &[u32],
    sql: String,
    removals: &[u32],
    files: Option<Vec<u32>>,
) -> VecDeque<Step> {
    let mut steps: VecDeque<Step> =
        uploads.iter().map(|n| Step::Upload(file(record, *n))).collect();
    steps.push_back(Step::Commit(sql));
    steps.extend(removals.iter().map(|n| Step::Remove(file(record, *n))));
    steps.extend(files.map(|files| Step::Done(record, files)));
    steps
}

/// Says which order failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            aloud(&format!("failed: order {0}; POCKETVAULT_SEED={0} tries it alone", self.0));
        }
    }
}

#[test]
fn any_order_of_changes_leaves_every_named_file_in_the_backup() {
    let asked = std::env::var("POCKETVAULT_SEED").ok().map(|seed| seed.parse().expect("a seed"));
    let first: u64 = asked.unwrap_or_else(|| rand::rng().random());
    let cases = if asked.is_some() { 1 } else { CASES };
    let mut named = 0;
    for seed in (0..cases).map(|n| first.wrapping_add(n)) {
        let _named = Named(seed);
        let mut application = Application::new(seed);
        application.go_on(120);
        named += check(&application.back_up());
    }
    assert!(asked.is_some() || named > 1_000, "{named} names in {cases} backups");
}
