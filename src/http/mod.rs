//! To be written.

pub mod bind;
pub mod body;
pub mod excerpt;
pub mod fields;
pub mod json;
pub mod media;
pub mod multipart;
pub mod query;
pub mod strict;
pub mod xml;
