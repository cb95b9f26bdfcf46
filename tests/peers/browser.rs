//! The pages in a real Chromium, which does what people do there.
//!
//! What it saw lies in the target folder, `tmp/shots`: screenshots to be looked at by people.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{EMAIL, PASSWORD, Program, Server, scratch};
use crate::tools;

#[test]
fn the_admin_page_of_pocketbase_works_on_our_engine() {
    let Some((home, chromium)) = tools::browser() else { return };
    let Some(pocketbase) = tools::pocketbase(tools::Version::V0_40_4) else { return };
    let scratch = scratch();
    let dir = scratch.path().join("pb_data");
    let program = Program::before(pocketbase);
    program.upsert(&dir, PASSWORD);
    let server = program.serve(&dir);
    drive((&home, &chromium), "pocketbase_page.mjs", &server, "/_/");
    assert!(server.log().contains("the restore is proven"), "{}", server.log());
}

#[test]
fn our_page_does_everything_that_it_offers() {
    let Some((home, chromium)) = tools::browser() else { return };
    let scratch = scratch();
    let dir = scratch.path().join("pb_data");
    let program = Program::pocketvault();
    program.upsert(&dir, PASSWORD);
    drive((&home, &chromium), "our_page.mjs", &program.serve(&dir), "/_/");
}

#[test]
fn our_page_does_it_beside_that_of_a_program_behind_us() {
    let Some((home, chromium)) = tools::browser() else { return };
    let Some(pocketbase) = tools::pocketbase(tools::Version::V0_40_4) else { return };
    let scratch = scratch();
    let dir = scratch.path().join("pb_data");
    let program = Program::before(pocketbase);
    program.upsert(&dir, PASSWORD);
    drive((&home, &chromium), "our_page.mjs", &program.serve(&dir), "/_vault/");
}

/// Runs the script on the server's page, and wants to hear "done".
fn drive((home, chromium): (&Path, &Path), script: &str, server: &Server, page: &str) {
    let shots: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shots");
    let mut command = Command::new("node");
    command
        .arg(home.join(script))
        .env("PEER_A", &server.base)
        .env("PEER_EMAIL", EMAIL)
        .env("PEER_PASSWORD", PASSWORD)
        .env("PEER_CHROMIUM", chromium)
        .env("PEER_DIR_A", &server.dir)
        .env("PEER_PAGE", page)
        .env("PEER_NAME", if page == "/_/" { "ours" } else { "beside" })
        .env("PEER_SHOTS", shots);
    let output = command.output().expect("the script runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the script failed:\n{said}{failed}");
    assert!(said.lines().any(|line| line == "done"), "the script did not finish:\n{said}{failed}");
}
