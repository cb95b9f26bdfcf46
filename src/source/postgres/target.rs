//! Where a database is and how to log in: a URL taken apart, for libpq's programs through
//! their environment and for our own connections. The password is never in an argument, a log
//! or an error.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::error::{Error, Kind, Result};

/// What stands in place of a password.
const HIDDEN: &str = "***";
/// How long libpq's programs try to connect, in seconds.
const CONNECT_TIMEOUT_S: &str = "10";
/// How we call ourselves on the server.
const APPLICATION: &str = "pocketvault";

/// Parameters of a URL's query that libpq's programs are told by a variable.
const PARAMETERS: [(&str, &str); 9] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
];

/// A database and the way to it.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    database: String,
    /// The variables of [`PARAMETERS`] that are set.
    parameters: Vec<(&'static str, String)>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Target {
    /// Takes a URL apart: `postgres://user:password@host:port/database?sslmode=…`; a socket's
    /// folder is `?host=/folder`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with what is wrong, without the password.
    pub fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(&with_host(text)).map_err(|error| unusable(&error.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(unusable("it does not begin with postgres://"));
        }
        let mut target = Self {
            host: decoded(url.host_str().unwrap_or_default())?,
            port: url.port().unwrap_or(5432),
            user: decoded(url.username())?,
            password: url.password().map(decoded).transpose()?,
            database: decoded(url.path().trim_start_matches('/'))?,
            parameters: Vec::new(),
        };
        for (name, value) in url.query_pairs() {
            target.set(&name, value.into_owned())?;
        }
        if let Some(bare) = target.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            target.host = bare.to_owned();
        }
        if target.host.is_empty() {
            target.host = "localhost".to_owned();
        }
        for (value, what) in [(&target.user, "user"), (&target.database, "database")] {
            if value.is_empty() {
                return Err(unusable(&format!("it names no {what}")));
            }
        }
        let all = [&target.host, &target.user, &target.database];
        if all.iter().any(|text| text.contains('\0')) {
            return Err(unusable("it holds a zero byte"));
        }
        Ok(target)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "host" => self.host = value,
            "port" => {
                self.port = value.parse().map_err(|_| unusable("its port is no number"))?;
            }
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "dbname" => self.database = value,
            _ => {
                let known = PARAMETERS.iter().find(|(parameter, _)| *parameter == name);
                let Some((_, variable)) = known else {
                    return Err(unusable(&format!("the parameter {name:?} is not known here")));
                };
                if name == "sslmode" && PgSslMode::from_str(&value).is_err() {
                    return Err(unusable("its sslmode is unknown"));
                }
                self.parameters.push((variable, value));
            }
        }
        Ok(())
    }

    /// The database's name on its server.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `user@host:port/database`, for people.
    pub fn shown(&self) -> String {
        format!("{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }

    /// The argument that names `database` to a program of libpq's, quoted: a bare name with `=`
    /// in it would be read as a connection string.
    pub(super) fn argument(database: &str) -> String {
        let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
        format!("--dbname=dbname='{escaped}'")
    }

    /// The variables that tell a program of libpq's how to reach the server.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S.to_owned()),
            ("PGAPPNAME", APPLICATION.to_owned()),
        ];
        if let Some(password) = &self.password {
            variables.push(("PGPASSWORD", password.clone()));
        }
        variables.extend(self.parameters.iter().cloned());
        variables
    }

    /// How our own connections reach `database`.
    pub(super) fn options(&self, database: &str) -> PgConnectOptions {
        let mut options = PgConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .database(database)
            .application_name(APPLICATION);
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if self.host.starts_with('/') {
            options = options.socket(&self.host);
        }
        for (variable, value) in &self.parameters {
            options = match *variable {
                "PGSSLMODE" => options.ssl_mode(PgSslMode::from_str(value).unwrap_or_default()),
                "PGSSLROOTCERT" => options.ssl_root_cert(value),
                "PGSSLCERT" => options.ssl_client_cert(value),
                "PGSSLKEY" => options.ssl_client_key(value),
                _ => options,
            };
        }
        options
    }

    /// A text of a program or a server without the password.
    pub fn redact(&self, text: &str) -> String {
        match self.password.as_deref().filter(|password| !password.is_empty()) {
            Some(password) => text.replace(password, HIDDEN),
            None => text.to_owned(),
        }
    }
}

/// libpq lets the host out between `user@` and `/database`; RFC 3986 does not.
fn with_host(text: &str) -> String {
    let authority = text.find("://").map_or(0, |at| at + 3);
    let end = text[authority..].find(['/', '?']).map_or(text.len(), |at| authority + at);
    let host = if text[..end].ends_with('@') { "localhost" } else { "" };
    format!("{}{host}{}", &text[..end], &text[end..])
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| unusable("it is not UTF-8"))?.into_owned())
}

fn unusable(what: &str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the URL of the database is not usable: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &Target, variable: &str) -> Option<String> {
        let found = target.environment().into_iter().rev().find(|(name, _)| *name == variable);
        found.map(|(_, value)| value)
    }

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse(
            "postgresql://us%40er:p%3Aa%2Fss@db.example.com:6543/my%20db?sslmode=require",
        );
        let target = target.expect("usable");
        assert_eq!(target.shown(), "us@er@db.example.com:6543/my db");
        assert_eq!(of(&target, "PGPASSWORD").as_deref(), Some("p:a/ss"));
        assert_eq!(of(&target, "PGSSLMODE").as_deref(), Some("require"));
        let socket = Target::parse("postgres://u@/d?host=/run/pg&port=5433").expect("usable");
        assert_eq!(socket.shown(), "u@/run/pg:5433/d");
        assert_eq!(of(&socket, "PGPASSWORD"), None);
        assert_eq!(Target::parse("postgres://u@[::1]/d").expect("usable").shown(), "u@::1:5432/d");
        assert_eq!(Target::parse("postgres:///d?user=u").expect("usable").host, "localhost");
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_password() {
        for text in [
            "mysql://u:geheim@h/d",
            "postgres://u:geheim@h/",
            "postgres://:geheim@h/d",
            "postgres://u:geheim@h/d?sslmode=maybe",
            "postgres://u:geheim@h/d?what=ever",
            "postgres://u:geheim@h/d?port=x",
            "geheim",
        ] {
            let error = Target::parse(text).expect_err(text);
            assert!(!error.full().contains("geheim"), "{}", error.full());
        }
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(Target::argument("a=b c"), "--dbname=dbname='a=b c'");
        assert_eq!(Target::argument(r"it's\"), r"--dbname=dbname='it\'s\\'");
    }

    #[test]
    fn the_password_is_hidden_everywhere() {
        let target = Target::parse("postgres://u:geh%20eim@h/d").expect("usable");
        assert_eq!(format!("{target:?}"), "u@h:5432/d");
        assert_eq!(target.redact("password \"geh eim\" is wrong"), "password \"***\" is wrong");
    }
}
