//! Reads `Content-Type` and `Content-Disposition` values the way Go's `mime` package does, so
//! that the same odd clients are understood: unquoted values, `name*=utf-8''…` (RFC 5987),
//! pieces `name*0=…` (RFC 2231), backslashes of old browsers. Knows nothing of requests.

use std::collections::BTreeMap;

/// Values are bytes: file names arrive in whatever encoding the client uses.
type Params = BTreeMap<String, Vec<u8>>;

/// A media type or disposition with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Media {
    /// Lower case, e.g. `multipart/form-data`.
    pub kind: String,
    params: Params,
}

impl Media {
    /// Parses a header's value; `None` when it breaks the rules in any place.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let base_len = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let (base, mut rest) = value.split_at(base_len);
        let kind = String::from_utf8(base.trim_ascii().to_ascii_lowercase()).ok()?;
        if !is_kind(&kind) {
            return None;
        }
        let mut plain = Params::new();
        let mut starred = BTreeMap::<String, Params>::new();
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let Some((name, value, after)) = param(rest) else {
                // A lone semicolon at the end is forgiven.
                if rest.trim_ascii() == b";" {
                    break;
                }
                return None;
            };
            let params = match name.split_once('*') {
                Some((base, _)) => starred.entry(base.to_owned()).or_default(),
                None => &mut plain,
            };
            if params.get(&name).is_some_and(|old| *old != value) {
                return None;
            }
            params.insert(name, value);
            rest = after;
        }
        for (name, pieces) in starred {
            if let Some(value) = joined(&name, &pieces) {
                plain.insert(name, value);
            }
        }
        Some(Self { kind, params: plain })
    }

    /// A parameter's value.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params.get(name).map(Vec::as_slice)
    }
}

/// `token` or `token/token`.
fn is_kind(kind: &str) -> bool {
    let token = |part: &str| !part.is_empty() && part.bytes().all(is_token);
    match kind.split_once('/') {
        Some((kind, sub)) => token(kind) && token(sub),
        None => token(kind),
    }
}

/// One `; name=value`: the name in lower case, the value, and what follows.
fn param(text: &[u8]) -> Option<(String, Vec<u8>, &[u8])> {
    let rest = text.strip_prefix(b";")?.trim_ascii_start();
    let name_len = rest.iter().position(|b| !is_token(*b)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_len);
    if name.is_empty() {
        return None;
    }
    let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let len = rest.iter().position(|b| !is_token(*b)).unwrap_or(rest.len());
        let (value, rest) = rest.split_at(len);
        return (!value.is_empty()).then(|| (name, value.to_vec(), rest));
    };
    let (value, rest) = unquoted(quoted)?;
    Some((name, value, rest))
}

/// The text up to the closing quote. A backslash escapes only special characters; before any
/// other it stands for itself (`C:\dir\a.zip`).
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return Some((value, &text[at + 1..])),
            b'\r' | b'\n' => return None,
            b'\\' if text.get(at + 1).is_some_and(|next| is_special(*next)) => {
                value.push(text[at + 1]);
                at += 1;
            }
            other => value.push(*other),
        }
        at += 1;
    }
    None
}

/// Puts `name*`, or `name*0`, `name*1*` … together.
fn joined(name: &str, pieces: &Params) -> Option<Vec<u8>> {
    if let Some(whole) = pieces.get(&format!("{name}*")) {
        return extended(whole);
    }
    let mut value = Vec::new();
    for n in 0.. {
        if let Some(piece) = pieces.get(&format!("{name}*{n}")) {
            value.extend_from_slice(piece);
        } else if let Some(piece) = pieces.get(&format!("{name}*{n}*")) {
            let decoded = if n == 0 { extended(piece) } else { percent_decoded(piece) };
            value.extend(decoded.unwrap_or_default());
        } else if n == 0 {
            return None;
        } else {
            break;
        }
    }
    Some(value)
}

/// `charset'language'percent-encoded`, for the two charsets that need no table.
fn extended(value: &[u8]) -> Option<Vec<u8>> {
    let mut parts = value.splitn(3, |b| *b == b'\'');
    let charset = parts.next()?.to_ascii_lowercase();
    let (_language, text) = (parts.next()?, parts.next()?);
    matches!(charset.as_slice(), b"utf-8" | b"us-ascii").then(|| percent_decoded(text))?
}

/// `None` when a `%` is not followed by two hexadecimal digits.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if *byte == b'%' {
            let digit = |i: usize| char::from(*text.get(i)?).to_digit(16);
            let value = digit(at + 1)? * 16 + digit(at + 2)?;
            decoded.push(u8::try_from(value).ok()?);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    Some(decoded)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !is_special(byte)
}

fn is_special(byte: u8) -> bool {
    b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        let cases: [(&str, Option<&str>); 22] = [
            (r#"form-data; filename="a.zip""#, Some("a.zip")),
            ("form-data; filename=a.zip", Some("a.zip")),
            ("form-data;FILENAME = a.zip ;", Some("a.zip")),
            ("form-data; filename=a b.zip", None),
            ("form-data; filename=a.zip; filename*=utf-8''st%C3%A4r.zip", Some("stär.zip")),
            ("form-data; filename*=UTF-8'de'b.zip", Some("b.zip")),
            ("form-data; filename=a.zip; filename*=iso-8859-1''b", Some("a.zip")),
            ("form-data; filename=a.zip; filename*=utf-8''%zz", Some("a.zip")),
            ("form-data; filename*0=a; filename*1*=%2d; filename*2=b", Some("a-b")),
            ("form-data; filename*0*=utf-8''%61; filename*1=b", Some("ab")),
            (r#"form-data; filename="..\win.zip""#, Some(r"..\win.zip")),
            (r#"form-data; filename="q\"q\\q""#, Some(r#"q"q\q"#)),
            (r#"form-data; filename="semi;colon.zip""#, Some("semi;colon.zip")),
            (r#"form-data; filename="ünï.zip""#, Some("ünï.zip")),
            (r#"form-data; filename="open"#, None),
            (r#"form-data; filename="""#, Some("")),
            ("form-data; filename=", None),
            ("form-data; filename=a; filename=a", Some("a")),
            ("form-data; filename=a; filename=b", None),
            ("form-data; ; filename=a", None),
            ("form data; filename=a", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let media = Media::parse(value.as_bytes());
            let found = media.as_ref().and_then(|media| media.param("filename"));
            assert_eq!(found, expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn a_kind_is_lower_case_and_may_stand_alone() {
        let media = Media::parse(b" Multipart/Form-Data ; boundary=x").expect("a media type");
        assert_eq!(media.kind, "multipart/form-data");
        assert_eq!(media.param("boundary"), Some(b"x".as_slice()));
        assert_eq!(Media::parse(b"attachment").expect("a disposition").kind, "attachment");
    }
}
