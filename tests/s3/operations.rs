//! Requests become operations on buckets.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use percent_encoding::NON_ALPHANUMERIC;
use regex::Regex;

use super::World;
use super::bucket::{Bucket, Object, Upload, iso};
use super::faults::{Conditions, Effect, Habits};
use super::http::{Connection, Head, Reply};
use super::{signature, sums};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    List,
    ListUploads,
    Get,
    Head,
    Put,
    Initiate,
    Part,
    Complete,
    Abort,
    Delete,
    Unknown,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) operation: Operation,
    pub(crate) key: String,
    pub(crate) part: Option<usize>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Serves one connection to its end.
pub(super) fn serve(stream: &TcpStream, world: &Mutex<World>, stopped: &AtomicBool) {
    let mut connection = Connection::new(stream);
    while let Some(head) = connection.head() {
        if stopped.load(Ordering::Acquire) || exchange(&mut connection, &head, world).is_none() {
            return;
        }
    }
}

/// One request and its answer; `None` ends the connection.
fn exchange(connection: &mut Connection<'_>, head: &Head, world: &Mutex<World>) -> Option<()> {
    let lock = || world.lock().unwrap_or_else(PoisonError::into_inner);
    let operation = operation(head);
    let part = head.query("partNumber").and_then(|text| text.parse().ok());
    let (habits, effect) = {
        let mut world = lock();
        let key = head.target().1;
        world.seen.push(Seen { operation, key, part, headers: head.headers.clone() });
        let effect = world.faults.iter_mut().find_map(|fault| fault.strike(operation, part));
        (world.habits.clone(), effect)
    };
    if habits.down {
        connection.reset();
        return None;
    }
    if let Some(Effect::ResetAfterBytes(bytes)) = effect {
        connection.body(head, bytes, None).ok()?;
        connection.reset();
        return None;
    }
    let rate = match effect {
        Some(Effect::BytesPerSecond(rate)) => Some(rate),
        _ => None,
    };
    let mut body = connection.body(head, usize::MAX, rate).ok()?;
    let checked = signature::check(head, &body, habits.clock_ahead_s);
    if let Some(Effect::KeepOnlyBytes(bytes)) = effect {
        body.truncate(bytes);
    }
    if let (Some(Effect::SpoilLastByte), Some(last)) = (&effect, body.last_mut()) {
        *last ^= 1;
    }
    let mut reply = match (checked, &effect) {
        (Err(refused), _) => refused,
        (_, Some(Effect::Status(status, code))) => Reply::error(*status, code),
        (_, Some(Effect::ErrorInside(code))) => Reply::error(200, code),
        (_, Some(Effect::NotXml)) => Reply::xml(200, "<html>welcome to the hotel".to_owned()),
        _ => perform(head, operation, body, &mut lock()),
    };
    match effect {
        Some(Effect::Silence(silence)) => std::thread::sleep(silence),
        Some(Effect::ResetInsteadOfAnswer) => {
            connection.reset();
            return None;
        }
        Some(Effect::WrongEtag) => {
            for (_, value) in reply.headers.iter_mut().filter(|(name, _)| name == "ETag") {
                *value = format!("\"{:032x}\"", 7);
            }
        }
        Some(Effect::TruncateAfterBytes(bytes)) => {
            connection.answer(&reply, true, Some(bytes), None).ok()?;
            return None;
        }
        _ => {}
    }
    connection.answer(&reply, head.method != "HEAD", None, rate).ok()
}

fn operation(head: &Head) -> Operation {
    let has = |name| head.query(name).is_some();
    let of_bucket = head.target().1.is_empty();
    match head.method.as_str() {
        "GET" if of_bucket && has("uploads") => Operation::ListUploads,
        "GET" if of_bucket => Operation::List,
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        "PUT" if has("uploadId") => Operation::Part,
        "PUT" if !of_bucket => Operation::Put,
        "POST" if has("uploads") => Operation::Initiate,
        "POST" if has("uploadId") => Operation::Complete,
        "DELETE" if has("uploadId") => Operation::Abort,
        "DELETE" => Operation::Delete,
        _ => Operation::Unknown,
    }
}

fn perform(head: &Head, operation: Operation, body: Vec<u8>, world: &mut World) -> Reply {
    let habits = world.habits.clone();
    let reads = matches!(
        operation,
        Operation::List | Operation::ListUploads | Operation::Get | Operation::Head
    );
    if habits.read_only && !reads {
        return Reply::error(403, "AccessDenied");
    }
    let (name, key) = head.target();
    let Some(bucket) = world.bucket(&name) else { return Reply::error(404, "NoSuchBucket") };
    match operation {
        Operation::List => list(head, bucket, &habits),
        Operation::ListUploads => list_uploads(head, bucket),
        Operation::Get | Operation::Head => get(head, bucket.objects.get(&key), &habits),
        Operation::Put => match refused(head, bucket.objects.get(&key), &habits) {
            Some(refused) => refused,
            None => {
                let object = kept(Object::new(body, told(head)), &habits);
                let reply = Reply::new(200).header("ETag", quoted(&object.etag));
                bucket.objects.insert(key, object);
                reply
            }
        },
        Operation::Initiate if sums::refuses(head, &habits) => Reply::error(400, "InvalidArgument"),
        Operation::Initiate => {
            bucket.initiated += 1;
            let id = format!("upload-{}", bucket.initiated);
            let parts = std::collections::BTreeMap::new();
            let (headers, initiated) = (told(head), SystemTime::now());
            bucket.uploads.push(Upload { id: id.clone(), key, headers, initiated, parts });
            let inner = format!("<UploadId>{id}</UploadId>");
            let tag = "InitiateMultipartUploadResult";
            let reply = Reply::xml(200, format!("<{tag}>{inner}</{tag}>"));
            sums::initiated(head, reply, habits.checksums)
        }
        Operation::Part => put_part(head, bucket, body, &habits),
        Operation::Complete => complete(head, bucket, &key, &body, &habits),
        Operation::Abort => {
            let id = head.query("uploadId").unwrap_or_default();
            let before = bucket.uploads.len();
            bucket.uploads.retain(|upload| upload.id != id);
            match bucket.uploads.len() < before {
                true => Reply::new(204),
                false => Reply::error(404, "NoSuchUpload"),
            }
        }
        Operation::Delete => {
            bucket.objects.remove(&key);
            Reply::new(204)
        }
        Operation::Unknown => Reply::error(405, "MethodNotAllowed"),
    }
}

fn put_part(head: &Head, bucket: &mut Bucket, body: Vec<u8>, habits: &Habits) -> Reply {
    let id = head.query("uploadId").unwrap_or_default();
    let number = head.query("partNumber").and_then(|text| text.parse().ok()).unwrap_or(0);
    if !(1..=10_000).contains(&number) {
        return Reply::error(400, "InvalidArgument");
    }
    let Some(upload) = bucket.uploads.iter_mut().find(|upload| upload.id == id) else {
        return Reply::error(404, "NoSuchUpload");
    };
    let mut part = Object::new(body, Vec::new());
    let reply = Reply::new(200).header("ETag", quoted(&part.etag));
    let reply = sums::part(head, &mut part, reply, habits.checksums);
    if reply.status != 200 {
        return reply;
    }
    let part = kept(part, habits);
    upload.parts.insert(number, part);
    reply
}

fn complete(head: &Head, bucket: &mut Bucket, key: &str, body: &[u8], habits: &Habits) -> Reply {
    let id = head.query("uploadId").unwrap_or_default();
    if let Some(refused) = refused(head, bucket.objects.get(key), habits) {
        return refused;
    }
    let Some(index) = bucket.uploads.iter().position(|upload| upload.id == id) else {
        return Reply::error(404, "NoSuchUpload");
    };
    let upload = &bucket.uploads[index];
    let named = named_parts(&String::from_utf8_lossy(body));
    let small = |(number, _): &(usize, String)| {
        upload.parts.get(number).is_some_and(|part| part.size < habits.part_bytes_min)
    };
    if named.split_last().is_some_and(|(_, before)| before.iter().any(small)) {
        return Reply::error(400, "EntityTooSmall");
    }
    if named.is_empty() || !named.windows(2).all(|two| two[0].0 < two[1].0) {
        return Reply::error(400, "InvalidPartOrder");
    }
    let Some(mut object) = upload.assemble(&named) else {
        return Reply::error(400, "InvalidPart");
    };
    sums::complete(upload, &mut object);
    if habits.opaque_etags {
        object.etag = format!("opaque-{}", object.size);
    }
    let etag = object.etag.clone();
    bucket.objects.insert(key.to_owned(), object);
    bucket.uploads.remove(index);
    let tag = "CompleteMultipartUploadResult";
    Reply::xml(200, format!("<{tag}><ETag>&quot;{etag}&quot;</ETag></{tag}>"))
}

fn named_parts(xml: &str) -> Vec<(usize, String)> {
    let part = Regex::new(r"(?s)<Part>(.*?)</Part>").expect("a pattern");
    let inner = |text: &str, tag: &str| {
        let found = text.split_once(&format!("<{tag}>"))?.1;
        let (value, _) = found.split_once(&format!("</{tag}>"))?;
        Some(value.replace("&quot;", "\"").replace("&#34;", "\""))
    };
    let parts = part.captures_iter(xml);
    let pair = |text: &str| Some((inner(text, "PartNumber")?.parse().ok()?, inner(text, "ETag")?));
    parts.filter_map(|found| pair(&found[1])).collect()
}

fn get(head: &Head, object: Option<&Object>, habits: &Habits) -> Reply {
    let Some(object) = object else { return Reply::error(404, "NoSuchKey") };
    if head.header("if-match").is_some_and(|etag| etag != quoted(&object.etag)) {
        return Reply::error(412, "PreconditionFailed");
    }
    let modified = httpdate::fmt_http_date(object.modified);
    let mut reply = Reply::new(200)
        .header("ETag", quoted(&object.etag))
        .header("Last-Modified", modified)
        .header("Accept-Ranges", "bytes");
    for (name, value) in &object.headers {
        if !(habits.forgets_metadata && name.starts_with("x-amz-meta-")) {
            reply = reply.header(name, value.clone());
        }
    }
    let range = head.header("range").and_then(|text| text.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|text| text.split_once('-')) else {
        reply.length = Some(object.size);
        reply.body = object.body.to_vec();
        return reply;
    };
    let size = object.body.len();
    let first: usize = first.parse().unwrap_or(0);
    let end = last.parse::<usize>().map_or(size, |last| last.saturating_add(1)).min(size);
    if first >= end {
        return Reply::error(416, "InvalidRange");
    }
    reply.status = 206;
    reply.body = object.body[first..end].to_vec();
    reply.header("Content-Range", format!("bytes {first}-{}/{size}", end - 1))
}

fn list(head: &Head, bucket: &Bucket, habits: &Habits) -> Reply {
    let prefix = head.query("prefix").unwrap_or_default();
    let after = head.query("continuation-token").or(head.query("start-after"));
    let asked = head.query("max-keys").and_then(|text| text.parse().ok());
    let page = asked.unwrap_or(1000).min(habits.page_keys);
    let delimiter = head.query("delimiter").filter(|text| !text.is_empty());
    let encoded = head.query("encoding-type") == Some("url");
    let (mut inner, mut count, mut last, mut truncated) = (String::new(), 0, String::new(), false);
    let mut folders: Vec<String> = Vec::new();
    for (key, object) in bucket.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        if after.is_some_and(|after| key.as_str() <= after) {
            continue;
        }
        let rest = &key[prefix.len()..];
        let folder = delimiter.and_then(|by| rest.find(by).map(|at| &rest[..at + by.len()]));
        if folder.is_some_and(|folder| folders.iter().any(|known| known == folder)) {
            last = key.clone();
            continue;
        }
        if count == page {
            truncated = true;
            break;
        }
        count += 1;
        last = key.clone();
        match folder {
            Some(folder) => folders.push(folder.to_owned()),
            None => inner.push_str(&format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
                written(key, encoded),
                iso(object.modified),
                object.etag,
                object.size
            )),
        }
    }
    for folder in folders {
        let full = written(&format!("{prefix}{folder}"), encoded);
        inner.push_str(&format!("<CommonPrefixes><Prefix>{full}</Prefix></CommonPrefixes>"));
    }
    inner.push_str(&format!("<IsTruncated>{truncated}</IsTruncated>"));
    if encoded {
        inner.push_str("<EncodingType>url</EncodingType>");
    }
    if truncated {
        let token = written(&last, false);
        inner.push_str(&format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    }
    Reply::xml(200, format!("<ListBucketResult>{inner}</ListBucketResult>"))
}

fn list_uploads(head: &Head, bucket: &Bucket) -> Reply {
    let prefix = head.query("prefix").unwrap_or_default();
    let uploads = bucket.uploads.iter().filter(|upload| upload.key.starts_with(prefix));
    let inner: String = uploads
        .map(|upload| {
            format!(
                "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}</Initiated></Upload>",
                written(&upload.key, false),
                upload.id,
                iso(upload.initiated)
            )
        })
        .collect();
    let tag = "ListMultipartUploadsResult";
    Reply::xml(200, format!("<{tag}>{inner}<IsTruncated>false</IsTruncated></{tag}>"))
}

/// What a conditional write is answered with when it may not happen.
fn refused(head: &Head, there: Option<&Object>, habits: &Habits) -> Option<Reply> {
    let wants = head.header("if-match");
    head.header("if-none-match").or(wants)?;
    match (habits.conditions, wants, there) {
        (Conditions::Refused, _, _) => Some(Reply::error(501, "NotImplemented")),
        (Conditions::Ignored, _, _) => None,
        (Conditions::Kept, Some(_), None) => Some(Reply::error(404, "NoSuchKey")),
        (Conditions::Kept, Some(etag), Some(there)) if etag == quoted(&there.etag) => None,
        (Conditions::Kept, None, None) => None,
        (Conditions::Kept, _, Some(_)) => Some(Reply::error(412, "PreconditionFailed")),
    }
}

fn kept(mut object: Object, habits: &Habits) -> Object {
    if habits.discards_bodies {
        object.body = std::sync::Arc::new(Vec::new());
    }
    object
}

/// The headers that stay with an object.
fn told(head: &Head) -> Vec<(String, String)> {
    let stays = |name: &str| {
        name.starts_with("x-amz-meta-")
            || name.starts_with("x-amz-server-side-encryption")
            || name == "x-amz-storage-class"
            || name == "content-type"
    };
    head.headers.iter().filter(|(name, _)| stays(name)).cloned().collect()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn written(text: &str, encoded: bool) -> String {
    if encoded {
        return percent_encoding::utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    }
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
