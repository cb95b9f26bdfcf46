//! The routes of our own API, below `/api/vault`.

use actix_web::http::Method;

use crate::http::routes::databases::DatabaseRoute;

/// What a request below `/api/vault` is about. Path parameters are raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultRoute {
    /// Anything below `/api/vault/databases`.
    Database(DatabaseRoute),
    /// `GET /api/vault/events`
    Events,
    /// `DELETE /api/vault/jobs/{id}`
    JobCancel(Vec<u8>),
    /// `GET /api/vault/jobs`
    JobList,
    /// `GET /api/vault/jobs/{id}`
    JobGet(Vec<u8>),
    /// `GET /api/vault/metrics`, and `/metrics` where no program is behind us
    Metrics,
    /// `GET /api/vault/notify`
    NotifyList,
    /// `POST /api/vault/notify/test`
    NotifyTest,
    /// `GET /api/vault/program`
    Program,
    /// `GET /api/vault/restore`
    RestoreStatus,
    /// `POST /api/vault/restore/undo`
    RestoreUndo,
    /// `GET /api/vault/backups`
    BackupList,
    /// `POST /api/vault/backups`
    BackupCreate,
    /// `POST /api/vault/backups/{key}/verify`
    BackupVerify(Vec<u8>),
    /// `POST /api/vault/backups/{key}/drill`
    BackupDrill(Vec<u8>),
    /// `POST /api/vault/backups/{key}/pin`
    BackupPin(Vec<u8>),
    /// `DELETE /api/vault/backups/{key}/pin`
    BackupUnpin(Vec<u8>),
    /// `GET /api/vault/schedules`
    Schedules,
    /// `POST /api/vault/schedules/{name}/run`
    ScheduleRun(Vec<u8>),
    /// `GET /api/vault/tokens`
    Tokens,
    /// `POST /api/vault/tokens`
    TokenCreate,
    /// `DELETE /api/vault/tokens/{id}`
    TokenRevoke(Vec<u8>),
    /// `GET /api/vault/audit`
    Audit,
    /// `GET /api/vault/status`
    Status,
    /// `GET /api/vault/prune`
    PruneGet,
    /// `POST /api/vault/prune`
    Prune,
    /// `POST /api/vault/backups/{key}/plan`
    BackupPlan(Vec<u8>),
    /// `POST /api/vault/backups/{key}/restore`
    BackupRestore(Vec<u8>),
}

impl VaultRoute {
    /// Finds the route by its method (HEAD counts as GET) and the segments after `/api/vault`.
    pub fn find(method: &Method, segments: &[&[u8]]) -> Option<Self> {
        if let [b"databases", rest @ ..] = segments {
            return DatabaseRoute::find(method, rest).map(Self::Database);
        }
        match *method {
            Method::GET | Method::HEAD => Self::find_get(segments),
            Method::DELETE => match *segments {
                [b"jobs", id] if !id.is_empty() => Some(Self::JobCancel(id.to_vec())),
                [b"tokens", id] if !id.is_empty() => Some(Self::TokenRevoke(id.to_vec())),
                [b"backups", key, b"pin"] if !key.is_empty() => {
                    Some(Self::BackupUnpin(key.to_vec()))
                }
                _ => None,
            },
            Method::POST => Self::find_post(segments),
            _ => None,
        }
    }

    fn find_get(segments: &[&[u8]]) -> Option<Self> {
        Some(match *segments {
            [b"backups"] => Self::BackupList,
            [b"prune"] => Self::PruneGet,
            [b"schedules"] => Self::Schedules,
            [b"status"] => Self::Status,
            [b"tokens"] => Self::Tokens,
            [b"audit"] => Self::Audit,
            [b"events"] => Self::Events,
            [b"jobs"] => Self::JobList,
            [b"jobs", id] if !id.is_empty() => Self::JobGet(id.to_vec()),
            [b"metrics"] => Self::Metrics,
            [b"notify"] => Self::NotifyList,
            [b"program"] => Self::Program,
            [b"restore"] => Self::RestoreStatus,
            _ => return None,
        })
    }

    fn find_post(segments: &[&[u8]]) -> Option<Self> {
        Some(match *segments {
            [b"notify", b"test"] => Self::NotifyTest,
            [b"restore", b"undo"] => Self::RestoreUndo,
            [b"backups"] => Self::BackupCreate,
            [b"prune"] => Self::Prune,
            [b"tokens"] => Self::TokenCreate,
            [b"schedules", name, b"run"] if !name.is_empty() => Self::ScheduleRun(name.to_vec()),
            [b"backups", key, b"verify"] if !key.is_empty() => Self::BackupVerify(key.to_vec()),
            [b"backups", key, b"drill"] if !key.is_empty() => Self::BackupDrill(key.to_vec()),
            [b"backups", key, b"pin"] if !key.is_empty() => Self::BackupPin(key.to_vec()),
            [b"backups", key, b"plan"] if !key.is_empty() => Self::BackupPlan(key.to_vec()),
            [b"backups", key, b"restore"] if !key.is_empty() => Self::BackupRestore(key.to_vec()),
            _ => return None,
        })
    }
}
