//! A server process of its own for each test, in a folder of its own, and what must hold when
//! it is over: it stops when told, and nothing is left lying about.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::json;
use tempfile::TempDir;

use crate::raw::{Request, Response};

/// The superuser that every test server has.
pub(crate) const EMAIL: &str = "admin@example.com";
/// Her password.
pub(crate) const PASSWORD: &str = "1234567890";

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(5);
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Which program serves: ours, or another with the same command line (a real PocketBase).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    Ours,
    Peer(PathBuf),
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    program: Program,
    address: SocketAddr,
    home: TempDir,
    /// Whether the test stopped it itself.
    stopped: bool,
}

impl Server {
    /// A server on a fresh folder with one superuser: ours, or the program that
    /// `POCKETVAULT_WIRE_BIN` names.
    pub(crate) fn start() -> Self {
        let program = match env::var_os("POCKETVAULT_WIRE_BIN") {
            Some(path) => Program::Peer(path.into()),
            None => Program::Ours,
        };
        Self::start_as(program, &[])
    }

    /// Our server, for what PocketBase is known to do worse.
    pub(crate) fn start_ours() -> Self {
        Self::start_ours_with(&[])
    }

    /// Our server with more arguments.
    pub(crate) fn start_ours_with(arguments: &[&str]) -> Self {
        Self::start_as(Program::Ours, arguments)
    }

    fn start_as(program: Program, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pb_data");
        if program == Program::Ours && fixture.is_dir() {
            copy_folder(&fixture, &home.path().join("pb_data"));
        }
        superuser(&program, home.path(), &["upsert", EMAIL, PASSWORD]);
        Self::launch(program, home, arguments)
    }

    /// Stops it, and starts ours on the same folder with these arguments.
    pub(crate) fn again_with<S: AsRef<OsStr>>(mut self, arguments: &[S]) -> Self {
        if !self.stopped {
            assert_eq!(self.stop(STOP_MAX), Some(true), "{}", self.log());
        }
        let empty = tempfile::tempdir().expect("a folder");
        let home = std::mem::replace(&mut self.home, empty);
        Self::launch(Program::Ours, home, arguments)
    }

    /// Takes it away without a chance to say anything.
    pub(crate) fn killed(mut self) -> Self {
        self.stopped = true;
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
        self
    }

    /// Waits until it has ended with an error.
    pub(crate) fn ended(mut self) -> Self {
        let end = Instant::now() + START_MAX;
        let status = loop {
            match self.child.try_wait().expect("it can be looked at") {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "it runs on\n{}", self.log()),
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert!(!status.success(), "{}", self.log());
        self.stopped = true;
        self
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn launch<S: AsRef<OsStr>>(program: Program, home: TempDir, arguments: &[S]) -> Self {
        let log = fs::File::create(home.path().join("log")).expect("a log");
        let http = match program {
            Program::Ours => "127.0.0.1:0".to_owned(),
            Program::Peer(_) => free_address().to_string(),
        };
        let mut child = command(&program, home.path())
            .args(["serve", "--http", &http])
            .arg("--dir")
            .arg(home.path().join("pb_data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the server's program");
        let address = wait_for_address(&mut child, &home.path().join("log"));
        Self { child, program, address, home, stopped: false }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its `pb_data`.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join("pb_data")
    }

    /// Whether that program serves.
    pub(crate) fn is(&self, program: &Program) -> bool {
        self.program == *program
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.home.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs `superuser …` on its folder while it serves.
    pub(crate) fn superuser(&self, arguments: &[&str]) {
        superuser(&self.program, self.home.path(), arguments);
    }

    /// Sends a request that must be answered.
    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.address).unwrap_or_else(|error| {
            panic!("{} {}: {error}\n{}", request.method, request.target, self.log())
        })
    }

    /// A fresh token of the superuser.
    pub(crate) fn login(&self) -> String {
        self.login_as(EMAIL, PASSWORD)
    }

    /// A fresh token of any superuser.
    pub(crate) fn login_as(&self, email: &str, password: &str) -> String {
        let path = "POST /api/collections/_superusers/auth-with-password";
        let body = json!({"identity": email, "password": password});
        let response = self.send(&Request::new(path).json(&body));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Waits until no backup is made and no restore is under way.
    pub(crate) fn wait_until_idle(&self, token: &str) {
        // A restore that was accepted replaces the process in a moment; connections may be
        // refused meanwhile.
        thread::sleep(Duration::from_millis(300));
        let end = Instant::now() + IDLE_MAX;
        while Instant::now() < end {
            let health = Request::new("GET /api/health").auth(token).send(self.address);
            if health.is_ok_and(|answer| answer.text().contains("\"canBackup\":true")) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the server was not idle after {IDLE_MAX:?}\n{}", self.log());
    }

    /// Files outside `pb_data` that a request made.
    pub(crate) fn files_beside(&self) -> Vec<String> {
        let expected = |path: &Path| path.ends_with("pb_data") || path.ends_with("log");
        let found = children(self.home.path()).into_iter().filter(|path| !expected(path));
        found.map(|path| path.display().to_string()).collect()
    }

    /// What a test left behind that a user would stumble over.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for path in walk(&self.data_dir()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".pocketvault-part") {
                found.push(path.display().to_string());
            }
        }
        // Of a restore, only the data that it replaced may stay, for undo, and data that was
        // rejected, to be looked at.
        for restore in children(&self.data_dir().join(".pocketvault/restore")) {
            for child in children(&restore) {
                let rejected = child.ends_with("new") && self.log().contains("ROLLING BACK");
                if !child.ends_with("old") && !rejected {
                    found.push(child.display().to_string());
                }
            }
        }
        found.extend(self.files_beside());
        found
    }

    /// Sends SIGTERM: whether it ended with status 0, `None` when it has not ended in time.
    pub(crate) fn stop(&mut self, within: Duration) -> Option<bool> {
        self.stopped = true;
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok()?;
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.success());
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended_before = self.child.try_wait().ok().flatten().filter(|_| !self.stopped);
        let stopped = if self.stopped { Some(true) } else { self.stop(STOP_MAX) };
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() || self.program != Program::Ours {
            return;
        }
        let mut faults = self.leftovers();
        match (ended_before, stopped) {
            (Some(status), _) => faults.push(format!("it had ended before: {status}")),
            (None, Some(true)) => {}
            (None, Some(false)) => faults.push("its exit status after SIGTERM is not 0".into()),
            (None, None) => faults.push(format!("SIGTERM did not stop it within {STOP_MAX:?}")),
        }
        if self.log().contains("panicked at") {
            faults.push("it panicked".to_owned());
        }
        assert!(faults.is_empty(), "left behind: {}\n{}", faults.join("\n"), self.log());
    }
}

fn command(program: &Program, home: &Path) -> Command {
    let mut command = match program {
        Program::Ours => Command::new(env!("CARGO_BIN_EXE_pocketvault")),
        Program::Peer(path) => Command::new(path),
    };
    command.current_dir(home);
    command
}

fn superuser(program: &Program, home: &Path, arguments: &[&str]) {
    let output = command(program, home)
        .arg("superuser")
        .args(arguments)
        .arg("--dir")
        .arg(home.join("pb_data"))
        .output()
        .expect("the program");
    assert!(
        output.status.success(),
        "superuser {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The address that the server prints once it listens.
fn wait_for_address(child: &mut Child, log: &Path) -> SocketAddr {
    let printed = Regex::new(r"http://(127\.0\.0\.1:[1-9]\d*)").expect("a pattern");
    let end = Instant::now() + START_MAX;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(found) = printed.captures(&text) {
            let address: SocketAddr = found[1].parse().expect("an address");
            if Request::new("GET /api/health").send(address).is_ok() {
                return address;
            }
        }
        let ended = child.try_wait().expect("a status");
        if ended.is_some() || Instant::now() > end {
            let _ = child.kill();
            panic!("the server did not start ({ended:?}):\n{text}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Every file below `folder`; links are not followed.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for path in children(&folder) {
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => open.push(path),
                _ => found.push(path),
            }
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for path in children(from) {
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}
