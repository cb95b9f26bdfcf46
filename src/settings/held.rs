//! What of the settings is ours while a program that we run owns the rest: the schedule, or
//! its scheduler would make the backups too, and the trusted proxies, because the proxy in
//! front of the program is we.
//!
//! In the program's own row the schedule is empty then, and a header is trusted that only we
//! can set; [`carried`](super::carried) has how the row carries what is held. A copy lies in a
//! file of our state folder, encrypted with the settings' key if there is one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::carried::{self, Carried};
use super::merge::folded;
use super::{Encryption, Settings, TrustedProxy};
use crate::error::{Context, Error, Kind, Result};
use crate::fsx;
use crate::settings::store::Store;

/// The held part of the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// When to make a backup; empty for never.
    pub cron: String,
    /// Whom to believe about a client's address.
    #[serde(rename = "trustedProxy")]
    pub trusted_proxy: TrustedProxy,
}

impl Held {
    /// The held part of `settings`.
    pub fn of(settings: &Settings) -> Self {
        let values = settings.values();
        Self { cron: values.backups.cron.clone(), trusted_proxy: values.trusted_proxy.clone() }
    }

    /// Lays it over a document or a public answer: the places that are there are overwritten.
    pub fn lay_over(&self, document: &mut Value) {
        if let Some(cron) = document.pointer_mut("/backups/cron") {
            *cron = json!(self.cron);
        }
        if let Some(trusted) = document.get_mut("trustedProxy") {
            *trusted = json!(self.trusted_proxy);
        }
    }
}

/// A patch without what is held, for the program. Names are folded as PocketBase folds them.
pub fn without_held(patch: &Value) -> Value {
    let Value::Object(sections) = patch else { return patch.clone() };
    let mut kept = Map::new();
    for (name, section) in sections {
        match (folded(name).as_str(), section) {
            ("TRUSTEDPROXY", _) => {}
            ("BACKUPS", Value::Object(fields)) => {
                let fields: Map<String, Value> = fields
                    .iter()
                    .filter(|(name, _)| folded(name) != "CRON")
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                kept.insert(name.clone(), Value::Object(fields));
            }
            _ => drop(kept.insert(name.clone(), section.clone())),
        }
    }
    Value::Object(kept)
}

/// Keeps the held part in a file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    encryption: Encryption,
    secret: Mutex<String>,
    held: Mutex<Option<Arc<Held>>>,
}

impl Keeper {
    /// The keeper of the file at `path`.
    ///
    /// # Errors
    /// The file is there and cannot be read: [`Kind::Corrupt`] when its content is no held
    /// part, or not with this key.
    pub fn open(path: PathBuf, encryption: Encryption) -> Result<Self> {
        let held = match std::fs::read(&path) {
            Ok(bytes) => Some(Arc::new(parsed(&bytes, &encryption).map_err(|error| {
                let hint = "start with the --encryptionEnv of before, or remove the file and set \
                            the schedule and the trusted proxies again";
                Error::new(Kind::Corrupt, format!("{} cannot be read", path.display()))
                    .because(error)
                    .hint(hint)
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let secret = Mutex::new(carried::new_secret());
        Ok(Self { path, encryption, secret, held: Mutex::new(held) })
    }

    /// The header in which the program is told the client's address. It trusts that one, and
    /// nobody else knows its name.
    pub fn client_header(&self) -> String {
        carried::client_header(&self.secret())
    }

    /// What the program's row says instead of `held`, and carries it.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn instead(&self, held: &Held) -> Result<Held> {
        carried::instead(held, &self.secret())
    }

    fn secret(&self) -> String {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is held; `None` before the first [`Keeper::save`].
    pub fn current(&self) -> Option<Arc<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps `held` from now on.
    ///
    /// # Errors
    /// It cannot be encrypted or written; what was held stays.
    pub fn save(&self, held: Held) -> Result<()> {
        let plain = serde_json::to_vec(&held).context("cannot write the held settings")?;
        let bytes = match self.encryption.is_set() {
            true => self.encryption.seal(&plain)?.into_bytes(),
            false => plain,
        };
        // Its folder is there: the lock lies in it. Such files are 0600.
        fsx::write_durably(&self.path, &bytes)?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
        Ok(())
    }

    /// Takes over what the program's row says of the held part, while the program does not
    /// run: what it carries, or what it says itself after a time without us. The row goes with
    /// the data, so a restore, a roll-back and an undo bring theirs. `row` is the row
    /// [as it is stored](Store::as_stored).
    ///
    /// # Errors
    /// The settings cannot be read or written. Calling it again is safe.
    pub async fn settle(&self, row: &Store) -> Result<()> {
        let found = Held::of(row.current().await?.as_ref());
        let known = self.current();
        let held = match carried::carried(&found) {
            Some(Carried { secret, held: Some(held) }) => {
                *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret;
                held
            }
            Some(Carried { held: None, .. }) => match known.as_deref() {
                Some(known) => known.clone(),
                None => carried::meant(&found).unwrap_or_else(|| found.clone()),
            },
            None => found.clone(),
        };
        let instead = self.instead(&held)?;
        if found == instead && known.as_deref() == Some(&held) {
            return Ok(());
        }
        tracing::info!(cron = held.cron, "took over the schedule and the trusted proxies");
        // First ours: after a crash in between, it is taken over once more.
        self.save(held)?;
        row.update(|settings| settings.with_held(&instead)).await.map(drop)
    }
}

fn parsed(bytes: &[u8], encryption: &Encryption) -> Result<Held> {
    if let Ok(held) = serde_json::from_slice(bytes) {
        return Ok(held);
    }
    serde_json::from_slice(&encryption.open(bytes)?).context("it does not hold what it should")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cron: &str) -> Held {
        let headers = vec!["X-Real-IP".to_owned()];
        let trusted_proxy = TrustedProxy { headers, use_leftmost_ip: false };
        Held { cron: cron.to_owned(), trusted_proxy }
    }

    fn keeper(path: PathBuf, key: &str) -> Result<Keeper> {
        Keeper::open(path, Encryption::new("K", key))
    }

    #[test]
    fn what_is_held_survives_in_its_file_and_is_sealed_with_the_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("settings");
        let key = "k".repeat(32);
        assert_eq!(keeper(path.clone(), "").expect("nothing yet").current(), None);
        keeper(path.clone(), "").expect("opened").save(held("1 * * * *")).expect("saved");
        let open = keeper(path.clone(), &key).expect("clear text is read with a key too");
        assert_eq!(open.current().as_deref(), Some(&held("1 * * * *")));
        open.save(held("2 * * * *")).expect("saved");
        let bytes = std::fs::read_to_string(&path).expect("read");
        assert!(!bytes.contains('*') && !bytes.contains("X-Real-IP"), "{bytes}");
        let again = keeper(path.clone(), &key).expect("opened");
        assert_eq!(again.current().as_deref(), Some(&held("2 * * * *")));
        for key in ["", "another-key-of-thirty-two-letters"] {
            let error = keeper(path.clone(), key).expect_err("no key, no settings");
            assert!(error.operator_hint().is_some_and(|hint| hint.contains("--encryptionEnv")));
        }
    }

    #[test]
    fn it_is_laid_over_what_is_there_and_taken_out_of_patches() {
        let mut document = json!({
            "backups": { "cron": "", "cronMaxKeep": 3 },
            "trustedProxy": { "headers": ["X-Ours"], "useLeftmostIP": true },
            "meta": { "appName": "A" },
        });
        held("@daily").lay_over(&mut document);
        let trusted = json!({ "headers": ["X-Real-IP"], "useLeftmostIP": false });
        assert_eq!(document["backups"], json!({ "cron": "@daily", "cronMaxKeep": 3 }));
        assert_eq!(document["trustedProxy"], trusted);
        let patch = json!({
            "BACK_UPS": { "Cron": "@daily", "cronMaxKeep": 4 },
            "trusted-proxy": { "headers": [] },
            "meta": { "cron": "kept" },
            "new": 1,
        });
        let expected = json!({
            "BACK_UPS": { "cronMaxKeep": 4 }, "meta": { "cron": "kept" }, "new": 1,
        });
        assert_eq!(without_held(&patch), expected);
        assert_eq!(without_held(&json!([1])), json!([1]));
    }
}
