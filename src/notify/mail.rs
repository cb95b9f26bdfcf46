//! One mail, sent now: through an SMTP server, or through the machine's `sendmail`.
//!
//! Every sending has a time limit; nothing is queued or tried again here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Context, Error, Kind, Result};

use super::plain::text_of;

/// Longest time that sending one mail may take.
pub const SEND_TIME_MAX: Duration = Duration::from_secs(60);
/// Where `sendmail` is looked for; a bare name is looked for in `PATH`.
const SENDMAIL: [&str; 3] = ["/usr/sbin/sendmail", "/usr/bin/sendmail", "sendmail"];

/// The way a mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Through a mail server.
    Smtp(Smtp),
    /// Through the machine's `sendmail` program.
    Sendmail,
}

/// A mail server and how it is talked to.
#[derive(Clone, PartialEq, Eq)]
pub struct Smtp {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name; without it and the password nobody signs in.
    pub username: String,
    /// Password.
    pub password: String,
    /// Sign in with `LOGIN` instead of `PLAIN`.
    pub login: bool,
    /// TLS from the first byte; otherwise STARTTLS where the server offers it.
    pub tls: bool,
    /// Our name in EHLO; empty for `localhost`.
    pub local_name: String,
}

impl fmt::Debug for Smtp {
    // Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("username", &self.username)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// HTML; a plain part is made of it.
    Html(String),
}

/// A mail to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Name of the sender, may be empty.
    pub sender_name: String,
    /// Address of the sender.
    pub sender_address: String,
    /// Address of the receiver.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// What it says.
    pub content: Content,
}

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, or nothing is sent.
    StartTlsOnly,
    /// STARTTLS where it is offered.
    StartTlsIfOffered,
}

/// Sends a mail; returns when the server (or `sendmail`) has taken it.
///
/// # Errors
/// [`Kind::Invalid`] without violations when an address is none; [`Kind::Unavailable`] when
/// the server or `sendmail` is missing, refuses, or takes longer than [`SEND_TIME_MAX`]. The
/// cause is the server's own answer.
pub async fn send(route: &Route, mail: &Mail) -> Result<()> {
    let message = message_of(mail)?;
    let sending = async {
        match route {
            Route::Smtp(smtp) => send_by_smtp(smtp, message).await,
            Route::Sendmail => send_by_program(&sendmail()?, &message.formatted()).await,
        }
    };
    tokio::time::timeout(SEND_TIME_MAX, sending).await.unwrap_or_else(|_| {
        let message = format!("sending a mail took longer than {} s", SEND_TIME_MAX.as_secs());
        Err(Error::new(Kind::Unavailable, message)
            .hint("is the SMTP port right, and does it speak TLS from the first byte or not?"))
    })
}

fn message_of(mail: &Mail) -> Result<Message> {
    let name = Some(mail.sender_name.clone()).filter(|name| !name.is_empty());
    let draft = Message::builder()
        .from(Mailbox::new(name, address("sender", &mail.sender_address)?))
        .to(Mailbox::new(None, address("receiver", &mail.to)?))
        .subject(&mail.subject)
        .message_id(None);
    match &mail.content {
        Content::Text(text) => draft.singlepart(SinglePart::plain(text.clone())),
        Content::Html(html) => {
            draft.multipart(MultiPart::alternative_plain_html(text_of(html), html.clone()))
        }
    }
    .context("cannot write the mail")
}

fn address(role: &str, text: &str) -> Result<Address> {
    text.parse().map_err(|error: lettre::address::AddressError| {
        let message = format!("{text:?} cannot be the {role} of a mail");
        Error::new(Kind::Invalid(Vec::new()), message).because(error)
    })
}

async fn send_by_smtp(smtp: &Smtp, message: Message) -> Result<()> {
    let transport = transport(smtp)?;
    let sent = transport.send(message).await;
    sent.map(drop).map_err(|error| {
        let hint = if error.is_tls() {
            "the server's certificate or its TLS version was refused; check host, port and the \
             TLS setting"
        } else if error.is_permanent() || error.is_transient() {
            "the server refused; check user name, password and the sender's address"
        } else if error.is_timeout() {
            "the server did not answer in time; check host, port and the TLS setting"
        } else {
            "check host and port, and that the server offers STARTTLS and a way to sign in"
        };
        let message = format!("the mail server {}:{} did not take the mail", smtp.host, smtp.port);
        Error::new(Kind::Unavailable, message).because(error).hint(hint)
    })
}

fn transport(smtp: &Smtp) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let parameters =
        TlsParameters::new(smtp.host.clone()).context("cannot prepare TLS for the mail server")?;
    let tls = match security(smtp) {
        Security::Tls => Tls::Wrapper(parameters),
        Security::StartTlsOnly => Tls::Required(parameters),
        Security::StartTlsIfOffered => Tls::Opportunistic(parameters),
    };
    let local_name =
        if smtp.local_name.is_empty() { "localhost" } else { smtp.local_name.as_str() };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
        .port(smtp.port)
        .tls(tls)
        .timeout(Some(SEND_TIME_MAX))
        .hello_name(ClientId::Domain(local_name.to_owned()));
    if smtp.signs_in() {
        let mechanism = if smtp.login { Mechanism::Login } else { Mechanism::Plain };
        builder = builder
            .credentials(Credentials::new(smtp.username.clone(), smtp.password.clone()))
            .authentication(vec![mechanism]);
    }
    Ok(builder.build())
}

impl Smtp {
    fn signs_in(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }
}

/// A password is never sent in clear, except within the machine.
fn security(smtp: &Smtp) -> Security {
    let local = matches!(smtp.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    match (smtp.tls, smtp.signs_in() && !local) {
        (true, _) => Security::Tls,
        (false, true) => Security::StartTlsOnly,
        (false, false) => Security::StartTlsIfOffered,
    }
}

fn sendmail() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    SENDMAIL
        .iter()
        .flat_map(|name| match Path::new(name).is_absolute() {
            true => vec![PathBuf::from(name)],
            false => folders.iter().map(|folder| folder.join(name)).collect(),
        })
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            Error::new(Kind::Unavailable, "failed to locate a sendmail executable path")
                .hint("enable SMTP in the settings, or install a sendmail")
        })
}

/// Receivers are taken from the mail's own header (`-t`), a line with a dot is no end (`-i`).
async fn send_by_program(program: &Path, mail: &[u8]) -> Result<()> {
    let shown = program.display();
    let mut child = Command::new(program)
        .args(["-i", "-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let written = match child.stdin.take() {
        // Dropping the pipe at the end of this arm tells the program that this was all.
        Some(mut stdin) => stdin.write_all(mail).await,
        None => Ok(()),
    };
    let output =
        child.wait_with_output().await.with_context(|| format!("cannot wait for {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = format!("{shown} did not take the mail ({})", output.status);
        return Err(Error::new(Kind::Unavailable, message).because(said));
    }
    written.with_context(|| format!("cannot write to {shown}"))
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
