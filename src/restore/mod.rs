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
mod recover;
mod restart;
mod stage;
mod swap;

#[cfg(test)]
mod tests;

pub use check::Report;
pub use journal::{Operation, Phase};
pub use keep::{Status, Undo, prove, prune_old, status, undo};
pub use recover::{ATTEMPTS_MAX, Recovery, Subject, cancel, recover, require_settled, roll_back};
pub use restart::{Restart, inherited_listener};
pub use stage::{StageOptions, Staged, stage, stage_with};
