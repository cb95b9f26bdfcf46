//! Brings news to their receivers: one task per receiver, so that a slow one delays nobody
//! else, and no backup ever.

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::Notify;

use crate::config::notify::{Channel, Mail, Way};
use crate::error::{Error, Result};
use crate::notify::client::{Client, Origin, Refused};
use crate::notify::heartbeat::{self, Beat};
use crate::notify::mail::{self, Content, Route, Smtp};
use crate::notify::note::Note;
use crate::notify::retry::Retry;
use crate::notify::webhook;
use crate::state::StateDb;
use crate::vault::alarms::book;
use crate::vault::mailer::Mailer;

/// The means of all receivers.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) state: StateDb,
    pub(super) mailer: Mailer,
    pub(super) client: Client,
    pub(super) retry: Retry,
}

impl Means {
    pub(super) fn new(state: StateDb, mailer: Mailer) -> Result<Self> {
        let client = Client::new(Origin::File)?;
        Ok(Self { state, mailer, client, retry: Retry::default() })
    }

    /// Delivers what is on its way to one receiver, for ever.
    pub(super) async fn serve(self, channel: Channel, wake: Arc<Notify>) {
        loop {
            match book::next(&self.state, &channel.name).await {
                Ok(Some(pending)) => {
                    let delivery = format!("{}-{}", pending.made.timestamp_millis(), pending.id);
                    self.deliver(&channel, &pending.note, &delivery).await;
                    if let Err(error) = book::remove(&self.state, pending.id).await {
                        tracing::error!(error = error.full(), "news may be told twice");
                        wake.notified().await;
                    }
                }
                Ok(None) => wake.notified().await,
                Err(error) => {
                    tracing::error!(error = error.full(), "cannot tell what is to be told");
                    wake.notified().await;
                }
            }
        }
    }

    /// Tries until it is taken or there is no hope.
    async fn deliver(&self, channel: &Channel, note: &Note, delivery: &str) {
        let (to, event) = (channel.name.as_str(), note.event.as_str());
        let mut tried = 1;
        loop {
            let refused = match self.send(&self.client, channel, note, delivery).await {
                Ok(()) => {
                    tracing::info!(to, event, tried, "told");
                    return;
                }
                Err(refused) => refused,
            };
            let error = refused.error.full();
            let pause = self.retry.pause(tried, refused.after).filter(|_| refused.again);
            let Some(pause) = pause else {
                tracing::error!(to, event, tried, error, "could not be told");
                return;
            };
            tracing::warn!(to, event, tried, error, "not told yet");
            tokio::time::sleep(pause).await;
            tried += 1;
        }
    }

    /// One try.
    pub(super) async fn send(
        &self,
        client: &Client,
        channel: &Channel,
        note: &Note,
        delivery: &str,
    ) -> Result<(), Refused> {
        match &channel.way {
            Way::Webhook(hook) => webhook::send(client, hook, note, delivery, Utc::now()).await,
            Way::Heartbeat(target) => match Beat::of(note.event) {
                Some(beat) => heartbeat::send(client, target, beat, Some(note)).await,
                None => Ok(()),
            },
            Way::Mail(target) => self.mail(target, note).await.map_err(|error| Refused {
                again: true,
                after: None,
                error,
            }),
        }
    }

    /// To everybody; an error when somebody got none. Who got one may get it again then.
    async fn mail(&self, target: &Mail, note: &Note) -> Result<()> {
        let mut to = target.to.clone();
        if to.is_empty() {
            let superusers = self.mailer.superusers().list().await?;
            to = superusers.into_iter().map(|superuser| superuser.email).collect();
        }
        let text = format!("{}\n\nTime: {}\n", note.body(), note.time);
        let mut failed: Option<Error> = None;
        for to in to {
            let sent = match &target.smtp {
                None => self.mailer.send(&to, &note.title, &text).await,
                Some(server) => {
                    let route = Route::Smtp(Smtp {
                        host: server.host.clone(),
                        port: server.port,
                        username: server.username.clone(),
                        password: server.password.expose().to_owned(),
                        login: false,
                        tls: server.tls,
                        local_name: String::new(),
                    });
                    let mail = mail::Mail {
                        sender_name: "pocketvault".to_owned(),
                        sender_address: server.from.clone(),
                        to: to.clone(),
                        subject: note.title.clone(),
                        content: Content::Text(text.clone()),
                    };
                    mail::send(&route, &mail).await
                }
            };
            failed = failed.or(sent.err());
        }
        failed.map_or(Ok(()), Err)
    }
}
