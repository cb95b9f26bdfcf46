//! Replaces the process by a fresh one of the same program, with the same process id,
//! arguments and environment, and hands it the listening socket, so that clients wait in the
//! backlog and are not refused.
//!
//! Speaks systemd's protocol (`LISTEN_FDS`, `LISTEN_PID`), so socket activation works too.

use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use crate::error::{Context, Error, Result};

/// What the kernel appends to the path of a running program that was replaced on the disk.
const DELETED: &[u8] = b" (deleted)";
/// The running program itself, also when its file is gone.
const RUNNING: &str = "/proc/self/exe";

/// How long a program may take to say its version.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);

/// How to start this process again. Made at the start of `main`, before anything can change
/// the working folder.
#[derive(Debug, Clone)]
pub struct Restart {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: Option<PathBuf>,
}

impl Restart {
    /// As this process was started.
    ///
    /// # Errors
    /// The system cannot name the running program.
    pub fn of_this_process() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the running program")?;
        Ok(Self {
            program: without_deleted(program),
            arguments: std::env::args_os().collect(),
            folder: std::env::current_dir().ok(),
        })
    }

    /// Replaces this process; returns only when that failed. Everything that must be closed
    /// tidily is closed before: no destructor runs. The listener may be a clone of the one
    /// that is served; both must be kept until here, or connections in the backlog are lost.
    ///
    /// The program's path is tried first, which picks up an upgraded file; then, when that is
    /// gone, the image that is running.
    pub fn exec(&self, listener: Option<&TcpListener>) -> Error {
        let handed = match listener.map(inheritable).transpose() {
            Ok(handed) => handed,
            Err(error) => return error,
        };
        let first = self.command(self.program.as_os_str(), handed.as_ref()).exec();
        let second = self.command(OsStr::new(RUNNING), handed.as_ref()).exec();
        Error::internal(format!(
            "cannot start {} again: {first}; nor the running image: {second}",
            self.program.display()
        ))
        .because(first)
        .hint("start the server by hand, then restore again")
    }

    /// Finds out whether the program on the disk runs here at all, before the one that runs is
    /// given up for it: an upgrade may be half copied, or for another machine.
    ///
    /// # Errors
    /// It cannot be run, fails, or does not end. Dropped, it is killed.
    pub async fn try_out(&self) -> Result<()> {
        self.try_out_within(TRIAL_TIME_MAX).await
    }

    async fn try_out_within(&self, limit: Duration) -> Result<()> {
        let shown = self.program.display();
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let Ok(output) = timeout(limit, command.output()).await else {
            return Err(Error::internal(format!("{shown} --version did not end in {limit:?}")));
        };
        let output = output.with_context(|| format!("cannot run {shown}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::internal(format!("{shown} --version: {}", output.status))),
        }
    }

    fn command(&self, program: &OsStr, listener: Option<&OwnedFd>) -> Command {
        let mut command = Command::new(program);
        let mut arguments = self.arguments.iter();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDS_FIRST_FD", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        if let Some(listener) = listener {
            // The number of the first descriptor is listenfd's extension of the protocol. It
            // spares us forcing the socket onto number 3, which may be anybody's by now.
            command
                .env("LISTEN_FDS", "1")
                .env("LISTEN_FDS_FIRST_FD", listener.as_raw_fd().to_string())
                .env("LISTEN_PID", std::process::id().to_string());
        }
        command
    }
}

/// The listening socket that this process was started with: by [`Restart::exec`], or by
/// systemd. Non-blocking, as async servers want it. Call it once, at the start.
///
/// # Errors
/// A descriptor was handed over that is no TCP listener.
pub fn inherited_listener() -> Result<Option<TcpListener>> {
    let listener = listenfd::ListenFd::from_env()
        .take_tcp_listener(0)
        .context("the inherited descriptor is no TCP listener")?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true).context("cannot use the inherited listener")?;
    }
    Ok(listener)
}

/// A second descriptor of the socket, one that survives the exec.
fn inheritable(listener: &TcpListener) -> Result<OwnedFd> {
    let context = "cannot hand over the listening socket";
    let copy = OwnedFd::from(listener.try_clone().context(context)?);
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())
        .map_err(std::io::Error::from)
        .context(context)?;
    Ok(copy)
}

/// The path where the program was; a new version may lie there now.
fn without_deleted(program: PathBuf) -> PathBuf {
    match program.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(path) if !Path::new(&program).exists() => {
            PathBuf::from(OsString::from_vec(path.to_vec()))
        }
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_not_started_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let tried = async |script: &str, limit| {
            let program = dir.path().join("program");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("allowed");
            Restart { program, arguments: Vec::new(), folder: None }.try_out_within(limit).await
        };
        let long = Duration::from_secs(30);
        tried("[ \"$1\" = --version ]", long).await.expect("it runs");
        tried("exit 1", long).await.expect_err("it fails");
        let error = tried("exec sleep 60", Duration::from_millis(100)).await.expect_err("too long");
        assert!(error.full().contains("did not end"), "{}", error.full());
    }

    #[test]
    fn the_path_of_a_replaced_program_is_found() {
        let cases = [("/no/such/x (deleted)", "/no/such/x"), ("/no/such/x", "/no/such/x")];
        for (path, expected) in cases {
            assert_eq!(without_deleted(PathBuf::from(path)), Path::new(expected));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let odd = dir.path().join("odd (deleted)");
        std::fs::write(&odd, "x").expect("written");
        assert_eq!(without_deleted(odd.clone()), odd);
    }
}
