//! Which part of an object a request gets, or why none: the conditional and range headers,
//! decided exactly as Go's file server decides for objects without an ETag. Pure.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use chrono::{DateTime, Utc};

/// Most ranges of one answer; a request for more gets the whole object.
const RANGES_MAX: usize = 1000;

/// A part of an object; it may be empty, and then it ends "before" it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl ByteRange {
    /// The value of `Content-Range`, for an object of `size` bytes.
    pub fn content_range(&self, size: u64) -> String {
        let last = i128::from(self.start) + i128::from(self.len) - 1;
        format!("bytes {}-{last}/{size}", self.start)
    }
}

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// 200 and everything.
    Whole,
    /// 206 with `Content-Range`.
    Single(ByteRange),
    /// 206 as `multipart/byteranges`.
    Multi(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416, with the size in `Content-Range`.
    Unsatisfiable,
    /// 416, without `Content-Range`.
    Malformed,
}

/// Decides for a GET or HEAD request on an object of `size` bytes.
pub fn plan(headers: &HeaderMap, size: u64, modified: DateTime<Utc>) -> Plan {
    let header = |name: HeaderName| {
        let value = headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        // Bytes beyond ASCII make any of these headers meaningless, not absent.
        if value.is_ascii() { std::str::from_utf8(value).unwrap_or("?") } else { "?" }
    };
    // A file of the epoch has no known time.
    let modified = Some(modified.timestamp()).filter(|seconds| *seconds != 0);
    let unmodified = |since: &str| Some(modified? <= date(since)?);

    let if_match = header(header::IF_MATCH);
    let precondition = match if_match.is_empty() {
        false => has_star(if_match),
        true => unmodified(header(header::IF_UNMODIFIED_SINCE)).unwrap_or(true),
    };
    if !precondition {
        return Plan::PreconditionFailed;
    }
    let if_none_match = header(header::IF_NONE_MATCH);
    let not_modified = match if_none_match.is_empty() {
        false => has_star(if_none_match),
        true => unmodified(header(header::IF_MODIFIED_SINCE)).unwrap_or(false),
    };
    if not_modified {
        return Plan::NotModified;
    }
    let if_range = header(header::IF_RANGE);
    let fits = if_range.is_empty() || (modified.is_some() && date(if_range) == modified);
    if fits { parse(header(header::RANGE), size) } else { Plan::Whole }
}

fn parse(range: &str, size: u64) -> Plan {
    if range.is_empty() {
        return Plan::Whole;
    }
    let Some(specs) = range.strip_prefix("bytes=") else { return Plan::Malformed };
    let mut ranges = Vec::new();
    let mut outside = false;
    for spec in specs.split(',').map(trimmed).filter(|spec| !spec.is_empty()) {
        match one(spec, size) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => outside = true,
            Err(Invalid) => return Plan::Malformed,
        }
    }
    if outside && ranges.is_empty() {
        // Some clients send a range with every request; an empty object has no part to miss.
        return if size == 0 { Plan::Whole } else { Plan::Unsatisfiable };
    }
    let sum = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.len));
    match ranges.as_slice() {
        [] => Plan::Whole,
        // More than everything: an attack, or a client that is better off with everything.
        _ if sum > size || ranges.len() > RANGES_MAX => Plan::Whole,
        [range] => Plan::Single(*range),
        _ => Plan::Multi(ranges),
    }
}

struct Invalid;

/// `None`: it starts behind the end.
fn one(spec: &str, size: u64) -> Result<Option<ByteRange>, Invalid> {
    let (start, end) = spec.split_once('-').ok_or(Invalid)?;
    let (start, end) = (trimmed(start), trimmed(end));
    if start.is_empty() {
        let len = number(end)?.min(size);
        return Ok(Some(ByteRange { start: size - len, len }));
    }
    let start = number(start)?;
    if start >= size {
        return Ok(None);
    }
    if end.is_empty() {
        return Ok(Some(ByteRange { start, len: size - start }));
    }
    let end = number(end)?;
    if start > end {
        return Err(Invalid);
    }
    Ok(Some(ByteRange { start, len: end.min(size - 1) - start + 1 }))
}

/// A signed number that is not negative; a plus sign is fine, as in Go.
fn number(text: &str) -> Result<u64, Invalid> {
    let number: i64 = text.parse().map_err(|_| Invalid)?;
    u64::try_from(number).map_err(|_| Invalid)
}

/// We have no ETags, so of a list of them only a star can match.
fn has_star(list: &str) -> bool {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('*') {
            return true;
        }
        let Some(tag) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"') else {
            return false;
        };
        let Some((tag, after)) = tag.split_once('"') else { return false };
        if tag.contains([' ', '\t']) {
            return false;
        }
        rest = after;
    }
}

/// Seconds since the epoch, of any of the three forms of HTTP dates.
fn date(text: &str) -> Option<i64> {
    Some(DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?).timestamp())
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn decide(headers: &[(&'static str, &str)], size: u64) -> Plan {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a value");
            map.insert(HeaderName::from_static(name), value);
        }
        let modified = DateTime::from_timestamp(784_111_777, 999_000_000).expect("a time");
        plan(&map, size, modified)
    }

    fn single(start: u64, len: u64) -> Plan {
        Plan::Single(ByteRange { start, len })
    }

    #[test]
    fn ranges_are_read_as_go_reads_them() {
        let multi = |ranges: &[(u64, u64)]| {
            let ranges = ranges.iter().map(|(start, len)| ByteRange { start: *start, len: *len });
            Plan::Multi(ranges.collect())
        };
        let cases = [
            ("bytes=0-9", single(0, 10)),
            ("bytes=5-", single(5, 108)),
            ("bytes=-10", single(103, 10)),
            ("bytes=-1000", single(0, 113)),
            ("bytes=-0", single(113, 0)),
            ("bytes=0-1000", single(0, 113)),
            ("bytes=112-", single(112, 1)),
            ("bytes= 0-5", single(0, 6)),
            ("bytes=0 - 5", single(0, 6)),
            ("bytes=+1-+2", single(1, 2)),
            ("bytes=0-5,", single(0, 6)),
            ("bytes=,,0-5", single(0, 6)),
            ("bytes=0-9,20-29", multi(&[(0, 10), (20, 10)])),
            ("bytes=0-9, 20-29", multi(&[(0, 10), (20, 10)])),
            ("bytes=20-29,0-9", multi(&[(20, 10), (0, 10)])),
            ("bytes=0-5,1000-2000", single(0, 6)),
            ("bytes=0-112,0-112", Plan::Whole),
            ("bytes=0-112,-1", Plan::Whole),
            ("bytes=", Plan::Whole),
            ("bytes=,", Plan::Whole),
            ("bytes=113-", Plan::Unsatisfiable),
            ("bytes=1000-", Plan::Unsatisfiable),
            ("bytes=200-300,1000-2000", Plan::Unsatisfiable),
            ("bytes=abc", Plan::Malformed),
            ("bytes=5-2", Plan::Malformed),
            ("bytes=-", Plan::Malformed),
            ("bytes=--1", Plan::Malformed),
            ("bytes=0--1", Plan::Malformed),
            ("bytes=0-x", Plan::Malformed),
            ("bytes=0-9,x", Plan::Malformed),
            ("bytes=99999999999999999999-", Plan::Malformed),
            ("items=0-5", Plan::Malformed),
            ("Bytes=0-5", Plan::Malformed),
            ("0-5", Plan::Malformed),
        ];
        for (range, expected) in cases {
            assert_eq!(decide(&[("range", range)], 113), expected, "{range}");
        }
    }

    #[test]
    fn an_empty_object_has_no_part_to_miss() {
        assert_eq!(decide(&[("range", "bytes=0-")], 0), Plan::Whole);
        assert_eq!(decide(&[("range", "bytes=-5")], 0), single(0, 0));
        assert_eq!(ByteRange { start: 0, len: 0 }.content_range(0), "bytes 0--1/0");
        assert_eq!(ByteRange { start: 113, len: 0 }.content_range(113), "bytes 113-112/113");
    }

    #[test]
    fn too_many_ranges_get_everything() {
        let ranges = |n: usize| format!("bytes={}", vec!["0-0"; n].join(","));
        assert!(matches!(decide(&[("range", &ranges(1000))], 5000), Plan::Multi(_)));
        assert_eq!(decide(&[("range", &ranges(1001))], 5000), Plan::Whole);
    }

    #[test]
    fn conditions_are_decided_as_go_decides_them() {
        const OLD: &str = "Mon, 01 Jan 1990 00:00:00 GMT";
        const LATE: &str = "Mon, 01 Jan 2001 00:00:00 GMT";
        let part = ("range", "bytes=0-3");
        let cases: Vec<(Vec<(&'static str, &str)>, Plan)> = vec![
            (vec![], Plan::Whole),
            (vec![("if-match", "*")], Plan::Whole),
            (vec![("if-match", "\"x\"")], Plan::PreconditionFailed),
            (vec![("if-match", "\"x\", W/\"y\", *")], Plan::Whole),
            (vec![("if-match", "x, *")], Plan::PreconditionFailed),
            (vec![("if-match", "*"), ("if-unmodified-since", OLD)], Plan::Whole),
            (vec![("if-unmodified-since", OLD)], Plan::PreconditionFailed),
            (vec![("if-unmodified-since", DATE)], Plan::Whole),
            (vec![("if-unmodified-since", "never")], Plan::Whole),
            (vec![("if-none-match", "*")], Plan::NotModified),
            (vec![("if-none-match", "\"x\"")], Plan::Whole),
            (vec![("if-none-match", "\"x\""), ("if-modified-since", LATE)], Plan::Whole),
            (vec![("if-modified-since", DATE)], Plan::NotModified),
            (vec![("if-modified-since", LATE)], Plan::NotModified),
            (vec![("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], Plan::NotModified),
            (vec![("if-modified-since", "Sun Nov  6 08:49:37 1994")], Plan::NotModified),
            (vec![("if-modified-since", OLD)], Plan::Whole),
            (vec![("if-modified-since", "yesterday")], Plan::Whole),
            (vec![("if-modified-since", DATE), part], Plan::NotModified),
            (vec![("if-range", DATE), part], single(0, 4)),
            (vec![("if-range", LATE), part], Plan::Whole),
            (vec![("if-range", "\"x\""), part], Plan::Whole),
            (vec![("if-range", LATE), ("range", "bad")], Plan::Whole),
        ];
        for (headers, expected) in cases {
            assert_eq!(decide(&headers, 113), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_file_of_the_epoch_has_no_known_time() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MODIFIED_SINCE, HeaderValue::from_static(DATE));
        assert_eq!(plan(&headers, 1, DateTime::UNIX_EPOCH), Plan::Whole);
    }
}
