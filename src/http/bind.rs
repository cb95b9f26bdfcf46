//! Brings a body of any content type into one form: an object with our spelling of the names
//! and checked types, as Go would fill a struct. Names of JSON ignore case, `_` and `-`;
//! unknown names are dropped; what is left out is absent; JSON's `null` stays `null` and
//! means "the zero value" (PocketBase 0.40).
//!
//! Only flat objects: settings, the one body with parts, are merged by `settings`.

use serde_json::{Map, Number, Value};

use super::body::{Body, BodyError, JSON_PAYLOAD};
use super::{strict, xml};

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// A whole number, as `i64`.
    Whole,
}

/// A field that can be set.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in JSON and in forms, and in the result.
    pub name: &'static str,
    /// Its element's name in XML (the field's name in Go).
    pub element: &'static str,
    /// What it may hold.
    pub shape: Shape,
}

const WRONG: BodyError = BodyError::Malformed("wrong type");

/// The fields that a body sets, under our names; absent ones are missing from the map.
///
/// # Errors
/// [`BodyError::Malformed`]: a value of the wrong type, a list or bare value instead of an
/// object, or two spellings of one name.
pub fn bind(body: &Body, fields: &'static [Field]) -> Result<Map<String, Value>, BodyError> {
    match body {
        Body::Absent => Ok(Map::new()),
        Body::Json(value) => object(value, fields, Names::Folded),
        Body::Form(pairs) => {
            let mut found = form(pairs, fields)?;
            for (_, payload) in pairs.iter().filter(|(name, _)| name == JSON_PAYLOAD) {
                let value = strict::only_value(payload.as_bytes())?;
                found.extend(object(&value, fields, Names::Exact)?);
            }
            Ok(found)
        }
        Body::Xml(root) => elements(root, fields),
    }
}

/// How names of JSON are compared: folded in bodies, exact inside of a form's payload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Folded,
    Exact,
}

fn object(
    value: &Value,
    fields: &'static [Field],
    names: Names,
) -> Result<Map<String, Value>, BodyError> {
    let members = match value {
        Value::Object(members) => members,
        Value::Null => {
            return Ok(fields.iter().map(|field| (field.name.to_owned(), Value::Null)).collect());
        }
        _ => return Err(WRONG),
    };
    let mut found = Map::new();
    for (name, value) in members {
        let fits = |field: &&Field| match names {
            Names::Exact => field.name == name,
            Names::Folded => folded(field.name) == folded(name),
        };
        let Some(field) = fields.iter().find(fits) else { continue };
        let value = json_value(value, field.shape)?;
        if found.insert(field.name.to_owned(), value).is_some() {
            return Err(BodyError::Malformed("two spellings of one name"));
        }
    }
    Ok(found)
}

fn json_value(value: &Value, shape: Shape) -> Result<Value, BodyError> {
    match (shape, value) {
        (_, Value::Null) | (Shape::Text, Value::String(_)) => Ok(value.clone()),
        (Shape::Whole, Value::Number(number)) => Ok(Value::from(whole(number)?)),
        _ => Err(WRONG),
    }
}

/// `1.0` and `1e2` are not whole numbers to Go; `-0` is.
fn whole(number: &Number) -> Result<i64, BodyError> {
    match number.as_f64() {
        Some(0.0) => Ok(0),
        _ => number.as_i64().ok_or(WRONG),
    }
}

/// Case and the two joiners do not matter.
fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_uppercase).collect()
}

/// Of equal names the first counts.
fn form(
    pairs: &[(String, String)],
    fields: &'static [Field],
) -> Result<Map<String, Value>, BodyError> {
    let mut found = Map::new();
    for field in fields {
        let Some((_, text)) = pairs.iter().find(|(name, _)| name == field.name) else { continue };
        let value = match field.shape {
            Shape::Text => Value::from(text.as_str()),
            Shape::Whole if text.is_empty() => Value::from(0),
            Shape::Whole => Value::from(go_integer(text).ok_or(WRONG)?),
        };
        found.insert(field.name.to_owned(), value);
    }
    Ok(found)
}

/// Go's integer literals: `0x`, `0o`, `0b`, a leading 0 for octal, `_` between digits.
pub(super) fn go_integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with('+') || digits.starts_with('-') || digits.contains("__") {
        return None;
    }
    if digits.ends_with('_') || (radix == 10 && digits.starts_with('_')) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

/// Of equal names the last counts.
fn elements(
    parent: &xml::Element,
    fields: &'static [Field],
) -> Result<Map<String, Value>, BodyError> {
    let mut found = Map::new();
    for field in fields {
        let last = parent.children.iter().rfind(|child| child.name == field.element);
        let Some(xml::Element { text, .. }) = last else { continue };
        let value = match (field.shape, text.trim()) {
            (Shape::Text, _) => Value::from(text.as_str()),
            (Shape::Whole, "") => Value::from(0),
            (Shape::Whole, digits) => Value::from(digits.parse::<i64>().map_err(|_| WRONG)?),
        };
        found.insert(field.name.to_owned(), value);
    }
    Ok(found)
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
