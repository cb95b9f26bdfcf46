//! Tables for the multipart parser, each body also cut into every possible pair of chunks.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const TYPE: &[u8] = b"multipart/form-data; boundary=B";

/// A part as `name|file name|content`.
type Found = Vec<String>;

fn run(chunks: &[&[u8]]) -> Result<Found, Broken> {
    let mut parser = Parser::of_content_type(TYPE)?;
    let mut chunks = chunks.iter();
    let (mut found, mut content) = (Vec::new(), Vec::new());
    loop {
        match parser.next_event()? {
            Event::More => match chunks.next() {
                Some(chunk) => parser.feed(Bytes::copy_from_slice(chunk)),
                None => parser.finish(),
            },
            Event::Part(part) => {
                let file = part.file_name.map(|name| String::from_utf8_lossy(&name).into_owned());
                let name = String::from_utf8_lossy(&part.name).into_owned();
                found.push(format!("{name}|{}|", file.unwrap_or_else(|| "-".to_owned())));
                content.clear();
            }
            Event::Data(data) => {
                assert!(!data.is_empty());
                content.extend_from_slice(&data);
            }
            Event::PartEnd => {
                let last = found.last_mut().expect("a part");
                last.push_str(&String::from_utf8_lossy(&content));
            }
            Event::End => return Ok(found),
        }
    }
}

const HEAD: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.zip\"";

#[test]
fn bodies_are_split_as_go_splits_them_however_they_arrive() {
    let full = format!("--B\r\n{HEAD}\r\n\r\nPK\r\n--B--\r\n");
    let cases: Vec<(String, Option<Vec<&str>>)> = vec![
        (full.clone(), Some(vec!["file|a.zip|PK"])),
        (full.replace("\r\n", "\n"), Some(vec!["file|a.zip|PK"])),
        (full.trim_end().to_owned(), Some(vec!["file|a.zip|PK"])),
        (format!("{full}epilogue"), Some(vec!["file|a.zip|PK"])),
        (format!("preamble\r\n\r\n{full}"), Some(vec!["file|a.zip|PK"])),
        (full.replace("--B\r", "--B \t\r"), Some(vec!["file|a.zip|PK"])),
        (full.replace("PK", ""), Some(vec!["file|a.zip|"])),
        (format!("--B\r\n{HEAD}\r\n\r\n--B--"), Some(vec!["file|a.zip|"])),
        (full.replace("PK", "P\r\n--BK"), Some(vec!["file|a.zip|P\r\n--BK"])),
        (full.replace("PK", "\r\n--B-x\r\n-"), Some(vec!["file|a.zip|\r\n--B-x\r\n-"])),
        (full.replace("PK", "\r\r\n"), Some(vec!["file|a.zip|\r\r\n"])),
        (full.replace("PK", "--BK"), Some(vec!["file|a.zip|--BK"])),
        (full.replace("; filename=\"a.zip\"", ""), Some(vec!["file|-|PK"])),
        (full.replace("form-data", "attachment"), Some(vec!["|a.zip|PK"])),
        (full.replace("a.zip", "../x/a.zip/"), Some(vec!["file|a.zip|PK"])),
        (full.replace("a.zip", "//"), Some(vec!["file|/|PK"])),
        (full.replace(HEAD, "X: y"), Some(vec!["|-|PK"])),
        (
            format!("--B\r\n\r\nPK{}", full.replace("--B\r", "\r\n--B\r")),
            Some(vec!["|-|PK", "file|a.zip|PK"]),
        ),
        (full.replace("; filename", ";\r\n filename"), Some(vec!["file|a.zip|PK"])),
        ("--B--".to_owned(), Some(vec![])),
        (String::new(), None),
        ("garbage".to_owned(), None),
        ("--B".to_owned(), None),
        ("--B\r\n".to_owned(), None),
        (full.replace(HEAD, "no colon"), None),
        (full.replace(HEAD, &format!(" {HEAD}")), None),
        (full.replace("--B--", "--B-"), None),
        (full.replace("--B--", "--B--x"), None),
        (full.replace("--B--", "--B x"), None),
        (full[..full.len() - 10].to_owned(), None),
        (full[..full.len() - 4].to_owned(), None),
    ];
    for (body, expected) in cases {
        let body = body.as_bytes();
        for at in 0..=body.len() {
            let found = run(&[&body[..at], &body[at..]]).ok();
            let expected = expected.as_ref().map(|v| v.iter().map(ToString::to_string).collect());
            assert_eq!(found, expected, "{:?} cut at {at}", String::from_utf8_lossy(body));
        }
    }
}

#[test]
fn content_types_without_a_usable_boundary_are_refused() {
    for (value, fine) in [
        ("multipart/form-data; boundary=x", true),
        ("multipart/form-data; boundary=\"a b\"", true),
        ("multipart/form-data", false),
        ("multipart/form-data; boundary=\"\"", false),
        ("multipart/mixed; boundary=x", false),
        ("application/json", false),
        ("", false),
    ] {
        assert_eq!(Parser::of_content_type(value.as_bytes()).is_ok(), fine, "{value}");
    }
}

#[test]
fn endless_headers_and_parts_are_refused() {
    let long = format!("--B\r\nX: {}\r\n\r\n\r\n--B--", "x".repeat(HEADER_BYTES_MAX));
    assert!(run(&[long.as_bytes()]).is_err());
    let many = format!("{}--B--", "--B\r\nX: y\r\n\r\n\r\n".repeat(PARTS_MAX + 1));
    assert!(run(&[many.as_bytes()]).is_err());
}

proptest! {
    #[test]
    fn any_content_comes_out_as_it_went_in(
        content in "[\r\n\\-B a]{0,60}",
        cuts in proptest::collection::vec(0usize..140, 0..6),
    ) {
        prop_assume!(!format!("\r\n{content}\r\n").contains("\r\n--B"));
        let body = format!("--B\r\n{HEAD}\r\n\r\n{content}\r\n--B--\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|at| (*at).min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> =
            cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(run(&chunks), Ok(vec![format!("file|a.zip|{content}")]));
    }
}
