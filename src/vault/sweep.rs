//! What uploads that were broken off leave in a storage is given back: at start, and each hour.

use std::sync::Arc;
use std::time::Duration;

use crate::vault::Vault;

/// How long apart sweeps are.
const EVERY: Duration = Duration::from_secs(60 * 60);

impl Vault {
    /// Sweeps now and each hour. Never returns.
    pub async fn sweep_uploads(self: Arc<Self>) {
        loop {
            match self.storage().sweep_uploads().await {
                Ok(0) => {}
                Ok(swept) => tracing::info!(swept, "gave back what broken-off uploads left"),
                Err(error) => {
                    tracing::warn!(error = error.full(), "cannot look for broken-off uploads");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
