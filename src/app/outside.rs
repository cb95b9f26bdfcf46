//! An application that we did not start, stopped and started by the operator's own commands
//! around a swap. `docs/restore.md` has the rules.
//!
//! A note on the disk says that it was stopped, so that it is started again whatever happens
//! to this process in between.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::config::{Commands, Config};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::occupants;
use crate::restore::{self, Recovery};

/// The note in the state folder.
const NOTE: &str = "stopped";
/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// How long the databases may stay open after the application was stopped, and after it was
/// not.
const RELEASE_MAX: Duration = Duration::from_secs(30);
const FAILED_MAX: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// How long an application may go on answering that it is not well.
const ODD_MAX: Duration = Duration::from_secs(5);
/// How long one question after its health may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Why the application is not up.
#[derive(Debug)]
pub struct NotUp {
    /// What went wrong.
    pub error: Error,
    /// Whether it is certain that it does not run. Nothing may be moved under one that does.
    pub is_down: bool,
}

/// Whether there is something to do at this start: a swap that waits while somebody else owns
/// the folder, or an application that was stopped and not started again.
///
/// # Errors
/// The journal is damaged or cannot be read.
pub fn is_due(config: &Config) -> Result<bool> {
    if config.restore.commands.is_none() || config.supervise.is_some() {
        return Ok(false);
    }
    let is_foreign = || config.beside || !occupants::other_processes(&config.data).is_empty();
    Ok(note(config).exists() || (is_waiting(config)? && is_foreign()))
}

/// Stops the application and swaps. A swap that cannot begin is withdrawn. Blocking; outside
/// of any runtime.
///
/// # Errors
/// As [`restore::recover`]; the application does not stop in the middle of a swap.
pub fn swap(config: &Config, clock: &Clock) -> Result<Recovery> {
    let Some(commands) = &config.restore.commands else {
        return Ok(Recovery::Nothing { swept: 0 });
    };
    let is_waiting = is_waiting(config)?;
    if is_waiting && let Err(error) = require_answer(config, commands) {
        // Nothing was stopped so far. In the middle of a swap it is too late to ask.
        if let Ok(recovery) = restore::cancel(&config.data, &error.full(), clock) {
            return Ok(recovery);
        }
    }
    fsx::write_durably(&note(config), b"by pocketvault\n")?;
    fsx::give_to_owner_of(config.data.root(), &note(config))?;
    if !is_waiting {
        return Ok(Recovery::Nothing { swept: 0 });
    }
    tracing::info!(command = ?commands.stop, "stopping the application for a restore");
    if let Err(error) = stop(config, commands) {
        tracing::error!(error = error.full(), "the application could not be stopped");
        // Once names were moved there is no way back without it being stopped.
        return restore::cancel(&config.data, &error.full(), clock).map_err(|_| error);
    }
    restore::recover(&config.data, clock)
}

/// Starts the application that was stopped, and waits until it is well. Stopped again when
/// that fails. Does nothing where none was stopped.
///
/// # Errors
/// It does not start, or gives no answer at all within its time.
pub async fn start(config: &Config) -> std::result::Result<(), NotUp> {
    let Some(commands) = config.restore.commands.clone().filter(|_| note(config).exists()) else {
        return Ok(());
    };
    tracing::info!(command = ?commands.start, "starting the application");
    let argv = commands.start.clone();
    let started = spawn_blocking(move || run(&argv)).await.context("a thread stopped");
    let up = match started.and_then(|started| started) {
        Ok(()) => healthy(&commands).await,
        Err(error) => Err(error),
    };
    let up = up.and_then(|()| std::fs::remove_file(note(config)).context("cannot remove the note"));
    let Err(error) = up else { return Ok(()) };
    let config = config.clone();
    let stopped = spawn_blocking(move || stop(&config, &commands)).await;
    let stopped = stopped.context("a thread stopped").and_then(|stopped| stopped);
    if let Err(second) = &stopped {
        tracing::error!(error = second.full(), "the application could not be stopped");
    }
    Err(NotUp { error, is_down: stopped.is_ok() })
}

/// Whether a restore is not over.
fn is_waiting(config: &Config) -> Result<bool> {
    match restore::require_settled(&config.data) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == &Kind::InUse => Ok(true),
        Err(error) => Err(error),
    }
}

fn note(config: &Config) -> PathBuf {
    config.data.state().join(NOTE)
}

/// Fails when an application that runs gives no answer where it will be asked after the swap:
/// the address is wrong then, and its silence would say nothing of the new data.
fn require_answer(config: &Config, commands: &Commands) -> Result<()> {
    let Some(url) = &commands.health_url else { return Ok(()) };
    if occupants::other_processes(&config.data).is_empty() {
        return Ok(());
    }
    // One provider for every TLS client of the process; a second installation is refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")?.block_on(async {
        let client = reqwest::Client::builder().timeout(ANSWER_MAX).build();
        let client = client.context("cannot ask for health")?;
        client.get(url).send().await.map(drop).map_err(|error| {
            let message = format!("the application runs, but gives no answer at {url}");
            let error = Error::new(Kind::Unavailable, message).because(error);
            error.hint("is health_url what it listens on?")
        })
    })
}

/// Stops it, and waits until nobody has the databases open any more. Processes of other
/// containers and users are not seen, so that nobody is seen proves nothing by itself.
fn stop(config: &Config, commands: &Commands) -> Result<()> {
    let was_seen = !occupants::other_processes(&config.data).is_empty();
    let ended = run(&commands.stop);
    let patience = if ended.is_ok() { RELEASE_MAX } else { FAILED_MAX };
    let left = occupants::lasting_processes(&config.data, patience);
    if left.is_empty() {
        return match ended {
            Err(error) if was_seen => {
                tracing::warn!(error = error.full(), "the application is gone; going on");
                Ok(())
            }
            ended => ended.map_err(|error| {
                error.hint("stop_command must succeed, also when the application is down already")
            }),
        };
    }
    ended?;
    let message = format!("stop_command ended, but the processes {left:?} use the data");
    Err(Error::new(Kind::InUse, message).hint("stop_command must be back when it has stopped"))
}

fn run(argv: &[String]) -> Result<()> {
    let failed = |how: String| Error::new(Kind::Unavailable, format!("{argv:?} {how}"));
    let (program, arguments) =
        argv.split_first().ok_or_else(|| Error::internal("an empty command"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    match wait(&mut child)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("failed: {status}"))),
        None => {
            // Best effort: it is gone already, or the system ends it.
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(format!("took longer than {COMMAND_MAX:?}")))
        }
    }
}

fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + COMMAND_MAX;
    loop {
        match child.try_wait().context("cannot wait for a command")? {
            None if Instant::now() < end => std::thread::sleep(PAUSE),
            ended => return Ok(ended),
        }
    }
}

/// Waits for an answer. Any answer means that it came up with this data; only silence speaks
/// against it.
async fn healthy(commands: &Commands) -> Result<()> {
    let Some(url) = &commands.health_url else { return Ok(()) };
    let end = Instant::now() + commands.health_wait;
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).build();
    let client = client.context("cannot ask for health")?;
    let mut odd: Option<Instant> = None;
    loop {
        match client.get(url).send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) if odd.get_or_insert_with(Instant::now).elapsed() > ODD_MAX => {
                tracing::warn!(%status, "the application is up, but says that it is not well");
                return Ok(());
            }
            Err(error) if odd.is_none() && Instant::now() > end => {
                let message = format!("the application gave no answer at {url}");
                return Err(Error::new(Kind::Corrupt, message).because(error));
            }
            _ => tokio::time::sleep(PAUSE * 4).await,
        }
        if odd.is_some() && Instant::now() > end + ODD_MAX {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FolderOptions, ServeOptions};

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    /// A folder whose application is handled by these.
    fn config(home: &tempfile::TempDir, stop: &str, start: &str) -> Config {
        let folder = FolderOptions { dir: Some(home.path().into()), ..FolderOptions::default() };
        let options = ServeOptions { folder, ..ServeOptions::default() };
        let mut config = Config::serve(&options).expect("usable");
        std::fs::write(config.data.data_db(), "x").expect("written");
        config.restore.commands = Some(Commands {
            stop: sh(stop),
            start: sh(start),
            health_url: None,
            health_wait: Duration::from_secs(1),
        });
        config
    }

    fn stopped(config: &Config) -> Result<()> {
        stop(config, config.restore.commands.as_ref().expect("commands"))
    }

    #[test]
    fn a_stop_that_fails_counts_unless_somebody_was_seen_to_go() {
        let home = tempfile::tempdir().expect("a folder");
        let mut config = config(&home, "true", "true");
        stopped(&config).expect("it says so, and nobody is there");
        config.restore.commands.as_mut().expect("commands").stop = sh("exit 3");
        let error = stopped(&config).expect_err("it may run where we cannot see it");
        assert_eq!(error.kind(), &Kind::Unavailable);
        let file = std::fs::File::open(config.data.data_db()).expect("opened");
        let mut other = Command::new("sleep").arg("60").stdin(file).spawn().expect("started");
        let error = stopped(&config).expect_err("it runs on");
        assert_eq!(error.kind(), &Kind::Unavailable);
        let kill = format!("kill {}; exit 3", other.id());
        config.restore.commands.as_mut().expect("commands").stop = sh(&kill);
        let gone = stopped(&config);
        other.kill().expect("stopped");
        other.wait().expect("reaped");
        gone.expect("it was seen to go");
    }

    #[tokio::test]
    async fn an_application_that_neither_starts_nor_stops_is_not_said_to_be_down() {
        for (stop, is_down) in [("true", true), ("exit 4", false)] {
            let home = tempfile::tempdir().expect("a folder");
            let config = config(&home, stop, "exit 3");
            start(&config).await.expect("nothing was stopped, nothing is started");
            std::fs::create_dir_all(config.data.state()).expect("made");
            std::fs::write(note(&config), "x").expect("written");
            let not_up = start(&config).await.expect_err("it fails");
            assert_eq!(not_up.is_down, is_down, "{stop}");
            assert!(note(&config).exists());
        }
    }

    #[test]
    fn an_unreadable_journal_does_not_pass_for_no_restore() {
        let home = tempfile::tempdir().expect("a folder");
        let config = config(&home, "true", "true");
        assert!(!is_due(&config).expect("nothing"));
        std::fs::create_dir_all(config.data.restore()).expect("made");
        std::fs::write(config.data.restore().join("journal"), "garbage").expect("written");
        assert_eq!(is_due(&config).expect_err("damaged").kind(), &Kind::Corrupt);
        std::fs::write(note(&config), "x").expect("written");
        let swapped = swap(&config, &Clock::system());
        assert_eq!(swapped.expect_err("damaged").kind(), &Kind::Corrupt);
    }
}
