//! Which values the settings may have: PocketBase v0.40.4's rules with its codes and messages.

use crate::cron::Schedule;
use crate::error::Violation;

use super::addresses::Network;
use super::formats;
use super::values::{Backups, Batch, Logs, Meta, RateLimits, Rule, S3, Smtp, Values};

/// The largest integer that JSON's readers keep exactly.
const JSON_INTEGER_MAX: i64 = (1 << 53) - 1;
/// Longest application and sender name, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// `#` and six digits.
const COLOUR_BYTES: usize = 7;
/// Whom a rate limit may be for.
const AUDIENCES: [&str; 3] = ["", "@guest", "@auth"];

/// All violations, each under its dotted path. Of one field the first only.
pub(super) fn violations(values: &Values) -> Vec<Violation> {
    let mut found = Found(Vec::new());
    found.addresses("superuserIPs", &values.superuser_ips);
    meta(&mut found, &values.meta);
    logs(&mut found, &values.logs);
    smtp(&mut found, &values.smtp);
    s3(&mut found, "s3", &values.s3);
    backups(&mut found, &values.backups);
    batch(&mut found, &values.batch);
    rate_limits(&mut found, &values.rate_limits);
    found.0
}

fn meta(found: &mut Found, meta: &Meta) {
    let colour = &meta.accent_color;
    if !colour.is_empty() && colour.len() != COLOUR_BYTES {
        found.push(
            Violation::new(
                "meta.accentColor",
                "validation_length_invalid",
                format!("The length must be exactly {COLOUR_BYTES}."),
            )
            .with("min", COLOUR_BYTES)
            .with("max", COLOUR_BYTES),
        );
    } else if !colour.is_empty() && !formats::is_colour(colour) {
        found.simple(
            "meta.accentColor",
            "validation_is_hex_color",
            "Must be a valid hexadecimal color code.",
        );
    }
    for (path, name) in [("meta.appName", &meta.app_name), ("meta.senderName", &meta.sender_name)] {
        if name.is_empty() {
            found.blank(path);
        } else if name.len() > NAME_BYTES_MAX {
            found.push(
                Violation::new(
                    path,
                    "validation_length_out_of_range",
                    format!("The length must be between 1 and {NAME_BYTES_MAX}."),
                )
                .with("min", 1)
                .with("max", NAME_BYTES_MAX),
            );
        }
    }
    found.url("meta.appURL", &meta.app_url, true);
    if meta.sender_address.is_empty() {
        found.blank("meta.senderAddress");
    } else if !formats::is_email(&meta.sender_address) {
        found.simple("meta.senderAddress", "validation_is_email", "Must be a valid email address.");
    }
}

fn logs(found: &mut Found, logs: &Logs) {
    for (path, value, min) in [
        ("logs.maxDataSize", logs.max_data_size, 0),
        ("logs.maxDays", logs.max_days, 0),
        ("logs.minLevel", logs.min_level, i64::MIN),
    ] {
        if value > JSON_INTEGER_MAX {
            found.push(
                Violation::new(
                    path,
                    "validation_max_less_equal_than_required",
                    format!("Must be no greater than {JSON_INTEGER_MAX}."),
                )
                .with("threshold", JSON_INTEGER_MAX),
            );
        } else {
            found.at_least(path, value, min);
        }
    }
}

fn smtp(found: &mut Found, smtp: &Smtp) {
    if smtp.enabled && smtp.host.is_empty() {
        found.blank("smtp.host");
    } else {
        found.host("smtp.host", &smtp.host);
    }
    found.number("smtp.port", smtp.port, smtp.enabled, 0);
    if !matches!(smtp.auth_method.as_str(), "" | "PLAIN" | "LOGIN") {
        found.not_in_list("smtp.authMethod".to_owned());
    }
    found.host("smtp.localName", &smtp.local_name);
}

fn s3(found: &mut Found, section: &str, s3: &S3) {
    found.url(&format!("{section}.endpoint"), &s3.endpoint, s3.enabled);
    for (name, value) in [
        ("bucket", s3.bucket.as_str()),
        ("region", &s3.region),
        ("accessKey", &s3.access_key),
        ("secret", s3.secret.expose()),
    ] {
        if s3.enabled && value.is_empty() {
            found.blank(&format!("{section}.{name}"));
        }
    }
}

fn backups(found: &mut Found, backups: &Backups) {
    s3(found, "backups.s3", &backups.s3);
    if !backups.cron.is_empty()
        && let Err(error) = Schedule::parse(&backups.cron)
    {
        let message = sentence(&error.to_string());
        found.push(Violation::new("backups.cron", "validation_invalid_cron", message));
    }
    found.number("backups.cronMaxKeep", backups.cron_max_keep, !backups.cron.is_empty(), 1);
}

fn batch(found: &mut Found, batch: &Batch) {
    found.number("batch.maxRequests", batch.max_requests, batch.enabled, 0);
    found.number("batch.timeout", batch.timeout, batch.enabled, 0);
    found.number("batch.maxBodySize", batch.max_body_size, false, 0);
}

fn rate_limits(found: &mut Found, limits: &RateLimits) {
    let before = found.0.len();
    if limits.enabled && limits.rules.is_empty() {
        found.blank("rateLimits.rules");
    }
    for (i, limit) in limits.rules.iter().enumerate() {
        rule(found, &format!("rateLimits.rules.{i}"), limit);
    }
    // Conflicts are looked for only among rules that are sound by themselves.
    if found.0.len() == before
        && let Some((i, label)) = first_conflict(&limits.rules)
    {
        found.push(
            Violation::new(
                format!("rateLimits.rules.{i}.label"),
                "validation_conflicting_rate_limit_rule",
                format!(
                    "Rate limit rule configuration with label {label} already exists or \
                     conflicts with another rule."
                ),
            )
            .with("label", label),
        );
    }
    found.addresses("rateLimits.excludedIPs", &limits.excluded_ips);
}

fn rule(found: &mut Found, path: &str, rule: &Rule) {
    let label = format!("{path}.label");
    if rule.label.is_empty() {
        found.blank(&label);
    } else if !formats::is_rate_limit_label(&rule.label) {
        found.simple(&label, "validation_match_invalid", "Must be in a valid format.");
    }
    found.number(&format!("{path}.maxRequests"), rule.max_requests, true, 1);
    found.number(&format!("{path}.duration"), rule.duration, true, 1);
    if !AUDIENCES.contains(&rule.audience.as_str()) {
        found.not_in_list(format!("{path}.audience"));
    }
}

/// The first rule for the same label whose audience meets an earlier one's: everybody meets
/// all.
fn first_conflict(rules: &[Rule]) -> Option<(usize, &str)> {
    let key = |rule: &Rule| format!("{}@@{}", rule.label, rule.audience);
    rules.iter().enumerate().find_map(|(i, rule)| {
        let own = key(rule);
        rules[..i]
            .iter()
            .map(key)
            .any(|other| other.starts_with(&own) || own.starts_with(&other))
            .then_some((i, rule.label.as_str()))
    })
}

/// A text with an upper-case first letter and a final dot, as PocketBase sends all messages.
fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let mut out: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    out.push_str(chars.as_str());
    if !out.ends_with(['.', '?', '!']) {
        out.push('.');
    }
    out
}

/// The violations so far.
struct Found(Vec<Violation>);

impl Found {
    fn push(&mut self, violation: Violation) {
        self.0.push(violation);
    }

    fn simple(&mut self, path: &str, code: &'static str, message: &'static str) {
        self.push(Violation::new(path, code, message));
    }

    fn blank(&mut self, path: &str) {
        self.simple(path, "validation_required", "Cannot be blank.");
    }

    fn not_in_list(&mut self, path: String) {
        self.simple(&path, "validation_in_invalid", "Must be a valid value.");
    }

    /// A number that may be 0 unless it is required, and otherwise has a lower limit.
    fn number(&mut self, path: &str, value: i64, required: bool, min: i64) {
        if value != 0 {
            self.at_least(path, value, min);
        } else if required {
            self.blank(path);
        }
    }

    fn at_least(&mut self, path: &str, value: i64, min: i64) {
        if value < min {
            self.push(
                Violation::new(
                    path,
                    "validation_min_greater_equal_than_required",
                    format!("Must be no less than {min}."),
                )
                .with("threshold", min),
            );
        }
    }

    fn url(&mut self, path: &str, value: &str, required: bool) {
        if !value.is_empty() {
            if !formats::is_url(value) {
                self.simple(path, "validation_is_url", "Must be a valid URL.");
            }
        } else if required {
            self.blank(path);
        }
    }

    fn host(&mut self, path: &str, value: &str) {
        if !value.is_empty() && !formats::is_host(value) {
            self.simple(path, "validation_is_host", "Must be a valid IP address or DNS name.");
        }
    }

    fn addresses(&mut self, path: &str, list: &[String]) {
        for (i, entry) in list.iter().enumerate() {
            let path = format!("{path}.{i}");
            if entry.is_empty() {
                self.blank(&path);
            } else if Network::parse(entry).is_none() {
                // The spelling of the code is PocketBase's.
                self.simple(&path, "validation_invlaid_ip_or_subnet", "Invalid IP or CIDR subnet.");
            }
        }
    }
}
