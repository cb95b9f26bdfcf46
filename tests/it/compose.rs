//! `docker-compose.yml` as it stands: what it tells our program is what that understands, and
//! both services mean the same bucket.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

fn compose() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml"))
        .expect("the file")
}

/// The `NAME: value` lines below `environment:`.
fn environment(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().skip_while(|line| line.trim() != "environment:").skip(1);
    let pairs = lines.map_while(|line| line.strip_prefix("      ")?.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The words of every `command: [...]`.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lists = text.lines().filter_map(|line| line.trim().strip_prefix("command: "));
    lists.map(|list| serde_json::from_str(list).expect("a list of words")).collect()
}

#[test]
fn the_services_of_the_compose_file_fit_together_and_to_our_program() {
    let text = compose();
    assert!(!text.contains('\t'), "YAML has no tabs");
    let (variables, commands) = (environment(&text), commands(&text));
    let help = Command::new(env!("CARGO_BIN_EXE_pocketvault")).args(["serve", "--help"]).output();
    let help = String::from_utf8(help.expect("the program").stdout).expect("text");
    for name in variables.keys().filter(|name| name.starts_with("POCKETVAULT_")) {
        assert!(help.contains(&format!("{name}=")), "our program knows no {name}");
    }
    for flag in commands[0].iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag.as_str()), "our program knows no {flag}");
    }
    let after = |flag: &str| {
        let at = commands[1].iter().position(|word| word == flag).expect(flag);
        commands[1][at + 1].clone()
    };
    assert_eq!(variables["AWS_ACCESS_KEY_ID"], after("--access"));
    assert_eq!(variables["AWS_SECRET_ACCESS_KEY"], after("--secret"));
    let bucket = format!("objects:/objects/{}", variables["POCKETVAULT_S3_BUCKET"]);
    assert!(text.contains(&bucket), "the volume is the bucket");
    let images: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    assert!(!images.is_empty());
    for image in images {
        let (_, tag) = image.rsplit_once(':').expect("a tag");
        assert!(tag != "latest" && !tag.contains('/'), "{image} has no fixed public tag");
    }
}

#[test]
fn docker_understands_the_compose_file() {
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()
    };
    if !docker(&["compose", "version"]).is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: docker compose is not installed");
        return;
    }
    let checked = docker(&["compose", "config", "--quiet"]).expect("docker");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
