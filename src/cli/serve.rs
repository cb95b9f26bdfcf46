//! `pocketvault serve`

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::app::{App, Ended, FirstSuperuser};
use crate::clock::Clock;
use crate::config::{Config, ServeOptions};
use crate::data_dir::DataDir;
use crate::error::{Context, Error, Kind, Result};
use crate::folder_lock::FolderLock;
use crate::occupants;
use crate::restore::{self, Recovery, Restart};

/// Connections that may wait while the process is replaced.
const BACKLOG: i32 = 4096;
/// How long a tool that copies the databases, or a shell, may have them open at the start.
const PATIENCE: Duration = Duration::from_secs(3);
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
    config.beside = config.beside || occupied(&config.data)?;
    let clock = Clock::system();
    let listener = listener(config.http)?;
    let recovery = match config.beside {
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
    let ended = runtime.block_on(serve(&config, &clock, &listener, recovery))?;
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
) -> Result<Ended> {
    let app = opened(config, clock, recovery).await?;
    let address = listener.local_addr().context("cannot tell the address")?;
    greet(config, address, app.first_superuser())?;
    let served = listener.try_clone().context("cannot share the listener")?;
    app.serve(served).await
}

/// Builds the application; data that was just swapped in is proven by that, or rolled back.
async fn opened(config: &Config, clock: &Clock, recovery: Recovery) -> Result<App> {
    let runtime = tokio::runtime::Handle::current();
    let build = || App::build(config, clock.clone(), runtime.clone());
    match recovery {
        Recovery::Nothing { swept } => {
            if swept > 0 {
                tracing::info!(swept, "removed what abandoned restores left");
            }
            let app = build().await?;
            app.settle(None).await;
            Ok(app)
        }
        Recovery::RolledBack { subject, reason } => {
            tracing::error!(key = subject.key, reason, "a restore was rolled back");
            let app = build().await?;
            app.settle(Some((&subject.id, Err(rolled_back())))).await;
            Ok(app)
        }
        Recovery::Swapped { subject, attempt } => {
            tracing::info!(key = subject.key, attempt, "restored data is in place");
            match checked(build().await).await {
                Ok(app) => {
                    restore::prove(&config.data, clock)?;
                    tracing::info!(key = subject.key, "the restore is proven");
                    app.settle(Some((&subject.id, Ok(())))).await;
                    Ok(app)
                }
                Err(error) => {
                    tracing::error!(error = error.full(), "the restored data cannot be used");
                    restore::roll_back(&config.data, &error.full(), clock)?;
                    let app = build().await?;
                    app.settle(Some((&subject.id, Err(rolled_back())))).await;
                    Ok(app)
                }
            }
        }
    }
}

/// What the record of a restore says whose data could not be used.
fn rolled_back() -> Error {
    Error::new(Kind::Corrupt, "The restored data could not be used; the data of before is back.")
        .hint("the log of the start says why")
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

/// An application whose data lets somebody log in; closed otherwise.
async fn checked(built: Result<App>) -> Result<App> {
    let app = built?;
    match app.check_login().await {
        Ok(()) => Ok(app),
        Err(error) => {
            app.close().await;
            Err(error)
        }
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
