//! Reads Rust source well enough for the rules of `tidy.rs`: blanks comments and literals,
//! finds paths and functions. It knows no rule.

use regex::Regex;

/// Every path that starts with `crate::`, `super::` or (in the binary) the package's name,
/// as seen from the crate's root; groups in braces are opened one level.
pub(crate) fn imported_paths(blanked: &str, own: &[String]) -> Vec<Vec<String>> {
    let start = Regex::new(r"\b(crate|pocketvault|(?:super::)*super)::").unwrap();
    let tail = Regex::new(r"^\w+(?:::\w+)*").unwrap();
    let mut found = Vec::new();
    for hit in start.captures_iter(blanked) {
        let whole = hit.get(0).unwrap();
        let ups = hit[1].matches("super").count();
        let base = if ups == 0 { &[][..] } else { &own[..own.len().saturating_sub(ups)] };
        let rest = &blanked[whole.end()..];
        let tails = if rest.starts_with('{') { group(rest) } else { vec![rest] };
        for part in tails {
            if let Some(path) = tail.find(part.trim_start()) {
                let path = path.as_str().split("::").map(str::to_owned);
                found.push(base.iter().cloned().chain(path).collect());
            }
        }
    }
    found
}

/// The members of a `{…}` group, split at its outermost commas.
fn group(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 1, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            parts.push(&text[from..at]);
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    parts
}

/// Functions with a body: name, first line, number of lines from `fn` to the closing brace.
pub(crate) fn functions(blanked: &str) -> Vec<(String, usize, usize)> {
    let head = Regex::new(r"\bfn\s+(\w+)").unwrap();
    let mut found = Vec::new();
    for hit in head.captures_iter(blanked) {
        let start = hit.get(0).unwrap().start();
        let (mut nested, mut depth, mut end) = (0, 0, None);
        for (at, c) in blanked[start..].char_indices() {
            match c {
                '(' | '[' => nested += 1,
                ')' | ']' => nested -= 1,
                ';' if nested == 0 && depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => continue,
            }
            if c == '}' && depth == 0 {
                end = Some(start + at);
                break;
            }
        }
        if let Some(end) = end {
            let line = blanked[..start].matches('\n').count() + 1;
            let lines = blanked[start..end].matches('\n').count() + 1;
            found.push((hit[1].to_owned(), line, lines));
        }
    }
    found
}

/// The source with comments, strings and character literals replaced by spaces.
pub(crate) fn blanked(source: &str) -> String {
    let literal = Regex::new(concat!(
        r"(?s)//[^\n]*|/\*.*?\*/",
        r###"|b?r"[^"]*"|b?r#".*?"#|b?r##".*?"##"###,
        r#"|b?"(?:\\.|[^"\\])*""#,
        r"|b?'(?:\\[^u]|\\u\{[^}]*\}|\\x[0-9a-fA-F]{2}|[^'\\])'",
    ));
    literal
        .unwrap()
        .replace_all(source, |found: &regex::Captures<'_>| {
            found[0].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>()
        })
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_functions_are_found() {
        let own = ["http".to_owned(), "faces".to_owned(), "blnk".to_owned()];
        let source = "use crate::{error::Kind, vault};\n\
                  fn f() { crate::app::run(\"crate::no::x\") }\n\
                  use super::super::guard;\n// crate::comment::x\nuse super::pocketbase::x;";
        let paths: Vec<String> = imported_paths(&blanked(source), &own)
            .into_iter()
            .map(|path| path.join("::"))
            .collect();
        for expected in
            ["error::Kind", "vault", "app::run", "http::guard", "http::faces::pocketbase::x"]
        {
            assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:?}");
        }
        assert_eq!(paths.len(), 5, "{paths:?}");

        let body = "fn a(x: [u8; 2]) -> u8 {\n    let c = '{';\n    \"}\"; r#\"}\"#;\n}\nfn b();\n";
        assert_eq!(functions(&blanked(body)), [("a".to_owned(), 1, 4)]);
    }
}
