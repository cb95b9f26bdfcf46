//! The `fields` query: which parts of a JSON answer a client wants. A comma list of dotted
//! names, `*` for the rest, and `:excerpt(max, ellipsis)` behind a name. Lists are mapped;
//! what has no members is left as it is. Tested against PocketBase's own picker.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::bind::go_integer;
use super::excerpt::excerpt;

/// A `fields` value that cannot be understood: unbalanced quotes or parentheses, an unknown
/// modifier, bad arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFields;

/// Cut a text short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Excerpt {
    /// In characters, at least 1.
    max: usize,
    ellipsis: bool,
}

type Wanted = BTreeMap<String, Option<Excerpt>>;

/// Leaves of `value` only what `fields` names. Empty `fields` leave all of it.
///
/// # Errors
/// [`BadFields`]; `value` is unchanged then.
pub fn pick(value: &mut Value, fields: &str) -> Result<(), BadFields> {
    let mut wanted = parse(fields)?;
    pick_value(value, &mut wanted);
    Ok(())
}

fn parse(fields: &str) -> Result<Wanted, BadFields> {
    let mut wanted = Wanted::new();
    for token in tokens(fields, &[','], true)? {
        match token.trim().split_once(':') {
            Some((name, modifier)) => wanted.insert(name.to_owned(), Some(modified(modifier)?)),
            None => wanted.insert(token.trim().to_owned(), None),
        };
    }
    Ok(wanted)
}

fn modified(modifier: &str) -> Result<Excerpt, BadFields> {
    let parts = tokens(modifier, &['(', ')', ',', ' '], false)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (max, ellipsis) = match parts.as_slice() {
        ["excerpt", max] => (max, ""),
        ["excerpt", max, ellipsis] => (max, *ellipsis),
        _ => return Err(BadFields),
    };
    let whole = max.split('.').next().unwrap_or_default();
    let max = go_integer(whole).and_then(|max| usize::try_from(max).ok()).filter(|max| *max > 0);
    let ellipsis = matches!(ellipsis, "1" | "t" | "T" | "true" | "TRUE" | "True");
    Ok(Excerpt { max: max.ok_or(BadFields)?, ellipsis })
}

/// Splits at separators outside of quotes and, if asked for, of parentheses. Empty tokens
/// are dropped.
fn tokens(text: &str, separators: &[char], parentheses: bool) -> Result<Vec<String>, BadFields> {
    let mut found = Vec::new();
    let mut token = String::new();
    let (mut depth, mut quote, mut previous) = (0usize, None, '\0');
    for c in text.chars().take_while(|c| *c != '\0') {
        if previous != '\\' {
            match (c, quote) {
                ('(', None) if parentheses => depth += 1,
                (')', None) if parentheses => depth = depth.saturating_sub(1),
                ('\'' | '"' | '`', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                _ => {}
            }
        }
        if separators.contains(&c) && depth == 0 && quote.is_none() {
            found.push(std::mem::take(&mut token));
            previous = '\0';
        } else {
            token.push(c);
            previous = c;
        }
    }
    if depth > 0 || quote.is_some() {
        return Err(BadFields);
    }
    found.push(token);
    let trimmed = found.iter().map(|token| token.trim()).filter(|token| !token.is_empty());
    Ok(trimmed.map(str::to_owned).collect())
}

fn pick_value(value: &mut Value, wanted: &mut Wanted) {
    match value {
        Value::Object(members) => pick_members(members, wanted),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            for item in items {
                if let Value::Object(members) = item {
                    pick_members(members, wanted);
                }
            }
        }
        _ => {}
    }
}

fn pick_members(members: &mut Map<String, Value>, wanted: &mut Wanted) {
    if wanted.is_empty() {
        return;
    }
    if let Some(rest) = wanted.get("*").copied() {
        for name in members.keys() {
            if !wanted.keys().any(|path| below(path, name).is_some()) {
                wanted.insert(name.clone(), rest);
            }
        }
    }
    members.retain(|name, value| {
        let inner = wanted.iter().filter_map(|(path, excerpt)| {
            below(path, name).map(|inner| (inner.to_owned(), *excerpt))
        });
        let mut inner: Wanted = inner.collect();
        // An empty rest names the member itself; that outweighs names inside of it.
        match (inner.get(""), inner.is_empty()) {
            (Some(cut), _) => apply(value, *cut),
            (None, true) => return false,
            (None, false) => pick_value(value, &mut inner),
        }
        true
    });
}

/// What of a dotted path is left below a member; names may hold dots themselves.
fn below<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(name)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

fn apply(value: &mut Value, cut: Option<Excerpt>) {
    if let (Some(cut), Value::String(text)) = (cut, value) {
        *text = excerpt(text, cut.max, cut.ellipsis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picker_agrees_with_pocketbase() {
        let table = include_str!("../../fixtures/fields.json");
        let rows: Vec<Value> = serde_json::from_str(table).expect("a table");
        assert!(rows.len() > 150);
        for row in rows {
            let fields = row["fields"].as_str().expect("a text");
            let mut value = row["data"].clone();
            let picked = pick(&mut value, fields).map(|()| value);
            let expected = (!row["expected"].is_null()).then(|| row["expected"].clone());
            assert_eq!(picked.ok(), expected, "{} of {}", fields, row["data"]);
        }
    }
}
