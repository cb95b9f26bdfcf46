//! The door that every request comes through: closed while a start or a restore is under way,
//! and requests wait outside; they are not refused.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::http::fault::ApiError;
use crate::http::services::Services;

/// The door.
#[derive(Debug)]
pub struct Door {
    services: watch::Sender<Option<Arc<Services>>>,
    leaving: watch::Sender<bool>,
    wait: Duration,
}

impl Door {
    /// A closed door, before which a request waits up to `wait`.
    pub fn new(wait: Duration) -> Arc<Self> {
        let (services, leaving) = (watch::Sender::new(None), watch::Sender::new(false));
        Arc::new(Self { services, leaving, wait })
    }

    /// Lets everybody in.
    pub fn open(&self, services: Arc<Services>) {
        self.services.send_replace(Some(services));
    }

    /// From now on each answer is the last on its connection, and what has no end of its own
    /// ends: clients leave in good order, and come again to whoever serves next.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Becomes true with [`Door::leave`].
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Whether it is time to leave.
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Waits for the door to open; `None` when it did not in time.
    pub async fn enter(&self) -> Option<Arc<Services>> {
        let mut services = self.services.subscribe();
        let opened = timeout(self.wait, services.wait_for(Option::is_some)).await;
        opened.ok()?.ok()?.clone()
    }
}

/// The answer to who waited in vain.
pub fn try_later(request: &HttpRequest) -> HttpResponse {
    later().respond(request)
}

/// The error of [`try_later`]. Whoever answers with it says when to come again.
pub fn later() -> ApiError {
    let message = "The server is being restarted. Try again in a moment.";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
