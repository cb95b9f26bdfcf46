//! A real PocketBase behind our server: it works as if it were alone, its backups are ours, and
//! nobody is refused while a restore goes on.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Client, exchange, host};
use crate::server::{PASSWORD, Program, Server, Settings, eventually, scratch};
use crate::tools::{self, Version};
use crate::world;

/// Every sentence is proven with both versions.
macro_rules! with_each_version {
    ($($sentence:ident),+ $(,)?) => {
        mod v0_40_4 {
            $(#[test] fn $sentence() { super::with(super::Version::V0_40_4, super::$sentence); })+
        }
        mod v0_39_11 {
            $(#[test] fn $sentence() { super::with(super::Version::V0_39_11, super::$sentence); })+
        }
    };
}

with_each_version!(
    an_application_works_through_us_and_comes_back_from_our_backup,
    two_clients_that_never_rest_are_not_refused_during_a_restore,
    the_schedule_is_ours_and_the_program_has_none,
    events_come_through,
    a_folder_is_made_by_the_program_itself,
    a_long_download_is_resumed_after_a_restore,
    the_program_sees_the_true_address_of_a_client,
);

/// What the proofs get: the pair of programs, and PocketBase alone.
struct Stage {
    pair: Program,
    alone: Program,
    scratch: tempfile::TempDir,
}

fn with(version: Version, proof: fn(&Stage)) {
    if let Some(path) = tools::pocketbase(version) {
        let (pair, alone) = (Program::before(path.clone()), Program::pocketbase(path));
        proof(&Stage { pair, alone, scratch: scratch() });
    }
}

impl Stage {
    fn start(&self) -> (Server, Client) {
        let dir = self.scratch.path().join("pb_data");
        self.alone.upsert(&dir, PASSWORD);
        let server = self.pair.serve(&dir);
        let client = server.login(PASSWORD);
        (server, client)
    }
}

fn an_application_works_through_us_and_comes_back_from_our_backup(stage: &Stage) {
    let (server, client) = stage.start();
    world::found(&client);
    let before = world::add_many(&client, "before", 20);
    client.post("/api/backups", &json!({ "name": "point.zip" })).expect(204);
    world::add_many(&client, "after", 10);
    client.post("/api/backups/point.zip/restore", &json!({})).expect(204);
    eventually("the restore is proven", || {
        let log = server.log();
        log.contains("the restore is proven").then_some(()).ok_or(log)
    });
    assert_eq!(world::check(&client), before);
    // One call brings the data of before back, and it can be taken back, too.
    for (round, records) in [(2, 30), (3, 20)] {
        client.post("/api/vault/restore/undo", &json!({})).expect(202);
        eventually("the undo is proven", || {
            let proven = server.log().matches("the restore is proven").count();
            (proven == round).then_some(()).ok_or_else(|| server.log())
        });
        assert_eq!(world::check(&client).len(), records);
    }
    world::add_many(&client, "later", 3);
    let dir = server.dir.clone();
    server.stop();
    // The folder is PocketBase's own still.
    let alone = stage.alone.serve(&dir);
    assert_eq!(world::check(&alone.login(PASSWORD)).len(), 23);
}

/// Clients that write or read without a pause, each on a connection that it keeps.
struct Restless {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<(usize, Duration)>>>,
}

impl Restless {
    fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [true, false, true, false].into_iter().map(|writes| {
            let (stop, client) = (Arc::clone(&stop), client.clone());
            thread::spawn(move || {
                let (mut connection, mut longest, mut count) = (None, Duration::ZERO, 0);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let status = ask(&client, &mut connection, writes, count)?;
                    if status != 200 {
                        return Err(io::Error::other(format!("status {status}")));
                    }
                    longest = longest.max(began.elapsed());
                    count += 1;
                }
                Ok((count, longest))
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// How many requests were answered, and how long the longest took. Fails on the first that
    /// was refused, reset, cut off or not answered with 200.
    fn finish(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().fold((0, Duration::ZERO), |(count, longest), thread| {
            let end = thread.join().expect("a client").expect("every request is answered");
            (count + end.0, longest.max(end.1))
        })
    }
}

/// One request on the connection that is there, or on a new one; gives the status.
fn ask(
    client: &Client,
    connection: &mut Option<BufReader<TcpStream>>,
    writes: bool,
    number: usize,
) -> io::Result<u16> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(host(&client.base))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            BufReader::new(stream)
        }
    };
    let body = if writes {
        json!({ "title": format!("restless-{number}") }).to_string()
    } else {
        String::new()
    };
    let method = if writes { "POST" } else { "GET" };
    let request = format!(
        "{method} /api/collections/notes/records HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        client.token,
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let (status, keep) = answer(&mut stream)?;
    *connection = keep.then_some(stream);
    Ok(status)
}

/// The status of an answer that is read to its end, and whether the connection stays.
fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, bool)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.to_ascii_lowercase());
    }
    let value = |name: &str| head.iter().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let status = head[0].split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(head[0].clone()))?;
    if let Some(length) = value("content-length:").and_then(|length| length.parse().ok()) {
        stream.read_exact(&mut vec![0; length])?;
    } else {
        let mut line = String::new();
        while line != "0\r\n" {
            line.clear();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            stream.read_exact(&mut vec![0; size + 2])?;
        }
    }
    Ok((status, value("connection:") != Some("close")))
}

fn two_clients_that_never_rest_are_not_refused_during_a_restore(stage: &Stage) {
    let (server, client) = stage.start();
    world::found(&client);
    world::add_many(&client, "before", 10);
    client.post("/api/backups", &json!({ "name": "point.zip" })).expect(204);
    let restless = Restless::start(&client);
    thread::sleep(Duration::from_millis(500));
    for round in 1..=2 {
        client.post("/api/backups/point.zip/restore", &json!({})).expect(204);
        eventually("the restore is proven", || {
            let proven = server.log().matches("the restore is proven").count();
            (proven == round).then_some(()).ok_or(format!("{proven} of {round}"))
        });
        thread::sleep(Duration::from_millis(500));
    }
    let (count, longest) = restless.finish();
    // The harness hides what passing tests print.
    let said = format!(
        "{count} requests of 4 clients through 2 restores: 0 refused, reset or cut off; the \
         longest pause was {longest:?}"
    );
    let _ = writeln!(io::stderr(), "{said}");
    assert!(count > 100, "{count} requests");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}

fn the_schedule_is_ours_and_the_program_has_none(stage: &Stage) {
    let dir = stage.scratch.path().join("pb_data");
    stage.alone.upsert(&dir, PASSWORD);
    let alone = stage.alone.serve_with(&dir, Settings::Encrypted);
    let schedule = json!({ "backups": { "cron": "5 4 * * *", "cronMaxKeep": 2 } });
    alone.login(PASSWORD).patch("/api/settings", &schedule).expect(200);
    alone.stop();

    let server = stage.pair.serve_with(&dir, Settings::Encrypted);
    let client = server.login(PASSWORD);
    let shown = |client: &Client| client.get("/api/settings").expect(200).json();
    let taken_over = shown(&client);
    assert_eq!(taken_over["backups"]["cron"], "5 4 * * *");
    assert_eq!(taken_over["trustedProxy"]["headers"], json!([]));
    let jobs = |client: &Client| -> Vec<Value> {
        let jobs = client.get("/api/crons").expect(200).json();
        let jobs = jobs.as_array().expect("a list").clone();
        jobs.into_iter().filter(|job| job["id"] == "__pbAutoBackup__").collect()
    };
    assert_eq!(jobs(&client), [json!({ "id": "__pbAutoBackup__", "expression": "5 4 * * *" })]);
    client.post("/api/crons/__pbAutoBackup__", &json!({})).expect(204);
    eventually("our engine made the backup", || {
        let log = server.log();
        let made = log.contains("made a backup key=@auto_pb_backup_");
        made.then_some(()).ok_or("not yet".to_owned())
    });
    // What is the program's own is changed in the same breath, and wrong is wrong.
    let change = json!({ "backups": { "cron": "6 5 * * *" }, "meta": { "appName": "Both" } });
    let after = client.patch("/api/settings", &change).expect(200).json();
    assert_eq!(
        (&after["backups"]["cron"], &after["meta"]["appName"]),
        (&json!("6 5 * * *"), &json!("Both"))
    );
    for bad in [
        json!({ "backups": { "cron": "61 * * * *" }, "meta": { "appName": "No" } }),
        json!({ "backups": { "cron": "" }, "meta": { "appName": "" } }),
    ] {
        client.patch("/api/settings", &bad).expect(400);
        assert_eq!(shown(&client), after, "all or nothing");
    }
    server.stop();

    let alone = stage.alone.serve_with(&dir, Settings::Encrypted);
    let client = alone.login(PASSWORD);
    let own = shown(&client);
    assert_eq!(own["backups"]["cron"], "", "its own scheduler has nothing to do");
    assert_eq!(
        (&own["backups"]["cronMaxKeep"], &own["meta"]["appName"]),
        (&json!(2), &json!("Both"))
    );
    assert_eq!(jobs(&client), Vec::<Value>::new());
}

fn events_come_through(stage: &Stage) {
    let (_server, client) = stage.start();
    world::found(&client);
    let mut stream = TcpStream::connect(host(&client.base)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    stream.write_all(b"GET /api/realtime HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let connected = lines.find(|line| line.starts_with("data:")).expect("an event");
    let data: Value = serde_json::from_str(&connected["data:".len()..]).expect("JSON");
    let subscribe = json!({ "clientId": data["clientId"], "subscriptions": ["notes/*"] });
    client.post("/api/realtime", &subscribe).expect(204);
    world::add(&client, "seen");
    let event = lines.find(|line| line.contains("\"seen\"")).expect("an event");
    assert!(event.contains("\"create\""), "{event}");
}

fn a_folder_is_made_by_the_program_itself(stage: &Stage) {
    let dir = stage.scratch.path().join("new/pb_data");
    let server = stage.pair.serve(&dir);
    stage.alone.upsert(&dir, PASSWORD);
    let client = server.login(PASSWORD);
    client.post("/api/backups", &json!({ "name": "first.zip" })).expect(204);
    assert_eq!(client.keys(), ["first.zip"]);
    let real = client.get("/api/health").expect(200).json();
    assert_eq!(real["data"]["canBackup"], true);
}

fn the_program_sees_the_true_address_of_a_client(stage: &Stage) {
    let (_server, client) = stage.start();
    let send = |method: &str, path: &str, headers: &str, body: &Value| {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            client.token,
            body.len()
        );
        exchange(&client.base, request.as_bytes()).expect("an answer").status
    };
    let from_there = "X-Real-IP: 10.1.2.3\r\n";
    let trust = json!({ "trustedProxy": { "headers": ["X-Real-IP"] } });
    assert_eq!(send("PATCH", "/api/settings", "", &trust), 200);
    let only_there = json!({ "superuserIPs": ["10.1.2.3"] });
    assert_eq!(send("PATCH", "/api/settings", from_there, &only_there), 200);
    for path in ["/api/collections", "/api/backups", "/api/settings", "/api/logs"] {
        assert_eq!(send("GET", path, from_there, &json!({})), 200, "{path} from there");
        for elsewhere in ["", "X-Forwarded-For: 10.1.2.3\r\n", "X-Real-IP: 10.1.2.4\r\n"] {
            assert_eq!(send("GET", path, elsewhere, &json!({})), 403, "{path} {elsewhere:?}");
        }
    }
}

fn a_long_download_is_resumed_after_a_restore(stage: &Stage) {
    let (server, client) = stage.start();
    let storage = server.dir.join("storage");
    fs::create_dir_all(&storage).expect("a folder");
    // Noise cannot be made smaller; more than the sockets' buffers hold.
    fs::write(storage.join("heavy.bin"), noise(48 << 20)).expect("written");
    client.post("/api/backups", &json!({ "name": "point.zip" })).expect(204);
    let expected = fs::read(server.dir.join("backups/point.zip")).expect("the backup");

    let path = format!("/api/backups/point.zip?token={}", client.file_token());
    let mut stream = TcpStream::connect(host(&client.base)).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).expect("a line");
    }
    let mut got = vec![0; 1 << 20];
    stream.read_exact(&mut got).expect("the first part");
    client.post("/api/backups/point.zip/restore", &json!({})).expect(204);
    eventually("the restore is proven", || {
        let log = server.log();
        log.contains("the restore is proven").then_some(()).ok_or(log)
    });
    // What was on its way arrives, then the connection ends.
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() < expected.len() && expected.starts_with(&got), "{}", got.len());
    let rest = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes={}-\r\n\r\n",
        got.len()
    );
    let rest = exchange(&client.base, rest.as_bytes()).expect("an answer").expect(206);
    got.extend(rest.body);
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}
