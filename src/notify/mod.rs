//! How people are told of something: by mail.
//!
//! Knows nothing of settings, records or backups; who is told what is the caller's business.

pub mod mail;
mod plain;
