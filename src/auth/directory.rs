//! The directory: who a token or a password belongs to, and new tokens for them.
//!
//! Everything is read from the database at each call; a password changed by another process
//! counts from the next request on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::collection::{self, Collection, Comparison};
use super::keys::{Claims, Token, TokenKind, sign, signing_key};
use super::otp::Attempts;
use super::password;
use super::record::{self, Identity, options};
use crate::clock::Clock;
use crate::database::Database;
use crate::error::{Error, Result};

/// Looks up collections and records, checks tokens and passwords, issues tokens. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(super) database: Database,
    pub(super) clock: Clock,
    pub(super) otp_attempts: Arc<Mutex<Attempts>>,
}

/// A login with a password, as the client sent it.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// Names the record, by e-mail address or another identity field.
    pub identity: &'a str,
    /// The password.
    pub password: &'a str,
    /// The field to search, one of the collection's identity fields; `None` tries them all.
    pub identity_field: Option<&'a str>,
}

/// A token to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issue {
    /// For requests, exchangeable, with the collection's lifetime.
    Auth,
    /// For requests, not exchangeable; zero takes the collection's lifetime.
    Static(Duration),
    /// For downloads.
    File,
}

impl Directory {
    /// The directory of a folder.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock, otp_attempts: Arc::default() }
    }

    /// The collection of that id, or of that name in any case.
    ///
    /// # Errors
    /// The database cannot be read, or describes the collection wrongly.
    pub async fn collection(&self, name_or_id: &str) -> Result<Option<Arc<Collection>>> {
        Ok(collection::find(self.database.data(), name_or_id).await?.map(Arc::new))
    }

    /// Whose valid token this is; `None` for every other text.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn identify(&self, token: &str, kind: TokenKind) -> Result<Option<Identity>> {
        let Some(token) = Token::parse(token, kind, self.clock.now()) else { return Ok(None) };
        let Some(collection) = self.collection(&token.collection).await? else { return Ok(None) };
        let Some(identity) = self.record(&collection, &token.record).await? else {
            return Ok(None);
        };
        let key = key(&identity, kind);
        let identity = identity.with_refreshable(token.refreshable);
        Ok(key.is_ok_and(|key| token.is_signed_with(&key)).then_some(identity))
    }

    /// The record of that id; `None` also when the collection is no auth collection.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn record(&self, collection: &Arc<Collection>, id: &str) -> Result<Option<Identity>> {
        if collection.auth.is_none() {
            return Ok(None);
        }
        let found = record::by_id(self.database.data(), collection, id).await?;
        Ok(found.map(|found| found.identity))
    }

    /// Whose name and password these are; `None` when they do not fit, after the same time
    /// whether the name exists or not. The caller has checked that the collection allows
    /// passwords. E-mail addresses are compared exactly, unless their index ignores case.
    ///
    /// # Errors
    /// The database cannot be read, or an identity field has no unique index.
    pub async fn authenticate_password(
        &self,
        collection: &Arc<Collection>,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>> {
        let mut found = None;
        for field in identity_fields(collection, credentials)? {
            // No address without its form is in the database: no look-up is needed.
            if field == "email" && !password::is_email(credentials.identity) {
                continue;
            }
            let comparison = unique(collection, field)?;
            let pool = self.database.data();
            found = record::find(pool, collection, field, credentials.identity, comparison).await?;
            if found.is_some() {
                break;
            }
        }
        let (identity, hash) = match found {
            Some(found) => (Some(found.identity), Some(found.password_hash)),
            None => (None, None),
        };
        let cost = collection.field("password").map_or(password::COST, |field| field.cost);
        let matched = password::matches(credentials.password, hash, cost).await?;
        Ok(identity.filter(|_| matched))
    }

    /// A new token for `identity`.
    ///
    /// # Errors
    /// The record has no token key or its collection no secret.
    pub fn issue(&self, identity: &Identity, issue: Issue) -> Result<String> {
        let options = identity.options()?;
        let (kind, seconds) = match issue {
            Issue::File => (TokenKind::File, options.file_token.duration),
            Issue::Static(duration) if duration.as_secs() > 0 => {
                (TokenKind::Auth, i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
            }
            Issue::Auth | Issue::Static(_) => (TokenKind::Auth, options.auth_token.duration),
        };
        let claims = Claims {
            kind,
            record: identity.id(),
            collection: &identity.collection().id,
            refreshable: issue == Issue::Auth,
            expires: self.clock.now().timestamp().saturating_add(seconds),
        };
        Ok(sign(&claims, &key(identity, kind)?))
    }
}

pub(super) fn key(identity: &Identity, kind: TokenKind) -> Result<Vec<u8>> {
    let options = identity.options()?;
    let secret = match kind {
        TokenKind::Auth => &options.auth_token.secret,
        TokenKind::File => &options.file_token.secret,
    };
    // Half a key could be guessed or known; PocketBase makes none, a damaged database might.
    if identity.token_key().is_empty() || secret.is_empty() {
        return Err(Error::internal(format!("{identity:?} has no key for tokens")));
    }
    Ok(signing_key(identity.token_key(), secret))
}

/// The fields to search, the e-mail address first.
fn identity_fields<'a>(
    collection: &'a Collection,
    credentials: &Credentials<'_>,
) -> Result<Vec<&'a str>> {
    let allowed = &options(collection)?.password_auth.identity_fields;
    let mut fields: Vec<&str> = allowed.iter().map(String::as_str).collect();
    match credentials.identity_field {
        Some(wanted) => fields.retain(|field| *field == wanted),
        None => fields.sort_by_key(|field| *field != "email"),
    }
    Ok(fields)
}

pub(super) fn unique(collection: &Collection, field: &str) -> Result<Comparison> {
    collection.unique_column(field).ok_or_else(|| {
        Error::internal(format!("{}.{field} has no unique index", collection.name))
            .hint("an identity field needs a unique index of its own")
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use crate::auth::collection::SUPERUSERS;
    use crate::auth::testing::{EMAIL, Folder, PASSWORD};
    use crate::database::Access;

    const SUPERUSER: &str = "s23456789012345";
    const USER: &str = "u23456789012345";

    #[tokio::test]
    async fn a_login_shows_the_record_as_pocketbase_does() {
        let folder = Folder::with_superuser().await;
        folder.run("UPDATE _superusers SET verified = TRUE").await;
        let identity = folder.log_in(SUPERUSERS, EMAIL, PASSWORD).await.expect("logged in");
        assert!(identity.is_superuser());
        assert_eq!(
            serde_json::to_string(identity.record()).expect("written"),
            json!({
                "collectionId": "pbc_3142635823",
                "collectionName": "_superusers",
                "created": "2026-01-01 00:00:00.000Z",
                "email": EMAIL,
                "emailVisibility": false,
                "id": SUPERUSER,
                "updated": "2026-01-01 00:00:00.000Z",
                "verified": true,
            })
            .to_string()
        );
        assert_eq!(format!("{identity:?}"), "Identity(_superusers/s23456789012345)");
    }

    #[tokio::test]
    async fn names_and_passwords_are_compared_as_pocketbase_compares_them() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", USER, "user@example.com").await;
        for (collection, identity, password, accepted) in [
            ("_superusers", EMAIL, PASSWORD, true),
            ("_SUPERUSERS", EMAIL, PASSWORD, true),
            ("pbc_3142635823", EMAIL, PASSWORD, true),
            ("users", "user@example.com", PASSWORD, true),
            ("users", EMAIL, PASSWORD, false),
            ("_superusers", "Test@example.com", PASSWORD, false),
            ("_superusers", "test", PASSWORD, false),
            ("_superusers", "", PASSWORD, false),
            ("_superusers", EMAIL, "", false),
            ("_superusers", EMAIL, "1234567891", false),
            ("_superusers", "nobody@example.com", PASSWORD, false),
        ] {
            let found = folder.log_in(collection, identity, password).await;
            assert_eq!(found.is_some(), accepted, "{collection} {identity} {password}");
        }
        folder
            .run(
                "UPDATE _collections SET indexes = replace(indexes, '(`email`)', \
                 '(`email` COLLATE NOCASE)') WHERE name = '_superusers'",
            )
            .await;
        assert!(folder.log_in(SUPERUSERS, "TEST@example.com", PASSWORD).await.is_some());
    }

    #[tokio::test]
    async fn other_identity_fields_are_searched_after_the_address() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", USER, "user@example.com").await;
        folder.run("UPDATE users SET name = 'bob'").await;
        let fields = json!(["name", "email"]);
        folder.set_option("users", "passwordAuth.identityFields", fields).await;
        let users = folder.collection("users").await;
        let try_field = async |users: &Arc<Collection>, identity, identity_field| {
            let credentials = Credentials { identity, password: PASSWORD, identity_field };
            folder.directory.authenticate_password(users, &credentials).await
        };
        let error = try_field(&users, "bob", None).await.expect_err("no unique index");
        assert_eq!(
            error.operator_hint(),
            Some("an identity field needs a unique index of its own")
        );
        folder
            .run(
                "UPDATE _collections SET indexes = json_insert(indexes, '$[#]', \
                 'CREATE UNIQUE INDEX i ON users (name)') WHERE name = 'users'",
            )
            .await;
        let users = folder.collection("users").await;
        for (identity, field, accepted) in [
            ("bob", None, true),
            ("bob", Some("name"), true),
            ("bob", Some("email"), false),
            ("user@example.com", Some("email"), true),
            ("user@example.com", Some("name"), false),
            (USER, Some("id"), false),
        ] {
            let found = try_field(&users, identity, field).await.expect("checked");
            assert_eq!(found.is_some(), accepted, "{identity} {field:?}");
        }
    }

    #[tokio::test]
    async fn tokens_are_good_for_their_kind_until_they_end() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", USER, "user@example.com").await;
        let minute = Issue::Static(Duration::from_secs(60));
        for (collection, id, issue, kind, seconds, refreshable) in [
            (SUPERUSERS, SUPERUSER, Issue::Auth, TokenKind::Auth, 86_400, true),
            (SUPERUSERS, SUPERUSER, minute, TokenKind::Auth, 60, false),
            (SUPERUSERS, SUPERUSER, Issue::Static(Duration::ZERO), TokenKind::Auth, 86_400, false),
            (SUPERUSERS, SUPERUSER, Issue::File, TokenKind::File, 180, false),
            ("users", USER, Issue::Auth, TokenKind::Auth, 432_000, true),
            ("users", USER, Issue::File, TokenKind::File, 180, false),
        ] {
            let identity = folder.identity(collection, id).await;
            let token = folder.directory.issue(&identity, issue).expect("issued");
            let identify =
                async |kind| folder.directory.identify(&token, kind).await.expect("read");
            let found = identify(kind).await.expect("valid");
            assert_eq!((found.id(), found.refreshable()), (id, refreshable));
            assert_eq!(found.is_superuser(), collection == SUPERUSERS);
            let other = [TokenKind::Auth, TokenKind::File][usize::from(kind == TokenKind::Auth)];
            assert!(identify(other).await.is_none());
            folder.clock.advance(TimeDelta::seconds(seconds - 1));
            assert!(identify(kind).await.is_some(), "{issue:?}");
            folder.clock.advance(TimeDelta::seconds(1));
            assert!(identify(kind).await.is_none(), "{issue:?}");
        }
    }

    #[tokio::test]
    async fn a_token_names_its_collection_by_id_or_name_and_its_own_record_only() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", USER, "user@example.com").await;
        let superuser = folder.identity(SUPERUSERS, SUPERUSER).await;
        let key = key(&superuser, TokenKind::Auth).expect("a key");
        for (collection, record, accepted) in [
            ("pbc_3142635823", SUPERUSER, true),
            ("_superusers", SUPERUSER, true),
            ("_SuperUsers", SUPERUSER, true),
            ("users", USER, false),
            ("_superusers", USER, false),
            ("users", SUPERUSER, false),
            ("_mfas", SUPERUSER, false),
            ("nothing", SUPERUSER, false),
        ] {
            let kind = TokenKind::Auth;
            let claims = Claims { kind, record, collection, refreshable: true, expires: 0 };
            assert_eq!(folder.accepts(&sign(&claims, &key)).await, accepted, "{collection}");
        }
    }

    #[tokio::test]
    async fn changes_of_another_process_count_at_once() {
        let folder = Folder::with_superuser().await;
        let reader = Database::open(folder.root(), Access::ReadOnly).expect("opened");
        let reader = Directory::new(reader, folder.clock.clone());
        let identify = async |token: &str| {
            reader.identify(token, TokenKind::Auth).await.expect("read").is_some()
        };
        let token = folder.token(EMAIL, PASSWORD).await.expect("logged in");
        assert!(identify(&token).await);
        folder.set_option(SUPERUSERS, "authToken.secret", json!("another-secret")).await;
        assert!(!identify(&token).await);
        let token = folder.token(EMAIL, PASSWORD).await.expect("logged in");
        assert!(identify(&token).await);
        folder.run("UPDATE _superusers SET tokenKey = 'x'").await;
        assert!(!identify(&token).await);
        let token = folder.token(EMAIL, PASSWORD).await.expect("logged in");
        folder.run("DELETE FROM _superusers").await;
        assert!(!identify(&token).await);
    }

    #[tokio::test]
    async fn half_a_key_signs_nothing() {
        let folder = Folder::with_superuser().await;
        folder.run("UPDATE _superusers SET tokenKey = ''").await;
        let identity = folder.identity(SUPERUSERS, SUPERUSER).await;
        folder.directory.issue(&identity, Issue::Auth).expect_err("no token");
        let secret = &identity.options().expect("auth").auth_token.secret;
        let (kind, expires) = (TokenKind::Auth, 0);
        let claims =
            Claims { kind, record: SUPERUSER, collection: SUPERUSERS, refreshable: true, expires };
        assert!(!folder.accepts(&sign(&claims, secret.as_bytes())).await);
    }
}
