//! The vault: one source, one storage, and the flight that lets one job at a time work on them.

pub mod bridge;
pub mod flight;
pub mod jobs;
