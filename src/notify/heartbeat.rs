//! Pings of a dead man's switch, as healthchecks.io and its kin take them.

use reqwest::header::HeaderMap;

use crate::config::notify::{Event, Heartbeat};

use super::client::{Client, Outgoing, Refused};
use super::note::Note;

/// What a ping says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// A backup begins.
    Start,
    /// It is made.
    Success,
    /// It failed.
    Failure,
}

impl Beat {
    /// The ping that a piece of news is; that nothing happens the other side finds out itself.
    pub fn of(event: Event) -> Option<Self> {
        match event {
            Event::Start => Some(Self::Start),
            Event::Success | Event::Test => Some(Self::Success),
            Event::Failure => Some(Self::Failure),
            _ => None,
        }
    }
}

/// Sends one ping, once; one without an address is none.
///
/// # Errors
/// As [`Client::send`].
pub async fn send(
    client: &Client,
    heartbeat: &Heartbeat,
    beat: Beat,
    note: Option<&Note>,
) -> Result<(), Refused> {
    let url = match beat {
        Beat::Start => heartbeat.start.as_ref(),
        Beat::Success => Some(&heartbeat.success),
        Beat::Failure => heartbeat.failure.as_ref(),
    };
    let Some(url) = url else { return Ok(()) };
    // With a body where there is something to say: such services keep it.
    let body = note.map(|note| format!("{}\n{}", note.title, note.body()));
    client
        .send(Outgoing {
            url: url.expose(),
            body,
            headers: HeaderMap::new(),
            timeout: heartbeat.timeout,
        })
        .await
}
