//! The encryption of the stored settings, as PocketBase does it with `--encryptionEnv`:
//! base64 of nonce, AES-GCM ciphertext and tag. The key is the bytes of the environment
//! variable as they are, 16, 24 or 32 of them.

use std::fmt;

use aes_gcm::aead::{Aead, AeadCore, KeyInit};
use aes_gcm::aes::Aes192;
use aes_gcm::aes::cipher::consts::U12;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Kind, Result};

const NONCE_BYTES: usize = 12;

/// The encryption key, if there is one, and where it comes from.
#[derive(Clone, Default)]
pub struct Encryption {
    variable: String,
    key: String,
}

impl Encryption {
    /// The key that the environment variable `variable` holds; an empty one is none. What it
    /// is worth shows at its first use, as in PocketBase.
    pub fn new(variable: impl Into<String>, key: impl Into<String>) -> Self {
        Self { variable: variable.into(), key: key.into() }
    }

    /// Whether there is a key.
    pub fn is_set(&self) -> bool {
        !self.key.is_empty()
    }

    /// The error for a row that is no JSON when there is no key.
    pub fn missing(&self) -> Error {
        let message = format!(
            "invalid settings db data or missing encryption key {:?}",
            self.variable.as_str()
        );
        Error::new(Kind::Corrupt, message).hint(
            "the settings in data.db are encrypted or damaged; start with the --encryptionEnv \
             that PocketBase was started with",
        )
    }

    /// Encrypts, with a fresh nonce.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let sealed = self
            .run(Way::Seal, nonce, plain)?
            .ok_or_else(|| Error::internal("cannot encrypt the settings"))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: it was not encrypted with this key; the key is none.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let corrupt = |message: &'static str| {
            Error::new(Kind::Corrupt, message).hint(
                "the key in the --encryptionEnv variable is not the one the settings in data.db \
                 were encrypted with, or the row is damaged",
            )
        };
        let bytes = STANDARD
            .decode(sealed)
            .map_err(|_| corrupt("the stored settings are neither JSON nor encrypted"))?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| corrupt("the stored settings are cut off"))?;
        self.run(Way::Open, *nonce, sealed)?
            .ok_or_else(|| corrupt("the stored settings cannot be decrypted with this key"))
    }

    /// The outer error is the key's length, `None` what the cipher refuses.
    fn run(&self, way: Way, nonce: [u8; NONCE_BYTES], bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = self.key.as_bytes();
        match key.len() {
            16 => Ok(run_with::<Aes128Gcm>(key, way, nonce, bytes)),
            24 => Ok(run_with::<AesGcm<Aes192, U12>>(key, way, nonce, bytes)),
            32 => Ok(run_with::<Aes256Gcm>(key, way, nonce, bytes)),
            length => Err(Error::internal(format!("crypto/aes: invalid key size {length}")).hint(
                format!(
                    "the environment variable {:?} must hold 32 characters (16 or 24 work too)",
                    self.variable
                ),
            )),
        }
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.is_set() { "hidden" } else { "none" };
        f.debug_struct("Encryption").field("variable", &self.variable).field("key", &key).finish()
    }
}

enum Way {
    Seal,
    Open,
}

fn run_with<C: Aead + AeadCore<NonceSize = U12> + KeyInit>(
    key: &[u8],
    way: Way,
    nonce: [u8; NONCE_BYTES],
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let nonce = Nonce::<U12>::from(nonce);
    match way {
        Way::Seal => cipher.encrypt(&nonce, bytes).ok(),
        Way::Open => cipher.decrypt(&nonce, bytes).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    /// `{"meta":{"appName":"Sealed"}}`, encrypted with [`KEY`] by PocketBase v0.40.4's package
    /// `tools/security`.
    const SEALED: &str =
        "MkHKuaPANSRW4P8eYfR3RCaqIsJ37+yMA16OYbxPQShCU+XVDfWxLJI9nChtvJ5vXHLPqsEgiISG";

    #[test]
    fn what_pocketbase_encrypted_is_read() {
        let plain = Encryption::new("K", KEY).open(SEALED.as_bytes()).expect("decrypted");
        assert_eq!(plain, br#"{"meta":{"appName":"Sealed"}}"#);
    }

    #[test]
    fn every_key_length_of_aes_works_and_no_other() {
        for length in [16, 24, 32] {
            let encryption = Encryption::new("K", &KEY[..length]);
            let sealed = encryption.seal(b"{}").expect("encrypted");
            assert_ne!(sealed, encryption.seal(b"{}").expect("encrypted"), "a fresh nonce");
            assert_eq!(encryption.open(sealed.as_bytes()).expect("decrypted"), b"{}");
        }
        let error = Encryption::new("K", "short").seal(b"{}").expect_err("refused");
        assert_eq!(error.message(), "crypto/aes: invalid key size 5");
        assert!(error.operator_hint().is_some_and(|hint| hint.contains("\"K\"")));
    }

    #[test]
    fn damage_and_foreign_keys_are_noticed() {
        let mut damaged = SEALED.to_owned();
        damaged.replace_range(30..31, if &SEALED[30..31] == "A" { "B" } else { "A" });
        let other = Encryption::new("K", "f".repeat(32));
        for (encryption, sealed) in [
            (Encryption::new("K", KEY), damaged.as_str()),
            (Encryption::new("K", KEY), "AAAA"),
            (Encryption::new("K", KEY), "{not json"),
            (other, SEALED),
        ] {
            let error = encryption.open(sealed.as_bytes()).expect_err("refused");
            assert_eq!(error.kind(), &Kind::Corrupt, "{sealed}");
            assert!(error.operator_hint().is_some());
        }
        assert!(!format!("{:?}", Encryption::new("K", KEY)).contains(KEY));
    }
}
