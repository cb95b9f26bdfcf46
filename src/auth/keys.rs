//! Tokens: PocketBase's JSON web tokens (HS256), signed and verified with its keys.
//!
//! Reading has two halves, because the key depends on the record that the token names:
//! [`Token::parse`] checks form and times, [`Token::is_signed_with`] the signature. Nothing of
//! a parsed token may be believed before the second half. HS256 is the only algorithm there
//! is, so no header can choose another. Base64 must be canonical (PocketBase overlooks the
//! unused bits of a last character; nobody makes such tokens in good faith).
//!
//! `jsonwebtoken` encodes, splits and verifies. Its own rules are not PocketBase's, so the
//! header and the times are judged here: it refuses `exp` 0, rounds fractions, reads the
//! system's clock, ignores `iat`, and refuses a header whose unused members are ill-typed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Map, Value, json};

use super::hs256;

/// Longest token that is looked at, in bytes. PocketBase's own have about 240.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Requests, in the `Authorization` header.
    Auth,
    /// Downloads, in the `token` query parameter.
    File,
}

impl TokenKind {
    fn claim(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::File => "file",
        }
    }
}

/// The token in the value of an `Authorization` header: `Bearer ` (any case, exactly one
/// space) is stripped, anything else is taken whole.
pub fn header_token(value: &str) -> &str {
    match value.split_at_checked(7) {
        Some((scheme, token)) if !token.is_empty() && scheme.eq_ignore_ascii_case("Bearer ") => {
            token
        }
        _ => value,
    }
}

/// A well-formed token that is valid now, **not yet verified**.
#[derive(Debug)]
pub struct Token<'a> {
    /// Id of the record it speaks for.
    pub record: String,
    /// Id or name of that record's collection.
    pub collection: String,
    /// Whether it may be exchanged for a fresh one.
    pub refreshable: bool,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    /// Reads a token and checks all but its signature; `None` for anything that PocketBase
    /// would refuse: form, algorithm, times, missing claims, another kind.
    pub fn parse(text: &'a str, kind: TokenKind, now: DateTime<Utc>) -> Option<Self> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, _) = signed.split_once('.')?;
        if header_algorithm(header)? != "HS256" {
            return None;
        }
        let claims: Map<String, Value> = insecure_decode_claims(text).ok()?;
        let word =
            |name: &str| claims.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        if !is_timely(&claims, now) || word("type")? != kind.claim() {
            return None;
        }
        Some(Self {
            record: word("id")?.to_owned(),
            collection: word("collectionId")?.to_owned(),
            refreshable: claims.get("refreshable") == Some(&Value::Bool(true)),
            signed,
            signature,
        })
    }

    /// Whether the token was signed with `key`. Takes the same time for every wrong signature.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        hs256::verify(self.signed, self.signature, key)
    }
}

/// What a new token says.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    /// What it is good for; auth tokens carry `refreshable`, file tokens do not.
    pub kind: TokenKind,
    /// Id of the record.
    pub record: &'a str,
    /// Id of the record's collection.
    pub collection: &'a str,
    /// Whether it may be exchanged for a fresh one.
    pub refreshable: bool,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
}

/// A token, signed with `key`.
#[expect(clippy::expect_used, reason = "HMAC takes any key, and a JSON value serialises")]
pub fn sign(claims: &Claims<'_>, key: &[u8]) -> String {
    let mut body = json!({
        "collectionId": claims.collection,
        "exp": claims.expires,
        "id": claims.record,
        "type": claims.kind.claim(),
    });
    if claims.kind == TokenKind::Auth {
        body["refreshable"] = Value::Bool(claims.refreshable);
    }
    hs256::encode(&header(), &body, key).expect("an HS256 header and a JSON object")
}

/// The key of a record's tokens: PocketBase joins the record's token key and the
/// collection's secret for that kind of token.
pub fn signing_key(token_key: &str, secret: &str) -> Vec<u8> {
    [token_key.as_bytes(), secret.as_bytes()].concat()
}

/// A signed token with any header and body, for those that PocketBase would never make.
#[cfg(test)]
pub(super) fn sign_raw(header: &str, body: &str, key: &[u8]) -> String {
    let signed = [header, body].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = hs256::signature(&signed, key);
    format!("{signed}.{signature}")
}

/// `{"alg":"HS256","typ":"JWT"}`, in PocketBase's order: `jsonwebtoken` writes its own `typ`
/// before `alg`, but extra members last.
fn header() -> Header {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = None;
    header.extras.insert("typ", "JWT");
    header
}

fn header_algorithm(segment: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).ok()?;
    match serde_json::from_slice::<Map<String, Value>>(&bytes).ok()?.remove("alg")? {
        Value::String(algorithm) => Some(algorithm),
        _ => None,
    }
}

/// `exp` must be ahead, `nbf` and `iat` must not. Absent or zero is no limit (PocketBase's
/// rule: such a token never expires); anything but a number is refused. No leeway.
fn is_timely(claims: &Map<String, Value>, now: DateTime<Utc>) -> bool {
    let now = now.timestamp();
    let passes = |name: &str, test: &dyn Fn(i64) -> bool| match claims.get(name) {
        None => true,
        Some(value) => match value.as_f64() {
            Some(0.0) => true,
            Some(seconds) => whole_seconds(seconds).is_some_and(test),
            None => false,
        },
    };
    passes("exp", &|end| now < end)
        && passes("nbf", &|start| now >= start)
        && passes("iat", &|issued| now >= issued)
}

fn whole_seconds(seconds: f64) -> Option<i64> {
    // Beyond this a date is nonsense, and the conversion below would not be exact.
    const SECONDS_MAX: f64 = 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "checked against SECONDS_MAX")]
    (seconds.abs() < SECONDS_MAX).then(|| seconds.floor() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const KEY: &[u8] = b"record-token-key-and-collection-secret";
    const NOW: i64 = 1_795_000_000;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 250_000_000).expect("a time")
    }

    fn accepts(header: &str, body: &str) -> bool {
        let text = sign_raw(header, body, KEY);
        Token::parse(&text, TokenKind::Auth, now()).is_some_and(|token| token.is_signed_with(KEY))
    }

    fn body(more: &str) -> String {
        format!(r#"{{"collectionId":"c","id":"r","type":"auth"{more}}}"#)
    }

    #[test]
    fn a_token_has_pocketbase_s_exact_bytes() {
        let claims = Claims {
            kind: TokenKind::Auth,
            record: "a23456789012345",
            collection: "pbc_3142635823",
            refreshable: true,
            expires: 1_795_086_400,
        };
        let token = sign(&claims, KEY);
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts[0], "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9");
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).expect("base64"));
        assert_eq!(
            claims.expect("text"),
            r#"{"collectionId":"pbc_3142635823","exp":1795086400,"id":"a23456789012345","#
                .to_owned()
                + r#""refreshable":true,"type":"auth"}"#
        );
    }

    #[test]
    fn the_signature_is_the_one_of_rfc_7515() {
        // RFC 7515, appendix A.1, with its own key, header and claims.
        let key = concat!(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75",
            "aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
        );
        let key = URL_SAFE_NO_PAD.decode(key).expect("base64");
        let header = "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}";
        let body = concat!(
            "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n ",
            "\"http://example.com/is_root\":true}"
        );
        let token = sign_raw(header, body, &key);
        assert!(token.ends_with(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "{token}");
    }

    #[test]
    fn times_are_judged_as_pocketbase_judges_them() {
        for (more, accepted) in [
            (String::new(), true),
            (r#","exp":0"#.to_owned(), true),
            (format!(r#","exp":{}"#, NOW + 1), true),
            (format!(r#","exp":{}.5"#, NOW + 1), true),
            (format!(r#","exp":{NOW}.9"#), false),
            (format!(r#","exp":{NOW}"#), false),
            (format!(r#","exp":{}"#, NOW - 1), false),
            (r#","exp":-1"#.to_owned(), false),
            (r#","exp":1e300"#.to_owned(), false),
            (r#","exp":null"#.to_owned(), false),
            (format!(r#","exp":"{}""#, NOW + 9), false),
            (r#","exp":true"#.to_owned(), false),
            (format!(r#","nbf":{NOW}"#), true),
            (format!(r#","nbf":{}"#, NOW + 1), false),
            (r#","nbf":null"#.to_owned(), false),
            (format!(r#","iat":{NOW}"#), true),
            (format!(r#","iat":{}"#, NOW + 1), false),
            (r#","iat":"x""#.to_owned(), false),
        ] {
            assert_eq!(accepts(HEADER, &body(&more)), accepted, "{more}");
        }
    }

    #[test]
    fn headers_and_claims_are_judged_as_pocketbase_judges_them() {
        for (header, accepted) in [
            (r#"{"alg":"HS256"}"#, true),
            (r#"{"typ":"x","alg":"HS256","crit":["y"]}"#, true),
            (r#"{"typ":7,"alg":"HS256","crit":"y","kid":[],"jwk":1}"#, true),
            (r#"{"alg":"none"}"#, false),
            (r#"{"alg":"HS384"}"#, false),
            (r#"{"alg":"HS512"}"#, false),
            (r#"{"alg":"hs256"}"#, false),
            (r#"{"alg":1}"#, false),
            ("{}", false),
            ("null", false),
            ("[]", false),
        ] {
            assert_eq!(accepts(header, &body("")), accepted, "{header}");
        }
        for (claims, accepted) in [
            (r#"{"collectionId":"_superusers","id":"r","type":"auth"}"#, true),
            (r#"{"collectionId":"c","id":"r","type":"file"}"#, false),
            (r#"{"collectionId":"c","id":"r","type":""}"#, false),
            (r#"{"collectionId":"c","id":"r"}"#, false),
            (r#"{"collectionId":"c","id":"","type":"auth"}"#, false),
            (r#"{"collectionId":"c","id":7,"type":"auth"}"#, false),
            (r#"{"collectionId":"","id":"r","type":"auth"}"#, false),
            (r#"{"id":"r","type":"auth"}"#, false),
            ("null", false),
            ("{", false),
        ] {
            assert_eq!(accepts(HEADER, claims), accepted, "{claims}");
        }
    }

    #[test]
    fn the_form_is_judged_as_pocketbase_judges_it() {
        let good = sign_raw(HEADER, &body(""), KEY);
        let unsigned = good.rsplit_once('.').expect("three parts").0;
        for bad in [
            String::new(),
            "garbage".to_owned(),
            unsigned.to_owned(),
            format!("{unsigned}."),
            format!("{good}="),
            format!("{good}."),
            format!("{good}.x"),
            format!(" {good}"),
            format!("{good} "),
            good.replacen('.', "", 1),
            "x".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            let verified = Token::parse(&bad, TokenKind::Auth, now())
                .is_some_and(|token| token.is_signed_with(KEY));
            assert!(!verified, "{bad}");
        }
        let token = Token::parse(&good, TokenKind::Auth, now()).expect("parsed");
        assert!(!token.refreshable, "absent means no");
        assert!(token.is_signed_with(KEY) && !token.is_signed_with(b"another key"));
    }

    #[test]
    fn only_one_bearer_and_one_space_are_stripped() {
        for (header, token) in [
            ("T", "T"),
            ("Bearer T", "T"),
            ("bEARER T", "T"),
            ("Bearer  T", " T"),
            ("Bearer ", "Bearer "),
            ("Bearer", "Bearer"),
            ("BearerT", "BearerT"),
            ("Token T", "Token T"),
            ("Basic T", "Basic T"),
            ("", ""),
            ("ééééé", "ééééé"),
        ] {
            assert_eq!(header_token(header), token, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", dotted in "[A-Za-z0-9_-]{0,60}") {
            let _ = Token::parse(&text, TokenKind::Auth, now());
            let _ = Token::parse(&format!("{dotted}.{dotted}.{dotted}"), TokenKind::File, now());
            let _ = header_token(&text);
        }

        #[test]
        fn a_changed_byte_breaks_a_token(at in 0usize..150, with in "[A-Za-z0-9_.-]") {
            let good = sign_raw(HEADER, &body(""), KEY);
            let at = at % good.len();
            let mut bad = good.clone();
            bad.replace_range(at..=at, &with);
            prop_assume!(bad != good);
            let verified = Token::parse(&bad, TokenKind::Auth, now())
                .is_some_and(|token| token.is_signed_with(KEY));
            prop_assert!(!verified);
        }
    }
}
