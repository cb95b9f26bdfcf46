//! A BosBase: its database and its files as one backup.

mod create;
mod place;
mod restore;
mod tokens;

use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::config::databases::BosbaseConfig;
use crate::data_dir::DataDir;
use crate::error::Result;
use crate::settings::Encryption;
use crate::source::postgres::query_texts;

pub(super) use restore::Prepared;
pub use tokens::BosbaseSuperuser;

/// What a vault knows of a BosBase beside its database.
#[derive(Debug)]
pub(super) struct Bosbase {
    /// Its `pb_data`.
    data: DataDir,
    encryption: Encryption,
}

impl Bosbase {
    pub(super) fn new(config: &BosbaseConfig) -> Self {
        let (variable, key) = config.encryption.clone();
        Self {
            data: DataDir::new(config.data_dir.clone(), None),
            encryption: Encryption::new(variable, key),
        }
    }

    /// Whether uploads are kept in a bucket and not in `pb_data`, as the settings say; an error
    /// when they cannot be read.
    async fn keeps_files_elsewhere(&self, connection: &mut PgConnection) -> Result<bool> {
        let sql = "SELECT value::text FROM _params WHERE id = 'settings'";
        let Some(stored) = query_texts(connection, sql).await?.pop() else { return Ok(false) };
        let settings = match serde_json::from_str::<Value>(&stored) {
            Ok(settings) if settings.is_object() => settings,
            _ if !self.encryption.is_set() => return Err(self.encryption.missing()),
            _ => {
                let opened = self.encryption.open(stored.trim_matches('"').as_bytes())?;
                serde_json::from_slice(&opened).unwrap_or(Value::Null)
            }
        };
        Ok(settings["s3"]["enabled"] == true)
    }
}
