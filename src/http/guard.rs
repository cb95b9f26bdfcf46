//! Who may pass. A handler that needs a superuser takes a [`Superuser`], which only this
//! module can make: it cannot be forgotten.

use crate::auth::record::Identity;
use crate::error::{Error, Kind, Result};
use crate::http::call::Call;

/// Proof that the caller is a superuser, or has a token of our API that opens this.
#[derive(Debug, Clone)]
pub struct Superuser(Option<Identity>);

impl Superuser {
    /// Takes the caller of a request for a superuser.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`] without a valid token, [`Kind::Denied`] for others.
    pub fn of(call: &Call) -> Result<Self> {
        match &call.caller {
            _ if call.admitted => Ok(Self(None)),
            None => Err(Error::new(
                Kind::Unauthenticated,
                "The request requires valid record authorization token.",
            )),
            Some(identity) if identity.is_superuser() => Ok(Self(Some(identity.clone()))),
            Some(_) => Err(Error::new(
                Kind::Denied,
                "The authorized record is not allowed to perform this action.",
            )),
        }
    }

    /// The e-mail address; empty for a token.
    pub fn email(&self) -> &str {
        self.0.as_ref().map_or("", Identity::email)
    }
}
