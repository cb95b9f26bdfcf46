//! Behaviour of the whole program: real server processes on 127.0.0.1, spoken to over plain
//! sockets. One binary, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what is known or skipped is said aloud")]

mod alarms;
mod archives;
mod care;
mod cli;
mod compose;
mod described;
mod doctor;
mod folder;
mod harness;
mod hostile;
mod jobs;
mod many;
mod offline;
mod outside;
mod packages;
mod postgres;
mod raw;
mod refusals;
mod restoring;
#[path = "../s3/mod.rs"]
mod s3;
mod scalingo;
mod schedules;
mod serving;
mod storage;
mod supervise;
mod tokens;
mod watching;
mod wire;
