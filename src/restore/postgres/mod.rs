//! Restores of a PostgreSQL database: a fresh database is made and loaded beside the live one,
//! checked, and takes its name in one transaction; the old one is kept for an undo.
//!
//! [`plan()`] looks and changes nothing. [`restore`] carries a plan out. [`recover`] ends what a
//! crash left, before anything else is begun. At any moment the live name belongs to the old
//! or to the new database, whole. `docs/postgresql.md` has the table of phases.
//!
//! Where the role may not make databases, the dump is loaded over the live one's objects in
//! one transaction: also all or nothing, but objects newer than the backup stay.

mod facts;
mod journal;
mod plan;
mod recover;
mod run;
mod swap;

pub use journal::Kept;
pub use plan::{Archive, Plan, Way, Wish, plan};
pub use recover::{Recovered, is_settled, kept, recover};
pub use run::{Ground, restore, undo};
