//! Bodies, signatures and templates of webhooks, and what a real receiver gets of them.

use std::time::Duration;

use serde_json::from_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::storage::Secret;
use crate::notify::client::Origin;

fn note() -> Note {
    Note {
        event: Event::Failure,
        title: "Backup failed".into(),
        text: "no \"room\" <!channel> @everyone\nleft".into(),
        hint: Some("make room".into()),
        key: Some("a.zip".into()),
        kind: Some("create".into()),
        job: Some(7),
        time: "2026-11-21 09:00:00.000Z".into(),
    }
}

fn webhook(preset: Preset) -> Webhook {
    Webhook {
        url: Secret::new("http://127.0.0.1:1/"),
        preset,
        secret: None,
        token: None,
        template: None,
        content_type: "application/json".into(),
        timeout: Duration::from_secs(5),
    }
}

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().expect("a date")
}

#[test]
fn presets_speak_the_receivers_language_and_call_nobody() {
    let generic: Value = from_str(&body(&webhook(Preset::Generic), &note())).expect("JSON");
    assert_eq!((&generic["event"], &generic["job"]), (&json!("failure"), &json!(7)));
    assert_eq!(generic["text"], note().text);
    let slack: Value = from_str(&body(&webhook(Preset::Slack), &note())).expect("JSON");
    let text = slack["text"].as_str().expect("a text");
    assert!(text.starts_with("*Backup failed*\nno \"room\" &lt;!channel&gt;"), "{text}");
    let discord: Value = from_str(&body(&webhook(Preset::Discord), &note())).expect("JSON");
    assert_eq!(discord["allowed_mentions"]["parse"], json!([]));
    let long = Note { text: "ä".repeat(5_000), ..note() };
    let discord: Value = from_str(&body(&webhook(Preset::Discord), &long)).expect("JSON");
    assert_eq!(discord["content"].as_str().expect("a text").chars().count(), 2_000);
    let (text, headers) = build(&webhook(Preset::Ntfy), &note(), "1", now()).expect("built");
    assert!(text.ends_with("Hint: make room"));
    assert_eq!(headers["title"], "Backup failed");
    assert_eq!(headers["priority"], "urgent");
    assert_eq!(headers["content-type"], "text/plain");
}

#[test]
fn templates_cannot_be_broken_by_what_is_filled_in() {
    for (template, json, expected) in [
        (r#"{"t":"{{text}}"}"#, true, r#"{"t":"no \"room\" <!channel> @everyone\nleft"}"#),
        ("{{ key }}/{{job}}/{{event}}", true, "a.zip/7/failure"),
        ("{{text}}", false, "no \"room\" <!channel> @everyone\nleft"),
        ("{{none}} {{ {{hint}} }}", false, "{{none}} {{ make room }}"),
        ("{{", false, "{{"),
    ] {
        assert_eq!(filled(template, &note(), json), expected, "{template}");
    }
}

#[test]
fn the_signature_is_an_hmac_of_time_and_body() {
    // printf '1.body' | openssl dgst -sha256 -hmac key
    assert_eq!(
        signature(b"key", "1", "body").expect("signed"),
        "sha256=91b5374b153842ad05b2c4eab9349b8321b14703165bd3fb8b034dfb8be98ae5"
    );
    let (_, unsigned) = build(&webhook(Preset::Generic), &note(), "1", now()).expect("built");
    assert!(!unsigned.contains_key("x-pocketvault-signature"));
}

/// Takes one request and answers it so; gives back the request.
async fn receiver(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("an address"));
    let talk = async move {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let mut seen = Vec::new();
        loop {
            let mut block = [0; 4096];
            let n = socket.read(&mut block).await.expect("read");
            seen.extend_from_slice(&block[..n]);
            if n == 0 || seen.ends_with(b"}") {
                break;
            }
        }
        socket.write_all(answer.as_bytes()).await.expect("answered");
        String::from_utf8(seen).expect("text")
    };
    (url, tokio::spawn(talk))
}

async fn sent(answer: &'static str, origin: Origin) -> (Result<(), Refused>, JoinHandle<String>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (url, seen) = receiver(answer).await;
    let signed = Webhook {
        url: Secret::new(url),
        secret: Some(Secret::new("key")),
        token: Some(Secret::new("tk")),
        ..webhook(Preset::Generic)
    };
    let client = Client::new(origin).expect("a client");
    (send(&client, &signed, &note(), "d-1", now()).await, seen)
}

#[tokio::test]
async fn a_receiver_gets_what_was_signed() {
    let (result, seen) = sent("HTTP/1.1 204 x\r\n\r\n", Origin::File).await;
    assert!(result.is_ok(), "{result:?}");
    let seen = seen.await.expect("served");
    let (head, body) = seen.split_once("\r\n\r\n").expect("a body");
    let expected = signature(b"key", &now().timestamp().to_string(), body).expect("signed");
    assert!(head.contains(&format!("x-pocketvault-signature: {expected}")), "{head}");
    assert!(head.contains("authorization: Bearer tk"), "{head}");
    assert!(head.contains("x-pocketvault-delivery: d-1"), "{head}");
}

#[tokio::test]
async fn refusals_say_whether_another_try_helps_and_never_the_address() {
    for (answer, again, after) in [
        ("HTTP/1.1 500 x\r\ncontent-length: 4\r\n\r\noops", true, None),
        ("HTTP/1.1 429 x\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", true, Some(7)),
        ("HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n", false, None),
        (
            "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            false,
            None,
        ),
    ] {
        let (result, _) = sent(answer, Origin::File).await;
        let refused = result.expect_err(answer);
        assert_eq!((refused.again, refused.after), (again, after.map(Duration::from_secs)));
        assert!(!refused.error.full().contains("s3cret"), "{}", refused.error.full());
    }
}

#[tokio::test]
async fn nothing_inside_is_asked_for_a_client_of_the_api() {
    let (result, seen) = sent("HTTP/1.1 204 x\r\n\r\n", Origin::Api).await;
    let refused = result.expect_err("refused");
    assert_eq!((refused.error.kind(), refused.again), (&Kind::Denied, false));
    assert!(!seen.is_finished(), "nobody connected");
    let client = Client::new(Origin::Api).expect("a client");
    let named = Webhook { url: Secret::new("http://localhost:1/x"), ..webhook(Preset::Slack) };
    let refused = send(&client, &named, &note(), "1", now()).await.expect_err("refused");
    assert!(refused.error.full().contains("no address outside"), "{}", refused.error.full());
}
