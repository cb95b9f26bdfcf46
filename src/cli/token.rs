//! `pocketvault token …`, beside a running server or without one.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::on_runtime;
use crate::cli::output::{Output, print};
use crate::clock::{Clock, pocketbase_time};
use crate::config::{self, FolderOptions, duration};
use crate::error::{Error, Kind, Result};
use crate::state::StateDb;
use crate::vault::tokens::{Token, Tokens, Wish};

/// What to do with tokens of our API.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it is shown only once
    Create(Created),
    /// List the tokens
    List(Listed),
    /// Take a token back
    Revoke(Revoked),
}

#[derive(Debug, Args)]
pub(super) struct Created {
    /// What it is for
    name: String,
    /// read, create, download, restore or admin; more than one by commas or by repeating it
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Only for pb_data, or for the PostgreSQL database of this name
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// How long it is valid, like 12h or 90d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    #[command(flatten)]
    folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(super) struct Revoked {
    /// Its number, as `pocketvault token list` shows it
    id: u64,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Runs the command.
pub(super) fn run(command: &TokenCommand, output: Output) -> Result<()> {
    on_runtime(perform(command, output))
}

async fn perform(command: &TokenCommand, output: Output) -> Result<()> {
    let folder = match command {
        TokenCommand::Create(created) => &created.folder,
        TokenCommand::List(listed) => &listed.folder,
        TokenCommand::Revoke(revoked) => &revoked.folder,
    };
    let (data, clock) = (config::folder(folder)?, Clock::system());
    let tokens = Tokens::new(StateDb::open(data.state(), &clock).await?, clock);
    match command {
        TokenCommand::Create(created) => {
            let valid = match created.expires_in.as_deref().map(duration) {
                None => None,
                Some(Some(valid)) => Some(valid),
                Some(None) => {
                    return Err(Error::new(Kind::Invalid(Vec::new()), "--expires-in is no time")
                        .hint("say 12h or 90d"));
                }
            };
            let (name, scopes) = (created.name.clone(), created.scopes.clone());
            let wish = Wish { name, scopes, vault: created.database.clone(), valid };
            let (text, token) = tokens.create(&wish).await?;
            output.tell(&json!({"id": token.id, "token": text}), &text)
        }
        TokenCommand::List(_) => {
            let tokens = tokens.list().await?;
            match output.json {
                true => print(tokens.iter().map(shown).collect::<Value>()),
                false => tokens.iter().try_for_each(|token| print(line(token))),
            }
        }
        TokenCommand::Revoke(revoked) => tokens.revoke(revoked.id).await,
    }
}

fn words(token: &Token) -> Vec<&'static str> {
    token.scopes.iter().map(|scope| scope.as_str()).collect()
}

fn shown(token: &Token) -> Value {
    json!({"id": token.id, "name": token.name, "scopes": words(token), "database": token.vault,
        "created": pocketbase_time(token.created), "expires": token.expires.map(pocketbase_time),
        "used": token.used.map(pocketbase_time)})
}

fn line(token: &Token) -> String {
    let time = |time: Option<_>| time.map_or_else(|| "never".to_owned(), pocketbase_time);
    let vault = token.vault.as_deref().unwrap_or("all");
    let (expires, used) = (time(token.expires), time(token.used));
    let (id, name, scopes) = (token.id, &token.name, words(token).join(","));
    format!("{id}  {name}  {scopes}  {vault}  expires {expires}  used {used}")
}
