//! How it is known that the store has what was sent: a sum of each part and of the whole, which
//! the store must tell back.
//!
//! MD5 as ETags is what every store has; requests are signed together with their payload then,
//! which is SHA-256 once more. A store that keeps checksums is told CRC-32 instead, checks it
//! and tells it back, which costs both sides far less.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc32fast::Hasher;
use http::Method;

use crate::storage::s3::client::{Call, Reply, SharedClient};
use crate::storage::s3::failure::Failure;
use crate::storage::s3::parts::{composite_etag, etag_of, is_sum};
use crate::storage::s3::{Known, S3Storage};

/// Asks for sums of a new upload, and tells that they are kept.
pub(super) const ALGORITHM: &str = "x-amz-checksum-algorithm";
/// The only one that is asked for: zip needs it, so it is fast everywhere.
pub(super) const CRC32: &str = "CRC32";
const TOLD: &str = "x-amz-checksum-crc32";
const ENCRYPTION: &str = "x-amz-server-side-encryption";

/// By what a store tells that it has what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// Its ETags, where those are MD5 sums.
    Etags,
    /// CRC-32, which it checks itself, too.
    Crc32,
}

impl Sums {
    /// What the answer to a new upload promises.
    pub(super) fn promised(reply: &Reply) -> Self {
        match reply.header(ALGORITHM).eq_ignore_ascii_case(CRC32) {
            true => Self::Crc32,
            false => Self::Etags,
        }
    }
}

/// A part that the store has.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: usize,
    /// The store's name for it.
    pub(super) etag: String,
    size_bytes: u64,
    sum: Sum,
}

#[derive(Debug)]
enum Sum {
    /// In hex.
    Md5(String),
    Crc32(u32),
}

impl Part {
    /// How the end of the upload names it.
    pub(super) fn named(&self) -> String {
        let (number, etag) = (self.number, quick_xml::escape::escape(&self.etag));
        let sum = match self.sum {
            Sum::Md5(_) => String::new(),
            Sum::Crc32(sum) => format!("<ChecksumCRC32>{}</ChecksumCRC32>", written(sum)),
        };
        format!("<Part><ETag>\"{etag}\"</ETag>{sum}<PartNumber>{number}</PartNumber></Part>")
    }
}

/// What the store must tell back of an object.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) size_bytes: u64,
    told: Told,
}

#[derive(Debug)]
enum Told {
    Etag(String),
    /// Stores tell the sum of the parts' sums, or that of the whole.
    Crc32 {
        of_parts: String,
        of_all: String,
    },
}

impl Expected {
    /// Of an object that was sent at once.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self { size_bytes: bytes.len() as u64, told: Told::Etag(etag_of(bytes)) }
    }

    /// Of one in parts, in their order.
    pub(super) fn of_parts(parts: &[Part]) -> Self {
        let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
        let (mut of_all, mut of_parts, mut etags) = (Hasher::new(), Hasher::new(), Vec::new());
        for part in parts {
            match &part.sum {
                Sum::Md5(sum) => etags.push(sum.clone()),
                Sum::Crc32(sum) => {
                    of_parts.update(&sum.to_be_bytes());
                    of_all.combine(&Hasher::new_with_initial_len(*sum, part.size_bytes));
                }
            }
        }
        let told = match etags.is_empty() {
            false => Told::Etag(composite_etag(&etags)),
            true => Told::Crc32 {
                of_parts: format!("{}-{}", written(of_parts.finalize()), parts.len()),
                of_all: written(of_all.finalize()),
            },
        };
        Self { size_bytes, told }
    }

    /// The question for the object, which must be answered with its sum where that is kept.
    pub(super) fn question(&self, object: &str) -> Call {
        let call = Call::new(Method::HEAD, object);
        match self.told {
            Told::Etag(_) => call,
            Told::Crc32 { .. } => call.header("x-amz-checksum-mode", "ENABLED"),
        }
    }

    /// Whether the store tells a sum of the object at all.
    pub(super) fn is_comparable(&self, storage: &S3Storage, found: &Reply) -> bool {
        match self.told {
            Told::Etag(_) => comparable(storage, found),
            Told::Crc32 { .. } => !found.header(TOLD).is_empty(),
        }
    }

    /// Whether it is of this size, and by its sum, if that is told, what was sent.
    pub(super) fn is_met(&self, storage: &S3Storage, found: &Reply) -> bool {
        found.header("content-length").parse() == Ok(self.size_bytes)
            && (!self.is_comparable(storage, found)
                || match &self.told {
                    Told::Etag(etag) => found.etag() == etag,
                    Told::Crc32 { of_parts, of_all } => {
                        [of_parts.as_str(), of_all].contains(&found.header(TOLD))
                    }
                })
    }

    /// For the log: what was expected, and what is there.
    pub(super) fn against(&self, found: &Reply) -> String {
        format!(
            "{} bytes and {:?} were expected, {} bytes, ETag {} and checksum {:?} are there",
            self.size_bytes,
            self.told,
            found.header("content-length"),
            found.etag(),
            found.header(TOLD)
        )
    }
}

/// Everything that sending one part needs.
pub(super) struct PartCall {
    call: Call,
    number: usize,
    bytes: Bytes,
    sums: Sums,
    verify: bool,
    checksums: Known,
}

impl PartCall {
    pub(super) fn new(
        storage: &S3Storage,
        (object, upload): (&str, &str),
        sums: Sums,
        number: usize,
        bytes: Bytes,
    ) -> Self {
        let call = Call::new(Method::PUT, object)
            .query("partNumber", number.to_string())
            .query("uploadId", upload)
            .body(bytes.clone());
        let (verify, checksums) = (storage.compares_etags(), storage.checksums.clone());
        Self { call, number, bytes, sums, verify, checksums }
    }
}

/// Sends a part until the store has it; gives its memory back.
pub(super) async fn send_part(
    client: SharedClient,
    part: PartCall,
) -> Result<(Part, Bytes), Failure> {
    let PartCall { mut call, number, bytes, sums, verify, checksums } = part;
    let size_bytes = bytes.len() as u64;
    let summed = tokio::task::spawn_blocking(move || match sums {
        Sums::Etags => Sum::Md5(etag_of(&bytes)),
        Sums::Crc32 => Sum::Crc32(crc32fast::hash(&bytes)),
    });
    let sum = summed.await.map_err(|error| Failure::final_one(error.to_string()))?;
    if let Sum::Crc32(sum) = &sum {
        call = call.header(TOLD, written(*sum)).with_payload_summed();
    }
    let check = |reply: &Reply| {
        if reply.etag().is_empty() {
            return Err(Failure::transport("the answer to a part has no ETag"));
        }
        let is_good = match &sum {
            Sum::Md5(sum) => {
                !verify || !is_sum(reply.etag()) || by_key_service(reply) || reply.etag() == sum
            }
            Sum::Crc32(_) if reply.header(TOLD).is_empty() => {
                // The next upload takes it at its ETags.
                checksums.forget();
                return Err(Failure::final_one("the store promised checksums and tells none"));
            }
            Sum::Crc32(sum) => reply.header(TOLD) == written(*sum),
        };
        let what = if sums == Sums::Etags { "ETag" } else { "checksum" };
        match is_good {
            true => Ok(()),
            false => Err(Failure::transport(format!("part {number} has another {what}"))),
        }
    };
    let reply = client.send_checked(&call, check).await?;
    let part = Part { number, etag: reply.etag().to_owned(), size_bytes, sum };
    Ok((part, call.into_body()))
}

/// Whether the ETag of this answer can be compared with ours.
fn comparable(storage: &S3Storage, reply: &Reply) -> bool {
    storage.compares_etags() && is_sum(reply.etag()) && !by_key_service(reply)
}

/// With keys of a key service, ETags look like sums and are none.
fn by_key_service(reply: &Reply) -> bool {
    reply.header(ENCRYPTION).starts_with("aws:kms")
}

fn written(sum: u32) -> String {
    STANDARD.encode(sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_parts_are_those_of_s3_and_of_the_whole() {
        let blocks: [&[u8]; 3] = [b"what is sent ", b"in parts ", b"is one object"];
        let part = |(index, bytes): (usize, &&[u8])| Part {
            number: index + 1,
            etag: "an \"etag\"".to_owned(),
            size_bytes: bytes.len() as u64,
            sum: Sum::Crc32(crc32fast::hash(bytes)),
        };
        let parts: Vec<Part> = blocks.iter().enumerate().map(part).collect();
        let expected = Expected::of_parts(&parts);
        let Told::Crc32 { of_parts, of_all } = &expected.told else { panic!("a CRC") };
        assert_eq!(*of_all, written(crc32fast::hash(&blocks.concat())));
        let sums: Vec<u8> =
            blocks.iter().flat_map(|bytes| crc32fast::hash(bytes).to_be_bytes()).collect();
        assert_eq!(*of_parts, format!("{}-3", written(crc32fast::hash(&sums))));
        assert_eq!(expected.size_bytes, 35);
        let named = parts[0].named();
        assert!(named.contains("<ChecksumCRC32>") && named.contains("&quot;etag&quot;"), "{named}");
        // The check value of this CRC, as S3 writes it.
        assert_eq!(written(crc32fast::hash(b"123456789")), "y/Q5Jg==");
    }
}
