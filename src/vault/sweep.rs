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
            for place in self.places() {
                let name = place.name.as_ref();
                match place.storage.sweep_uploads().await {
                    Ok(0) => {}
                    Ok(swept) => tracing::info!(name, swept, "gave back what uploads left"),
                    Err(error) => {
                        tracing::warn!(name, error = error.full(), "cannot look for old uploads");
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}
