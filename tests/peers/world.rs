//! An application's data inside a real PocketBase: records with files, made through its own API,
//! whose contents can be told from their titles, so that any copy can be checked whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::http::Client;

const RECORDS: &str = "/api/collections/notes/records";

/// Makes the collection `notes` and an ordinary user.
pub(crate) fn found(client: &Client) {
    let fields = json!([
        { "name": "title", "type": "text" },
        { "name": "attachment", "type": "file", "maxSelect": 1, "maxSize": 5_000_000 },
    ]);
    let collection = json!({ "name": "notes", "type": "base", "fields": fields });
    client.post("/api/collections", &collection).expect(200);
    let user = json!({
        "email": "user@example.com",
        "password": "an-ordinary-user",
        "passwordConfirm": "an-ordinary-user",
    });
    client.post("/api/collections/users/records", &user).expect(200);
}

/// Adds one record with its file, and gives its id.
pub(crate) fn add(client: &Client, title: &str) -> String {
    let name = format!("{title}.bin");
    let file = ("attachment", name.as_str(), &*contents(title));
    let reply = client.post_form(RECORDS, &[("title", title)], file).expect(200);
    reply.json()["id"].as_str().expect("an id").to_owned()
}

pub(crate) fn add_many(client: &Client, prefix: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).inspect(|t| _ = add(client, t)).collect()
}

/// Fails unless every record of the collection has its own file, byte for byte. Gives the titles.
pub(crate) fn check(client: &Client) -> BTreeSet<String> {
    let mut titles = BTreeSet::new();
    for page in 1.. {
        let list = client.get(&format!("{RECORDS}?perPage=500&page={page}&sort=id"));
        let list = list.expect(200).json();
        let items = list["items"].as_array().expect("items").clone();
        for item in &items {
            let title = item["title"].as_str().expect("a title");
            assert_eq!(file_of(client, item), contents(title), "the file of {title} is another");
            assert!(titles.insert(title.to_owned()), "{title} is there twice");
        }
        if items.is_empty() {
            break;
        }
    }
    titles
}

/// An application that goes on working: it adds records and deletes some of its own again.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Writer {
    pub(crate) fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, until) = (client.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut written = 0;
            while !until.load(Ordering::Relaxed) {
                let id = add(&client, &format!("busy-{written}"));
                if written % 3 == 0 {
                    client.delete(&format!("{RECORDS}/{id}")).expect(204);
                }
                written += 1;
            }
            written
        });
        Self { stop, thread }
    }

    /// How many records were written in all.
    pub(crate) fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the application went on without an error")
    }
}

fn file_of(client: &Client, item: &Value) -> Vec<u8> {
    let id = item["id"].as_str().expect("an id");
    let name = item["attachment"].as_str().expect("a file name");
    client.get(&format!("/api/files/notes/{id}/{name}")).expect(200).body
}

/// Between 1 and 60,000 bytes that only this title has.
fn contents(title: &str) -> Vec<u8> {
    let mut state = title.bytes().fold(14_695_981_039_346_656_037_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    });
    let size = usize::try_from(state % 60_000).expect("a small number") + 1;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state.to_le_bytes()[0]);
    }
    bytes
}
