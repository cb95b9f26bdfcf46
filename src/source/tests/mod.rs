//! Snapshots of folders that others write to while they are taken.

mod agree;
mod chance;
mod checked;
mod files;
mod live;
mod pins;
mod support;
