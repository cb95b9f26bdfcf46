//! SIGKILL at every step of a dump and a restore: the live database is the old or the new one,
//! whole, and what is left is ended by whoever comes next.

use std::fs;

use super::Place;
use super::cluster::Cluster;
use super::scene::{contents, facts, fill};

/// The numbers of the calls of a command at which it is worth to die: our own steps and every
/// file that gets its name.
pub(super) fn calls(place: &Place, arguments: &[&str]) -> Vec<(usize, String)> {
    let trace = place.home.path().join("trace");
    let traced = place.command(arguments).env("POCKETVAULT_TRACE", &trace).output();
    let traced = traced.expect("the program");
    assert!(traced.status.success(), "{}", String::from_utf8_lossy(&traced.stderr));
    let text = fs::read_to_string(&trace).expect("a trace");
    fs::remove_file(&trace).expect("removed");
    let calls = text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned()));
    let worth = |line: &str| ["postgres-", "replace", "rename"].iter().any(|w| line.starts_with(w));
    calls.filter(|(_, line)| worth(line)).collect()
}

#[test]
fn a_restore_that_dies_at_any_step_leaves_the_old_or_the_new_database() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("kills");
    fill(&cluster, &database);
    cluster.sql(&database, "DELETE FROM \"odd \"\"Schema'\".\"Täble 1\" WHERE id > 100");
    let place = Place::new(&cluster.url(&database), "");
    place.done(&["backup", "ledger", "a.dump"]);
    let (new, of_database) = (contents(&cluster, &database), facts(&cluster, &database));
    let restore = ["restore", "ledger", "a.dump"];
    let calls = calls(&place, &restore);
    assert!(calls.len() >= 12, "{calls:?}");
    let (mut rolled_back, mut swapped) = (0, 0);
    for (number, call) in calls {
        cluster
            .sql(&database, "CREATE TABLE IF NOT EXISTS mine (i int); INSERT INTO mine VALUES (1)");
        let old = contents(&cluster, &database);
        let mut command = place.command(&restore);
        let killed = command.env("POCKETVAULT_CRASH_AT", number.to_string()).output();
        assert!(killed.expect("the program").status.code().is_none(), "{call} was not reached");
        // Whoever comes next ends it.
        place.done(&["restore", "ledger", "a.dump", "--plan"]);
        let now = contents(&cluster, &database);
        assert!(now == old || now == new, "{call}");
        if now == old {
            rolled_back += 1
        } else {
            swapped += 1
        }
        assert_eq!(facts(&cluster, &database), of_database, "{call}");
        assert!(cluster.beside(&database).len() <= 1, "{call}: {:?}", cluster.beside(&database));
    }
    assert!(rolled_back > 3 && swapped > 1, "{rolled_back} {swapped}");
    place.done(&restore);
    assert_eq!(contents(&cluster, &database), new);
}

#[test]
fn a_dump_that_dies_at_any_step_is_not_listed() {
    let Some(cluster) = Cluster::shared() else { return };
    let database = cluster.create("dump kills");
    cluster.sql(&database, "CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 3000) i");
    let place = Place::new(&cluster.url(&database), "");
    // Folders are made only once.
    place.done(&["backup", "ledger", "first.dump"]);
    let calls = calls(&place, &["backup", "ledger", "traced.dump"]);
    assert!(calls.len() >= 2, "{calls:?}");
    for (number, call) in calls {
        let key = format!("k{number}.dump");
        let mut command = place.command(&["backup", "ledger", &key]);
        let killed = command.env("POCKETVAULT_CRASH_AT", number.to_string()).output();
        assert!(killed.expect("the program").status.code().is_none(), "{call} was not reached");
        let listed = place.done(&["list", "ledger"]);
        let whole = place.folder().join("backups").join(&key).exists();
        assert_eq!(listed.contains(&key), whole, "{call}: {listed}");
        if whole {
            place.done(&["restore", "ledger", &key, "--plan"]);
        }
    }
    place.done(&["backup", "ledger", "last.dump"]);
    let left: Vec<String> =
        place.backups().into_iter().filter(|name| name.contains("part")).collect();
    assert!(left.is_empty(), "{left:?}");
}
