//! The API keys that Blnk keeps in its database: a bcrypt hash each, found by the beginning of
//! the key.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use crate::error::{Context, Error, Kind, Result};
use crate::source::postgres::{Postgres, close, literal, query_texts};

/// So many characters of a key are kept in clear, to find it.
const PREFIX_CHARS: usize = 16;
/// bcrypt looks at no more, in bytes: Blnk has no longer keys.
const KEY_BYTES_MAX: usize = 72;
/// What a backup needs, as Blnk names it: the action follows from the method, GET.
const RESOURCE: &str = "backup";
const ACTION: &str = "read";
/// What stands for all resources or all actions.
const ANY: &str = "*";

/// What a key is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Blnk does not know it.
    Unknown,
    /// It was revoked, or its time is over.
    Ended,
    /// It may not make backups.
    Insufficient,
    /// It may.
    Sufficient,
}

/// A row of the table.
#[derive(Deserialize)]
struct Row {
    hash: String,
    scopes: Vec<String>,
    ended: bool,
}

/// Looks a key up.
///
/// # Errors
/// The database cannot be asked; one without the table has no keys.
pub(super) async fn look_up(source: &Postgres, key: &str) -> Result<Standing> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Ok(Standing::Unknown);
    }
    let prefix: String = key.chars().take(PREFIX_CHARS).collect();
    let sql = format!(
        "SELECT json_build_object('hash', key, 'scopes', coalesce(scopes, '{{}}'), \
         'ended', is_revoked OR expires_at <= now())::text \
         FROM blnk.api_keys WHERE key_prefix = {}",
        literal(&prefix)
    );
    let mut connection = source.connect(source.target().database()).await?;
    let found = query_texts(&mut connection, &sql).await;
    close(connection).await;
    let rows = match found {
        Ok(rows) => rows,
        Err(error) if error.kind() == &Kind::Internal => {
            tracing::warn!(error = error.full(), "Blnk's API keys cannot be read");
            return Ok(Standing::Unknown);
        }
        Err(error) => return Err(error),
    };
    let rows = rows.iter().map(|row| serde_json::from_str(row));
    let rows: Vec<Row> = rows.collect::<Result<_, _>>().context("strange API keys")?;
    let key = key.to_owned();
    let judged = spawn_blocking(move || judge(&rows, &key)).await;
    judged.map_err(|error| Error::internal("a thread stopped").because(error))
}

/// Slow: bcrypt is.
fn judge(rows: &[Row], key: &str) -> Standing {
    let matches = |row: &&Row| bcrypt::verify(key, &row.hash).unwrap_or(false);
    match rows.iter().find(matches) {
        None => Standing::Unknown,
        Some(row) if row.ended => Standing::Ended,
        Some(row) if row.scopes.iter().any(|scope| suffices(scope)) => Standing::Sufficient,
        Some(_) => Standing::Insufficient,
    }
}

/// `resource:action`, with `*` for all of either.
fn suffices(scope: &str) -> bool {
    scope.split_once(':').is_some_and(|(resource, action)| {
        [RESOURCE, ANY].contains(&resource) && [ACTION, ANY].contains(&action)
    })
}

/// Whether two secrets are the same, in a time that tells nothing about where they differ.
pub(super) fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a) == Sha256::digest(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_blnk_reads_them() {
        for (scope, expected) in [
            ("backup:read", true),
            ("backup:*", true),
            ("*:read", true),
            ("*:*", true),
            ("backup:write", false),
            ("*:write", false),
            ("backup-s3:read", false),
            ("ledgers:*", false),
            ("backup", false),
            ("backup:read:x", false),
            ("", false),
        ] {
            assert_eq!(suffices(scope), expected, "{scope}");
        }
    }

    #[test]
    fn a_key_is_what_its_hash_says() {
        let row = |key: &str, scope: &str, ended| Row {
            hash: bcrypt::hash(key, 4).expect("hashed"),
            scopes: vec!["ledgers:read".to_owned(), scope.to_owned()],
            ended,
        };
        let rows = [
            row("0123456789abcdef-a", "backup:read", false),
            row("0123456789abcdef-b", "backup:read", true),
            row("0123456789abcdef-c", "ledgers:*", false),
            Row { hash: "0123456789abcdef-d".to_owned(), scopes: Vec::new(), ended: false },
        ];
        for (end, expected) in [
            ("a", Standing::Sufficient),
            ("b", Standing::Ended),
            ("c", Standing::Insufficient),
            ("d", Standing::Unknown),
            ("e", Standing::Unknown),
        ] {
            assert_eq!(judge(&rows, &format!("0123456789abcdef-{end}")), expected, "{end}");
        }
    }

    #[test]
    fn the_master_key_is_compared_whole() {
        assert!(same("master", "master"));
        assert!(!same("master", "master ") && !same("", "master"));
    }
}
