//! The SDKs of npm and PyPI, each living the whole life of a backup on two servers.

use std::process::Command;

use crate::server::{EMAIL, Kind, OTHER_PASSWORD, PASSWORD, Program, scratch};
use crate::tools;

#[test]
fn the_npm_pocketbase_sdk_lives_the_whole_life_of_a_backup() {
    javascript("pocketbase.mjs");
}

#[test]
fn the_npm_pocketbase_sdk_lives_it_with_a_real_pocketbase_behind_us() {
    let Some(pocketbase) = tools::pocketbase(tools::Version::V0_40_4) else { return };
    if let Some(home) = tools::javascript() {
        let mut command = Command::new("node");
        command.arg(home.join("pocketbase.mjs"));
        live_with(&Program::before(pocketbase), command);
    }
}

#[test]
fn the_npm_bosbase_sdk_lives_the_whole_life_of_a_backup() {
    javascript("bosbase.mjs");
}

#[test]
fn the_helpers_of_the_bosbase_documents_keep_their_promises() {
    javascript("manager.mjs");
}

#[test]
fn the_pypi_pocketbase_sdk_lives_the_whole_life_of_a_backup() {
    python("pocketbase_life.py");
}

#[test]
fn the_pypi_bosbase_sdk_lives_the_whole_life_of_a_backup() {
    python("bosbase_life.py");
}

fn javascript(script: &str) {
    if let Some(home) = tools::javascript() {
        let mut command = Command::new("node");
        command.arg(home.join(script));
        live(command);
    }
}

fn python(script: &str) {
    if let Some(home) = tools::python() {
        let mut command = Command::new(home.join("venv/bin/python"));
        command.arg("-B").arg(home.join(script));
        live(command);
    }
}

/// Gives the script two fresh servers with different passwords, and wants to hear "done".
fn live(command: Command) {
    live_with(&Program::under_test(), command);
}

fn live_with(program: &Program, mut command: Command) {
    let scratch = scratch();
    let [dir_a, dir_b] = ["a", "b"].map(|name| scratch.path().join(name).join("pb_data"));
    program.upsert(&dir_a, PASSWORD);
    program.upsert(&dir_b, OTHER_PASSWORD);
    let a = program.serve(&dir_a);
    let b = program.serve(&dir_b);
    let kind = match program.kind {
        Kind::Pocketvault => "pocketvault",
        Kind::PocketBase => "pocketbase",
    };
    command
        .env("PEER_A", &a.base)
        .env("PEER_B", &b.base)
        .env("PEER_DIR_A", &a.dir)
        .env("PEER_EMAIL", EMAIL)
        .env("PEER_PASSWORD", PASSWORD)
        .env("PEER_OTHER_PASSWORD", OTHER_PASSWORD)
        .env("PEER_KIND", kind);
    let output = command.output().expect("the script runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the script failed:\n{said}{failed}");
    assert!(said.lines().any(|line| line == "done"), "the script did not finish:\n{said}{failed}");
}
