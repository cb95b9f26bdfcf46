//! pocketvault: takes, keeps, proves and restores backups, behind the HTTP APIs that
//! PocketBase's clients already speak.
//!
//! Modules in reading order, lowest layer first. A module imports only from lower layers, and
//! modules of L1 never import each other (`tests/tidy.rs` holds this).
//!
//! | layer | modules |
//! |---|---|
//! | L0 words | [`error`] [`backup`] [`control`] [`data_dir`] [`config`] [`cron`] [`clock`] [`failpoint`] [`fsx`] [`folder_lock`] [`database`] [`occupants`] [`state`] [`telemetry`] |
//! | L1 adapters | [`source`] [`archive`] [`storage`] [`auth`] [`settings`] [`notify`] |
//! | L2 restore | [`restore`] |
//! | L3 vault | [`vault`] [`front`] |
//! | L4 http | [`http`] |
//! | L5 composition | [`app`] [`cli`], and `main.rs` |

pub mod backup;
pub mod clock;
pub mod config;
pub mod control;
pub mod cron;
pub mod data_dir;
pub mod database;
pub mod error;
pub mod failpoint;
pub mod folder_lock;
pub mod fsx;
pub mod occupants;
pub mod state;
pub mod telemetry;

pub mod archive;
pub mod auth;
pub mod notify;
pub mod settings;
pub mod source;
pub mod storage;

pub mod restore;

pub mod front;
pub mod vault;

pub mod http;

pub mod app;
pub mod cli;
