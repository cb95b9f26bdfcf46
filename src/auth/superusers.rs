//! Superusers by e-mail address: what the command line creates, changes, deletes and lists.
//!
//! Works beside a running PocketBase on the same folder: it reads records at each use, so
//! nothing needs to be announced to it.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::change::{self, Change};
use super::collection::{self, Collection, Comparison, SUPERUSERS};
use super::directory::unique;
use super::{password, random};
use crate::clock::{Clock, pocketbase_time};
use crate::database::{Database, quote_identifier};
use crate::error::{Context, Error, Kind, Result, Violation};

/// Address of the superuser that PocketBase makes for its own installation page; it goes as
/// soon as there is another one.
pub const INSTALLER_EMAIL: &str = "__pbinstaller@example.com";

/// The superusers of a folder.
#[derive(Debug, Clone)]
pub struct Superusers {
    database: Database,
    clock: Clock,
}

/// One superuser, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superuser {
    /// The id of the record.
    pub id: String,
    /// The e-mail address.
    pub email: String,
    /// When it was made, in PocketBase's form.
    pub created: String,
    /// When it was last changed, in PocketBase's form.
    pub updated: String,
}

/// What [`Superusers::upsert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// There is a new superuser.
    Created,
    /// An existing one has a new password, and none of its tokens is valid any more.
    Updated,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    Upsert,
}

impl Superusers {
    /// The superusers of that database.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }

    /// Creates a superuser.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for address or password, also when the address is taken;
    /// [`Kind::Unavailable`] on a read-only folder; faults of the database.
    pub async fn create(&self, email: &str, password: &str) -> Result<()> {
        self.save(email, password, Mode::Create).await.map(drop)
    }

    /// Gives an existing superuser a new password.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when nobody has that address; otherwise as [`Superusers::create`].
    pub async fn update(&self, email: &str, password: &str) -> Result<()> {
        self.save(email, password, Mode::Update).await.map(drop)
    }

    /// Creates a superuser or gives an existing one a new password.
    ///
    /// # Errors
    /// As [`Superusers::create`], but an address that is taken is fine.
    pub async fn upsert(&self, email: &str, password: &str) -> Result<Saved> {
        self.save(email, password, Mode::Upsert).await
    }

    /// Deletes a superuser; whether there was one.
    ///
    /// # Errors
    /// [`Kind::Invalid`] without violations for the last one; [`Kind::Unavailable`] on a
    /// read-only folder; faults of the database.
    pub async fn delete(&self, email: &str) -> Result<bool> {
        self.database.require_write()?;
        let collection = self.collection().await?;
        let message = "cannot delete a superuser";
        let mut transaction =
            self.database.data().begin_with("BEGIN IMMEDIATE").await.context(message)?;
        let found = id_of(&mut transaction, &collection, email).await?;
        let Some(id) = found else { return Ok(false) };
        let total: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _superusers")
            .fetch_one(&mut *transaction)
            .await
            .context(message)?;
        if total == 1 {
            return Err(Error::new(
                Kind::Invalid(Vec::new()),
                "You can't delete the only existing superuser.",
            )
            .hint("create another one first"));
        }
        delete_record(&mut transaction, &collection, &id).await.context(message)?;
        transaction.commit().await.context(message)?;
        Ok(true)
    }

    /// All superusers but the installer, by address.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list(&self) -> Result<Vec<Superuser>> {
        let message = "cannot list the superusers";
        let rows = sqlx::query(
            "SELECT id, email, created, updated FROM _superusers WHERE email != ? ORDER BY email",
        )
        .bind(INSTALLER_EMAIL)
        .fetch_all(self.database.data())
        .await
        .context(message)?;
        rows.iter()
            .map(|row| {
                Ok(Superuser {
                    id: row.try_get(0)?,
                    email: row.try_get(1)?,
                    created: row.try_get(2)?,
                    updated: row.try_get(3)?,
                })
            })
            .collect::<sqlx::Result<_>>()
            .context(message)
    }

    /// How many superusers there are, without the installer. None means that nobody can log
    /// in yet.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count(&self) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _superusers WHERE email != ?")
            .bind(INSTALLER_EMAIL)
            .fetch_one(self.database.data())
            .await
            .context("cannot count the superusers")?;
        Ok(count.unsigned_abs())
    }

    async fn save(&self, email: &str, password: &str, mode: Mode) -> Result<Saved> {
        self.database.require_write()?;
        let collection = self.collection().await?;
        password::check_email(email, collection.field("email"))?;
        let field = collection.field("password");
        password::check(password, field)?;
        // Hashing takes long: before the write lock is taken, not under it.
        let cost = field.map_or(password::COST, |field| field.cost);
        let hash = password::hash(password, cost).await?;

        let message = "cannot save a superuser";
        let mut transaction =
            self.database.data().begin_with("BEGIN IMMEDIATE").await.context(message)?;
        let saved = match (id_of(&mut transaction, &collection, email).await?, mode) {
            (Some(_), Mode::Create) => return Err(taken()),
            (None, Mode::Update) => {
                let message = format!("there is no superuser {email}");
                return Err(Error::new(Kind::NotFound, message));
            }
            (Some(id), _) => {
                let change = Change { password_hash: Some(hash), verified: true };
                let now = self.clock.now();
                change::apply_in(&mut transaction, &collection, &id, &change, now)
                    .await
                    .context(message)?;
                Saved::Updated
            }
            (None, _) => {
                self.insert(&mut transaction, &collection, email, hash).await.context(message)?;
                Saved::Created
            }
        };
        transaction.commit().await.context(message)?;
        Ok(saved)
    }

    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        collection: &Collection,
        email: &str,
        hash: String,
    ) -> sqlx::Result<()> {
        let now = pocketbase_time(self.clock.now());
        let mut columns = vec![
            ("id", random::id()),
            ("email", email.to_owned()),
            ("password", hash),
            ("tokenKey", random::secret()),
        ];
        let dates =
            collection.fields.iter().filter(|field| field.r#type == "autodate" && field.on_create);
        columns.extend(dates.map(|field| (field.name.as_str(), now.clone())));
        let names: Vec<_> = columns.iter().map(|(name, _)| quote_identifier(name)).collect();
        let sql = format!(
            "INSERT INTO _superusers (verified, {}) VALUES (TRUE{})",
            names.join(", "),
            ", ?".repeat(names.len()),
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (_, value) in columns {
            insert = insert.bind(value);
        }
        insert.execute(&mut *connection).await?;
        if email == INSTALLER_EMAIL {
            return Ok(());
        }
        let installer: Option<String> =
            sqlx::query_scalar("SELECT id FROM _superusers WHERE email = ?")
                .bind(INSTALLER_EMAIL)
                .fetch_optional(&mut *connection)
                .await?;
        match installer {
            Some(id) => delete_record(connection, collection, &id).await,
            None => Ok(()),
        }
    }

    async fn collection(&self) -> Result<Arc<Collection>> {
        let found = collection::find(self.database.data(), SUPERUSERS).await?;
        found.map(Arc::new).ok_or_else(|| {
            let folder = self.database.root().display();
            Error::new(Kind::Corrupt, format!("{folder} has no collection of superusers"))
                .hint("is this the folder of a PocketBase before v0.23?")
        })
    }
}

async fn id_of(
    connection: &mut SqliteConnection,
    collection: &Collection,
    email: &str,
) -> Result<Option<String>> {
    let sql = match unique(collection, "email")? {
        Comparison::Exact => "SELECT id FROM _superusers WHERE email = ?",
        Comparison::IgnoringCase => "SELECT id FROM _superusers WHERE email = ? COLLATE NOCASE",
    };
    sqlx::query_scalar(sql)
        .bind(email)
        .fetch_optional(connection)
        .await
        .context("cannot look a superuser up")
}

/// Deletes a superuser and its rows in PocketBase's own tables. Relations of the application's
/// own collections to superusers are left to the application.
async fn delete_record(
    connection: &mut SqliteConnection,
    collection: &Collection,
    id: &str,
) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM _superusers WHERE id = ?").bind(id).execute(&mut *connection).await?;
    let tables = ["_mfas", "_otps", "_authOrigins", "_externalAuths"];
    change::forget(connection, &collection.id, id, &tables).await
}

fn taken() -> Error {
    Error::invalid(Violation::new("email", "validation_not_unique", "Value must be unique."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Folder, PASSWORD};
    use crate::database::Access;

    #[tokio::test]
    async fn a_new_password_ends_every_token_and_forgets_the_record_s_traces() {
        let folder = Folder::new().await;
        let superusers = &folder.superusers;
        let saved = superusers.upsert("a@example.com", PASSWORD).await.expect("saved");
        assert_eq!(saved, Saved::Created);
        let token = folder.token("a@example.com", PASSWORD).await.expect("logged in");
        assert!(folder.accepts(&token).await);
        let id = superusers.list().await.expect("listed")[0].id.clone();
        for table in ["_mfas", "_otps", "_authOrigins"] {
            let values = format!("VALUES ('pbc_3142635823', '{id}')");
            folder.run(&format!("INSERT INTO {table} (collectionRef, recordRef) {values}")).await;
        }
        let saved = superusers.upsert("a@example.com", "0987654321").await.expect("saved");
        assert_eq!(saved, Saved::Updated);
        assert!(!folder.accepts(&token).await);
        assert!(folder.token("a@example.com", PASSWORD).await.is_none());
        assert!(folder.token("a@example.com", "0987654321").await.is_some());
        for table in ["_mfas", "_otps", "_authOrigins"] {
            let left = folder.count(&format!("SELECT COUNT(*) FROM {table}")).await;
            assert_eq!(left, 0, "{table}");
        }
    }

    #[tokio::test]
    async fn only_one_superuser_has_an_address_and_the_last_one_stays() {
        let folder = Folder::new().await;
        let superusers = &folder.superusers;
        let update = superusers.update("a@example.com", PASSWORD).await.expect_err("nobody");
        assert_eq!(update.kind(), &Kind::NotFound);
        superusers.create("a@example.com", PASSWORD).await.expect("created");
        let twice = superusers.create("a@example.com", PASSWORD).await.expect_err("taken");
        assert_eq!(twice.kind(), taken().kind());
        let last = superusers.delete("a@example.com").await.expect_err("the last one");
        assert_eq!(last.kind(), &Kind::Invalid(Vec::new()));
        superusers.create("b@example.com", PASSWORD).await.expect("created");
        let token = folder.token("a@example.com", PASSWORD).await.expect("logged in");
        assert!(superusers.delete("a@example.com").await.expect("deleted"));
        assert!(!superusers.delete("a@example.com").await.expect("already gone"));
        assert!(!folder.accepts(&token).await);
        let left = superusers.list().await.expect("listed");
        assert_eq!(
            left.iter().map(|one| one.email.as_str()).collect::<Vec<_>>(),
            ["b@example.com"]
        );
        assert_eq!(superusers.count().await.expect("counted"), 1);
    }

    #[tokio::test]
    async fn the_installer_goes_with_the_first_real_superuser() {
        let folder = Folder::new().await;
        let superusers = &folder.superusers;
        superusers.create(INSTALLER_EMAIL, PASSWORD).await.expect("created");
        assert_eq!(superusers.count().await.expect("counted"), 0);
        let token = folder.token(INSTALLER_EMAIL, PASSWORD).await.expect("logged in");
        superusers.upsert("a@example.com", PASSWORD).await.expect("created");
        assert!(!folder.accepts(&token).await);
        assert!(!superusers.delete(INSTALLER_EMAIL).await.expect("already gone"));
    }

    #[tokio::test]
    async fn what_pocketbase_refuses_is_refused_and_a_foreign_folder_is_not_written() {
        let folder = Folder::new().await;
        for (email, password) in [
            ("", PASSWORD),
            ("a", PASSWORD),
            ("a@example.com", "1234567"),
            ("a@example.com", &"x".repeat(72)),
        ] {
            let error = folder.superusers.upsert(email, password).await.expect_err("refused");
            assert!(matches!(error.kind(), Kind::Invalid(_)), "{email}: {error:?}");
        }
        assert_eq!(folder.superusers.count().await.expect("counted"), 0);
        let root = folder.superusers.database.root();
        let database = Database::open(root, Access::ReadOnly).expect("opened");
        let foreign = Superusers::new(database, Clock::system());
        for error in [
            foreign.upsert("a@example.com", PASSWORD).await.map(drop).expect_err("refused"),
            foreign.delete("a@example.com").await.map(drop).expect_err("refused"),
        ] {
            assert_eq!(error.kind(), &Kind::Unavailable);
        }
        assert_eq!(foreign.count().await.expect("counted"), 0);
    }
}
