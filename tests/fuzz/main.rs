//! Fuzzes the archive reader: valid archives of many writers are changed at random, field by
//! field and byte by byte, and whatever comes out must be judged without a panic, a hang, a flood
//! of memory or a file outside of the target; what is called whole must be whole.
//!
//! It runs for [`SECONDS`]. `POCKETVAULT_FUZZ_SECONDS=3600 cargo test --release --test fuzz` runs
//! longer. Each case follows from its number: a failure names it and keeps the archive, and
//! `POCKETVAULT_FUZZ_CASE=N` plays that one again.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use case::Case;

mod case;
mod memory;
mod mutate;
mod seeds;

/// How long an ordinary run takes.
const SECONDS: u64 = 5;

#[test]
fn a_changed_archive_is_refused_or_read_as_it_says() {
    let seeds = seeds::all();
    let first: u64 = number("POCKETVAULT_FUZZ_CASE").unwrap_or_else(|| rand::rng().random());
    let single = number("POCKETVAULT_FUZZ_CASE").is_some();
    let limit = Duration::from_secs(number("POCKETVAULT_FUZZ_SECONDS").unwrap_or(SECONDS));
    let begun = Instant::now();
    let watchdog = case::Watchdog::start();
    let mut outcomes = case::Outcomes::default();
    for at in 0.. {
        if (at > 0 && single) || begun.elapsed() > limit {
            break;
        }
        let number = first.wrapping_add(at);
        let mut rng = StdRng::seed_from_u64(number);
        let archive = mutate::changed(&seeds, &mut rng);
        let case = Case::begin(number, &archive, &watchdog);
        outcomes.count(case.judge());
    }
    let _ = writeln!(std::io::stderr(), "fuzz: from case {first}: {outcomes:?}");
    if !single {
        // A fuzzer whose every case is refused at the door tests only the door.
        assert!(outcomes.are_mixed(), "{outcomes:?}");
    }
}

#[test]
fn every_seed_is_whole_and_read_as_it_says() {
    let watchdog = case::Watchdog::start();
    for (at, seed) in seeds::all().iter().enumerate() {
        let verdict = Case::begin(at as u64, seed, &watchdog).judge();
        assert_eq!(verdict, case::Verdict::Extracted, "seed {at}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
