//! The command line: every command by the real program, on a folder and against a server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::Request;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The error in JSON, on standard error.
    fn error(&self) -> Value {
        let value: Value = serde_json::from_str(self.err.trim())
            .unwrap_or_else(|error| panic!("{error} in {self:?}"));
        value["error"].clone()
    }
}

/// Runs the program in `home` with these words, and these variables.
pub(crate) fn run_with(home: &Path, words: &[&str], variables: &[(&str, &str)]) -> Ended {
    // What CI sets for the tests is nothing that the program knows.
    let ours = std::env::vars_os().map(|(name, _)| name);
    let ours = ours.filter(|name| name.to_string_lossy().starts_with("POCKETVAULT_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketvault"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    let output = command
        .args(words)
        .current_dir(home)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("it was not killed");
    Ended { code, out: text(output.stdout), err: text(output.stderr) }
}

/// The same, with the words in one line, without variables.
pub(crate) fn run(home: &Path, line: &str) -> Ended {
    run_with(home, &line.split(' ').collect::<Vec<_>>(), &[])
}

/// The same, which must succeed.
pub(crate) fn good(home: &Path, line: &str) -> Ended {
    let ended = run(home, line);
    assert_eq!(ended.code, 0, "{line}: {ended:?}");
    ended
}

/// A folder with a `pb_data` and nobody at work on it.
pub(crate) fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    good(home.path(), &format!("superuser upsert {EMAIL} {PASSWORD}"));
    home
}

fn keys(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| one["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn a_folder_is_backed_up_listed_copied_and_pruned_without_a_server() {
    let home = home();
    let at = home.path();
    let made = good(at, "backup first.zip --label nightly --json");
    let one = made.json();
    assert_eq!((&one["key"], &one["label"]), (&json!("first.zip"), &json!("nightly")), "{one}");
    assert_eq!((&one["proof"]["ok"], &one["method"]), (&json!(true), &json!("manual")), "{one}");
    assert_eq!(made.err, "", "quiet in a pipe");
    assert_eq!(good(at, "list --json").json(), json!([one]));
    let said = good(at, "list").out;
    assert!(said.starts_with("first.zip  ") && said.contains("verified, \"nightly\""), "{said}");

    let fetched = good(at, "download first.zip copy.zip --json").json();
    assert_eq!(fetched["sha256"], one["sha256"]);
    assert_eq!(
        fs::read(at.join("copy.zip")).ok(),
        fs::read(at.join("pb_data/backups/first.zip")).ok()
    );
    let taken = good(at, "upload copy.zip --name second.zip --json").json();
    assert_eq!(taken["origin"], "uploaded", "{taken}");
    assert!(good(at, "verify second.zip").out.starts_with("good: "));
    assert!(good(at, "drill copy.zip").out.contains("superusers could log in"));
    let jobs = good(at, "jobs list --json").json();
    assert_eq!((&jobs[0]["kind"], &jobs[0]["key"]), (&json!("upload"), &json!("second.zip")));
    assert_eq!((&jobs[1]["kind"], &jobs[2]["kind"]), (&json!("verify"), &json!("create")));
    assert!(good(at, "jobs show 1").out.contains("first.zip"));
    assert_eq!(good(at, "status").out.lines().next(), Some("healthy"));

    assert_eq!(run(at, "delete second.zip").code, 5, "nobody confirmed it");
    assert_eq!(keys(&good(at, "list --json").json()).len(), 2);
    good(at, "delete second.zip --yes");
    assert_eq!(keys(&good(at, "list --json").json()), ["first.zip".to_owned()].into());
    let plan = good(at, "restore first.zip --plan --json").json();
    assert_eq!(plan["refused"], Value::Null, "{plan}");
    assert!(good(at, "restore first.zip --yes").out.contains("restored first.zip"));
}

#[test]
fn a_script_can_tell_failures_apart() {
    let home = home();
    let at = home.path();
    good(at, "backup a.zip");
    fs::write(at.join("torn.zip"), "no archive").expect("written");
    fs::write(at.join("bad.toml"), "htpp = 'x'").expect("written");
    for (line, code, kind) in [
        ("backup a.zip --json", 4, "exists"),
        ("backup A.zip --json", 2, "invalid"),
        ("download none.zip --json", 3, "notFound"),
        ("download a.zip torn.zip --json", 4, "exists"),
        ("delete none.zip --yes --json", 3, "notFound"),
        ("delete a.zip --json", 5, "denied"),
        ("upload none.zip --json", 3, "notFound"),
        ("upload torn.zip --json", 7, "corrupt"),
        ("verify none.zip --json", 3, "notFound"),
        ("verify ./torn.zip --json", 7, "corrupt"),
        ("jobs show 99 --json", 3, "notFound"),
        ("jobs cancel 1 --json", 2, "invalid"),
        ("backup --dir none --json", 3, "notFound"),
        ("list --dir none --json", 3, "notFound"),
        ("list --server 127.0.0.1:1 --token x --json", 9, "unavailable"),
        ("list --server 127.0.0.1:1 --json", 5, "unauthenticated"),
        ("list --server ftp://x --token x --json", 2, "invalid"),
        ("health --server 127.0.0.1:1 --json", 9, "unavailable"),
        ("superuser delete none@example.com --json", 3, "notFound"),
    ] {
        let ended = run(at, line);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{line}: {ended:?}");
        let error = ended.error();
        assert_eq!((&error["kind"], &error["code"]), (&json!(kind), &json!(code)), "{line}");
        let ended = run(at, line.trim_end_matches(" --json"));
        assert!(ended.err.starts_with("Error: ") && ended.code == code, "{line}: {ended:?}");
    }
    assert_eq!(run(at, "nonsense").code, 2);
    assert_eq!(run(at, "status --dir none").code, 3);
    assert!(!at.join("none").exists(), "a wrong folder was made");
    let ended = run(at, "config check --config bad.toml");
    assert!(ended.code == 2 && ended.err.contains("htpp"), "{ended:?}");
}

#[test]
fn a_server_is_asked_with_the_same_commands_and_gives_the_same_answers() {
    let mut server = Server::start_ours();
    let (token, data) = (server.login(), server.data_dir());
    let (url, home) = (format!("http://{}", server.address()), tempfile::tempdir().unwrap());
    let at = home.path();
    let ask = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.extend(["--server", &url, "--json"]);
        run_with(at, &words, &[("POCKETVAULT_TOKEN", &token)])
    };
    let fine = |line: &str| {
        let ended = ask(line);
        assert_eq!(
            (ended.code, ended.err.as_str()),
            (0, ""),
            "{line}: {ended:?}\n{}",
            server.log()
        );
        ended.json()
    };
    assert_eq!(fine("health")["code"], 200);
    let one = fine("backup first.zip --label remote");
    assert_eq!((&one["key"], &one["label"]), (&json!("first.zip"), &json!("remote")), "{one}");
    fine("verify first.zip");
    let fetched = fine("download first.zip");
    assert_eq!(fs::read(at.join("first.zip")).ok(), fs::read(data.join("backups/first.zip")).ok());
    let listed = fine("list");
    assert_eq!(listed[0]["sha256"], fetched["sha256"], "{listed}");
    assert_eq!(fine("upload first.zip --name second.zip")["origin"], "uploaded");
    fine("drill second.zip");
    assert_eq!(ask("upload first.zip --name second.zip").error()["kind"], "exists");
    assert_eq!(ask("backup first.zip").error()["kind"], "exists");
    assert_eq!(ask("verify none.zip").error()["kind"], "notFound");
    assert_eq!(fine("status")["health"], "healthy");
    assert_eq!(fine("prune --dry-run")["expired"], json!([]));
    fine("prune");
    let jobs = fine("jobs list");
    let job = jobs[0]["id"].as_u64().expect("a number");
    assert_eq!(fine(&format!("jobs show {job}")), jobs[0]);
    assert_eq!(fine(&format!("jobs follow {job}"))["state"], "done");
    assert_eq!(ask(&format!("jobs cancel {job}")).code, 2, "it has ended");
    let queued = fine("backup --detach")["job"].as_u64().expect("a number");
    assert_eq!(fine(&format!("jobs follow {queued}"))["state"], "done");
    assert_eq!(fine("restore first.zip --plan")["refused"], Value::Null);
    assert_eq!(ask("restore first.zip").code, 5, "nobody confirmed it");
    assert_eq!(fine("restore first.zip --yes")["state"], "done");
    assert_eq!(fine("restore --undo --yes")["state"], "done");
    assert_eq!(fine("delete second.zip --yes")["deleted"], json!(["second.zip"]));

    // What would work beside a server does, what would not says whom to ask.
    let dir = data.to_str().expect("a path");
    let here = good(at, &format!("list --dir {dir} --json")).json();
    assert_eq!(here, fine("list"));
    for line in ["backup", "delete first.zip --yes", "jobs list"] {
        let ended = run(at, &format!("{line} --dir {dir}"));
        assert!(ended.code == 6 && ended.err.contains("--server"), "{line}: {ended:?}");
    }
    assert_eq!(server.stop(std::time::Duration::from_secs(10)), Some(true));
    assert_eq!(run(at, &format!("list --server {url} --token x")).code, 9);
}

#[test]
fn who_asks_is_known_by_a_token_or_by_a_password() {
    let server = Server::start_ours();
    let (url, home) = (server.address().to_string(), tempfile::tempdir().unwrap());
    let words = ["list", "--server", &url, "--json"];
    let ask = |email: &str, password: &str| {
        let variables = [("POCKETVAULT_EMAIL", email), ("POCKETVAULT_PASSWORD", password)];
        run_with(home.path(), &words, &variables)
    };
    assert_eq!(ask(EMAIL, PASSWORD).json(), json!([]));
    let ended = ask(EMAIL, "wrong password");
    assert_eq!((ended.code, &ended.error()["kind"]), (5, &json!("unauthenticated")));
    assert!(!ended.err.contains("wrong password"), "{ended:?}");
    let ended = run_with(home.path(), &words, &[("POCKETVAULT_TOKEN", "stale")]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(!ended.err.contains("stale"), "{ended:?}");
    let help = run_with(home.path(), &["list", "--help"], &[("POCKETVAULT_TOKEN", "sesame")]);
    assert!(!help.out.contains("sesame"), "{help:?}");
    let health = Request::new("GET /api/health").send(server.address()).expect("an answer");
    assert_eq!(health.status, 200);
}

#[test]
fn completions_and_pages_come_from_the_program_itself() {
    let home = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = good(home.path(), &format!("completions {shell}")).out;
        assert!(said.contains("pocketvault") && said.contains("encryptionEnv"), "{shell}: {said}");
    }
    good(home.path(), "man pages");
    let pages: Vec<PathBuf> = fs::read_dir(home.path().join("pages"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let page = fs::read_to_string(home.path().join("pages/pocketvault-jobs-follow.1"));
    assert!(page.expect("a page").contains("pocketvault"));
    assert!(pages.len() > 20, "{pages:?}");
    assert!(good(home.path(), "man").out.contains(".TH pocketvault 1"));
}

#[test]
fn a_configuration_is_checked_before_a_server_stumbles_over_it() {
    let home = home();
    fs::write(home.path().join("pocketvault.toml"), "http = '127.0.0.1:7'\n").expect("written");
    let said = run_with(
        home.path(),
        &["config", "check", "--encryptionEnv", "PV_NO_SUCH_KEY"],
        &[("POCKETVAULT_HTPP", "x")],
    );
    assert_eq!(said.code, 0, "{said:?}");
    for part in ["127.0.0.1:7", "POCKETVAULT_HTPP", "PV_NO_SUCH_KEY", "can be used"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    let answer = good(home.path(), "config check --json").json();
    assert_eq!((&answer["warnings"], &answer["retention"]), (&json!([]), &json!(false)));
}

/// The lines of the `sh` blocks below a heading of `docs/commands.md`.
fn examples(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let text = fs::read_to_string(path).expect("the document");
    let (_, section) = text.split_once(&format!("## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let blocks = section.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().expect("a block"));
    blocks.flat_map(|block| block.lines().map(str::to_owned)).collect()
}

/// Runs the lines one after another, as somebody would type them.
fn type_in(home: &Path, lines: &[String], variables: &[(&str, &str)]) {
    let program = Path::new(env!("CARGO_BIN_EXE_pocketvault"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for line in lines {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(home)
            .env("PATH", &path)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {err}");
    }
}

#[test]
fn every_example_of_the_document_works_as_it_stands_there() {
    let home = home();
    let lines = examples("On a folder");
    assert!(lines.len() > 15, "{lines:?}");
    type_in(home.path(), &lines, &[]);

    let server = Server::start_ours();
    let address = server.address().to_string();
    let lines: Vec<String> = examples("Against a server")
        .iter()
        .map(|line| line.replace("127.0.0.1:8090", &address))
        .collect();
    assert!(lines.len() > 12, "{lines:?}");
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(home.path().join("copy.zip"), folder.path().join("copy.zip")).expect("copied");
    let who = [("POCKETVAULT_EMAIL", EMAIL), ("POCKETVAULT_PASSWORD", PASSWORD)];
    type_in(folder.path(), &lines, &who);
}
