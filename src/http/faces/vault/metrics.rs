//! `GET /api/vault/metrics` (and `/metrics`): how backups are, in the words of OpenMetrics,
//! which Prometheus reads. Made at each scrape from the records of jobs.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};

use crate::backup::Backup;
use crate::error::{Context, Result};
use crate::http::call::Call;
use crate::http::fault::Answer;
use crate::http::guard::Superuser;
use crate::vault::rota::{Ran, Shown};
use crate::vault::{Job, State};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How old a list of the storage's backups may be: listing a bucket costs money.
const LIST_AGE_MAX: Duration = Duration::from_secs(60);
/// How long a storage may take to list its backups.
const LIST_MAX: Duration = Duration::from_secs(5);

type Labels = Vec<(&'static str, String)>;
type Values = Family<Labels, Gauge<f64, AtomicU64>>;

/// What a scrape shows.
#[derive(Debug)]
struct Seen {
    jobs: Vec<Job>,
    /// `None` when the storage does not answer.
    backups: Option<Vec<Backup>>,
    troubles: Vec<(String, DateTime<Utc>)>,
    free_bytes: Option<u64>,
    schedules: Vec<Shown>,
    now: DateTime<Utc>,
}

/// `GET /api/vault/metrics`, for superusers and whoever has the token of `[metrics]`
pub(super) async fn get(call: &Call) -> Answer<HttpResponse> {
    if !has_token(call) {
        Superuser::of(call)?;
    }
    let vault = &call.services.vault;
    let root = call.services.data.root().to_owned();
    let free = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&root));
    let free = free.await.context("a thread stopped")?.ok();
    let seen = Seen {
        jobs: vault.jobs().list(),
        backups: backups(call).await,
        troubles: call.services.alarms.troubles().await?,
        free_bytes: free.map(|free| free.f_bavail.saturating_mul(free.f_frsize)),
        schedules: call.services.rota.list().await,
        now: vault.clock().now(),
    };
    let text = text_of(&seen)?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

/// Compared by their digests, so that the time tells nothing.
fn has_token(call: &Call) -> bool {
    let given = call.header_token().map(Sha256::digest);
    let token = call.services.metrics_token.as_ref();
    given.is_some() && given == token.map(|token| Sha256::digest(token.expose()))
}

/// The backups of a moment ago.
async fn backups(call: &Call) -> Option<Vec<Backup>> {
    let mut listed = call.services.listed.lock().await;
    if let Some((when, backups)) = listed.as_ref()
        && when.elapsed() < LIST_AGE_MAX
    {
        return backups.clone();
    }
    let list = tokio::time::timeout(LIST_MAX, call.services.vault.list()).await;
    let backups = list.ok().and_then(Result::ok);
    *listed = Some((Instant::now(), backups.clone()));
    backups
}

fn text_of(seen: &Seen) -> Result<String> {
    let mut registry = Registry::with_prefix("pocketvault");
    let build = gauge(&mut registry, "build_info", "The version that runs");
    set(&build, vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0);
    of_jobs(&mut registry, &seen.jobs, seen.now);
    let troubles = gauge(
        &mut registry,
        "trouble_since_timestamp_seconds",
        "When a trouble began that goes on",
    );
    for (condition, since) in &seen.troubles {
        set(&troubles, vec![("condition", condition.clone())], seconds(*since));
    }
    let up = plain(&mut registry, "storage_up", "Whether the storage lists its backups");
    up.set(if seen.backups.is_some() { 1.0 } else { 0.0 });
    if let Some(backups) = &seen.backups {
        let count = plain(&mut registry, "backups", "Backups in the storage");
        count.set(number(backups.len() as u64));
        let bytes = plain(&mut registry, "backups_size_bytes", "Size of all backups");
        bytes.set(number(backups.iter().map(|backup| backup.size_bytes).sum()));
        let newest = plain(
            &mut registry,
            "newest_backup_timestamp_seconds",
            "When the newest backup in the storage was made, by whomever",
        );
        if let Some(at) = backups.iter().map(|backup| backup.modified).max() {
            newest.set(seconds(at));
        }
    }
    if let Some(free) = seen.free_bytes {
        let gauge = plain(&mut registry, "disk_free_bytes", "Free space where the data lies");
        gauge.set(number(free));
    }
    of_schedules(&mut registry, &seen.schedules);
    let mut text = String::new();
    encode(&mut text, &registry).context("cannot write the metrics")?;
    Ok(text)
}

fn of_schedules(registry: &mut Registry, schedules: &[Shown]) {
    let next = gauge(registry, "schedule_next_timestamp_seconds", "When the next run begins");
    let missed = gauge(registry, "schedule_missed_runs", "Runs that were missed lately");
    let skipped =
        gauge(registry, "schedule_skipped_runs", "Runs skipped since the last, which goes on");
    let failed = gauge(registry, "schedule_failed", "Whether the last run failed");
    for one in schedules {
        let labels = || vec![("schedule", one.config.name.clone())];
        if let Some(at) = one.next {
            set(&next, labels(), seconds(at));
        }
        let Some(kept) = &one.kept else { continue };
        set(&missed, labels(), number(kept.missed));
        set(&skipped, labels(), number(kept.skipped));
        let is_bad = matches!(kept.state, Some(Ran::Failed | Ran::Interrupted));
        set(&failed, labels(), if is_bad { 1.0 } else { 0.0 });
    }
}

fn of_jobs(registry: &mut Registry, jobs: &[Job], now: DateTime<Utc>) {
    let good = gauge(registry, "last_success_timestamp_seconds", "When a job ended well");
    let age = gauge(registry, "last_success_age_seconds", "How long ago a job ended well");
    let bad = gauge(registry, "last_failure_timestamp_seconds", "When a job failed");
    let took = gauge(registry, "last_duration_seconds", "How long the last good job took");
    let bytes = gauge(registry, "last_read_bytes", "What the last good job read");
    let failures = gauge(registry, "failures_in_a_row", "Failed jobs since the last good one");
    let running = plain(registry, "jobs_running", "Jobs that work right now");
    let count = jobs.iter().filter(|job| job.state == State::Running).count();
    running.set(number(count as u64));
    let mut kinds: Vec<(&str, &str)> =
        jobs.iter().map(|job| (job.kind.as_str(), job.vault.as_str())).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (kind, database) in kinds {
        let labels = || vec![("kind", kind.to_owned()), ("database", database.to_owned())];
        // Newest first.
        let ended = || {
            jobs.iter().filter(|job| {
                (job.kind.as_str(), job.vault.as_str()) == (kind, database) && job.ended.is_some()
            })
        };
        let in_a_row = ended().take_while(|job| !is_good(job)).filter(|job| is_bad(job)).count();
        set(&failures, labels(), number(in_a_row as u64));
        if let Some(at) = ended().find(|job| is_bad(job)).and_then(|job| job.ended) {
            set(&bad, labels(), seconds(at));
        }
        if let Some(job) = ended().find(|job| is_good(job)) {
            let at = job.ended.unwrap_or(job.started);
            set(&good, labels(), seconds(at));
            set(&age, labels(), millis(now - at).max(0.0));
            set(&took, labels(), millis(at - job.started));
            set(&bytes, labels(), number(job.progress.bytes));
        }
    }
}

fn is_good(job: &Job) -> bool {
    job.state == State::Done && job.complete
}

/// Cancelled ones are neither.
fn is_bad(job: &Job) -> bool {
    match job.state {
        State::Failed { .. } | State::Interrupted => true,
        State::Done => !job.complete,
        _ => false,
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Values {
    let values = Values::default();
    registry.register(name, help, values.clone());
    values
}

/// One without labels.
fn plain(registry: &mut Registry, name: &str, help: &str) -> Gauge<f64, AtomicU64> {
    let value = Gauge::default();
    registry.register(name, help, value.clone());
    value
}

fn set(values: &Values, labels: Labels, value: f64) {
    values.get_or_create(&labels).set(value);
}

fn seconds(at: DateTime<Utc>) -> f64 {
    millis(at - DateTime::UNIX_EPOCH)
}

fn millis(time: TimeDelta) -> f64 {
    time.num_milliseconds() as f64 / 1_000.0
}

/// Exact up to 2^53, beyond every disk.
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use prometheus_parse::Scrape;

    use super::*;
    use crate::backup::Key;
    use crate::clock::Clock;
    use crate::config::schedule::{ScheduleConfig, What};
    use crate::cron::zoned::Zoned;
    use crate::error::Error;
    use crate::vault::rota::Kept;
    use crate::vault::{JobKind, Jobs, Method};

    async fn seen() -> Seen {
        let clock = Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"));
        let jobs = Jobs::new(clock.clone());
        let key = Key::named("a.zip").expect("a key");
        let good = jobs.open(JobKind::Create, Method::Api, &key);
        good.control().add_bytes(7);
        clock.advance(TimeDelta::milliseconds(1_500));
        good.finish(&Ok(())).await;
        clock.advance(TimeDelta::hours(1));
        for _ in 0..2 {
            let bad = jobs.open(JobKind::Create, Method::Api, &key);
            bad.finish::<()>(&Err(Error::internal("no"))).await;
        }
        jobs.open(JobKind::Verify, Method::Api, &key).finish(&Ok(())).await;
        Seen {
            jobs: jobs.list(),
            backups: Some(vec![Backup { key, size_bytes: 5, modified: clock.now() }]),
            troubles: vec![("proof:a.zip".to_owned(), clock.now())],
            free_bytes: Some(1 << 40),
            schedules: vec![shown(clock.now())],
            now: clock.now(),
        }
    }

    fn shown(now: DateTime<Utc>) -> Shown {
        let schedule = crate::cron::Schedule::parse("@daily").expect("a schedule");
        let config = ScheduleConfig {
            name: "nightly".to_owned(),
            when: Zoned { schedule, zone: chrono_tz::Tz::UTC },
            what: What::Backup,
            label: String::new(),
            jitter: Duration::ZERO,
            catch_up: true,
        };
        let kept = Kept {
            expression: config.when.text(),
            looked: now,
            due: None,
            started: None,
            ended: None,
            state: Some(Ran::Failed),
            job: None,
            said: String::new(),
            missed: 2,
            skipped: 0,
        };
        Shown { next: config.when.next_after(now), kept: Some(kept), config }
    }

    #[tokio::test]
    async fn a_parser_reads_what_is_written() {
        let text = text_of(&seen().await).expect("written");
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let parsed = Scrape::parse(lines).expect("parsed").samples;
        let written = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!((parsed.len(), text.ends_with("# EOF\n")), (written, true), "{text}");
        let trouble = parsed.iter().find(|sample| sample.metric.contains("trouble"));
        assert!(trouble.expect("one").labels.get("condition").is_some(), "{text}");
        for line in [
            "pocketvault_last_success_age_seconds{kind=\"create\",database=\"\"} 3600.0",
            "pocketvault_last_duration_seconds{kind=\"create\",database=\"\"} 1.5",
            "pocketvault_last_read_bytes{kind=\"create\",database=\"\"} 7.0",
            "pocketvault_failures_in_a_row{kind=\"create\",database=\"\"} 2.0",
            "pocketvault_failures_in_a_row{kind=\"verify\",database=\"\"} 0.0",
            "pocketvault_backups_size_bytes 5.0",
            "pocketvault_storage_up 1.0",
            "pocketvault_schedule_missed_runs{schedule=\"nightly\"} 2.0",
            "pocketvault_schedule_failed{schedule=\"nightly\"} 1.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let down = Seen { backups: None, ..seen().await };
        assert!(text_of(&down).expect("written").contains("pocketvault_storage_up 0.0"));
    }

    #[tokio::test]
    async fn rules_and_dashboard_name_only_what_exists() {
        let text = text_of(&seen().await).expect("written");
        let known: HashSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let word = regex::Regex::new(r"pocketvault_[a-z_]+").expect("a pattern");
        for file in ["contrib/prometheus/alerts.yml", "contrib/grafana/pocketvault.json"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = fs::read_to_string(path).expect(file);
            let named: Vec<&str> = word.find_iter(&text).map(|found| found.as_str()).collect();
            assert!(named.len() >= 5, "{file}");
            for name in named {
                assert!(known.contains(name), "{file}: {name}");
            }
            if file.ends_with("json") {
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
        }
    }
}
