//! The one error of the whole program.
//!
//! Modules choose the [`Kind`] (what a client may be told) and say what failed; faces choose
//! status and body. The cause is for the log only, the hint for the operator only.

use std::borrow::Cow;
use std::fmt;

/// Shorthand for results with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, as far as a face may show it.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Another job holds the flight.
    Busy,
    /// The job was cancelled on request.
    Cancelled,
    /// Stored or received data is damaged or is not what it claims to be.
    Corrupt,
    /// Known caller, not allowed.
    Denied,
    /// The name is taken.
    Exists,
    /// Everything that is our own fault or an unexpected fault of the machine.
    Internal,
    /// The backup is being written or restored right now.
    InUse,
    /// Input that breaks rules, one violation or more.
    Invalid(Vec<Violation>),
    /// Nothing by that name.
    NotFound,
    /// Not enough room on a disk or in a quota.
    NoSpace,
    /// Too often; ask again after a while.
    Throttled,
    /// No valid credentials.
    Unauthenticated,
    /// Something we depend on does not answer.
    Unavailable,
}

/// One broken rule of one input field.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Dotted path of the field, e.g. `backups.s3.endpoint`.
    pub field: String,
    /// Machine code, e.g. `validation_required`.
    pub code: Cow<'static, str>,
    /// Human message, upper case first letter and a final dot.
    pub message: Cow<'static, str>,
    /// Parameters of the rule, sorted by name; empty when there are none.
    pub params: Vec<(&'static str, serde_json::Value)>,
}

impl Violation {
    /// A violation without parameters.
    pub fn new(
        field: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), code: code.into(), message: message.into(), params: Vec::new() }
    }

    /// Adds one parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.params.push((name, value.into()));
        self.params.sort_by_key(|(name, _)| *name);
        self
    }
}

/// An error: kind, message, and optionally a hint for the operator and a cause for the log.
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    cause: Option<Cause>,
}

impl Error {
    /// A new error of `kind`; `message` names what failed and with which key.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), hint: None, cause: None }
    }

    /// An [`Kind::Internal`] error.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An [`Kind::Invalid`] error of one violation.
    pub fn invalid(violation: Violation) -> Self {
        Self::new(
            Kind::Invalid(vec![violation]),
            "An error occurred while validating the submitted data.",
        )
    }

    /// Attaches what an operator can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Attaches the cause, for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The message without the cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The operator's hint, if there is one.
    pub fn operator_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Message, causes and hint in one line, for logs and the command line.
    pub fn full(&self) -> String {
        let mut text = chain(self);
        if let Some(hint) = &self.hint {
            text.push_str(" (hint: ");
            text.push_str(hint);
            text.push(')');
        }
        text
    }
}

/// What an error says, and its causes after it; those of HTTP say nothing without them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.full())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Adds a message (and through it our [`Error`]) to foreign results.
pub trait Context<T> {
    /// Turns the foreign error into an internal one; full disks become [`Kind::NoSpace`].
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T>;

    /// Like [`Context::context`], with a message made only on failure.
    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E> Context<T> for Result<T, E>
where
    E: Into<Cause>,
{
    fn context(self, message: impl Into<Cow<'static, str>>) -> Result<T> {
        self.with_context(|| message)
    }

    fn with_context<M: Into<Cow<'static, str>>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| {
            let cause: Cause = error.into();
            let hint = own(&cause).and_then(|inner| inner.hint.clone());
            let kind = kind_of(&cause);
            Error { kind, message: message().into(), hint, cause: Some(cause) }
        })
    }
}

/// Our own error as a cause, also when it travelled as an I/O error.
fn own(cause: &Cause) -> Option<&Error> {
    let of_io = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref();
    cause.downcast_ref().or_else(of_io)
}

/// Disk-full and "our own error, wrapped" keep their kind; everything else is internal.
fn kind_of(cause: &Cause) -> Kind {
    if let Some(own) = own(cause) {
        return own.kind.clone();
    }
    match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => Kind::NoSpace,
        _ => Kind::Internal,
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_message_cause_and_hint() {
        let error = Error::internal("cannot open x")
            .because(std::io::Error::other("device gone"))
            .hint("check the cable");
        assert_eq!(error.full(), "cannot open x: device gone (hint: check the cable)");
        assert_eq!(error.to_string(), "cannot open x");
    }

    #[test]
    fn a_full_disk_keeps_its_kind_through_context() {
        let io: std::io::Result<()> = Err(std::io::ErrorKind::StorageFull.into());
        let error = io.context("writing a.zip").expect_err("an error");
        assert_eq!(error.kind(), &Kind::NoSpace);
    }

    #[test]
    fn our_own_error_keeps_its_kind_through_an_io_error() {
        let io: std::io::Error = Error::new(Kind::Cancelled, "stop").hint("go on later").into();
        let error = Err::<(), _>(io).context("copying").expect_err("an error");
        assert_eq!(error.kind(), &Kind::Cancelled);
        assert_eq!(error.operator_hint(), Some("go on later"));
    }
}
