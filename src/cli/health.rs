//! `pocketvault health`: whether the server answers, for containers and load balancers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;

use crate::cli::list::text;
use crate::cli::on_runtime;
use crate::cli::output::Output;
use crate::cli::remote::ServerOptions;
use crate::config::{Config, FolderOptions, ServeOptions};
use crate::error::{Error, Kind, Result};

/// Whose health.
#[derive(Debug, Args)]
pub(super) struct HealthOptions {
    /// Where it listens, as `serve` was told [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR", env = "POCKETVAULT_HTTP")]
    http: Option<String>,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
}

/// Runs the command. Nobody has to log in for it.
pub(super) fn run(options: &HealthOptions, output: Output) -> Result<()> {
    let answer = on_runtime(async {
        let server = match options.server.anonymous()? {
            Some(server) => server,
            None => ServerOptions::at(&here(options)?).anonymous()?.ok_or_else(unnamed)?,
        };
        server.get("api/health").await
    })?;
    output.tell(&answer, text(&answer, "message"))
}

/// Where a server of this configuration listens, as it is reached from here.
fn here(options: &HealthOptions) -> Result<String> {
    let serve = ServeOptions {
        folder: options.folder.clone(),
        http: options.http.clone(),
        ..ServeOptions::default()
    };
    let mut address = Config::serve(&serve)?.http;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

fn unnamed() -> Error {
    Error::new(Kind::Invalid(Vec::new()), "there is no server to ask")
}
