//! The command line while no server runs: restores, undos, clones, and the runbook of
//! `docs/restore.md`, whose lines are run as they stand there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{EMAIL, PASSWORD, Server};
use crate::raw::Request;

/// A folder with an archive, and the photo that is in it.
struct Ground {
    home: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { home: tempfile::tempdir().unwrap() };
        ground.run("superuser upsert admin@example.com 1234567890");
        ground.put("first");
        // The archive comes from a server, as archives do.
        let server = Server::start_ours();
        let token = server.login();
        fs::create_dir_all(server.data_dir().join("storage/c/r")).unwrap();
        fs::write(server.data_dir().join("storage/c/r/photo"), "archived").unwrap();
        assert_eq!(server.send(&Request::new("POST /api/backups").auth(&token)).status, 204);
        let mut made = fs::read_dir(server.data_dir().join("backups")).unwrap();
        let made = made.find_map(|entry| {
            let path = entry.unwrap().path();
            path.extension().is_some_and(|end| end == "zip").then_some(path)
        });
        fs::copy(made.unwrap(), ground.path("backup.zip")).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn put(&self, text: &str) {
        fs::create_dir_all(self.path("pb_data/storage/c/r")).unwrap();
        fs::write(self.path("pb_data/storage/c/r/photo"), text).unwrap();
    }

    fn photo(&self, folder: &str) -> String {
        fs::read_to_string(self.path(folder).join("storage/c/r/photo")).unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, and say this.
    fn fails(&self, arguments: &str, why: &str) {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments} succeeded");
        assert!(said(&output).contains(why), "{arguments}: {}", said(&output));
    }

    fn output(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pocketvault"))
            .current_dir(self.home.path())
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_restore_without_a_server_replaces_the_data_and_can_be_undone() {
    let ground = Ground::new();
    ground.fails("restore backup.zip", "say --yes");
    assert_eq!(ground.photo("pb_data"), "first");
    let done = ground.run("restore backup.zip --yes");
    assert!(done.contains("restored backup.zip (all)") && done.contains("--undo"), "{done}");
    assert_eq!(ground.photo("pb_data"), "archived");
    let done: Value = serde_json::from_str(&ground.run("restore --undo --yes --json")).unwrap();
    assert_eq!((&done["undo"], ground.photo("pb_data").as_str()), (&Value::Bool(true), "first"));
    // A key of a local backup, and a part.
    fs::create_dir_all(ground.path("pb_data/backups")).unwrap();
    fs::copy(ground.path("backup.zip"), ground.path("pb_data/backups/key.zip")).unwrap();
    fs::write(ground.path("pb_data/own"), "x").unwrap();
    ground.run("restore key.zip --only storage/c/r --yes");
    assert_eq!(ground.photo("pb_data"), "archived");
    assert!(ground.path("pb_data/own").exists());
    ground.run(&format!("superuser update {EMAIL} {PASSWORD}"));
    let bay = fs::read_dir(ground.path("pb_data/.pocketvault/restore")).unwrap();
    assert_eq!(bay.count(), 2, "the journal, and what an undo would bring back");
}

#[test]
fn a_plan_is_printed_and_a_bad_archive_is_refused() {
    let ground = Ground::new();
    fs::write(ground.path("pb_data/storage/later"), "x").unwrap();
    let text = ground.run("restore backup.zip --plan");
    assert!(text.contains("can be restored") && text.contains("storage/later"), "{text}");
    let plan: Value =
        serde_json::from_str(&ground.run("restore backup.zip --plan --json")).unwrap();
    assert_eq!((&plan["loss"]["files"], &plan["refused"]), (&Value::from(1), &Value::Null));
    let whole = fs::read(ground.path("backup.zip")).unwrap();
    fs::write(ground.path("cut.zip"), &whole[..whole.len() / 2]).unwrap();
    for arguments in ["restore cut.zip --plan", "restore cut.zip --yes"] {
        ground.fails(arguments, "not a usable zip");
    }
    ground.fails("restore none.zip --yes", "there is no file and no backup");
    ground.fails("restore backup.zip --yes --only data.db", "belong together");
    ground.fails("restore backup.zip --yes --dir mistyped", "does not exist");
    ground.fails("restore --undo --yes", "no restore to undo");
    assert_eq!(ground.photo("pb_data"), "first");
}

#[test]
fn nothing_is_restored_under_a_running_server() {
    let server = Server::start_ours();
    let ground = Ground::new();
    let folder = server.data_dir().display().to_string();
    ground.fails(&format!("restore backup.zip --yes --dir {folder}"), "stop what runs");
    ground.run(&format!("restore backup.zip --plan --dir {folder}"));
}

#[test]
fn data_that_another_program_owns_is_not_replaced_unless_that_is_stopped() {
    let ground = Ground::new();
    fs::write(ground.path("pocketvault.toml"), "beside = true\n").unwrap();
    for arguments in ["backup.zip --yes", "--undo --yes", "backup.zip --yes --into pb_data"] {
        ground.fails(&format!("restore {arguments} --config pocketvault.toml"), "owner-stopped");
    }
    ground.fails("restore backup.zip --yes --beside", "belongs to another program");
    assert_eq!(ground.photo("pb_data"), "first");
    ground.run("restore backup.zip --config pocketvault.toml --plan");
    ground.run("restore backup.zip --config pocketvault.toml --yes --into elsewhere");
    ground.run("restore backup.zip --config pocketvault.toml --yes --owner-stopped");
    assert_eq!(ground.photo("pb_data"), "archived");
}

#[test]
fn a_clone_is_a_new_folder_that_serves() {
    let ground = Ground::new();
    ground.fails("clone backup.zip pb_data", "is not empty");
    ground.fails("clone none.zip new", "there is no file and no backup");
    ground.run("clone backup.zip new");
    assert_eq!(ground.photo("new"), "archived");
    ground.run(&format!("superuser update {EMAIL} {PASSWORD} --dir new"));
    ground.run("restore backup.zip --into elsewhere --only files");
    assert_eq!(ground.photo("elsewhere"), "archived");
    assert!(!ground.path("elsewhere/data.db").exists());
}

#[test]
fn the_runbook_works_as_it_is_written() {
    let text = include_str!("../../docs/restore.md");
    let worst_day = text.split("## The worst day").nth(1).expect("the chapter");
    let blocks: Vec<&str> =
        worst_day.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2, "what is runnable is run");
    let ground = Ground::new();
    // The second block works on the folder that the first one makes.
    fs::remove_dir_all(ground.path("pb_data")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pocketvault")).parent().unwrap();
    let search = format!("{}:{}", program.display(), env::var("PATH").unwrap_or_default());
    let mut lines = 0;
    for line in blocks.iter().flat_map(|block| block.lines()) {
        // It would serve for ever; that it could is what all other tests show.
        if line.starts_with("pocketvault serve") {
            continue;
        }
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(ground.home.path())
            .env("PATH", &search)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        if line.contains("--plan --dir") {
            let plan = String::from_utf8(output.stdout).unwrap();
            assert!(plan.contains("would go     0 files"), "{plan}");
        }
        lines += 1;
    }
    assert_eq!((lines, ground.photo("pb_data").as_str()), (6, "archived"));
}
