//! Nobody is refused: requests wait while the program or we ourselves come back.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{server, server_with};
use crate::harness::Server;
use crate::raw::{Request, connect, read_response};

fn pid(server: &Server) -> u32 {
    server.send(&Request::new("GET /pid")).text().parse().expect("a number")
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("it can be signalled");
}

fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Clients that ask all the time, half of them on connections that they keep.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<io::Result<(usize, Duration)>>>,
}

impl Load {
    fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (stop, address) = (Arc::clone(&stop), server.address());
                thread::spawn(move || {
                    let (mut asked, mut longest) = (0, Duration::ZERO);
                    let mut kept = None;
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        let connection = if number % 2 == 0 { "keep-alive" } else { "close" };
                        let request = Request::new("GET /pid").header("Connection", connection);
                        let mut stream = match kept.take() {
                            Some(stream) => stream,
                            None => connect(address)?,
                        };
                        io::Write::write_all(&mut stream, &request.bytes(address))?;
                        let answer = read_response(&mut stream, false)?;
                        if answer.status != 200 {
                            return Err(io::Error::other(format!("{}", answer.status)));
                        }
                        let close = answer.header("Connection") == Some("close");
                        kept = (!close && number % 2 == 0).then_some(stream);
                        asked += 1;
                        longest = longest.max(began.elapsed());
                    }
                    Ok((asked, longest))
                })
            })
            .collect();
        Self { stop, clients }
    }

    /// How many requests were answered, and how long the longest took.
    fn finish(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let ends = self.clients.into_iter().map(|client| client.join().expect("a client"));
        ends.map(|end| end.expect("nobody is refused"))
            .fold((0, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1.max(one.1)))
    }
}

#[test]
fn a_program_that_dies_is_started_again_and_requests_wait_for_it() {
    let (server, _) = server();
    let mut pids = BTreeSet::from([pid(&server)]);
    for _ in 0..3 {
        // Who was at it learns that it broke; a GET is tried once more, and breaks again.
        assert_eq!(server.send(&Request::new("POST /die")).status, 502);
        assert!(pids.insert(pid(&server)), "another process answers");
    }
    // A wrapper's child, too: the whole group ends before the next one starts.
    let last = pid(&server);
    assert!(pids.iter().filter(|pid| runs(**pid)).eq([&last]), "{pids:?}");
    assert!(server.log().contains("the program ended by itself"), "{}", server.log());
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let (server, token) = server_with(&["--request-wait", "1"]);
    std::fs::write(server.data_dir().join(super::stand_in::BEHAVIOUR), "dies").expect("written");
    assert_eq!(server.send(&Request::new("POST /die")).status, 502);
    let began = Instant::now();
    let answer = server.send(&Request::new("GET /pid"));
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("5")));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(server.send(&Request::new("GET /api/backups").auth(&token)).status, 200);
    let told = server.send(&Request::new("GET /api/vault/program").auth(&token)).json();
    assert_eq!((&told["ready"], &told["ended"]), (&false.into(), &"exit status: 7".into()));
    assert!(told["deaths"].as_u64().is_some_and(|deaths| deaths > 0), "{told}");
    std::fs::remove_file(server.data_dir().join(super::stand_in::BEHAVIOUR)).expect("removed");
}

#[test]
fn the_program_ends_with_us_however_we_end() {
    let (mut server, _) = server();
    let first = pid(&server);
    assert_eq!(server.stop(Duration::from_secs(10)), Some(true), "{}", server.log());
    assert!(!runs(first));
    let (server, _) = super::server();
    let orphan = pid(&server);
    let _killed = server.killed();
    let end = Instant::now() + Duration::from_secs(10);
    while runs(orphan) {
        assert!(Instant::now() < end, "it lives on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_sighup_replaces_us_and_nobody_notices() {
    let (server, token) = server();
    let before = pid(&server);
    let load = Load::start(&server);
    thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        let old = pid(&server);
        signal(server.id(), Signal::HUP);
        let end = Instant::now() + Duration::from_secs(20);
        while pid(&server) == old {
            assert!(Instant::now() < end, "{}", server.log());
            thread::sleep(Duration::from_millis(100));
        }
    }
    let (answered, longest) = load.finish();
    println!("{answered} requests through two restarts, the longest took {longest:?}");
    assert!(answered > 20 && longest < Duration::from_secs(15), "{answered} {longest:?}");
    assert_ne!(pid(&server), before);
    assert_eq!(server.send(&Request::new("GET /api/backups").auth(&token)).status, 200);
}

#[test]
fn events_and_slow_requests_survive_or_end_in_good_order() {
    let (server, _) = server();
    let mut events = connect(server.address()).expect("a connection");
    io::Write::write_all(&mut events, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let address = server.address();
    let slow = thread::spawn(move || Request::new("GET /slow").send(address));
    thread::sleep(Duration::from_millis(300));
    let old = server.id();
    signal(old, Signal::HUP);
    let ended = read_response(&mut events, false).expect("a clean end of the events");
    assert!(ended.text().contains("data: 0"), "{}", ended.text());
    let slow = slow.join().expect("a client").expect("an answer");
    assert_eq!(slow.text(), "slow");
    assert_eq!(server.send(&Request::new("GET /pid")).status, 200);
}

/// Started as systemd starts a service by its socket.
#[test]
fn a_socket_that_was_handed_to_us_is_served_and_handed_on() {
    let home = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    // A client that comes before the service was started waits in the queue.
    let early = thread::spawn(move || Request::new("GET /api/health").send(address));
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve";
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_pocketvault")])
        .current_dir(home.path())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let child = Ending(child);
    assert_eq!(early.join().expect("a client").expect("an answer").status, 200);
    signal(child.0.id(), Signal::HUP);
    for _ in 0..30 {
        let answer = Request::new("GET /api/health").send(address).expect("never refused");
        assert_eq!(answer.status, 200);
        thread::sleep(Duration::from_millis(50));
    }
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
