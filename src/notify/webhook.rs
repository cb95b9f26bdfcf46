//! Webhooks: one POST per piece of news, signed where there is a key.
//!
//! The signature is `sha256=` and the hex HMAC-SHA256 of `{timestamp}.{body}` in
//! `X-Pocketvault-Signature`, with the timestamp (seconds since 1970) in
//! `X-Pocketvault-Timestamp`. A receiver that refuses old timestamps cannot be fooled by a
//! repetition; `X-Pocketvault-Delivery` is the same for every try of one delivery.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::config::notify::{Event, Preset, Webhook};
use crate::error::{Error, Kind};

use super::client::{Client, Outgoing, Refused};
use super::note::Note;

/// Discord refuses longer messages.
const DISCORD_CHARS_MAX: usize = 2_000;

/// Sends one webhook, once. `delivery` names it to the receiver.
///
/// # Errors
/// As [`Client::send`].
pub async fn send(
    client: &Client,
    webhook: &Webhook,
    note: &Note,
    delivery: &str,
    now: DateTime<Utc>,
) -> Result<(), Refused> {
    let bad = || Error::new(Kind::Invalid(Vec::new()), "a header of the webhook is not usable");
    let (body, headers) =
        build(webhook, note, delivery, now).ok_or_else(bad).map_err(Refused::finally)?;
    let url = webhook.url.expose();
    client.send(Outgoing { url, body: Some(body), headers, timeout: webhook.timeout }).await
}

fn build(
    webhook: &Webhook,
    note: &Note,
    delivery: &str,
    now: DateTime<Utc>,
) -> Option<(String, HeaderMap)> {
    let body = body(webhook, note);
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        Some(())
    };
    let plain = webhook.preset == Preset::Ntfy && webhook.template.is_none();
    set(CONTENT_TYPE.as_str(), if plain { "text/plain" } else { &webhook.content_type })?;
    set("x-pocketvault-event", note.event.as_str())?;
    set("x-pocketvault-delivery", delivery)?;
    if webhook.preset == Preset::Ntfy {
        set("title", &note.title)?;
        let (priority, tags) = urgency(note.event);
        set("priority", priority)?;
        set("tags", tags)?;
    }
    if let Some(token) = &webhook.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if let Some(secret) = &webhook.secret {
        let timestamp = now.timestamp().to_string();
        let signature = signature(secret.expose().as_bytes(), &timestamp, &body)?;
        headers.insert("x-pocketvault-timestamp", HeaderValue::from_str(&timestamp).ok()?);
        headers.insert("x-pocketvault-signature", HeaderValue::from_str(&signature).ok()?);
    }
    Some((body, headers))
}

fn signature(secret: &[u8], timestamp: &str, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").ok()?;
    }
    Some(text)
}

fn body(webhook: &Webhook, note: &Note) -> String {
    if let Some(template) = &webhook.template {
        return filled(template, note, webhook.content_type.contains("json"));
    }
    match webhook.preset {
        Preset::Generic => json!(note).to_string(),
        Preset::Slack => {
            json!({ "text": format!("*{}*\n{}", escaped(&note.title), escaped(&note.body())) })
                .to_string()
        }
        Preset::Discord => {
            let text = format!("**{}**\n{}", note.title, note.body());
            let text: String = text.chars().take(DISCORD_CHARS_MAX).collect();
            // Nobody is called by what stands in an error message.
            json!({ "content": text, "allowed_mentions": { "parse": [] } }).to_string()
        }
        Preset::Ntfy => note.body(),
    }
}

/// Slack's own escapes: without them a text could call a whole channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// ntfy's words for how much it matters.
fn urgency(event: Event) -> (&'static str, &'static str) {
    match event {
        Event::Start | Event::Success | Event::Recovery => ("default", "white_check_mark"),
        Event::Test => ("default", "test_tube"),
        Event::Missed | Event::Stale => ("high", "warning"),
        Event::Failure | Event::ProofFailed | Event::RolledBack => ("urgent", "rotating_light"),
    }
}

/// A template with its `{{names}}` replaced; names that mean nothing are left alone.
fn filled(template: &str, note: &Note, json: bool) -> String {
    let values = match json!(note) {
        Value::Object(values) => values,
        _ => return template.to_owned(),
    };
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let known = after.split_once("}}").and_then(|(name, tail)| {
            let value = match name.trim() {
                "body" => Value::String(note.body()),
                name => values.get(name)?.clone(),
            };
            Some((value, tail))
        });
        match known {
            Some((value, tail)) => {
                out.push_str(&shown(&value, json));
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A value as it stands between a template's quotes.
fn shown(value: &Value, json: bool) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if !json {
        return text;
    }
    let quoted = Value::String(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
