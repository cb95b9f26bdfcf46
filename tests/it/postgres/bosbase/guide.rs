//! `docs/bosbase.md`, whose lines are run as they stand there.

use std::fs;

use super::{ROWS, World};

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../../../../docs/bosbase.md");
    let opening = format!("```{language}\n");
    let found = text.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    found.map(str::to_owned).collect()
}

#[test]
fn the_lines_of_the_guide_do_what_it_says() {
    let Some(world) = World::new() else { return };
    let data = world.data();
    let config =
        blocks("toml").concat().replace("/srv/bosbase/pb_data", data.to_str().expect("UTF-8"));
    fs::write(world.place.config(), config).expect("written");
    let before = world.sql(ROWS);
    let mut shell = world.cluster.shell(&blocks("sh").concat());
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_pocketvault"));
    let folder = program.parent().expect("a folder").display();
    let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    let path = path.expect("a path").to_string_lossy().into_owned();
    let output = shell
        .current_dir(world.place.home.path())
        .env("PATH", format!("{folder}:{path}"))
        .env("SASSPB_POSTGRES_URL", world.cluster.url(&world.database))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("restored; the database before is kept"), "{said}");
    assert_eq!(world.sql(ROWS), before);
}
