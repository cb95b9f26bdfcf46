//! Commands against a running server: `--server URL` and who asks.

mod client;
mod jobs;

use clap::Args;
use reqwest::Url;

use crate::config::storage::Secret;
use crate::error::{Error, Kind, Result};

pub(super) use client::{Client, segment};

/// Which server, and who asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A running server")]
pub(super) struct ServerOptions {
    /// Ask the server at this address instead of working on the folder
    #[arg(long, value_name = "URL", env = "POCKETVAULT_SERVER")]
    server: Option<String>,
    /// A superuser's token; without one, POCKETVAULT_EMAIL and POCKETVAULT_PASSWORD log in
    #[arg(
        long,
        value_name = "TOKEN",
        env = "POCKETVAULT_TOKEN",
        hide_env_values = true,
        value_parser = secret
    )]
    token: Option<Secret>,
}

impl ServerOptions {
    /// That server, and nobody who asks.
    pub(super) fn at(server: &str) -> Self {
        Self { server: Some(server.to_owned()), token: None }
    }

    /// The server that was named, logged in; `None` when none was.
    ///
    /// # Errors
    /// The address or the token are not usable, the login is refused, nobody answers.
    pub(super) async fn connect(&self) -> Result<Option<Client>> {
        let Some(server) = self.server.as_deref().filter(|server| !server.is_empty()) else {
            return Ok(None);
        };
        let base = address(server)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(token) = self.token.as_ref().filter(|token| !token.expose().is_empty()) {
            return Client::new(base, Some(token.clone())).map(Some);
        }
        let (email, password) = (variable("POCKETVAULT_EMAIL"), variable("POCKETVAULT_PASSWORD"));
        let (Some(email), Some(password)) = (email, password) else {
            return Err(Error::new(Kind::Unauthenticated, format!("who asks {server}?")).hint(
                "give --token or POCKETVAULT_TOKEN, or POCKETVAULT_EMAIL and POCKETVAULT_PASSWORD",
            ));
        };
        Client::new(base, None)?.logged_in(&email, &password).await.map(Some)
    }

    /// The server that was named, for a command that needs one.
    ///
    /// # Errors
    /// As [`ServerOptions::connect`]; none was named.
    pub(super) async fn require(&self) -> Result<Client> {
        self.connect().await?.ok_or_else(|| {
            Error::new(Kind::Invalid(Vec::new()), "this is for a running server")
                .hint("name it with --server URL")
        })
    }

    /// The address of the server alone, for what needs no superuser.
    ///
    /// # Errors
    /// The address is not usable.
    pub(super) fn anonymous(&self) -> Result<Option<Client>> {
        let Some(server) = &self.server else { return Ok(None) };
        Client::new(address(server)?, None).map(Some)
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn address(text: &str) -> Result<Url> {
    let with_scheme = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let bad = || {
        Error::new(Kind::Invalid(Vec::new()), format!("{text:?} is no address of a server"))
            .hint("give --server as https://HOST or http://HOST:PORT")
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| bad().because(error))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_lack_a_scheme_and_may_have_a_path() {
        for (text, url) in [
            ("127.0.0.1:8090", "http://127.0.0.1:8090/"),
            ("https://x.example/vault", "https://x.example/vault/"),
            ("http://x.example/", "http://x.example/"),
        ] {
            assert_eq!(address(text).expect("an address").as_str(), url);
        }
        for bad in ["ftp://x", "http://", "http://x:y"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
