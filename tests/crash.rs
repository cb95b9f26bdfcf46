//! Kills a restore at every call of the file system, or lets that call fail, and starts again.
//!
//! The process that dies is this test binary itself, run with the one ignored test below. After
//! each death the parent recovers as a server does at boot, and looks at every byte: the data is
//! exactly the old or exactly the new, the other is still kept, and a second start is clean.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the number of points is printed")]

use std::path::Path;

use pocketvault::failpoint;
use pocketvault::restore::{self, Phase, Recovery};

use ground::Ground;
use scene::{Act, Ending, Scene, clock, data};

#[path = "crash/ground.rs"]
mod ground;
#[path = "crash/mounted.rs"]
mod mounted;
#[path = "crash/partial.rs"]
mod partial;
#[path = "crash/power.rs"]
mod power;
#[path = "crash/restart.rs"]
mod restart;
#[path = "crash/scene.rs"]
mod scene;

/// The process that is killed. Its orders come in the environment.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let root = std::env::var("CRASH_ROOT").unwrap();
    let ending = match std::env::var("CRASH_SCOPE") {
        Ok(scope) => partial::play(Path::new(&root), &scope),
        Err(_) => Act::from_environment().play(Path::new(&root)),
    };
    let calls = failpoint::calls().unwrap();
    std::fs::write(std::env::var("CRASH_REPORT").unwrap(), format!("{calls} {ending:?}")).unwrap();
}

#[test]
fn a_restore_killed_at_any_call_leaves_the_old_or_the_new_data() {
    every_call(Ground::Plain, Act::Restore, "POCKETVAULT_CRASH_AT", "");
}

#[test]
fn a_roll_back_killed_at_any_call_leaves_the_old_or_the_new_data() {
    every_call(Ground::Plain, Act::RollBack, "POCKETVAULT_CRASH_AT", "");
}

#[test]
fn an_undo_killed_at_any_call_leaves_the_old_or_the_new_data() {
    every_call(Ground::Plain, Act::Undo, "POCKETVAULT_CRASH_AT", "");
}

#[test]
fn a_restore_survives_an_error_of_any_call() {
    every_call(Ground::Plain, Act::Restore, "POCKETVAULT_FAIL_AT", ":EIO");
    every_call(Ground::Plain, Act::Restore, "POCKETVAULT_FAIL_AT", ":ENOSPC");
    every_call(Ground::Plain, Act::Restore, "POCKETVAULT_FAIL_AT", "+:ENOSPC");
}

#[test]
fn a_roll_back_and_an_undo_survive_an_error_of_any_call() {
    for act in [Act::RollBack, Act::Undo] {
        every_call(Ground::Plain, act, "POCKETVAULT_FAIL_AT", ":EIO");
        every_call(Ground::Plain, act, "POCKETVAULT_FAIL_AT", "+:ENOSPC");
    }
}

/// Dies once in the restore, and then again in the recovery from that.
#[test]
fn a_recovery_that_is_killed_too_leaves_the_old_or_the_new_data() {
    let Some(scene) = Scene::new(Ground::Plain) else { return };
    let calls = scene.calls(Act::Restore);
    let points = scene.in_parallel(calls, |first, scene| {
        let root = scene.fresh(Act::Restore);
        scene.run(Act::Restore, root.path(), "POCKETVAULT_CRASH_AT", &first.to_string());
        // Another second point for each first one, over the whole length of a recovery.
        let second = 1 + (first * 7) % 60;
        scene.run(Act::Recover, root.path(), "POCKETVAULT_CRASH_AT", &second.to_string());
        scene.must_be_whole(root.path(), &format!("killed at call {first}, then at {second}"));
    });
    println!("restore, then recovery: {points} pairs of kill points");
}

#[test]
fn data_that_kills_its_server_twice_is_rolled_back_and_stays_so() {
    let Some(scene) = Scene::new(Ground::Plain) else { return };
    let root = scene.fresh(Act::RollBack);
    let data = data(root.path());
    // The first hand-over was in the making of the scene; its process "died" without a verdict.
    let second = restore::recover(&data, &clock()).unwrap();
    assert!(matches!(second, Recovery::Swapped { attempt: 2, .. }), "{second:?}");
    let third = restore::recover(&data, &clock()).unwrap();
    assert!(matches!(third, Recovery::RolledBack { .. }), "{third:?}");
    for _ in 0..2 {
        let later = restore::recover(&data, &clock()).unwrap();
        assert_eq!(later, Recovery::Nothing { swept: 0 });
    }
    scene.must_be_whole(root.path(), "after two silent starts");
    assert_eq!(restore::status(&data).unwrap().unwrap().phase, Phase::RolledBack);
}

/// Plays `act` once for each call that it makes, with `variable` set to that call's number.
fn every_call(ground: Ground, act: Act, variable: &str, suffix: &str) {
    let Some(scene) = Scene::new(ground) else { return };
    let calls = scene.calls(act);
    assert!(calls > 30, "only {calls} calls were counted");
    let points = scene.in_parallel(calls, |number, scene| {
        let root = scene.fresh(act);
        let value = format!("{number}{suffix}");
        let ending = scene.run(act, root.path(), variable, &value);
        if variable == "POCKETVAULT_CRASH_AT" {
            assert_eq!(ending, Ending::Killed, "{act:?} at call {number}");
        } else {
            assert_ne!(ending, Ending::Killed, "{act:?} at call {number}");
        }
        scene.must_be_whole(root.path(), &format!("{act:?} with {variable}={value}"));
    });
    println!("{ground:?} {act:?} with {variable}=N{suffix}: {points} points");
}
