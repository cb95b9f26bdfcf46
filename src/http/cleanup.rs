//! What is answered before any route is looked at, as Go's server and router do it: bad
//! escapes, odd hosts and expectations are refused in plain text, paths with `//`, `.` or `..`
//! are redirected to their clean form, and `www.` to the host itself.
//!
//! What is no request at all does not come here: see [`super::connection`].

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::body::{BodyStream, None as NoBody};
use actix_web::http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, LOCATION};
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use futures_util::stream;

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on to the routes.
    Pass,
    /// Refuse it in plain text and close the connection.
    Refuse(StatusCode, &'static str),
    /// 307 to a location; for GET and HEAD with a small page.
    Redirect {
        /// Path and query, or a whole URL.
        location: String,
        /// Whether the answer has the page.
        page: bool,
    },
}

/// Judges a request by its head. `bound_host` is the host the server was told to listen on,
/// without port; `www.` before it is redirected.
pub fn judge(method: &Method, uri: &Uri, headers: &HeaderMap, bound_host: &str) -> Verdict {
    let host = headers.get(HOST).map(|host| host.as_bytes()).unwrap_or_default();
    if !is_host(host) {
        return Verdict::Refuse(StatusCode::BAD_REQUEST, "400 Bad Request: malformed Host header");
    }
    if *method == Method::CONNECT {
        return Verdict::Refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let Some(decoded) = decoded(uri.path()) else {
        return Verdict::Refuse(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let expects = headers.get(EXPECT).map(|value| value.as_bytes()).unwrap_or_default();
    if !expects.is_empty() && !expects.eq_ignore_ascii_case(b"100-continue") {
        return Verdict::Refuse(StatusCode::EXPECTATION_FAILED, "");
    }
    let query = uri.query().filter(|query| !query.is_empty());
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let escaped = escaped(uri.path(), &decoded);
    let clean = clean(&escaped);
    if clean != escaped && uri.path() != "*" {
        let page = matches!(*method, Method::GET | Method::HEAD);
        return Verdict::Redirect { location: format!("{clean}{query}"), page };
    }
    if host.strip_prefix(b"www.") == Some(bound_host.as_bytes()) && !bound_host.is_empty() {
        let location = format!("http://{bound_host}{}{query}", uri.path());
        return Verdict::Redirect { location, page: false };
    }
    Verdict::Pass
}

/// The answer to a verdict, `None` for [`Verdict::Pass`]. It has none of the headers that the
/// API's answers have.
pub fn answer(verdict: &Verdict, method: &Method) -> Option<HttpResponse> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Refuse(status, "") => Some(HttpResponse::build(*status).force_close().finish()),
        Verdict::Refuse(status, text) => {
            let mut response = HttpResponse::build(*status);
            response.content_type("text/plain; charset=utf-8").force_close();
            if let Some(reason) = text.strip_prefix("400 ") {
                response.reason(reason);
            }
            // Its end is the connection's end: no length, no chunks.
            let body = BodyStream::new(stream::iter([Ok::<_, Infallible>(Bytes::from(*text))]));
            let mut response = response.finish().set_body(body).map_into_boxed_body();
            response.head_mut().no_chunking(true);
            Some(response)
        }
        Verdict::Redirect { location, page } => {
            let mut response = HttpResponse::TemporaryRedirect();
            response.insert_header((LOCATION, location.as_str()));
            if !page {
                return Some(response.finish());
            }
            response.content_type("text/html; charset=utf-8");
            if *method == Method::HEAD {
                let mut response = response.finish();
                response.headers_mut().remove(CONTENT_LENGTH);
                return Some(response.set_body(NoBody::new()).map_into_boxed_body());
            }
            let link = html_escaped(location);
            Some(response.body(format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n")))
        }
    }
}

/// Letters, digits and what may stand in names, addresses and ports. Empty is fine.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|b| b.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(b))
}

/// `None` when a `%` is not followed by two hexadecimal digits.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digit = |i: usize| char::from(*bytes.get(i)?).to_digit(16);
            out.push(u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    Some(out)
}

/// The path as it was sent, unless it holds characters that should have been escaped; then
/// all of it is escaped anew.
fn escaped(path: &str, decoded: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(b);
    if path.bytes().all(|b| plain(&b) || b"%!'()*[]".contains(&b)) {
        return path.to_owned();
    }
    let mut out = String::with_capacity(path.len());
    for byte in decoded {
        match plain(byte) {
            true => out.push(char::from(*byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Rooted, without empty parts, `.` and `..`; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

fn html_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use actix_web::body::{BodySize, MessageBody, to_bytes};
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn judged(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a value");
            map.insert(HeaderName::from_static(name), value);
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        judge(&method, &uri.parse().expect("a URI"), &map, "127.0.0.1")
    }

    #[test]
    fn paths_are_cleaned_as_pocketbase_cleans_them() {
        // Locations recorded from v0.40.4.
        let cases = [
            ("//api/backups", Some("/api/backups")),
            ("/api/./backups?x=1", Some("/api/backups?x=1")),
            ("/api/x/../backups", Some("/api/backups")),
            ("/api/x/../", Some("/api/")),
            ("/api/backups/../data.db?token=t", Some("/api/data.db?token=t")),
            ("/api//backups/%2fx", Some("/api/backups/%2fx")),
            ("/api//b%20c?q=%20", Some("/api/b%20c?q=%20")),
            ("/..", Some("/")),
            ("/api/backups//?", Some("/api/backups/")),
            ("/api/%2e%2e/backups", None),
            ("/api/backups/", None),
            ("/api/backups/a..zip", None),
            ("/api/backups/@x+y;z.zip", None),
            ("/api/health?a=%zz&b=//", None),
            ("/", None),
            ("*", None),
        ];
        for (uri, expected) in cases {
            let expected = match expected {
                Some(to) => Verdict::Redirect { location: to.to_owned(), page: true },
                None => Verdict::Pass,
            };
            assert_eq!(judged("GET", uri, &[("host", "h")]), expected, "{uri}");
        }
        assert_eq!(escaped("/b\"%2f", b"/b\"/"), "/b%22/");
    }

    #[test]
    fn refusals_come_first_and_in_plain_text() {
        let bad = |text| Verdict::Refuse(StatusCode::BAD_REQUEST, text);
        let post = |headers: &[(&'static str, &str)]| judged("POST", "/x", headers);
        assert_eq!(judged("GET", "//%zz", &[]), bad("400 Bad Request"));
        assert_eq!(judged("GET", "/a%2", &[]), bad("400 Bad Request"));
        assert_eq!(post(&[("host", "a b")]), bad("400 Bad Request: malformed Host header"));
        assert_eq!(post(&[("host", "[::1]:8090")]), Verdict::Pass);
        assert_eq!(post(&[("expect", "100-Continue")]), Verdict::Pass);
        let failed = Verdict::Refuse(StatusCode::EXPECTATION_FAILED, "");
        assert_eq!(post(&[("expect", "yes")]), failed);
        assert!(
            matches!(judged("CONNECT", "a:1", &[]), Verdict::Refuse(status, _) if status == 405)
        );
    }

    #[test]
    fn www_leads_to_the_host_itself() {
        let to = |location: &str| Verdict::Redirect { location: location.to_owned(), page: false };
        let www = [("host", "www.127.0.0.1")];
        assert_eq!(judged("GET", "/api/health", &www), to("http://127.0.0.1/api/health"));
        assert_eq!(judged("POST", "/x?a=b", &www), to("http://127.0.0.1/x?a=b"));
        assert_eq!(judged("GET", "/x", &[("host", "www.127.0.0.1:8090")]), Verdict::Pass);
        assert_eq!(judged("GET", "/x", &[("host", "127.0.0.1")]), Verdict::Pass);
    }

    #[actix_web::test]
    async fn answers_have_the_recorded_bodies_and_lengths() {
        let to = Verdict::Redirect { location: "/api/b?x=<1>&y='".to_owned(), page: true };
        let get = answer(&to, &Method::GET).expect("an answer");
        assert_eq!(get.status(), 307);
        let body = to_bytes(get.into_body()).await.expect("a body");
        let expected = "<a href=\"/api/b?x=&lt;1&gt;&amp;y=&#39;\">Temporary Redirect</a>.\n\n";
        assert_eq!(body, expected.as_bytes());
        let head = answer(&to, &Method::HEAD).expect("an answer");
        assert_eq!(head.body().size(), BodySize::None);
        let to = Verdict::Redirect { location: "/".to_owned(), page: false };
        let post = answer(&to, &Method::POST).expect("an answer");
        assert_eq!(post.body().size(), BodySize::Sized(0));
        let refusal = Verdict::Refuse(StatusCode::BAD_REQUEST, "400 Bad Request");
        let refused = answer(&refusal, &Method::GET).expect("an answer");
        assert_eq!(refused.body().size(), BodySize::Stream);
        assert!(answer(&Verdict::Pass, &Method::GET).is_none());
    }
}
