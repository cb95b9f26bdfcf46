//! Every route of the server on one screen; our own are in [`vault`], Blnk's in [`blnk`].

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

use crate::http::routes::scalingo::ScalingoRoute;
use crate::http::routes::vault::VaultRoute;

pub mod blnk;
pub mod databases;
pub mod scalingo;
pub mod vault;

/// The name of PocketBase's job that makes backups.
const AUTO_BACKUP: &[u8] = b"__pbAutoBackup__";

/// What a request is about. Path parameters are raw bytes: percent-decoding can give anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /api/health`
    Health,
    /// `GET /api/backups`
    BackupList,
    /// `POST /api/backups`
    BackupCreate,
    /// `POST /api/backups/upload`
    BackupUpload,
    /// `GET /api/backups/{key}`
    BackupDownload(Vec<u8>),
    /// `DELETE /api/backups/{key}`
    BackupDelete(Vec<u8>),
    /// `POST /api/backups/{key}/restore`
    BackupRestore(Vec<u8>),
    /// `POST /api/files/token`
    FileToken,
    /// `GET /api/collections/{collection}/auth-methods`
    AuthMethods(Vec<u8>),
    /// `POST /api/collections/{collection}/auth-with-password`
    AuthPassword(Vec<u8>),
    /// `POST /api/collections/{collection}/auth-refresh`
    AuthRefresh(Vec<u8>),
    /// `POST /api/collections/{collection}/request-otp`
    OtpRequest(Vec<u8>),
    /// `POST /api/collections/{collection}/auth-with-otp`
    AuthOtp(Vec<u8>),
    /// `POST /api/collections/{collection}/impersonate/{id}`
    Impersonate(Vec<u8>, Vec<u8>),
    /// `GET /api/settings`
    SettingsGet,
    /// `PATCH /api/settings`
    SettingsPatch,
    /// `POST /api/settings/test/s3`
    SettingsTestS3,
    /// `GET /api/crons`
    CronList,
    /// `POST /api/crons/{id}`
    CronRun(Vec<u8>),
    /// Anything of Scalingo's; found before all others, where that face is on.
    Scalingo(ScalingoRoute),
    /// Anything of ours below `/api/vault`.
    Vault(VaultRoute),
    /// `GET /api/openapi.json`
    Description,
    /// `GET /api/docs`
    Docs,
    /// `GET /_/{file}` and `/_vault/{file}`; `None` without the last slash.
    Page(Option<Vec<u8>>),
    /// `GET` or `HEAD` of anything else: PocketBase's static files would answer.
    UnknownFile,
    /// Anything else.
    Unknown,
}

impl Route {
    /// Finds the route of a request by its method and its still encoded path. Matching is
    /// case-sensitive, knows no trailing slash, and serves HEAD wherever GET is served.
    pub fn find(method: &Method, path: &str) -> Self {
        let segments: Vec<Vec<u8>> = path
            .strip_prefix('/')
            .unwrap_or_default()
            .split('/')
            .map(|segment| percent_decode_str(segment).collect())
            .collect();
        let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
        if let [b"api", b"vault", ours @ ..] = segments.as_slice()
            && let Some(route) = VaultRoute::find(method, ours)
        {
            return Self::Vault(route);
        }
        let found = match *method {
            Method::GET | Method::HEAD => Self::find_get(&segments),
            Method::POST => Self::find_post(&segments),
            Method::PATCH => match segments[..] {
                [b"api", b"settings"] => Some(Self::SettingsPatch),
                _ => None,
            },
            Method::DELETE => match segments[..] {
                [b"api", b"backups", key] if !key.is_empty() => {
                    Some(Self::BackupDelete(key.to_vec()))
                }
                _ => None,
            },
            _ => None,
        };
        found.unwrap_or(match *method {
            Method::GET | Method::HEAD => Self::UnknownFile,
            _ => Self::Unknown,
        })
    }

    fn find_get(segments: &[&[u8]]) -> Option<Self> {
        Some(match *segments {
            [b"api", b"health"] => Self::Health,
            [b"api", b"openapi.json"] => Self::Description,
            [b"api", b"docs"] => Self::Docs,
            [b"metrics"] => Self::Vault(VaultRoute::Metrics),
            [b"api", b"backups"] => Self::BackupList,
            [b"api", b"backups", key] if !key.is_empty() => Self::BackupDownload(key.to_vec()),
            [b"api", b"collections", name, b"auth-methods"] => Self::AuthMethods(name.to_vec()),
            [b"api", b"settings"] => Self::SettingsGet,
            [b"api", b"crons"] => Self::CronList,
            [b"_" | b"_vault"] => Self::Page(None),
            [b"_" | b"_vault", file] => Self::Page(Some(file.to_vec())),
            _ => return None,
        })
    }

    fn find_post(segments: &[&[u8]]) -> Option<Self> {
        Some(match *segments {
            [b"api", b"backups"] => Self::BackupCreate,
            [b"api", b"backups", b"upload"] => Self::BackupUpload,
            [b"api", b"backups", key, b"restore"] if !key.is_empty() => {
                Self::BackupRestore(key.to_vec())
            }
            [b"api", b"files", b"token"] => Self::FileToken,
            [b"api", b"collections", name, action] if !name.is_empty() => match action {
                b"auth-with-password" => Self::AuthPassword(name.to_vec()),
                b"auth-refresh" => Self::AuthRefresh(name.to_vec()),
                b"request-otp" => Self::OtpRequest(name.to_vec()),
                b"auth-with-otp" => Self::AuthOtp(name.to_vec()),
                _ => return None,
            },
            [b"api", b"collections", name, b"impersonate", id]
                if !name.is_empty() && !id.is_empty() =>
            {
                Self::Impersonate(name.to_vec(), id.to_vec())
            }
            [b"api", b"settings", b"test", b"s3"] => Self::SettingsTestS3,
            [b"api", b"crons", id] if !id.is_empty() => Self::CronRun(id.to_vec()),
            _ => return None,
        })
    }

    /// Whether we answer a request ourselves although a program behind us could: everything
    /// about backups and schedules, whatever the method, and nothing about logging in. The page
    /// at `/_/` is the program's, and ours at `/_vault/`.
    pub fn is_ours(method: &Method, path: &str) -> bool {
        match Self::find(method, path) {
            Self::FileToken
            | Self::AuthMethods(_)
            | Self::AuthPassword(_)
            | Self::AuthRefresh(_)
            | Self::OtpRequest(_)
            | Self::AuthOtp(_)
            | Self::Impersonate(..) => false,
            Self::CronRun(id) => id == AUTO_BACKUP,
            // The program may have metrics of its own.
            Self::Vault(VaultRoute::Metrics) => path.starts_with("/api/"),
            Self::Page(_) => path
                .split('/')
                .nth(1)
                .is_some_and(|first| percent_decode_str(first).eq(b"_vault".iter().copied())),
            Self::Unknown | Self::UnknownFile => {
                let mut segments = path.split('/').skip(1).map(percent_decode_str);
                let mut next = || segments.next().map(Vec::<u8>::from_iter).unwrap_or_default();
                *method == Method::CONNECT
                    || (next() == b"api" && [&b"backups"[..], b"vault"].contains(&&*next()))
            }
            _ => true,
        }
    }

    /// The names by which PocketBase's rate-limit rules call this route: the collection (if
    /// the route has one) and the tags.
    pub fn limit_tags(&self) -> (Option<&[u8]>, &'static [&'static str]) {
        match self {
            Self::AuthPassword(name) => (Some(name), &["authWithPassword", "auth"]),
            Self::AuthRefresh(name) => (Some(name), &["authRefresh"]),
            Self::AuthMethods(name) => (Some(name), &["listAuthMethods"]),
            Self::OtpRequest(name) => (Some(name), &["requestOTP"]),
            Self::AuthOtp(name) => (Some(name), &["authWithOTP", "auth"]),
            _ => (None, &[]),
        }
    }

    /// The pattern of a route below a collection, as PocketBase's rules know it.
    pub fn pattern(&self) -> &'static str {
        match self {
            Self::AuthPassword(_) => "POST /api/collections/{collection}/auth-with-password",
            Self::AuthRefresh(_) => "POST /api/collections/{collection}/auth-refresh",
            Self::AuthMethods(_) => "GET /api/collections/{collection}/auth-methods",
            Self::OtpRequest(_) => "POST /api/collections/{collection}/request-otp",
            Self::AuthOtp(_) => "POST /api/collections/{collection}/auth-with-otp",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_program_only_backups_and_schedules_are_ours() {
        for (method, path, ours) in [
            (Method::GET, "/api/backups", true),
            (Method::PUT, "/api/%62ackups/x", true),
            (Method::OPTIONS, "/api/backups/x/restore", true),
            (Method::GET, "/api/backups/", true),
            (Method::GET, "/api/vault/none", true),
            (Method::GET, "/api/settings", true),
            (Method::PATCH, "/api/settings", true),
            (Method::OPTIONS, "/api/settings", false),
            (Method::POST, "/api/settings/test/email", false),
            (Method::GET, "/api/crons", true),
            (Method::POST, "/api/crons/__pbAutoBackup__", true),
            (Method::POST, "/api/crons/__pbLogsCleanup__", false),
            (Method::GET, "/api/health", true),
            (Method::POST, "/api/collections/_superusers/auth-with-password", false),
            (Method::POST, "/api/files/token", false),
            (Method::GET, "/api/files/backups/x", false),
            (Method::GET, "/_/", false),
            (Method::GET, "/metrics", false),
            (Method::GET, "/api/vault/metrics", true),
            (Method::GET, "/_/app.js", false),
            (Method::GET, "/_vault", true),
            (Method::GET, "/_vault/", true),
            (Method::GET, "/%5fvault/app.js", true),
            (Method::POST, "/_vault/", false),
            (Method::GET, "/backups", false),
            (Method::GET, "//api/backups", false),
        ] {
            assert_eq!(Route::is_ours(&method, path), ours, "{method} {path}");
        }
    }

    #[test]
    fn routes_are_found_as_pocketbase_finds_them() {
        let key = |text: &str| text.as_bytes().to_vec();
        for (method, path, expected) in [
            (Method::GET, "/api/health", Route::Health),
            (Method::HEAD, "/api/backups", Route::BackupList),
            (Method::GET, "/api/backups/upload", Route::BackupDownload(key("upload"))),
            (Method::POST, "/api/backups/upload", Route::BackupUpload),
            (Method::DELETE, "/api/backups/a%2fb", Route::BackupDelete(key("a/b"))),
            (Method::POST, "/api/backups/a.zip/restore", Route::BackupRestore(key("a.zip"))),
            (Method::GET, "/api/backups/", Route::UnknownFile),
            (Method::GET, "/API/backups", Route::UnknownFile),
            (Method::DELETE, "/api/backups/a.zip/", Route::Unknown),
            (Method::PUT, "/api/backups", Route::Unknown),
            (Method::POST, "/api/settings", Route::Unknown),
            (Method::GET, "/", Route::UnknownFile),
            (Method::GET, "/_", Route::Page(None)),
            (Method::GET, "/_/", Route::Page(Some(key("")))),
            (Method::HEAD, "/_vault/app.js", Route::Page(Some(key("app.js")))),
            (Method::GET, "/_/a/b", Route::UnknownFile),
            (Method::POST, "/_/", Route::Unknown),
            (Method::GET, "*", Route::UnknownFile),
        ] {
            assert_eq!(Route::find(&method, path), expected, "{method} {path}");
        }
    }
}
