//! Changes of a record's password or verified mark, with everything that follows from them.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::collection::Collection;
use super::random;
use crate::clock::pocketbase_time;
use crate::database::quote_identifier;
use crate::error::{Context, Result};

/// What is to change in a record.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// A new password's hash. A new token key comes with it, so every token of the record
    /// ends, and its one-time passwords, second-factor sessions and known places go.
    pub(super) password_hash: Option<String>,
    /// Whether the address is verified from now on; `false` leaves it as it is.
    pub(super) verified: bool,
}

/// Applies a change, all of it or nothing.
pub(super) async fn apply(
    pool: &SqlitePool,
    collection: &Collection,
    id: &str,
    change: &Change,
    now: DateTime<Utc>,
) -> Result<()> {
    let message = || format!("cannot change a record of {}", collection.name);
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.with_context(message)?;
    apply_in(&mut transaction, collection, id, change, now).await.with_context(message)?;
    transaction.commit().await.with_context(message)
}

/// [`apply`] within a transaction of the caller.
pub(super) async fn apply_in(
    connection: &mut SqliteConnection,
    collection: &Collection,
    id: &str,
    change: &Change,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut columns: Vec<(String, String)> = collection
        .fields
        .iter()
        .filter(|field| field.r#type == "autodate" && field.on_update)
        .map(|field| (field.name.clone(), pocketbase_time(now)))
        .collect();
    if let Some(hash) = &change.password_hash {
        columns.push(("password".to_owned(), hash.clone()));
        columns.push(("tokenKey".to_owned(), random::secret()));
    }
    let mut set: Vec<String> =
        columns.iter().map(|(column, _)| format!("{} = ?", quote_identifier(column))).collect();
    if change.verified {
        set.push("verified = TRUE".to_owned());
    }
    if set.is_empty() {
        return Ok(());
    }
    let table = quote_identifier(&collection.name);
    let sql = format!("UPDATE {table} SET {} WHERE id = ?", set.join(", "));
    let mut update = sqlx::query(AssertSqlSafe(sql));
    for (_, value) in columns {
        update = update.bind(value);
    }
    update.bind(id).execute(&mut *connection).await?;
    if change.password_hash.is_some() {
        forget(connection, &collection.id, id, &["_mfas", "_otps", "_authOrigins"]).await?;
    }
    Ok(())
}

/// Deletes a record's rows in PocketBase's own tables.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    collection_id: &str,
    id: &str,
    tables: &[&'static str],
) -> sqlx::Result<()> {
    for table in tables {
        let sql = format!("DELETE FROM {table} WHERE collectionRef = ? AND recordRef = ?");
        sqlx::query(AssertSqlSafe(sql))
            .bind(collection_id)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
