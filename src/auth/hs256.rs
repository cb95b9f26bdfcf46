//! HS256, the only algorithm that `jsonwebtoken` knows in this process.
//!
//! The crate is built without a crypto backend, because its own backends bring RSA and
//! elliptic curves along. With this provider no token can choose another algorithm: the
//! factories below refuse every other one, and every key that is no plain secret.

use std::sync::Once;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::{self, CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header};
use serde::Serialize;
use sha2::Sha256;

/// The token with that header and those claims.
///
/// # Errors
/// The header names another algorithm, or the claims cannot be serialised.
pub(super) fn encode<T: Serialize>(header: &Header, claims: &T, key: &[u8]) -> Result<String> {
    install();
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key))
}

/// Whether `signature`, in base64, is the one of `message`. Takes the same time for every
/// wrong signature of the right length.
pub(super) fn verify(message: &str, signature: &str, key: &[u8]) -> bool {
    install();
    let key = DecodingKey::from_secret(key);
    crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256).unwrap_or(false)
}

/// The signature of `message` in base64, for tokens that [`encode`] would never make.
#[cfg(test)]
pub(super) fn signature(message: &str, key: &[u8]) -> String {
    install();
    let key = EncodingKey::from_secret(key);
    crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed")
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Only JSON web keys need these, and nothing here reads any.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes [`PROVIDER`] the one of the process. It must be there before the first use of the
/// crate, which otherwise settles on a provider that panics.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::warn!("another provider signs and verifies the tokens of this process");
        }
    });
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Ok(Box::new(Hs256::new(*algorithm, key.family(), key.as_bytes())?))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    Ok(Box::new(Hs256::new(*algorithm, key.family(), key.try_get_as_bytes()?)?))
}

/// An HMAC with its key and no text yet.
struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, key: &[u8]) -> Result<Self> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        if family != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        Hmac::new_from_slice(key).map(Self).map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }

    fn of(&self, message: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(message)
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(self.of(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        // Compares in constant time.
        self.of(message).verify_slice(signature).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &[u8] = b"a secret";

    #[test]
    fn every_other_algorithm_and_every_other_key_is_refused() {
        install();
        for algorithm in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256, Algorithm::EdDSA] {
            assert!(encode(&Header::new(algorithm), &json!({}), KEY).is_err(), "{algorithm:?}");
            assert!(signer(&algorithm, &EncodingKey::from_secret(KEY)).is_err(), "{algorithm:?}");
            assert!(verifier(&algorithm, &DecodingKey::from_secret(KEY)).is_err());
        }
        assert!(signer(&Algorithm::HS256, &EncodingKey::from_rsa_der(KEY)).is_err());
        assert!(verifier(&Algorithm::HS256, &DecodingKey::from_rsa_der(KEY)).is_err());
    }

    #[test]
    fn a_signature_fits_one_message_and_one_key() {
        let made = signature("message", KEY);
        assert!(verify("message", &made, KEY));
        assert!(!verify("massage", &made, KEY));
        assert!(!verify("message", &made, b"another secret"));
        assert!(!verify("message", &made[1..], KEY) && !verify("message", "", KEY));
        assert!(!verify("message", &format!("{made}="), KEY), "padded");
        assert!(verify("message", &signature("message", &[7; 300]), &[7; 300]), "a long key");
        assert!(verify("message", &signature("message", b""), b""), "an empty key");
    }
}
