//! One-time passwords: made for mailing, accepted once, kept in `_otps` as PocketBase does.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;

use super::collection::{self, Collection};
use super::directory::{Directory, unique};
use super::password::{self, OTP_COST};
use super::record::{self, Identity, options};
use super::{change, random};
use crate::clock::pocketbase_time;
use crate::error::{Context, Result};

/// Unexpired one-time passwords of a record, above which the last one is named again.
const UNEXPIRED_MAX: usize = 10;
/// Guesses at one record's one-time passwords within [`ATTEMPTS_WINDOW_S`].
pub const ATTEMPTS_MAX: u32 = 5;
/// The window of [`ATTEMPTS_MAX`], in seconds from its first guess.
pub const ATTEMPTS_WINDOW_S: i64 = 180;
/// Most digits of a one-time password: what bcrypt takes in.
const LENGTH_MAX: usize = 71;

/// A one-time password that was asked for.
#[derive(Debug)]
pub struct OtpRequest {
    /// What the client gets, also when nobody has that address.
    pub otp_id: String,
    /// What must be mailed, if anything.
    pub mail: Option<OtpMail>,
}

/// The secret half of a new one-time password.
pub struct OtpMail {
    /// Who gets it.
    pub recipient: Identity,
    /// The password itself; it is stored nowhere.
    pub password: String,
}

impl std::fmt::Debug for OtpMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OtpMail({:?})", self.recipient)
    }
}

/// The outcome of a login with a one-time password.
#[derive(Debug)]
pub enum OtpOutcome {
    /// It was right, and is used up.
    Accepted(Box<Identity>),
    /// Unknown, expired or wrong.
    Refused,
    /// Guessed at too often: 429.
    TooManyAttempts,
}

impl Directory {
    /// Makes a one-time password for the record of that address. The caller has checked that
    /// the collection allows them, mails [`OtpRequest::mail`] and then calls
    /// [`Directory::otp_sent`] or [`Directory::delete_otp`]. An unknown address gets an id
    /// that nobody has, after the same time.
    ///
    /// # Errors
    /// The folder is read-only, or its database cannot be read or written to.
    pub async fn request_otp(
        &self,
        collection: &Arc<Collection>,
        email: &str,
    ) -> Result<OtpRequest> {
        self.database.require_write()?;
        let otp = &options(collection)?.otp;
        let comparison = unique(collection, "email")?;
        let pool = self.database.data();
        let found = match email {
            "" => None,
            email => record::find(pool, collection, "email", email, comparison).await?,
        };
        let password = random::digits(otp.length.clamp(4, LENGTH_MAX));
        let hash = password::hash(&password, OTP_COST).await?;
        let Some(found) = found else {
            return Ok(OtpRequest { otp_id: random::id(), mail: None });
        };
        let recipient = found.identity;
        if let Some(otp_id) = self.last_of_too_many(&recipient, otp.duration).await? {
            tracing::warn!(?recipient, "too many one-time passwords: the last one is named again");
            return Ok(OtpRequest { otp_id, mail: None });
        }
        let otp_id = self.store_otp(&recipient, &hash).await?;
        Ok(OtpRequest { otp_id, mail: Some(OtpMail { recipient, password }) })
    }

    /// Notes where a one-time password was mailed to.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub async fn otp_sent(&self, otp_id: &str, to: &str) -> Result<()> {
        sqlx::query("UPDATE _otps SET sentTo = ?, updated = ? WHERE id = ? AND sentTo = ''")
            .bind(to)
            .bind(pocketbase_time(self.clock.now()))
            .bind(otp_id)
            .execute(self.database.data())
            .await
            .map(drop)
            .context("cannot note where a one-time password was sent")
    }

    /// Deletes a one-time password; whether there was one.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub async fn delete_otp(&self, otp_id: &str) -> Result<bool> {
        let deleted = sqlx::query("DELETE FROM _otps WHERE id = ?")
            .bind(otp_id)
            .execute(self.database.data())
            .await
            .context("cannot delete a one-time password")?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Whose one-time password this is. A right one is used up, and an address that it was
    /// sent to becomes verified.
    ///
    /// # Errors
    /// The folder is read-only, or its database cannot be read or written to.
    pub async fn authenticate_otp(
        &self,
        collection: &Arc<Collection>,
        otp_id: &str,
        password: &str,
    ) -> Result<OtpOutcome> {
        self.database.require_write()?;
        let row = sqlx::query(
            "SELECT recordRef, created, password, sentTo FROM _otps \
             WHERE id = ? AND collectionRef = ?",
        )
        .bind(otp_id)
        .bind(&collection.id)
        .fetch_optional(self.database.data())
        .await
        .context("cannot read a one-time password")?;
        let Some(row) = row else { return Ok(OtpOutcome::Refused) };
        let field = |index: usize| row.try_get::<String, _>(index).unwrap_or_default();
        if self.is_over(&field(1), options(collection)?.otp.duration) {
            return Ok(OtpOutcome::Refused);
        }
        let Some(identity) = self.record(collection, &field(0)).await? else {
            return Ok(OtpOutcome::Refused);
        };
        if !self.may_guess(identity.id()) {
            return Ok(OtpOutcome::TooManyAttempts);
        }
        let right = password::matches(password, Some(field(2)), OTP_COST).await?;
        // Whoever deletes it has used it: two requests cannot both.
        if !right || !self.delete_otp(otp_id).await? {
            return Ok(OtpOutcome::Refused);
        }
        let identity = self.verify_address(identity, &field(3)).await?;
        Ok(OtpOutcome::Accepted(Box::new(identity)))
    }

    /// Deletes one-time passwords that are over; how many there were.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub async fn delete_expired_otps(&self) -> Result<u64> {
        let mut deleted = 0;
        for collection in collection::all_auth(self.database.data()).await? {
            let Some(auth) = &collection.auth else { continue };
            let result = sqlx::query("DELETE FROM _otps WHERE collectionRef = ? AND created < ?")
                .bind(&collection.id)
                .bind(self.ago(auth.otp.duration))
                .execute(self.database.data())
                .await
                .context("cannot delete expired one-time passwords")?;
            deleted += result.rows_affected();
        }
        Ok(deleted)
    }

    async fn last_of_too_many(&self, of: &Identity, duration_s: i64) -> Result<Option<String>> {
        let unexpired: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM _otps WHERE collectionRef = ? AND recordRef = ? AND created >= ? \
             ORDER BY created DESC",
        )
        .bind(&of.collection().id)
        .bind(of.id())
        .bind(self.ago(duration_s))
        .fetch_all(self.database.data())
        .await
        .context("cannot count one-time passwords")?;
        let too_many = unexpired.len() >= UNEXPIRED_MAX;
        Ok(unexpired.into_iter().next().filter(|_| too_many))
    }

    async fn store_otp(&self, of: &Identity, hash: &str) -> Result<String> {
        let otp_id = random::id();
        let now = pocketbase_time(self.clock.now());
        sqlx::query(
            "INSERT INTO _otps (collectionRef, created, id, password, recordRef, updated) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&of.collection().id)
        .bind(&now)
        .bind(&otp_id)
        .bind(hash)
        .bind(of.id())
        .bind(&now)
        .execute(self.database.data())
        .await
        .context("cannot store a one-time password")?;
        Ok(otp_id)
    }

    fn may_guess(&self, record: &str) -> bool {
        let mut attempts = match self.otp_attempts.lock() {
            Ok(attempts) => attempts,
            Err(poisoned) => poisoned.into_inner(),
        };
        attempts.allow(record, self.clock.now())
    }

    /// A password that arrived proves its address. Where a one-time password is enough for a
    /// login, the old password goes: somebody else may have set it for a foreign address.
    async fn verify_address(&self, identity: Identity, sent_to: &str) -> Result<Identity> {
        if identity.verified() || sent_to.is_empty() || sent_to != identity.email() {
            return Ok(identity);
        }
        let password_hash = match identity.options()?.mfa.enabled {
            true => None,
            false => Some(password::hash(&random::password(), password::COST).await?),
        };
        let change = change::Change { password_hash, verified: true };
        let now = self.clock.now();
        change::apply(self.database.data(), identity.collection(), identity.id(), &change, now)
            .await?;
        let collection = Arc::new(identity.collection().clone());
        Ok(self.record(&collection, identity.id()).await?.unwrap_or(identity))
    }
}

/// Guesses per record in fixed windows. Only records that have a one-time password are
/// counted, and windows that are over are dropped, so this stays small.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<String, (DateTime<Utc>, u32)>);

impl Attempts {
    fn allow(&mut self, record: &str, now: DateTime<Utc>) -> bool {
        let window = TimeDelta::seconds(ATTEMPTS_WINDOW_S);
        self.0.retain(|_, (start, _)| now - *start < window);
        let (_, count) = self.0.entry(record.to_owned()).or_insert((now, 0));
        *count = count.saturating_add(1);
        *count <= ATTEMPTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::collection::SUPERUSERS;
    use crate::auth::testing::{EMAIL, Folder, PASSWORD};

    impl Folder {
        async fn request(&self, collection: &str, email: &str) -> (String, Option<String>) {
            let collection = self.collection(collection).await;
            let request = self.directory.request_otp(&collection, email).await.expect("made");
            (request.otp_id, request.mail.map(|mail| mail.password))
        }

        async fn try_otp(&self, collection: &str, id: &str, password: &str) -> OtpOutcome {
            let collection = self.collection(collection).await;
            self.directory.authenticate_otp(&collection, id, password).await.expect("checked")
        }
    }

    #[tokio::test]
    async fn a_one_time_password_works_once() {
        let folder = Folder::with_superuser().await;
        let (id, password) = folder.request(SUPERUSERS, EMAIL).await;
        let password = password.expect("to be mailed");
        assert_eq!((id.len(), password.len()), (15, 8));
        assert_eq!(
            folder.count("SELECT COUNT(*) FROM _otps WHERE password LIKE '$2a$08$%'").await,
            1
        );
        let foreign = folder.try_otp("users", &id, &password).await;
        assert!(matches!(foreign, OtpOutcome::Refused));
        let wrong = folder.try_otp(SUPERUSERS, &id, "00000000x").await;
        assert!(matches!(wrong, OtpOutcome::Refused));
        let right = folder.try_otp(SUPERUSERS, &id, &password).await;
        assert!(matches!(right, OtpOutcome::Accepted(identity) if identity.email() == EMAIL));
        let again = folder.try_otp(SUPERUSERS, &id, &password).await;
        assert!(matches!(again, OtpOutcome::Refused));
    }

    #[tokio::test]
    async fn guesses_are_counted_per_record_and_the_count_ends() {
        let folder = Folder::with_superuser().await;
        for _ in 0..ATTEMPTS_MAX {
            let (id, _) = folder.request(SUPERUSERS, EMAIL).await;
            assert!(matches!(folder.try_otp(SUPERUSERS, &id, "x").await, OtpOutcome::Refused));
        }
        let (id, password) = folder.request(SUPERUSERS, EMAIL).await;
        let password = password.expect("to be mailed");
        let blocked = folder.try_otp(SUPERUSERS, &id, &password).await;
        assert!(matches!(blocked, OtpOutcome::TooManyAttempts));
        folder.clock.advance(TimeDelta::seconds(ATTEMPTS_WINDOW_S));
        let later = folder.try_otp(SUPERUSERS, &id, &password).await;
        assert!(matches!(later, OtpOutcome::Accepted(_)));
    }

    #[tokio::test]
    async fn they_end_and_too_many_name_the_last_one() {
        let folder = Folder::with_superuser().await;
        let (first, password) = folder.request(SUPERUSERS, EMAIL).await;
        folder.clock.advance(TimeDelta::milliseconds(180_001));
        let late = folder.try_otp(SUPERUSERS, &first, &password.expect("mailed")).await;
        assert!(matches!(late, OtpOutcome::Refused));
        let mut last = String::new();
        for _ in 0..UNEXPIRED_MAX {
            let (id, password) = folder.request(SUPERUSERS, EMAIL).await;
            assert!(password.is_some());
            last = id;
            folder.clock.advance(TimeDelta::milliseconds(1));
        }
        assert_eq!(folder.request(SUPERUSERS, EMAIL).await, (last, None));
        assert_eq!(folder.directory.delete_expired_otps().await.expect("deleted"), 1);
        let (nobody, mail) = folder.request(SUPERUSERS, "nobody@example.com").await;
        assert_eq!((nobody.len(), mail), (15, None));
    }

    #[tokio::test]
    async fn an_address_that_answered_is_verified_and_its_old_password_goes() {
        let folder = Folder::with_superuser().await;
        folder.insert("users", "u23456789012345", "u@example.com").await;
        let (id, password) = folder.request("users", "u@example.com").await;
        folder.directory.otp_sent(&id, "u@example.com").await.expect("noted");
        let outcome = folder.try_otp("users", &id, &password.expect("mailed")).await;
        let OtpOutcome::Accepted(identity) = outcome else { panic!("{outcome:?}") };
        assert!(identity.verified());
        assert_eq!(identity.record()["updated"], "2026-11-21 09:02:11.398Z");
        assert_eq!(identity.record()["created"], "2026-01-01 00:00:00.000Z");
        assert!(folder.log_in("users", "u@example.com", PASSWORD).await.is_none());
        let token = folder.directory.issue(&identity, crate::auth::directory::Issue::Auth);
        assert!(folder.accepts(&token.expect("issued")).await, "the new token key is used");
    }
}
