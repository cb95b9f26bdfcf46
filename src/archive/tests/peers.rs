//! Other programs read what we write, and we read what they write. A tool that is not there
//! is named on stderr.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::archive::tests::{Given, archived, noise, opened, tree};
use crate::archive::{ExtractOptions, Limits};
use crate::control::Control;

/// Names that every tool here can print and read.
fn given() -> Vec<Given> {
    let mut grown = Given::new(&b"storage/grown.txt"[..], b"grown ".repeat(300_000));
    grown.listed = Some(6);
    vec![
        Given::new(&b"auxiliary.db"[..], Vec::new()),
        Given::new(&b"data.db"[..], b"a row of data ".repeat(250_000)),
        Given::new(&b"storage/a b/c.jpg"[..], noise(700_000, 3)),
        Given::new("storage/ä/日本.txt".as_bytes(), &b"names in every script"[..]),
        grown,
        Given { mode: 0o100_755, ..Given::new(&b"types.d.ts"[..], b"type X = 1;\n".repeat(99)) },
    ]
}

fn ran(tool: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    match Command::new(tool).args(arguments).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) => {
            // Written past the capture of the test harness: a skip must be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {tool} cannot be run here: {error}");
            None
        }
    }
}

const PYTHON_CHECK: &str = "import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
bad = z.testzip()
assert bad is None, bad
print(len(z.infolist()))";

/// Info-ZIP's and Python's own checks of an archive.
pub(super) fn check_with_tools(path: &Path) {
    let (folder, name) = (path.parent().expect("a folder"), path.to_string_lossy());
    if let Some(output) = ran("unzip", &["-t", &name], folder) {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("No errors detected"), "{text}");
    }
    if let Some(output) = ran("python3", &["-c", PYTHON_CHECK, &name], folder) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a Python script says about an archive.
pub(super) fn check_said(path: &Path, script: &str, expected: &str) {
    let folder = path.parent().expect("a folder");
    if let Some(output) = ran("python3", &["-c", script, &path.to_string_lossy()], folder) {
        let failed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{failed}");
    }
}

#[test]
fn info_zip_and_python_read_our_archives() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ours.zip");
    std::fs::write(&path, archived(given()).0).expect("written");
    check_with_tools(&path);
    let expected: Vec<_> = given().into_iter().map(|g| (g.path, g.data, g.mode & 0o777)).collect();
    for (tool, arguments) in [
        ("unzip", vec!["-q", "ours.zip", "-d", "out"]),
        ("python3", vec!["-m", "zipfile", "-e", "ours.zip", "out"]),
    ] {
        let Some(output) = ran(tool, &arguments, folder.path()) else { continue };
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        let out = folder.path().join("out");
        let found = tree(&out);
        // Info-ZIP spells names by the locale, which a test cannot choose.
        let seen = |files: &[(Vec<u8>, Vec<u8>, u32)]| -> Vec<_> {
            let shown = |path: &[u8]| if tool == "unzip" { Vec::new() } else { path.to_vec() };
            let mut seen: Vec<_> =
                files.iter().map(|(path, data, _)| (shown(path), data.clone())).collect();
            seen.sort();
            seen
        };
        assert!(seen(&found) == seen(&expected), "{tool} sees other files");
        std::fs::remove_dir_all(out).expect("removed");
    }
}

#[test]
fn the_zip_crate_reads_our_archives() {
    let (bytes, _) = archived(given());
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("opened");
    for (index, given) in given().iter().enumerate() {
        let mut entry = archive.by_index(index).expect("there");
        assert_eq!(entry.name_raw(), given.path);
        assert_eq!(entry.unix_mode(), Some(given.mode));
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut data).expect("read");
        assert!(data == given.data, "entry {index}");
    }
}

#[test]
fn we_read_what_info_zip_and_python_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = folder.path().join("from");
    for given in given() {
        let path = from.join(String::from_utf8(given.path).expect("UTF-8"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, given.data).expect("written");
    }
    for (tool, arguments) in [
        ("zip", vec!["-qr", "../theirs.zip", "."]),
        ("zip", vec!["-qr", "-0", "../theirs.zip", "."]),
        ("zip", vec!["-qr", "-fz", "../theirs.zip", "."]),
        (
            "python3",
            vec![
                "-m",
                "zipfile",
                "-c",
                "../theirs.zip",
                "auxiliary.db",
                "data.db",
                "storage",
                "types.d.ts",
            ],
        ),
    ] {
        let Some(output) = ran(tool, &arguments, &from) else { continue };
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(folder.path().join("theirs.zip")).expect("read");
        let target = folder.path().join("target");
        opened(&bytes, &Limits::default())
            .and_then(|reader| {
                reader.extract(&target, &ExtractOptions::default(), &Control::default())
            })
            .unwrap_or_else(|error| panic!("{tool} {arguments:?}: {error:?}"));
        assert!(tree(&target) == tree(&from), "{tool} {arguments:?}");
        std::fs::remove_dir_all(&target).expect("removed");
        std::fs::remove_file(folder.path().join("theirs.zip")).expect("removed");
    }
}
