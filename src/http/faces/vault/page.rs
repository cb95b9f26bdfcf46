//! The admin page: files that are part of the program. They hold nothing secret; what they show
//! comes through the API, with a superuser's token.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
};

use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError};

/// Only our own files, nothing inside of the markup, nobody else's frame.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                                 img-src 'self'; connect-src 'self'; base-uri 'none'; \
                                 form-action 'none'; frame-ancestors 'none'";

/// One file: its name, its media type and its text.
struct File(&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the folder `ui`.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        File($name, $kind, include_str!(concat!("../../../../ui/", $name)))
    };
}

const FILES: [File; 16] = [
    file!("index.html", HTML),
    file!("style.css", CSS),
    file!("icon.svg", SVG),
    file!("app.js", JS),
    file!("api.js", JS),
    file!("ask.js", JS),
    file!("list.js", JS),
    file!("restore.js", JS),
    file!("rules.js", JS),
    file!("safe.js", JS),
    file!("schedules.js", JS),
    file!("time.js", JS),
    file!("tokens.js", JS),
    file!("upload.js", JS),
    file!("words.js", JS),
    file!("work.js", JS),
];

/// `GET /_/{file}`, `GET /_vault/{file}`; without the last slash the browser is sent there.
///
/// # Errors
/// There is no such file.
pub fn get(call: &Call, file: Option<&[u8]>) -> Answer<HttpResponse> {
    let Some(name) = file else {
        let there = format!("{}/", call.request.path());
        return Ok(HttpResponse::TemporaryRedirect().insert_header((LOCATION, there)).finish());
    };
    let name = if name.is_empty() { b"index.html".as_slice() } else { name };
    let found = FILES.iter().find(|file| file.0.as_bytes() == name);
    let File(_, kind, text) = found.ok_or_else(|| ApiError::not_found("File not found."))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, *kind))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        // Its parts belong together: after an update none may be of before.
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(*text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let mut named = 0;
        for File(file, _, text) in FILES {
            for quoted in text.split('"').skip(1).step_by(2) {
                let name = quoted.strip_prefix("./").unwrap_or(quoted);
                let is_file = [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end));
                if is_file && !name.contains(' ') {
                    assert!(FILES.iter().any(|file| file.0 == name), "{file} names {name}");
                    named += 1;
                }
            }
        }
        assert!(named > FILES.len(), "{named} names were found");
    }

    #[test]
    fn nothing_is_inside_of_the_markup_that_the_policy_forbids() {
        let index = FILES[0].2;
        for forbidden in ["style=", "<style", "javascript:", " onclick", "http://", "https://"] {
            assert!(!index.contains(forbidden), "{forbidden}");
        }
        assert_eq!(index.matches("<script").count(), 1);
        assert!(index.contains("<script type=\"module\" src=\"app.js\"></script>"));
    }
}
