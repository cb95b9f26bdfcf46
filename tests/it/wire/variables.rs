//! Placeholders: values that are known when a case runs, and patterns for those that are not.

use std::collections::HashMap;

use regex::Regex;

/// What a placeholder stands for when nobody can know the value.
const PATTERNS: &[(&str, &str)] = &[
    ("anyDatetime", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z"),
    (
        "anyHttpDate",
        r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    ),
    ("anyInt", r"\d+"),
    ("anyJwt", r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"),
    ("anyId", r"[a-z0-9]{15}"),
    ("anyDigits14", r"\d{14}"),
    ("anyAlnum10", r"[a-z0-9]{10}"),
    ("anyAlnum5", r"[A-Za-z0-9]{5}"),
    ("anyBoundary", r"[0-9A-Za-z'()+_,./:=?-]{1,70}"),
    ("anyDir", r#"/[^"\\\n]*?"#),
    ("anyText", r#"[^"]*?"#),
];

/// The values of one case, with those of the session below them.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) case: HashMap<String, String>,
    pub(super) session: HashMap<String, String>,
}

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&String> {
        self.case.get(name).or_else(|| self.session.get(name))
    }
}

/// The names of the placeholders in a text, patterns left out.
pub(super) fn names(text: &str) -> Vec<String> {
    placeholder()
        .captures_iter(text)
        .map(|found| found[1].to_owned())
        .filter(|name| pattern(name).is_none() && name != "bodyLength")
        .collect()
}

/// The text with every known value put in.
pub(super) fn fill(text: &str, variables: &Variables) -> String {
    placeholder()
        .replace_all(text, |found: &regex::Captures<'_>| {
            variables.get(&found[1]).cloned().unwrap_or_else(|| found[0].to_owned())
        })
        .into_owned()
}

/// Whether `text` is what the template says; `body_length` is the length of the body that came.
pub(super) fn matches(
    template: &str,
    text: &str,
    variables: &Variables,
    body_length: usize,
) -> bool {
    if !template.contains("{{") {
        return template == text;
    }
    let (mut regex, mut position) = (String::from(r"(?s)\A"), 0);
    for found in placeholder().captures_iter(template) {
        let whole = found.get(0).expect("a match");
        regex.push_str(&regex::escape(&template[position..whole.start()]));
        position = whole.end();
        match pattern(&found[1]) {
            Some(pattern) => regex.push_str(&format!("(?:{pattern})")),
            None if &found[1] == "bodyLength" => regex.push_str(&body_length.to_string()),
            None => {
                let value = variables.get(&found[1]).unwrap_or_else(|| panic!("{}", &found[0]));
                regex.push_str(&regex::escape(value));
            }
        }
    }
    regex.push_str(&regex::escape(&template[position..]));
    regex.push_str(r"\z");
    Regex::new(&regex).expect("a pattern").is_match(text)
}

fn placeholder() -> Regex {
    Regex::new(r"\{\{([A-Za-z0-9_]+)\}\}").expect("a pattern")
}

fn pattern(name: &str) -> Option<&'static str> {
    PATTERNS.iter().find(|(known, _)| *known == name).map(|(_, pattern)| *pattern)
}
