//! What a bucket lists: objects directly below the prefix, and uploads on their way.

use chrono::{DateTime, Utc};
use http::Method;
use percent_encoding::percent_decode_str;
use quick_xml::de::from_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::storage::s3::client::{Call, Client, Reply};
use crate::storage::s3::failure::Failure;

/// Pages that are read at most; each has up to 1,000 names.
const PAGES_MAX: usize = 10_000;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its full name.
    pub(super) object: String,
    pub(super) size_bytes: u64,
    pub(super) modified: DateTime<Utc>,
}

/// An upload on its way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pending {
    #[serde(rename = "Key")]
    pub(super) object: String,
    #[serde(rename = "UploadId")]
    pub(super) upload: String,
    pub(super) initiated: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    contents: Vec<Contents>,
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    last_modified: DateTime<Utc>,
    size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadsPage {
    #[serde(default, rename = "Upload")]
    uploads: Vec<Pending>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

/// The objects directly below `prefix` (empty, or with `/` at its end).
pub(super) async fn objects(client: &Client, prefix: &str) -> Result<Vec<Listed>, Failure> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        // Keys can hold what XML cannot, hence the encoding. What lies in folders is not asked
        // for: a shared bucket may hold millions of it.
        let mut call = Call::new(Method::GET, "")
            .query("list-type", "2")
            .query("delimiter", "/")
            .query("encoding-type", "url")
            .query("max-keys", "1000");
        if !prefix.is_empty() {
            call = call.query("prefix", prefix);
        }
        if let Some(token) = token.take() {
            call = call.query("continuation-token", token);
        }
        let reply = client.send_checked(&call, |reply| parse::<Page>(reply).map(drop)).await?;
        let page: Page = parse(&reply)?;
        let encoded = page.encoding_type.as_deref() == Some("url");
        found.extend(page.contents.into_iter().map(|contents| Listed {
            object: if encoded { decoded(&contents.key) } else { contents.key },
            size_bytes: contents.size,
            modified: contents.last_modified,
        }));
        match page.next_continuation_token.filter(|_| page.is_truncated) {
            Some(next) => token = Some(next),
            None if page.is_truncated => {
                return Err(Failure::final_one("the list says that it goes on, and not where"));
            }
            None => return Ok(found),
        }
    }
    Err(Failure::final_one("the list does not end"))
}

/// The uploads below `prefix` that are neither completed nor aborted.
pub(super) async fn uploads(client: &Client, prefix: &str) -> Result<Vec<Pending>, Failure> {
    let mut found = Vec::new();
    let mut next: Option<(String, String)> = None;
    for _ in 0..PAGES_MAX {
        let mut call = Call::new(Method::GET, "").query("uploads", "").query("prefix", prefix);
        if let Some((key, upload)) = next.take() {
            call = call.query("key-marker", key).query("upload-id-marker", upload);
        }
        let page: UploadsPage = parse(&client.send(&call).await?)?;
        found.extend(page.uploads);
        match (page.is_truncated, page.next_key_marker) {
            (true, Some(key)) => next = Some((key, page.next_upload_id_marker.unwrap_or_default())),
            _ => return Ok(found),
        }
    }
    Err(Failure::final_one("the list of uploads does not end"))
}

/// The body of an answer. One that is no such document may have been cut: it passes.
pub(super) fn parse<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    let text = String::from_utf8_lossy(&reply.body);
    from_str(&text).map_err(|error| Failure::transport(format!("an unreadable answer: {error}")))
}

/// S3 writes a space as `+` there.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn reply(body: &str) -> Reply {
        Reply { headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    #[test]
    fn a_page_is_read_as_s3_writes_it() {
        let body = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>b</Name><Prefix></Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>
              <Delimiter>/</Delimiter><EncodingType>url</EncodingType>
              <IsTruncated>true</IsTruncated><NextContinuationToken>1/x=</NextContinuationToken>
              <Contents><Key>a+b%2Bc.zip</Key><LastModified>2026-11-21T09:02:11.000Z</LastModified>
                <ETag>&quot;x&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>
              </Contents>
              <Contents><Key>c.zip</Key><LastModified>2026-11-21T09:02:11Z</LastModified>
                <Size>6</Size></Contents>
              <CommonPrefixes><Prefix>folder/</Prefix></CommonPrefixes>
            </ListBucketResult>"#;
        let page: Page = parse(&reply(body)).expect("a page");
        assert_eq!(decoded(&page.contents[0].key), "a b+c.zip");
        assert_eq!((page.contents.len(), page.contents[1].size), (2, 6));
        assert_eq!(page.next_continuation_token.as_deref(), Some("1/x="));
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert!(parse::<Page>(&reply(empty)).expect("a page").contents.is_empty());
        assert!(parse::<Page>(&reply("<ListBucketResult><Contents>")).is_err());
        assert!(parse::<Page>(&reply("<html>")).is_err());
    }

    #[test]
    fn uploads_are_read_as_s3_writes_them() {
        let body = "<ListMultipartUploadsResult><Bucket>b</Bucket><KeyMarker/>\
            <NextKeyMarker>k</NextKeyMarker><IsTruncated>true</IsTruncated>\
            <Upload><Key>a.zip</Key><UploadId>u</UploadId><Initiator><ID>x</ID></Initiator>\
            <Initiated>2026-11-21T09:02:11.000Z</Initiated></Upload>\
            </ListMultipartUploadsResult>";
        let page: UploadsPage = parse(&reply(body)).expect("a page");
        assert_eq!((page.uploads[0].upload.as_str(), page.is_truncated), ("u", true));
    }
}
