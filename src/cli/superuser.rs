//! `pocketvault superuser …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::auth::superusers::{Saved, Superusers};
use crate::auth::{bootstrap, password};
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::config::{self, FolderOptions};
use crate::database::{Access, Database};
use crate::error::{Context, Error, Kind, Result};
use crate::restore;

/// What to do with a superuser.
#[derive(Debug, Subcommand)]
pub(super) enum SuperuserCommand {
    /// Create a superuser, or change the password of an existing one
    Upsert(Named),
    /// Create a superuser
    Create(Named),
    /// Change a superuser's password
    Update(Named),
    /// Delete a superuser
    Delete(Address),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// E-mail address
    email: String,
    /// Password; one is generated and printed when it is left out
    password: Option<String>,
    #[command(flatten)]
    folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(super) struct Address {
    /// E-mail address
    email: String,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Runs the command. To create a superuser, a folder without databases gets them, as `serve`
/// would make them.
pub(super) fn run(command: SuperuserCommand, output: Output) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(perform(command, output))
}

async fn perform(command: SuperuserCommand, output: Output) -> Result<()> {
    let (folder, email) = match &command {
        SuperuserCommand::Upsert(named)
        | SuperuserCommand::Create(named)
        | SuperuserCommand::Update(named) => (&named.folder, &named.email),
        SuperuserCommand::Delete(address) => (&address.folder, &address.email),
    };
    let data = config::folder(folder)?;
    let clock = Clock::system();
    restore::require_settled(&data).map_err(|error| match error.kind() {
        Kind::InUse => error.hint("start the server first (`pocketvault serve`): it ends that"),
        _ => error,
    })?;
    let creates = matches!(command, SuperuserCommand::Upsert(_) | SuperuserCommand::Create(_));
    if creates && !data.data_db().exists() {
        bootstrap::create(data.root(), &clock).await?;
    }
    let database = Database::open(data.root(), Access::ReadWrite)?;
    let superusers = Superusers::new(database.clone(), clock);
    let said = match &command {
        SuperuserCommand::Upsert(named) => {
            let (password, generated) = password_of(named);
            let what = match superusers.upsert(email, &password).await? {
                Saved::Created => "created",
                Saved::Updated => "updated",
            };
            said(email, what, generated.then_some(&password))
        }
        SuperuserCommand::Create(named) => {
            let (password, generated) = password_of(named);
            superusers.create(email, &password).await?;
            said(email, "created", generated.then_some(&password))
        }
        SuperuserCommand::Update(named) => {
            let (password, generated) = password_of(named);
            superusers.update(email, &password).await?;
            said(email, "updated", generated.then_some(&password))
        }
        SuperuserCommand::Delete(_) => match superusers.delete(email).await? {
            true => said(email, "deleted", None),
            false => {
                return Err(Error::new(Kind::NotFound, format!("There is no superuser {email}.")));
            }
        },
    };
    database.close().await;
    let (value, words) = said;
    output.tell(&value, words)
}

fn password_of(named: &Named) -> (String, bool) {
    match &named.password {
        Some(password) => (password.clone(), false),
        None => (password::generate(), true),
    }
}

fn said(email: &str, what: &str, password: Option<&String>) -> (Value, String) {
    let words = match password {
        Some(password) => format!("Superuser {email} {what}, password {password}"),
        None => format!("Superuser {email} {what}."),
    };
    (json!({"email": email, "done": what, "password": password}), words)
}
