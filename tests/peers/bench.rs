//! Keeps `benches/versus` alive: the whole of it on the smallest data. No number is judged here.

use std::path::Path;
use std::process::Command;

use crate::server::scratch;
use crate::tools::{self, Version};

/// Lines that the table must have: each row of the bench has at least one.
const ROWS: [&str; 8] = [
    "create: time, s",
    "again after 1 % changed: time, s",
    "SQLite writer: p99 during / p99 idle",
    "PocketBase API writer: failed writes",
    "restore: from the answer to restored data served, s",
    "download: MB/s",
    "upload: time, s",
    "list: time of one answer, s",
];

#[test]
fn the_bench_measures_both_servers_in_every_row() {
    let needed = [("python3", "--version"), ("curl", "--version")];
    if needed.iter().any(|(tool, question)| tools::installed(tool, question).is_none()) {
        return;
    }
    let Some(peer) = tools::pocketbase(Version::V0_40_4) else { return };
    let work = scratch();
    let output = Command::new("python3")
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/versus/run.py"))
        .args(["--profile", "tiny", "--rounds", "1"])
        .args(["--ours", env!("CARGO_BIN_EXE_pocketvault")])
        .arg("--work")
        .arg(work.path())
        .env("POCKETVAULT_PEER_POCKETBASE", peer)
        .output()
        .expect("the bench runs");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{said}");
    for row in ROWS {
        let line = table.lines().find(|line| line.starts_with(&format!("| {row} |")));
        let cells: Vec<&str> = line.unwrap_or_default().split('|').map(str::trim).collect();
        assert!(cells.len() > 4, "no row {row:?} in\n{table}");
        assert!(cells[2] != "–" && cells[3] != "–", "a side is missing in {line:?}");
    }
}
