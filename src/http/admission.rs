//! What a token of our API opens: the need of each route, held against its scopes.
//!
//! A token stands for nobody: it opens backups and our own API, and of PocketBase's routes
//! nothing else. Handlers learn only that the request was admitted.

use crate::http::call::Call;
use crate::http::fault::ApiError;
use crate::http::routes::Route;
use crate::http::routes::databases::DatabaseRoute;
use crate::http::routes::vault::VaultRoute;
use crate::vault::tokens::{FOLDER, Scope};

/// What a request is about, for tokens of one vault.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    /// The folder.
    Folder,
    /// The PostgreSQL database of this name.
    Database(Vec<u8>),
    /// Whatever this job is about.
    Job(Vec<u8>),
    /// More than one vault.
    Everything,
}

/// Admits a request that a token brought, if its scopes are enough. Without a token nothing is
/// decided here.
///
/// # Errors
/// 403 for a token that does not open this.
pub async fn admit(call: &mut Call, route: &Route) -> Result<(), ApiError> {
    let Some(token) = &call.token else { return Ok(()) };
    // Elsewhere it is as good as none.
    let Some((scopes, about)) = need(route) else { return Ok(()) };
    let vault = match about {
        About::Everything => None,
        About::Folder => Some(FOLDER.to_owned()),
        About::Database(name) => Some(String::from_utf8_lossy(&name).into_owned()),
        About::Job(id) => vault_of_job(call, &id).await?,
    };
    let is_of_vault = token.vault.is_none() || token.vault == vault;
    if !token.allows(scopes) || !is_of_vault {
        return Err(ApiError::forbidden("The token is not allowed to perform this action."));
    }
    call.admitted = true;
    Ok(())
}

/// A job that is not there is of no vault.
async fn vault_of_job(call: &Call, id: &[u8]) -> Result<Option<String>, ApiError> {
    let Some(id) = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()) else {
        return Ok(None);
    };
    let job = call.services.vault.jobs().find_ever(id).await?;
    Ok(job.map(|job| match job.vault.is_empty() {
        true => FOLDER.to_owned(),
        false => job.vault,
    }))
}

/// Any of these scopes, for this; `None` where tokens open nothing.
fn need(route: &Route) -> Option<(&'static [Scope], About)> {
    use Scope::{Admin, Create, Download, Read, Restore};
    let folder = |scopes: &'static [Scope]| Some((scopes, About::Folder));
    match route {
        Route::BackupList => folder(&[Read]),
        Route::BackupCreate | Route::BackupUpload => folder(&[Create]),
        Route::BackupDownload(_) => folder(&[Download]),
        Route::BackupDelete(_) => folder(&[Admin]),
        Route::BackupRestore(_) => folder(&[Restore]),
        Route::Vault(route) => Some(need_of_vault(route)),
        _ => None,
    }
}

fn need_of_vault(route: &VaultRoute) -> (&'static [Scope], About) {
    use Scope::{Admin, Create, Read, Restore};
    match route {
        VaultRoute::Database(route) => need_of_database(route),
        VaultRoute::Events
        | VaultRoute::JobList
        | VaultRoute::Metrics
        | VaultRoute::NotifyList
        | VaultRoute::Program
        | VaultRoute::Schedules => (&[Read], About::Everything),
        VaultRoute::JobGet(id) => (&[Read, Create, Restore], About::Job(id.clone())),
        VaultRoute::JobCancel(id) => (&[Admin], About::Job(id.clone())),
        VaultRoute::NotifyTest
        | VaultRoute::ScheduleRun(_)
        | VaultRoute::Tokens
        | VaultRoute::TokenCreate
        | VaultRoute::TokenRevoke(_)
        | VaultRoute::Audit => (&[Admin], About::Everything),
        VaultRoute::BackupList | VaultRoute::Status | VaultRoute::PruneGet => {
            (&[Read], About::Folder)
        }
        VaultRoute::BackupCreate | VaultRoute::BackupVerify(_) | VaultRoute::BackupDrill(_) => {
            (&[Create], About::Folder)
        }
        VaultRoute::BackupPin(_) | VaultRoute::BackupUnpin(_) | VaultRoute::Prune => {
            (&[Admin], About::Folder)
        }
        VaultRoute::RestoreStatus => (&[Read, Restore], About::Folder),
        VaultRoute::RestoreUndo | VaultRoute::BackupPlan(_) | VaultRoute::BackupRestore(_) => {
            (&[Restore], About::Folder)
        }
    }
}

fn need_of_database(route: &DatabaseRoute) -> (&'static [Scope], About) {
    use Scope::{Admin, Create, Download, Read, Restore};
    let (scopes, name): (&'static [Scope], &[u8]) = match route {
        DatabaseRoute::All => return (&[Read], About::Everything),
        DatabaseRoute::One(name) | DatabaseRoute::List(name) => (&[Read], name),
        DatabaseRoute::Create(name) => (&[Create], name),
        DatabaseRoute::Download(name, _) => (&[Download], name),
        DatabaseRoute::Delete(name, _) => (&[Admin], name),
        DatabaseRoute::Undo(name)
        | DatabaseRoute::Plan(name, _)
        | DatabaseRoute::Restore(name, _) => (&[Restore], name),
    };
    (scopes, About::Database(name.to_vec()))
}
