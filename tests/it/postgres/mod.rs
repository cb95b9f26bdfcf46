//! PostgreSQL databases: real servers, real `pg_dump` and `pg_restore`, through the API and the
//! command line.

mod blnk;
mod bosbase;
pub(crate) mod cluster;
mod failures;
mod kills;
mod roundtrip;
pub(crate) mod scene;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::Server;
use crate::raw::{Request, Response};

/// A folder with a configuration that names one database, `ledger`.
#[derive(Debug)]
struct Place {
    home: TempDir,
}

impl Place {
    /// The database at `url`, with more lines in its table.
    fn new(url: &str, more: &str) -> Self {
        Self::bare(&format!("[[database]]\nname = 'ledger'\nurl = \"{url}\"\n{more}\n"))
    }

    /// With this configuration.
    fn bare(text: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        fs::write(home.path().join("pocketvault.toml"), text).expect("written");
        Self { home }
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("pocketvault.toml")
    }

    /// `pocketvault db …`, not yet started.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketvault"));
        command.current_dir(self.home.path()).arg("db").args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `pocketvault db …`.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program")
    }

    /// Runs `pocketvault db …`, which must succeed; what it printed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Our folder of the database.
    fn folder(&self) -> PathBuf {
        self.home.path().join("pb_data/.pocketvault/databases/ledger")
    }

    /// The names of the files of its backups.
    fn backups(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder().join("backups")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A server of ours that knows one database, and its superuser's token.
struct Served {
    server: Server,
    token: String,
    _place: Place,
}

impl Served {
    fn new(url: &str, more: &str) -> Self {
        let place = Place::new(url, more);
        let config = place.config();
        let config = config.to_str().expect("UTF-8");
        let server = Server::start_ours_with(&["--config", config]);
        let token = server.login();
        Self { server, token, _place: place }
    }

    /// A request below `/api/vault/databases/ledger`, such as `GET /backups`.
    fn send(&self, line: &str) -> Response {
        let (method, path) = line.split_once(' ').expect("METHOD /path");
        let line = format!("{method} /api/vault/databases/ledger{path}");
        self.server.send(&Request::new(&line).auth(&self.token))
    }

    /// Starts a job by a request that answers 202, and waits for its end.
    fn job(&self, line: &str) -> Value {
        let answer = self.send(line);
        assert_eq!(answer.status, 202, "{line}: {}", answer.text());
        self.wait(answer.header("Location").expect("a job"))
    }

    /// Waits for the end of the job at this address.
    fn wait(&self, location: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let line = format!("GET {location}");
            let job = self.server.send(&Request::new(&line).auth(&self.token)).json();
            if job["state"] != "running" {
                return job;
            }
            assert!(Instant::now() < end, "{job}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The newest job.
    fn last_job(&self) -> Value {
        let jobs = self.server.send(&Request::new("GET /api/vault/jobs").auth(&self.token));
        jobs.json()[0].clone()
    }

    /// Where its backups lie.
    fn backups(&self) -> PathBuf {
        self.server.data_dir().join(".pocketvault/databases/ledger/backups")
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(30));
    }
}
