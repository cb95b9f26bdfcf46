//! A program of PostgreSQL's as our child: in a process group of its own, ended as a whole when
//! nobody waits for it any more, with the end of what it complained about.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};
use crate::source::postgres::target::Target;

/// How much of a program's complaints is kept, in bytes from the end.
const SAID_BYTES_MAX: usize = 4096;
/// How long a program that was told to end may take.
const END_TIME_MAX: Duration = Duration::from_secs(2);
/// How often a job that waits looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a program is given and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipes {
    /// We read what it writes.
    Out,
    /// It reads what we write.
    In,
    /// Both.
    Both,
    /// Neither.
    None,
}

/// A running program. Dropped, its whole process group is told to end, and killed soon after.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Option<Child>,
    group: Option<Pid>,
    said: Option<JoinHandle<String>>,
    target: Target,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    name: String,
    status: ExitStatus,
    /// The end of what it complained about, without the password.
    pub(super) said: String,
}

impl Running {
    /// Starts a program. It inherits nothing that steers libpq, and gets the target's variables.
    pub(super) fn start(
        program: &Path,
        arguments: &[OsString],
        target: &Target,
        pipes: Pipes,
    ) -> Result<Self> {
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut command = Command::new(program);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .envs(target.environment())
            // What they say is read by us.
            .env("LC_ALL", "C")
            .stdin(piped(matches!(pipes, Pipes::In | Pipes::Both)))
            .stdout(piped(matches!(pipes, Pipes::Out | Pipes::Both)))
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let said = child.stderr.take().map(|stderr| tokio::spawn(last_words(stderr)));
        Ok(Self { name, child: Some(child), group, said, target: target.clone() })
    }

    /// What it writes.
    pub(super) fn stdout(&mut self) -> Result<ChildStdout> {
        let taken = || Error::internal("the program's output is not ours");
        self.child.as_mut().and_then(|child| child.stdout.take()).ok_or_else(taken)
    }

    /// What it reads.
    pub(super) fn stdin(&mut self) -> Result<ChildStdin> {
        let taken = || Error::internal("the program's input is not ours");
        self.child.as_mut().and_then(|child| child.stdin.take()).ok_or_else(taken)
    }

    /// Waits for its end.
    pub(super) async fn wait(mut self) -> Result<Ended> {
        let ended = || Error::internal("the program has ended before");
        let status = self.child.as_mut().ok_or_else(ended)?.wait().await;
        let status = status.with_context(|| format!("cannot wait for {}", self.name))?;
        self.child = None;
        let said = match self.said.take() {
            Some(said) => said.await.unwrap_or_default(),
            None => String::new(),
        };
        Ok(Ended { name: self.name.clone(), status, said: self.target.redact(&said) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(mut child), Some(group)) = (self.child.take(), self.group) else { return };
        // Told so, they cancel what the server does for them; killed, they would leave it
        // waiting for a lock. They may have ended in this moment.
        let _ = kill_process_group(group, Signal::TERM);
        let kill = move || {
            let _ = kill_process_group(group, Signal::KILL);
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                if timeout(END_TIME_MAX, child.wait()).await.is_err() {
                    kill();
                }
            })),
            Err(_) => kill(),
        }
    }
}

impl Ended {
    /// Whether all went well.
    pub(super) fn is_well(&self) -> bool {
        self.status.success()
    }

    /// `pg_dump ended with exit status 1`
    pub(super) fn how(&self) -> String {
        match self.status.code() {
            Some(code) => format!("{} ended with exit status {code}", self.name),
            None => format!("{} was killed", self.name),
        }
    }
}

/// Does work that is broken off, by dropping it, when the job is cancelled or takes too long.
///
/// # Errors
/// [`Kind::Cancelled`], [`Kind::Unavailable`] after `time`, and the work's own.
pub async fn guarded<T>(
    control: &Control,
    time: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let end = Instant::now() + time;
    loop {
        control.check()?;
        if Instant::now() >= end {
            let message = format!("It took longer than {} seconds.", time.as_secs());
            return Err(Error::new(Kind::Unavailable, message)
                .hint("allow more with `timeout` of the [[database]]"));
        }
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Reads to the end and keeps the last words.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let (mut said, mut block) = (Vec::new(), vec![0; SAID_BYTES_MAX]);
    while let Ok(read) = stderr.read(&mut block).await {
        if read == 0 {
            break;
        }
        said.extend_from_slice(&block[..read]);
        let extra = said.len().saturating_sub(SAID_BYTES_MAX);
        said.drain(..extra);
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, pipes: Pipes) -> Running {
        let target = Target::parse("postgres://u:geheim@h/d").expect("a target");
        let arguments = ["-c".into(), script.into()];
        Running::start(Path::new("/bin/sh"), &arguments, &target, pipes).expect("started")
    }

    #[tokio::test]
    async fn complaints_come_without_the_password() {
        let ended = shell("echo \"wrong: $PGPASSWORD\" >&2; exit 3", Pipes::None).wait().await;
        let ended = ended.expect("ended");
        assert_eq!((ended.said.as_str(), ended.is_well()), ("wrong: ***", false));
        assert_eq!(ended.how(), "sh ended with exit status 3");
    }

    #[tokio::test]
    async fn a_cancelled_program_is_gone_with_its_children() {
        let mut running = shell("sleep 60 & echo $!; wait", Pipes::Out);
        let mut line = [0; 16];
        let read = running.stdout().expect("ours").read(&mut line).await.expect("read");
        let pid: i32 = String::from_utf8_lossy(&line[..read]).trim().parse().expect("a pid");
        let control = Control::default();
        control.cancel();
        let stopped = guarded(&control, Duration::from_secs(9), running.wait()).await;
        assert_eq!(stopped.expect_err("cancelled").kind(), &Kind::Cancelled);
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let end = Instant::now() + Duration::from_secs(5);
        // A zombie that init has not yet collected is gone as well.
        while state().contains(") S ") {
            assert!(Instant::now() < end, "{}", state());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn time_runs_out() {
        let running = shell("sleep 60", Pipes::None);
        let late = guarded(&Control::default(), Duration::from_millis(1), running.wait()).await;
        assert_eq!(late.expect_err("late").kind(), &Kind::Unavailable);
    }
}
