//! A record of an auth collection: read from its table, shown as PocketBase shows it.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::collection::{AuthOptions, Collection, Comparison, Field};
use crate::database::quote_identifier;
use crate::error::{Context, Error, Result};

/// Somebody: a record of an auth collection, and what its token allowed.
#[derive(Clone)]
pub struct Identity {
    collection: Arc<Collection>,
    id: String,
    email: String,
    verified: bool,
    token_key: String,
    record: Map<String, Value>,
    refreshable: bool,
}

impl Identity {
    /// The collection it belongs to.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// The id of its record.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its e-mail address; may be empty outside the superusers.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// Whether it may do everything.
    pub fn is_superuser(&self) -> bool {
        self.collection.is_superusers()
    }

    /// Whether the token that brought it here may be exchanged for a fresh one.
    pub fn refreshable(&self) -> bool {
        self.refreshable
    }

    /// Its record as PocketBase returns it after a login: all fields that are not hidden, the
    /// e-mail address, and never passwords or token keys.
    pub fn record(&self) -> &Map<String, Value> {
        &self.record
    }

    pub(super) fn verified(&self) -> bool {
        self.verified
    }

    pub(super) fn token_key(&self) -> &str {
        &self.token_key
    }

    pub(super) fn with_refreshable(mut self, refreshable: bool) -> Self {
        self.refreshable = refreshable;
        self
    }

    /// The options of its collection, which is always an auth collection.
    pub(super) fn options(&self) -> Result<&AuthOptions> {
        options(&self.collection)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}/{})", self.collection.name, self.id)
    }
}

/// The options of a collection that must be an auth collection.
pub(super) fn options(collection: &Collection) -> Result<&AuthOptions> {
    collection
        .auth
        .as_ref()
        .ok_or_else(|| Error::internal(format!("{} is not an auth collection", collection.name)))
}

/// A record with its password hash, which stays inside this module.
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) password_hash: String,
}

/// The record of an auth collection whose `column` holds `value`.
pub(super) async fn find(
    pool: &SqlitePool,
    collection: &Arc<Collection>,
    column: &str,
    value: &str,
    comparison: Comparison,
) -> Result<Option<Found>> {
    let collation = match comparison {
        Comparison::Exact => "",
        Comparison::IgnoringCase => " COLLATE NOCASE",
    };
    let sql = format!(
        "SELECT * FROM {} WHERE {} = ?{collation} LIMIT 1",
        quote_identifier(&collection.name),
        quote_identifier(column),
    );
    let failed = || format!("cannot read a record of {}", collection.name);
    let mut connection = pool.acquire().await.with_context(failed)?;
    // A statement of `*` gets its columns from what the connection remembers of the table, which
    // somebody may have changed since; more columns at its first step are the end of sqlx's
    // thread. A look at the schema makes the connection remember the table as it is now.
    sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .with_context(failed)?;
    // Not kept, for the same reason.
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .persistent(false)
        .bind(value)
        .fetch_optional(&mut *connection)
        .await
        .with_context(failed)?;
    row.map(|row| found(collection, &row)).transpose()
}

/// The record of an auth collection by its id.
pub(super) async fn by_id(
    pool: &SqlitePool,
    collection: &Arc<Collection>,
    id: &str,
) -> Result<Option<Found>> {
    find(pool, collection, "id", id, Comparison::Exact).await
}

fn found(collection: &Arc<Collection>, row: &SqliteRow) -> Result<Found> {
    let required = |column: &str| {
        row.try_get_unchecked::<Option<String>, _>(column)
            .map(Option::unwrap_or_default)
            .with_context(|| format!("{} has no column {column}", collection.name))
    };
    let identity = Identity {
        id: required("id")?,
        email: text(row, "email"),
        verified: whole(row, "verified") != 0,
        token_key: required("tokenKey")?,
        record: export(collection, row),
        refreshable: true,
        collection: Arc::clone(collection),
    };
    Ok(Found { identity, password_hash: required("password")? })
}

fn export(collection: &Collection, row: &SqliteRow) -> Map<String, Value> {
    let shown = |field: &&Field| {
        let secret = field.name == "password" || field.name == "tokenKey";
        !secret && (!field.hidden || collection.is_superusers())
    };
    let mut record: Map<String, Value> = collection
        .fields
        .iter()
        .filter(shown)
        .map(|field| (field.name.clone(), value(field, row)))
        .collect();
    record.insert("collectionId".to_owned(), collection.id.clone().into());
    record.insert("collectionName".to_owned(), collection.name.clone().into());
    record
}

/// The value of one field; the zero value of its type when the table has no such column.
fn value(field: &Field, row: &SqliteRow) -> Value {
    let name = field.name.as_str();
    match field.r#type.as_str() {
        "bool" => Value::Bool(whole(row, name) != 0),
        "number" => number(row.try_get_unchecked::<Option<f64>, _>(name).ok().flatten()),
        "json" => parsed(row, name),
        "geoPoint" => match parsed(row, name) {
            Value::Object(point) => Value::Object(point),
            _ => serde_json::json!({"lat": 0, "lon": 0}),
        },
        "select" | "file" | "relation" if field.max_select > 1 => match parsed(row, name) {
            Value::Array(items) => Value::Array(items),
            _ => Value::Array(Vec::new()),
        },
        "password" => Value::String(String::new()),
        _ => Value::String(text(row, name)),
    }
}

fn text(row: &SqliteRow, name: &str) -> String {
    row.try_get_unchecked::<Option<String>, _>(name).ok().flatten().unwrap_or_default()
}

fn whole(row: &SqliteRow, name: &str) -> i64 {
    row.try_get_unchecked::<Option<i64>, _>(name).ok().flatten().unwrap_or_default()
}

fn parsed(row: &SqliteRow, name: &str) -> Value {
    serde_json::from_str(&text(row, name)).unwrap_or(Value::Null)
}

/// Go writes a whole float without a point.
fn number(value: Option<f64>) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let value = value.unwrap_or_default();
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within EXACT_MAX")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::auth::testing::Folder;
    use crate::database::{Access, Database};

    #[tokio::test]
    async fn a_table_that_another_process_changed_is_read_as_it_is_now() {
        let folder = Folder::new().await;
        folder.insert("users", "u23456789012345", "u@example.com").await;
        let collection = folder.collection("users").await;
        let other = Database::open(folder.root(), Access::ReadWrite).expect("opened");
        for round in 0..4 {
            // No other statement comes between: it would refresh what the connection knows.
            let found = folder.directory.record(&collection, "u23456789012345").await;
            assert!(found.expect("read").is_some(), "round {round}");
            let sql = format!("ALTER TABLE users ADD COLUMN more_{round} DEFAULT 'x'");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(other.data()).await.expect("changed");
        }
        other.close().await;
    }

    #[tokio::test]
    async fn custom_fields_are_shown_by_their_type_and_hidden_ones_are_not() {
        let folder = Folder::new().await;
        for (column, kind, more, stored) in [
            ("t_number", "number", "{}", "5.0"),
            ("t_float", "number", "{}", "-0.25"),
            ("t_bool", "bool", "{}", "1"),
            ("t_json", "json", "{}", "'{\"b\":[1,null],\"a\":\"x\"}'"),
            ("t_json_empty", "json", "{}", "NULL"),
            ("t_one", "select", r#"{"maxSelect":1}"#, "'x'"),
            ("t_many", "select", r#"{"maxSelect":2}"#, "'[\"x\",\"y\"]'"),
            ("t_none", "relation", r#"{"maxSelect":2}"#, "''"),
            ("t_point", "geoPoint", "{}", "'{\"lon\":1.5,\"lat\":2}'"),
            ("t_date", "date", "{}", "'2026-01-02 03:04:05.006Z'"),
            ("t_secret", "password", "{}", "'$2a$'"),
            ("t_hidden", "text", r#"{"hidden":true}"#, "'hush'"),
        ] {
            folder.run(&format!("ALTER TABLE users ADD COLUMN {column} DEFAULT {stored}")).await;
            folder
                .run(&format!(
                    "UPDATE _collections SET fields = json_insert(fields, '$[#]', json_patch( \
                     json('{more}'), json_object('name', '{column}', 'type', '{kind}'))) \
                     WHERE name = 'users'"
                ))
                .await;
        }
        folder.insert("users", "u23456789012345", "u@example.com").await;
        let identity = folder.identity("users", "u23456789012345").await;
        assert_eq!(
            serde_json::Value::Object(identity.record().clone()),
            json!({
                "avatar": "",
                "collectionId": "_pb_users_auth_",
                "collectionName": "users",
                "created": "2026-01-01 00:00:00.000Z",
                "email": "u@example.com",
                "emailVisibility": false,
                "id": "u23456789012345",
                "name": "",
                "t_bool": true,
                "t_date": "2026-01-02 03:04:05.006Z",
                "t_float": -0.25,
                "t_json": {"a": "x", "b": [1, null]},
                "t_json_empty": null,
                "t_many": ["x", "y"],
                "t_none": [],
                "t_number": 5,
                "t_one": "x",
                "t_point": {"lat": 2, "lon": 1.5},
                "t_secret": "",
                "updated": "2026-01-01 00:00:00.000Z",
                "verified": false,
            })
        );
    }
}
