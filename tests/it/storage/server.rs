//! The whole server with its backups in a bucket: what clients get, what job records say, and
//! what is left in the bucket and on the disk, also when things go wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PART, noise};
use crate::harness::Server;
use crate::raw::{Request, Response};
use crate::s3::{ACCESS_KEY, BUCKET, Effect, Fault, Operation, REGION, S3Server, SECRET};

/// Longest wait for something that happens behind an answer.
const SOON: Duration = Duration::from_secs(30);

fn settings(bucket: &S3Server) -> Value {
    json!({ "backups": { "s3": {
        "enabled": true,
        "bucket": BUCKET,
        "region": REGION,
        "endpoint": bucket.endpoint(),
        "accessKey": ACCESS_KEY,
        "secret": SECRET,
        "forcePathStyle": true,
    } } })
}

/// A server whose settings name the bucket, and a superuser's token.
pub(super) fn served(bucket: &S3Server, arguments: &[&str]) -> (Server, String) {
    let server = Server::start_ours_with(arguments);
    let token = server.login();
    let patch = Request::new("PATCH /api/settings").auth(&token).json(&settings(bucket));
    let patched = server.send(&patch);
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert!(!patched.text().contains(SECRET), "a secret is answered");
    (server, token)
}

pub(super) fn create(server: &Server, token: &str, name: &str) -> Response {
    let request = Request::new("POST /api/backups").auth(token);
    server.send(&request.json(&json!({ "name": name })))
}

pub(super) fn keys(server: &Server, token: &str) -> Vec<String> {
    let list = server.send(&Request::new("GET /api/backups").auth(token));
    assert_eq!(list.status, 200, "{}", list.text());
    let list = list.json();
    let keys = list.as_array().expect("a list").iter();
    keys.map(|backup| backup["key"].as_str().expect("a key").to_owned()).collect()
}

pub(super) fn file_token(server: &Server, token: &str) -> String {
    let issued = server.send(&Request::new("POST /api/files/token").auth(token));
    issued.json()["token"].as_str().expect("a token").to_owned()
}

/// Makes the archive of the server's folder larger by so many bytes that nothing compresses.
pub(super) fn ballast(server: &Server, bytes: usize) {
    let folder = server.data_dir().join("storage/ballast");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("noise.bin"), noise(bytes)).expect("written");
}

#[test]
fn a_backup_s_whole_life_in_a_bucket() {
    let bucket = S3Server::start();
    bucket.place("photo.jpg", b"not ours");
    let (server, token) = served(&bucket, &[]);
    ballast(&server, 20 << 20);
    let test = Request::new("POST /api/settings/test/s3").auth(&token);
    let tested = server.send(&test.json(&json!({ "filesystem": "backups" })));
    assert_eq!(tested.status, 204, "{}", tested.text());

    let created = create(&server, &token, "a.zip");
    assert_eq!(created.status, 204, "{} {}", created.text(), server.log());
    assert_eq!(keys(&server, &token), ["a.zip"]);
    assert!(bucket.count(Operation::Part) >= 2, "it went out in parts");
    assert_eq!(create(&server, &token, "a.zip").status, 400, "the name is taken");
    assert!(!server.data_dir().join("backups/a.zip").exists(), "no copy on the disk");

    let object = bucket.object("a.zip").expect("there");
    let target =
        |key: &str| format!("GET /api/backups/{key}?token={}", file_token(&server, &token));
    let whole = server.send(&Request::new(&target("a.zip")));
    assert_eq!(whole.status, 200);
    assert!(whole.body == *object.body, "byte for byte");
    let range = Request::new(&target("a.zip")).header("Range", "bytes=1000000-1000009");
    let part = server.send(&range);
    assert_eq!((part.status, &part.body[..]), (206, &object.body[1_000_000..1_000_010]));
    assert_ne!(server.send(&Request::new(&target("photo.jpg"))).status, 200, "not ours");

    // The data changes, and a restore brings it back from the bucket.
    fs::remove_file(server.data_dir().join("storage/ballast/noise.bin")).expect("removed");
    let restore = server.send(&Request::new("POST /api/backups/a.zip/restore").auth(&token));
    assert_eq!(restore.status, 204, "{}", restore.text());
    let token = soon("the restored server", || {
        let there = server.data_dir().join("storage/ballast/noise.bin").exists();
        there.then(|| server.login())
    });
    assert_eq!(keys(&server, &token), ["a.zip"]);

    let delete = server.send(&Request::new("DELETE /api/backups/a.zip").auth(&token));
    assert_eq!(delete.status, 204, "{}", delete.text());
    assert_eq!(bucket.keys(), ["photo.jpg"], "what is not ours stays");
    assert!(!server.log().contains(SECRET), "a secret is logged");
}

#[test]
fn a_backup_that_fails_is_told_and_is_nowhere() {
    let bucket = S3Server::start();
    let config = tempfile::tempdir().expect("a folder");
    let file = config.path().join("pocketvault.toml");
    fs::write(&file, "[s3]\nretry_for = 1\n[spool]\nwhen = 'never'\n").expect("written");
    let (server, token) = served(&bucket, &["--config", file.to_str().expect("a path")]);
    ballast(&server, 20 << 20);
    for effect in [Effect::Status(503, "SlowDown"), Effect::ResetAfterBytes(100_000)] {
        bucket.fault(Fault::on(Operation::Part, effect.clone()).part(2).always());
        let failed = create(&server, &token, "a.zip");
        assert_eq!(failed.status, 400, "{effect:?}: {}", failed.text());
        assert!(!failed.text().contains("SlowDown"), "causes are for the log");
        bucket.heal();
        assert!(keys(&server, &token).is_empty(), "{effect:?}");
        let left = (bucket.keys().len(), bucket.uploads().len());
        assert_eq!(left, (0, 0), "{effect:?} {}", server.log());
    }
    let jobs = server.send(&Request::new("GET /api/vault/jobs").auth(&token)).text();
    assert!(jobs.contains("failed") && jobs.contains("a.zip"), "{jobs}");
    assert_eq!(create(&server, &token, "a.zip").status, 204, "once it is well again");
    assert_eq!(keys(&server, &token), ["a.zip"]);

    bucket.habits(|habits| habits.down = true);
    for request in ["GET /api/backups", "POST /api/backups", "DELETE /api/backups/a.zip"] {
        let answer = server.send(&Request::new(request).auth(&token));
        assert_eq!(answer.status, 400, "{request}: {}", answer.text());
    }
    bucket.heal();
    assert_eq!(keys(&server, &token), ["a.zip"], "nothing was lost");
    let uploads = server.data_dir().join(".pocketvault/uploads");
    assert_eq!(fs::read_dir(uploads).map_or(0, Iterator::count), 0, "nothing is remembered");
}

#[test]
fn a_bucket_of_our_own_options_needs_no_settings() {
    let bucket = S3Server::start();
    let home = tempfile::tempdir().expect("a folder");
    let file = configured(&bucket, home.path(), "prefix = 'nightly'\nsse = 'AES256'\n");
    let server = Server::start_ours_with(&["--config", &file, "--s3-storage-class", "STANDARD_IA"]);
    let token = server.login();
    assert_eq!(create(&server, &token, "a.zip").status, 204);
    assert_eq!(keys(&server, &token), ["a.zip"]);
    let object = bucket.object("nightly/a.zip").expect("below the prefix");
    assert_eq!(object.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(object.header("x-amz-server-side-encryption"), Some("AES256"));
    let shown = server.send(&Request::new("GET /api/settings").auth(&token)).json();
    assert_eq!(shown["backups"]["s3"]["enabled"], false, "PocketBase's settings stay as they are");
    assert!(!server.log().contains(SECRET), "a secret is logged");
}

pub(super) fn configured(bucket: &S3Server, home: &Path, more: &str) -> String {
    let file = home.join("pocketvault.toml");
    let text = format!(
        "[s3]\nbucket = '{BUCKET}'\nendpoint = '{}'\nregion = '{REGION}'\npath_style = true\n\
         access_key = '{ACCESS_KEY}'\nsecret_key = '{SECRET}'\n{more}",
        bucket.endpoint()
    );
    fs::write(&file, text).expect("written");
    file.to_str().expect("a path").to_owned()
}

/// Runs `storage test` with a configuration in a folder of its own.
fn storage_test(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketvault"));
    command.args(["storage", "test", "--dir"]).arg(home.join("pb_data")).args(arguments);
    command.current_dir(home).envs(variables.iter().copied());
    command.output().expect("the program")
}

#[test]
fn the_test_of_a_bucket_says_what_it_lacks() {
    let bucket = S3Server::start();
    let home = tempfile::tempdir().expect("a folder");
    let file = configured(&bucket, home.path(), "retry_for = 1\n");
    let run = || {
        let output = storage_test(home.path(), &["--config", &file], &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(SECRET), "a secret is shown");
        (output.status.success(), text)
    };
    let (good, text) = run();
    assert!(good && !text.contains("lacks") && !text.contains("FAILED"), "{text}");
    for step in ["ranges", "conditional writes", "upload in parts", "list of uploads", "delete"] {
        assert!(text.contains(&format!("ok      {step}\n")), "{step}: {text}");
    }
    bucket.habits(|habits| habits.conditions = crate::s3::Conditions::Ignored);
    let (good, text) = run();
    assert!(good && text.contains("lacks   conditional writes: ignored"), "{text}");
    bucket.habits(|habits| habits.read_only = true);
    let (good, text) = run();
    assert!(!good && text.contains("FAILED  write") && text.contains("be allowed"), "{text}");
    bucket.heal();
    assert!(bucket.keys().is_empty() && bucket.uploads().is_empty(), "nothing stays");
}

#[test]
fn the_test_finds_buckets_and_keys_in_the_environment_and_folders_without() {
    let bucket = S3Server::start();
    let home = tempfile::tempdir().expect("a folder");
    let endpoint = bucket.endpoint();
    let variables = [
        ("S3_BACKUP_BUCKET", BUCKET),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("POCKETVAULT_S3_PATH_STYLE", "1"),
    ];
    let output = storage_test(home.path(), &[], &variables);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Bucket backups at http"), "{output:?}");
    let output = storage_test(home.path(), &[], &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Folder "), "{output:?}");
}

#[test]
fn what_a_killed_server_left_in_the_bucket_is_given_back() {
    let bucket = S3Server::start();
    let home = tempfile::tempdir().expect("a folder");
    let (pb_data, file) = (home.path().join("pb_data"), configured(&bucket, home.path(), ""));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketvault"));
        command.args(arguments).arg("--dir").arg(&pb_data).args(["--config", &file]);
        command.current_dir(home.path()).stdout(fs::File::create(home.path().join("out")).unwrap());
        command.stderr(Stdio::null());
        command
    };
    let upsert = ["superuser", "upsert", crate::harness::EMAIL, crate::harness::PASSWORD];
    assert!(command(&upsert).status().expect("the program").success());
    let folder = pb_data.join("storage");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("noise.bin"), noise(8 * PART)).expect("written");
    // The second part never gets through, so that the upload is on its way when it is killed.
    bucket.fault(Fault::on(Operation::Part, Effect::Status(503, "SlowDown")).part(2).always());
    let serve = ["serve", "--http", "127.0.0.1:0"];
    let mut child = command(&serve).spawn().expect("the server");
    let out = home.path().join("out");
    let address = || {
        let text = fs::read_to_string(&out).ok()?;
        let port = text.split("http://127.0.0.1:").nth(1)?;
        let digits = port.find(|letter: char| !letter.is_ascii_digit())?;
        format!("127.0.0.1:{}", &port[..digits]).parse::<std::net::SocketAddr>().ok()
    };
    let address = soon("an address", address);
    let login = Request::new("POST /api/collections/_superusers/auth-with-password");
    let login = login.json(&json!({
        "identity": crate::harness::EMAIL, "password": crate::harness::PASSWORD
    }));
    let token =
        soon("a token", || login.send(address).ok()?.json()["token"].as_str().map(str::to_owned));
    let backup = Request::new("POST /api/backups").auth(&token);
    std::thread::spawn(move || backup.json(&json!({ "name": "a.zip" })).send(address));
    soon("a part", || bucket.uploads().iter().any(|u| !u.parts.is_empty()).then_some(()));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(bucket.uploads().len(), 1, "the dead cannot clean up");
    bucket.heal();

    let mut child = command(&serve).spawn().expect("the server");
    soon("nothing on its way", || bucket.uploads().is_empty().then_some(()));
    soon("nothing remembered", || {
        let left = fs::read_dir(pb_data.join(".pocketvault/uploads")).ok()?.count();
        (left == 0).then_some(())
    });
    let backups = bucket.keys().into_iter().filter(|key| key.ends_with(".zip"));
    assert_eq!(backups.count(), 0, "the lock of the dead expires by itself");
    child.kill().expect("killed");
    child.wait().expect("ended");
}

pub(super) fn soon<T>(what: &str, probe: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < SOON, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
