//! The form of the tables in `fixtures/wire`: cases, steps, requests and answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One recorded exchange.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// What is remarkable about it.
    #[serde(default, rename = "note")]
    pub(super) _note: Option<String>,
    #[serde(default)]
    pub(super) setup: Vec<Step>,
    pub(super) send: Template,
    /// What PocketBase answers.
    pub(super) answer: Answer,
    /// What we answer instead, as far as it differs: only together with `deviation`.
    #[serde(default)]
    pub(super) ours: Option<Answer>,
    /// Why we differ.
    #[serde(default)]
    pub(super) deviation: Option<String>,
    /// Why we differ although we should not. Such a case must differ: once it does not, the
    /// word goes.
    #[serde(default)]
    pub(super) known: Option<String>,
    #[serde(default)]
    pub(super) after: Vec<Step>,
}

/// A request with placeholders.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    /// Method and target.
    pub(super) line: String,
    /// `superuser` sends her token.
    #[serde(default, rename = "as")]
    pub(super) role: Option<String>,
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: Option<Body>,
    #[serde(default)]
    pub(super) chunked: bool,
    #[serde(default)]
    pub(super) no_host: bool,
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// The body of a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Body {
    Json(Value),
    Text(String),
    Base64(String),
    Zip(Zip),
    /// A stored backup, downloaded and rewritten.
    Rewritten {
        key: String,
        ops: Vec<Vec<Value>>,
    },
    Multipart {
        parts: Vec<Part>,
        #[serde(default)]
        boundary: Option<String>,
        /// Bytes to leave out at the end.
        #[serde(default)]
        cut: usize,
    },
}

/// An archive to be sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Zip {
    /// The one that is called `small`.
    Known(String),
    /// Stored entries: name and content.
    Made(Vec<(String, String)>),
}

/// One part of a multipart body.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Its disposition after `form-data; `, raw.
    pub(super) is: String,
    #[serde(default, rename = "type")]
    pub(super) media_type: Option<String>,
    pub(super) body: Body,
}

/// An expected answer; `ours` gives only what differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) status: Option<u16>,
    /// The set of headers that it starts from.
    #[serde(default)]
    pub(super) like: Option<String>,
    /// Headers besides: a value, several values in order, or null for "not there".
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) body: Option<Expected>,
}

/// An expected body; `None` in an answer means that there is none.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Expected {
    Json(Value),
    Text(String),
    Latin1(String),
    Base64(String),
    Zip(String),
}

/// Something done before or after the exchange.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    /// A named list of steps, with its argument after a space.
    Named(String),
    Use {
        #[serde(rename = "use")]
        name: String,
        arg: Value,
    },
    Call(Box<Call>),
    Until {
        until: Template,
        #[serde(rename = "match")]
        pattern: String,
        #[serde(default)]
        every_ms: Option<u64>,
    },
    Sleep {
        sleep_ms: u64,
    },
    Repeat {
        repeat: usize,
        steps: Vec<Step>,
    },
    Set {
        set: String,
        value: String,
        times: usize,
    },
    Jwt {
        jwt: Jwt,
    },
    /// Changes one character of the signature of a known token.
    Tamper {
        tamper: String,
        var: String,
    },
    /// Deletes every backup.
    Purge {
        #[serde(rename = "purge")]
        _purge: bool,
    },
    Background {
        background: Template,
    },
    Join {
        #[serde(rename = "join")]
        _join: bool,
    },
    /// Files of that size in the folder that is backed up, so that a backup takes a while.
    Ballast {
        ballast_mb: usize,
    },
}

/// A request of a step, and what its answer must be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) call: Template,
    #[serde(default)]
    pub(super) status: Vec<u16>,
    #[serde(default)]
    pub(super) ours_status: Option<Vec<u16>>,
    #[serde(default, rename = "match")]
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) ours_match: Option<String>,
    /// Variable → `json:a.b` or `header:Name`.
    #[serde(default)]
    pub(super) capture: BTreeMap<String, String>,
}

/// A token to forge.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Jwt {
    pub(super) var: String,
    pub(super) header: Value,
    pub(super) claims: Value,
    pub(super) secret: String,
}

/// What the tables share.
#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub(super) headers: BTreeMap<String, BTreeMap<String, Value>>,
    pub(super) steps: BTreeMap<String, Named>,
}

/// A named list of steps; `<<arg>>` in it stands for its argument.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    pub(super) default: Value,
    pub(super) steps: Value,
}

impl Named {
    /// The steps with their argument put in.
    pub(super) fn with(&self, arg: Option<Value>) -> Vec<Step> {
        let arg = arg.unwrap_or_else(|| self.default.clone());
        serde_json::from_value(put(&self.steps, &arg)).expect("steps")
    }
}

fn put(value: &Value, arg: &Value) -> Value {
    match value {
        Value::String(text) if text == "<<arg>>" => arg.clone(),
        Value::String(text) => Value::String(match arg {
            Value::String(arg) => text.replace("<<arg>>", arg),
            _ => text.clone(),
        }),
        Value::Array(items) => items.iter().map(|item| put(item, arg)).collect(),
        Value::Object(map) => map.iter().map(|(key, v)| (key.clone(), put(v, arg))).collect(),
        other => other.clone(),
    }
}

/// Reads one file of `fixtures/wire`.
pub(super) fn load<T: DeserializeOwned>(name: &str) -> T {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire");
    let text = fs::read_to_string(folder.join(format!("{name}.json")))
        .unwrap_or_else(|error| panic!("{name}.json: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}.json: {error}"))
}
