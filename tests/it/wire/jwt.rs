//! Tokens that no server made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};

/// A token with any header and claims; an algorithm that is no HMAC gets no signature.
pub(crate) fn sign(header: &Value, claims: &Value, secret: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = format!("{}.{}", encode(header), encode(claims));
    let key = secret.as_bytes();
    let signature = match header["alg"].as_str() {
        Some("HS256") => mac::<Hmac<Sha256>>(key, &head),
        Some("HS384") => mac::<Hmac<Sha384>>(key, &head),
        Some("HS512") => mac::<Hmac<Sha512>>(key, &head),
        _ => Vec::new(),
    };
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The token with one character of its signature changed.
pub(crate) fn tampered(token: &str) -> String {
    let signature = token.rfind('.').expect("a token") + 1;
    let at = signature + 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
