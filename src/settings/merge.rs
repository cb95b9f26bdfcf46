//! How a document is changed: by a stored row, by a JSON body, by form fields.
//!
//! [`DOCUMENT`] says which keys there are and of which type; the rest is one walk over it.
//! The semantics are those of Go's `encoding/json/v2` decoding into an existing structure,
//! which is what PocketBase v0.40 does.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

/// The form field whose values are JSON bodies.
const JSON_PAYLOAD: &str = "@jsonPayload";

/// The type of a key.
enum Field {
    Text,
    Flag,
    Number,
    List(&'static Field),
    Section(&'static [(&'static str, Field)]),
}

use Field::{Flag, List, Number, Section, Text};

const S3: Field = Section(&[
    ("enabled", Flag),
    ("bucket", Text),
    ("region", Text),
    ("endpoint", Text),
    ("accessKey", Text),
    ("secret", Text),
    ("forcePathStyle", Flag),
]);

const RULE: Field =
    Section(&[("label", Text), ("audience", Text), ("duration", Number), ("maxRequests", Number)]);

const DOCUMENT: Field = Section(&[
    ("superuserIPs", List(&Text)),
    (
        "smtp",
        Section(&[
            ("enabled", Flag),
            ("port", Number),
            ("host", Text),
            ("username", Text),
            ("password", Text),
            ("authMethod", Text),
            ("tls", Flag),
            ("localName", Text),
        ]),
    ),
    ("backups", Section(&[("cron", Text), ("cronMaxKeep", Number), ("s3", S3)])),
    ("s3", S3),
    (
        "meta",
        Section(&[
            ("accentColor", Text),
            ("appName", Text),
            ("appURL", Text),
            ("senderName", Text),
            ("senderAddress", Text),
            ("hideControls", Flag),
        ]),
    ),
    (
        "rateLimits",
        Section(&[("rules", List(&RULE)), ("excludedIPs", List(&Text)), ("enabled", Flag)]),
    ),
    ("trustedProxy", Section(&[("headers", List(&Text)), ("useLeftmostIP", Flag)])),
    (
        "batch",
        Section(&[
            ("enabled", Flag),
            ("maxRequests", Number),
            ("timeout", Number),
            ("maxBodySize", Number),
        ]),
    ),
    (
        "logs",
        Section(&[
            ("maxDataSize", Number),
            ("maxDays", Number),
            ("minLevel", Number),
            ("logIP", Flag),
            ("logAuthId", Flag),
        ]),
    ),
]);

/// A value has the wrong type for its key, or a key comes twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected value or repeated key at {:?}", self.0)
    }
}

impl std::error::Error for Mismatch {}

/// Merges a stored row: exact names, unknown keys are kept.
pub(super) fn stored(document: &mut Value, row: &Value) -> Result<(), Mismatch> {
    require_object(row)?;
    Merge { fold_names: false, keep_unknown: true }.apply(&DOCUMENT, document, row, "")
}

/// Merges a JSON body: names in any case, unknown keys are ignored.
pub(super) fn json(document: &mut Value, body: &Value) -> Result<(), Mismatch> {
    require_object(body)?;
    Merge { fold_names: true, keep_unknown: false }.apply(&DOCUMENT, document, body, "")
}

/// Merges form fields, then the JSON bodies among them.
///
/// Deliberately not copied from PocketBase: a field `s3.bucket` there changes `backups.s3` too
/// (its prefix of nested structures is overwritten), and so would redirect the backups.
pub(super) fn form(document: &mut Value, fields: &[(String, String)]) -> Result<(), Mismatch> {
    let exact = Merge { fold_names: false, keep_unknown: false };
    let Section(sections) = &DOCUMENT else { return Ok(()) };
    let mut body = Map::new();
    for (section, field) in *sections {
        let Section(inner) = field else {
            if let Some(value) = form_value(field, section, fields)? {
                body.insert((*section).to_owned(), value);
            }
            continue;
        };
        let mut values = Map::new();
        for (name, field) in *inner {
            if let Some(value) = form_value(field, &format!("{section}.{name}"), fields)? {
                values.insert((*name).to_owned(), value);
            }
        }
        body.insert((*section).to_owned(), Value::Object(values));
    }
    exact.apply(&DOCUMENT, document, &Value::Object(body), "")?;
    for (_, payload) in fields.iter().filter(|(name, _)| name == JSON_PAYLOAD) {
        let body: Value =
            serde_json::from_str(payload).map_err(|_| Mismatch(JSON_PAYLOAD.to_owned()))?;
        require_object(&body)?;
        exact.apply(&DOCUMENT, document, &body, "")?;
    }
    Ok(())
}

/// `null` would make PocketBase fail with 500; we call it what it is.
fn require_object(body: &Value) -> Result<(), Mismatch> {
    if body.is_object() { Ok(()) } else { Err(Mismatch(String::new())) }
}

struct Merge {
    fold_names: bool,
    keep_unknown: bool,
}

impl Merge {
    fn apply(
        &self,
        field: &Field,
        target: &mut Value,
        patch: &Value,
        path: &str,
    ) -> Result<(), Mismatch> {
        match (field, patch) {
            (_, Value::Null) => *target = zero(field),
            (Text, Value::String(_)) | (Flag, Value::Bool(_)) => *target = patch.clone(),
            (Number, Value::Number(number)) if number.is_i64() => *target = patch.clone(),
            (List(element), Value::Array(patches)) => {
                let mut items = Vec::with_capacity(patches.len());
                for patch in patches {
                    let mut item = zero(element);
                    self.apply(element, &mut item, patch, path)?;
                    items.push(item);
                }
                *target = Value::Array(items);
            }
            (Section(fields), Value::Object(patches)) => {
                if !target.is_object() {
                    *target = zero(field);
                }
                if let Value::Object(target) = target {
                    self.apply_section(fields, target, patches, path)?;
                }
            }
            _ => return Err(Mismatch(path.to_owned())),
        }
        Ok(())
    }

    fn apply_section(
        &self,
        fields: &[(&'static str, Field)],
        target: &mut Map<String, Value>,
        patches: &Map<String, Value>,
        path: &str,
    ) -> Result<(), Mismatch> {
        let mut seen = Vec::new();
        for (name, patch) in patches {
            let known = fields.iter().find(|(known, _)| {
                known == name || (self.fold_names && folded(known) == folded(name))
            });
            let Some((known, field)) = known else {
                if self.keep_unknown {
                    target.insert(name.clone(), patch.clone());
                }
                continue;
            };
            let path = if path.is_empty() { (*known).into() } else { format!("{path}.{known}") };
            if seen.contains(known) {
                return Err(Mismatch(path));
            }
            seen.push(known);
            let slot = target.entry(*known).or_insert(Value::Null);
            self.apply(field, slot, patch, &path)?;
        }
        Ok(())
    }
}

/// The value of a key that was reset.
fn zero(field: &Field) -> Value {
    match field {
        Text => Value::String(String::new()),
        Flag => Value::Bool(false),
        Number => Value::from(0),
        List(_) => Value::Array(Vec::new()),
        Section(fields) => {
            fields.iter().map(|(name, field)| ((*name).to_owned(), zero(field))).collect()
        }
    }
}

/// A name as Go compares names: ASCII case, `_` and `-` do not count, and two letters beyond
/// ASCII fold to ASCII ones.
pub(super) fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| match c {
            'ſ' => 'S',
            '\u{212a}' => 'K',
            c => c.to_ascii_uppercase(),
        })
        .collect()
}

/// The JSON value of the form field `name`, `None` when it is absent or cannot be had from a
/// form (sections and lists of sections).
fn form_value(
    field: &Field,
    name: &str,
    fields: &[(String, String)],
) -> Result<Option<Value>, Mismatch> {
    let mut values = fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
    if let List(element) = field {
        if matches!(element, Section(_)) {
            return Ok(None);
        }
        let all: Vec<Value> = values.filter_map(|value| form_scalar(element, value)).collect();
        return Ok((!all.is_empty()).then_some(Value::Array(all)));
    }
    let Some(first) = values.next() else { return Ok(None) };
    if matches!(field, Section(_)) {
        return Ok(None);
    }
    form_scalar(field, first).map(Some).ok_or_else(|| Mismatch(name.to_owned()))
}

fn form_scalar(field: &Field, text: &str) -> Option<Value> {
    match field {
        Text => Some(Value::from(text)),
        Flag => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        Number if text.is_empty() => Some(Value::from(0)),
        Number => go_integer(text).map(Value::from),
        List(_) | Section(_) => None,
    }
}

/// An integer literal of Go: a sign, a base prefix, `_` between digits.
fn go_integer(text: &str) -> Option<i64> {
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = body.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // An underscore stands between digits; a base prefix counts as a digit before it.
    let after_prefix = digits.len() < lower.len();
    let separated = digits.strip_prefix('_').filter(|_| after_prefix).unwrap_or(digits);
    if separated.split('_').any(str::is_empty) {
        return None;
    }
    let bare: Cow<'_, str> = separated.replace('_', "").into();
    if !bare.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{bare}"), radix).ok()
}
