//! `pocketvault serve`

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::app::first::FirstSuperuser;
use crate::app::outside;
use crate::app::run::{Ended, Serving, Signals};
use crate::app::start::Start;
use crate::clock::Clock;
use crate::config::{Config, ServeOptions};
use crate::data_dir::DataDir;
use crate::error::{Context, Error, Kind, Result};
use crate::folder_lock::FolderLock;
use crate::front::{Program, Supervisor};
use crate::http::door::Door;
use crate::occupants;
use crate::restore::{self, Recovery, Restart};

/// Connections that may wait while the process is replaced.
const BACKLOG: i32 = 4096;
/// How long a tool that copies the databases, or a shell, may have them open at the start.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the program of a pocketvault that was killed may take to end.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(10);
/// What to do about a restore that cannot go on.
const STOP_OTHERS: &str = "stop PocketBase and whatever else uses the folder, then start \
    pocketvault without --beside: it finishes the restore or takes it back";

/// Serves until it is told to stop. Returns only then, or with an error.
pub(super) fn run(options: &ServeOptions) -> Result<()> {
    let restart = Restart::of_this_process()?;
    raise_file_limit();
    let mut config = Config::serve(options)?;
    // Held until the process ends, before anything of the folder is looked at.
    let _lock = FolderLock::take(&config.data, config.beside)?;
    let is_outside = outside::is_due(&config)?;
    match &config.supervise {
        Some(program) => {
            // Before a restore is recovered: without the program there could be no verdict.
            program.require_program()?;
            require_free(&config.data)?;
        }
        None if is_outside => config.beside = true,
        None => config.beside = config.beside || occupied(&config.data)?,
    }
    let clock = Clock::system();
    let listener = listener(config.http)?;
    let recovery = match config.beside {
        true if is_outside => outside::swap(&config, &clock)?,
        true => {
            restore::require_settled(&config.data).map_err(|error| match error.kind() {
                Kind::InUse => error.hint(STOP_OTHERS),
                _ => error,
            })?;
            Recovery::Nothing { swept: 0 }
        }
        false => restore::recover(&config.data, &clock)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(&config, &clock, &listener, recovery, &restart))?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Restart => {
            let error = restart.exec(Some(&listener));
            // Whoever starts us again expects the data that was there, and an honest log.
            if let Err(second) = restore::cancel(&config.data, &error.full(), &clock) {
                tracing::error!(error = second.full(), "the restore could not be withdrawn");
            }
            Err(error)
        }
    }
}

/// Whether the folder belongs to another process, which is not pocketvault and stays.
fn occupied(data: &DataDir) -> Result<bool> {
    let others = occupants::lasting_processes(data, PATIENCE);
    if others.is_empty() {
        return Ok(false);
    }
    restore::require_settled(data).map_err(|error| match error.kind() {
        Kind::InUse => {
            let message = format!("{}, and the processes {others:?} use the data", error.message());
            Error::new(Kind::InUse, message).hint(STOP_OTHERS)
        }
        _ => error,
    })?;
    tracing::warn!(
        ?others,
        folder = %data.root().display(),
        "READ-ONLY: other processes have the databases open. Settings, schedules and restores \
         are theirs until they are stopped and pocketvault is restarted"
    );
    Ok(true)
}

async fn serve(
    config: &Config,
    clock: &Clock,
    listener: &TcpListener,
    recovery: Recovery,
    restart: &Restart,
) -> Result<Ended> {
    let mut signals = Signals::follow()?;
    let address = listener.local_addr().context("cannot tell the address")?;
    let door = Door::new(config.request_wait);
    let leaving = door.leaving();
    // Before the data is open: whoever comes waits for an answer, and gets one.
    let served = listener.try_clone().context("cannot share the listener")?;
    let serving = Serving::start(served, door)?;
    let supervisor = supervisor(config, address)?;
    let supervisor = supervisor.as_ref();
    let is_new = matches!(recovery, Recovery::Swapped { .. });
    let start = Start { config, clock, supervisor, leaving };
    let app = tokio::select! {
        app = start.after(recovery) => app?,
        () = signals.stop() => {
            tracing::info!("told to stop before the start was over");
            if let Some(supervisor) = supervisor {
                supervisor.stop().await;
            }
            serving.stop().await;
            if is_new {
                restore::forget_attempt(&config.data)?;
            }
            return Ok(Ended::Stopped);
        }
    };
    greet(config, address, app.first_superuser())?;
    serving.run(app, supervisor, signals, restart).await
}

/// Who runs the program that we were given.
fn supervisor(config: &Config, address: SocketAddr) -> Result<Option<Supervisor>> {
    let Some(supervise) = config.supervise.clone() else { return Ok(None) };
    let data = config.data.root().to_owned();
    let program = Program { supervise, data, public: format!("http://{address}") };
    Supervisor::new(program, &tokio::runtime::Handle::current()).map(Some)
}

/// Two programs on one folder destroy it.
fn require_free(data: &DataDir) -> Result<()> {
    let others = occupants::lasting_processes(data, PROGRAM_PATIENCE);
    if others.is_empty() {
        return Ok(());
    }
    let folder = data.root().display();
    let message = format!("the processes {others:?} have the databases in {folder} open");
    Err(Error::new(Kind::InUse, message)
        .hint("stop them: pocketvault starts the program itself, and it must be the only one"))
}

/// Takes as many open files as the system allows us: a backup holds new uploads open until it
/// has read them, and every client has a socket.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The socket that was handed to us, or a new one.
fn listener(address: SocketAddr) -> Result<TcpListener> {
    if let Some(listener) = restore::inherited_listener()? {
        return Ok(listener);
    }
    let listener = TcpListener::bind(address).map_err(|error| {
        Error::internal(format!("cannot listen on {address}"))
            .because(error)
            .hint("is another server running there? choose another address with --http")
    })?;
    rustix::net::listen(&listener, BACKLOG)
        .map_err(std::io::Error::from)
        .context("cannot listen")?;
    Ok(listener)
}

/// Tells where we are and how to begin.
fn greet(config: &Config, address: SocketAddr, first: Option<&FirstSuperuser>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let base = format!("http://{address}");
    let folder = config.data.root().display();
    let said = match first {
        None => format!("pocketvault serves {folder} on {base}\n"),
        Some(first) => welcome(&base, &folder.to_string(), first),
    };
    out.write_all(said.as_bytes()).and_then(|()| out.flush()).context("cannot print")
}

fn welcome(base: &str, folder: &str, first: &FirstSuperuser) -> String {
    let FirstSuperuser { email, password } = first;
    format!(
        r#"pocketvault serves {folder} on {base}

The first superuser was created. This password is shown only once:

  e-mail    {email}
  password  {password}

Make a backup with curl:

  TOKEN=$(curl -s {base}/api/collections/_superusers/auth-with-password \
    -H 'Content-Type: application/json' \
    -d '{{"identity":"{email}","password":"{password}"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -X POST {base}/api/backups -H "Authorization: $TOKEN"
  curl {base}/api/backups -H "Authorization: $TOKEN"

or with the JavaScript SDK (npm install pocketbase):

  import PocketBase from "pocketbase";
  const pb = new PocketBase("{base}");
  await pb.collection("_superusers").authWithPassword("{email}", "{password}");
  await pb.backups.create("first.zip");
  console.log(await pb.backups.getFullList());
"#
    )
}
