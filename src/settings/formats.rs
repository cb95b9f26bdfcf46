//! Texts of a certain form, as PocketBase's validators accept them: URLs, hosts, e-mail
//! addresses, colours, rate limit labels.
//!
//! These are looser and odder than the standards, and on purpose the same as PocketBase's;
//! `fixtures/settings.json` holds what it answered. Letters of other scripts are ranges of
//! the basic plane only.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// Length of a URL in characters must be below this.
const URL_CHARS_END: usize = 2083;
/// Length of a URL in bytes must be above this.
const URL_BYTES_BEFORE: usize = 3;
/// Length of a DNS name in bytes without its dots.
const DNS_BYTES_MAX: usize = 255;

static URL: LazyLock<Regex> = LazyLock::new(|| {
    const WORD: &str = "[a-zA-Z0-9]";
    const LETTER: &str = r"[a-zA-Z\u{a1}-\u{ffff}]";
    const SIGN: &str = r"[a-zA-Z\u{a1}-\u{ffff}0-9]";
    let ip4 = concat!(
        r"(?:[1-9][0-9]?|1[0-9]{2}|2[01][0-9]|22[0-3]|24[0-9]|25[0-5])",
        r"(?:\.(?:[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])){2}",
        r"\.(?:[0-9]{1,2}|1[0-9]{2}|2[0-4][0-9]|25[0-5])",
    );
    let name = format!("{WORD}(?:[a-zA-Z0-9_-]+)?{WORD}(?:[-.]{WORD}+)*");
    let sub = format!(r"www\.|{WORD}+(?:[-_.]?{WORD})*{WORD}\.{WORD}+");
    let last = format!(r"(?:{SIGN}+-{{0,2}})*{SIGN}+(?:\.{LETTER}+)?");
    let scheme = "(?:(?:ftp|tcp|udp|wss?|https?)://)?";
    let user = r"(?:[^\t\n\f\r ]+@)?";
    let host = format!(r"(?:{ip4}|\[([0-9a-fA-F:.]+)(%[0-9a-zA-Z]+)?\]|(?:{name}|{sub})?{last})");
    let rest = r"\.?(?::[0-9]{1,5})?(?:[/?#][^\t\n\f\r ]*)?";
    compiled(&format!("^{scheme}{user}{host}{rest}$"))
});

static DNS_NAME: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"^[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62}(?:\.[a-zA-Z0-9_][a-zA-Z0-9_-]{0,62})*[._]?$")
});

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    const WIDE: &str = r"\u{a0}-\u{d7ff}\u{f900}-\u{fdcf}\u{fdf0}-\u{ffef}";
    let atom = format!("[a-zA-Z0-9!#$%&'*+/=?^_`{{|}}~{WIDE}-]+");
    let blank = r"(?:(?:[ \t]*\r\n)?[ \t]+)?";
    let sign =
        format!(r"(?:[\x01-\x08\x0b\x0c\x0e-\x1f\x7f!#-\[\]-~{WIDE}]|\([\x01-\x09\x0b-\x7f])");
    // Each character of a quoted name has its own opening quote: an oddity worth keeping, as
    // what it refuses cannot be sent from anyway.
    let quoted = format!(r#"(?:"{blank}{sign})*{blank}""#);
    let label = format!("[a-zA-Z0-9{WIDE}](?:[a-zA-Z0-9._~{WIDE}-]*[a-zA-Z0-9{WIDE}])?");
    let top = format!("[a-zA-Z{WIDE}](?:[a-zA-Z0-9_~{WIDE}-]*[a-zA-Z{WIDE}])?");
    compiled(&format!(r"^(?:{atom}(?:\.{atom})*|{quoted})@(?:{label}\.)+{top}\.?$"))
});

static COLOUR: LazyLock<Regex> =
    LazyLock::new(|| compiled("^#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    const WORD: &str = "[0-9A-Za-z_]";
    compiled(&format!(r"^(?:(?:{WORD}+ )?/[0-9A-Za-z_/-]*|(?:(?:{WORD}+|\*):)?{WORD}+)$"))
});

/// Whether PocketBase takes it for a URL; the scheme may be missing.
pub(super) fn is_url(text: &str) -> bool {
    if text.len() <= URL_BYTES_BEFORE
        || text.chars().count() >= URL_CHARS_END
        || text.starts_with('.')
    {
        return false;
    }
    let without_scheme = text.contains(':') && !text.contains("://");
    let scheme = if without_scheme { "http://" } else { "" };
    let whole = format!("{scheme}{text}");
    let Some((host, path)) = go_url(&whole) else { return false };
    if host.starts_with('.') || (host.is_empty() && !path.is_empty() && !path.contains('.')) {
        return false;
    }
    let Some(found) = URL.captures(text) else { return false };
    let Some(literal) = found.get(1) else { return true };
    let zoned = found.get(2).is_some();
    literal.as_str().parse::<Ipv6Addr>().is_ok()
        && (!zoned || literal.as_str().starts_with("fe80:"))
}

/// Whether it is an address or a DNS name.
pub(super) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (text.bytes().filter(|b| *b != b'.').count() <= DNS_BYTES_MAX && DNS_NAME.is_match(text))
}

/// Whether it is an e-mail address without a display name.
pub(super) fn is_email(text: &str) -> bool {
    EMAIL.is_match(text)
}

/// Whether it is a hexadecimal colour, with or without `#`.
pub(super) fn is_colour(text: &str) -> bool {
    COLOUR.is_match(text)
}

/// Whether it can be the label of a rate limit.
pub(super) fn is_rate_limit_label(text: &str) -> bool {
    LABEL.is_match(text)
}

#[expect(clippy::expect_used, reason = "constant patterns, each compiled by a test")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

/// Host and path of a URL as Go's parser splits it; `None` where it refuses.
fn go_url(text: &str) -> Option<(&str, &str)> {
    if text.bytes().any(|b| b.is_ascii_control()) {
        return None;
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = go_scheme(text)?;
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !escapes_are_sound(fragment) {
        return None;
    }
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Some(("", ""));
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return None;
        }
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(inner) if !scheme.is_empty() || !inner.starts_with('/') => {
            let (authority, path) = inner.split_at(inner.find('/').unwrap_or(inner.len()));
            (go_host(authority)?, path)
        }
        _ => ("", rest),
    };
    escapes_are_sound(path).then_some((host, path))
}

/// Scheme (possibly empty) and the rest; `None` for a leading colon.
fn go_scheme(text: &str) -> Option<(&str, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return None,
            ':' => return Some((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

/// The host with its port, without user and password; `None` where Go refuses.
fn go_host(authority: &str) -> Option<&str> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let in_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(in_user) || !escapes_are_sound(user) {
        return None;
    }
    let port = match host.strip_prefix('[') {
        Some(literal) => literal.rsplit_once(']')?.1,
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let sound = port.is_empty()
        || port.strip_prefix(':').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    sound.then_some(host)
}

/// Whether each `%` is followed by two hexadecimal digits.
fn escapes_are_sound(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}
