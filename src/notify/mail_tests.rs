//! Mail against a small SMTP server in the test, and against a script in `sendmail`'s place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// What the server answers to commands that begin so; everything else gets `250`.
type Script = &'static [(&'static str, &'static str)];

/// Serves one connection; gives back all lines that came.
async fn server(script: Script) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let talk = async move {
        let (socket, _) = listener.accept().await.expect("a client");
        serve(socket, script).await
    };
    (port, tokio::spawn(talk))
}

async fn serve(socket: TcpStream, script: Script) -> Vec<String> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut seen = Vec::new();
    let mut in_mail = false;
    write.write_all(b"220 test ESMTP\r\n").await.expect("greeted");
    while let Ok(Some(line)) = lines.next_line().await {
        seen.push(line.clone());
        let answer = if in_mail {
            in_mail = line != ".";
            if in_mail { continue } else { "250 taken" }
        } else if let Some((_, answer)) = script.iter().find(|(start, _)| line.starts_with(start)) {
            answer
        } else {
            match line.as_str() {
                "DATA" => {
                    in_mail = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "250 fine",
            }
        };
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
    seen
}

fn smtp(port: u16) -> Smtp {
    Smtp {
        host: "127.0.0.1".into(),
        port,
        username: String::new(),
        password: String::new(),
        login: false,
        tls: false,
        local_name: String::new(),
    }
}

fn mail(content: Content) -> Mail {
    Mail {
        sender_name: "Support, Team ä".into(),
        sender_address: "support@example.com".into(),
        to: "admin@example.com".into(),
        subject: "Backup failed\r\nBcc: evil@example.com".into(),
        content,
    }
}

fn text() -> Mail {
    mail(Content::Text("line\n.dot\nend".into()))
}

#[tokio::test]
async fn a_mail_reaches_the_server_whole() {
    let (port, seen) = server(&[("EHLO", "250 test")]).await;
    send(&Route::Smtp(smtp(port)), &text()).await.expect("sent");
    let seen = seen.await.expect("served");
    assert_eq!(seen[0], "EHLO localhost");
    assert_eq!(seen[1], "MAIL FROM:<support@example.com>");
    assert_eq!(seen[2], "RCPT TO:<admin@example.com>");
    let body = seen.join("\n");
    assert!(body.contains("\nTo: admin@example.com\n"), "{body}");
    assert!(body.contains("\nMessage-ID: <"), "{body}");
    assert!(!body.contains("\nBcc:"), "a subject cannot hold a header: {body}");
    assert!(body.contains("\n..dot\n"), "a dot is doubled: {body}");
}

#[tokio::test]
async fn html_has_a_plain_part() {
    let (port, seen) = server(&[("EHLO", "250 test")]).await;
    let html = Content::Html("<p>Your code: <b>123456</b></p>".into());
    let named = Smtp { local_name: "pb.example.com".into(), ..smtp(port) };
    send(&Route::Smtp(named), &mail(html)).await.expect("sent");
    let body = seen.await.expect("served").join("\n");
    assert!(body.starts_with("EHLO pb.example.com\n"), "{body}");
    assert!(body.contains("\nYour code: 123456\n"), "{body}");
    assert!(body.contains("<p>Your code: <b>123456</b></p>"), "{body}");
}

#[tokio::test]
async fn both_ways_of_signing_in_work() {
    let user = |login, port| Smtp {
        username: "me".into(),
        password: "secret".into(),
        login,
        ..smtp(port)
    };
    let (port, seen) =
        server(&[("EHLO", "250-test\r\n250 AUTH PLAIN LOGIN"), ("AUTH PLAIN", "235 hello")]).await;
    send(&Route::Smtp(user(false, port)), &text()).await.expect("sent");
    let plain = format!("AUTH PLAIN {}", STANDARD.encode("\0me\0secret"));
    assert!(seen.await.expect("served").contains(&plain));

    let (port, seen) = server(&[
        ("EHLO", "250-test\r\n250 AUTH PLAIN LOGIN"),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        ("bWU=", "334 UGFzc3dvcmQ6"),
        ("c2VjcmV0", "235 hello"),
    ])
    .await;
    send(&Route::Smtp(user(true, port)), &text()).await.expect("sent");
    let seen = seen.await.expect("served");
    assert_eq!(&seen[1..4], ["AUTH LOGIN", "bWU=", "c2VjcmV0"]);
}

#[tokio::test]
async fn refusals_say_what_the_server_said() {
    let (port, _seen) = server(&[("RCPT", "550 no such user")]).await;
    let error = send(&Route::Smtp(smtp(port)), &text()).await.expect_err("refused");
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(error.full().contains("no such user"), "{}", error.full());
    assert!(error.message().contains(&port.to_string()));

    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = gone.local_addr().expect("an address").port();
    drop(gone);
    let error = send(&Route::Smtp(smtp(port)), &text()).await.expect_err("nobody there");
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(error.operator_hint().is_some());
}

#[tokio::test]
async fn a_server_that_wants_no_password_gets_none() {
    let (port, seen) = server(&[("EHLO", "250 test")]).await;
    let user = Smtp { username: "me".into(), password: "secret".into(), ..smtp(port) };
    let error = send(&Route::Smtp(user), &text()).await.expect_err("refused");
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(!seen.await.expect("served").join("\n").contains("AUTH"));
}

#[test]
fn a_password_leaves_the_machine_encrypted_only() {
    let to = |host: &str, username: &str, tls| {
        security(&Smtp { host: host.into(), username: username.into(), tls, ..smtp(25) })
    };
    assert_eq!(to("smtp.example.com", "", false), Security::StartTlsIfOffered);
    assert_eq!(to("smtp.example.com", "me", false), Security::StartTlsOnly);
    assert_eq!(to("localhost", "me", false), Security::StartTlsIfOffered);
    assert_eq!(to("smtp.example.com", "me", true), Security::Tls);
    let shown = format!("{:?}", Smtp { password: "secret".into(), ..smtp(25) });
    assert!(!shown.contains("secret"));
}

#[tokio::test]
async fn what_is_no_address_is_refused_before_anything_is_sent() {
    for (sender, to) in [("x", "a@b.c"), ("a@b.c", "x"), ("a@b.c", "a@b.c, d@e.f")] {
        let mail = Mail { sender_address: sender.into(), to: to.into(), ..text() };
        let error = send(&Route::Smtp(smtp(1)), &mail).await.expect_err("refused");
        assert_eq!(error.kind(), &Kind::Invalid(Vec::new()), "{sender} {to}");
    }
}

/// A program in `sendmail`'s place. A shell writes it: were it open for writing in this
/// process, a child that another test forks meanwhile would keep it from being run.
fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("sendmail");
    let written = std::process::Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 700 \"$0\""])
        .arg(&path)
        .arg(script)
        .status();
    assert!(written.expect("run").success());
    path
}

#[tokio::test]
async fn sendmail_gets_the_mail_and_its_refusal_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let kept = dir.path().join("kept");
    let script = format!("echo \"$@\" > '{0}'; cat >> '{0}'", kept.display());
    let message = message_of(&text()).expect("a message").formatted();
    send_by_program(&program(dir.path(), &script), &message).await.expect("taken");
    let kept = std::fs::read_to_string(kept).expect("read");
    assert!(kept.starts_with("-i -t\n"), "{kept}");
    assert!(kept.contains("To: admin@example.com") && kept.contains(".dot"), "{kept}");

    let refusing = program(dir.path(), "echo mailbox full >&2; exit 75");
    let error = send_by_program(&refusing, &message).await.expect_err("refused");
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(error.full().contains("mailbox full"), "{}", error.full());
    let error = send_by_program(&dir.path().join("none"), &message).await.expect_err("missing");
    assert!(error.message().contains("cannot run"));
}
