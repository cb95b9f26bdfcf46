//! One request on its way: its head, its body, who sent it and from where.

use std::sync::{Arc, OnceLock};

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;

use crate::auth::keys::header_token;
use crate::auth::record::Identity;
use crate::http::body::{self, BODY_BYTES_MAX, Body, BodyError};
use crate::http::services::Services;
use crate::settings::Settings;
use crate::settings::addresses::Address;
use crate::vault::tokens::Token;

/// A request, as handlers see it.
pub struct Call {
    /// Its head.
    pub request: HttpRequest,
    /// Its body, not yet read.
    pub payload: Payload,
    /// What the server is made of.
    pub services: Arc<Services>,
    /// The settings of this moment.
    pub settings: Arc<Settings>,
    /// Whose valid token its header carries, of whatever collection.
    pub caller: Option<Identity>,
    /// The valid token of our own API that its header carries.
    pub token: Option<Token>,
    /// Whether that token opens what is asked for.
    pub admitted: bool,
    /// Who the request says that it is from, for the audit log.
    pub said: OnceLock<String>,
    /// Where it comes from, proxies seen through.
    pub address: Address,
    /// The same as text.
    pub real_ip: String,
}

impl Call {
    /// Reads and understands the body; one that was not announced is not looked at.
    ///
    /// # Errors
    /// As [`body::read`] and [`body::parse`].
    pub async fn body(&mut self) -> Result<Body, BodyError> {
        let announced = body::Head::of(&self.request).announced;
        let bytes = match announced {
            true => body::read(&mut self.payload, BODY_BYTES_MAX).await?,
            false => bytes::Bytes::new(),
        };
        body::parse(&body::Head::of(&self.request), bytes).await
    }

    /// The token of the request's header, without its scheme.
    pub fn header_token(&self) -> Option<&str> {
        token_of(&self.request)
    }

    /// All values of a header in the order they came.
    pub fn values_of(&self, name: &str) -> Vec<&[u8]> {
        values_of(&self.request, name)
    }
}

/// The token of a request's header, without its scheme; the first header counts.
pub(super) fn token_of(request: &HttpRequest) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok().map(header_token)
}

/// All values of a request's header in the order they came.
pub(super) fn values_of<'r>(request: &'r HttpRequest, name: &str) -> Vec<&'r [u8]> {
    request.headers().get_all(name).map(|value| value.as_bytes()).collect()
}
