//! A power cut, simulated: the process is killed, and what it had not yet synced is taken back.
//!
//! A rename counts as durable when both of its folders were synced after it, a new name when
//! its folder was, bytes when their file was. Of what is not durable, everything is lost, or
//! any single change alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ground::Ground;
use crate::scene::{Act, Ending, Scene};

/// How many single changes are taken back, each in a run of its own, per kill point.
const SINGLES_MAX: usize = 6;

/// One traced call.
struct Call {
    number: usize,
    name: String,
    paths: Vec<PathBuf>,
}

#[test]
fn a_power_cut_at_any_call_leaves_the_old_or_the_new_data() {
    for act in [Act::Restore, Act::RollBack, Act::Undo] {
        let Some(scene) = Scene::new(Ground::Plain) else { return };
        let calls = scene.calls(act);
        let losses = std::sync::atomic::AtomicU64::new(0);
        // One more than there are: then the power fails just after the success.
        let points = scene.in_parallel(calls + 1, |number, scene| {
            let open = cut(scene, act, number, None);
            for single in 0..open.min(SINGLES_MAX) {
                cut(scene, act, number, Some(single));
            }
            losses.fetch_add(1 + open as u64, std::sync::atomic::Ordering::Relaxed);
        });
        println!("power cut in {act:?}: {losses:?} ways to lose changes at {points} points");
    }
}

/// Plays the act up to call `number`, takes back one or all open changes, and looks. How many
/// changes were open.
fn cut(scene: &Scene, act: Act, number: u64, single: Option<usize>) -> usize {
    let root = scene.fresh(act);
    let ending = scene.run(act, root.path(), "POCKETVAULT_CRASH_AT", &number.to_string());
    let trace = root.path().join("trace");
    let calls = read(&trace);
    let open: Vec<&Call> = calls.iter().filter(|call| is_open(call, &calls)).collect();
    for (at, call) in open.iter().enumerate().rev() {
        if single.is_none_or(|single| single == at) {
            take_back(call, &trace);
        }
    }
    if ending != Ending::Killed {
        let succeeded = scene.has_succeeded(act, root.path());
        assert!(succeeded, "{act:?}: a success was lost with the power");
    }
    scene.must_be_whole(root.path(), &format!("{act:?} without power at {number} ({single:?})"));
    open.len()
}

fn read(trace: &Path) -> Vec<Call> {
    let text = fs::read_to_string(trace).unwrap_or_default();
    let parse = |(at, line): (usize, &str)| {
        let mut fields = line.split('\t');
        let name = fields.next().unwrap().to_owned();
        Call { number: at + 1, name, paths: fields.map(PathBuf::from).collect() }
    };
    text.lines().enumerate().map(parse).collect()
}

/// Whether a call changed something that no later call made durable.
fn is_open(call: &Call, calls: &[Call]) -> bool {
    let synced_later = |name: &str, path: &Path| {
        let later = &calls[call.number..];
        later.iter().any(|later| later.name == name && later.paths[0] == path)
    };
    let folder_synced = |path: &PathBuf| synced_later("fsync-dir", path.parent().unwrap());
    match call.name.as_str() {
        "rename" | "replace" | "create" | "mkdir" => !call.paths.iter().all(folder_synced),
        "write" => !synced_later("fsync", &call.paths[0]),
        _ => false,
    }
}

fn take_back(call: &Call, trace: &Path) {
    let path = &call.paths[0];
    match call.name.as_str() {
        // Failures are fine here: a call may have been the last one, counted and not made.
        "create" => drop(fs::remove_file(path)),
        "mkdir" => drop(fs::remove_dir(path)),
        "write" if path.exists() => fs::write(path, "").unwrap(),
        "rename" if !path.exists() => drop(fs::rename(&call.paths[1], path)),
        "replace" if !path.exists() => {
            let target = &call.paths[1];
            fs::rename(target, path).unwrap();
            let replaced = trace.with_extension(call.number.to_string());
            if replaced.exists() {
                fs::copy(replaced, target).unwrap();
            }
        }
        _ => {}
    }
}
