//! SQLite's result codes as our errors: which kind they are, and what an operator can do.

use std::ffi::c_int;
use std::fmt;

use libsqlite3_sys as ffi;

use crate::error::{Error, Kind};

/// What SQLite said.
#[derive(Debug)]
pub(super) struct SqliteFault {
    /// Its extended result code.
    code: c_int,
    text: String,
}

impl SqliteFault {
    /// A fault with SQLite's own message.
    pub(super) fn new(code: c_int, text: String) -> Self {
        Self { code, text }
    }

    /// A fault of which only the code is known.
    pub(super) fn of_code(code: c_int) -> Self {
        Self { code, text: ffi::code_to_str(code).to_owned() }
    }
}

impl fmt::Display for SqliteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLite code {})", self.text, self.code)
    }
}

impl std::error::Error for SqliteFault {}

/// Our error for one of SQLite's.
pub(super) fn fault(message: String, cause: SqliteFault) -> Error {
    let (kind, hint) = match cause.code & 0xff {
        ffi::SQLITE_NOTADB => {
            (Kind::Corrupt, Some("the file is not an SQLite database, or it is encrypted"))
        }
        ffi::SQLITE_CORRUPT => (Kind::Corrupt, Some("run `PRAGMA integrity_check` on it")),
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL => {
            (Kind::Unavailable, Some("another process keeps the database locked"))
        }
        ffi::SQLITE_READONLY => (
            Kind::Unavailable,
            Some("the database needs a recovery that only a writer can do; start its application"),
        ),
        ffi::SQLITE_CANTOPEN => (
            Kind::Unavailable,
            Some("the folder must be readable, and writable unless the application runs"),
        ),
        ffi::SQLITE_FULL => (Kind::NoSpace, None),
        _ => (Kind::Internal, None),
    };
    let error = Error::new(kind, message).because(cause);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds_also_in_their_extended_form() {
        for (code, kind) in [
            (ffi::SQLITE_NOTADB, Kind::Corrupt),
            (ffi::SQLITE_CORRUPT_VTAB, Kind::Corrupt),
            (ffi::SQLITE_BUSY_RECOVERY, Kind::Unavailable),
            (ffi::SQLITE_READONLY_RECOVERY, Kind::Unavailable),
            (ffi::SQLITE_CANTOPEN, Kind::Unavailable),
            (ffi::SQLITE_FULL, Kind::NoSpace),
            (ffi::SQLITE_IOERR_READ, Kind::Internal),
        ] {
            assert_eq!(fault(String::new(), SqliteFault::of_code(code)).kind(), &kind, "{code}");
        }
    }
}
