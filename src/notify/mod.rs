//! How people are told of something: by mail, by webhook, by a heartbeat.
//!
//! Knows nothing of settings, records or backups; who is told what is the caller's business.

pub mod client;
mod guard;
pub mod heartbeat;
pub mod mail;
pub mod note;
mod plain;
pub mod retry;
pub mod webhook;
