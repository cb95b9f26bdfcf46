//! Slows down guessing of passwords: wrong ones in a row cost their sender ever longer waits.
//!
//! Counts per address and name, and per address over all names. An attempt counts as wrong
//! from its beginning on, so many at once gain nothing; a right one takes its count back.
//! Pure bookkeeping in bounded memory; waiting or refusing is the caller's business.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// Wrong attempts at one name from one address that cost nothing.
pub const FREE_PER_NAME: u32 = 10;
/// Wrong attempts from one address at any names that cost nothing.
pub const FREE_PER_ADDRESS: u32 = 50;
/// The first wait; each further wrong attempt doubles it.
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Wrong attempts are forgotten this long after the last one.
pub const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);
/// Counters kept at once, about 40 bytes each.
pub const COUNTERS_MAX: usize = 20_000;

/// The answer to [`Throttle::begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Check the password.
    Allowed,
    /// Refuse without checking it, and name this time (`Retry-After`, at least a second).
    Wait(Duration),
}

/// The counters.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    hasher: RandomState,
    counters: Mutex<HashMap<u64, Counter>>,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    wrong: u32,
    last: DateTime<Utc>,
}

impl Throttle {
    /// No attempts so far.
    pub fn new(clock: Clock) -> Self {
        Self { clock, hasher: RandomState::new(), counters: Mutex::default() }
    }

    /// Begins an attempt of `address` at `name` (collection and identity, as the client spells
    /// them). A refused attempt does not count.
    pub fn begin(&self, address: IpAddr, name: &str) -> Attempt {
        let now = self.clock.now();
        let keys = self.keys(address, name);
        self.with(|counters| {
            let wait =
                keys.iter().filter_map(|(key, free)| counters.get(key)?.wait(*free, now)).max();
            if let Some(wait) = wait {
                return Attempt::Wait(wait);
            }
            for (key, _) in keys {
                let counter = counters.entry(key).or_insert(Counter { wrong: 0, last: now });
                if counter.is_over(now) {
                    counter.wrong = 0;
                }
                counter.wrong = counter.wrong.saturating_add(1);
                counter.last = now;
            }
            if counters.len() > COUNTERS_MAX {
                shrink(counters, now);
            }
            Attempt::Allowed
        })
    }

    /// The attempt was right: the name's count goes, and the address gets this one back.
    pub fn succeeded(&self, address: IpAddr, name: &str) {
        let [(per_name, _), (per_address, _)] = self.keys(address, name);
        self.with(|counters| {
            counters.remove(&per_name);
            if let Some(counter) = counters.get_mut(&per_address) {
                counter.wrong = counter.wrong.saturating_sub(1);
            }
        });
    }

    /// Hashes under a secret of this process: names of any length take the same room, and
    /// nobody can find two that share a counter.
    fn keys(&self, address: IpAddr, name: &str) -> [(u64, u32); 2] {
        let address = network(address);
        [
            (self.hasher.hash_one((address, Some(name.to_lowercase()))), FREE_PER_NAME),
            (self.hasher.hash_one((address, None::<String>)), FREE_PER_ADDRESS),
        ]
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Counter>) -> T) -> T {
        work(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counter {
    /// How long to wait from now on, if at all.
    fn wait(self, free: u32, now: DateTime<Utc>) -> Option<Duration> {
        let beyond = self.wrong.checked_sub(free).filter(|_| !self.is_over(now))?;
        let wait = WAIT_MIN.saturating_mul(2_u32.saturating_pow(beyond)).min(WAIT_MAX);
        let left = (self.last + TimeDelta::from_std(wait).ok()? - now).to_std().ok()?;
        (!left.is_zero()).then(|| left.clamp(WAIT_MIN, WAIT_MAX))
    }

    fn is_over(self, now: DateTime<Utc>) -> bool {
        (now - self.last).to_std().is_ok_and(|idle| idle >= FORGET_AFTER)
    }
}

/// Drops what is over; if that is not enough, the older half. Heavy counters of a patient
/// attacker may go that way, but filling the table costs it as many attempts.
fn shrink(counters: &mut HashMap<u64, Counter>, now: DateTime<Utc>) {
    counters.retain(|_, counter| !counter.is_over(now));
    if counters.len() <= COUNTERS_MAX / 2 {
        return;
    }
    let mut times: Vec<_> = counters.values().map(|counter| counter.last).collect();
    times.sort_unstable();
    let median = times[times.len() / 2];
    counters.retain(|_, counter| counter.last > median);
}

/// A single IPv6 customer has a whole /64: it counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "_superusers/a@example.com";

    fn throttle() -> (Throttle, Clock) {
        let clock = Clock::fixed("2026-11-21T09:00:00Z".parse().expect("a date"));
        (Throttle::new(clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn wait_s(attempt: Attempt) -> u64 {
        match attempt {
            Attempt::Allowed => 0,
            Attempt::Wait(wait) => wait.as_secs(),
        }
    }

    fn fail(throttle: &Throttle, address: &str, times: u32) {
        for _ in 0..times {
            assert_eq!(throttle.begin(ip(address), NAME), Attempt::Allowed);
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let (throttle, clock) = throttle();
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = wait_s(throttle.begin(ip("10.0.0.1"), NAME));
            assert_eq!(wait_s(throttle.begin(ip("10.0.0.1"), NAME)), wait, "asking is free");
            waits.push(wait);
            clock.advance(TimeDelta::seconds(i64::try_from(wait).expect("small")));
            fail(&throttle, "10.0.0.1", 1);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
    }

    #[test]
    fn a_right_password_clears_the_name_and_an_hour_clears_everything() {
        let (throttle, clock) = throttle();
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
        throttle.succeeded(ip("10.0.0.1"), NAME);
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
        assert_eq!(wait_s(throttle.begin(ip("10.0.0.1"), NAME)), 1);
        clock.advance(TimeDelta::hours(1));
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
    }

    #[test]
    fn other_names_and_addresses_are_free_until_the_address_has_too_many() {
        let (throttle, _) = throttle();
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
        assert_ne!(throttle.begin(ip("10.0.0.1"), &NAME.to_uppercase()), Attempt::Allowed);
        assert_eq!(throttle.begin(ip("10.0.0.2"), NAME), Attempt::Allowed);
        for n in FREE_PER_NAME..FREE_PER_ADDRESS {
            assert_eq!(throttle.begin(ip("10.0.0.1"), &n.to_string()), Attempt::Allowed);
        }
        assert_ne!(throttle.begin(ip("10.0.0.1"), "another"), Attempt::Allowed);
        assert_eq!(throttle.begin(ip("10.0.0.3"), "another"), Attempt::Allowed);
    }

    #[test]
    fn right_passwords_never_use_the_address_up() {
        let (throttle, _) = throttle();
        for _ in 0..FREE_PER_ADDRESS * 3 {
            assert_eq!(throttle.begin(ip("10.0.0.1"), NAME), Attempt::Allowed);
            throttle.succeeded(ip("10.0.0.1"), NAME);
        }
    }

    #[test]
    fn one_ipv6_network_and_one_mapped_address_are_one_address() {
        let (throttle, _) = throttle();
        fail(&throttle, "2001:db8::1", FREE_PER_NAME);
        assert_ne!(throttle.begin(ip("2001:db8::ffff:2"), NAME), Attempt::Allowed);
        assert_eq!(throttle.begin(ip("2001:db8:0:1::1"), NAME), Attempt::Allowed);
        fail(&throttle, "10.0.0.1", FREE_PER_NAME);
        assert_ne!(throttle.begin(ip("::ffff:10.0.0.1"), NAME), Attempt::Allowed);
    }

    #[test]
    fn memory_stays_bounded_and_the_newest_counters_stay() {
        let (throttle, clock) = throttle();
        for n in 0..u32::try_from(COUNTERS_MAX).expect("small") {
            let address = IpAddr::V4((0x0a00_0000 + n).into());
            assert_eq!(throttle.begin(address, NAME), Attempt::Allowed);
            clock.advance(TimeDelta::milliseconds(1));
            assert!(throttle.with(|counters| counters.len()) <= COUNTERS_MAX);
        }
        fail(&throttle, "192.0.2.1", FREE_PER_NAME);
        assert_ne!(throttle.begin(ip("192.0.2.1"), NAME), Attempt::Allowed);
    }
}
