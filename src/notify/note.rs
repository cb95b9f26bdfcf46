//! What somebody is told, whatever the way.

use serde::{Deserialize, Serialize};

use crate::config::notify::Event;

/// One piece of news. It is kept as JSON until it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about.
    pub event: Event,
    /// One line in plain ASCII, for it may become a header.
    pub title: String,
    /// What happened, in a sentence or more.
    pub text: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The backup that it is about.
    pub key: Option<String>,
    /// What that job does, in the word of the API.
    pub kind: Option<String>,
    /// The job that it is about.
    pub job: Option<u64>,
    /// When it happened, in PocketBase's form.
    pub time: String,
}

impl Note {
    /// Text and hint.
    pub fn body(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\nHint: {hint}", self.text),
            None => self.text.clone(),
        }
    }
}
