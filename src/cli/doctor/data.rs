//! What is in the databases.

use crate::auth::superusers::Superusers;
use crate::database::Database;

use super::{Findings, Patient};

/// Whether the schema is one that we know.
pub(super) async fn schema(database: &Database, found: &mut Findings) -> bool {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' \
               AND name IN ('_admins', '_superusers', '_collections', '_params')";
    let tables: Vec<String> = match sqlx::query_scalar(sql).fetch_all(database.data()).await {
        Ok(tables) => tables,
        Err(error) => {
            let hint = "restore the last good backup: `pocketvault restore KEY`";
            found.fault("data.damaged", format!("data.db cannot be read: {error}"), hint);
            return false;
        }
    };
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has("_superusers") && has("_collections") {
        return true;
    }
    let said = match has("_admins") {
        true => "data.db is of a PocketBase before v0.23: it has _admins and no _superusers",
        false => "data.db is none of PocketBase's: tables of every PocketBase are missing",
    };
    found.fault("schema.old", said, "upgrade PocketBase, start it once, and look again");
    false
}

/// Whether somebody can log in.
pub(super) async fn superusers(database: &Database, patient: &Patient, found: &mut Findings) {
    let superusers = Superusers::new(database.clone(), patient.clock.clone());
    if let Ok(0) = superusers.count().await {
        let said = "there is no superuser: nobody can log in, and no restore would be proven";
        found.fault("superuser.none", said, "`pocketvault superuser upsert EMAIL` makes one");
    }
}

/// Whether the data is sound, as far as SQLite sees it quickly.
pub(super) async fn integrity(database: &Database, found: &mut Findings) {
    let checked = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
    let said = match checked.fetch_one(database.data()).await {
        Ok(said) if said == "ok" => return,
        Ok(said) => said,
        Err(error) => error.to_string(),
    };
    if found.0.iter().any(|finding| finding.code == "data.damaged") {
        return;
    }
    let hint = "stop writing to it, copy the folder away, then `pocketvault restore KEY`";
    found.fault("data.damaged", format!("data.db is damaged: {said}"), hint);
}
