//! Places that somebody logged in from, in `_authOrigins`, as PocketBase remembers them.

use md5::{Digest, Md5};
use sqlx::{Row, SqliteConnection};

use super::directory::Directory;
use super::random;
use super::record::Identity;
use crate::clock::pocketbase_time;
use crate::database::Access;
use crate::error::{Context, Result};

/// Places remembered per record (PocketBase's limit).
const ORIGINS_MAX: usize = 5;
/// Bytes of a user agent that count; a longer one ends in dots.
const USER_AGENT_BYTES_MAX: usize = 200;

/// A place: an address and what called from there.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The real address of the client, as text.
    pub ip: &'a str,
    /// Its `User-Agent`, or nothing.
    pub user_agent: &'a [u8],
}

/// What was known of the place of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Familiarity {
    /// The record's first login anywhere.
    First,
    /// It has logged in from there.
    Known,
    /// A new place: its owner should be told.
    New,
    /// Nothing: alerts are off, the folder is read-only, or the database would not answer.
    Unrecorded,
}

impl Directory {
    /// Remembers the place of a login, if the collection wants that. Best effort by its
    /// nature: a login that is right must not fail because a note about it cannot be written,
    /// so faults are logged here and [`Familiarity::Unrecorded`] is the answer.
    pub async fn remember_origin(&self, identity: &Identity, origin: Origin<'_>) -> Familiarity {
        let wanted = identity.options().is_ok_and(|options| options.auth_alert.enabled);
        if !wanted || self.database.access() == Access::ReadOnly {
            return Familiarity::Unrecorded;
        }
        match self.try_remember(identity, &fingerprint(origin)).await {
            Ok(familiarity) => familiarity,
            Err(error) => {
                tracing::warn!(?identity, error = error.full(), "a login's place is not recorded");
                Familiarity::Unrecorded
            }
        }
    }

    async fn try_remember(&self, identity: &Identity, fingerprint: &str) -> Result<Familiarity> {
        let message = "cannot remember the place of a login";
        let now = pocketbase_time(self.clock.now());
        let mut transaction =
            self.database.data().begin_with("BEGIN IMMEDIATE").await.context(message)?;
        let familiarity =
            remember(&mut transaction, identity, fingerprint, &now).await.context(message)?;
        transaction.commit().await.context(message)?;
        Ok(familiarity)
    }
}

async fn remember(
    connection: &mut SqliteConnection,
    identity: &Identity,
    fingerprint: &str,
    now: &str,
) -> sqlx::Result<Familiarity> {
    let rows = sqlx::query(
        "SELECT id, fingerprint FROM _authOrigins WHERE collectionRef = ? AND recordRef = ? \
         ORDER BY created DESC",
    )
    .bind(&identity.collection().id)
    .bind(identity.id())
    .fetch_all(&mut *connection)
    .await?;
    for row in &rows {
        if row.try_get::<String, _>(1)? == fingerprint {
            sqlx::query("UPDATE _authOrigins SET updated = ? WHERE id = ?")
                .bind(now)
                .bind(row.try_get::<String, _>(0)?)
                .execute(connection)
                .await?;
            return Ok(Familiarity::Known);
        }
    }
    for row in rows.iter().skip(ORIGINS_MAX - 1) {
        sqlx::query("DELETE FROM _authOrigins WHERE id = ?")
            .bind(row.try_get::<String, _>(0)?)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "INSERT INTO _authOrigins (collectionRef, created, fingerprint, id, recordRef, updated) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&identity.collection().id)
    .bind(now)
    .bind(fingerprint)
    .bind(random::id())
    .bind(identity.id())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(if rows.is_empty() { Familiarity::First } else { Familiarity::New })
}

/// MD5 in hex over address and user agent: a name for the pair, not a protection.
fn fingerprint(origin: Origin<'_>) -> String {
    let mut hasher = Md5::new();
    hasher.update(origin.ip);
    match origin.user_agent.get(..USER_AGENT_BYTES_MAX) {
        Some(start) if origin.user_agent.len() > USER_AGENT_BYTES_MAX => {
            hasher.update(start);
            hasher.update("...");
        }
        _ => hasher.update(origin.user_agent),
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;
    use crate::auth::collection::SUPERUSERS;
    use crate::auth::testing::Folder;

    #[test]
    fn fingerprints_are_md5_of_address_and_cut_user_agent() {
        let of = |user_agent: &[u8]| fingerprint(Origin { ip: "127.0.0.1", user_agent });
        // printf '127.0.0.1curl/8.5.0' | md5sum
        assert_eq!(of(b"curl/8.5.0"), "0545aaeef5b0e4f82fe0e502ad983428");
        // printf '127.0.0.1%s...' "$(printf 'x%.0s' $(seq 200))" | md5sum
        assert_eq!(of(&[b'x'; 201]), "1d954498e48df25352477d0c4cce361d");
        assert_eq!(of(&[b'x'; 5000]), of(&[b'x'; 201]));
        assert_ne!(of(&[b'x'; 200]), of(&[b'x'; 201]));
    }

    #[tokio::test]
    async fn the_last_five_places_are_remembered() {
        let folder = Folder::with_superuser().await;
        let identity = folder.identity(SUPERUSERS, "s23456789012345").await;
        let log_in = async |from: u8| {
            folder.clock.advance(TimeDelta::seconds(1));
            let origin = Origin { ip: &format!("10.0.0.{from}"), user_agent: b"test" };
            folder.directory.remember_origin(&identity, origin).await
        };
        assert_eq!(log_in(1).await, Familiarity::First);
        assert_eq!(log_in(1).await, Familiarity::Known);
        for from in 2..=7 {
            assert_eq!(log_in(from).await, Familiarity::New);
        }
        assert_eq!(folder.count("SELECT COUNT(*) FROM _authOrigins").await, 5);
        assert_eq!(log_in(3).await, Familiarity::Known);
        assert_eq!(log_in(2).await, Familiarity::New, "the oldest were forgotten");
    }

    #[tokio::test]
    async fn nothing_is_recorded_against_the_collection_s_will_or_ours() {
        let folder = Folder::with_superuser().await;
        let origin = Origin { ip: "10.0.0.1", user_agent: b"test" };
        let identity = folder.identity(SUPERUSERS, "s23456789012345").await;
        folder.run("ALTER TABLE _authOrigins RENAME TO away").await;
        let broken = folder.directory.remember_origin(&identity, origin).await;
        assert_eq!(broken, Familiarity::Unrecorded, "a fault is no reason to fail");
        folder.run("ALTER TABLE away RENAME TO _authOrigins").await;
        folder.set_option(SUPERUSERS, "authAlert.enabled", json!(false)).await;
        let identity = folder.identity(SUPERUSERS, "s23456789012345").await;
        let off = folder.directory.remember_origin(&identity, origin).await;
        assert_eq!(off, Familiarity::Unrecorded);
        assert_eq!(folder.count("SELECT COUNT(*) FROM _authOrigins").await, 0);
    }
}
