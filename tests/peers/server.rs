//! Starts the programs under test as a user would, and makes sure that none outlives its test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::Client;

pub(crate) const EMAIL: &str = "peer@example.com";
pub(crate) const PASSWORD: &str = "first-peer-password";
pub(crate) const OTHER_PASSWORD: &str = "other-peer-password";

/// The name of the environment variable that holds the settings key, and a key.
pub(crate) const KEY_NAME: &str = "PEER_SETTINGS_KEY";
const KEY: &str = "an-encryption-key-of-32-letters!";

const START_LIMIT: Duration = Duration::from_secs(60);

/// Two kinds of program that speak the same wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pocketvault,
    PocketBase,
}

/// Whether the settings in the folder are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    Plain,
    Encrypted,
}

/// A program that serves a `pb_data` folder.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    pub(crate) kind: Kind,
    /// The PocketBase that ours runs behind itself.
    behind: Option<PathBuf>,
    variables: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn pocketvault() -> Self {
        let path = env!("CARGO_BIN_EXE_pocketvault").into();
        Self { path, kind: Kind::Pocketvault, behind: None, variables: Vec::new() }
    }

    /// Ours, with that PocketBase behind it.
    pub(crate) fn before(pocketbase: PathBuf) -> Self {
        Self { behind: Some(pocketbase), ..Self::pocketvault() }
    }

    /// The same with these environment variables.
    pub(crate) fn with_variables(self, variables: Vec<(String, String)>) -> Self {
        Self { variables, ..self }
    }

    pub(crate) fn pocketbase(path: PathBuf) -> Self {
        Self { path, kind: Kind::PocketBase, behind: None, variables: Vec::new() }
    }

    /// Ours, unless the environment names a PocketBase to prove the tests with.
    pub(crate) fn under_test() -> Self {
        match std::env::var_os("POCKETVAULT_PEER_BASE_CMD") {
            Some(path) => Self::pocketbase(path.into()),
            None => Self::pocketvault(),
        }
    }

    /// Makes the superuser, and the folder with it where there is none.
    pub(crate) fn upsert(&self, dir: &Path, password: &str) {
        let mut command = match self.behind.clone() {
            Some(owner) => Self::pocketbase(owner).command(dir),
            None => self.command(dir),
        };
        command.args(["superuser", "upsert", EMAIL, password, "--dir"]).arg(dir);
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        // PocketBase exits with 0 on a failure and only prints it.
        assert!(output.status.success() && !text.contains("Error"), "superuser upsert: {text}");
    }

    pub(crate) fn serve(&self, dir: &Path) -> Server {
        self.serve_with(dir, Settings::Plain)
    }

    /// Starts the server and waits until it is healthy.
    pub(crate) fn serve_with(&self, dir: &Path, settings: Settings) -> Server {
        let server = self.start(dir, settings);
        let started = Instant::now();
        let anonymous = Client { base: server.base.clone(), token: String::new() };
        while !anonymous.try_send("GET", "/api/health", "", b"").is_ok_and(|r| r.status == 200) {
            assert!(started.elapsed() < START_LIMIT, "not healthy: {}", server.log());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Whether the program refuses to serve the folder like this: it must end, without success.
    pub(crate) fn refuses(&self, dir: &Path, settings: Settings) -> bool {
        let log = log_path(dir);
        let mut child = self.spawn(dir, settings, free_address(), &log);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait().expect("the process can be asked") {
                return !status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
        false
    }

    fn start(&self, dir: &Path, settings: Settings) -> Server {
        let log = log_path(dir);
        // PocketBase does not tell which port it got for 0, and must come back on the same one
        // after a restore; ours has to do both.
        let address = match self.kind {
            Kind::PocketBase => free_address(),
            Kind::Pocketvault => "127.0.0.1:0".to_owned(),
        };
        let mut child = self.spawn(dir, settings, address.clone(), &log);
        let base = match self.kind {
            Kind::PocketBase => format!("http://{address}"),
            Kind::Pocketvault => printed_address(&mut child, &log),
        };
        Server { child, base, log, dir: dir.to_owned() }
    }

    fn spawn(&self, dir: &Path, settings: Settings, address: String, log: &Path) -> Child {
        let mut command = self.command(dir);
        command.args(["serve", "--http", &address, "--dir"]).arg(dir);
        if settings == Settings::Encrypted {
            command.args(["--encryptionEnv", KEY_NAME]).env(KEY_NAME, KEY);
        }
        if let Some(program) = &self.behind {
            command.arg("--").arg(program).arg("serve");
        }
        let out = File::create(log).expect("a log file");
        let err = out.try_clone().expect("a log file");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Nothing of the caller's own configuration may leak into a test.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POCKETVAULT_") {
                command.env_remove(name);
            }
        }
        let around = dir.parent().expect("a folder has a parent");
        fs::create_dir_all(around).expect("a folder to start in");
        command.current_dir(around).envs(self.variables.iter().cloned());
        command
    }
}

/// A running server; dropped, it is killed by its own process id.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) base: String,
    pub(crate) dir: PathBuf,
    log: PathBuf,
}

impl Server {
    pub(crate) fn login(&self, password: &str) -> Client {
        Client::login(&self.base, EMAIL, password)
            .unwrap_or_else(|error| panic!("login: {error}\n{}", self.log()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks the server to end, as a service manager would, and waits for it.
    pub(crate) fn stop(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the server can be signalled");
        let started = Instant::now();
        while self.child.try_wait().expect("the server can be asked").is_none() {
            assert!(started.elapsed() < START_LIMIT, "does not stop: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes the server away without a chance to write anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {} on {}\n{}", self.base, self.dir.display(), self.log());
        }
    }
}

/// A scratch folder below the target folder, with room for several data folders.
pub(crate) fn scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("peer-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch folder")
}

/// Repeats until there is a value, for things that happen behind the answer.
pub(crate) fn eventually<T>(sentence: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) => {
                assert!(started.elapsed() < START_LIMIT, "never came true: {sentence} ({last})");
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn printed_address(child: &mut Child, log: &Path) -> String {
    let started = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(address) = find_address(&text) {
            return address;
        }
        let ended = child.try_wait().expect("the server can be asked");
        if ended.is_some() || started.elapsed() > START_LIMIT {
            let _ = child.kill();
            panic!("the server printed no address (ended: {ended:?}):\n{text}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn find_address(text: &str) -> Option<String> {
    const START: &str = "http://127.0.0.1:";
    let port = &text[text.find(START)? + START.len()..];
    let end = port.find(|letter: char| !letter.is_ascii_digit())?;
    (end > 0 && &port[..end] != "0").then(|| format!("{START}{}", &port[..end]))
}

fn log_path(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or(OsStr::new("server")).to_string_lossy().into_owned();
    let unique = free_address().replace([':', '.'], "_");
    dir.with_file_name(format!("{name}.{unique}.log"))
}

pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}
