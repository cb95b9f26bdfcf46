//! Scalingo's face: the requests of their command line and their Go client, byte for byte, and
//! what becomes of the backups that they ask for.

mod calls;
mod guide;
mod life;
mod sqlite;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::Server;
use crate::raw::{Request, Response};

/// The API token that the servers of these tests know.
const API_TOKEN: &str = "tk-us-0123456789abcdef";
/// Where the database of these tests is.
const DB: &str = "/api/databases/ad-ledger";

/// What their Go client sends with every request, in its order.
fn headers(request: Request, authorization: Option<String>) -> Request {
    let mut request = request.header("User-Agent", "Scalingo CLI v1.48.0");
    request = match &request.body {
        Some(body) => {
            let length = body.len().to_string();
            request.header("Content-Length", length)
        }
        None => request,
    };
    request = request.header("Accept", "application/json");
    if let Some(value) = authorization {
        request = request.header("Authorization", value);
    }
    request.header("Content-Type", "application/json").header("Accept-Encoding", "gzip")
}

/// A request as their Go client makes it: a bare `?` behind what is got or deleted, a body of
/// JSON otherwise.
fn go(line: &str, body: &str, authorization: Option<String>) -> Request {
    let bare = line.starts_with("GET ") || line.starts_with("DELETE ");
    let mut request = Request::new(&format!("{line}{}", if bare { "?" } else { "" }));
    request.body = (!bare).then(|| body.as_bytes().to_vec());
    headers(request, authorization)
}

/// A basic login without a user.
fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!(":{token}")))
}

/// A server with the face, and the tokens that were exchanged there.
#[derive(Debug)]
struct Host {
    server: Server,
    config: TempDir,
    account: String,
    database: String,
}

impl Host {
    /// With the database at `url` as `ledger`, and more lines.
    fn new(url: &str, more: &str) -> Self {
        let hash: String =
            Sha256::digest(API_TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        let config = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[[database]]\nname = 'ledger'\nurl = \"{url}\"\n\
             [scalingo]\napp = 'my-app'\ntoken_hashes = ['{hash}']\n{more}\n\
             [[scalingo.addon]]\ndatabase = 'ledger'\n[[scalingo.addon]]\ntype = 'sqlite'\n"
        );
        let file = config.path().join("pocketvault.toml");
        fs::write(&file, text).expect("written");
        let file = file.to_str().expect("UTF-8").to_owned();
        let server = Server::start_ours_with(&["--config", &file]);
        let mut host = Self { server, config, account: String::new(), database: String::new() };
        host.log_in();
        host
    }

    /// The same folder and options again, in a new process.
    fn again(self, kill: bool) -> Self {
        let server = if kill { self.server.killed() } else { self.server };
        let file = self.config.path().join("pocketvault.toml");
        let server = server.again_with(&["--config", file.to_str().expect("UTF-8")]);
        Self { server, ..self }
    }

    fn log_in(&mut self) {
        let exchanged =
            self.server.send(&go("POST /v1/tokens/exchange", "{}", Some(basic(API_TOKEN))));
        assert_eq!(exchanged.status, 200, "{}", exchanged.text());
        self.account = exchanged.json()["token"].as_str().expect("a token").to_owned();
        self.database = self.pass("ad-ledger");
    }

    /// A token for a database.
    fn pass(&self, addon: &str) -> String {
        let line = format!("POST /v1/apps/my-app/addons/{addon}/token");
        let given = self.server.send(&go(&line, "{}", Some(format!("Bearer {}", self.account))));
        assert_eq!(given.status, 200, "{}", given.text());
        given.json()["addon"]["token"].as_str().expect("a token").to_owned()
    }

    /// A request with the database's token.
    fn send(&self, line: &str) -> Response {
        self.server.send(&go(line, "{}", Some(format!("Bearer {}", self.database))))
    }

    /// All backups of the database.
    fn list(&self) -> Vec<Value> {
        let listed = self.send(&format!("GET {DB}/backups"));
        assert_eq!(listed.status, 200, "{}", listed.text());
        listed.json()["database_backups"].as_array().expect("a list").clone()
    }

    /// Asks for a backup; its id.
    fn create(&self) -> String {
        let made = self.send(&format!("POST {DB}/backups"));
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["database_backup"]["id"].as_str().expect("an id").to_owned()
    }

    /// The backup, as the command line looks at it.
    fn show(&self, id: &str) -> Value {
        self.send(&format!("GET /api/backups/{id}")).json()["database_backup"].clone()
    }

    /// Looks until the backup has that status.
    fn wait(&self, id: &str, status: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let backup = self.show(id);
            if backup["status"] == status {
                return backup;
            }
            assert!(Instant::now() < end, "{backup}\n{}", self.server.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A link to the backup, without the host.
    fn link(&self, id: &str) -> String {
        let archive = self.send(&format!("GET {DB}/backups/{id}/archive"));
        assert_eq!(archive.status, 200, "{}", archive.text());
        let url = archive.json()["download_url"].as_str().expect("a URL").to_owned();
        let host = format!("http://{}", self.server.address());
        url.strip_prefix(&host).unwrap_or_else(|| panic!("{url}")).to_owned()
    }

    /// What anybody gets from a link.
    fn download(&self, link: &str) -> Response {
        let request = Request::new(&format!("GET {link}"));
        self.server.send(&request.header("User-Agent", "Go-http-client/1.1"))
    }
}

/// Unpacks what was downloaded by the system's tar; the only file in it.
fn unpacked(home: &std::path::Path, archive: &[u8]) -> std::path::PathBuf {
    let file = home.join("backup.tar.gz");
    fs::write(&file, archive).expect("written");
    let into = home.join("unpacked");
    fs::create_dir_all(&into).expect("a folder");
    let mut tar = std::process::Command::new("tar");
    let output = tar.arg("zxf").arg(&file).arg("-C").arg(&into).output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: Vec<_> = fs::read_dir(&into).expect("listed").flatten().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).path()
}
