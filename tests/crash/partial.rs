//! Kills and errors in restores of a part, and in undoing them: the part is the old or the new,
//! whole, and nothing else changes.

use std::path::Path;

use pocketvault::backup::Key;
use pocketvault::control::Control;
use pocketvault::data_dir::DataDir;
use pocketvault::error::Result;
use pocketvault::restore::{self, Recovery, Scope, StageOptions};

use crate::ground::{Ground, Root, Tree, tree};
use crate::scene::{Act, Ending, Scene, clock, data, recover_and_prove};

/// The parts that are tried: each kind, a path of several names, and one that is only added.
const SCOPES: [&str; 5] =
    ["databases", "files", "storage/c/r/photo.png", "extra", "only_in_the_new"];

/// What the child does: a restore of the part, and its undo.
pub(crate) fn play(root: &Path, scope: &str) -> Result<()> {
    let data = data(root);
    stage(&data, &root.join("archive"), scope)?;
    recover_and_prove(&data)?;
    restore::undo(&data, &clock())?;
    recover_and_prove(&data)
}

fn stage(data: &DataDir, archive: &Path, scope: &str) -> Result<()> {
    let scope = Scope::parse(scope)?;
    let key = Key::existing("a.zip")?;
    let options =
        StageOptions { key, scope: scope.clone(), size_bytes: 1 << 16, now: clock().now() };
    let unpack = |into: &Path| {
        for (path, bytes) in tree(archive) {
            let bytes = bytes.filter(|_| scope.takes(path.as_os_str().as_encoded_bytes()));
            if let Some(bytes) = bytes {
                let target = into.join(path);
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                std::fs::write(target, bytes).unwrap();
            }
        }
        Ok(())
    };
    restore::stage_with(data, &options, &Control::default(), unpack)?.commit()
}

/// The old data, and the old data with the part of the new.
fn expected(scene: &Scene, scope: &str) -> [Tree; 2] {
    let look = |root: &Root| tree(&root.path().join("pb_data"));
    let before = scene.fresh(Act::Restore);
    let old = look(&before);
    stage(&data(before.path()), &before.path().join("archive"), scope).unwrap();
    recover_and_prove(&data(before.path())).unwrap();
    let new = look(&before);
    assert_ne!(old, new, "{scope}");
    [old, new]
}

#[test]
fn a_part_killed_or_failed_at_any_call_is_the_old_or_the_new() {
    let Some(scene) = Scene::new(Ground::Plain) else { return };
    for scope in SCOPES {
        let expected = expected(&scene, scope);
        let root = scene.fresh(Act::Restore);
        let Ending::Said(text) = scene.run_part(scope, root.path(), "CRASH_NEVER", "") else {
            panic!("{scope} was killed")
        };
        let (calls, ending) = text.split_once(' ').unwrap();
        assert_eq!(ending, "Ok(())", "{scope}");
        let calls: u64 = calls.parse().unwrap();
        for (variable, suffix, step) in [
            ("POCKETVAULT_CRASH_AT", "", 1),
            // Errors take the same ways back: every second call shows them all.
            ("POCKETVAULT_FAIL_AT", ":EIO", 2),
        ] {
            let points = scene.in_parallel(calls.div_ceil(step), |number, scene| {
                let number = 1 + (number - 1) * step;
                let root = scene.fresh(Act::Restore);
                scene.run_part(scope, root.path(), variable, &format!("{number}{suffix}"));
                whole(root.path(), &expected, &format!("{scope}: {variable}={number}{suffix}"));
            });
            println!("{scope} with {variable}=N{suffix}: {points} points");
        }
    }
}

/// Starts as a server does, twice; the data is one of `expected`, and what it was can be had.
fn whole(root: &Path, expected: &[Tree; 2], when: &str) {
    let data = data(root);
    let recovery = restore::recover(&data, &clock()).unwrap_or_else(|e| panic!("{when}: {e:?}"));
    if let Recovery::Swapped { .. } = recovery {
        restore::prove(&data, &clock()).unwrap();
    }
    let live = tree(&root.join("pb_data"));
    assert!(expected.contains(&live), "{when}: neither old nor new: {:?}", live.keys());
    let again = restore::recover(&data, &clock()).unwrap();
    assert!(matches!(again, Recovery::Nothing { .. }), "{when}: {again:?}");
    assert_eq!(tree(&root.join("pb_data")), live, "{when}: the second start changed the data");
    let undo = restore::status(&data).unwrap().and_then(|status| status.undo);
    if live == expected[1] {
        assert!(undo.is_some(), "{when}: no undo is offered");
    }
    if undo.is_some() {
        restore::undo(&data, &clock()).unwrap();
        recover_and_prove(&data).unwrap();
        let other = tree(&root.join("pb_data"));
        assert!(expected.contains(&other) && other != live, "{when}: the undo brought nothing");
    }
}
