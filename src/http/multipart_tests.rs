//! Tables for the multipart parser, each body also cut into every possible pair of chunks.

use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;

use super::*;

const TYPE: &[u8] = b"multipart/form-data; boundary=B";

/// A part as `name|file name|content`.
type Found = Vec<String>;

async fn run(chunks: &[&[u8]]) -> Result<Found, Broken> {
    let chunks = chunks.iter().map(|chunk| Ok::<_, ()>(Bytes::copy_from_slice(chunk)));
    let mut parts = Parts::open(TYPE, stream::iter(chunks.collect::<Vec<_>>()))?;
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let mut found = Vec::new();
    while let Some(mut part) = parts.next().await? {
        let mut content = Vec::new();
        while let Some(piece) = part.next().await? {
            assert!(!piece.is_empty());
            content.extend_from_slice(&piece);
        }
        assert_eq!(part.next().await, Ok(None));
        let file = part.file_name.as_deref().map_or("-".to_owned(), lossy);
        found.push(format!("{}|{file}|{}", lossy(&part.name), lossy(&content)));
    }
    Ok(found)
}

const HEAD: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.zip\"";

#[actix_web::test]
async fn bodies_are_split_as_go_splits_them_however_they_arrive() {
    let full = format!("--B\r\n{HEAD}\r\n\r\nPK\r\n--B--\r\n");
    let cases: Vec<(String, Option<Vec<&str>>)> = vec![
        (full.clone(), Some(vec!["file|a.zip|PK"])),
        (full.trim_end().to_owned(), Some(vec!["file|a.zip|PK"])),
        (format!("{full}epilogue"), Some(vec!["file|a.zip|PK"])),
        (format!("preamble\r\n\r\n{full}"), Some(vec!["file|a.zip|PK"])),
        (full.replace("PK", ""), Some(vec!["file|a.zip|"])),
        (full.replace("PK", "\r\r\n"), Some(vec!["file|a.zip|\r\r\n"])),
        // OkHttp tells the length of each part.
        (full.replace(HEAD, &format!("{HEAD}\r\nContent-Length: 2")), Some(vec!["file|a.zip|PK"])),
        (full.replace("PK", "--BK"), Some(vec!["file|a.zip|--BK"])),
        (full.replace("; filename=\"a.zip\"", ""), Some(vec!["file|-|PK"])),
        (full.replace("form-data", "attachment"), Some(vec!["|a.zip|PK"])),
        (full.replace("a.zip", "../x/a.zip/"), Some(vec!["file|a.zip|PK"])),
        (full.replace("a.zip", "//"), Some(vec!["file|/|PK"])),
        (full.replace(HEAD, "X: y"), Some(vec!["|-|PK"])),
        ("--B--\r\n".to_owned(), Some(vec![])),
        ("\r\n--B--\r\n".to_owned(), Some(vec![])),
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
    check(&cases).await;
}

/// No client sends these; Go takes them. They are listed in `docs/api.md`.
#[actix_web::test]
async fn bodies_that_go_takes_and_the_crate_does_not() {
    let full = format!("--B\r\n{HEAD}\r\n\r\nPK\r\n--B--\r\n");
    let long = |n: u32| full.replace(HEAD, &format!("{HEAD}\r\nContent-Length: {n}"));
    let cases: Vec<(String, Option<Vec<&str>>)> = vec![
        // Bare line feeds.
        (full.replace("\r\n", "\n"), None),
        // Blanks behind the first boundary: it is not seen, the last one is.
        (full.replace("--B\r", "--B \t\r"), Some(vec![])),
        // An empty part without a line end of its own.
        (format!("--B\r\n{HEAD}\r\n\r\n--B--"), None),
        // Nothing but the last boundary, without its line end.
        ("--B--".to_owned(), None),
        // A header line that is continued on the next one.
        (full.replace("; filename", ";\r\n filename"), None),
        // A part without any header hides the one behind it.
        (format!("--B\r\n\r\nno\r\n{full}"), Some(vec!["|-|PK"])),
        // Lines of the content that begin with the boundary.
        (full.replace("PK", "P\r\n--BK"), None),
        (full.replace("PK", "P\r--BK"), Some(vec!["file|a.zip|P"])),
        // A length that is not the part's is believed.
        (long(1), Some(vec!["file|a.zip|P"])),
        (long(3), Some(vec!["file|a.zip|PK\r"])),
        (long(5), None),
        (full.replace(HEAD, &format!("{HEAD}\r\nContent-Length: x")), None),
        // A multipart body as a file.
        (full.replace(HEAD, &format!("{HEAD}\r\nContent-Type: multipart/mixed")), None),
    ];
    check(&cases).await;
}

/// Each body is also cut into two chunks everywhere.
async fn check(cases: &[(String, Option<Vec<&str>>)]) {
    for (body, expected) in cases {
        let body = body.as_bytes();
        for at in 0..=body.len() {
            let found = run(&[&body[..at], &body[at..]]).await.ok();
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
        let empty = stream::empty::<Result<Bytes, ()>>();
        assert_eq!(Parts::open(value.as_bytes(), empty).is_ok(), fine, "{value}");
    }
}

#[actix_web::test]
async fn endless_headers_and_parts_are_refused() {
    let long = format!("--B\r\nX: {}\r\n\r\n\r\n--B--", "x".repeat(64 * 1024));
    assert!(run(&[long.as_bytes()]).await.is_err());
    let many = format!("{}--B--", "--B\r\nX: y\r\n\r\n\r\n".repeat(PARTS_MAX + 1));
    assert!(run(&[many.as_bytes()]).await.is_err());
}

proptest! {
    #[test]
    fn any_content_comes_out_as_it_went_in(
        content in "[\r\n\\-B a]{0,60}",
        cuts in proptest::collection::vec(0usize..140, 0..6),
    ) {
        prop_assume!(!content.contains("\r\n--B") && !content.contains("\r--B"));
        let body = format!("--B\r\n{HEAD}\r\n\r\n{content}\r\n--B--\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|at| (*at).min(body.len())).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> =
            cuts.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]).collect();
        let found = actix_web::rt::System::new().block_on(run(&chunks));
        prop_assert_eq!(found, Ok(vec![format!("file|a.zip|{content}")]));
    }
}
