//! Tokens of our API for scripts, so that no superuser's password lies in them.
//!
//! A token is 256 random bits. Only its SHA-256 is kept: who reads our database opens nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result, Violation};
use crate::state::StateDb;
use crate::vault::jobs::words;

/// How every token begins, so that tools that look for secrets know it.
pub const PREFIX: &str = "pvt_";
/// The vault of the folder, beside the names of PostgreSQL databases.
pub const FOLDER: &str = "pb_data";
/// Longest name of a token, in characters.
const NAME_CHARS_MAX: usize = 100;
/// How exactly the last use is kept.
const USED_EVERY: TimeDelta = TimeDelta::minutes(1);
const MESSAGE: &str = "cannot use the records of tokens";

words! {
    /// What a token may do.
    Scope {
        /// See backups, jobs, status, schedules and metrics.
        Read = "read",
        /// Make, take in and prove backups.
        Create = "create",
        /// Download backups.
        Download = "download",
        /// Restore backups, and undo that.
        Restore = "restore",
        /// All of it, and delete, pin, prune, and make tokens.
        Admin = "admin",
    }
}

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// With what: [`FOLDER`], or the name of a PostgreSQL database; `None` for all.
    pub vault: Option<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it ends.
    pub expires: Option<DateTime<Utc>>,
    /// When it was used last, to the minute.
    pub used: Option<DateTime<Utc>>,
}

/// What a new token shall be.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// As in [`Token`].
    pub name: String,
    /// The words of its scopes.
    pub scopes: Vec<String>,
    /// As in [`Token`].
    pub vault: Option<String>,
    /// How long it is valid; for ever without it.
    pub valid: Option<Duration>,
}

/// All tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    state: StateDb,
    clock: Clock,
}

impl Token {
    /// Whether one of `scopes` is its own; an admin's token has all.
    pub fn allows(&self, scopes: &[Scope]) -> bool {
        self.scopes.iter().any(|own| *own == Scope::Admin || scopes.contains(own))
    }
}

impl Tokens {
    /// The tokens in `state`.
    pub fn new(state: StateDb, clock: Clock) -> Self {
        Self { state, clock }
    }

    /// Whether a text is meant to be one of ours.
    pub fn is_token(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Makes a token. Its text is told here and never again.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a wish that makes no sense; the database cannot be written.
    pub async fn create(&self, wish: &Wish) -> Result<(String, Token)> {
        let scopes = check(wish)?;
        let now = self.clock.now();
        let expires = wish.valid.map(|valid| {
            let valid = TimeDelta::from_std(valid).unwrap_or(TimeDelta::MAX);
            now.checked_add_signed(valid).unwrap_or(DateTime::<Utc>::MAX_UTC)
        });
        let bytes: [u8; 32] = rand::rng().random();
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let sql = "INSERT INTO tokens (name, hash, scopes, vault, created, expires) \
            VALUES (?, ?, ?, ?, ?, ?) RETURNING *";
        let row = sqlx::query(sql)
            .bind(&wish.name)
            .bind(hash(&text))
            .bind(words.join(","))
            .bind(wish.vault.as_deref())
            .bind(now.timestamp_millis())
            .bind(expires.map(|expires| expires.timestamp_millis()))
            .fetch_one(self.state.pool())
            .await
            .context(MESSAGE)?;
        let token = read(&row).ok_or_else(|| Error::internal(MESSAGE))?;
        tracing::info!(token = token.name, scopes = words.join(","), "made a token");
        Ok((text, token))
    }

    /// All of them, also those that are over.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list(&self) -> Result<Vec<Token>> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY id").fetch_all(self.state.pool());
        Ok(rows.await.context(MESSAGE)?.iter().filter_map(read).collect())
    }

    /// Takes a token back; from now on it opens nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; the database cannot be written.
    pub async fn revoke(&self, id: u64) -> Result<()> {
        let id = i64::try_from(id).unwrap_or(i64::MAX);
        let query = sqlx::query("DELETE FROM tokens WHERE id = ?").bind(id);
        match query.execute(self.state.pool()).await.context(MESSAGE)?.rows_affected() {
            0 => Err(Error::new(Kind::NotFound, format!("There is no token {id}."))),
            _ => Ok(()),
        }
    }

    /// The token of a text, if it is valid now.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn find(&self, text: &str) -> Result<Option<Token>> {
        let sql = "SELECT * FROM tokens WHERE hash = ?";
        let query = sqlx::query(sql).bind(hash(text));
        let row = query.fetch_optional(self.state.pool()).await.context(MESSAGE)?;
        let now = self.clock.now();
        let token = row.as_ref().and_then(read);
        let token = token.filter(|token| token.expires.is_none_or(|expires| now < expires));
        if let Some(token) = &token
            && token.used.is_none_or(|used| (now - used).abs() >= USED_EVERY)
        {
            let query = sqlx::query("UPDATE tokens SET used = ? WHERE hash = ?")
                .bind(now.timestamp_millis())
                .bind(hash(text));
            if let Err(error) = query.execute(self.state.pool()).await {
                tracing::warn!(%error, "the last use of a token is not recorded");
            }
        }
        Ok(token)
    }
}

fn check(wish: &Wish) -> Result<Vec<Scope>> {
    let broken = |field: &str, message: String| {
        Err(Error::invalid(Violation::new(field, "validation_invalid_value", message)))
    };
    if wish.name.is_empty() || wish.name.chars().count() > NAME_CHARS_MAX {
        return broken("name", format!("Must be 1 to {NAME_CHARS_MAX} characters."));
    }
    let mut scopes = Vec::new();
    for word in &wish.scopes {
        match Scope::parse(word) {
            Some(scope) if !scopes.contains(&scope) => scopes.push(scope),
            Some(_) => {}
            None => {
                let message =
                    format!("{word:?} is none of read, create, download, restore, admin.");
                return broken("scopes", message);
            }
        }
    }
    if scopes.is_empty() {
        return broken("scopes", "Must name one scope at least.".to_owned());
    }
    Ok(scopes)
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// A row with words that this version does not know is no token.
fn read(row: &SqliteRow) -> Option<Token> {
    let time = |column: &str| -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(row.try_get::<Option<i64>, _>(column).ok()??)
    };
    let words: String = row.try_get("scopes").ok()?;
    let has_end = row.try_get::<Option<i64>, _>("expires").ok()?.is_some();
    let expires = time("expires");
    Some(Token {
        id: u64::try_from(row.try_get::<i64, _>("id").ok()?).ok()?,
        name: row.try_get("name").ok()?,
        scopes: words.split(',').map(Scope::parse).collect::<Option<Vec<Scope>>>()?,
        vault: row.try_get("vault").ok()?,
        created: time("created")?,
        // An end beyond the calendar is none that can be told.
        expires: expires.or(has_end.then_some(DateTime::<Utc>::MAX_UTC)),
        used: time("used"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(scopes: &[&str]) -> Wish {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Wish { name: "ci".to_owned(), scopes, ..Wish::default() }
    }

    #[tokio::test]
    async fn a_token_opens_until_it_ends_or_is_taken_back_and_is_nowhere() {
        let home = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"));
        let state = StateDb::open(home.path(), &clock).await.expect("opened");
        let tokens = Tokens::new(state.clone(), clock.clone());
        let day = Some(Duration::from_secs(24 * 3600));
        let short = Wish { valid: day, ..wish(&["read", "create", "read"]) };
        let (text, made) = tokens.create(&short).await.expect("made");
        assert!(Tokens::is_token(&text) && text.len() == 4 + 43, "{}", text.len());
        assert_eq!(made.scopes, [Scope::Read, Scope::Create]);
        let found = tokens.find(&text).await.expect("asked").expect("there");
        assert_eq!((found.id, found.used), (made.id, None));
        assert!(tokens.list().await.expect("listed")[0].used.is_some());
        assert_eq!(tokens.find("pvt_wrong").await.expect("asked"), None);
        assert_eq!(tokens.find(&text[..46]).await.expect("asked"), None);
        clock.advance(TimeDelta::days(1));
        assert_eq!(tokens.find(&text).await.expect("asked"), None, "it is over");
        let (other, made) = tokens.create(&wish(&["admin"])).await.expect("made");
        assert!(made.allows(&[Scope::Restore]) && made.expires.is_none() && other != text);
        tokens.revoke(made.id).await.expect("taken back");
        assert_eq!(tokens.find(&other).await.expect("asked"), None);
        assert_eq!(tokens.revoke(made.id).await.expect_err("gone").kind(), &Kind::NotFound);
        state.close().await;
        for file in std::fs::read_dir(home.path()).expect("listed") {
            let bytes = std::fs::read(file.expect("one").path()).expect("read");
            let text = text.as_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text));
        }
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let state = StateDb::in_memory().await.expect("made");
        let tokens = Tokens::new(state, Clock::system());
        for bad in [wish(&[]), wish(&["write"]), Wish { name: String::new(), ..wish(&["read"]) }] {
            assert!(tokens.create(&bad).await.is_err(), "{bad:?}");
        }
    }
}
