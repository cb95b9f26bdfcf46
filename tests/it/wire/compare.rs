//! Compares an answer with the expected one: status, the set of headers and their values in
//! order, body. JSON is compared by value, because PocketBase gives its keys in no fixed order.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::archives::small_zip;
use crate::raw::{Response, latin1};
use crate::wire::table::{Answer, Common, Expected};
use crate::wire::variables::{Variables, matches};

/// Headers that say nothing about the program that answers.
const IGNORED: [&str; 2] = ["date", "connection"];
/// How much of a body a message shows.
const SHOWN_CHARS_MAX: usize = 1500;

/// The answer with our own differences put over it.
pub(super) fn overlaid(answer: &Answer, ours: Option<&Answer>) -> Answer {
    let Some(ours) = ours else { return answer.clone() };
    let mut result = answer.clone();
    if ours.like.is_some() {
        // Another kind of answer altogether.
        return ours.clone();
    }
    result.status = ours.status.or(result.status);
    result.headers.extend(ours.headers.clone());
    result.body = ours.body.clone().or(result.body);
    result
}

/// Every difference, in words.
pub(super) fn differences(
    want: &Answer,
    got: &Response,
    common: &Common,
    variables: &Variables,
) -> Vec<String> {
    let mut found = Vec::new();
    let status = want.status.expect("a status");
    if got.status != status {
        found.push(format!("status: wanted {status}, got {}", got.status));
    }
    let length = got.body.len();
    let (want_headers, got_headers) = (wanted_headers(want, common), came_headers(got));
    let names: BTreeSet<&String> = want_headers.keys().chain(got_headers.keys()).collect();
    for name in names {
        match (want_headers.get(name), got_headers.get(name)) {
            (Some(want), None) => found.push(format!("{name}: missing, wanted {want:?}")),
            (None, Some(got)) => found.push(format!("{name}: not wanted, got {got:?}")),
            (Some(want), Some(got)) => {
                let same = want.len() == got.len()
                    && want.iter().zip(got).all(|(w, g)| matches(w, g, variables, length));
                if !same {
                    found.push(format!("{name}: wanted {want:?}, got {got:?}"));
                }
            }
            (None, None) => {}
        }
    }
    found.extend(body_difference(want.body.as_ref(), got, variables));
    found
}

/// Expected headers by lower-case name, each with its values in order.
fn wanted_headers(want: &Answer, common: &Common) -> BTreeMap<String, Vec<String>> {
    let mut headers = common.headers[want.like.as_deref().expect("a set of headers")].clone();
    headers.extend(want.headers.clone());
    let mut result: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let values = match value {
            Value::Null => continue,
            Value::String(value) => vec![value],
            Value::Array(values) => {
                values.iter().map(|v| v.as_str().expect("a value").to_owned()).collect()
            }
            other => panic!("{name}: {other}"),
        };
        result.insert(name.to_lowercase(), values);
    }
    // White space and escapes are free in JSON, so that its length is only checked in itself.
    if matches!(want.body, Some(Expected::Json(_))) && !result.contains_key("transfer-encoding") {
        result.entry("content-length".to_owned()).or_insert(vec!["{{bodyLength}}".to_owned()]);
    }
    result
}

fn came_headers(got: &Response) -> BTreeMap<String, Vec<String>> {
    let mut result: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &got.headers {
        let name = name.to_lowercase();
        if !IGNORED.contains(&name.as_str()) {
            result.entry(name).or_default().push(value.clone());
        }
    }
    result
}

fn body_difference(
    want: Option<&Expected>,
    got: &Response,
    variables: &Variables,
) -> Option<String> {
    let length = got.body.len();
    let text = || got.text().chars().take(SHOWN_CHARS_MAX).collect::<String>();
    let same_bytes = |bytes: &[u8]| {
        (bytes != got.body).then(|| format!("body: other bytes ({length}): {}", text()))
    };
    match want {
        None => (length > 0).then(|| format!("body: wanted none, got {}", text())),
        Some(Expected::Json(want)) => {
            let same =
                serde_json::from_slice(&got.body).is_ok_and(|got| same_json(want, &got, variables));
            (!same).then(|| format!("body: wanted {want}\n           got {}", text()))
        }
        Some(Expected::Text(want)) => (!matches(want, &got.text(), variables, length))
            .then(|| format!("body: wanted {want:?}, got {:?}", text())),
        Some(Expected::Latin1(want)) => (!matches(want, &latin1(&got.body), variables, length))
            .then(|| format!("body: wanted {want:?}, got {:?}", latin1(&got.body))),
        Some(Expected::Base64(want)) => same_bytes(&STANDARD.decode(want).expect("base64")),
        Some(Expected::Zip(want)) => {
            assert_eq!(want, "small", "the only archive with a name");
            same_bytes(&small_zip())
        }
    }
}

fn same_json(want: &Value, got: &Value, variables: &Variables) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len()
                && want.iter().all(|(key, want)| {
                    got.get(key).is_some_and(|got| same_json(want, got, variables))
                })
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len()
                && want.iter().zip(got).all(|(want, got)| same_json(want, got, variables))
        }
        (Value::String(want), Value::Number(got)) if want == "{{anyInt}}" => got.is_u64(),
        (Value::String(want), Value::String(got)) => matches(want, got, variables, 0),
        _ => want == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Response { status: 200, headers, body: body.as_bytes().to_vec() }
    }

    /// A comparison that finds nothing would make every table pass.
    #[test]
    fn each_kind_of_difference_is_found() {
        let common: Common = serde_json::from_value(serde_json::json!({
            "headers": {"set": {"A": "1", "Content-Type": "x/{{anyInt}}"}}, "steps": {},
        }))
        .expect("common");
        let want: Answer = serde_json::from_value(serde_json::json!({
            "status": 200, "like": "set", "headers": {"Vary": ["a", "b"]},
            "body": {"json": {"n": "{{anyInt}}", "t": "{{anyDatetime}}", "s": "x"}},
        }))
        .expect("an answer");
        let json = r#"{"s":"x","t":"2026-01-31 23:59:59.123Z","n":7}"#;
        let length = json.len().to_string();
        let good = [
            ("a", "1"),
            ("content-type", "x/12"),
            ("Vary", "a"),
            ("vary", "b"),
            ("Content-Length", length.as_str()),
            ("Date", "now"),
        ];
        let check = |headers: &[(&str, &str)], body: &str| {
            differences(&want, &response(headers, body), &common, &Variables::default())
        };
        assert_eq!(check(&good, json), Vec::<String>::new());
        assert_eq!(check(&good[1..], json).len(), 1, "a missing header");
        assert_eq!(check(&[&good[..], &[("B", "1")]].concat(), json).len(), 1, "one more");
        assert_eq!(check(&good[..4], json).len(), 1, "no length");
        let mut swapped = good;
        swapped.swap(2, 3);
        assert_eq!(check(&swapped, json).len(), 1, "another order of values");
        for other in [
            json.replace('7', "8.5"),
            json.replace('x', "y"),
            json.replace("23:59", "23-59"),
            json.replace("\"s\"", "\"S\""),
        ] {
            let length = other.len().to_string();
            let mut headers = good;
            headers[4].1 = &length;
            assert_eq!(check(&headers, &other).len(), 1, "{other}");
        }
        let mut late = response(&good, json);
        late.status = 201;
        assert_eq!(differences(&want, &late, &common, &Variables::default()).len(), 1);
    }
}
