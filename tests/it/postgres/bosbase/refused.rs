//! What is not an archive of a BosBase, and what is not a BosBase.

use std::fs;
use std::process::Command;

use super::{ROWS, World};
use crate::harness::Server;
use crate::raw::Request;

#[test]
fn archives_of_others_are_refused_with_the_reason() {
    let Some(world) = World::new() else { return };
    let before = world.sql(ROWS);
    world.place.done(&["backup", "ledger", "ours.zip"]);
    let home = world.place.home.path();
    fs::write(home.join("data.db"), b"SQLite format 3\0").expect("written");
    let zipped = |key: &str, folder: &std::path::Path, files: &[&str]| {
        let mut command = Command::new("zip");
        command.current_dir(folder).arg("-qr").arg(world.zip(key)).args(files);
        assert!(command.status().expect("zip").success());
    };
    zipped("pocketbase.zip", home, &["data.db"]);
    zipped("files.zip", &world.data(), &["storage", "types.d.ts"]);
    fs::write(world.zip("cut.zip"), &fs::read(world.zip("ours.zip")).expect("read")[..200])
        .expect("written");
    fs::copy(world.zip("ours.zip"), world.zip("mixed.zip")).expect("copied");
    zipped("mixed.zip", home, &["data.db"]);
    for (key, word) in [
        ("pocketbase.zip", "it has a data.db and no dump"),
        ("files.zip", "BosBase's own backups hold files only"),
        ("mixed.zip", "it is neither's"),
        ("cut.zip", "not a usable zip"),
    ] {
        let said = world.failed(&["restore", "ledger", key]);
        assert!(said.contains(word), "{key}: {said}");
    }
    assert_eq!(world.sql(ROWS), before);
    world.assert_clean();

    // The other way round: a PocketBase's server is given the BosBase's archive.
    let server = Server::start_ours();
    let token = server.login();
    let backups = server.data_dir().join("backups");
    fs::create_dir_all(&backups).expect("made");
    fs::copy(world.zip("ours.zip"), backups.join("ours.zip")).expect("copied");
    let restore = Request::new("POST /api/backups/ours.zip/restore").auth(&token);
    let answer = server.send(&restore);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("The archive is a BosBase's"), "{}", answer.text());
}

#[test]
fn a_database_of_another_kind_is_no_bosbase() {
    let Some(world) = World::new() else { return };
    world.sql("DROP TABLE _params");
    let said = world.failed(&["backup", "ledger", "a.zip"]);
    assert!(said.contains("not BosBase's: it has no table _params"), "{said}");
    assert!(world.place.backups().is_empty(), "{:?}", world.place.backups());
    world.assert_clean();
}

#[test]
fn a_dump_that_was_changed_inside_its_archive_is_not_restored() {
    let Some(world) = World::new() else { return };
    world.place.done(&["backup", "ledger", "a.zip"]);
    let before = world.sql(ROWS);
    // A sound dump, but another one than the manifest names.
    world.sql("CREATE TABLE more (i int)");
    world.place.done(&["backup", "ledger", "b.zip"]);
    let home = world.place.home.path();
    fs::write(home.join("database.dump"), super::unzipped(&world.zip("b.zip"), "database.dump"))
        .expect("written");
    let mut command = Command::new("zip");
    command.current_dir(home).arg("-q").arg(world.zip("a.zip")).arg("database.dump");
    assert!(command.status().expect("zip").success());
    let said = world.failed(&["restore", "ledger", "a.zip"]);
    assert!(said.contains("SHA-256 differs"), "{said}");
    assert_eq!(world.sql(ROWS), before);
}
