//! What of a message's head belongs to one connection only (RFC 9110, 7.6.1), and what a proxy
//! says of where a request came from.

use http::HeaderMap;
use http::header::{
    CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The client's address, proxies in front of us seen through.
    pub client: &'a str,
    /// Whether a proxy in front of us is trusted; what it says of scheme and host is kept.
    pub behind_proxy: bool,
}

/// Whether a request asks to leave HTTP behind for a WebSocket. Other protocols are not offered
/// to the program, because the server in front cannot follow; a client must expect that.
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let protocol = headers.get(UPGRADE).map(|value| value.as_bytes());
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        && lists(headers, "upgrade")
}

/// Makes the head of a client's request that of our request.
pub fn outgoing(headers: &mut HeaderMap, origin: Origin<'_>) {
    let upgrade = headers.get(UPGRADE).cloned().filter(|_| asks_for_upgrade(headers));
    strip(headers);
    // The server in front answers it.
    headers.remove(EXPECT);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    // One address, ours to say: what clients claim in this header is worth nothing, and what a
    // trusted proxy says is in it already.
    if let Ok(client) = HeaderValue::from_str(origin.client) {
        headers.insert(FORWARDED_FOR, client);
    }
    if !origin.behind_proxy || !headers.contains_key(&PROTO) {
        headers.insert(PROTO, HeaderValue::from_static("http"));
    }
    if (!origin.behind_proxy || !headers.contains_key(&FORWARDED_HOST))
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Makes the head of the program's answer that of our answer.
pub fn incoming(headers: &mut HeaderMap) {
    strip(headers);
}

/// Removes what is meant for the next hop only, and what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers).filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"] {
        headers.remove(name);
    }
}

fn lists(headers: &HeaderMap, token: &str) -> bool {
    tokens(headers).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn shown(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_belongs_to_the_connection_stays_on_it() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-other", "2"),
            ("cookie", "a=b"),
        ]);
        incoming(&mut headers);
        assert_eq!(shown(&headers), ["cookie: a=b", "x-other: 2"]);
    }

    #[test]
    fn the_program_is_told_who_asked_and_believes_nobody_else() {
        let origin = Origin { client: "10.0.0.1", behind_proxy: false };
        let mut headers = map(&[
            ("host", "app.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("expect", "100-continue"),
        ]);
        outgoing(&mut headers, origin);
        let expected = [
            "host: app.example",
            "x-forwarded-for: 10.0.0.1",
            "x-forwarded-host: app.example",
            "x-forwarded-proto: http",
        ];
        assert_eq!(shown(&headers), expected);
        let mut headers = map(&[("host", "h"), ("x-forwarded-proto", "https")]);
        outgoing(&mut headers, Origin { behind_proxy: true, ..origin });
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "h");
    }

    #[test]
    fn only_a_real_upgrade_is_passed_on() {
        let asked = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(asks_for_upgrade(&asked));
        let origin = Origin { client: "::1", behind_proxy: false };
        let mut headers = asked;
        outgoing(&mut headers, origin);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&HeaderValue::from_static("Upgrade"), &HeaderValue::from_static("websocket"),)
        );
        assert!(!asks_for_upgrade(&map(&[("upgrade", "websocket")])));
        assert!(!asks_for_upgrade(&map(&[("connection", "upgrade")])));
        let http2 = map(&[("connection", "upgrade"), ("upgrade", "h2c")]);
        assert!(!asks_for_upgrade(&http2));
    }
}
