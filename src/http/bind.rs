//! Brings a body of any content type into one form: an object with our spelling of the names
//! and checked types, as Go would fill a struct. Names of JSON ignore case, `_` and `-`;
//! unknown names are dropped; what is left out is absent; JSON's `null` stays `null` and
//! means "the zero value" (PocketBase 0.40).

use serde_json::{Map, Number, Value};

use super::body::{Body, BodyError, JSON_PAYLOAD};
use super::{strict, xml};

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// A boolean.
    Flag,
    /// A whole number, as `i64`.
    Whole,
    /// Any number.
    Number,
    /// A list of strings.
    Texts,
    /// A list of objects; forms cannot fill these.
    Objects(&'static [Field]),
    /// An object. In forms its fields are named `<this name>.<field>`, at any depth with the
    /// innermost object's name only, as PocketBase has it.
    Object(&'static [Field]),
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
            let mut found = form(pairs, fields, "")?;
            for (_, payload) in pairs.iter().filter(|(name, _)| name == JSON_PAYLOAD) {
                let value = strict::only_value(payload.as_bytes())?;
                merge(&mut found, object(&value, fields, Names::Exact)?);
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
        let value = json_value(value, field.shape, names)?;
        if found.insert(field.name.to_owned(), value).is_some() {
            return Err(BodyError::Malformed("two spellings of one name"));
        }
    }
    Ok(found)
}

fn json_value(value: &Value, shape: Shape, names: Names) -> Result<Value, BodyError> {
    Ok(match (shape, value) {
        (_, Value::Null) => Value::Null,
        (Shape::Text, Value::String(_)) | (Shape::Flag, Value::Bool(_)) => value.clone(),
        (Shape::Number, Value::Number(_)) => value.clone(),
        (Shape::Whole, Value::Number(number)) => Value::from(whole(number)?),
        (Shape::Texts, Value::Array(items)) => {
            let text = |item: &Value| match item {
                Value::Null => Ok(Value::from("")),
                Value::String(_) => Ok(item.clone()),
                _ => Err(WRONG),
            };
            Value::Array(items.iter().map(text).collect::<Result<_, _>>()?)
        }
        (Shape::Objects(fields), Value::Array(items)) => {
            let item = |item| object(item, fields, names).map(Value::Object);
            Value::Array(items.iter().map(item).collect::<Result<_, _>>()?)
        }
        (Shape::Object(fields), value) => Value::Object(object(value, fields, names)?),
        _ => return Err(WRONG),
    })
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

fn form(
    pairs: &[(String, String)],
    fields: &'static [Field],
    prefix: &str,
) -> Result<Map<String, Value>, BodyError> {
    let mut found = Map::new();
    for field in fields {
        let full = match prefix {
            "" => field.name.to_owned(),
            prefix => format!("{prefix}.{}", field.name),
        };
        let mut values = pairs.iter().filter(|(name, _)| *name == full).map(|(_, value)| value);
        let value = match field.shape {
            Shape::Object(inner) => {
                let inner = form(pairs, inner, field.name)?;
                (!inner.is_empty()).then_some(Value::Object(inner))
            }
            Shape::Texts => {
                let texts: Vec<Value> = values.map(|text| Value::from(text.as_str())).collect();
                (!texts.is_empty()).then_some(Value::Array(texts))
            }
            Shape::Objects(_) => None,
            shape => values.next().map(|text| form_value(text, shape)).transpose()?,
        };
        if let Some(value) = value {
            found.insert(field.name.to_owned(), value);
        }
    }
    Ok(found)
}

fn form_value(text: &str, shape: Shape) -> Result<Value, BodyError> {
    Ok(match shape {
        Shape::Flag => Value::from(!text.is_empty() && flag(text)?),
        Shape::Whole if text.is_empty() => Value::from(0),
        Shape::Whole => Value::from(go_integer(text).ok_or(WRONG)?),
        Shape::Number if text.is_empty() => Value::from(0),
        Shape::Number => Value::from(text.parse::<f64>().map_err(|_| WRONG)?),
        _ => Value::from(text),
    })
}

/// The spellings of Go's `ParseBool`.
fn flag(text: &str) -> Result<bool, BodyError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(WRONG),
    }
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

/// Later values replace earlier ones, objects are merged.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

fn elements(
    parent: &xml::Element,
    fields: &'static [Field],
) -> Result<Map<String, Value>, BodyError> {
    let mut found = Map::new();
    for field in fields {
        let mut all = parent.children.iter().filter(|child| child.name == field.element);
        let value = match field.shape {
            Shape::Texts => {
                let texts: Vec<Value> = all.map(|e| Value::from(e.text.as_str())).collect();
                (!texts.is_empty()).then_some(Value::Array(texts))
            }
            Shape::Objects(inner) => {
                let items = all.map(|element| elements(element, inner).map(Value::Object));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                (!items.is_empty()).then_some(Value::Array(items))
            }
            Shape::Object(inner) => {
                all.next_back().map(|e| elements(e, inner).map(Value::Object)).transpose()?
            }
            shape => all.next_back().map(|e| element_value(&e.text, shape)).transpose()?,
        };
        if let Some(value) = value {
            found.insert(field.name.to_owned(), value);
        }
    }
    Ok(found)
}

fn element_value(text: &str, shape: Shape) -> Result<Value, BodyError> {
    let trimmed = text.trim();
    match shape {
        Shape::Text => Ok(Value::from(text)),
        Shape::Whole if !trimmed.is_empty() => {
            trimmed.parse::<i64>().map(Value::from).map_err(|_| WRONG)
        }
        shape => form_value(trimmed, shape),
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
