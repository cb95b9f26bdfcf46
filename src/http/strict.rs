//! JSON as PocketBase 0.40 reads it: duplicate keys are refused at every depth, and of a body
//! only the first value counts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::body::BodyError;

/// The first value of a text; what follows it is ignored.
///
/// # Errors
/// No value, a broken one, or one with duplicate keys.
pub fn first_value(text: &[u8]) -> Result<Value, BodyError> {
    let mut source = serde_json::Deserializer::from_slice(text);
    let unique = Unique::deserialize(&mut source).map_err(|_| BodyError::Malformed("JSON"))?;
    Ok(unique.0)
}

/// The one value of a text.
///
/// # Errors
/// As [`first_value`], and when anything but blanks follows.
pub fn only_value(text: &[u8]) -> Result<Value, BodyError> {
    let unique: Unique = serde_json::from_slice(text).map_err(|_| BodyError::Malformed("JSON"))?;
    Ok(unique.0)
}

/// A value without duplicate keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder).map(Self)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Unique(value) = members.next_value()?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member name"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_duplicates_do_not_pass() {
        let cases: [(&[u8], Option<&str>); 17] = [
            (br#"{"name":"c"} trailing"#, Some(r#"{"name":"c"}"#)),
            (br#"{"name":"c"}{"name":"d"}"#, Some(r#"{"name":"c"}"#)),
            (b"  [1,-2,1.5,true,null,\"\\u00e9\"]", Some(r#"[1,-2,1.5,true,null,"é"]"#)),
            (b"null", Some("null")),
            (b"\"a.zip\"", Some("\"a.zip\"")),
            (br#"{"a":1,"a":2}"#, None),
            (br#"{"x":{"a":1,"a":1}}"#, None),
            (br#"[{"a":1,"\u0061":1}]"#, None),
            (br#"{"a":1,"A":2}"#, Some(r#"{"A":2,"a":1}"#)),
            (b"{bad", None),
            (b" ", None),
            (b"", None),
            (br#"{"name":"x""#, None),
            (b"\xef\xbb\xbf{}", None),
            (b"{\"name\":\"\xff\"}", None),
            (br#"{"name":"\ud800"}"#, None),
            (b"{\"name\":1e999}", None),
        ];
        for (text, expected) in cases {
            let found = first_value(text).ok().map(|value| value.to_string());
            assert_eq!(found.as_deref(), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_only_value_stands_alone() {
        assert!(only_value(b" {} \n").is_ok());
        assert!(only_value(b"{} x").is_err());
        assert!(only_value(b"").is_err());
    }
}
