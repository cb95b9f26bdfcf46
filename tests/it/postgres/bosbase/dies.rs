//! SIGKILL at every step of a restore: the rows are the old or the new ones, and all of their
//! files are there.

use std::fs;

use super::{ROWS, World};
use crate::postgres::kills::calls;

#[test]
fn a_restore_that_dies_at_any_step_has_the_files_of_whatever_rows_are_there() {
    let Some(world) = World::new() else { return };
    world.place.done(&["backup", "ledger", "a.zip"]);
    let new = world.sql(ROWS);
    let restore = ["restore", "ledger", "a.zip"];
    let prepare = || {
        world.sql(
            "DELETE FROM \"Odd notes\"; \
             INSERT INTO \"Odd notes\" (id, photo) VALUES ('r4', 'photo_4.png')",
        );
        fs::remove_dir_all(world.data().join("storage")).expect("removed");
        world.write("storage/pbc_notes/r4/photo_4.png", "png four");
    };
    // Traced as the others go: with a database that is kept, and without the files.
    prepare();
    world.place.done(&restore);
    prepare();
    let calls = calls(&world.place, &restore);
    assert!(calls.len() >= 8, "{calls:?}");
    let (mut rolled_back, mut swapped) = (0, 0);
    for (number, call) in calls {
        prepare();
        let old = world.sql(ROWS);
        let mut command = world.place.command(&restore);
        let killed = command.env("POCKETVAULT_CRASH_AT", number.to_string()).output();
        assert!(killed.expect("the program").status.code().is_none(), "{call} was not reached");
        // Whoever comes next ends it.
        world.place.done(&["restore", "ledger", "a.zip", "--plan"]);
        let now = world.sql(ROWS);
        assert!(now == old || now == new, "{call}: {now}");
        let files: &[&str] = match now == new {
            true => &["r1/photo_1.png", "r1/a_1.txt", "r1/b_1.txt", "r2/photo_2.png"],
            false => &["r4/photo_4.png"],
        };
        for file in files {
            assert!(world.has(&format!("storage/pbc_notes/{file}")), "{call}: {file}");
        }
        *(if now == new { &mut swapped } else { &mut rolled_back }) += 1;
        world.assert_clean();
    }
    assert!(rolled_back > 3 && swapped > 1, "{rolled_back} {swapped}");
}
