//! Brings the peers onto this machine by their ordinary clients, once per version, into the
//! target folder. A lock file lets several runs share it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// A folder with the JavaScript tests and their SDKs, or `None` after saying why there is none.
pub(crate) fn javascript() -> Option<PathBuf> {
    let home = Home::open("js");
    present("node", "--version")?;
    present("npm", "--version")?;
    home.copy_sources("js");
    home.install(&["package.json", "package-lock.json", ".npmrc"], "node_modules", || {
        Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(&home.path).output()
    })?;
    Some(home.path.clone())
}

/// A folder with the scripts for a browser and what drives it, and the browser.
pub(crate) fn browser() -> Option<(PathBuf, PathBuf)> {
    let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
        assert!(!is_required(), "there is no Chromium");
        skipped("Chromium is not installed");
        return None;
    };
    let home = Home::open("browser");
    present("node", "--version")?;
    present("npm", "--version")?;
    home.copy_sources("browser");
    home.install(&["package.json", "package-lock.json", ".npmrc"], "node_modules", || {
        Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(&home.path).output()
    })?;
    Some((home.path.clone(), chromium))
}

/// A folder with the Python tests, whose `venv` holds the SDKs.
pub(crate) fn python() -> Option<PathBuf> {
    let home = Home::open("python");
    present("python3", "--version")?;
    home.copy_sources("python");
    home.install(&["requirements.txt"], "venv", || {
        let mut venv = Command::new("python3");
        let made = venv.args(["-m", "venv", "venv"]).current_dir(&home.path).output()?;
        if !made.status.success() {
            return Ok(made);
        }
        Command::new(home.path.join("venv/bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--requirement", "requirements.txt"])
            .current_dir(&home.path)
            .output()
    })?;
    Some(home.path.clone())
}

/// The versions of the real PocketBase that ours has to get along with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V0_40_4,
    V0_39_11,
}

/// The program of that version, built from its public module.
pub(crate) fn pocketbase(version: Version) -> Option<PathBuf> {
    // Each with the newest toolchain that it can stand: 0.39 overflows its stack on Go 1.27.
    let (name, module, toolchain) = match version {
        Version::V0_40_4 => ("pocketbase-0.40.4-page", "newer", "go1.27.1"),
        Version::V0_39_11 => ("pocketbase-0.39.11", "older", "go1.26.8"),
    };
    // The newer one has its admin page, too, which is driven in a browser.
    let tags = match version {
        Version::V0_40_4 => "",
        Version::V0_39_11 => "no_ui",
    };
    let home = Home::open(name);
    go_fetches_toolchains()?;
    home.copy_sources("go");
    home.copy_sources(&format!("go/{module}"));
    home.install(&["main.go", "go.mod", "go.sum"], "pocketbase", || {
        Command::new("go")
            .args(["build", "-mod=readonly", "-buildvcs=false", "-tags", tags])
            .args(["-o", "pocketbase", "."])
            .envs([("GOTOOLCHAIN", toolchain), ("CGO_ENABLED", "0"), ("GOWORK", "off")])
            .current_dir(&home.path)
            .output()
    })?;
    Some(home.path.join("pocketbase"))
}

/// The command of the program that reads archives with Go's standard library.
pub(crate) fn go_trees() -> Option<Vec<PathBuf>> {
    let home = Home::open("trees");
    present("go", "version")?;
    home.copy_sources("trees");
    home.install(&["trees.go"], "trees", || {
        Command::new("go")
            .args(["build", "-o", "trees", "trees.go"])
            .envs([("GOTOOLCHAIN", "local"), ("CGO_ENABLED", "0"), ("GOWORK", "off")])
            .current_dir(&home.path)
            .output()
    })?;
    Some(vec![home.path.join("trees")])
}

/// The command of the program that reads archives with Python's standard library.
pub(crate) fn python_trees() -> Option<Vec<PathBuf>> {
    present("python3", "--version")?;
    Some(vec!["python3".into(), "-B".into(), Path::new(SOURCES).join("trees/trees.py")])
}

/// A tool of the system, if it answers.
pub(crate) fn installed(tool: &'static str, question: &str) -> Option<Vec<PathBuf>> {
    present(tool, question)?;
    Some(vec![tool.into()])
}

/// An independent S3 server, built from its public module; the sum database vouches for it.
pub(crate) fn versitygw() -> Option<PathBuf> {
    const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw";
    let home = Home::open("versitygw");
    go_fetches_toolchains()?;
    home.copy_sources("go/versitygw");
    home.install(&["version"], "versitygw", || {
        let version = fs::read_to_string(home.path.join("version"))?;
        Command::new("go")
            .args(["install", &format!("{MODULE}@{}", version.trim())])
            .envs([("GOTOOLCHAIN", "auto"), ("CGO_ENABLED", "0"), ("GOWORK", "off")])
            .env("GOBIN", &home.path)
            .current_dir(&home.path)
            .output()
    })?;
    Some(home.path.join("versitygw"))
}

/// Says it where it is seen: the test harness hides what passing tests print.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED: {name}: {why}");
}

/// One peer's folder, held under a lock while it is looked at or filled.
struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers").join(name);
        fs::create_dir_all(&path).expect("a folder for the peer");
        let lock = File::create(path.join(".lock")).expect("a lock file");
        lock.lock().expect("the lock");
        Self { path, _lock: lock }
    }

    /// Copies only what differs: another test may be reading the same file right now.
    fn copy_sources(&self, folder: &str) {
        let entries = fs::read_dir(Path::new(SOURCES).join(folder)).expect("the peer's sources");
        for entry in entries {
            let entry = entry.expect("the peer's sources");
            if entry.file_type().expect("a type").is_file() {
                let target = self.path.join(entry.file_name());
                let wanted = fs::read(entry.path()).expect("the peer's source");
                if fs::read(&target).ok().as_ref() != Some(&wanted) {
                    fs::write(target, wanted).expect("a copy of the source");
                }
            }
        }
    }

    /// Runs the installation unless it was done before from the same inputs.
    fn install(
        &self,
        inputs: &[&str],
        product: &str,
        run: impl Fn() -> io::Result<Output>,
    ) -> Option<()> {
        let read = |name: &&str| fs::read_to_string(self.path.join(name)).expect("an input");
        let wanted: String = inputs.iter().map(read).collect();
        let stamp = self.path.join(".installed");
        let done = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
        if done && self.path.join(product).exists() {
            return Some(());
        }
        let failure = match run() {
            Ok(output) if output.status.success() => {
                fs::write(&stamp, wanted).expect("the stamp");
                return Some(());
            }
            Ok(output) => {
                String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr)
            }
            Err(error) => error.to_string(),
        };
        assert!(!is_required(), "{product} could not be installed:\n{failure}");
        skipped(&format!("{product} could not be installed: {}", failure.trim()));
        None
    }
}

/// Whether what is missing is a failure.
fn is_required() -> bool {
    std::env::var("POCKETVAULT_PEERS").is_ok_and(|value| value == "require")
}

/// The first of the names that is a program.
fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file())
    })
}

fn present(tool: &str, question: &str) -> Option<()> {
    let answer = Command::new(tool).arg(question).output();
    if answer.is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    skipped(&format!("{tool} is not installed"));
    None
}

/// Older ones do not know the setting that fetches the toolchain a module needs.
fn go_fetches_toolchains() -> Option<()> {
    present("go", "version")?;
    let output = Command::new("go").arg("version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = text.split_once("go1.").map(|(_, rest)| rest);
    let minor = minor.and_then(|rest| rest.split(['.', ' ']).next()?.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor < 21) {
        skipped(&format!("{} is too old, 1.21 is needed", text.trim()));
        return None;
    }
    Some(())
}
