//! Signature version 4, checked as S3 checks it: in the header or in the query, with the
//! payload's hash, and not too far from the server's clock.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::bucket::hex;
use super::http::{Head, Reply};
use super::{ACCESS_KEY, REGION, SECRET};

const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const STRICT_PATH: &AsciiSet = &STRICT.remove(b'/');
/// How far a signature's time may be off.
const SKEW_MAX: TimeDelta = TimeDelta::minutes(15);

/// What was signed, whichever way it was sent.
struct Claim {
    access_key: String,
    scope: String,
    signed: Vec<String>,
    signature: String,
    time: String,
    payload: String,
}

/// Checks a request.
pub(super) fn check(head: &Head, body: &[u8], clock_ahead_s: i64) -> Result<(), Reply> {
    let claim = claim(head).ok_or_else(|| Reply::error(403, "AccessDenied"))?;
    if claim.access_key != ACCESS_KEY {
        return Err(Reply::error(403, "InvalidAccessKeyId"));
    }
    let now = Utc::now() + TimeDelta::seconds(clock_ahead_s);
    let signed_at = NaiveDateTime::parse_from_str(&claim.time, "%Y%m%dT%H%M%SZ");
    let signed_at: DateTime<Utc> =
        signed_at.map_err(|_| Reply::error(403, "AccessDenied"))?.and_utc();
    let presigned = head.query("X-Amz-Signature").is_some();
    let valid = head.query("X-Amz-Expires").and_then(|text| text.parse().ok());
    if !presigned && (now - signed_at).abs() > SKEW_MAX {
        return Err(Reply::error(403, "RequestTimeTooSkewed"));
    }
    if presigned && now > signed_at + TimeDelta::seconds(valid.unwrap_or(0)) {
        return Err(Reply::error(403, "AccessDenied"));
    }
    if signature(head, &claim) != claim.signature {
        return Err(Reply::error(403, "SignatureDoesNotMatch"));
    }
    if claim.payload != "UNSIGNED-PAYLOAD" && claim.payload != hex(&Sha256::digest(body)) {
        return Err(Reply::error(400, "XAmzContentSHA256Mismatch"));
    }
    Ok(())
}

fn claim(head: &Head) -> Option<Claim> {
    let words = |text: &str| text.split(';').map(str::to_owned).collect();
    if let Some(signature) = head.query("X-Amz-Signature") {
        let (access_key, scope) = head.query("X-Amz-Credential")?.split_once('/')?;
        return Some(Claim {
            access_key: access_key.to_owned(),
            scope: scope.to_owned(),
            signed: words(head.query("X-Amz-SignedHeaders")?),
            signature: signature.to_owned(),
            time: head.query("X-Amz-Date")?.to_owned(),
            payload: "UNSIGNED-PAYLOAD".to_owned(),
        });
    }
    let text = head.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let field = |name: &str| {
        let found = text.split(',').find_map(|part| part.trim().strip_prefix(name));
        found.map(str::to_owned)
    };
    let credential = field("Credential=")?;
    let (access_key, scope) = credential.split_once('/')?;
    Some(Claim {
        access_key: access_key.to_owned(),
        scope: scope.to_owned(),
        signed: words(&field("SignedHeaders=")?),
        signature: field("Signature=")?,
        time: head.header("x-amz-date")?.to_owned(),
        payload: head.header("x-amz-content-sha256")?.to_owned(),
    })
}

fn signature(head: &Head, claim: &Claim) -> String {
    let scope: Vec<&str> = claim.scope.split('/').collect();
    let [date, region, service, _] = scope[..] else { return String::new() };
    if region != REGION || service != "s3" || !claim.time.starts_with(date) {
        return String::new();
    }
    // Everything that says what is asked for must be signed.
    let must = |name: &str| name == "host" || name.starts_with("x-amz-");
    let unsigned = |name: &String| must(name) && !claim.signed.contains(name);
    if head.headers.iter().any(|(name, _)| unsigned(name)) {
        return String::new();
    }
    let decoded = percent_encoding::percent_decode_str(&head.path).decode_utf8_lossy();
    let path = utf8_percent_encode(&decoded, STRICT_PATH).to_string();
    let encode = |text: &str| utf8_percent_encode(text, STRICT).to_string();
    let pairs = head.query.iter().filter(|(name, _)| name != "X-Amz-Signature");
    let mut pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.sort_unstable();
    let headers: String = claim
        .signed
        .iter()
        .map(|name| format!("{name}:{}\n", head.header(name).unwrap_or_default()))
        .collect();
    let canonical = format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{}",
        head.method,
        pairs.join("&"),
        claim.signed.join(";"),
        claim.payload
    );
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        claim.time,
        claim.scope,
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for word in [date, region, service, "aws4_request"] {
        key = sign(&key, word);
    }
    hex(&sign(&key, &text))
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
