//! What happens, as Server-Sent Events, as HTML defines them:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! One event per changed job, `event: job`, with its revision as the id. Whoever comes back with
//! `Last-Event-ID` gets what changed since, also after a restart of the server. Progress of
//! running jobs is told twice a second, without an id.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::jobs::Shown;
use crate::control::Progress;
use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::guard::Superuser;
use crate::http::services::Services;
use crate::vault::{Job, State};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How long nothing may be said: proxies cut silent connections.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How soon a client should come back, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// `GET /api/vault/events`
pub(super) async fn events(call: &Call, _: &Superuser) -> Answer<HttpResponse> {
    let changes = call.services.vault.jobs().changes();
    let now = *changes.borrow();
    let last = call.request.headers().get("Last-Event-ID");
    let last = last.and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let watcher = Watcher {
        services: call.services.clone(),
        stopping: call.services.stopping.subscribe(),
        // An id of the future is none of ours: everything that is known is new then.
        told: last.map_or(now, |last: u64| if last > now { 0 } else { last }),
        progress: HashMap::new(),
        ready: VecDeque::from([format!(
            "retry: {RETRY_MS}\nid: {now}\nevent: ready\ndata: {{}}\n\n"
        )]),
        changes,
    };
    let body = stream::unfold(watcher, |mut watcher| async move {
        let text = watcher.next().await?;
        Some((Ok::<_, actix_web::Error>(Bytes::from(text)), watcher))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// One client and what it was told.
struct Watcher {
    services: Arc<Services>,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    told: u64,
    progress: HashMap<u64, Progress>,
    ready: VecDeque<String>,
}

impl Watcher {
    /// The next text; `None` once the server stops.
    async fn next(&mut self) -> Option<String> {
        let since = Instant::now();
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Some(text);
            }
            self.changes.borrow_and_update();
            let running = self.collect();
            if !self.ready.is_empty() {
                continue;
            }
            if since.elapsed() >= SILENCE_MAX {
                return Some(":\n\n".to_owned());
            }
            let pause = if running { PROGRESS_EVERY } else { SILENCE_MAX - since.elapsed() };
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                changed = timeout(pause, self.changes.changed()) => {
                    // Nobody can change anything any more.
                    if let Ok(Err(_)) = changed {
                        return None;
                    }
                }
            }
            // Changes come in bursts: one look at the end of each is enough.
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes events of what is new; whether any job is running.
    fn collect(&mut self) -> bool {
        let mut jobs = self.services.vault.jobs().list();
        jobs.sort_unstable_by_key(|job| job.revision);
        let mut running = false;
        for job in jobs {
            running |= job.state == State::Running;
            let is_new = job.revision > self.told;
            if is_new {
                self.told = job.revision;
            }
            let moved = job.state == State::Running
                && self.progress.insert(job.id, job.progress) != Some(job.progress);
            if job.state != State::Running {
                self.progress.remove(&job.id);
            }
            if is_new || moved {
                self.tell(job, is_new);
            }
        }
        running
    }

    fn tell(&mut self, job: Job, is_new: bool) {
        let mut text = String::new();
        if is_new {
            let _ = writeln!(text, "id: {}", job.revision);
        }
        let shown = Shown::new(job, self.services.vault.clock().now());
        let Ok(json) = serde_json::to_string(&shown) else { return };
        let _ = write!(text, "event: job\ndata: {json}\n\n");
        self.ready.push_back(text);
    }
}
