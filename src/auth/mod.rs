//! Who may do what: PocketBase's records, passwords and tokens, straight from its databases.
//!
//! [`directory`] answers requests (with [`mfa`], [`otp`] and [`origins`] for the steps of a
//! login), [`superusers`] serves the command line, [`bootstrap`] makes a fresh `pb_data`,
//! [`keys`] signs and verifies tokens, [`passes`] those of our own faces, [`throttle`] slows down
//! guessing. This module knows no
//! HTTP: faces turn its answers into status codes and bodies.

pub mod bootstrap;
mod change;
pub mod collection;
pub mod directory;
mod hs256;
pub mod keys;
pub mod mfa;
pub mod origins;
pub mod otp;
pub mod passes;
pub mod password;
#[cfg(test)]
mod peer;
mod random;
pub mod record;
pub mod superusers;
#[cfg(test)]
mod testing;
pub mod throttle;
