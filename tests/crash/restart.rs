//! A process that replaces itself while a client waits at its port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pocketvault::restore::{Restart, inherited_listener};

/// Listens, waits until somebody is in the backlog, and replaces itself; the second life
/// answers with what it is.
#[test]
#[ignore = "started by the other test"]
fn child() {
    let report = std::env::var("RESTART_REPORT").unwrap();
    if let Some(listener) = inherited_listener().unwrap() {
        listener.set_nonblocking(false).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let life = format!("{} {}", std::process::id(), arguments.join(" "));
        client.write_all(life.as_bytes()).unwrap();
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let restart = Restart::of_this_process().unwrap();
    // Any descriptor number may be taken, the one that systemd's protocol starts with too.
    let _third = std::fs::File::open("/dev/null").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(format!("{report}.part"), port.to_string()).unwrap();
    std::fs::rename(format!("{report}.part"), &report).unwrap();
    while !std::path::Path::new(&format!("{report}.go")).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{:?}", restart.exec(Some(&listener)));
}

#[test]
fn a_client_in_the_backlog_survives_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("port");
    let arguments = ["--exact", "restart::child", "--ignored", "--test-threads=1"];
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env("RESTART_REPORT", &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let port: u16 = loop {
        if let Ok(text) = std::fs::read_to_string(&report) {
            break text.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "the child never listened");
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::fs::write(dir.path().join("port.go"), "").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(answer, format!("{} {}", process.id(), arguments.join(" ")));
}
