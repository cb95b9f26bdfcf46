//! The first superuser of a folder that has none.

use std::fmt;

use crate::auth::password;
use crate::auth::superusers::Superusers;
use crate::database::{Access, Database};
use crate::error::Result;

/// Address of the superuser that is made when there is none.
const FIRST_EMAIL: &str = "admin@example.com";

/// The superuser that was made because there was none; its password is known only here.
#[derive(Clone)]
pub struct FirstSuperuser {
    /// Its e-mail address.
    pub email: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for FirstSuperuser {
    // Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstSuperuser").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Makes one where there is none, in a folder that is ours to write to.
///
/// # Errors
/// The database cannot be used.
pub(super) async fn first_superuser(
    database: &Database,
    superusers: &Superusers,
) -> Result<Option<FirstSuperuser>> {
    if database.access() == Access::ReadOnly || superusers.count().await? > 0 {
        return Ok(None);
    }
    let first = FirstSuperuser { email: FIRST_EMAIL.to_owned(), password: password::generate() };
    superusers.create(&first.email, &first.password).await?;
    Ok(Some(first))
}
