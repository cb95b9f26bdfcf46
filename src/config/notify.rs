//! Who is told of what: `[[notify]]` and `[alarms]` in the configuration file.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::restore::duration;
use crate::config::storage::Secret;
use crate::error::{Error, Kind, Result};

/// Age of the last good backup from which on backups are stale unless told otherwise.
const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a trouble that goes on is told again unless told otherwise.
const REPEAT_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Longest time for one try unless told otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What somebody can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A backup or a restore failed, or was cut off.
    Failure,
    /// A scheduled backup was due, and none began.
    Missed,
    /// The last good backup is too old.
    Stale,
    /// A backup did not stand its check or its drill.
    ProofFailed,
    /// What was in trouble is well again.
    Recovery,
    /// Restored data could not be used, and the data of before is back.
    RolledBack,
    /// A backup begins.
    Start,
    /// A backup was made.
    Success,
    /// Somebody tries out the way.
    Test,
}

impl Event {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Missed => "missed",
            Self::Stale => "stale",
            Self::ProofFailed => "proof_failed",
            Self::Recovery => "recovery",
            Self::RolledBack => "rolled_back",
            Self::Start => "start",
            Self::Success => "success",
            Self::Test => "test",
        }
    }
}

/// What is told unless the file says otherwise: all but starts and successes.
const EVENTS_DEFAULT: [Event; 6] = [
    Event::Failure,
    Event::Missed,
    Event::Stale,
    Event::ProofFailed,
    Event::Recovery,
    Event::RolledBack,
];

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Our own JSON.
    #[default]
    Generic,
    /// Slack's incoming webhooks, and what understands them.
    Slack,
    /// Discord's webhooks.
    Discord,
    /// A topic of an ntfy server.
    Ntfy,
}

/// A receiver of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it listens. It often holds a secret: it is never shown whole.
    pub url: Secret,
    /// The form of the body.
    pub preset: Preset,
    /// The key of the signature.
    pub secret: Option<Secret>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// The body, with `{{title}}` and the like.
    pub template: Option<String>,
    /// What the body is; values in a template of JSON are escaped.
    pub content_type: String,
    /// Longest time for one try.
    pub timeout: Duration,
}

/// Our own mail server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "submission")]
    pub port: u16,
    /// User name.
    #[serde(default)]
    pub username: String,
    /// Password.
    #[serde(default)]
    pub password: Secret,
    /// TLS from the first byte; otherwise STARTTLS.
    #[serde(default)]
    pub tls: bool,
    /// Address of the sender.
    pub from: String,
}

/// Who gets mails, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Addresses; every superuser when there is none.
    pub to: Vec<String>,
    /// Our own server; PocketBase's settings name one otherwise.
    pub smtp: Option<SmtpServer>,
}

/// Addresses that are called when a backup begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Called when a backup begins.
    pub start: Option<Secret>,
    /// Called when a good backup was made.
    pub success: Secret,
    /// Called when one failed.
    pub failure: Option<Secret>,
    /// Longest time for one try.
    pub timeout: Duration,
}

/// The way to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// An HTTP request with a body.
    Webhook(Webhook),
    /// A mail.
    Mail(Mail),
    /// An HTTP request that means something by being made.
    Heartbeat(Heartbeat),
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// A name of its own.
    pub name: String,
    /// Of what; heartbeats have an order of their own.
    pub events: Vec<Event>,
    /// How.
    pub way: Way,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Who speaks, for receivers of several vaults; plain ASCII, may be empty.
    pub name: String,
    /// Who is told.
    pub channels: Vec<Channel>,
    /// Age of the last good backup from which on backups are stale, as in `[status]`.
    pub stale_after: Duration,
    /// How often a trouble that goes on is told again.
    pub repeat: Duration,
}

/// The file's form of one channel.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelTable {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    events: Option<Vec<Event>>,
    url: Option<Secret>,
    start_url: Option<Secret>,
    failure_url: Option<Secret>,
    #[serde(default)]
    preset: Preset,
    secret: Option<Secret>,
    token: Option<Secret>,
    template: Option<String>,
    content_type: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    smtp: Option<SmtpServer>,
}

/// The file's form of `[alarms]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlarmsTable {
    name: Option<String>,
    stale_after: Option<String>,
    repeat: Option<String>,
}

/// Resolves both parts of the file.
pub(super) fn resolve(
    channels: Vec<ChannelTable>,
    alarms: &AlarmsTable,
    stale_after: Duration,
) -> Result<NotifyConfig> {
    let mut names = HashSet::new();
    let mut resolved = Vec::new();
    for (index, table) in channels.into_iter().enumerate() {
        let channel = table.resolve(index + 1)?;
        if !names.insert(channel.name.clone()) {
            return Err(refused(&format!("two are named {:?}", channel.name)));
        }
        resolved.push(channel);
    }
    if alarms.stale_after.is_some() {
        return Err(refused("stale_after in [alarms] is that of [status] now")
            .hint("move it there; to hear nothing of it, leave \"stale\" out of `events`"));
    }
    let repeat = time(alarms.repeat.as_deref(), REPEAT_DEFAULT)?;
    let name = alarms.name.clone().unwrap_or_default();
    if !name.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err(refused("the name in [alarms] is not plain ASCII"));
    }
    Ok(NotifyConfig { name, channels: resolved, stale_after, repeat })
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            channels: Vec::new(),
            stale_after: STALE_AFTER_DEFAULT,
            repeat: REPEAT_DEFAULT,
        }
    }
}

impl ChannelTable {
    /// Checks the table that is `number`th in its file, or came alone through the API.
    ///
    /// # Errors
    /// [`Kind::Invalid`] without violations.
    pub fn resolve(self, number: usize) -> Result<Channel> {
        let name = self.name.clone().unwrap_or_else(|| format!("{}-{number}", self.kind));
        let events = self.events.clone().unwrap_or_else(|| EVENTS_DEFAULT.to_vec());
        let of_name = |error: Error| {
            Error::new(error.kind().clone(), format!("{} (channel {name:?})", error.message()))
        };
        let way = self.way().map_err(of_name)?;
        Ok(Channel { name, events, way })
    }

    fn way(self) -> Result<Way> {
        let timeout = time(self.timeout.as_deref(), TIMEOUT_DEFAULT)?;
        match self.kind.as_str() {
            "webhook" => {
                let url = checked(self.url)?.ok_or_else(|| refused("a webhook needs its url"))?;
                let content_type =
                    self.content_type.unwrap_or_else(|| "application/json".to_owned());
                Ok(Way::Webhook(Webhook {
                    url,
                    preset: self.preset,
                    secret: self.secret,
                    token: self.token,
                    template: self.template,
                    content_type,
                    timeout,
                }))
            }
            "mail" => Ok(Way::Mail(Mail { to: self.to, smtp: self.smtp })),
            "heartbeat" => {
                let url = checked(self.url)?.ok_or_else(|| refused("a heartbeat needs its url"))?;
                let beside = |given: Option<Secret>, end: &str| match given {
                    Some(url) if url.expose().is_empty() => Ok(None),
                    Some(url) => checked(Some(url)),
                    None => Ok(below(&url, end)),
                };
                Ok(Way::Heartbeat(Heartbeat {
                    start: beside(self.start_url, "start")?,
                    failure: beside(self.failure_url, "fail")?,
                    success: url,
                    timeout,
                }))
            }
            other => Err(refused(&format!("{other:?} is no type"))
                .hint("say type = \"webhook\", \"mail\" or \"heartbeat\"")),
        }
    }
}

/// An address below another, as healthchecks.io has them: before the query.
fn below(url: &Secret, end: &str) -> Option<Secret> {
    let mut url = Url::parse(url.expose()).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().push(end);
    Some(Secret::new(url))
}

fn checked(url: Option<Secret>) -> Result<Option<Secret>> {
    let Some(url) = url else { return Ok(None) };
    match Url::parse(url.expose()) {
        Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) && parsed.has_host() => {
            Ok(Some(url))
        }
        _ => Err(refused("an url is no http or https address")),
    }
}

fn time(text: Option<&str>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| refused(&format!("{text:?} is no time")).hint("say 90s, 30m, 12h or 7d"))
}

fn refused(what: &str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("notifications: {what}"))
}

fn submission() -> u16 {
    587
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        notify: Vec<ChannelTable>,
        #[serde(default)]
        alarms: AlarmsTable,
    }

    fn read(text: &str) -> Result<NotifyConfig> {
        let file: File = toml::from_str(text).expect("a file");
        resolve(file.notify, &file.alarms, STALE_AFTER_DEFAULT)
    }

    #[test]
    fn all_three_ways_are_read_and_their_secrets_are_not_shown() {
        let config = read(
            "[[notify]]\ntype = 'webhook'\nurl = 'https://hooks.example/T0/s3cret'\n\
             preset = 'slack'\nsecret = 's3cret'\nevents = ['failure', 'success']\n\
             [[notify]]\ntype = 'heartbeat'\nname = 'hc'\nurl = 'https://hc.example/s3cret?a=1'\n\
             failure_url = ''\ntimeout = '3s'\n\
             [[notify]]\ntype = 'mail'\nto = ['a@b.c']\n\
             smtp = { host = 'mx', from = 'v@b.c', password = 's3cret' }\n\
             [alarms]\nrepeat = '6h'",
        )
        .expect("read");
        let moved = read("[alarms]\nstale_after = '26h'").expect_err("moved");
        assert!(moved.full().contains("[status]"), "{}", moved.full());
        assert_eq!(config.repeat, Duration::from_secs(6 * 3600));
        let names: Vec<&str> = config.channels.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["webhook-1", "hc", "mail-3"]);
        assert_eq!(config.channels[0].events, [Event::Failure, Event::Success]);
        assert_eq!(config.channels[2].events, EVENTS_DEFAULT);
        let Way::Heartbeat(beat) = &config.channels[1].way else { panic!("a heartbeat") };
        let start = beat.start.as_ref().expect("a start");
        assert_eq!(start.expose(), "https://hc.example/s3cret/start?a=1");
        assert_eq!((&beat.failure, beat.timeout), (&None, Duration::from_secs(3)));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_name_of_the_channel() {
        for (text, word) in [
            ("type = 'pigeon'", "pigeon"),
            ("type = 'webhook'", "needs its url"),
            ("type = 'webhook'\nurl = 'ftp://x/'", "no http"),
            ("type = 'heartbeat'\nurl = 'x'", "no http"),
            ("type = 'mail'\ntimeout = '5'", "no time"),
        ] {
            let error = read(&format!("[[notify]]\nname = 'ops'\n{text}")).expect_err(text);
            assert!(error.message().contains(word), "{text}: {}", error.message());
            assert!(error.message().contains("\"ops\""), "{}", error.message());
        }
        let twice = "[[notify]]\ntype = 'mail'\nname = 'x'\n".repeat(2);
        assert!(read(&twice).is_err());
    }
}
