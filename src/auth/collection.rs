//! A collection as `_collections` describes it: what a login needs to know, nothing more.
//!
//! Read from the database at each use, so that changes of another process count at once.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::error::{Context, Result};

/// The collection whose records are superusers.
pub const SUPERUSERS: &str = "_superusers";

/// One collection.
#[derive(Debug, Clone)]
pub struct Collection {
    /// Its id, e.g. `pbc_3142635823`.
    pub id: String,
    /// Its name, which is also the name of its table.
    pub name: String,
    /// What an auth collection has and others have not.
    pub auth: Option<AuthOptions>,
    pub(super) fields: Vec<Field>,
    pub(super) indexes: Vec<String>,
}

/// The options of an auth collection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthOptions {
    /// Who may log in: `None` nobody, empty everybody, otherwise a filter.
    pub auth_rule: Option<String>,
    /// Whether logins from new places are remembered and announced.
    #[serde(deserialize_with = "nullable")]
    pub auth_alert: Switch,
    /// Logins with a password.
    #[serde(deserialize_with = "nullable")]
    pub password_auth: PasswordAuth,
    /// Logins through other services.
    #[serde(deserialize_with = "nullable")]
    pub oauth2: OAuth2,
    /// Whether one factor is not enough.
    #[serde(deserialize_with = "nullable")]
    pub mfa: Mfa,
    /// Logins with a mailed one-time password.
    #[serde(deserialize_with = "nullable")]
    pub otp: Otp,
    /// Tokens for requests.
    #[serde(deserialize_with = "nullable")]
    pub auth_token: TokenOptions,
    /// Tokens for downloads.
    #[serde(deserialize_with = "nullable")]
    pub file_token: TokenOptions,
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Whether it is on.
    pub enabled: bool,
}

/// Logins with a password.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PasswordAuth {
    /// Whether they are allowed.
    pub enabled: bool,
    /// Fields by which a record may be named, each with a unique index.
    #[serde(deserialize_with = "nullable")]
    pub identity_fields: Vec<String>,
}

/// Logins through other services. We offer none; only their names are known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct OAuth2 {
    /// Whether they are allowed.
    pub enabled: bool,
    /// The services.
    #[serde(deserialize_with = "nullable")]
    pub providers: Vec<Provider>,
}

/// One other service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    /// Its name, e.g. `google`.
    pub name: String,
    /// How to show it; empty for its own default.
    pub display_name: String,
}

/// Logins that need two factors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Mfa {
    /// Whether they do.
    pub enabled: bool,
    /// How long the second factor may follow the first, in seconds.
    pub duration: i64,
    /// For whom; empty for everybody.
    #[serde(deserialize_with = "nullable")]
    pub rule: String,
}

/// One-time passwords.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Otp {
    /// Whether they are allowed.
    pub enabled: bool,
    /// How long one is valid, in seconds.
    pub duration: i64,
    /// Its length in digits.
    pub length: usize,
}

/// One kind of token.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct TokenOptions {
    /// How long one is valid, in seconds.
    pub duration: i64,
    #[serde(deserialize_with = "nullable")]
    pub(super) secret: String,
}

impl fmt::Debug for TokenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenOptions").field("duration", &self.duration).finish_non_exhaustive()
    }
}

/// One field of a collection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) r#type: String,
    pub(super) hidden: bool,
    /// More than 1 makes a select, file or relation field hold a list.
    pub(super) max_select: i64,
    /// Bounds of texts and passwords in characters, of numbers in units: a float there.
    pub(super) min: Option<serde_json::Number>,
    pub(super) max: Option<serde_json::Number>,
    pub(super) cost: u32,
    pub(super) pattern: String,
    pub(super) on_update: bool,
    pub(super) on_create: bool,
    #[serde(deserialize_with = "nullable")]
    pub(super) only_domains: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) except_domains: Vec<String>,
}

impl Collection {
    /// Whether its records are superusers.
    pub fn is_superusers(&self) -> bool {
        self.name == SUPERUSERS
    }

    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// How values of a column are compared, if a unique index of its own covers it.
    pub(super) fn unique_column(&self, column: &str) -> Option<Comparison> {
        self.indexes.iter().find_map(|index| single_unique_column(index, column))
    }
}

/// How a look-up compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Exact,
    IgnoringCase,
}

/// The collection of that id or name (in any case).
pub(super) async fn find(pool: &SqlitePool, name_or_id: &str) -> Result<Option<Collection>> {
    let row = sqlx::query(
        "SELECT id, name, type, CAST(fields AS TEXT), CAST(indexes AS TEXT), \
         CAST(options AS TEXT) FROM _collections \
         WHERE id = ?1 OR LOWER(name) = LOWER(?1) ORDER BY id = ?1 DESC LIMIT 1",
    )
    .bind(name_or_id)
    .fetch_optional(pool)
    .await
    .context("cannot read the collections")?;
    row.map(|row| from_row(&row)).transpose()
}

/// Every auth collection.
pub(super) async fn all_auth(pool: &SqlitePool) -> Result<Vec<Collection>> {
    let rows = sqlx::query(
        "SELECT id, name, type, CAST(fields AS TEXT), CAST(indexes AS TEXT), \
         CAST(options AS TEXT) FROM _collections WHERE type = 'auth'",
    )
    .fetch_all(pool)
    .await
    .context("cannot read the collections")?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &SqliteRow) -> Result<Collection> {
    let name: String = row.try_get(1).context("a collection has no name")?;
    let text = |column: usize| {
        row.try_get::<String, _>(column).with_context(|| format!("cannot read collection {name}"))
    };
    let broken = || format!("the description of collection {name} is damaged");
    let auth = match text(2)?.as_str() {
        "auth" => Some(serde_json::from_str(&text(5)?).with_context(broken)?),
        _ => None,
    };
    Ok(Collection {
        id: text(0)?,
        auth,
        fields: serde_json::from_str(&text(3)?).with_context(broken)?,
        indexes: serde_json::from_str(&text(4)?).with_context(broken)?,
        name,
    })
}

/// Go writes empty lists and objects as `null`.
fn nullable<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

static UNIQUE_INDEX: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
    Regex::new(concat!(
        r"(?is)^\s*create\s+unique\s+index\s+.*?\son\s+\S+?\s*\(\s*([^\s,()]+)",
        r"(?:\s+collate\s+(\w+))?(?:\s+(?:asc|desc))?\s*\)",
    ))
    .expect("a valid pattern")
});

fn single_unique_column(index: &str, column: &str) -> Option<Comparison> {
    let parts = UNIQUE_INDEX.captures(index)?;
    let name = parts[1].trim_matches(['`', '"', '\'', '[', ']']);
    if !name.eq_ignore_ascii_case(column) {
        return None;
    }
    match parts.get(2) {
        Some(collation) if collation.as_str().eq_ignore_ascii_case("nocase") => {
            Some(Comparison::IgnoringCase)
        }
        _ => Some(Comparison::Exact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_indexes_of_one_column_are_found() {
        use Comparison::{Exact, IgnoringCase};
        for (index, comparison) in [
            ("CREATE UNIQUE INDEX `i` ON `users` (`email`) WHERE `email` != ''", Some(Exact)),
            ("create unique index if not exists i on users(email COLLATE NOCASE)", {
                Some(IgnoringCase)
            }),
            ("CREATE UNIQUE INDEX i ON [users] (\"Email\" collate nocase desc)", {
                Some(IgnoringCase)
            }),
            ("CREATE UNIQUE INDEX i ON users (\n  `email` ASC\n)", Some(Exact)),
            ("CREATE UNIQUE INDEX i ON users (email COLLATE RTRIM)", Some(Exact)),
            ("CREATE INDEX i ON users (email)", None),
            ("CREATE UNIQUE INDEX i ON users (email, name)", None),
            ("CREATE UNIQUE INDEX i ON users (lower(email))", None),
            ("CREATE UNIQUE INDEX i ON users (username)", None),
            ("", None),
        ] {
            assert_eq!(single_unique_column(index, "email"), comparison, "{index}");
        }
    }

    #[test]
    fn nulls_and_missing_options_are_defaults_and_secrets_are_not_printed() {
        let options: AuthOptions = serde_json::from_str(
            r#"{"authRule":null,"oauth2":{"enabled":true,"providers":null},"mfa":null,
                "passwordAuth":{"enabled":true,"identityFields":["email","name"]},
                "authToken":{"secret":"s3cret","duration":60},"later":{"x":1}}"#,
        )
        .expect("read");
        assert_eq!(options.auth_rule, None);
        assert!(options.oauth2.enabled && options.oauth2.providers.is_empty());
        assert!(!options.mfa.enabled && !options.otp.enabled);
        assert_eq!(options.password_auth.identity_fields, ["email", "name"]);
        assert_eq!(options.auth_token.secret, "s3cret");
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
