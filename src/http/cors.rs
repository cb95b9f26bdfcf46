//! Which cross-origin headers an answer gets, and which requests are answered by them alone:
//! PocketBase's rules. Credentials are never allowed; tokens travel in a header.

use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use regex::Regex;

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
/// Longest origin that is compared with patterns: scheme, `://`, domain, port.
const ORIGIN_BYTES_MAX: usize = 253 + 3 + 5;

/// The origins that may read answers.
#[derive(Debug, Clone)]
pub struct Origins {
    any: bool,
    exact: Vec<String>,
    patterns: Vec<Regex>,
}

impl Origins {
    /// From a list of origins; `*` alone allows all, inside of an origin it stands for any
    /// text and `?` for one character. An empty list allows all.
    pub fn new<S: AsRef<str>>(list: &[S]) -> Self {
        let list: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
        let pattern = |origin: &&&str| {
            let quoted = regex::escape(origin).replace("\\*", ".*").replace("\\?", ".");
            Regex::new(&format!("^{quoted}$")).ok()
        };
        Self {
            any: list.is_empty() || list.contains(&"*"),
            exact: list.iter().map(ToString::to_string).collect(),
            patterns: list
                .iter()
                .filter(|o| o.contains(['*', '?']))
                .filter_map(|o| pattern(&o))
                .collect(),
        }
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        let fits = self.exact.iter().any(|exact| exact == text)
            || (text.len() <= ORIGIN_BYTES_MAX
                && text.contains("://")
                && self.patterns.iter().any(|pattern| pattern.is_match(text)));
        fits.then(|| origin.clone())
    }
}

/// What follows for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Answer 204 at once, with `headers` and nothing else.
    pub answered: bool,
    /// To append (not to replace) to the answer, in this order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Decides by method and headers; the path does not matter.
pub fn decide(origins: &Origins, method: &Method, headers: &HeaderMap) -> Decision {
    let answered = *method == Method::OPTIONS;
    let mut added = vec![(VARY, HeaderValue::from_static("Origin"))];
    let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty());
    if let Some(allowed) = origin.and_then(|origin| origins.allowed(origin)) {
        added.push((ACCESS_CONTROL_ALLOW_ORIGIN, allowed));
        if answered {
            added.push((VARY, HeaderValue::from_static("Access-Control-Request-Method")));
            added.push((VARY, HeaderValue::from_static("Access-Control-Request-Headers")));
            added.push((ACCESS_CONTROL_ALLOW_METHODS, METHODS));
            let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
                added.push((ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
            }
        }
    }
    Decision { answered, headers: added }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Header = (&'static str, &'static str);

    /// The decision as text: whether it answers, then the headers.
    fn decided(origins: &[&str], method: Method, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a value");
            map.insert(HeaderName::from_static(name), value);
        }
        let decision = decide(&Origins::new(origins), &method, &map);
        let mut text = if decision.answered { "204".to_owned() } else { "-".to_owned() };
        for (name, value) in decision.headers {
            text.push_str(&format!(" {name}={}", value.to_str().expect("text")));
        }
        text.replace("access-control-allow-", "")
    }

    #[test]
    fn answers_and_preflights_follow_the_recorded_rows() {
        let app = ("origin", "https://app.example");
        let asks = ("access-control-request-headers", "X-Custom");
        let preflight = "204 vary=Origin origin=* vary=Access-Control-Request-Method \
                         vary=Access-Control-Request-Headers \
                         methods=GET,HEAD,PUT,PATCH,POST,DELETE";
        let rows: [(Method, &[Header], String); 7] = [
            (Method::GET, &[], "- vary=Origin".to_owned()),
            (Method::GET, &[app], "- vary=Origin origin=*".to_owned()),
            (Method::GET, &[("origin", "null")], "- vary=Origin origin=*".to_owned()),
            (Method::GET, &[("origin", "")], "- vary=Origin".to_owned()),
            (Method::OPTIONS, &[asks], "204 vary=Origin".to_owned()),
            (Method::OPTIONS, &[app], preflight.to_owned()),
            (Method::OPTIONS, &[app, asks], format!("{preflight} headers=X-Custom")),
        ];
        for (method, headers, expected) in rows {
            assert_eq!(decided(&["*"], method, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn named_origins_are_echoed_and_others_get_nothing() {
        let allowed = ["https://a.example", "https://*.b.example"];
        let cases = [
            ("https://a.example", true),
            ("https://x.b.example", true),
            ("https://x.y.b.example", true),
            ("http://a.example", false),
            ("https://a.example.evil", false),
            ("https://xb.example", false),
            ("null", false),
        ];
        for (origin, fits) in cases {
            let found = decided(&allowed, Method::GET, &[("origin", origin)]);
            let echo = if fits { format!(" origin={origin}") } else { String::new() };
            assert_eq!(found, format!("- vary=Origin{echo}"));
        }
        let refused = decided(&allowed, Method::OPTIONS, &[("origin", "https://c")]);
        assert_eq!(refused, "204 vary=Origin");
    }
}
