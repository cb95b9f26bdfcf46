//! The rate limiter: which rule of the settings fits a request, and how often its sender may
//! still come. PocketBase's fixed windows, in bounded memory.
//!
//! Counters belong to the settings they were made under: call [`Limiter::reset`] whenever the
//! settings were saved.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;

use super::addresses::{Address, listed};
use super::values::{RateLimits, Rule};

/// Counters kept at once over all rules. Beyond it, new senders of a rule share one counter.
pub const COUNTERS_MAX: usize = 50_000;
/// A counter is swept this many seconds after its window ended (PocketBase's value).
const SWEEP_AFTER_SECONDS: i64 = 1800;

/// What a request is, as far as limits go.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its decoded path.
    pub path: &'a str,
    /// Who it really comes from.
    pub sender: &'a Address,
    /// Whether its header has a valid token, of anybody.
    pub signed_in: bool,
    /// Whether that token is a superuser's.
    pub superuser: bool,
    /// The collection it is about, on routes that limit by collection.
    pub collection: Option<CollectionRoute<'a>>,
}

/// A route below a collection.
#[derive(Debug, Clone, Copy)]
pub struct CollectionRoute<'a> {
    /// The collection's id.
    pub id: &'a str,
    /// The collection's name.
    pub name: &'a str,
    /// The route, e.g. `POST /api/collections/{collection}/auth-with-password`.
    pub pattern: &'a str,
    /// What it does, e.g. `authWithPassword`, `auth`; the first that has a rule counts.
    pub tags: &'a [&'a str],
}

/// The counters of all rules and senders.
#[derive(Debug)]
pub struct Limiter {
    clock: Clock,
    counters_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: HashMap<Counted, Window>,
    /// Whether anything was counted since the last reset.
    counted: bool,
    /// The second in which ended windows were dropped to make room: once is enough, as doing
    /// so for each request of a flood would be the costlier part of it.
    dropped: i64,
}

/// What is counted together: one route (or label) of one audience from one sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counted {
    route: String,
    sender: Option<Address>,
}

/// One sender's current window. Its size is that of the rule it was made under.
#[derive(Debug, Clone, Copy)]
struct Window {
    start: i64,
    seconds: i64,
    requests: i64,
    left: i64,
}

impl Limiter {
    /// A limiter that has counted nothing.
    pub fn new(clock: Clock) -> Self {
        Self { clock, counters_max: COUNTERS_MAX, state: Mutex::default() }
    }

    /// Counts a request; whether it may go on. Superusers and excluded addresses always may,
    /// and so may all when no rule fits.
    pub fn allows(&self, limits: &RateLimits, request: &Request<'_>) -> bool {
        if !limits.enabled || request.superuser || listed(&limits.excluded_ips, request.sender) {
            return true;
        }
        let Some(rule) = fitting(&limits.rules, request) else { return true };
        self.count(rule, route_of(rule, request), request.sender)
    }

    /// Whether anything was counted since the last reset: PocketBase lists its clean-up job
    /// only then.
    pub fn has_counted(&self) -> bool {
        self.state().counted
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// Forgets senders that were quiet for half an hour; to be called now and then.
    pub fn sweep(&self) {
        let now = self.clock.now().timestamp();
        let counters = &mut self.state().counters;
        counters.retain(|_, window| now - window.end() <= SWEEP_AFTER_SECONDS);
        counters.shrink_to_fit();
    }

    fn count(&self, rule: &Rule, route: String, sender: &Address) -> bool {
        let now = self.clock.now().timestamp();
        let mut state = self.state();
        state.counted = true;
        let mut counted = Counted { route, sender: Some(sender.clone()) };
        if state.counters.len() >= self.counters_max && !state.counters.contains_key(&counted) {
            if state.dropped != now {
                state.dropped = now;
                state.counters.retain(|_, window| now < window.end());
            }
            if state.counters.len() >= self.counters_max {
                // A flood from many addresses: memory stays bounded and the rule still holds,
                // at the price that newcomers are counted together.
                counted.sender = None;
            }
        }
        state
            .counters
            .entry(counted)
            .or_insert(Window {
                start: now,
                seconds: rule.duration,
                requests: rule.max_requests,
                left: rule.max_requests,
            })
            .take(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn end(&self) -> i64 {
        self.start.saturating_add(self.seconds)
    }

    fn take(&mut self, now: i64) -> bool {
        if now >= self.end() {
            self.start = now;
            self.left = self.requests;
        }
        let allowed = self.left > 0;
        self.left -= i64::from(allowed);
        allowed
    }
}

/// The first rule that fits. Labels are tried in order, each first as it is, then with a `/`
/// behind it against the rules that end in `/`.
fn fitting<'r>(rules: &'r [Rule], request: &Request<'_>) -> Option<&'r Rule> {
    let own = if request.signed_in { "@auth" } else { "@guest" };
    let audience = |rule: &&Rule| rule.audience.is_empty() || rule.audience == own;
    labels(request).iter().find_map(|label| {
        let folder = format!("{label}/");
        let exact = rules.iter().filter(audience).find(|rule| rule.label == *label);
        exact.or_else(|| {
            rules
                .iter()
                .filter(audience)
                .find(|rule| rule.label.ends_with('/') && folder.starts_with(&rule.label))
        })
    })
}

fn labels(request: &Request<'_>) -> Vec<String> {
    let mut labels = Vec::new();
    if let Some(route) = &request.collection {
        labels.extend(route.tags.iter().map(|tag| format!("{}:{tag}", route.name)));
        labels.extend(route.tags.iter().map(|tag| format!("*:{tag}")));
    }
    labels.push(format!("{} {}", request.method, request.path));
    labels.push(request.path.to_owned());
    labels
}

/// What a rule counts together: its label, or on routes of collections each route of each
/// collection by itself.
fn route_of(rule: &Rule, request: &Request<'_>) -> String {
    match &request.collection {
        None => format!("{}{}", rule.label, rule.audience),
        Some(route) => {
            format!("{}{}{}{}", route.id, route.pattern, route.tags.concat(), rule.audience)
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const AUTH: CollectionRoute<'_> = CollectionRoute {
        id: "pbc_1",
        name: "users",
        pattern: "POST /api/collections/{collection}/auth-with-password",
        tags: &["authWithPassword", "auth"],
    };

    fn clock() -> Clock {
        Clock::fixed("2026-11-21T09:02:11.398Z".parse().expect("a date"))
    }

    fn rule(label: &str, audience: &str, max_requests: i64) -> Rule {
        Rule { label: label.into(), audience: audience.into(), duration: 10, max_requests }
    }

    fn limits(rules: Vec<Rule>) -> RateLimits {
        RateLimits { rules, excluded_ips: vec!["10.1.0.0/16".into()], enabled: true }
    }

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    fn get<'a>(path: &'a str, sender: &'a Address) -> Request<'a> {
        Request {
            method: "GET",
            path,
            sender,
            signed_in: false,
            superuser: false,
            collection: None,
        }
    }

    #[test]
    fn the_first_fitting_rule_counts() {
        let rules = [
            rule("/api/", "", 1),
            rule("*:auth", "", 2),
            rule("users:auth", "", 3),
            rule("GET /api/backups", "", 4),
            rule("/api/backups", "@auth", 5),
            rule("POST /api/", "", 6),
            rule("/x", "@guest", 7),
            rule("/", "", 8),
        ];
        let sender = address("1.2.3.4");
        let plain = |method: &'static str, path: &'static str, signed_in: bool| Request {
            method,
            signed_in,
            ..get(path, &sender)
        };
        let auth = Request {
            collection: Some(AUTH),
            ..plain("POST", "/api/collections/users/auth-with-password", false)
        };
        let other = CollectionRoute { name: "other", ..AUTH };
        let untagged = CollectionRoute { tags: &[], ..AUTH };
        for (request, expected) in [
            (plain("GET", "/api/health", false), Some(1)),
            (Request { collection: Some(other), ..auth }, Some(2)),
            (auth, Some(3)),
            (Request { collection: Some(untagged), ..auth }, Some(6)),
            (plain("GET", "/api/backups", true), Some(4)),
            (plain("PUT", "/api/backups", true), Some(5)),
            (plain("PUT", "/api/backups", false), Some(1)),
            (plain("POST", "/api/backups", false), Some(6)),
            (plain("GET", "/api", false), Some(1)),
            (plain("GET", "/apix", false), Some(8)),
            (plain("GET", "/x", false), Some(7)),
            (plain("GET", "/x", true), Some(8)),
        ] {
            let found = fitting(&rules, &request).map(|rule| rule.max_requests);
            assert_eq!(found, expected, "{request:?}");
        }
        assert!(fitting(&rules[..1], &plain("GET", "/other", false)).is_none());
    }

    #[test]
    fn a_window_begins_with_its_first_request() {
        let clock = clock();
        let limiter = Limiter::new(clock.clone());
        let limits = limits(vec![rule("/api/", "", 2)]);
        let (one, two) = (address("1.2.3.4"), address("1.2.3.5"));
        let allows = |path: &str, sender| limiter.allows(&limits, &get(path, sender));
        assert!(!limiter.has_counted());
        assert!(allows("/api/a", &one) && allows("/api/b", &one));
        assert!(limiter.has_counted());
        assert!(!allows("/api/c", &one), "paths of one rule are counted together");
        assert!(allows("/api/a", &two), "senders are not");
        clock.advance(TimeDelta::seconds(9));
        assert!(!allows("/api/a", &one));
        clock.advance(TimeDelta::seconds(1));
        assert!(allows("/api/a", &one), "the next window");
        limiter.reset();
        assert!(!limiter.has_counted());
        assert!(allows("/api/a", &one) && allows("/api/a", &one) && !allows("/api/a", &one));
    }

    #[test]
    fn superusers_excluded_addresses_and_disabled_limits_are_free() {
        let limiter = Limiter::new(clock());
        let mut limits = limits(vec![rule("/", "", 1)]);
        let (sender, excluded) = (address("1.2.3.4"), address("10.1.2.3"));
        let plain = get("/a", &sender);
        let superuser = Request { superuser: true, signed_in: true, ..plain };
        for _ in 0..3 {
            assert!(limiter.allows(&limits, &superuser));
            assert!(limiter.allows(&limits, &get("/a", &excluded)));
        }
        assert!(limiter.allows(&limits, &plain) && !limiter.allows(&limits, &plain));
        limits.enabled = false;
        assert!(limiter.allows(&limits, &plain));
    }

    #[test]
    fn collections_and_routes_are_counted_apart() {
        let limiter = Limiter::new(clock());
        let limits = limits(vec![rule("*:auth", "", 1)]);
        let sender = address("1.2.3.4");
        let on = |route| {
            limiter.allows(&limits, &Request { collection: Some(route), ..get("/a", &sender) })
        };
        assert!(on(AUTH) && !on(AUTH));
        assert!(on(CollectionRoute { id: "pbc_2", name: "other", ..AUTH }));
        assert!(on(CollectionRoute { pattern: "POST /other", ..AUTH }));
    }

    #[test]
    fn memory_is_bounded_and_a_flood_is_still_limited() {
        let clock = clock();
        let limiter = Limiter { counters_max: 100, ..Limiter::new(clock.clone()) };
        let limits = limits(vec![rule("/", "", 5)]);
        let senders: Vec<_> = (0..=255).map(|n| address(&format!("9.9.9.{n}"))).collect();
        let allowed = |sender: &Address| i32::from(limiter.allows(&limits, &get("/a", sender)));
        let passed: i32 = senders.iter().map(allowed).sum();
        assert_eq!(passed, 100 + 5, "the newcomers share one window");
        assert_eq!(limiter.state().counters.len(), 101);
        assert_eq!(allowed(&senders[0]), 1, "who was counted before keeps his own");
        clock.advance(TimeDelta::seconds(10));
        assert_eq!(allowed(&senders[200]), 1, "ended windows make room");
        assert!(limiter.state().counters.len() < 5);
        clock.advance(TimeDelta::seconds(10 + SWEEP_AFTER_SECONDS));
        limiter.sweep();
        assert!(!limiter.state().counters.is_empty());
        clock.advance(TimeDelta::seconds(1));
        limiter.sweep();
        assert!(limiter.state().counters.is_empty());
    }
}
