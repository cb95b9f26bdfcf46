//! Who may read the metrics, and the key of encrypted settings.

use serde::Deserialize;

use crate::config::storage::Secret;

/// `[metrics]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsTable {
    token: Option<Secret>,
}

impl MetricsTable {
    /// The token that opens the metrics, if there is one.
    pub(super) fn token(self) -> Option<Secret> {
        self.token.filter(|token| !token.expose().is_empty())
    }
}

/// The key in a variable; an empty one when it names none. One that is not set is told: the
/// settings could not be read, or would be stored as they are.
pub(super) fn key_in(variable: &str) -> Secret {
    let key = std::env::var(variable).unwrap_or_default();
    if key.is_empty() && !variable.is_empty() {
        tracing::warn!(variable, "--encryptionEnv names a variable that is not set");
    }
    Secret::new(key)
}
