//! The typed view of the settings document, in the key order of PocketBase v0.40.4's answers.
//!
//! Serializing gives the public form: secrets are never written. Deserializing expects a
//! complete document; [`default_document`] is one.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cron::{ParseError, Schedule};

/// All settings that we know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Addresses and subnets from which superusers may come; empty for anywhere.
    #[serde(rename = "superuserIPs")]
    pub superuser_ips: Vec<String>,
    /// The mail server.
    pub smtp: Smtp,
    /// Scheduled backups and where backups are kept.
    pub backups: Backups,
    /// Where uploaded files are kept.
    pub s3: S3,
    /// The application's name and its mail sender.
    pub meta: Meta,
    /// Rate limits.
    #[serde(rename = "rateLimits")]
    pub rate_limits: RateLimits,
    /// Headers of a reverse proxy in front.
    #[serde(rename = "trustedProxy")]
    pub trusted_proxy: TrustedProxy,
    /// PocketBase's batch API, which we only keep.
    pub batch: Batch,
    /// PocketBase's request log.
    pub logs: Logs,
}

/// A value that is written to the database and the wire to its owner, and nowhere else.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

/// The mail server; when disabled, mail goes through the local `sendmail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Smtp {
    /// Whether it is used.
    pub enabled: bool,
    /// Its port.
    pub port: i64,
    /// Its name or address.
    pub host: String,
    /// User name; empty for none.
    pub username: String,
    /// Password.
    #[serde(skip_serializing)]
    pub password: Secret,
    /// `PLAIN`, `LOGIN`, or empty for the former.
    #[serde(rename = "authMethod")]
    pub auth_method: String,
    /// TLS from the first byte; otherwise STARTTLS where the server offers it.
    pub tls: bool,
    /// The name that we give ourselves in EHLO; empty for `localhost`.
    #[serde(rename = "localName")]
    pub local_name: String,
}

/// Scheduled backups and where backups are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backups {
    /// When to make one; empty for never.
    pub cron: String,
    /// How many scheduled ones are kept; 0 for all.
    #[serde(rename = "cronMaxKeep")]
    pub cron_max_keep: i64,
    /// Where, when enabled; otherwise the local folder.
    pub s3: S3,
}

impl Backups {
    /// The schedule, `None` for never.
    ///
    /// # Errors
    /// The stored expression is none; it cannot have come from a checked patch then.
    pub fn schedule(&self) -> Result<Option<Schedule>, ParseError> {
        if self.cron.is_empty() { Ok(None) } else { Schedule::parse(&self.cron).map(Some) }
    }
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct S3 {
    /// Whether it is used.
    pub enabled: bool,
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Base address of the service; PocketBase also takes it without `https://`.
    pub endpoint: String,
    /// Access key.
    #[serde(rename = "accessKey")]
    pub access_key: String,
    /// Secret key.
    #[serde(skip_serializing)]
    pub secret: Secret,
    /// The bucket in the path instead of in the host name.
    #[serde(rename = "forcePathStyle")]
    pub force_path_style: bool,
}

/// The application's name and its mail sender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Colour of the dashboard.
    #[serde(rename = "accentColor")]
    pub accent_color: String,
    /// Name of the application, part of generated backup names.
    #[serde(rename = "appName")]
    pub app_name: String,
    /// Its public address.
    #[serde(rename = "appURL")]
    pub app_url: String,
    /// Name of the sender of its mails.
    #[serde(rename = "senderName")]
    pub sender_name: String,
    /// Address of the sender of its mails.
    #[serde(rename = "senderAddress")]
    pub sender_address: String,
    /// Whether the dashboard hides what changes collections.
    #[serde(rename = "hideControls")]
    pub hide_controls: bool,
}

/// Rate limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateLimits {
    /// The limits; the first that fits counts.
    pub rules: Vec<Rule>,
    /// Addresses and subnets without limits.
    #[serde(rename = "excludedIPs")]
    pub excluded_ips: Vec<String>,
    /// Whether they are on.
    pub enabled: bool,
}

/// One rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it limits: a path, a path prefix ending in `/`, `METHOD /path`, or a tag.
    pub label: String,
    /// Whom: `""` everybody, `@guest`, `@auth`.
    pub audience: String,
    /// Length of its window in seconds.
    pub duration: i64,
    /// Requests per window and address.
    #[serde(rename = "maxRequests")]
    pub max_requests: i64,
}

/// Headers of a reverse proxy in front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustedProxy {
    /// Names of headers that hold the client's address, the first present one counts.
    pub headers: Vec<String>,
    /// Take the left-most address of a list instead of the right-most.
    #[serde(rename = "useLeftmostIP")]
    pub use_leftmost_ip: bool,
}

/// PocketBase's batch API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Whether it is on.
    pub enabled: bool,
    /// Requests per batch.
    #[serde(rename = "maxRequests")]
    pub max_requests: i64,
    /// Its time limit in seconds.
    pub timeout: i64,
    /// Size of its body in bytes; 0 for about 128 MB.
    #[serde(rename = "maxBodySize")]
    pub max_body_size: i64,
}

/// PocketBase's request log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logs {
    /// Size of an entry's data in bytes; 0 for about 16 kB.
    #[serde(rename = "maxDataSize")]
    pub max_data_size: i64,
    /// Age in days after which entries are deleted; 0 turns the log off.
    #[serde(rename = "maxDays")]
    pub max_days: i64,
    /// Lowest level that is kept (-4 debug, 0 info, 4 warning, 8 error).
    #[serde(rename = "minLevel")]
    pub min_level: i64,
    /// Whether entries hold addresses.
    #[serde(rename = "logIP")]
    pub log_ip: bool,
    /// Whether entries hold who was signed in.
    #[serde(rename = "logAuthId")]
    pub log_auth_id: bool,
}

impl Values {
    /// The view of a complete document.
    pub(super) fn deserialize_from(document: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(document)
    }
}

/// PocketBase v0.40.4's settings of a fresh folder.
pub(super) fn default_document() -> Value {
    let s3 = json!({
        "enabled": false, "bucket": "", "region": "", "endpoint": "", "accessKey": "",
        "secret": "", "forcePathStyle": false,
    });
    let rule = |label: &str, duration: i64, max_requests: i64| {
        json!({
            "label": label, "audience": "", "duration": duration, "maxRequests": max_requests,
        })
    };
    json!({
        "superuserIPs": [],
        "smtp": {
            "enabled": false, "port": 587, "host": "smtp.example.com", "username": "",
            "password": "", "authMethod": "", "tls": false, "localName": "",
        },
        "backups": { "cron": "", "cronMaxKeep": 3, "s3": s3 },
        "s3": s3,
        "meta": {
            "accentColor": "#1055c9", "appName": "Acme", "appURL": "http://localhost:8090",
            "senderName": "Support", "senderAddress": "support@example.com",
            "hideControls": false,
        },
        "rateLimits": {
            "rules": [
                rule("*:auth", 3, 2),
                rule("*:create", 5, 20),
                rule("/api/batch", 1, 3),
                rule("/api/", 10, 300),
            ],
            "excludedIPs": [],
            "enabled": false,
        },
        "trustedProxy": { "headers": [], "useLeftmostIP": false },
        "batch": { "enabled": false, "maxRequests": 50, "timeout": 3, "maxBodySize": 0 },
        "logs": {
            "maxDataSize": 0, "maxDays": 5, "minLevel": 0, "logIP": true, "logAuthId": false,
        },
    })
}
