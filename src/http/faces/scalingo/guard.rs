//! Who may do what. A handler that needs a pass takes one, and only this module makes them.

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HOST};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};

use crate::auth::keys::header_token;
use crate::auth::passes::Pass;
use crate::config::scalingo::Addon;
use crate::http::call::Call;
use crate::http::faces::scalingo::Scalingo;
use crate::http::faces::scalingo::refusal::Refusal;

/// How long an account's and a database's pass is good for. Clients ask anew by themselves.
const PASS_TIME: TimeDelta = TimeDelta::hours(1);
/// What passes are good for.
const ACCOUNT: &str = "account";
const DATABASE: &str = "database";
const DOWNLOAD: &str = "download";
/// Under which name wrong API tokens are counted.
const THROTTLED_AS: &str = "scalingo";

/// Proof that the caller has an API token.
#[derive(Debug)]
pub(super) struct Account {
    /// Which one, by the beginning of its hash.
    by: String,
}

/// Proof that the caller may work on a database.
#[derive(Debug)]
pub(super) struct Grant<'a> {
    /// As which addon it is known.
    pub(super) addon: &'a Addon,
    by: String,
}

impl Account {
    /// By an API token: the password of a basic login without a user.
    pub(super) fn by_token(call: &Call, face: &Scalingo) -> Result<Self, Refusal> {
        let wrong = || Refusal::unauthorized("The API token is not valid.");
        let header = call.request.headers().get(AUTHORIZATION).and_then(|h| h.to_str().ok());
        let (scheme, word) = header.and_then(|header| header.split_once(' ')).ok_or_else(wrong)?;
        let login = STANDARD.decode(word.trim()).ok().filter(|_| {
            // Schemes have no case.
            scheme.eq_ignore_ascii_case("basic")
        });
        let login = login.and_then(|login| String::from_utf8(login).ok()).ok_or_else(wrong)?;
        let token = login.split_once(':').map(|(_, token)| token).ok_or_else(wrong)?;
        call.services.begin_login(&call.address, THROTTLED_AS)?;
        let Some(known) = face.config.token(token) else {
            tracing::warn!(ip = call.real_ip, "a wrong API token");
            return Err(wrong());
        };
        call.services.login_succeeded(&call.address, THROTTLED_AS);
        Ok(Self { by: fingerprint(known) })
    }

    /// By a pass that was given for such a token.
    pub(super) fn of(call: &Call, face: &Scalingo) -> Result<Self, Refusal> {
        bearer(call, face, ACCOUNT).map(|pass| Self { by: pass.by })
    }

    /// A pass for it.
    pub(super) fn pass(&self, call: &Call, face: &Scalingo) -> String {
        sign(call, face, ACCOUNT, "", &self.by, PASS_TIME)
    }

    /// A pass for a database.
    pub(super) fn database_pass(&self, call: &Call, face: &Scalingo, addon: &Addon) -> String {
        sign(call, face, DATABASE, &addon.id, &self.by, PASS_TIME)
    }
}

impl<'a> Grant<'a> {
    /// By the pass of a database, which must be the one that the path names, if it names one.
    pub(super) fn of(call: &Call, face: &'a Scalingo, db: Option<&str>) -> Result<Self, Refusal> {
        let pass = bearer(call, face, DATABASE)?;
        let gone = || Refusal::not_found("database");
        let addon = face.addon(&pass.subject).ok_or_else(gone)?;
        if let Some(db) = db
            && face.addon(db).ok_or_else(gone)? != addon
        {
            return Err(Refusal::forbidden("The token is for another database."));
        }
        Ok(Self { addon, by: pass.by })
    }

    /// An address from which anybody may download a backup, for a time.
    pub(super) fn link(&self, call: &Call, face: &Scalingo, id: &str) -> String {
        let subject = subject_of(self.addon, id);
        let time = TimeDelta::from_std(face.config.link).unwrap_or(PASS_TIME);
        let token = sign(call, face, DOWNLOAD, &subject, &self.by, time);
        let (base, addon) = (base(call, face), &self.addon.id);
        format!("{base}/api/databases/{addon}/backups/{id}/download?token={token}")
    }
}

/// Whether this token opens this download.
pub(super) fn opens(call: &Call, face: &Scalingo, token: &str, addon: &Addon, id: &str) -> bool {
    let pass = check(face, token, DOWNLOAD, now(call));
    pass.is_some_and(|pass| pass.subject == subject_of(addon, id))
}

/// How the client reaches us: as the configuration says, or as it says itself. Whoever lies
/// here is lied to.
pub(super) fn base(call: &Call, face: &Scalingo) -> String {
    if let Some(url) = &face.config.url {
        return url.clone();
    }
    let header = |name: &str| call.request.headers().get(name).and_then(|h| h.to_str().ok());
    let is_https = header("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let scheme = if is_https { "https" } else { "http" };
    format!("{scheme}://{}", header(HOST.as_str()).unwrap_or("127.0.0.1"))
}

/// Whether a request has the pass of some database.
pub(super) fn has_pass(face: &Scalingo, request: &HttpRequest, now: DateTime<Utc>) -> bool {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.is_some_and(|value| check(face, header_token(value), DATABASE, now).is_some())
}

fn bearer(call: &Call, face: &Scalingo, kind: &str) -> Result<Pass, Refusal> {
    let token = call.header_token().unwrap_or_default();
    let wrong = || Refusal::unauthorized("The token is not valid, or has ended.");
    check(face, token, kind, now(call)).ok_or_else(wrong)
}

/// A pass ends with the API token that it came from.
fn check(face: &Scalingo, token: &str, kind: &str, now: DateTime<Utc>) -> Option<Pass> {
    let pass = face.passes.check(token, kind, now)?;
    let stands = face.config.tokens.iter().any(|known| fingerprint(known) == pass.by);
    stands.then_some(pass)
}

fn now(call: &Call) -> DateTime<Utc> {
    call.services.vault.clock().now()
}

fn sign(
    call: &Call,
    face: &Scalingo,
    kind: &str,
    subject: &str,
    by: &str,
    time: TimeDelta,
) -> String {
    let now = now(call);
    let expires = now.checked_add_signed(time).unwrap_or(now).timestamp();
    let (kind, subject, by) = (kind.to_owned(), subject.to_owned(), by.to_owned());
    face.passes.sign(&Pass { kind, subject, by, expires })
}

fn subject_of(addon: &Addon, id: &str) -> String {
    format!("{}/{id}", addon.id)
}

fn fingerprint(hash: &[u8; 32]) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
