//! Who may work on a folder: one server, nobody in the middle of a restore, no typing error.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use pocketvault::backup::Key;
use pocketvault::clock::Clock;
use pocketvault::control::Control;
use pocketvault::data_dir::DataDir;
use pocketvault::restore::{self, Phase, Scope};

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::Request;

/// A file as a running backup has it.
const PART: &str = "running.zip.00.pocketvault-part";

#[test]
fn a_second_server_is_refused_and_the_first_is_unharmed() {
    let server = Server::start_ours();
    let token = server.login();
    let folder = server.data_dir();
    fs::create_dir_all(folder.join("backups")).unwrap();
    let part = folder.join("backups").join(PART);
    fs::write(&part, "running").unwrap();
    for beside in [&[][..], &["--beside"]] {
        let second = pocketvault(&["serve", "--http", "127.0.0.1:0"], &folder, beside);
        assert!(!second.status.success());
        assert!(text(&second).contains("another pocketvault (process "), "{}", text(&second));
    }
    assert_eq!(fs::read(&part).unwrap(), b"running");
    fs::remove_file(&part).unwrap();
    let create = Request::new("POST /api/backups").auth(&token);
    assert_eq!(server.send(&create).status, 204);
}

#[test]
fn a_server_takes_its_folder_again_when_it_restarts_itself() {
    let server = Server::start_ours();
    let token = server.login();
    let create = Request::new("POST /api/backups").auth(&token);
    assert_eq!(server.send(&create.json(&serde_json::json!({"name": "a.zip"}))).status, 204);
    let restore = Request::new("POST /api/backups/a.zip/restore").auth(&token);
    assert_eq!(server.send(&restore).status, 204);
    server.wait_until_idle(&token);
    let data = DataDir::new(server.data_dir(), None);
    assert_eq!(restore::status(&data).unwrap().unwrap().phase, Phase::Proven);
    let second = pocketvault(&["serve", "--http", "127.0.0.1:0"], data.root(), &[]);
    assert!(text(&second).contains("another pocketvault (process "), "{}", text(&second));
}

#[test]
fn nothing_is_recovered_under_a_process_that_uses_the_data() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("pb_data");
    assert!(pocketvault(&["superuser", "upsert", EMAIL, PASSWORD], &folder, &[]).status.success());
    let data = DataDir::new(&folder, None);
    stage(&data);
    let before = fs::read(data.data_db()).unwrap();
    let superuser = pocketvault(&["superuser", "upsert", EMAIL, "another-password"], &folder, &[]);
    assert!(!superuser.status.success());
    assert!(text(&superuser).contains("start the server first"), "{}", text(&superuser));
    let other = holder(&data.data_db());
    for beside in [&[][..], &["--beside"]] {
        let server = pocketvault(&["serve", "--http", "127.0.0.1:0"], &folder, beside);
        assert!(!server.status.success());
        assert!(text(&server).contains("of a.zip in"), "{}", text(&server));
        assert!(text(&server).contains("stop PocketBase"), "{}", text(&server));
    }
    end(other);
    assert_eq!(restore::status(&data).unwrap().unwrap().phase, Phase::Staged);
    assert_eq!(fs::read(data.data_db()).unwrap(), before);
}

#[test]
fn a_mistyped_folder_is_not_made() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("mistyped");
    let commands = [&["superuser", "update", EMAIL, PASSWORD][..], &["superuser", "delete", EMAIL]];
    for command in commands {
        let output = pocketvault(command, &folder, &[]);
        assert!(!output.status.success() && text(&output).contains("does not exist"));
    }
    let beside = pocketvault(&["serve", "--http", "127.0.0.1:0"], &folder, &["--beside"]);
    assert!(!beside.status.success() && text(&beside).contains("does not exist"));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_refused_password_is_told_with_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("pb_data");
    let output = pocketvault(&["superuser", "create", EMAIL, "short"], &folder, &[]);
    assert!(!output.status.success());
    assert!(text(&output).contains("\n  password: "), "{}", text(&output));
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("pb_data");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(12_345), Some(12_345)).unwrap();
    let output = pocketvault(&["superuser", "create", EMAIL, PASSWORD], &folder, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let made: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(made.len() >= 2, "{made:?}");
    for entry in made {
        assert_eq!(entry.metadata().unwrap().uid(), 12_345, "{:?}", entry.path());
    }
}

/// A restore of `a.zip` that waits for its swap.
fn stage(data: &DataDir) {
    let archive = data.root().join("a.zip");
    let server = Server::start_ours();
    let token = server.login();
    let create = Request::new("POST /api/backups").auth(&token);
    assert_eq!(server.send(&create.json(&serde_json::json!({"name": "a.zip"}))).status, 204);
    fs::copy(server.data_dir().join("backups/a.zip"), &archive).unwrap();
    let key = Key::existing("a.zip").unwrap();
    let staged =
        restore::stage(data, &archive, &key, &Scope::All, &Clock::system(), &Control::default());
    staged.unwrap().commit().unwrap();
}

fn pocketvault(arguments: &[&str], folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pocketvault"))
        .current_dir(folder.parent().unwrap())
        .args(arguments)
        .arg("--dir")
        .arg(folder)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that has `path` open.
fn holder(path: &Path) -> Child {
    let file = fs::File::open(path).unwrap();
    Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap()
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}
