//! The HTTP server: one service takes every request, [`server`] is the list of steps in
//! PocketBase's order, [`routes`] has all routes on one screen, and [`faces`] answer.
//!
//! The other modules each know one thing of HTTP as PocketBase speaks it: bodies, `fields`,
//! ranges, uploads, downloads. None of them knows the vault.

pub mod admission;
pub mod audited;
pub mod bind;
pub mod blocks;
pub mod body;
pub mod call;
pub mod cleanup;
pub mod connection;
pub mod cors;
pub mod disposition;
pub mod door;
pub mod download;
pub mod excerpt;
pub mod faces;
pub mod fault;
pub mod fields;
pub mod forward;
pub mod guard;
pub mod json;
pub mod media;
pub mod multipart;
pub mod prefer;
pub mod query;
pub mod range;
pub mod refusals;
pub mod respond;
pub mod routes;
pub mod server;
pub mod services;
pub mod sniff;
pub mod strict;
pub mod upload;
pub mod xml;

#[cfg(test)]
mod wire;
