//! A real PocketBase and our server with their backups in one bucket: on versitygw, an
//! independent S3 server, and on the tests' own, which checks every signature.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::http::Client;
use crate::s3::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET};
use crate::server::{OTHER_PASSWORD, PASSWORD, Program, eventually, free_address, scratch};
use crate::tools::{self, Version};
use crate::world;

const START_LIMIT: Duration = Duration::from_secs(30);

/// What a backup to a bucket may take above the idle process, in MiB.
const MEMORY_MIB_MAX: u64 = 64;

/// A running versitygw with one bucket.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) endpoint: String,
    _home: TempDir,
}

impl Gateway {
    fn start() -> Option<Self> {
        Self::start_with(BUCKET, |root, side| {
            let options = ["--access", ACCESS_KEY, "--secret", SECRET, "--region", REGION, "posix"];
            [&options[..], &["--sidecar", side, root]]
                .concat()
                .into_iter()
                .map(Into::into)
                .collect()
        })
    }

    /// With a bucket, and arguments by the folder of the buckets and the one beside it.
    pub(crate) fn start_with(
        bucket: &str,
        arguments: impl Fn(&str, &str) -> Vec<String>,
    ) -> Option<Self> {
        let program = tools::versitygw()?;
        let home = scratch();
        let [root, side] = ["root", "meta"].map(|name| home.path().join(name));
        fs::create_dir_all(root.join(bucket)).expect("a bucket");
        fs::create_dir_all(&side).expect("a folder");
        let text = |path: &Path| path.to_str().expect("a path").to_owned();
        let address = free_address();
        let log = File::create(home.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(["--port", &address])
            .args(arguments(&text(&root), &text(&side)))
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the S3 server");
        let gateway = Self { child, endpoint: format!("http://{address}"), _home: home };
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < START_LIMIT, "the S3 server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Some(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Turns the bucket on, as an administrator would.
fn use_bucket(client: &Client, endpoint: &str) {
    let settings = json!({ "backups": { "s3": {
        "enabled": true,
        "bucket": BUCKET,
        "region": REGION,
        "endpoint": endpoint,
        "accessKey": ACCESS_KEY,
        "secret": SECRET,
        "forcePathStyle": true,
    } } });
    client.patch("/api/settings", &settings).expect(200);
    client.post("/api/settings/test/s3", &json!({ "filesystem": "backups" })).expect(204);
}

/// Enough that nothing compresses, so that both upload in parts.
fn ballast(dir: &Path) {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(20 << 20);
    while bytes.len() < 20 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::create_dir_all(dir.join("storage")).expect("a folder");
    fs::write(dir.join("storage/ballast.bin"), bytes).expect("written");
}

fn both_share(endpoint: &str) {
    let Some(path) = tools::pocketbase(Version::V0_40_4) else { return };
    let (peer, ours, scratch) = (Program::pocketbase(path), Program::pocketvault(), scratch());
    let dir = |name: &str| scratch.path().join(name).join("pb_data");

    // PocketBase, with an application's data, puts its backup there.
    peer.upsert(&dir("theirs"), PASSWORD);
    ballast(&dir("theirs"));
    let server = peer.serve(&dir("theirs"));
    let there = server.login(PASSWORD);
    world::found(&there);
    let titles = world::add_many(&there, "shared", 10);
    use_bucket(&there, endpoint);
    there.post("/api/backups", &json!({ "name": "theirs.zip" })).expect(204);

    // Ours, with other data, lists, downloads and restores it.
    ours.upsert(&dir("ours"), OTHER_PASSWORD);
    let server_of_ours = ours.serve(&dir("ours"));
    let here = server_of_ours.login(OTHER_PASSWORD);
    use_bucket(&here, endpoint);
    assert_eq!(here.keys(), ["theirs.zip"]);
    let archive = here.download("theirs.zip");
    assert!(archive == there.download("theirs.zip"), "byte for byte");
    here.post("/api/backups/theirs.zip/restore", &json!({})).expect(204);
    let here = eventually("ours serves the data of PocketBase", || {
        Client::login(&server_of_ours.base, crate::server::EMAIL, PASSWORD)
    });
    here.post("/api/backups", &json!({ "name": "ours.zip" })).expect(204);
    here.upload("sent.zip", &archive);

    // PocketBase lists, downloads and restores what we wrote.
    assert_eq!(there.keys(), ["ours.zip", "sent.zip", "theirs.zip"]);
    assert!(there.download("sent.zip") == archive, "byte for byte");
    assert!(there.download("ours.zip") == here.download("ours.zip"), "byte for byte");
    world::add_many(&there, "too-late", 3);
    there.post("/api/backups/ours.zip/restore", &json!({})).expect(204);
    let there = eventually("PocketBase serves what we archived", || {
        let client = Client::login(&server.base, crate::server::EMAIL, PASSWORD)?;
        let records = "/api/collections/notes/records?perPage=500";
        // It is not there for a moment while it restarts.
        let found = client.try_send("GET", records, "", b"").map_err(|error| error.to_string())?;
        match found.status == 200 && !found.text().contains("too-late") {
            true => Ok(client),
            false => Err(found.status.to_string()),
        }
    });
    assert_eq!(world::check(&there), titles);

    // Each deletes what the other made.
    there.delete("/api/backups/ours.zip").expect(204);
    here.delete("/api/backups/theirs.zip").expect(204);
    assert_eq!(there.keys(), ["sent.zip"]);
    assert_eq!(here.keys(), ["sent.zip"]);
}

#[test]
fn a_bucket_on_a_real_s3_server_is_shared_with_a_pocketbase() {
    if let Some(gateway) = Gateway::start() {
        both_share(&gateway.endpoint);
    }
}

#[test]
fn a_bucket_that_checks_every_signature_is_shared_with_a_pocketbase() {
    let server = S3Server::start();
    both_share(&server.endpoint());
}

#[test]
fn a_real_s3_server_passes_the_whole_test() {
    let Some(gateway) = Gateway::start() else { return };
    let home = scratch();
    let output = Command::new(env!("CARGO_BIN_EXE_pocketvault"))
        .args(["storage", "test", "--s3-bucket", BUCKET, "--s3-path-style"])
        .args(["--s3-endpoint", &gateway.endpoint, "--s3-region", REGION])
        .envs([("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)])
        .current_dir(home.path())
        .output()
        .expect("the program");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("lacks") && !text.contains("FAILED"), "{text}");
}

/// Keeps `benches/s3` alive, and judges one of its numbers: the memory, whatever the size.
#[test]
fn the_bench_measures_both_places_and_the_memory_stays_flat() {
    if tools::installed("python3", "--version").is_none() {
        return;
    }
    let Some(gateway) = tools::versitygw() else { return };
    let work = scratch();
    let output = Command::new("python3")
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/s3/run.py"))
        .args(["--sizes", "50,200", "--rounds", "1"])
        .args(["--ours", env!("CARGO_BIN_EXE_pocketvault")])
        .arg("--work")
        .arg(work.path())
        .env("POCKETVAULT_PEER_VERSITYGW", gateway)
        .output()
        .expect("the bench runs");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{said}");
    for row in ["| 50 | disk |", "| 50 | bucket |", "| 200 | disk |", "| 200 | bucket |"] {
        let line = table.lines().find(|line| line.starts_with(row)).unwrap_or_default();
        let memory = line.split('|').nth(6).and_then(|cell| cell.trim().parse::<u64>().ok());
        let memory = memory.unwrap_or_else(|| panic!("no row {row:?} in\n{table}"));
        assert!(memory <= MEMORY_MIB_MAX, "{memory} MiB in {line}");
    }
}
