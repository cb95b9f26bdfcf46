//! Tests of a bucket: PocketBase's short one, and a thorough one that says in words what the
//! store can do. Everything they write lies in a folder of its own and is deleted again.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::error::{Error, Kind, Result};
use crate::storage::s3::client::Call;
use crate::storage::s3::failure::Failure;
use crate::storage::s3::options::S3Options;
use crate::storage::s3::{S3Storage, listing, parts};

/// How long the short test may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Smallest first part that S3 takes, in bytes.
const PART_BYTES: usize = 5 << 20;
const TEXT: &[u8] = b"pocketvault tests this bucket";

/// What one step of the test showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub step: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What that means, in words; empty when there is nothing to say.
    pub said: String,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Good,
    /// The store cannot do it, and backups work without.
    Missing,
    /// It fails, and backups need it.
    Failed,
}

/// Tries a bucket as PocketBase does: put an object, list it, delete it.
///
/// # Errors
/// What the server or the way to it answered.
pub async fn test_s3(options: &S3Options) -> Result<()> {
    let storage = S3Storage::new(options)?;
    let client = &storage.asking;
    let folder = format!("pb_settings_test_{:08x}/", rand::random::<u32>());
    let object = format!("{folder}test.txt");
    let step = |failure: Failure| failure.into_error("test");
    let trial = async {
        let put = Call::new(Method::PUT, &object).body(Bytes::from_static(b"test"));
        client.send(&put).await.map_err(step)?;
        let listed = listing::objects(client, &folder).await;
        // Whatever the list says, nothing of ours may stay.
        client.send(&Call::new(Method::DELETE, &object)).await.map_err(step)?;
        listed.map_err(step)
    };
    let listed = tokio::time::timeout(TEST_TIME_MAX, trial)
        .await
        .map_err(|_| Error::new(Kind::Unavailable, "the S3 server does not answer in time"))??;
    match listed.len() {
        1 => Ok(()),
        found => Err(Error::new(Kind::Unavailable, format!("the list shows {found} of 1 object"))),
    }
}

/// Tries everything that backups use, one finding per step; ends early when nothing can be
/// written.
///
/// # Errors
/// The options make no client.
pub async fn probe(options: &S3Options) -> Result<Vec<Finding>> {
    let storage = S3Storage::new(options)?;
    let folder = format!("{}pocketvault_test_{:08x}/", storage.folder(), rand::random::<u32>());
    let mut probe = Probe { storage, folder, findings: Vec::new() };
    if probe.write().await {
        probe.list().await;
        probe.ranges().await;
        probe.conditions().await;
        probe.multipart().await;
        probe.abort().await;
    }
    probe.clean_up().await;
    Ok(probe.findings)
}

struct Probe {
    storage: S3Storage,
    folder: String,
    findings: Vec<Finding>,
}

impl Probe {
    fn object(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    fn found(&mut self, step: &'static str, verdict: Verdict, said: impl Into<String>) {
        self.findings.push(Finding { step, verdict, said: said.into() });
    }

    fn good(&mut self, step: &'static str) {
        self.found(step, Verdict::Good, "");
    }

    fn failed(&mut self, step: &'static str, failure: Failure) {
        self.found(step, Verdict::Failed, failure.into_error(step).full());
    }

    async fn write(&mut self) -> bool {
        const STEP: &str = "write and read back";
        let object = self.object("a.zip");
        let client = &self.storage.asking;
        let put = Call::new(Method::PUT, &object)
            .headers(&self.storage.new_object_headers("a.zip", "probe"))
            .body(Bytes::from_static(TEXT));
        let head = Call::new(Method::HEAD, &object);
        let sent = match client.send(&put).await {
            Ok(_) => client.send(&head).await,
            Err(failure) => Err(failure),
        };
        match sent {
            Err(failure) => {
                self.failed(STEP, failure);
                return false;
            }
            Ok(found) if found.header("content-length") != TEXT.len().to_string() => {
                self.found(STEP, Verdict::Failed, "the size that comes back is another one");
                return false;
            }
            Ok(found) => {
                self.good(STEP);
                self.sums(found.etag());
                self.kept("metadata", found.header("x-amz-meta-pocketvault-upload") == "probe");
                let class = self.storage.extras.storage_class.clone();
                if let Some(class) = class.filter(|class| class != "STANDARD") {
                    self.kept("storage class", found.header("x-amz-storage-class") == class);
                }
                if self.storage.extras.encryption.is_some() {
                    let told = !found.header("x-amz-server-side-encryption").is_empty();
                    self.kept("server-side encryption", told);
                }
            }
        }
        true
    }

    fn sums(&mut self, etag: &str) {
        const STEP: &str = "checksums";
        if !self.storage.compares_etags() {
            self.found(
                STEP,
                Verdict::Missing,
                "ETags are not compared here; sizes are, and the store checks each part itself",
            );
        } else if etag == parts::etag_of(TEXT) {
            self.good(STEP);
        } else if parts::is_sum(etag) {
            self.found(STEP, Verdict::Failed, "its ETag is another MD5 sum: verify_etags = false?");
        } else {
            self.found(STEP, Verdict::Missing, "its ETags are no MD5 sums; sizes are compared");
        }
    }

    fn kept(&mut self, step: &'static str, kept: bool) {
        match kept {
            true => self.good(step),
            false => self.found(step, Verdict::Missing, "the store does not give it back"),
        }
    }

    async fn list(&mut self) {
        const STEP: &str = "list";
        match listing::objects(&self.storage.asking, &self.folder).await {
            Ok(listed) if listed.len() == 1 && listed[0].object == self.object("a.zip") => {
                self.good(STEP);
            }
            Ok(listed) => {
                let said = format!("it shows {} of 1 object", listed.len());
                self.found(STEP, Verdict::Failed, said);
            }
            Err(failure) => self.failed(STEP, failure),
        }
    }

    async fn ranges(&mut self) {
        const STEP: &str = "ranges";
        let call = Call::new(Method::GET, &self.object("a.zip")).header("range", "bytes=3-6");
        match self.storage.asking.send(&call).await {
            Ok(reply) if reply.body[..] == TEXT[3..7] => self.good(STEP),
            Ok(_) => self.found(
                STEP,
                Verdict::Failed,
                "it sends something else: broken downloads cannot be continued",
            ),
            Err(failure) => self.failed(STEP, failure),
        }
    }

    async fn conditions(&mut self) {
        const STEP: &str = "conditional writes";
        const FALLBACK: &str = "a new name is looked for before and after the upload instead";
        let call = Call::new(Method::PUT, &self.object("a.zip"))
            .header("if-none-match", "*")
            .body(Bytes::from_static(TEXT));
        match self.storage.asking.send(&call).await {
            Err(failure) if failure.is(StatusCode::PRECONDITION_FAILED) => self.good(STEP),
            Err(failure) if failure.refuses_conditions() => {
                self.found(STEP, Verdict::Missing, format!("refused: {FALLBACK}"));
            }
            Err(failure) => self.failed(STEP, failure),
            Ok(_) => self.found(STEP, Verdict::Missing, format!("ignored: {FALLBACK}")),
        }
    }

    async fn multipart(&mut self) {
        const STEP: &str = "upload in parts";
        let object = self.object("b.zip");
        let end = match self.two_parts(&object).await {
            Ok(size) if size == (PART_BYTES + TEXT.len()).to_string() => (Verdict::Good, ""),
            Ok(_) => (Verdict::Failed, "the size that comes back is another one"),
            Err(failure) => return self.failed(STEP, failure),
        };
        self.found(STEP, end.0, end.1);
    }

    /// Uploads an object of two parts; the size that the store tells.
    async fn two_parts(&self, object: &str) -> Result<String, Failure> {
        let client = &self.storage.asking;
        let upload = self.initiate(object).await?;
        let mut xml = String::from("<CompleteMultipartUpload>");
        let bodies = [Bytes::from(vec![b'x'; PART_BYTES]), Bytes::from_static(TEXT)];
        for (index, body) in bodies.into_iter().enumerate() {
            let number = (index + 1).to_string();
            let call = Call::new(Method::PUT, object).query("partNumber", &number);
            let reply = client.send(&call.query("uploadId", &upload).body(body)).await?;
            let etag = quick_xml::escape::escape(reply.etag()).into_owned();
            xml.push_str(&format!(
                "<Part><ETag>\"{etag}\"</ETag><PartNumber>{number}</PartNumber></Part>"
            ));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let call = Call::new(Method::POST, object).query("uploadId", &upload);
        client.send(&call.header("content-type", "application/xml").body(xml.into())).await?;
        let found = client.send(&Call::new(Method::HEAD, object)).await?;
        Ok(found.header("content-length").to_owned())
    }

    async fn abort(&mut self) {
        const STEP: &str = "abort of an upload";
        let object = self.object("c.zip");
        let upload = match self.initiate(&object).await {
            Ok(upload) => upload,
            Err(failure) => return self.failed(STEP, failure),
        };
        let shown = listing::uploads(&self.storage.asking, &self.folder).await;
        let call = Call::new(Method::DELETE, &object).query("uploadId", &upload);
        match self.storage.asking.send(&call).await {
            Ok(_) => self.good(STEP),
            Err(failure) => self.failed(STEP, failure),
        }
        const LIST: &str = "list of uploads";
        let said = "only uploads that are remembered here can be swept";
        match shown {
            Ok(shown) if shown.iter().any(|shown| shown.upload == upload) => self.good(LIST),
            Ok(_) => self.found(LIST, Verdict::Missing, format!("it does not show one: {said}")),
            Err(failure) => {
                let error = failure.into_error(LIST).full();
                self.found(LIST, Verdict::Missing, format!("{error}: {said}"));
            }
        }
    }

    async fn initiate(&self, object: &str) -> Result<String, Failure> {
        let call = Call::new(Method::POST, object)
            .query("uploads", "")
            .headers(&self.storage.new_object_headers("b.zip", "probe"));
        super::upload::upload_id(&self.storage.asking.send(&call).await?)
    }

    async fn clean_up(&mut self) {
        const STEP: &str = "delete";
        for name in ["a.zip", "b.zip"] {
            let call = Call::new(Method::DELETE, &self.object(name));
            match self.storage.asking.send(&call).await {
                Ok(_) => {}
                Err(failure) if failure.is(StatusCode::NOT_FOUND) => {}
                Err(failure) => return self.failed(STEP, failure),
            }
        }
        match listing::objects(&self.storage.asking, &self.folder).await {
            Ok(left) if left.is_empty() => self.good(STEP),
            Ok(_) => self.found(STEP, Verdict::Failed, "what was deleted is still listed"),
            Err(failure) => self.failed(STEP, failure),
        }
    }
}
