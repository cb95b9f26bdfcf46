//! Storing one object: whole when it is small, else in parts, several at a time. It appears
//! when it is complete, and counts when the store has told back its size and sum.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use tokio::task::{JoinError, JoinSet};

use crate::backup::{Backup, Key};
use crate::config::storage::Encryption;
use crate::error::{Context, Error, Kind, Result};
use crate::storage::s3::S3Storage;
use crate::storage::s3::client::{Call, Reply, STRICT};
use crate::storage::s3::failure::Failure;
use crate::storage::s3::ledger::{Entry, Record};
use crate::storage::s3::listing::parse;
use crate::storage::s3::parts::{PARTS_MAX, Spare, fill};
use crate::storage::s3::sums::{ALGORITHM, CRC32, Expected, Part, PartCall, Sums, send_part};
use crate::storage::{ByteStream, PutMode, media_type};

/// Says which put an object came from, so that a lost answer can be told from a taken name.
const MARKER: &str = "x-amz-meta-pocketvault-upload";
/// Under which name PocketBase remembers the file's own.
const ORIGINAL_NAME: &str = "x-amz-meta-original-filename";
const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// How often, and how long apart, an object is looked for that must be there.
const LOOKS: u32 = 4;
const LOOK_WAIT: Duration = Duration::from_millis(500);

/// One put.
pub(super) struct Upload<'a> {
    storage: &'a S3Storage,
    key: &'a Key,
    object: String,
    mode: PutMode,
    marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    upload_id: String,
}

impl<'a> Upload<'a> {
    pub(super) fn new(storage: &'a S3Storage, key: &'a Key, mode: PutMode) -> Self {
        let marker = format!("{:032x}", rand::random::<u128>());
        Self { storage, key, object: storage.object(key), mode, marker }
    }

    /// Stores what the stream holds.
    pub(super) async fn store(self, body: ByteStream) -> Result<Backup> {
        // The end is met twice: by the part that it cuts short, and by the one after that.
        let mut body = body.fuse().boxed();
        let first_bytes = self.storage.plan.part_bytes(1);
        let mut left = Bytes::new();
        let buffer = Spare::default().give(first_bytes);
        let first = fill(&mut body, &mut left, first_bytes, buffer).await?;
        match first.len() < first_bytes {
            true => self.store_whole(first).await,
            false => self.store_in_parts(first, left, body).await,
        }
    }

    async fn store_whole(&self, bytes: Bytes) -> Result<Backup> {
        let expected = Expected::whole(&bytes);
        let call = Call::new(Method::PUT, &self.object).headers(&self.headers()).body(bytes);
        let sent = self.send_conditionally(call).await.map(drop);
        self.settle(sent, &expected).await
    }

    async fn store_in_parts(&self, first: Bytes, left: Bytes, body: ByteStream) -> Result<Backup> {
        let client = &self.storage.client;
        let reply = self.initiate().await;
        let upload = reply.and_then(|reply| Ok((upload_id(&reply)?, Sums::promised(&reply))));
        let (upload, sums) = upload.map_err(|failure| self.error(failure))?;
        let record = Record {
            bucket: client.bucket_url().to_owned(),
            object: self.object.clone(),
            upload: upload.clone(),
        };
        let entry = match self.storage.ledger.open(&record) {
            Ok(entry) => entry,
            Err(error) => {
                self.storage.abort(&record).await;
                return Err(error);
            }
        };
        let result = match self.send_parts(&upload, sums, first, left, body).await {
            Ok(parts) => self.complete(&upload, &parts).await,
            Err(error) => Err(error),
        };
        self.leave(&record, entry, result.is_ok()).await;
        result
    }

    /// Begins an upload, with checksums where the store has them.
    async fn initiate(&self) -> Result<Reply, Failure> {
        let call = Call::new(Method::POST, &self.object).query("uploads", "");
        let call = call.headers(&self.headers());
        let client = &self.storage.client;
        let check = |reply: &Reply| upload_id(reply).map(drop);
        if self.storage.offers_checksums() {
            let asking = call.clone().header(ALGORITHM, CRC32);
            match client.send_checked(&asking, check).await {
                Err(failure) if failure.refuses_checksums() => {
                    tracing::info!(?failure, "the S3 server keeps no checksums");
                    self.storage.checksums.forget();
                }
                sent => return sent,
            }
        }
        client.send_checked(&call, check).await
    }

    /// Sends all parts; gives them in order.
    async fn send_parts(
        &self,
        upload: &str,
        sums: Sums,
        first: Bytes,
        mut left: Bytes,
        mut body: ByteStream,
    ) -> Result<Vec<Part>> {
        let plan = self.storage.plan;
        // Dropped with this future, it takes its tasks along.
        let mut tasks: JoinSet<Result<(Part, Bytes), Failure>> = JoinSet::new();
        let (mut parts, mut spare) = (Vec::new(), Spare::default());
        let (mut next, mut number) = (first, 1);
        while !next.is_empty() {
            if number > PARTS_MAX {
                let most = plan.largest_bytes();
                let message = format!("{}: the archive is larger than {most} bytes", self.key);
                return Err(Error::new(Kind::NoSpace, message)
                    .hint("a larger upload_memory_mib makes larger uploads possible"));
            }
            let of = (self.object.as_str(), upload);
            let part = PartCall::new(self.storage, of, sums, number, next);
            tasks.spawn(send_part(self.storage.client.clone(), part));
            number += 1;
            while tasks.len() > plan.at_once(number) {
                if let Some(done) = tasks.join_next().await {
                    parts.push(self.sent(done, &mut spare)?);
                }
            }
            let part_bytes = plan.part_bytes(number);
            let filling = fill(&mut body, &mut left, part_bytes, spare.give(part_bytes));
            tokio::pin!(filling);
            next = loop {
                tokio::select! {
                    part = &mut filling => break part?,
                    Some(done) = tasks.join_next() => parts.push(self.sent(done, &mut spare)?),
                }
            };
        }
        while let Some(done) = tasks.join_next().await {
            parts.push(self.sent(done, &mut spare)?);
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok(parts)
    }

    fn sent(
        &self,
        done: Result<Result<(Part, Bytes), Failure>, JoinError>,
        spare: &mut Spare,
    ) -> Result<Part> {
        let done = done.context("the task of a part stopped")?;
        let (part, bytes) = done.map_err(|failure| self.error(failure))?;
        spare.take_back(bytes);
        Ok(part)
    }

    async fn complete(&self, upload: &str, parts: &[Part]) -> Result<Backup> {
        let named: String = parts.iter().map(Part::named).collect();
        let xml = format!("<CompleteMultipartUpload>{named}</CompleteMultipartUpload>");
        let expected = Expected::of_parts(parts);
        let call = Call::new(Method::POST, &self.object)
            .query("uploadId", upload)
            .header("content-type", "application/xml")
            .body(xml.into());
        let sent = self.send_conditionally(call).await.map(drop);
        self.settle(sent, &expected).await
    }

    /// With `If-None-Match` where nothing may be replaced and the store knows it. Where it does
    /// not, the look before and the look after must do.
    async fn send_conditionally(&self, call: Call) -> Result<Reply, Failure> {
        let client = &self.storage.client;
        if self.mode == PutMode::Create && self.storage.conditions.are_known() {
            match client.send(&call.clone().header("if-none-match", "*")).await {
                Err(failure) if failure.refuses_conditions() => {
                    tracing::warn!("the S3 server has no conditional writes");
                    self.storage.conditions.forget();
                }
                sent => return sent,
            }
        }
        client.send(&call).await
    }

    /// How it ended: what was sent must be there, ours, and whole. After a failure it may be
    /// there all the same, when only the answer was lost.
    async fn settle(&self, sent: Result<(), Failure>, expected: &Expected) -> Result<Backup> {
        let call = expected.question(&self.object);
        let client = &self.storage.client;
        if let Err(failure) = sent {
            return match client.send_once(&call).await {
                Ok(found) if self.is_surely_ours(&found, expected) => {
                    tracing::info!(key = %self.key, "an answer was lost, the upload was not");
                    self.storage.backup_of(self.key, &found)
                }
                _ => Err(self.error(failure)),
            };
        }
        let mut looks = 1;
        let found = loop {
            match client.send(&call).await {
                Ok(found) if expected.is_met(self.storage, &found) => break Ok(found),
                // Some stores need a moment before they see what they have.
                Ok(_) if looks < LOOKS => {}
                Err(failure) if failure.is(StatusCode::NOT_FOUND) && looks < LOOKS => {}
                other => break other,
            }
            looks += 1;
            tokio::time::sleep(LOOK_WAIT).await;
        };
        let found = found.map_err(|failure| self.error(failure))?;
        if self.is_ours(&found) && expected.is_met(self.storage, &found) {
            return self.storage.backup_of(self.key, &found);
        }
        Err(self.spoilt(&found, expected).await)
    }

    /// What is there is not what was sent. If it is surely ours, it goes: it would be listed.
    /// Without a mark it may be another's, written at the same time, and stays.
    async fn spoilt(&self, found: &Reply, expected: &Expected) -> Error {
        if !self.is_ours(found) {
            let message = format!("{}: somebody else wrote it at the same time", self.key);
            return Error::new(Kind::Exists, message);
        }
        let call = Call::new(Method::DELETE, &self.object);
        if found.header(MARKER) != self.marker {
            tracing::error!(key = %self.key, "WHAT THE STORE HAS BY THIS NAME IS NO GOOD BACKUP");
        } else if let Err(failure) = self.storage.client.send(&call).await {
            let error = failure.into_error(self.key.as_str());
            tracing::error!(key = %self.key, error = error.full(), "a spoilt backup stays");
        }
        Error::new(Kind::Corrupt, format!("{}: the store keeps something else", self.key))
            .because(expected.against(found))
            .hint("a store whose ETags are no MD5 sums needs verify_etags = false")
    }

    /// Whether the object came from this put: by its mark, or where the store forgets marks,
    /// for all we can know.
    fn is_ours(&self, found: &Reply) -> bool {
        let mark = found.header(MARKER);
        mark == self.marker || (mark.is_empty() && found.header(ORIGINAL_NAME).is_empty())
    }

    /// Whether it came from this put, told by its mark, or by its sum where marks are forgotten.
    fn is_surely_ours(&self, found: &Reply, expected: &Expected) -> bool {
        let told =
            found.header(MARKER) == self.marker || expected.is_comparable(self.storage, found);
        told && self.is_ours(found) && expected.is_met(self.storage, found)
    }

    /// The upload is over: completed, or aborted. What cannot be aborted now stays written
    /// down and is swept later.
    async fn leave(&self, record: &Record, entry: Entry, completed: bool) {
        if !completed && !self.storage.abort(record).await {
            return;
        }
        if let Err(error) = entry.close() {
            tracing::warn!(error = error.full(), "the record of an upload stays");
        }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.storage.new_object_headers(self.key.as_str(), &self.marker)
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error(self.key.as_str())
    }
}

impl S3Storage {
    /// What a new object is told to be.
    pub(super) fn new_object_headers(
        &self,
        name: &str,
        marker: &str,
    ) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("content-type", media_type(name).to_owned()),
            (ORIGINAL_NAME, utf8_percent_encode(name, STRICT).to_string()),
            (MARKER, marker.to_owned()),
        ];
        if let Some(class) = &self.extras.storage_class {
            headers.push(("x-amz-storage-class", class.clone()));
        }
        match &self.extras.encryption {
            None => {}
            Some(Encryption::Aes256) => headers.push((ENCRYPTION, "AES256".to_owned())),
            Some(Encryption::Kms(key)) => {
                headers.push((ENCRYPTION, "aws:kms".to_owned()));
                if let Some(key) = key {
                    headers.push(("x-amz-server-side-encryption-aws-kms-key-id", key.clone()));
                }
            }
        }
        headers
    }
}

/// The store's name for an upload that it began.
pub(super) fn upload_id(reply: &Reply) -> Result<String, Failure> {
    parse::<Initiated>(reply).map(|initiated| initiated.upload_id)
}
