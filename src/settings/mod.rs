//! PocketBase's settings document: what it holds, how a patch changes it, which values it
//! takes, and where it is kept.
//!
//! The whole document is kept as it was read, with keys we do not know, so that a newer
//! PocketBase loses nothing by our saving; [`Values`] is the typed view of what we know.

pub mod addresses;
mod carried;
mod formats;
pub mod held;
pub mod limits;
mod merge;
mod rules;
mod seal;
pub mod store;
mod values;

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::{Context, Error, Kind, Result, Violation};

pub use seal::Encryption;
pub use values::{
    Backups, Batch, Logs, Meta, RateLimits, Rule, S3, Secret, Smtp, TrustedProxy, Values,
};

/// A settings document: complete, and valid unless it was read from a database that holds
/// something else. Serializes as the public form, thus without its secrets.
#[derive(Clone, PartialEq)]
pub struct Settings {
    document: Value,
    values: Values,
}

/// How a patch came.
#[derive(Debug, Clone, Copy)]
pub enum Patch<'a> {
    /// As JSON.
    Json(&'a Value),
    /// As form fields.
    Form(&'a [(String, String)]),
}

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum PatchError {
    /// It is no object, or a value has the wrong type.
    Load,
    /// The resulting settings break rules, named by dotted paths.
    Invalid(Vec<Violation>),
}

impl From<PatchError> for Error {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Load => Self::new(
                Kind::Invalid(Vec::new()),
                "An error occurred while loading the submitted data.",
            ),
            PatchError::Invalid(violations) => Self::new(
                Kind::Invalid(violations),
                "An error occurred while saving the new settings.",
            ),
        }
    }
}

impl Settings {
    /// Reads a stored document; what it lacks has PocketBase's default, what we do not know
    /// is kept. Rules are not checked: PocketBase does not either.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is not JSON or a known key has a value of the wrong type.
    pub fn from_stored(json: &[u8]) -> Result<Self> {
        let corrupt = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Kind::Corrupt, "The stored settings are not a settings document.")
                .because(cause)
        };
        let stored: Value = serde_json::from_slice(json).map_err(|error| corrupt(error.into()))?;
        let mut document = values::default_document();
        merge::stored(&mut document, &stored).map_err(|error| corrupt(error.into()))?;
        Self::of(document)
    }

    /// The whole document for the database, with its secrets in clear.
    ///
    /// # Errors
    /// None that a document can cause.
    pub fn to_stored(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.document).context("cannot write the settings as JSON")
    }

    /// The whole document, with its secrets in clear.
    pub fn to_json(&self) -> Value {
        self.document.clone()
    }

    /// What we know of it.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The answer of `GET /api/settings`: PocketBase v0.40.4's keys in its order, secrets left
    /// out.
    ///
    /// # Errors
    /// None that a document can cause.
    pub fn public_json(&self) -> Result<String> {
        serde_json::to_string(self).context("cannot write the settings as JSON")
    }

    /// These settings changed by a JSON body: keys in any case, `_` and `-` ignored; what is
    /// absent stays, `null` resets to the zero value, unknown keys are ignored.
    ///
    /// # Errors
    /// [`PatchError`]; nothing is changed then.
    pub fn patch(&self, patch: &Value) -> Result<Self, PatchError> {
        let mut document = self.document.clone();
        merge::json(&mut document, patch).map_err(|_| PatchError::Load)?;
        Self::checked(document)
    }

    /// These settings changed by form fields, in the order they came: exact dotted names two
    /// levels deep, the first of several values (all of them for lists), and JSON under
    /// `@jsonPayload`.
    ///
    /// # Errors
    /// [`PatchError`]; nothing is changed then.
    pub fn patch_form(&self, fields: &[(String, String)]) -> Result<Self, PatchError> {
        let mut document = self.document.clone();
        merge::form(&mut document, fields).map_err(|_| PatchError::Load)?;
        Self::checked(document)
    }

    /// As [`Settings::patch`] (or with form fields [`Settings::patch_form`]), but with the
    /// rules that are broken instead of an error: for settings that somebody else judges too.
    ///
    /// # Errors
    /// [`PatchError::Load`].
    pub fn patched(&self, patch: Patch<'_>) -> Result<(Self, Vec<Violation>), PatchError> {
        let mut document = self.document.clone();
        match patch {
            Patch::Json(patch) => merge::json(&mut document, patch),
            Patch::Form(fields) => merge::form(&mut document, fields),
        }
        .map_err(|_| PatchError::Load)?;
        let settings = Self::of(document).map_err(|_| PatchError::Load)?;
        let violations = rules::violations(&settings.values);
        Ok((settings, violations))
    }

    /// These settings with `held` laid over them.
    ///
    /// # Errors
    /// None that a document can cause.
    pub fn with_held(&self, held: &held::Held) -> Result<Self> {
        let mut document = self.document.clone();
        held.lay_over(&mut document);
        Self::of(document)
    }

    fn checked(document: Value) -> Result<Self, PatchError> {
        let settings = Self::of(document).map_err(|_| PatchError::Load)?;
        let violations = rules::violations(&settings.values);
        if violations.is_empty() { Ok(settings) } else { Err(PatchError::Invalid(violations)) }
    }

    fn of(document: Value) -> Result<Self> {
        let values = Values::deserialize_from(&document)
            .context("the settings document does not have the form it was merged into")?;
        Ok(Self { document, values })
    }
}

impl Default for Settings {
    /// PocketBase's settings of a fresh folder.
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant document, read by a test")]
        Self::of(values::default_document()).expect("the default document has its own form")
    }
}

impl fmt::Debug for Settings {
    // The document holds secrets in clear.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settings").field(&self.values).finish()
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
