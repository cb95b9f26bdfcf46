//! How the program's own row carries the held part of the settings, so that an archive, which
//! holds the row and not our state folder, has all of it.
//!
//! The row trusts two headers. In the first we tell the program the client's address; its name
//! ends in a secret, so that nobody else can, not on the machine and not without us. The second
//! never exists; its name holds the held part.

use std::fmt::Write;

use super::TrustedProxy;
use super::held::Held;
use crate::error::{Context, Result};

/// How the name of the header begins in which the program is told the client's address.
const CLIENT: &str = "X-Pocketvault-Client-";
/// How the name begins that holds the held part; the secret follows, then JSON in hex.
const HELD: &str = "X-Pocketvault-Held-";

/// What a row means that was written by us for a program.
#[derive(Debug, PartialEq)]
pub(super) struct Carried {
    /// How the name of the program's header ends.
    pub(super) secret: String,
    /// What is held; `None` when that cannot be read.
    pub(super) held: Option<Held>,
}

/// A new secret.
pub(super) fn new_secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The header that the program trusts.
pub(super) fn client_header(secret: &str) -> String {
    format!("{CLIENT}{secret}")
}

/// What the program's row says instead of `held`: no schedule, and the two headers.
///
/// # Errors
/// It cannot be written as JSON.
pub(super) fn instead(held: &Held, secret: &str) -> Result<Held> {
    let json = serde_json::to_vec(held).context("cannot write the held settings")?;
    let mut name = format!("{HELD}{secret}-");
    for byte in json {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    let headers = vec![client_header(secret), name];
    let trusted_proxy = TrustedProxy { headers, use_leftmost_ip: false };
    Ok(Held { cron: String::new(), trusted_proxy })
}

/// What a row of ours for a program carries; `None` for any other row. A schedule that somebody
/// set in it counts.
pub(super) fn carried(row: &Held) -> Option<Carried> {
    let names = &row.trusted_proxy.headers;
    let secret = names.iter().find_map(|name| name.strip_prefix(CLIENT))?.to_owned();
    let coded = names.iter().find_map(|name| name.strip_prefix(HELD));
    let coded = coded.and_then(|rest| rest.strip_prefix(&secret)?.strip_prefix('-'));
    let mut held: Option<Held> = coded
        .and_then(|coded| {
            let digits = |at| u8::from_str_radix(coded.get(at..at + 2)?, 16).ok();
            (0..coded.len()).step_by(2).map(digits).collect::<Option<Vec<u8>>>()
        })
        .and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(held) = held.as_mut().filter(|_| !row.cron.is_empty()) {
        held.cron.clone_from(&row.cron);
    }
    Some(Carried { secret, held })
}

/// What a row means for who serves it without a program; `None` when it says so itself. No
/// address is believed then but the connection's, where what was held cannot be read.
pub(super) fn meant(row: &Held) -> Option<Held> {
    let Carried { held, .. } = carried(row)?;
    Some(held.unwrap_or_else(|| {
        tracing::error!("THE SCHEDULE AND THE TRUSTED PROXIES ARE LOST: set them again");
        Held { cron: row.cron.clone(), trusted_proxy: nobody() }
    }))
}

fn nobody() -> TrustedProxy {
    TrustedProxy { headers: Vec::new(), use_leftmost_ip: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        let headers = vec!["X-Real-IP".to_owned(), "é\"".to_owned()];
        let trusted_proxy = TrustedProxy { headers, use_leftmost_ip: true };
        Held { cron: "1 2 * * *".to_owned(), trusted_proxy }
    }

    #[test]
    fn a_row_carries_what_is_held_in_names_that_nobody_can_guess() {
        let (one, other) = (new_secret(), new_secret());
        assert!(one != other && one.len() == 32, "{one} {other}");
        let row = instead(&held(), &one).expect("made");
        assert_eq!(row.cron, "");
        assert!(row.trusted_proxy.headers.iter().all(|name| name.contains(&one)));
        for name in &row.trusted_proxy.headers {
            http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        }
        assert_eq!(carried(&row), Some(Carried { secret: one, held: Some(held()) }));
        assert_eq!(meant(&row), Some(held()));
        let scheduled = Held { cron: "@daily".to_owned(), ..row };
        assert_eq!(meant(&scheduled).expect("ours").cron, "@daily");
    }

    #[test]
    fn where_it_cannot_be_read_nobody_is_trusted() {
        let mut row = instead(&held(), "5").expect("made");
        for damaged in ["X-Pocketvault-Held-5-zz", "X-Pocketvault-Held-5-7b7", "X-Other"] {
            damaged.clone_into(&mut row.trusted_proxy.headers[1]);
            assert_eq!(carried(&row), Some(Carried { secret: "5".to_owned(), held: None }));
            assert_eq!(meant(&row).expect("ours").trusted_proxy, nobody());
        }
        assert_eq!(meant(&held()), None, "a row of its own means what it says");
    }
}
