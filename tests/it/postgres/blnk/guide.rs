//! `docs/blnk.md`, whose lines are run as they stand there.

use serde_json::{Value, json};

use super::{ROWS, Served, ready};

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../../../../docs/blnk.md");
    let opening = format!("```{language}\n");
    let found = text.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    found.map(str::to_owned).collect()
}

#[test]
fn the_lines_of_the_guide_do_what_it_says() {
    let Some((cluster, database)) = ready() else { return };
    assert_eq!(blocks("toml"), ["[blnk]\n"]);
    let mut file: Value = serde_json::from_str(&blocks("json")[0]).expect("JSON");
    file["data_source"]["dns"] = json!(cluster.url(&database));
    file["backup_dir"] = json!("HOME/backups");
    let served = Served::new(&file, "");
    let restored = cluster.name("guide");
    let address = format!("http://{}", served.server.address());
    let lines = blocks("sh").concat().replace("http://127.0.0.1:8090", &address);
    let lines = lines.replace("restored", &format!("'{restored}'"));
    let mut shell = cluster.shell(&lines);
    let output = shell.current_dir(served.home.path()).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("\"backup successful\""), "{said}");
    assert!(said.contains("\"sha256\""), "{said}");
    assert_eq!(cluster.sql(&restored, ROWS), cluster.sql(&database, ROWS));
}
