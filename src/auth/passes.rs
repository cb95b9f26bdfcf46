//! Passes: tokens of our own for faces that have no records behind them. Each says who may do
//! what until when, and is a JSON web token, because some clients look at its `exp`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, Header};
use serde::{Deserialize, Serialize};

use crate::auth::hs256;
use crate::auth::keys::TOKEN_BYTES_MAX;
use crate::error::Result;
use crate::fsx;

/// Length of the key, in bytes.
const KEY_BYTES: usize = 32;

/// What a pass says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// What it is good for, a word of the face.
    pub kind: String,
    /// What it is about.
    #[serde(rename = "sub")]
    pub subject: String,
    /// By which of the face's credentials it was asked for: it ends with them.
    pub by: String,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: i64,
}

/// Signs and checks passes with a key of this installation.
#[derive(Clone)]
pub struct Passes {
    key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passes")
    }
}

impl Passes {
    /// With the key in this file, which is made (0600) where there is none that can be used: a
    /// pass then outlives the process. Where it cannot be written the key is of this process.
    pub fn open(file: &Path) -> Self {
        if let Some(key) = std::fs::read(file).ok().and_then(|key| key.try_into().ok()) {
            return Self { key };
        }
        let key: [u8; KEY_BYTES] = rand::random();
        let written = write(file, &key);
        if let Err(error) = written {
            tracing::warn!(error = error.full(), "passes end with this process");
        }
        Self { key }
    }

    /// A pass as text.
    #[expect(clippy::expect_used, reason = "HMAC takes any key, and these claims serialise")]
    pub fn sign(&self, pass: &Pass) -> String {
        let header = Header::new(Algorithm::HS256);
        hs256::encode(&header, pass, &self.key).expect("an HS256 header and plain claims")
    }

    /// What a text says, if we signed it for that kind and it has not ended.
    pub fn check(&self, text: &str, kind: &str, now: DateTime<Utc>) -> Option<Pass> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        if !hs256::verify(signed, signature, &self.key) {
            return None;
        }
        // Signed by us: the header is ours too.
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        let pass: Pass = serde_json::from_slice(&claims).ok()?;
        (pass.kind == kind && now.timestamp() < pass.expires).then_some(pass)
    }
}

fn write(file: &Path, key: &[u8]) -> Result<()> {
    if let Some(folder) = file.parent() {
        fsx::create_dir_durably(folder)?;
    }
    fsx::write_durably(file, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(kind: &str, expires: i64) -> Pass {
        let (kind, subject, by) = (kind.to_owned(), "ad-1".to_owned(), "ab".to_owned());
        Pass { kind, subject, by, expires }
    }

    #[test]
    fn a_pass_is_good_for_its_kind_until_its_end_and_with_its_key() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("state/key");
        let passes = Passes::open(&file);
        let given = pass("database", 1_000);
        let text = passes.sign(&given);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        assert_eq!(passes.check(&text, "database", at(999)), Some(given.clone()));
        assert_eq!(passes.check(&text, "database", at(1_000)), None, "ended");
        assert_eq!(passes.check(&text, "download", at(999)), None, "another kind");
        assert_eq!(Passes::open(&file).check(&text, "database", at(0)), Some(given), "kept");
        let other = Passes::open(&home.path().join("other"));
        assert_eq!(other.check(&text, "database", at(0)), None, "another key");
        for forged in ["", ".", "..", "a.b.c", &text[1..], &format!("{text}x")] {
            assert_eq!(passes.check(forged, "database", at(0)), None, "{forged}");
        }
        let mut longer = other.sign(&pass("database", i64::MAX));
        longer.truncate(longer.rfind('.').expect("a dot"));
        let signature = text.rsplit_once('.').expect("a dot").1;
        assert_eq!(passes.check(&format!("{longer}.{signature}"), "database", at(0)), None);
    }

    #[test]
    fn the_key_is_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("key");
        let _ = Passes::open(&file);
        let meta = std::fs::metadata(&file).expect("made");
        assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (32, 0o600));
    }
}
