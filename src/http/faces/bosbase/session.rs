//! Who calls: tokens as BosBase takes them, from the header, the query or a cookie.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::auth::keys::TokenKind;
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, SOMETHING};
use crate::http::query;
use crate::vault::databases::{BosbaseSuperuser, DatabaseVault};

/// The cookie that BosBase reads.
const COOKIE: &str = "pb_auth";
/// The only spelling of the scheme that BosBase takes off.
const SCHEME: &str = "Bearer ";

type Session = Option<(Arc<DatabaseVault>, BosbaseSuperuser)>;

/// The superuser of a BosBase who sent a request.
pub(super) async fn of_caller(call: &Call) -> Answer<Session> {
    let headers = call.request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = text("authorization")
        .map(|value| value.strip_prefix(SCHEME).unwrap_or(value).to_owned())
        .filter(|token| !token.is_empty())
        .or_else(|| query::first(call.request.query_string(), "token"))
        .or_else(|| headers.get_all("cookie").find_map(|value| of_cookies(value.to_str().ok()?)));
    of_token(call, token, TokenKind::Auth).await
}

/// The superuser of a BosBase whose token for downloads is in the query.
pub(super) async fn of_file_token(call: &Call) -> Answer<Session> {
    let token = query::first(call.request.query_string(), "token");
    of_token(call, token, TokenKind::File).await
}

async fn of_token(call: &Call, token: Option<String>, kind: TokenKind) -> Answer<Session> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    for vault in call.services.databases.iter() {
        let found = vault.bosbase_superuser(&token, kind).await.map_err(|error| {
            let database = vault.name();
            tracing::error!(database, error = error.full(), "a token cannot be verified");
            ApiError::bad_request(SOMETHING)
        })?;
        if let Some(superuser) = found {
            return Ok(Some((vault.clone(), superuser)));
        }
    }
    Ok(None)
}

/// The token in a header of cookies: bare, or in the object that the SDKs put there.
fn of_cookies(header: &str) -> Option<String> {
    let cookies = header.split(';').filter_map(|cookie| cookie.trim().split_once('='));
    let (_, value) = cookies.into_iter().find(|(name, _)| *name == COOKIE)?;
    let value = percent_decode_str(value.trim_matches('"')).decode_utf8().ok()?;
    match serde_json::from_str::<Value>(&value) {
        Ok(Value::Object(held)) => held.get("token")?.as_str().map(str::to_owned),
        _ => Some(value.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_hold_a_token_or_an_object_with_one() {
        for (header, expected) in [
            ("pb_auth=a.b.c", Some("a.b.c")),
            ("x=y; pb_auth=%7B%22token%22%3A%22a.b.c%22%2C%22record%22%3Anull%7D", Some("a.b.c")),
            ("pb_auth=%7B%22record%22%3A1%7D", None),
            ("pb_authx=a", None),
            ("", None),
        ] {
            assert_eq!(of_cookies(header).as_deref(), expected, "{header}");
        }
    }
}
