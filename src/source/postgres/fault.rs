//! What PostgreSQL and its programs complain about, in our words: which kind it is, and what
//! may be told. Everything else that they said is the cause.

use crate::error::{Error, Kind};

/// Signs in the text of a program or a server, the kind that they mean, and what is told.
const SIGNS: [(&str, Kind, &str); 12] = [
    ("No space left on device", Kind::NoSpace, "The database server's disk is full."),
    ("could not extend file", Kind::NoSpace, "The database server's disk is full."),
    ("password authentication failed", Kind::Unavailable, REFUSED),
    ("no password supplied", Kind::Unavailable, REFUSED),
    ("no pg_hba.conf entry", Kind::Unavailable, REFUSED),
    ("authentication failed", Kind::Unavailable, REFUSED),
    ("lock timeout", Kind::Unavailable, LOCKED),
    ("canceling statement due to statement timeout", Kind::Unavailable, LOCKED),
    ("permission denied", Kind::Unavailable, "The role may not do that in the database."),
    ("terminating connection", Kind::Unavailable, CUT),
    ("server closed the connection", Kind::Unavailable, CUT),
    ("could not connect", Kind::Unavailable, SILENT),
];

const REFUSED: &str = "The database server refuses the credentials.";
const LOCKED: &str = "A lock in the database was not given in time.";
const CUT: &str = "The database server ended the connection.";
const SILENT: &str = "The database server does not answer.";

/// What a failed question to a server means.
pub(super) fn of_server(error: sqlx::Error) -> Error {
    let (kind, said) = match &error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            match code.as_ref() {
                "28P01" | "28000" => (Kind::Unavailable, REFUSED),
                "3D000" => (Kind::Unavailable, "There is no such database on the server."),
                "42501" => (Kind::Denied, "The role may not do that in the database."),
                "53100" => (Kind::NoSpace, "The database server's disk is full."),
                "53300" => (Kind::Unavailable, "The database server has no free connection."),
                "55000" => (Kind::Unavailable, "The database does not take connections now."),
                "55006" => (Kind::InUse, "Somebody else is connected to the database."),
                "57P01" | "57P02" => (Kind::Unavailable, CUT),
                "57P03" => (Kind::Unavailable, "The database server is starting or stopping."),
                "42P04" => (Kind::Exists, "A database of that name exists already."),
                _ => (Kind::Internal, "The database server refused a statement."),
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => (Kind::Unavailable, SILENT),
        sqlx::Error::Tls(_) => (Kind::Unavailable, "The database server's TLS is not usable."),
        _ => (Kind::Internal, "A question to the database server failed."),
    };
    Error::new(kind, said).because(error)
}

/// What a program that ended with a failure means, by what it said last; `otherwise` when that
/// says nothing to us.
pub(super) fn of_program(said: &str, otherwise: Kind, message: String) -> Error {
    let sign = SIGNS.iter().find(|(sign, _, _)| said.contains(sign));
    let error = match sign {
        Some((_, kind, words)) => Error::new(kind.clone(), *words),
        // libpq words every failed connection like this, whatever the reason.
        None if said.contains("connection to server") => Error::new(Kind::Unavailable, SILENT),
        None => Error::new(otherwise, message),
    };
    error.because(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_understood() {
        let down = "pg_dump: error: connection to server at \"127.0.0.1\", port 1 failed: \
            Connection refused";
        let wrong = "pg_dump: error: connection to server at \"h\" failed: FATAL:  password \
            authentication failed for user \"u\"";
        for (said, kind, words) in [
            (down, Kind::Unavailable, SILENT),
            (wrong, Kind::Unavailable, REFUSED),
            ("ERROR: could not extend file \"base/1\": No space", Kind::NoSpace, "full"),
            ("pg_restore: error: whatever", Kind::Corrupt, "ended"),
        ] {
            let error = of_program(said, Kind::Corrupt, "it ended".to_owned());
            assert_eq!(error.kind(), &kind, "{said}");
            assert!(error.message().contains(words), "{said}: {}", error.message());
        }
    }
}
