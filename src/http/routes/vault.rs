//! The routes of our own API, below `/api/vault`.

use actix_web::http::Method;

/// What a request below `/api/vault` is about. Path parameters are raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultRoute {
    /// `GET /api/vault/events`
    Events,
    /// `DELETE /api/vault/jobs/{id}`
    JobCancel(Vec<u8>),
    /// `GET /api/vault/jobs`
    JobList,
    /// `GET /api/vault/jobs/{id}`
    JobGet(Vec<u8>),
}

impl VaultRoute {
    /// Finds the route by its method (HEAD counts as GET) and the segments after `/api/vault`.
    pub fn find(method: &Method, segments: &[&[u8]]) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Self::find_get(segments),
            Method::DELETE => match *segments {
                [b"jobs", id] if !id.is_empty() => Some(Self::JobCancel(id.to_vec())),
                _ => None,
            },
            _ => None,
        }
    }

    fn find_get(segments: &[&[u8]]) -> Option<Self> {
        Some(match *segments {
            [b"events"] => Self::Events,
            [b"jobs"] => Self::JobList,
            [b"jobs", id] if !id.is_empty() => Self::JobGet(id.to_vec()),
            _ => return None,
        })
    }
}
