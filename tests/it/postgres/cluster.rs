//! A real PostgreSQL of its own in a temporary folder: made by `initdb`, stopped by its pid.
//! Tests that run at the same time share one; the last of them stops it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The password of the superuser `postgres`, and of the roles that tests make.
pub(crate) const PASSWORD: &str = "ge:heim/es 'wort'";
const START_MAX: Duration = Duration::from_secs(60);
/// Folders that hold one version each, with `bin` below.
const SHELF: &str = "/usr/lib/postgresql";

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static NAMES: AtomicU32 = AtomicU32::new(0);

/// A running server.
#[derive(Debug)]
pub(crate) struct Cluster {
    home: TempDir,
    bin: PathBuf,
    port: u16,
    child: Mutex<Child>,
}

impl Cluster {
    /// The server that the tests share; `None` after saying aloud that there is no PostgreSQL.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// A server of one's own, for tests that stop it.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = programs() else {
            let required = std::env::var("POCKETVAULT_PEERS").is_ok_and(|mode| mode == "require");
            assert!(!required, "PostgreSQL is required and missing");
            println!("SKIPPED: there is no PostgreSQL in {SHELF}");
            return None;
        };
        let home = tempfile::tempdir().expect("a folder");
        let (data, password) = (home.path().join("data"), home.path().join("password"));
        fs::write(&password, PASSWORD).expect("written");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).expect("set");
        if let Some(user) = other_user() {
            chown(home.path(), Some(user), Some(user)).expect("given away");
        }
        let made = as_user(&bin.join("initdb"))
            .args(["--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = port.expect("a free port").port();
        let child = Mutex::new(spawn(&bin, home.path(), port));
        let cluster = Self { home, bin, port, child };
        cluster.wait();
        Some(cluster)
    }

    /// The address of a database for the superuser, by TCP and password.
    pub(crate) fn url(&self, database: &str) -> String {
        self.url_as("postgres", PASSWORD, database)
    }

    /// The address of a database for a role.
    pub(crate) fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let quoted = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let (user, password, database) = (quoted(user), quoted(password), quoted(database));
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A name that no other test uses.
    pub(crate) fn name(&self, stem: &str) -> String {
        format!("{stem} {}", NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes an empty database with such a name.
    pub(crate) fn create(&self, stem: &str) -> String {
        let name = self.name(stem);
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        name
    }

    /// A client on a database, as the superuser through the socket.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let mut command = self.tool("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(format!("dbname='{database}'"));
        command
    }

    /// One of PostgreSQL's programs, told where the server is.
    pub(crate) fn tool(&self, name: &str) -> Command {
        self.told(Command::new(self.bin.join(name)))
    }

    /// A shell that finds PostgreSQL's programs, and they the server.
    pub(crate) fn shell(&self, lines: &str) -> Command {
        let others = std::env::var("PATH").unwrap_or_default();
        let mut command = self.told(Command::new("sh"));
        command.env("PATH", format!("{}:{others}", self.bin.display())).args(["-euc", lines]);
        command
    }

    fn told(&self, mut command: Command) -> Command {
        command
            .env("PGHOST", self.home.path())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .stdin(Stdio::null());
        command
    }

    /// Runs statements; what they print.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut child = self
            .psql(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        child.stdin.take().expect("its input").write_all(sql.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
    }

    /// Statements that go on in the background; killed when dropped.
    pub(crate) fn background(&self, database: &str, sql: &str) -> Background {
        let child = self
            .psql(database)
            .args(["-c", sql])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql");
        Background(child)
    }

    /// Databases whose name begins like this, without the ones of that name.
    pub(crate) fn beside(&self, database: &str) -> Vec<String> {
        let sql = format!(
            "SELECT datname FROM pg_database WHERE starts_with(datname, '{database}_') ORDER BY 1"
        );
        self.sql("postgres", &sql).lines().map(str::to_owned).collect()
    }

    /// Stops the server at once, as a power cut would.
    pub(crate) fn crash(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        stop(&mut child, rustix::process::Signal::QUIT);
    }

    /// Starts it again.
    pub(crate) fn restart(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        *child = spawn(&self.bin, self.home.path(), self.port);
        drop(child);
        self.wait();
    }

    fn wait(&self) {
        let end = Instant::now() + START_MAX;
        loop {
            let asked: Output =
                self.psql("postgres").args(["-c", "SELECT 1"]).output().expect("psql");
            if asked.status.success() {
                return;
            }
            let log = || fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "PostgreSQL did not start: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        stop(child, rustix::process::Signal::INT);
    }
}

/// A client in the background.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Background {
    /// Whether it is still at work.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a status").is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(bin: &Path, home: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(home.join("log"));
    let log = log.expect("a log");
    as_user(&bin.join("postgres"))
        .arg("-D")
        .arg(home.join("data"))
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
        .args(["-c", "max_connections=60", "-c", "shared_buffers=16MB"])
        .arg("-c")
        .arg(format!("port={port}"))
        .arg("-c")
        .arg(format!("unix_socket_directories={}", home.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("postgres")
}

fn stop(child: &mut Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The programs of the newest server on this machine.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(SHELF).into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin"));
    let mut found: Vec<PathBuf> = found.filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root: then it is another user's.
fn other_user() -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let id = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    Some(id("postgres").or_else(|| id("nobody")).expect("a user to run PostgreSQL as"))
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    // Its own folder may be closed to that user.
    command.current_dir("/");
    if let Some(user) = other_user() {
        command.uid(user).gid(user);
    }
    command
}
