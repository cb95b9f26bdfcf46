//! Under which name and as what a download is offered: the `Content-Disposition` and
//! `Content-Type` values of PocketBase 0.40.

use std::sync::LazyLock;

use actix_web::http::header::HeaderValue;
use regex::Regex;

use super::query;

/// Media types that browsers may show in place.
const INLINE: &[&str] = &[
    "application/pdf",
    "application/x-pdf",
    "audio/aac",
    "audio/aiff",
    "audio/basic",
    "audio/midi",
    "audio/mp3",
    "audio/mpeg",
    "audio/wav",
    "audio/wave",
    "audio/x-m4a",
    "audio/x-mpeg",
    "audio/x-wav",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/jpg",
    "image/png",
    "image/webp",
    "image/x-icon",
    "video/3gpp",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/x-ms-wmv",
];

/// The `Content-Disposition` for a file name. The query can ask for `download`.
pub fn of(name: &str, content_type: &str, query: &str) -> HeaderValue {
    let download = query::first(query, "download");
    let forced = matches!(download.as_deref(), Some("1" | "t" | "T" | "true" | "TRUE" | "True"));
    let inline = !forced && INLINE.contains(&content_type);
    let kind = if inline { "inline" } else { "attachment" };
    let value = format!("{kind}; filename={}", quoted(name));
    // Quoting leaves nothing a header cannot hold.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static("attachment"))
}

/// The media type to send: a few extensions outweigh what was stored.
pub fn sent_type<'a>(name: &str, content_type: &'a str) -> &'a str {
    match name.rfind('.').map(|dot| &name[dot..]) {
        Some(".css") => "text/css",
        Some(".js" | ".mjs") => "text/javascript",
        Some(".svg") => "image/svg+xml",
        Some(".docx") => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Some(".pptx") => {
            "application/vnd.openxmlformats-officedocument.presentationml.presentation"
        }
        Some(".xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => content_type,
    }
}

/// Quotes a text as a Go string literal (`strconv.Quote`).
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if printable(c) => out.push(c),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// What Go calls printable: letters, marks, numbers, punctuation, symbols and the plain blank.
static PRINTABLE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
    Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$").expect("a valid pattern")
});

fn printable(c: char) -> bool {
    PRINTABLE.is_match(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        let cases = [
            ("a.zip", r#""a.zip""#),
            ("@x.zip", r#""@x.zip""#),
            ("a<b>.zip", r#""a<b>.zip""#),
            ("q\"uote\\.zip", r#""q\"uote\\.zip""#),
            ("tab\t\r\n\u{b}.zip", r#""tab\t\r\n\v.zip""#),
            ("\u{1}\u{7f}", r#""\x01\x7f""#),
            ("ünï日本😀e\u{301}", "\"ünï日本😀e\u{301}\""),
            ("\u{85}\u{a0}\u{200b}\u{2028}\u{feff}", r#""\u0085\u00a0\u200b\u2028\ufeff""#),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
        ];
        for (name, expected) in cases {
            assert_eq!(quoted(name), expected);
            let value = of(name, "application/zip", "");
            assert_eq!(value.as_bytes(), format!("attachment; filename={expected}").as_bytes());
        }
    }

    #[test]
    fn some_types_are_shown_in_place_unless_a_download_is_asked_for() {
        let starts = |kind, query| of("a", kind, query).as_bytes().starts_with(b"inline");
        assert!(starts("image/png", "") && starts("image/png", "download=0"));
        assert!(!starts("image/png", "download=t") && !starts("application/zip", ""));
        assert_eq!(sent_type("x.tar.js", "application/zip"), "text/javascript");
        assert_eq!(sent_type("x.zip", "application/zip"), "application/zip");
    }
}
