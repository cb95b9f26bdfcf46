//! The last step of a login: the collection's rule, and the second factor if it wants one.
//!
//! Second factors are kept in `_mfas` as PocketBase keeps them, so that a login may begin at
//! one server and end at the other.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use sqlx::Row;

use super::collection;
use super::directory::Directory;
use super::random;
use super::record::Identity;
use crate::clock::pocketbase_time;
use crate::error::{Context, Error, Kind, Result};

/// How somebody proved who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// With the password.
    Password,
    /// With a one-time password.
    Otp,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Otp => "otp",
        }
    }
}

/// What is known of a login beside the identity that proved itself.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// How it proved itself.
    pub method: Method,
    /// The first factor's session, if the client named one.
    pub mfa_id: Option<&'a str>,
    /// Whose token the request carried: to a superuser the collection's rule does not apply.
    pub requester: Option<&'a Identity>,
}

/// The outcome of a login whose first or second factor was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Issue the token.
    Granted,
    /// Answer 401 with this session; the client comes back with another method.
    SecondFactor {
        /// Id of the session.
        mfa_id: String,
    },
}

impl Directory {
    /// Lets an identity in that proved itself with one method, or asks for the second. Where
    /// the collection limits the second factor to some records, we cannot evaluate its filter
    /// and ask everybody for it.
    ///
    /// # Errors
    /// [`Kind::Denied`] by the collection's rule; [`Kind::Invalid`] without violations for a
    /// second factor that does not fit, with PocketBase's message.
    pub async fn admit(&self, identity: &Identity, login: &Login<'_>) -> Result<Admission> {
        self.check_auth_rule(identity, login.requester)?;
        let mfa = &identity.options()?.mfa;
        if !mfa.enabled {
            return Ok(Admission::Granted);
        }
        self.database.require_write()?;
        match login.mfa_id.filter(|id| !id.is_empty()) {
            None => self.begin_mfa(identity, login.method).await,
            Some(id) => self.finish_mfa(identity, login.method, id, mfa.duration).await,
        }
    }

    /// Whether the collection's rule lets this record have tokens at all. Of filters only
    /// `verified = true` (and `false`) can be evaluated here; others deny.
    ///
    /// # Errors
    /// [`Kind::Denied`].
    pub fn check_auth_rule(&self, identity: &Identity, requester: Option<&Identity>) -> Result<()> {
        if requester.is_some_and(Identity::is_superuser) {
            return Ok(());
        }
        let denied = Error::new(
            Kind::Denied,
            "The request doesn't satisfy the collection requirements to authenticate.",
        );
        let Some(rule) = &identity.options()?.auth_rule else { return Err(denied) };
        let words: String = rule.chars().filter(|letter| !letter.is_whitespace()).collect();
        match words.as_str() {
            "" => Ok(()),
            "verified=true" if identity.verified() => Ok(()),
            "verified=false" if !identity.verified() => Ok(()),
            "verified=true" | "verified=false" => Err(denied),
            _ => {
                let collection = &identity.collection().name;
                tracing::warn!(collection, rule, "this login rule cannot be evaluated: denied");
                Err(denied.hint("log in at the application itself"))
            }
        }
    }

    /// Deletes second-factor sessions that are over; how many there were.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub async fn delete_expired_mfas(&self) -> Result<u64> {
        let mut deleted = 0;
        for collection in collection::all_auth(self.database.data()).await? {
            let Some(auth) = &collection.auth else { continue };
            let result = sqlx::query("DELETE FROM _mfas WHERE collectionRef = ? AND created < ?")
                .bind(&collection.id)
                .bind(self.ago(auth.mfa.duration))
                .execute(self.database.data())
                .await
                .context("cannot delete expired second-factor sessions")?;
            deleted += result.rows_affected();
        }
        Ok(deleted)
    }

    async fn begin_mfa(&self, identity: &Identity, method: Method) -> Result<Admission> {
        let mfa_id = random::id();
        let now = pocketbase_time(self.clock.now());
        sqlx::query(
            "INSERT INTO _mfas (collectionRef, created, id, method, recordRef, updated) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&identity.collection().id)
        .bind(&now)
        .bind(&mfa_id)
        .bind(method.name())
        .bind(identity.id())
        .bind(&now)
        .execute(self.database.data())
        .await
        .context("cannot begin a second-factor session")?;
        Ok(Admission::SecondFactor { mfa_id })
    }

    async fn finish_mfa(
        &self,
        identity: &Identity,
        method: Method,
        mfa_id: &str,
        duration_s: i64,
    ) -> Result<Admission> {
        let row =
            sqlx::query("SELECT collectionRef, recordRef, method, created FROM _mfas WHERE id = ?")
                .bind(mfa_id)
                .fetch_optional(self.database.data())
                .await
                .context("cannot read a second-factor session")?;
        let Some(row) = row else { return Err(refused("Invalid or expired MFA session.")) };
        let field = |index: usize| row.try_get::<String, _>(index).unwrap_or_default();
        if self.is_over(&field(3), duration_s) {
            self.delete_mfa(mfa_id).await?;
            return Err(refused("Invalid or expired MFA session."));
        }
        if field(0) != identity.collection().id || field(1) != identity.id() {
            return Err(refused("Invalid MFA session."));
        }
        if field(2) == method.name() {
            return Err(refused("A different authentication method is required."));
        }
        // Whoever deletes the session has used it: two requests cannot both.
        if self.delete_mfa(mfa_id).await? {
            return Ok(Admission::Granted);
        }
        Err(refused("Invalid or expired MFA session."))
    }

    async fn delete_mfa(&self, mfa_id: &str) -> Result<bool> {
        let deleted = sqlx::query("DELETE FROM _mfas WHERE id = ?")
            .bind(mfa_id)
            .execute(self.database.data())
            .await
            .context("cannot end a second-factor session")?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Whether more than `duration_s` seconds have passed since a stored time. What is no time
    /// is long past.
    pub(super) fn is_over(&self, created: &str, duration_s: i64) -> bool {
        parse_time(created).is_none_or(|created| {
            self.clock.now() - created > TimeDelta::seconds(duration_s.clamp(0, 86_400))
        })
    }

    /// The stored form of the time `duration_s` seconds ago.
    pub(super) fn ago(&self, duration_s: i64) -> String {
        pocketbase_time(self.clock.now() - TimeDelta::seconds(duration_s.clamp(0, 86_400)))
    }
}

fn refused(message: &'static str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), message)
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.fZ").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::collection::SUPERUSERS;
    use crate::auth::testing::{EMAIL, Folder, PASSWORD};

    async fn folder() -> (Folder, Identity) {
        let folder = Folder::with_superuser().await;
        folder.set_option(SUPERUSERS, "mfa.enabled", json!(true)).await;
        let identity = folder.log_in(SUPERUSERS, EMAIL, PASSWORD).await.expect("logged in");
        (folder, identity)
    }

    impl Folder {
        async fn admit(
            &self,
            identity: &Identity,
            method: Method,
            mfa_id: Option<&str>,
        ) -> Result<Admission> {
            self.directory.admit(identity, &Login { method, mfa_id, requester: None }).await
        }

        async fn begin(&self, identity: &Identity) -> String {
            match self.admit(identity, Method::Password, None).await.expect("begun") {
                Admission::SecondFactor { mfa_id } => mfa_id,
                Admission::Granted => panic!("one factor was enough"),
            }
        }
    }

    fn refusal(result: Result<Admission>) -> String {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), &Kind::Invalid(Vec::new()));
        error.message().to_owned()
    }

    #[tokio::test]
    async fn a_second_method_finishes_what_the_first_began_once() {
        let (folder, identity) = folder().await;
        let mfa_id = folder.begin(&identity).await;
        let stored = "SELECT COUNT(*) FROM _mfas WHERE method = 'password' AND length(id) = 15 \
                      AND created = '2026-11-21 09:02:11.398Z' AND recordRef = 's23456789012345' \
                      AND collectionRef = 'pbc_3142635823'";
        assert_eq!(folder.count(stored).await, 1);
        let same = folder.admit(&identity, Method::Password, Some(&mfa_id)).await;
        assert_eq!(refusal(same), "A different authentication method is required.");
        let second = folder.admit(&identity, Method::Otp, Some(&mfa_id)).await.expect("finished");
        assert_eq!(second, Admission::Granted);
        let again = folder.admit(&identity, Method::Otp, Some(&mfa_id)).await;
        assert_eq!(refusal(again), "Invalid or expired MFA session.");
        assert_eq!(folder.count("SELECT COUNT(*) FROM _mfas").await, 0);
    }

    #[tokio::test]
    async fn two_at_once_cannot_both_use_one_session() {
        let (folder, identity) = folder().await;
        let mfa_id = folder.begin(&identity).await;
        let second = || folder.admit(&identity, Method::Otp, Some(&mfa_id));
        let (one, two, three) = tokio::join!(second(), second(), second());
        assert_eq!([one, two, three].iter().filter(|result| result.is_ok()).count(), 1);
    }

    #[tokio::test]
    async fn sessions_end_and_belong_to_one_record() {
        let (folder, identity) = folder().await;
        let mfa_id = folder.begin(&identity).await;
        let unknown = folder.admit(&identity, Method::Otp, Some("missing")).await;
        assert_eq!(refusal(unknown), "Invalid or expired MFA session.");
        folder.insert(SUPERUSERS, "t23456789012345", "other@example.com").await;
        let other = folder.identity(SUPERUSERS, "t23456789012345").await;
        let foreign = folder.admit(&other, Method::Otp, Some(&mfa_id)).await;
        assert_eq!(refusal(foreign), "Invalid MFA session.");
        folder.clock.advance(TimeDelta::seconds(600));
        assert_eq!(folder.directory.delete_expired_mfas().await.expect("deleted"), 0);
        folder.clock.advance(TimeDelta::milliseconds(1));
        let late = folder.admit(&identity, Method::Otp, Some(&mfa_id)).await;
        assert_eq!(refusal(late), "Invalid or expired MFA session.");
        assert_eq!(folder.count("SELECT COUNT(*) FROM _mfas").await, 0);
        folder.begin(&identity).await;
        folder.clock.advance(TimeDelta::seconds(601));
        assert_eq!(folder.directory.delete_expired_mfas().await.expect("deleted"), 1);
    }

    #[tokio::test]
    async fn rules_let_in_whom_they_can_be_read_to_let_in() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", "u23456789012345", "u@example.com").await;
        folder.insert("users", "v23456789012345", "v@example.com").await;
        folder.run("UPDATE users SET verified = TRUE WHERE id LIKE 'v%'").await;
        for (rule, unverified, verified) in [
            (json!(""), true, true),
            (json!("  "), true, true),
            (json!("verified = true"), false, true),
            (json!("verified=false"), true, false),
            (json!("name != ''"), false, false),
            (json!(null), false, false),
        ] {
            folder.set_option("users", "authRule", rule.clone()).await;
            let superuser = folder.identity(SUPERUSERS, "s23456789012345").await;
            for (id, expected) in [("u23456789012345", unverified), ("v23456789012345", verified)] {
                let user = folder.identity("users", id).await;
                let result = folder.admit(&user, Method::Password, None).await;
                assert_eq!(result.is_ok(), expected, "{rule} {id}");
                if let Err(error) = result {
                    assert_eq!(error.kind(), &Kind::Denied);
                }
                folder.directory.check_auth_rule(&user, Some(&superuser)).expect("for superusers");
            }
        }
    }
}
