//! Scalingo's face, put together.

use std::sync::Arc;

use crate::auth::passes::Passes;
use crate::config::Config;
use crate::config::scalingo::{Addon, AddonKind};
use crate::error::Result;
use crate::http::faces::scalingo::Scalingo;
use crate::settings::store::Store;
use crate::state::StateDb;
use crate::vault::databases::Vaults;
use crate::vault::orders::{Orders, Target};
use crate::vault::{Vault, prune};

/// The key of passes, in the state folder.
const PASSES: &str = "passes.key";

/// The face where there is one, and the backups that it orders, which begin to be made.
pub(super) async fn face(
    config: &Config,
    vault: &Arc<Vault>,
    settings: &Arc<Store>,
    databases: &Vaults,
    state: &StateDb,
) -> Result<Option<Scalingo>> {
    let Some(face) = config.scalingo.clone() else { return Ok(None) };
    let target = |addon: &Addon| match addon.kind {
        AddonKind::Postgresql => databases.find(&addon.database).cloned().map(Target::Database),
        AddonKind::Sqlite => Some(Target::Folder(vault.clone(), settings.clone())),
    };
    let targets = face.addons.iter().filter_map(target).collect();
    let (clock, runtime) = (vault.clock().clone(), vault.runtime().clone());
    let since = vault.catalog().time_or(prune::BIRTH, clock.now()).await?;
    let orders = Orders::new(state.clone(), clock, runtime, targets);
    orders.begin();
    let passes = Passes::open(&config.data.state().join(PASSES));
    Ok(Some(Scalingo { config: face, passes, orders, since }))
}
