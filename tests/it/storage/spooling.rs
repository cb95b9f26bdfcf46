//! What goes wrong while a backup is being spooled: we are killed, or the disk fills up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::destinations::{Ground, files, listed, newest_job};
use super::server::{ballast, create, soon};

/// Slow enough that something can happen in the middle.
const SLOW: &str = "[spool]\nretry = 1\n[archive]\nrate_limit_mb_s = 5\n";
const BALLAST: usize = 15 << 20;

/// How many bytes of a backup that is not finished lie in the folder.
fn partial(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let is_partial = |path: PathBuf| path.extension().is_some_and(|end| end == "pocketvault-part");
    let partials = entries.flatten().filter(|entry| is_partial(entry.path()));
    partials.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn killed_in_the_middle_of_spooling_nothing_partial_is_listed_sent_or_left() {
    let ground = Ground::new(SLOW);
    let (server, token) = ground.start();
    ballast(&server, BALLAST);
    ground.bucket.habits(|habits| habits.down = true);
    let spool = server.data_dir().join(".pocketvault/spool");
    thread::scope(|scope| {
        // Its connection breaks.
        scope.spawn(|| {
            let backup = crate::raw::Request::new("POST /api/backups").auth(&token);
            backup.json(&serde_json::json!({ "name": "a.zip" })).send(server.address()).ok()
        });
        soon("half a backup in the spool", || (partial(&spool) > 1 << 20).then_some(()));
        Command::new("kill").args(["-KILL", &server.id().to_string()]).status().expect("kill");
    });
    let server = server.ended();
    assert!(partial(&spool) > 0 && files(&spool) == 0, "the dead cannot clean up");

    ground.bucket.heal();
    let server = server.again_with(&ground.arguments());
    let token = server.login();
    assert_eq!(partial(&spool), 0, "swept at the start");
    assert!(listed(&server, &token, "a.zip").is_none(), "it is nowhere");
    assert_eq!(newest_job(&server, &token)["state"], "interrupted");
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
    assert_eq!(ground.bucket.keys(), ["a.zip"]);
    assert_eq!((partial(&spool), files(&spool)), (0, 0));
}

/// A small disk of its own, gone with this.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, said aloud, for who may not mount.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: only root can mount a small disk");
        }
        mounted.then_some(Self(at))
    }

    /// Lets others fill it to the last byte.
    fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler.pocketvault-test")).expect("made");
        while std::io::Write::write_all(&mut filler, &[1; 1 << 16]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_without_room_is_told_before_and_while_a_backup_is_spooled() {
    let ground = Ground::new(SLOW);
    let (server, token) = ground.start();
    let spool = server.data_dir().join(".pocketvault/spool");
    let Some(disk) = SmallDisk::mount(spool.clone(), "100m") else { return };
    ballast(&server, BALLAST);
    ground.bucket.habits(|habits| habits.down = true);
    let said = thread::scope(|scope| {
        let creating = scope.spawn(|| create(&server, &token, "a.zip"));
        soon("half a backup in the spool", || (partial(&spool) > 1 << 20).then_some(()));
        disk.fill();
        creating.join().expect("an answer")
    });
    assert_eq!(said.status, 400, "{}", said.text());
    let job = newest_job(&server, &token);
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job.to_string().contains("not at spool"), "{job}");
    assert_eq!(files(&spool), 0);
    // There is no room now for a next one, and that is told before anything is written.
    let said = create(&server, &token, "b.zip");
    assert_eq!(said.status, 400, "{}", said.text());
    let job = newest_job(&server, &token);
    assert!(job["error"].to_string().contains("there is no room for it here"), "{job}");
    fs::remove_file(disk.0.join("filler.pocketvault-test")).expect("removed");
    assert_eq!(partial(&spool), 0, "half a backup stayed");
    ground.bucket.heal();
    assert!(listed(&server, &token, "a.zip").is_none(), "nothing was promised");
    assert_eq!(create(&server, &token, "a.zip").status, 204, "{}", server.log());
}
