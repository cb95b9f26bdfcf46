//! Keeps the source tidy: the layer table and every import against it, the sizes of files,
//! functions and lines, the opening doc of each module, and that nothing tracked by git
//! refers to the machine it was written on.
//!
//! It reads text, not syntax: comments and literals are blanked first, the rest is regular
//! enough. A rule that must be broken is changed here, in the open.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use source::{blanked, functions, imported_paths};

#[path = "tidy/source.rs"]
mod source;

/// One layer of the architecture, lowest first.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    /// Whether its modules may import each other.
    siblings_meet: bool,
}

const LAYERS: &[Layer] = &[
    Layer {
        name: "L0 words",
        modules: &[
            "error",
            "backup",
            "control",
            "data_dir",
            "config",
            "cron",
            "clock",
            "failpoint",
            "fsx",
            "folder_lock",
            "occupants",
            "state",
            "database",
            "telemetry",
        ],
        siblings_meet: true,
    },
    Layer {
        name: "L1 adapters",
        modules: &["source", "archive", "storage", "auth", "settings", "notify"],
        siblings_meet: false,
    },
    Layer { name: "L2 restore", modules: &["restore"], siblings_meet: false },
    Layer { name: "L3 vault", modules: &["vault", "front"], siblings_meet: false },
    Layer { name: "L4 http", modules: &["http"], siblings_meet: false },
    Layer { name: "L5 composition", modules: &["app", "cli", "main"], siblings_meet: true },
];

/// The folder whose children are faces; a face never imports another face.
const FACES: &str = "http/faces";

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

#[test]
fn modules_import_only_from_lower_layers() {
    let mut faults = Vec::new();
    for file in rust_files(&["src"]) {
        let own = modules_of(&file);
        let Some(own_module) = own.first() else { continue };
        let Some(own_layer) = layer_of(own_module) else {
            faults.push(format!("{}: `{own_module}` has no layer", file.display()));
            continue;
        };
        for path in imported_paths(&blanked(&read(&file)), &own) {
            let module = &path[0];
            let Some(layer) = layer_of(module) else { continue };
            let allowed = module == own_module
                || layer < own_layer
                || (layer == own_layer && LAYERS[layer].siblings_meet);
            if !allowed {
                faults.push(format!(
                    "{}: `{own_module}` ({}) imports `{}` ({})",
                    file.display(),
                    LAYERS[own_layer].name,
                    path.join("::"),
                    LAYERS[layer].name,
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn a_face_never_imports_another_face() {
    let prefix: Vec<String> = FACES.split('/').map(str::to_owned).collect();
    let face_of = |path: &[String]| {
        path.starts_with(&prefix).then(|| path.get(prefix.len()).cloned()).flatten()
    };
    let files = rust_files(&["src"]);
    let faces: BTreeSet<String> =
        files.iter().filter_map(|file| face_of(&modules_of(file))).collect();
    let mut faults = Vec::new();
    for file in files {
        let own = modules_of(&file);
        let Some(own_face) = face_of(&own) else { continue };
        for path in imported_paths(&blanked(&read(&file)), &own) {
            if face_of(&path).is_some_and(|face| face != own_face && faces.contains(&face)) {
                faults.push(format!("{}: imports {}", file.display(), path.join("::")));
            }
        }
    }
    report(&faults);
}

#[test]
fn the_map_in_lib_rs_and_the_layer_table_agree() {
    let lib = read(&root().join("src/lib.rs"));
    let declared = captures(&lib, r"(?m)^(?:pub )?mod (\w+);");
    let mut faults = Vec::new();
    for name in &declared {
        match layer_of(name) {
            None => faults.push(format!("src/lib.rs: `{name}` has no layer in tests/tidy.rs")),
            Some(layer) => {
                let row = lib
                    .lines()
                    .find(|line| line.starts_with(&format!("//! | {} |", LAYERS[layer].name)))
                    .unwrap_or_default();
                if !row.contains(&format!("[`{name}`]")) {
                    let layer = LAYERS[layer].name;
                    faults.push(format!("src/lib.rs: `{name}` is missing in the row `{layer}`"));
                }
            }
        }
    }
    for name in LAYERS.iter().flat_map(|layer| layer.modules) {
        if *name != "main" && !declared.iter().any(|declared| declared == name) {
            faults.push(format!("tests/tidy.rs: there is no module `{name}`"));
        }
    }
    report(&faults);
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut faults = Vec::new();
    for file in rust_files(&["src", "tests", "benches", "build.rs"]) {
        let text = read(&file);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines", file.display()));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            // A row of a table in a doc comment cannot be broken.
            if columns > LINE_COLUMNS_MAX && !line.starts_with("//! |") {
                faults.push(format!("{}:{}: {columns} columns", file.display(), number + 1));
            }
        }
        for (name, line, length) in functions(&blanked(&text)) {
            if length > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{line}: fn {name} has {length} lines", file.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_file_opens_with_its_doc() {
    let mut faults = Vec::new();
    for file in rust_files(&["src", "tests", "benches", "build.rs"]) {
        let text = read(&file);
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            faults.push(format!("{}: does not open with a `//!` doc", file.display()));
        }
    }
    report(&faults);
}

#[test]
fn no_glob_imports_outside_unit_tests() {
    let glob = Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use [\w:]+::\*;").unwrap();
    let mut faults = Vec::new();
    for file in rust_files(&["src"]) {
        for hit in glob.find_iter(&blanked(&read(&file))) {
            let import = hit.as_str().trim();
            if import != "use super::*;" && import != "use proptest::prelude::*;" {
                faults.push(format!("{}: {import}", file.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_tracked_refers_to_the_machine_it_was_written_on() {
    // Put together from parts, so that this file does not contain what it forbids.
    let forbidden = [
        concat!("..", "/shared"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("index", "-url"),
        concat!("replace", "-with"),
        concat!("GOPRO", "XY="),
        concat!("artifact", "ory"),
        concat!("--regi", "stry"),
    ];
    let source = Regex::new(r#"^source = "|"resolved": ""#).unwrap();
    let public = ["github.com/rust-lang/crates.io-index", "https://registry.npmjs.org/"];
    let mut faults = Vec::new();
    for file in tracked_files() {
        let Ok(text) = String::from_utf8(fs::read(&file).unwrap_or_default()) else { continue };
        let is_lock = file.to_string_lossy().contains("lock");
        for (number, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
            if is_lock && source.is_match(line) && !public.iter().any(|host| line.contains(host)) {
                faults.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    report(&faults);
}

fn report(faults: &[String]) {
    let root = format!("{}/", root().display());
    let text = faults.join("\n").replace(&root, "");
    assert!(faults.is_empty(), "{} fault(s):\n{text}", faults.len());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn rust_files(starts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = starts.iter().map(|start| root().join(start)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What git tracks or would track; in a tree without git, every file outside `target`.
fn tracked_files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    if let Ok(output) = listed
        && output.status.success()
    {
        let names = String::from_utf8(output.stdout).unwrap();
        return names.split('\0').filter(|n| !n.is_empty()).map(|n| root().join(n)).collect();
    }
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(path) = open.pop() {
        let skipped = path.ends_with("target") || path.ends_with(".git");
        if path.is_dir() && !skipped {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// The module path of a file below `src`: empty for `lib.rs`.
fn modules_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Vec<String> =
        relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || (parts.len() == 1 && last == "lib")) {
        parts.pop();
    }
    parts
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.modules.contains(&module))
}

fn captures(text: &str, pattern: &str) -> Vec<String> {
    let regex = Regex::new(pattern).unwrap();
    regex.captures_iter(text).map(|found| found[1].to_owned()).collect()
}
