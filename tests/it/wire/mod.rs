//! The recorded facts of `fixtures/wire`, one test for each table.
//!
//! By default each table runs against a server of ours of its own. To hold the tables against
//! another program:
//!
//! - `POCKETVAULT_WIRE_BIN=/path/to/pocketbase`: starts that program instead, as a peer.
//! - `POCKETVAULT_WIRE_BASE=http://127.0.0.1:PORT` with `POCKETVAULT_WIRE_EMAIL`,
//!   `POCKETVAULT_WIRE_PASSWORD` and `POCKETVAULT_WIRE_DIR` (its `pb_data`): speaks to a server
//!   that runs already; the tables then take turns. Use one that may be thrown away.
//! - `POCKETVAULT_WIRE_PEER=1`: that server is a PocketBase, so that our deviations do not
//!   count: it must answer what was recorded.

pub(crate) mod ballast;
mod bodies;
mod compare;
mod engine;
pub(crate) mod jwt;
mod table;
mod variables;

use std::collections::BTreeSet;
use std::env;
use std::sync::{Mutex, PoisonError};

use crate::harness::{EMAIL, PASSWORD, Program, Server};
use crate::wire::engine::{Engine, Target};
use crate::wire::table::{Case, load};

/// One server that was given must not see two tables at once.
static TURN: Mutex<()> = Mutex::new(());

macro_rules! tables {
    ($($test:ident = $file:literal),+ $(,)?) => {
        /// Every table that is run.
        const TABLES: &[&str] = &[$($file),+];
        $(
            #[test]
            fn $test() {
                run($file);
            }
        )+
    };
}

tables! {
    auth = "auth",
    busy = "busy",
    cors = "cors",
    create = "create",
    crons = "crons",
    delete = "delete",
    download = "download",
    files_token = "files-token",
    health = "health",
    impersonate = "impersonate",
    ips = "ips",
    limit = "limit",
    list = "list",
    rate = "rate",
    restore = "restore",
    restore_of_bad_archives = "restore-zip-bad",
    restore_of_odd_archives = "restore-zip-good",
    route = "route",
    settings = "settings",
    test_s3 = "test-s3",
    token = "token",
    upload = "upload",
}

/// Runs one table and fails with every case that differed.
fn run(name: &str) {
    let cases: Vec<Case> = load(name);
    let only = env::var("POCKETVAULT_WIRE_ONLY").unwrap_or_default();
    let given = env::var("POCKETVAULT_WIRE_BASE").ok();
    let _turn = given.as_ref().map(|_| TURN.lock().unwrap_or_else(PoisonError::into_inner));
    let is_peer = env::var("POCKETVAULT_WIRE_PEER").is_ok_and(|value| value == "1");
    let (server, target) = match given {
        Some(base) => (None, given_target(&base, is_peer)),
        None => own_target(),
    };
    let mut engine = Engine::new(target, load("common"));
    let mut faults = Vec::new();
    for case in cases.iter().filter(|case| case.name.contains(&only)) {
        let found = engine.run(case);
        let known = case.known.as_ref().filter(|_| !engine.is_peer());
        match (known, found.is_empty()) {
            (None, true) => {}
            (None, false) => {
                faults.push(format!("{}\n     {}", case.name, found.join("\n     ")));
            }
            (Some(why), false) => println!("KNOWN to differ: {}: {why}", case.name),
            (Some(_), true) => faults.push(format!("{}: not `known` any more", case.name)),
        }
    }
    let log = server.as_ref().map(Server::log).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(20).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    assert!(
        faults.is_empty(),
        "{} of {} cases of {name} differ:\n{}\nthe server's last words:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n"),
        tail.join("\n")
    );
}

fn own_target() -> (Option<Server>, Target) {
    let server = Server::start();
    let is_peer = !server.is(&Program::Ours);
    let target = Target {
        address: server.address(),
        email: EMAIL.to_owned(),
        password: PASSWORD.to_owned(),
        data_dir: Some(server.data_dir()),
        is_peer,
    };
    (Some(server), target)
}

fn given_target(base: &str, is_peer: bool) -> Target {
    let address = base.trim_start_matches("http://").trim_end_matches('/');
    Target {
        address: address.parse().expect("http://127.0.0.1:PORT"),
        email: env::var("POCKETVAULT_WIRE_EMAIL").unwrap_or(EMAIL.to_owned()),
        password: env::var("POCKETVAULT_WIRE_PASSWORD").unwrap_or(PASSWORD.to_owned()),
        data_dir: env::var_os("POCKETVAULT_WIRE_DIR").map(Into::into),
        is_peer,
    }
}

#[test]
fn every_table_is_run_and_every_deviation_has_its_reason() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/wire");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the tables")
        .map(|entry| entry.expect("an entry").path())
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .filter(|stem| stem != "common")
        .collect();
    assert_eq!(files, TABLES.iter().map(|name| (*name).to_owned()).collect());
    let mut names = BTreeSet::new();
    for case in TABLES.iter().flat_map(|table| load::<Vec<Case>>(table)) {
        assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
        assert_eq!(case.ours.is_some(), case.deviation.is_some(), "{}", case.name);
    }
    assert!(names.len() >= 360, "only {} cases", names.len());
}
