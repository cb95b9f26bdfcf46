//! What a bucket holds: objects, and uploads on their way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use md5::{Digest, Md5};

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) uploads: Vec<Upload>,
    /// How many uploads there ever were: the next one's number.
    pub(crate) initiated: usize,
}

impl Bucket {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), objects: BTreeMap::new(), uploads: Vec::new(), initiated: 0 }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Arc<Vec<u8>>,
    /// Its length, also where the body is not kept.
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    /// What was told about it when it was made: type, class, encryption, metadata.
    pub(crate) headers: Vec<(String, String)>,
}

impl Object {
    pub(crate) fn new(body: Vec<u8>, headers: Vec<(String, String)>) -> Self {
        let etag = hex(&Md5::digest(&body));
        Self {
            size: body.len() as u64,
            body: Arc::new(body),
            etag,
            modified: SystemTime::now(),
            headers,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// An upload in parts.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) initiated: SystemTime,
    pub(crate) parts: BTreeMap<usize, Object>,
}

impl Upload {
    /// The object of the parts that were named, with their ETags; `None` when one is unknown.
    pub(crate) fn assemble(&self, named: &[(usize, String)]) -> Option<Object> {
        let (mut body, mut digests, mut size) = (Vec::new(), Vec::new(), 0);
        for (number, etag) in named {
            let part = self.parts.get(number).filter(|part| part.etag == etag.trim_matches('"'))?;
            body.extend_from_slice(&part.body);
            digests.extend_from_slice(&unhex(&part.etag));
            size += part.size;
        }
        let mut object = Object::new(body, self.headers.clone());
        object.size = size;
        object.etag = format!("{}-{}", hex(&Md5::digest(&digests)), named.len());
        Some(object)
    }
}

/// The two forms that S3 writes times in.
pub(crate) fn iso(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.filter_map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}
