//! What packages bring: the systemd units, and the socket that they hold.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::home;
use crate::raw::Request;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pocketvault");

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).expect("the file")
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("SKIPPED: there is no {program}");
    }
    found
}

#[test]
fn the_units_are_what_systemd_understands() {
    let service = text("contrib/systemd/pocketvault.service");
    for line in ["DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes"] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    // For whoever has no systemd: nothing but comments, sections and assignments.
    let socket = text("contrib/systemd/pocketvault.socket");
    for line in service.lines().chain(socket.lines()).filter(|line| !line.is_empty()) {
        let is_section = line.starts_with('[') && line.ends_with(']');
        assert!(line.starts_with('#') || is_section || line.contains('='), "{line}");
    }
    if !has("systemd-analyze") {
        return;
    }
    // The program is not installed where the unit expects it, nor its manual.
    let folder = tempfile::tempdir().expect("a folder");
    let service = service.replace("/usr/local/bin/pocketvault", PROGRAM);
    let service = service.replace("Documentation=man:pocketvault(1)\n", "");
    fs::write(folder.path().join("pocketvault.service"), service).expect("written");
    fs::write(folder.path().join("pocketvault.socket"), socket).expect("written");
    let output = Command::new("systemd-analyze")
        .args(["verify", "pocketvault.service", "pocketvault.socket"])
        .current_dir(folder.path())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("pocketvault."), "{said}");
}

#[test]
fn a_server_takes_the_socket_that_systemd_holds() {
    if !has("systemd-socket-activate") {
        return;
    }
    let home = home();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address: SocketAddr = free.expect("a free port");
    let mut child = Command::new("systemd-socket-activate")
        .args(["-l", &address.to_string(), PROGRAM, "serve", "--http", "127.0.0.1:1"])
        .current_dir(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let end = Instant::now() + Duration::from_secs(20);
    let answer = loop {
        match Request::new("GET /api/health").send(address) {
            Ok(answer) => break Some(answer.status),
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(50)),
            Err(_) => break None,
        }
    };
    // It became our program, and stops as that does.
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let status = child.wait().expect("it ends");
    assert_eq!((answer, status.success()), (Some(200), true));
}

#[test]
fn the_image_asks_its_own_server_how_it_is() {
    let file = text("Dockerfile");
    let check = file.lines().find(|line| line.contains("\"health\"")).expect("a health check");
    let words: Vec<&str> = check.split('"').skip(1).step_by(2).collect();
    assert_eq!(words[0], "pocketvault");
    let server = crate::harness::Server::start_ours();
    let port = server.address().port().to_string();
    let ask = |port: &str| {
        let words = words[1..].iter().map(|word| word.replace("8090", port));
        Command::new(PROGRAM).args(words).output().expect("run").status.success()
    };
    assert!(ask(&port));
    assert!(!ask("1"), "nobody answers there");
}
