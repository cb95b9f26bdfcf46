//! To be written.

pub mod bind;
pub mod blocks;
pub mod body;
pub mod cleanup;
pub mod cors;
pub mod disposition;
pub mod download;
pub mod excerpt;
pub mod fields;
pub mod json;
pub mod media;
pub mod multipart;
pub mod query;
pub mod range;
pub mod sniff;
pub mod strict;
pub mod upload;
pub mod xml;

#[cfg(test)]
mod wire;
