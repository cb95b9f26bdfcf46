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
/// How long the databases may stay open after the application was stopped.
const RELEASE_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// How long an application may go on answering that it is not well.
const ODD_MAX: Duration = Duration::from_secs(5);
/// How long one question after its health may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Whether there is something to do at this start: a swap that waits while somebody else owns
/// the folder, or an application that was stopped and not started again.
pub fn is_due(config: &Config) -> bool {
    if config.restore.commands.is_none() || config.supervise.is_some() {
        return false;
    }
    let is_foreign = || config.beside || !occupants::other_processes(&config.data).is_empty();
    note(config).exists() || (is_waiting(config) && is_foreign())
}

/// Stops the application and swaps. A swap that cannot begin is withdrawn. Blocking.
///
/// # Errors
/// As [`restore::recover`]; the application does not stop in the middle of a swap.
pub fn swap(config: &Config, clock: &Clock) -> Result<Recovery> {
    let Some(commands) = &config.restore.commands else {
        return Ok(Recovery::Nothing { swept: 0 });
    };
    fsx::write_durably(&note(config), b"by pocketvault\n")?;
    fsx::give_to_owner_of(config.data.root(), &note(config))?;
    if !is_waiting(config) {
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
pub async fn start(config: &Config) -> Result<()> {
    let Some(commands) = config.restore.commands.clone().filter(|_| note(config).exists()) else {
        return Ok(());
    };
    tracing::info!(command = ?commands.start, "starting the application");
    let started = {
        let argv = commands.start.clone();
        spawn_blocking(move || run(&argv)).await.context("a thread stopped")?
    };
    let up = match started {
        Ok(()) => healthy(&commands).await,
        Err(error) => Err(error),
    };
    match up {
        Ok(()) => std::fs::remove_file(note(config)).context("cannot remove the note"),
        Err(error) => {
            let (config, commands) = (config.clone(), commands.clone());
            let stopped = spawn_blocking(move || stop(&config, &commands)).await;
            if let Err(second) = stopped.context("a thread stopped")? {
                tracing::error!(error = second.full(), "the application could not be stopped");
            }
            Err(error)
        }
    }
}

/// Whether a restore is not over. A damaged journal is nothing to stop anybody for.
fn is_waiting(config: &Config) -> bool {
    let settled = restore::require_settled(&config.data);
    settled.is_err_and(|error| error.kind() == &Kind::InUse)
}

fn note(config: &Config) -> PathBuf {
    config.data.state().join(NOTE)
}

/// Stops it, and waits until nobody has the databases open any more.
fn stop(config: &Config, commands: &Commands) -> Result<()> {
    let ended = run(&commands.stop);
    let left = occupants::lasting_processes(&config.data, RELEASE_MAX);
    if left.is_empty() {
        // It may have been down already, which some commands call a failure.
        if let Err(error) = ended {
            tracing::warn!(error = error.full(), "nobody has the databases open; going on");
        }
        return Ok(());
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
