//! The same kills and errors with volumes mounted inside `pb_data`, in a mount namespace.

use std::process::Command;

use pocketvault::restore::{self, Phase};

use crate::every_call;
use crate::ground::Ground;
use crate::scene::{Act, Scene, clock, data};

/// Everything that runs inside the namespace, where it may mount what it likes.
#[test]
#[ignore = "started by the other test, inside a mount namespace"]
fn inside() {
    for act in [Act::Restore, Act::RollBack, Act::Undo] {
        every_call(Ground::Mounted, act, "POCKETVAULT_CRASH_AT", "");
    }
    every_call(Ground::Mounted, Act::Restore, "POCKETVAULT_FAIL_AT", ":EIO");
    every_call(Ground::Mounted, Act::Restore, "POCKETVAULT_FAIL_AT", "+:ENOSPC");
    a_volume_that_is_not_mounted_stops_the_roll_back_before_it_begins();
}

fn a_volume_that_is_not_mounted_stops_the_roll_back_before_it_begins() {
    let Some(scene) = Scene::new(Ground::Mounted) else { return };
    let root = scene.fresh(Act::RollBack);
    let data = data(root.path());
    {
        // Covered by an empty one, as if it were not there.
        let _cover = root.cover("storage");
        let error = restore::roll_back(&data, "it did not open", &clock()).unwrap_err();
        assert!(error.message().contains("is missing"), "{error:?}");
        assert_eq!(restore::status(&data).unwrap().unwrap().phase, Phase::Swapped);
    }
    restore::roll_back(&data, "it did not open", &clock()).unwrap();
    scene.must_be_whole(root.path(), "after the volume came back");
}

#[test]
fn volumes_inside_pb_data_survive_a_kill_and_an_error_at_any_call() {
    let namespace = ["--mount", "--user", "--map-root-user"];
    let enter = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(namespace).arg(program);
        command
    };
    let mountable = enter("sh")
        .args(["-c", "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && umount $d; rmdir $d"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !mountable {
        println!("SKIPPED: this machine lets us mount nothing (unshare --mount --user)");
        return;
    }
    let output = enter(std::env::current_exe().unwrap().to_str().unwrap())
        .args(["--exact", "mounted::inside", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
    for line in said.lines().filter(|line| line.ends_with(" points")) {
        println!("{line}");
    }
}
