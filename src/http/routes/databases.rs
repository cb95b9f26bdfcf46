//! The routes of databases, below `/api/vault/databases`.

use actix_web::http::Method;

/// What a request is about. Path parameters are raw bytes: first the database, then the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseRoute {
    /// `GET /api/vault/databases`
    All,
    /// `GET /api/vault/databases/{name}`
    One(Vec<u8>),
    /// `GET /api/vault/databases/{name}/backups`
    List(Vec<u8>),
    /// `POST /api/vault/databases/{name}/backups`
    Create(Vec<u8>),
    /// `POST /api/vault/databases/{name}/undo`
    Undo(Vec<u8>),
    /// `GET /api/vault/databases/{name}/backups/{key}`
    Download(Vec<u8>, Vec<u8>),
    /// `DELETE /api/vault/databases/{name}/backups/{key}`
    Delete(Vec<u8>, Vec<u8>),
    /// `POST /api/vault/databases/{name}/backups/{key}/plan`
    Plan(Vec<u8>, Vec<u8>),
    /// `POST /api/vault/databases/{name}/backups/{key}/restore`
    Restore(Vec<u8>, Vec<u8>),
}

impl DatabaseRoute {
    /// Finds the route by its method (HEAD counts as GET) and the segments after
    /// `/api/vault/databases`.
    pub fn find(method: &Method, segments: &[&[u8]]) -> Option<Self> {
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let get = matches!(*method, Method::GET | Method::HEAD);
        let (post, delete) = (*method == Method::POST, *method == Method::DELETE);
        Some(match *segments {
            [] if get => Self::All,
            [name] if get => Self::One(name.to_vec()),
            [name, b"backups"] if get => Self::List(name.to_vec()),
            [name, b"backups"] if post => Self::Create(name.to_vec()),
            [name, b"undo"] if post => Self::Undo(name.to_vec()),
            [name, b"backups", key] if get => Self::Download(name.to_vec(), key.to_vec()),
            [name, b"backups", key] if delete => Self::Delete(name.to_vec(), key.to_vec()),
            [name, b"backups", key, b"plan"] if post => Self::Plan(name.to_vec(), key.to_vec()),
            [name, b"backups", key, b"restore"] if post => {
                Self::Restore(name.to_vec(), key.to_vec())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_databases_are_found() {
        let (name, key) = (b"ledger".to_vec(), b"a.dump".to_vec());
        for (method, path, expected) in [
            (Method::GET, "", Some(DatabaseRoute::All)),
            (Method::HEAD, "ledger", Some(DatabaseRoute::One(name.clone()))),
            (Method::POST, "ledger/backups", Some(DatabaseRoute::Create(name.clone()))),
            (
                Method::DELETE,
                "ledger/backups/a.dump",
                Some(DatabaseRoute::Delete(name.clone(), key.clone())),
            ),
            (
                Method::POST,
                "ledger/backups/a.dump/restore",
                Some(DatabaseRoute::Restore(name.clone(), key.clone())),
            ),
            (Method::GET, "ledger/", None),
            (Method::PUT, "ledger/backups", None),
            (Method::POST, "ledger/backups/a.dump", None),
        ] {
            let segments: Vec<&[u8]> =
                path.split('/').map(str::as_bytes).skip(usize::from(path.is_empty())).collect();
            assert_eq!(DatabaseRoute::find(&method, &segments), expected, "{method} {path}");
        }
    }
}
