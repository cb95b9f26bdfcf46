//! `docs/scalingo.md`, whose lines are run as they stand there.

use std::fs;

use crate::harness::Server;
use crate::postgres::cluster::Cluster;

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../../../docs/scalingo.md");
    let opening = format!("```{language}\n");
    let found = text.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    found.map(str::to_owned).collect()
}

#[test]
fn the_lines_of_the_guide_do_what_it_says() {
    let Some(cluster) = Cluster::shared() else { return };
    let (database, restored) = (cluster.create("guide"), cluster.create("guide restored"));
    cluster.sql(&database, "CREATE TABLE t AS SELECT i FROM generate_series(1, 10) i");
    let home = tempfile::tempdir().expect("a folder");
    let [hash, lines] = &blocks("sh")[..] else { panic!("two blocks") };
    let [table] = &blocks("toml")[..] else { panic!("one block") };
    let sum = cluster.shell(hash).output().expect("a shell");
    let sum = String::from_utf8(sum.stdout).expect("UTF-8");
    assert!(table.contains(&sum[..64]), "{sum}");
    let url = "postgres://user:password@127.0.0.1:5432/ledger";
    assert!(table.contains(url));
    let config = home.path().join("pocketvault.toml");
    fs::write(&config, table.replace(url, &cluster.url(&database))).expect("written");
    let server = Server::start_ours_with(&["--config", config.to_str().expect("UTF-8")]);
    let lines = lines.replace("http://127.0.0.1:8090", &format!("http://{}", server.address()));
    let lines = format!("set -e\n{}", lines.replace("-d restored", &format!("-d '{restored}'")));
    let mut shell = cluster.shell(&lines);
    let output = shell.current_dir(home.path()).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(cluster.sql(&restored, "SELECT count(*) FROM t"), "10");
}
