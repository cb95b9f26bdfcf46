//! Restores: stage beside the live data, swap at boot, prove or roll back, undo.
//!
//! The order of a restore: [`stage()`] → `Staged::commit` → the caller stops the application
//! and replaces the process ([`Restart`]) → [`recover`] at boot, before any database is opened →
//! [`prove`] or [`roll_back`]. The crash path is the normal path. `docs/restore.md` has the table
//! of phases and kill points. Nothing here knows faces, jobs or storages.

mod check;
mod disk;
mod integrity;
mod journal;
mod keep;
mod places;
mod plan;
pub mod postgres;
mod recover;
mod rehearse;
mod restart;
mod scope;
mod stage;
mod swap;
mod sweep;

#[cfg(test)]
mod tests;

pub use check::Report;
pub use journal::{Operation, Phase};
pub use keep::{Status, Undo, has_old, prove, prune_old, status, undo};
pub use plan::{Contents, Loss, Migrations, Part, Plan, PlanOptions, RowLoss, Sort, plan};
pub use recover::{
    ATTEMPTS_MAX, Recovery, Subject, cancel, forget_attempt, recover, require_settled, roll_back,
};
pub use rehearse::{Rehearsal, rehearse};
pub use restart::{Restart, inherited_listener};
pub use scope::Scope;
pub use stage::{StageOptions, Staged, stage, stage_with};
pub use sweep::{empty_trash, empty_trash_later};
