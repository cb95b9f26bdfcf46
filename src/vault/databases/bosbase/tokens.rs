//! Tokens of a BosBase's superusers: verified with what its database says, and made for
//! downloads. Nothing is kept: a changed password ends tokens at once.

use chrono::{TimeDelta, Utc};
use serde::Deserialize;
use sqlx::postgres::PgConnection;

use crate::auth::keys::{Claims, Token, TokenKind, sign, signing_key};
use crate::error::{Context, Result};
use crate::source::postgres::{close, literal, query_texts};
use crate::vault::databases::DatabaseVault;

/// How long a download's token is good for unless BosBase says otherwise, in seconds.
const FILE_TOKEN_S_DEFAULT: i64 = 180;

/// A superuser, and what its tokens are signed with.
#[derive(Deserialize)]
pub struct BosbaseSuperuser {
    /// Its id, a UUID.
    pub id: String,
    /// Its address.
    pub email: String,
    collection: String,
    token_key: String,
    auth_secret: Option<String>,
    file_secret: Option<String>,
    file_duration: Option<i64>,
}

impl std::fmt::Debug for BosbaseSuperuser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BosbaseSuperuser({})", self.id)
    }
}

impl BosbaseSuperuser {
    /// A token that opens downloads for a while.
    pub fn file_token(&self) -> Option<String> {
        let duration = self.file_duration.filter(|seconds| *seconds > 0);
        let duration = TimeDelta::try_seconds(duration.unwrap_or(FILE_TOKEN_S_DEFAULT))?;
        let claims = Claims {
            kind: TokenKind::File,
            record: &self.id,
            collection: &self.collection,
            refreshable: false,
            expires: Utc::now().checked_add_signed(duration)?.timestamp(),
        };
        let secret = self.file_secret.as_deref().filter(|secret| !secret.is_empty())?;
        Some(sign(&claims, &signing_key(&self.token_key, secret)))
    }
}

impl DatabaseVault {
    /// The superuser of a BosBase for whom a token speaks; `None` for any other token, and for
    /// databases of other types.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn bosbase_superuser(
        &self,
        token: &str,
        kind: TokenKind,
    ) -> Result<Option<BosbaseSuperuser>> {
        if self.bosbase.is_none() {
            return Ok(None);
        }
        let Some(token) = Token::parse(token, kind, self.clock().now()) else { return Ok(None) };
        // PocketBase's ids are no UUIDs: its own tokens never depend on another's database.
        if !is_uuid(&token.record) {
            return Ok(None);
        }
        let mut connection = self.source().connect(self.source().target().database()).await?;
        let found = find(&mut connection, &token.record).await;
        close(connection).await;
        Ok(found?.filter(|superuser| {
            let secret = match kind {
                TokenKind::Auth => &superuser.auth_secret,
                TokenKind::File => &superuser.file_secret,
            };
            // Without its two halves a key would be one that anybody can guess.
            let halves = secret.as_deref().filter(|secret| !secret.is_empty());
            superuser.collection == token.collection
                && !superuser.token_key.is_empty()
                && halves.is_some_and(|secret| {
                    token.is_signed_with(&signing_key(&superuser.token_key, secret))
                })
        }))
    }
}

async fn find(connection: &mut PgConnection, id: &str) -> Result<Option<BosbaseSuperuser>> {
    let sql = format!(
        "SELECT json_build_object('id', u.id::text, 'email', u.email, 'collection', c.id::text, \
         'token_key', u.\"tokenKey\", 'auth_secret', c.options->'authToken'->>'secret', \
         'file_secret', c.options->'fileToken'->>'secret', \
         'file_duration', (c.options->'fileToken'->>'duration')::int8)::text \
         FROM _superusers u, _collections c WHERE c.name = '_superusers' AND u.id::text = {}",
        literal(id)
    );
    let row = query_texts(connection, &sql).await?.pop();
    row.map(|row| serde_json::from_str(&row)).transpose().context("a strange superuser")
}

fn is_uuid(id: &str) -> bool {
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pocketbase_s_ids_are_no_uuids() {
        for (id, expected) in [
            ("0190d2c0-0000-7000-8000-000000000001", true),
            ("0190d2c0000070008000000000000001", false),
            ("abcdefghij12345", false),
            ("0190d2c0-0000-7000-8000-00000000000'", false),
            ("", false),
        ] {
            assert_eq!(is_uuid(id), expected, "{id}");
        }
    }
}
