//! Against a real PocketBase: it starts on our folders, and each side accepts what the other
//! issued. `POCKETVAULT_TEST_POCKETBASE` names its binary; without it the tests say SKIPPED.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::bootstrap;
use super::collection::SUPERUSERS;
use super::directory::{Credentials, Directory, Issue, key};
use super::keys::{TokenKind, header_token, sign_raw};
use super::mfa::{Admission, Login, Method};
use super::origins::{Familiarity, Origin};
use super::otp::OtpOutcome;
use super::record::Identity;
use super::superusers::Superusers;
use crate::clock::Clock;
use crate::database::{Access, Database};

const EMAIL: &str = "test@example.com";
const PASSWORD: &str = "1234567890";
const USER_AGENT: &str = "pocketvault-test";

fn binary() -> Option<PathBuf> {
    let binary = std::env::var_os("POCKETVAULT_TEST_POCKETBASE").map(PathBuf::from);
    if binary.is_none() {
        // Not `eprintln`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "SKIPPED: POCKETVAULT_TEST_POCKETBASE is not set");
    }
    binary
}

/// A running PocketBase; it ends when this is dropped.
struct PocketBase {
    child: Child,
    port: u16,
}

impl PocketBase {
    fn start(binary: &Path, root: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let port = port.port();
        let child = Command::new(binary)
            .args(["serve", "--automigrate=false", "--http", &format!("127.0.0.1:{port}")])
            .arg("--dir")
            .arg(root)
            .current_dir(root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let started = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                assert_eq!(started.call("GET", "/api/health", "", &json!({})).0, 200);
                return started;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PocketBase does not answer")
    }

    fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\
             User-Agent: {USER_AGENT}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("received");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn log_in(&self) -> (u16, Value) {
        let path = "/api/collections/_superusers/auth-with-password";
        self.call("POST", path, "", &json!({"identity": EMAIL, "password": PASSWORD}))
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::TERM)
            .expect("asked to stop");
        self.child.wait().expect("stopped");
    }
}

impl Drop for PocketBase {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fresh folder of ours with one superuser, closed.
async fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    bootstrap::create(dir.path(), &Clock::system()).await.expect("created");
    let database = Database::open(dir.path(), Access::ReadWrite).expect("opened");
    let superusers = Superusers::new(database.clone(), Clock::system());
    superusers.upsert(EMAIL, PASSWORD).await.expect("saved");
    database.close().await;
    dir
}

fn open(root: &Path, access: Access) -> (Database, Directory) {
    let database = Database::open(root, access).expect("opened");
    (database.clone(), Directory::new(database, Clock::system()))
}

async fn log_in(directory: &Directory) -> Identity {
    let collection = directory.collection(SUPERUSERS).await.expect("read").expect("there");
    let credentials = Credentials { identity: EMAIL, password: PASSWORD, identity_field: None };
    let found = directory.authenticate_password(&collection, &credentials).await;
    found.expect("checked").expect("logged in")
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[tokio::test]
async fn pocketbase_starts_on_our_folder_and_both_accept_each_other_s_tokens() {
    let Some(binary) = binary() else { return };
    let dir = folder().await;
    let pocketbase = PocketBase::start(&binary, dir.path());
    let (status, login) = pocketbase.log_in();
    assert_eq!(status, 200, "{login}");
    let theirs = word(&login, "token");

    let (database, directory) = open(dir.path(), Access::ReadOnly);
    let identity = directory.identify(&theirs, TokenKind::Auth).await.expect("read");
    let identity = identity.expect("their token is valid here");
    assert!(identity.is_superuser() && identity.refreshable());
    assert_eq!(Value::Object(identity.record().clone()), login["record"]);
    let (_, file) = pocketbase.call("POST", "/api/files/token", &theirs, &json!({}));
    let file = directory.identify(&word(&file, "token"), TokenKind::File).await.expect("read");
    assert_eq!(file.expect("their file token is valid here").email(), EMAIL);

    let ours = directory.issue(&log_in(&directory).await, Issue::Auth).expect("issued");
    assert_eq!(pocketbase.call("GET", "/api/backups", &ours, &json!({})).0, 200);
    let refresh = "/api/collections/_superusers/auth-refresh";
    let (status, refreshed) = pocketbase.call("POST", refresh, &ours, &json!({}));
    assert_eq!((status, &refreshed["record"]), (200, &login["record"]));
    let file = directory.issue(&identity, Issue::File).expect("issued");
    for (token, status) in [(file.as_str(), 404), (ours.as_str(), 403)] {
        let path = format!("/api/backups/missing.zip?token={token}");
        assert_eq!(pocketbase.call("GET", &path, "", &json!({})).0, status);
    }
    database.close().await;
    whole_schema_is_there(&pocketbase, &ours);
    pocketbase.stop();
}

/// PocketBase can read, change and save everything that the seed describes.
fn whole_schema_is_there(pocketbase: &PocketBase, token: &str) {
    let (status, list) = pocketbase.call("GET", "/api/collections", token, &json!({}));
    assert_eq!((status, list["totalItems"].as_i64()), (200, Some(6)), "{list}");
    for name in ["_superusers", "users"] {
        let path = format!("/api/collections/{name}");
        let change = json!({"authToken": {"duration": 3600}});
        let (status, answer) = pocketbase.call("PATCH", &path, token, &change);
        assert_eq!(status, 200, "{answer}");
    }
    let user = json!({"email": "u@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD});
    let (status, answer) = pocketbase.call("POST", "/api/collections/users/records", token, &user);
    assert_eq!(status, 200, "{answer}");
    let settings = json!({"meta": {"appName": "Ours"}});
    let (status, answer) = pocketbase.call("PATCH", "/api/settings", token, &settings);
    assert_eq!((status, &answer["meta"]["appName"]), (200, &json!("Ours")));
}

#[tokio::test]
async fn a_login_with_two_factors_may_begin_at_one_and_end_at_the_other() {
    let Some(binary) = binary() else { return };
    let dir = folder().await;
    let pocketbase = PocketBase::start(&binary, dir.path());
    let token = word(&pocketbase.log_in().1, "token");
    let both = json!({"otp": {"enabled": true}, "mfa": {"enabled": true}});
    let path = "/api/collections/_superusers";
    assert_eq!(pocketbase.call("PATCH", path, &token, &both).0, 200);
    let (status, first) = pocketbase.log_in();
    assert_eq!(status, 401);
    pocketbase.stop();

    let (database, directory) = open(dir.path(), Access::ReadWrite);
    let collection = directory.collection(SUPERUSERS).await.expect("read").expect("there");
    let origin = Origin { ip: "127.0.0.1", user_agent: USER_AGENT.as_bytes() };
    let identity = log_in(&directory).await;
    let known = directory.remember_origin(&identity, origin).await;
    assert_eq!(known, Familiarity::Known, "PocketBase made the same fingerprint");
    let request = directory.request_otp(&collection, EMAIL).await.expect("made");
    let password = request.mail.expect("to be mailed").password;
    let outcome = directory.authenticate_otp(&collection, &request.otp_id, &password).await;
    let OtpOutcome::Accepted(identity) = outcome.expect("checked") else { panic!("refused") };
    let mfa_id = word(&first, "mfaId");
    let login = Login { method: Method::Otp, mfa_id: Some(&mfa_id), requester: None };
    let admission = directory.admit(&identity, &login).await.expect("their session is ours");
    assert_eq!(admission, Admission::Granted);

    let login = Login { method: Method::Password, mfa_id: None, requester: None };
    let admission = directory.admit(&identity, &login).await.expect("begun");
    let Admission::SecondFactor { mfa_id } = admission else { panic!("one was enough") };
    let request = directory.request_otp(&collection, EMAIL).await.expect("made");
    let password = request.mail.expect("to be mailed").password;
    database.close().await;

    let pocketbase = PocketBase::start(&binary, dir.path());
    let path = "/api/collections/_superusers/auth-with-otp";
    let body = json!({"otpId": request.otp_id, "password": password, "mfaId": mfa_id});
    let (status, answer) = pocketbase.call("POST", path, "", &body);
    assert_eq!(status, 200, "{answer}");
    pocketbase.stop();
}

#[tokio::test]
async fn forged_tokens_are_judged_alike() {
    let Some(binary) = binary() else { return };
    let dir = folder().await;
    let pocketbase = PocketBase::start(&binary, dir.path());
    let (database, directory) = open(dir.path(), Access::ReadOnly);
    let identity = log_in(&directory).await;
    let key = key(&identity, TokenKind::Auth).expect("a key");
    let now = Clock::system().now().timestamp();
    let claims = |more: &str| {
        let id = identity.id();
        format!(r#"{{"collectionId":"pbc_3142635823","id":"{id}","type":"auth"{more}}}"#)
    };
    let good = r#"{"alg":"HS256","typ":"JWT"}"#;
    let mut headers = Vec::new();
    for more in [
        String::new(),
        r#","exp":0"#.to_owned(),
        r#","exp":null"#.to_owned(),
        r#","exp":"9999999999""#.to_owned(),
        r#","exp":[9999999999]"#.to_owned(),
        format!(r#","exp":{}.75"#, now + 60),
        format!(r#","exp":{}"#, now - 60),
        r#","exp":-0.5"#.to_owned(),
        r#","exp":0.5"#.to_owned(),
        r#","nbf":0,"iat":0"#.to_owned(),
        format!(r#","nbf":{}"#, now + 60),
        format!(r#","iat":{}"#, now + 60),
        r#","iat":null"#.to_owned(),
        r#","refreshable":"true","iss":7,"aud":{}"#.to_owned(),
        r#","type":"file""#.to_owned(),
        r#","collectionId":"_SUPERUSERS""#.to_owned(),
        r#","collectionId":"users""#.to_owned(),
        r#","id":"missing""#.to_owned(),
        r#","id":null"#.to_owned(),
    ] {
        headers.push(sign_raw(good, &claims(&more), &key));
    }
    for header in ["{}", "null", r#"{"alg":"none"}"#, r#"{"alg":"HS384"}"#, r#"{"alg":"hs256"}"#] {
        headers.push(sign_raw(header, &claims(""), &key));
    }
    for header in [
        r#"{"alg":"HS256","typ":"x","crit":["y"]}"#,
        r#"{"alg":"HS256","typ":7,"crit":"y","kid":[],"jwk":1}"#,
    ] {
        headers.push(sign_raw(header, &claims(""), &key));
    }
    headers.push(sign_raw(good, &claims(""), b"another key"));
    let token = sign_raw(good, &claims(""), &key);
    for form in ["Bearer {}", "bEARER {}", "Bearer  {}", "Token {}", "{}=", "{}.", "x{}", "{}.{}"] {
        headers.push(form.replace("{}", &token));
    }
    let mut accepted = 0;
    for header in headers {
        let theirs = pocketbase.call("GET", "/api/backups", &header, &json!({})).0 == 200;
        let ours = directory.identify(header_token(&header), TokenKind::Auth).await.expect("read");
        assert_eq!(ours.is_some(), theirs, "{header}");
        accepted += u32::from(theirs);
    }
    assert!(accepted >= 8, "{accepted}: most were refused for some other reason");
    database.close().await;
    pocketbase.stop();
}
