//! Any tree of files, archived by us, is the same tree for ours, Go, Python, Info-ZIP, 7-Zip and
//! Java. The trees follow from a number that a failure names; `POCKETVAULT_SEED` plays it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use pocketvault::archive::{ExtractOptions, Limits, Reader, WriteOptions, write};
use pocketvault::backup::{Content, Entry, EntryPath, Item, Items};
use pocketvault::control::Control;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use crate::server::scratch;
use crate::tools;

/// Trees that every tool can extract to a disk, and trees that only a library can read.
const TREES: usize = 12;
const FILES_MAX: usize = 12;
/// Names that every tool here can spell: all scripts, one to four bytes a letter, marks that
/// combine, and what shells and globs would stumble over. No `;`: Info-ZIP takes one at the end
/// for the version of a file on VMS.
const LETTERS: &[&str] = &[
    "a",
    "Z",
    "7",
    "é",
    "e\u{301}",
    "ß",
    "Ω",
    "я",
    "ى",
    "ש",
    "क्ष",
    "ไทย",
    "漢",
    "か",
    "한",
    "ạ̈",
    "𝒳",
    "👩‍🚀",
    " ",
    ".",
    "-",
    "_",
    "'",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "$",
    "&",
    "#",
    "%",
    "+",
    "=",
    "@",
    "!",
    ",",
    "~",
    "^",
];
/// What a file name may hold as well.
const ODD_BYTES: &[u8] = b"\x01\x07\n\t\x1b\\:*?\"<>|\x7f\x80\xa4\xc3\xfe\xff az";
/// Sizes beside the limits of blocks, batches and buffers.
const SIZES: [usize; 20] = [
    0, 0, 1, 2, 100, 4_095, 4_096, 4_097, 32_767, 32_768, 65_535, 65_536, 131_071, 262_145,
    524_287, 524_288, 524_289, 1_048_575, 1_048_577, 2_097_153,
];

type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn any_tree_is_the_same_tree_for_everybody() {
    let proof = Proof::new("plain");
    let trees: Vec<Tree> = (0..TREES).map(|n| proof.tree(n, plain_part, 12, 900)).collect();
    let archives = proof.archive(&trees);
    let expected: Vec<String> = trees.iter().map(listing).collect();
    ours(&proof, &archives, &expected);
    libraries(&archives, &expected);
    for tool in extractors() {
        let out = proof.folder(tool.name);
        for (archive, expected) in archives.iter().zip(&expected).take(tool.archives) {
            let target = out.join(archive.file_stem().expect("a name"));
            fs::create_dir_all(&target).expect("made");
            let [archive, out, text] =
                [archive, &out, &target].map(|path| path.to_string_lossy().into_owned());
            run(&tool.command, &(tool.arguments)(&archive, &out, &text), &target);
            let found = listing(&read_tree(&target));
            assert!(&found == expected, "{}, seed {}:\n{found}", tool.name, proof.seed);
        }
    }
    are_sound(&archives);
}

/// The tools' own checks find nothing.
fn are_sound(archives: &[PathBuf]) {
    let unzip = tools::installed("unzip", "-v");
    let seven = tools::installed("7zz", "i");
    for archive in archives {
        let path = archive.to_string_lossy();
        let folder = archive.parent().expect("a folder");
        if let Some(command) = &unzip {
            let said = run(command, &words(&["-t", &path]), folder);
            assert!(said.contains("No errors detected"), "{said}");
        }
        if let Some(command) = &seven {
            let said = run(command, &words(&["t", &path]), folder);
            assert!(said.contains("Everything is Ok"), "{said}");
        }
    }
}

#[test]
fn names_of_any_bytes_and_paths_of_4096_come_through() {
    let proof = Proof::new("odd");
    let mut trees: Vec<Tree> = (0..TREES / 2).map(|n| proof.tree(n, odd_part, 60, 4_000)).collect();
    // The longest path there can be, and the longest name.
    let longest = [&b"folder-of-16-by/".repeat(255)[..], b"sixteen-bytes.db"].concat();
    assert_eq!(longest.len(), 4_096);
    let widest = "日".repeat(85).into_bytes();
    trees.push(Tree::from([(longest, b"deep".to_vec()), (widest, b"wide".to_vec())]));
    let archives = proof.archive(&trees);
    let expected: Vec<String> = trees.iter().map(listing).collect();
    ours(&proof, &archives, &expected);
    libraries(&archives, &expected);
    // Info-ZIP cannot hold the longest path in one piece.
    are_sound(&archives[..TREES / 2]);
}

/// One run: where it works and what it follows from.
struct Proof {
    seed: u64,
    scratch: tempfile::TempDir,
}

impl Proof {
    fn new(what: &str) -> Self {
        let asked = std::env::var("POCKETVAULT_SEED").ok();
        let seed = asked.map_or_else(|| rand::rng().random(), |seed| seed.parse().expect("a seed"));
        let _ = writeln!(std::io::stderr(), "{what} trees: POCKETVAULT_SEED={seed}");
        Self { seed, scratch: scratch() }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::create_dir_all(&path).expect("made");
        path
    }

    /// A tree in which no file is a folder as well.
    fn tree(&self, n: usize, part: fn(&mut StdRng) -> Vec<u8>, depth: usize, most: usize) -> Tree {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(n as u64));
        let mut tree = Tree::new();
        for _ in 0..rng.random_range(1..=FILES_MAX) {
            let mut path: Vec<u8> = part(&mut rng);
            for _ in 1..rng.random_range(1..=depth) {
                let next = part(&mut rng);
                if path.len() + 1 + next.len() <= most {
                    path = [&path[..], b"/", &next].concat();
                }
            }
            let below = |a: &[u8], b: &[u8]| a.starts_with(b) && a.get(b.len()) == Some(&b'/');
            if tree.keys().all(|other| !below(other, &path) && !below(&path, other)) {
                tree.insert(path, content(&mut rng));
            }
        }
        tree
    }

    fn archive(&self, trees: &[Tree]) -> Vec<PathBuf> {
        let folder = self.folder("zips");
        let archived = |(n, tree): (usize, &Tree)| {
            let path = folder.join(format!("tree{n}.zip"));
            let options = WriteOptions {
                threads: NonZeroUsize::new(1 + n % 3),
                level: Some(1 + n as u32 % 9),
                ..WriteOptions::default()
            };
            let file = File::create(&path).expect("made");
            let mut source = Source(tree.clone().into_iter());
            write(&mut source, file, &options, &Control::default()).expect("an archive");
            path
        };
        trees.iter().enumerate().map(archived).collect()
    }
}

fn plain_part(rng: &mut StdRng) -> Vec<u8> {
    let most = if rng.random_bool(0.1) { 255 } else { rng.random_range(1..40) };
    let mut part = String::from(LETTERS[rng.random_range(0..18)]);
    loop {
        let letter = LETTERS[rng.random_range(0..LETTERS.len())];
        if part.len() + letter.len() > most {
            // A blank or a dot at the end is lost on other systems, and so by some tools.
            return (part.trim_end_matches([' ', '.']).to_owned() + "x")
                .into_bytes()
                .into_iter()
                .take(255)
                .collect();
        }
        part.push_str(letter);
    }
}

fn odd_part(rng: &mut StdRng) -> Vec<u8> {
    let most = if rng.random_bool(0.2) { 255 } else { rng.random_range(1..30) };
    let part: Vec<u8> =
        (0..most).map(|_| ODD_BYTES[rng.random_range(0..ODD_BYTES.len())]).collect();
    part
}

fn content(rng: &mut StdRng) -> Vec<u8> {
    let size = if rng.random_bool(0.5) {
        SIZES[rng.random_range(0..SIZES.len())]
    } else {
        rng.random_range(0..20_000)
    };
    let mut noise = vec![0; size];
    rng.fill(&mut noise[..]);
    match rng.random_range(0..4) {
        0 => vec![0; size],
        1 => noise.iter().map(|byte| b"etaoin shrdlu\n"[usize::from(byte % 14)]).collect(),
        2 => {
            noise.iter_mut().zip(b"\xff\xd8\xff\xe0").for_each(|(byte, head)| *byte = *head);
            noise
        }
        _ => noise,
    }
}

struct Source(std::collections::btree_map::IntoIter<Vec<u8>, Vec<u8>>);

struct Given(Vec<u8>);

impl Content for Given {
    fn open(self: Box<Self>) -> pocketvault::error::Result<Option<Box<dyn Read + Send>>> {
        Ok(Some(Box::new(Cursor::new(self.0))))
    }
}

impl Items for Source {
    fn next(&mut self) -> pocketvault::error::Result<Option<Item>> {
        let Some((path, data)) = self.0.next() else { return Ok(None) };
        let entry = Entry {
            path: EntryPath::parse(path)?,
            size_bytes: data.len() as u64,
            modified: "2026-11-21T09:02:11Z".parse().expect("a date"),
            mode: 0o100_644,
        };
        Ok(Some(Item { entry, content: Box::new(Given(data)) }))
    }
}

/// One line a file: its name in hexadecimal, its size, its SHA-256.
fn listing(tree: &Tree) -> String {
    tree.iter().fold(String::new(), |mut lines, (path, data)| {
        path.iter().for_each(|byte| write!(lines, "{byte:02x}").expect("written"));
        write!(lines, " {} ", data.len()).expect("written");
        let hash = Sha256::digest(data);
        hash.iter().for_each(|byte| write!(lines, "{byte:02x}").expect("written"));
        lines + "\n"
    })
}

/// The files below a folder; walks by working folders, for paths that are too long at once.
fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![(File::open(root).expect("opened"), Vec::new())];
    while let Some((folder, path)) = pending.pop() {
        for entry in rustix::fs::Dir::read_from(&folder).expect("listed") {
            let entry = entry.expect("listed");
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = [&path[..], name.to_bytes()].concat();
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW;
            let opened = rustix::fs::openat(&folder, name, flags, rustix::fs::Mode::empty());
            let mut file = File::from(opened.expect("opened"));
            if file.metadata().expect("examined").is_dir() {
                pending.push((file, [&path[..], b"/"].concat()));
                continue;
            }
            let mut data = Vec::new();
            file.read_to_end(&mut data).expect("read");
            tree.insert(path, data);
        }
    }
    tree
}

fn ours(proof: &Proof, archives: &[PathBuf], expected: &[String]) {
    for (archive, expected) in archives.iter().zip(expected) {
        let reader = Reader::open(archive, &Limits::default()).expect("opened");
        reader.verify(None, &Control::default()).expect("verified");
        let target = proof.folder("ours").join(archive.file_stem().expect("a name"));
        let (options, control) = (ExtractOptions::default(), Control::default());
        reader.extract(&target, &options, &control).expect("extracted");
        assert!(&listing(&read_tree(&target)) == expected, "ours, seed {}", proof.seed);
    }
}

/// Go's and Python's libraries read the archives and say what is in them.
fn libraries(archives: &[PathBuf], expected: &[String]) {
    for command in [tools::go_trees(), tools::python_trees()].into_iter().flatten() {
        let mut listing = Command::new(&command[0]);
        listing.args(&command[1..]).arg("list").args(archives);
        let output = listing.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {failed}");
        let found: Vec<&str> = said.split("==\n").skip(1).collect();
        assert!(found == expected, "{command:?} sees other files");
    }
}

/// A program that extracts, and how it is asked to.
struct Extractor {
    name: &'static str,
    command: Vec<PathBuf>,
    /// Archives that it gets: Java takes most of a second to begin.
    archives: usize,
    arguments: fn(archive: &str, out: &str, target: &str) -> Vec<String>,
}

fn extractors() -> Vec<Extractor> {
    let found = [
        ("go", tools::go_trees(), TREES),
        ("python", tools::python_trees(), TREES),
        ("unzip", tools::installed("unzip", "-v"), TREES),
        ("7zz", tools::installed("7zz", "i"), TREES),
        ("jar", tools::installed("jar", "--version"), 2),
    ];
    let named = |(name, command, archives): (&'static str, Option<Vec<PathBuf>>, usize)| {
        let arguments: fn(&str, &str, &str) -> Vec<String> = match name {
            "go" | "python" => |archive, out, _| words(&["extract", out, archive]),
            "unzip" => |archive, _, target| words(&["-q", archive, "-d", target]),
            "7zz" => |archive, _, target| words(&["x", "-y", &format!("-o{target}"), archive]),
            _ => |archive, _, _| words(&["xf", archive]),
        };
        Some(Extractor { name, command: command?, archives, arguments })
    };
    found.into_iter().filter_map(named).collect()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs a program in the locale that knows every script, and gives what it said.
fn run(command: &[PathBuf], arguments: &[String], folder: &Path) -> String {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8");
    let output = program.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {arguments:?}: {said}{failed}");
    said
}
