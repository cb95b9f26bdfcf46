//! The routes of Scalingo's three hosts, all below one: `/v1` of their account and application
//! servers, `/api` of their database server.

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

use crate::http::query;

/// Digits of a backup's id.
const ID_LENGTH: usize = 24;

/// What a request is about. Path parameters are checked text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScalingoRoute {
    /// `POST /v1/tokens/exchange`
    Exchange,
    /// `GET /v1/users/self`
    User,
    /// `GET /v1/regions`
    Regions,
    /// `GET /v1/apps/{app}/addons`
    Addons(String),
    /// `GET /v1/apps/{app}/addons/{addon}`
    Addon(String, String),
    /// `POST /v1/apps/{app}/addons/{addon}/token`
    AddonToken(String, String),
    /// `GET /api/databases/{db}`
    Database(String),
    /// `PATCH` and `PUT /api/databases/{db}`
    DatabaseChange(String),
    /// `GET /api/databases/{db}/backups`
    Backups(String),
    /// `POST /api/databases/{db}/backups`
    BackupCreate(String),
    /// `GET /api/databases/{db}/backups/{id}`, and `GET /api/backups/{id}` without `{db}`
    Backup(Option<String>, String),
    /// `GET /api/databases/{db}/backups/{id}/archive`
    Archive(String, String),
    /// `GET /api/databases/{db}/backups/{id}/download`
    Download(String, String),
    /// `DELETE /api/databases/{db}/backups/{id}`
    BackupDelete(String, String),
    /// `POST /api/databases/{db}/backups/{id}/restore`
    Restore(String, String),
    /// `GET /api/databases/{db}/backup_restorations/{id}`
    Restoration(String, String),
    /// Anything else where only Scalingo's clients look.
    Unknown,
}

impl ScalingoRoute {
    /// Finds the route of a request; HEAD counts as GET. `None` for what is not Scalingo's:
    /// most of `/api` is PocketBase's. `GET /api/backups/{id}` is both: PocketBase's has a
    /// `token` in its query and is refused without one, Scalingo's has none, and an id or a
    /// header that `has_pass` knows.
    pub fn find(
        method: &Method,
        path: &str,
        query: &str,
        has_pass: impl FnOnce() -> bool,
    ) -> Option<Self> {
        let segments = path.strip_prefix('/')?.split('/');
        let segments: Vec<_> =
            segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy()).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let get = matches!(*method, Method::GET | Method::HEAD);
        let (post, own) = (*method == Method::POST, |text: &str| text.to_owned());
        Some(match segments[..] {
            ["api", "backups", id]
                if get && query::first(query, "token").is_none() && (is_id(id) || has_pass()) =>
            {
                Self::Backup(None, own(id))
            }
            ["v1", "tokens", "exchange"] if post => Self::Exchange,
            ["v1", "users", "self"] if get => Self::User,
            ["v1", "regions"] if get => Self::Regions,
            ["v1", "apps", app, "addons"] if get => Self::Addons(own(app)),
            ["v1", "apps", app, "addons", addon] if get => Self::Addon(own(app), own(addon)),
            ["v1", "apps", app, "addons", addon, "token"] if post => {
                Self::AddonToken(own(app), own(addon))
            }
            ["v1", "tokens" | "users" | "regions" | "apps", ..] => Self::Unknown,
            ["api", "databases", db, ref rest @ ..] => Self::of_database(method, own(db), rest),
            _ => return None,
        })
    }

    fn of_database(method: &Method, db: String, rest: &[&str]) -> Self {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let (post, own) = (*method == Method::POST, |text: &str| text.to_owned());
        match *rest {
            [] if get => Self::Database(db),
            [] if matches!(*method, Method::PATCH | Method::PUT) => Self::DatabaseChange(db),
            ["backups"] if get => Self::Backups(db),
            ["backups"] if post => Self::BackupCreate(db),
            ["backups", id] if get => Self::Backup(Some(db), own(id)),
            ["backups", id] if *method == Method::DELETE => Self::BackupDelete(db, own(id)),
            ["backups", id, "archive"] if get => Self::Archive(db, own(id)),
            ["backups", id, "download"] if get => Self::Download(db, own(id)),
            ["backups", id, "restore"] if post => Self::Restore(db, own(id)),
            ["backup_restorations", id] if get => Self::Restoration(db, own(id)),
            _ => Self::Unknown,
        }
    }
}

fn is_id(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == ID_LENGTH && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalingos_routes_are_found_and_pocketbases_are_left() {
        use ScalingoRoute as R;
        let own = str::to_owned;
        let id = "5b8b36104ffb090be1ac3ce1";
        let at = |rest: &str| format!("/api/databases/ad-1{rest}");
        for (method, path, expected) in [
            (Method::POST, own("/v1/tokens/exchange"), Some(R::Exchange)),
            (Method::GET, own("/v1/users/self"), Some(R::User)),
            (Method::HEAD, own("/v1/regions"), Some(R::Regions)),
            (Method::GET, own("/v1/apps/a/addons"), Some(R::Addons(own("a")))),
            (Method::GET, own("/v1/apps/a/addons/b"), Some(R::Addon(own("a"), own("b")))),
            (
                Method::POST,
                own("/v1/apps/a/addons/b/token"),
                Some(R::AddonToken(own("a"), own("b"))),
            ),
            (Method::GET, own("/v1/apps/a"), Some(R::Unknown)),
            (Method::GET, own("/v1/other"), None),
            (Method::GET, own("/v1"), None),
            (Method::GET, at(""), Some(R::Database(own("ad-1")))),
            (Method::PUT, at(""), Some(R::DatabaseChange(own("ad-1")))),
            (Method::PATCH, at(""), Some(R::DatabaseChange(own("ad-1")))),
            (Method::GET, at("/backups"), Some(R::Backups(own("ad-1")))),
            (Method::POST, at("/backups"), Some(R::BackupCreate(own("ad-1")))),
            (Method::GET, at("/backups/x"), Some(R::Backup(Some(own("ad-1")), own("x")))),
            (Method::GET, at("/backups/x/archive"), Some(R::Archive(own("ad-1"), own("x")))),
            (Method::GET, at("/backups/x/download"), Some(R::Download(own("ad-1"), own("x")))),
            (Method::POST, at("/pitr/restore"), Some(R::Unknown)),
            (Method::GET, own("/api/databases"), None),
            (Method::GET, format!("/api/backups/{id}"), Some(R::Backup(None, own(id)))),
            (Method::DELETE, format!("/api/backups/{id}"), None),
            (Method::GET, own("/api/backups/pb_backup_acme_20260101000000.zip"), None),
            (Method::GET, own("/api/backups"), None),
        ] {
            assert_eq!(R::find(&method, &path, "", || false), expected, "{method} {path}");
        }
        let find = |key: &str, query| {
            R::find(&Method::GET, &format!("/api/backups/{key}"), query, || true)
        };
        assert_eq!(find(id, "token=x"), None);
        assert_eq!(find("nonsense", ""), Some(R::Backup(None, own("nonsense"))));
    }
}
