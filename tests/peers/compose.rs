//! `docker-compose.yml` works as written: the S3 server with the arguments that stand there, ours
//! with the variables that stand there. Only folders and addresses are others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bucket::Gateway;
use crate::server::{PASSWORD, Program, scratch};

const ENDPOINT: &str = "POCKETVAULT_S3_ENDPOINT";

/// The `NAME: value` lines below `environment:`.
fn environment(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().skip_while(|line| line.trim() != "environment:").skip(1);
    let pairs = lines.map_while(|line| line.strip_prefix("      ")?.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The words of the last `command: [...]`, which is that of the S3 server.
fn command(text: &str) -> Vec<String> {
    let mut lists = text.lines().filter_map(|line| line.trim().strip_prefix("command: "));
    serde_json::from_str(lists.next_back().expect("a command")).expect("a list of words")
}

#[test]
fn the_compose_file_s_two_services_keep_backups_together() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml");
    let text = fs::read_to_string(file).expect("the file");
    let (mut variables, command) = (environment(&text), command(&text));
    let bucket = variables["POCKETVAULT_S3_BUCKET"].clone();
    let placed = |root: &str, side: &str| {
        let place = |word: &String| match word.as_str() {
            "/objects" => root.to_owned(),
            "/meta" => side.to_owned(),
            _ => word.clone(),
        };
        command.iter().map(place).collect()
    };
    let Some(gateway) = Gateway::start_with(&bucket, placed) else { return };
    assert!(variables.insert(ENDPOINT.to_owned(), gateway.endpoint.clone()).is_some());

    let home = scratch();
    let (program, dir) = (Program::pocketvault(), home.path().join("pb_data"));
    let program = program.with_variables(variables.into_iter().collect());
    program.upsert(&dir, PASSWORD);
    let server = program.serve(&dir);
    let client = server.login(PASSWORD);
    client.post("/api/backups", &json!({ "name": "a.zip" })).expect(204);
    assert_eq!(client.keys(), ["a.zip"]);
    assert!(!dir.join("backups/a.zip").exists(), "it is in the bucket");
    assert!(client.download("a.zip").starts_with(b"PK"));
    client.delete("/api/backups/a.zip").expect(204);
    assert!(client.keys().is_empty());
}
