//! Passwords and e-mail addresses: PocketBase's rules, and bcrypt off the async threads.

use std::sync::LazyLock;

use regex::Regex;
use tokio::sync::Semaphore;

use super::collection::Field;
use super::random;
use crate::error::{Context, Error, Result, Violation};

/// Fewest characters of a password unless the collection says otherwise.
pub const PASSWORD_CHARACTERS_MIN: u64 = 8;
/// Most characters of a password (PocketBase's rule).
pub const PASSWORD_CHARACTERS_MAX: u64 = 71;
/// Most bytes of a password: what bcrypt takes in.
pub const PASSWORD_BYTES_MAX: usize = 72;
/// Cost of password hashes unless the collection says otherwise.
pub(super) const COST: u32 = 10;
/// Cost of hashes of one-time passwords, which live for minutes.
pub(super) const OTP_COST: u32 = 8;
/// Hashes computed at once; each takes a core for about 60 ms.
const PARALLEL_MAX: usize = 4;

static PERMITS: Semaphore = Semaphore::const_new(PARALLEL_MAX);

/// Salt and hash, made up: no password is known for it, and none is accepted.
const NOBODY: &str = "Zb3kq0mV7yTnE1xLr9sWuOhD4cR2pYw8fJ6aGtKzQvUiN5oXbM1sy";

/// A password that nobody can guess, for somebody who named none.
pub fn generate() -> String {
    random::password()
}

/// Whether `password` is the one of `hash`. Without a hash the answer is no, after the same
/// time: a hash of the same cost is checked nevertheless.
pub(super) async fn matches(password: &str, hash: Option<String>, cost: u32) -> Result<bool> {
    let known = hash.is_some();
    let hash = hash.unwrap_or_else(|| format!("$2a${:02}${NOBODY}", effective_cost(cost)));
    let password = password.to_owned();
    // A damaged hash matches nothing, as in PocketBase.
    blocking(move || Ok(bcrypt::verify(password, &hash).unwrap_or(false)))
        .await
        .map(|ok| ok && known)
}

/// The `$2a$` hash of a password of at most [`PASSWORD_BYTES_MAX`] bytes.
pub(super) async fn hash(password: &str, cost: u32) -> Result<String> {
    let password = password.to_owned();
    let parts = blocking(move || {
        bcrypt::non_truncating_hash_with_result(password, effective_cost(cost))
            .context("cannot hash a password")
    })
    .await?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

/// Checks a new password against its field's rules.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] under `password`, with PocketBase's codes.
pub(super) fn check(password: &str, field: Option<&Field>) -> Result<()> {
    let bound = |number: Option<&serde_json::Number>| {
        number.and_then(serde_json::Number::as_u64).filter(|bound| *bound > 0)
    };
    let min = bound(field.and_then(|field| field.min.as_ref()));
    let max = bound(field.and_then(|field| field.max.as_ref()));
    let (min, max) =
        (min.unwrap_or(PASSWORD_CHARACTERS_MIN), max.unwrap_or(PASSWORD_CHARACTERS_MAX));
    let refuse = |code: &'static str, message: String| {
        Err(Error::invalid(Violation::new("password", code, message)))
    };
    let characters = u64::try_from(password.chars().count()).unwrap_or(u64::MAX);
    if password.is_empty() {
        return refuse("validation_required", "Cannot be blank.".to_owned());
    }
    if characters < min {
        let message = format!("Must be at least {min} character(s).");
        return refuse("validation_min_text_constraint", message);
    }
    if characters > max {
        let message = format!("Must be less than {max} character(s).");
        return refuse("validation_max_text_constraint", message);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        let message = format!("Must be at most {PASSWORD_BYTES_MAX} bytes.");
        return refuse("validation_max_text_constraint", message);
    }
    match field.map(|field| field.pattern.as_str()).filter(|pattern| !pattern.is_empty()) {
        Some(pattern) if !Regex::new(pattern).is_ok_and(|regex| regex.is_match(password)) => {
            refuse("validation_invalid_format", "Invalid value format.".to_owned())
        }
        _ => Ok(()),
    }
}

/// Checks a new e-mail address.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] under `email`, with PocketBase's codes.
pub(super) fn check_email(email: &str, field: Option<&Field>) -> Result<()> {
    if !is_email(email) {
        return Err(Error::invalid(Violation::new(
            "email",
            "validation_is_email",
            "Must be a valid email address.",
        )));
    }
    let domain = email.rsplit('@').next().unwrap_or_default().to_owned();
    let refused = field.is_some_and(|field| {
        (!field.only_domains.is_empty() && !field.only_domains.contains(&domain))
            || field.except_domains.contains(&domain)
    });
    if refused {
        return Err(Error::invalid(Violation::new(
            "email",
            "validation_email_domain_not_allowed",
            "Email domain is not allowed.",
        )));
    }
    Ok(())
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    // Atoms with dots, or a quoted text; then labels, of which the last holds no digit at its
    // ends. Characters above U+009F count as letters.
    let word = r"[a-z0-9!#$%&'*+/=?^_`{|}~\x{A0}-\x{D7FF}\x{F900}-\x{FFEF}-]+";
    let letter = r"a-z\x{A0}-\x{D7FF}\x{F900}-\x{FFEF}";
    let quoted = r#""(?:[\x20!\x23-\x5B\x5D-\x7E\x{A0}-\x{FFEF}]|\\[\x20-\x7E])*""#;
    let label = format!(r"(?:[{letter}0-9](?:[{letter}0-9._~-]*[{letter}0-9])?\.)+");
    let last = format!(r"[{letter}](?:[{letter}0-9_~-]*[{letter}])?");
    let pattern = format!(r"(?i)^(?:{word}(?:\.{word})*|{quoted})@{label}{last}\.?$");
    #[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
    Regex::new(&pattern).expect("a valid pattern")
});

/// Whether a text has the form of an e-mail address.
pub(super) fn is_email(text: &str) -> bool {
    text.len() <= 255 && EMAIL.is_match(text)
}

fn effective_cost(cost: u32) -> u32 {
    if (4..=31).contains(&cost) { cost } else { COST }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let permit = PERMITS.acquire().await.context("passwords are not checked any more")?;
    let result = tokio::task::spawn_blocking(work).await.context("a password check died")?;
    drop(permit);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_are_pocketbase_s_and_match_only_their_password() {
        let hashed = hash("correct horse", 4).await.expect("hashed");
        assert!(hashed.starts_with("$2a$04$") && hashed.len() == 60, "{hashed}");
        for (password, expected) in [("correct horse", true), ("Correct horse", false), ("", false)]
        {
            let matched = matches(password, Some(hashed.clone()), 4).await.expect("checked");
            assert_eq!(matched, expected, "{password}");
        }
        for hash in [None, Some(String::new()), Some("plain".to_owned())] {
            assert!(!matches("plain", hash, 4).await.expect("checked"));
        }
        let wide = hash_of_go().to_owned();
        assert!(matches("1234567890", Some(wide), 10).await.expect("checked"));
    }

    /// Made by PocketBase v0.39.11 (`superuser upsert a@example.com 1234567890`).
    fn hash_of_go() -> &'static str {
        "$2a$10$1uQnFdgqaEw5TjIKHRNkzu6H9lWyCdry2ppgYL4tI225gRCG7ZNFO"
    }

    #[tokio::test]
    async fn an_unknown_hash_takes_as_long_as_a_known_one() {
        let known = hash("correct horse", COST).await.expect("hashed");
        let time = async |hash: Option<String>| {
            let start = std::time::Instant::now();
            matches("wrong", hash, COST).await.expect("checked");
            start.elapsed().as_secs_f64()
        };
        let (known, unknown) = (time(Some(known)).await, time(None).await);
        // Without the dummy it would be a thousand times shorter.
        assert!(unknown > known / 10.0, "{unknown} against {known}");
    }

    #[test]
    fn password_rules_are_pocketbase_s() {
        let field = |json: &str| serde_json::from_str::<Field>(json).expect("a field");
        let default = field(r#"{"min":8,"max":0}"#);
        let strict = field(r#"{"min":12,"max":14,"pattern":"^[a-z]+$"}"#);
        let (min, max) = ("validation_min_text_constraint", "validation_max_text_constraint");
        for (password, field, code) in [
            ("12345678".to_owned(), &default, None),
            ("é".repeat(36), &default, None),
            ("x".repeat(71), &default, None),
            (String::new(), &default, Some("validation_required")),
            ("1234567".to_owned(), &default, Some(min)),
            ("é".repeat(7), &default, Some(min)),
            ("x".repeat(72), &default, Some(max)),
            ("é".repeat(37), &default, Some(max)),
            ("abcdefghijkl".to_owned(), &strict, None),
            ("abcdefghijk".to_owned(), &strict, Some(min)),
            ("abcdefghijklmno".to_owned(), &strict, Some(max)),
            ("abcdefghijk1".to_owned(), &strict, Some("validation_invalid_format")),
        ] {
            let found = check(&password, Some(field)).err();
            let found = found.map(|error| match error.kind() {
                crate::error::Kind::Invalid(violations) => violations[0].code.to_string(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), code, "{password}");
        }
    }

    #[test]
    fn addresses_are_recognised() {
        for (text, valid) in [
            ("test@example.com", true),
            ("Test+x.y_z@Sub.Example.co.uk", true),
            ("__pbinstaller@example.com", true),
            ("é@exämple.de", true),
            ("\"a b\"@example.com", true),
            ("test@localhost", false),
            ("test@example.c0", false),
            ("test@127.0.0.1", false),
            ("test@@example.com", false),
            ("te st@example.com", false),
            (".a@example.com", false),
            ("a..b@example.com", false),
            ("a@-x.com", false),
            ("test@example.com\n", false),
            ("admin", false),
            ("", false),
        ] {
            assert_eq!(is_email(text), valid, "{text}");
        }
        assert!(!is_email(&format!("{}@example.com", "x".repeat(250))));
    }
}
