//! Proving a pinned database while it is read: SQLite's own check, on a thread of its own and
//! a connection of its own that is inside a read transaction of the same moment.
//!
//! The backup is never held up by what the check finds; it only gets to know it. Measured
//! costs and the size limit: `docs/decisions`.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::raw::Connection;
use crate::control::Control;
use crate::error::{Context, Result};

/// Databases up to this size have every index compared with its table, which takes about 0.3
/// seconds of processor time. Larger ones have their pages and rows checked: comparing searches
/// each index for each row, and would cost as much as a quarter of the whole backup.
const FULL_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FULL: &str = "PRAGMA integrity_check(1)";
const QUICK: &str = "PRAGMA quick_check(1)";
const SOUND: &str = "ok";

/// Told in words what is wrong with a database.
pub(super) type OnDamage = Box<dyn FnOnce(String) + Send>;

/// A check that may begin.
pub(super) struct Check {
    /// Inside its read transaction.
    pub(super) connection: Connection,
    pub(super) size_bytes: u64,
    pub(super) control: Control,
    pub(super) on_damage: OnDamage,
}

/// A reader whose database is checked meanwhile. Dropping it waits for the end of the check if
/// everything was read, and stops the check otherwise.
pub(super) struct Checked {
    reader: Box<dyn Read + Send>,
    left: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Check {
    /// Begins the check beside `reader`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn beside(self, reader: Box<dyn Read + Send>) -> Result<Checked> {
        let (left, stop) = (self.size_bytes, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("database-check".to_owned())
            .spawn(move || self.run(&stopped))
            .context("cannot start the check of a database")?;
        Ok(Checked { reader, left, stop, thread: Some(thread) })
    }

    fn run(self, stopped: &AtomicBool) {
        let full = self.size_bytes <= FULL_BYTES_MAX;
        let Self { connection, control, on_damage, .. } = self;
        let stop = || stopped.load(Ordering::Relaxed) || control.check().is_err();
        let first = connection.text_until(if full { FULL } else { QUICK }, &stop);
        let answer = match first {
            // An index may need a collation of the application's that we do not have.
            Err(_) if full && !stop() => connection.text_until(QUICK, &stop),
            answer => answer,
        };
        match answer {
            Ok(answer) if answer == SOUND => {}
            // Nobody wants to know any more.
            _ if stop() => {}
            Ok(answer) => on_damage(answer),
            Err(error) => on_damage(error.full()),
        }
    }
}

impl Read for Checked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if self.left > 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
        if let Some(thread) = self.thread.take() {
            // A panic was told to the log by its hook; there is nobody here to fail.
            let _ = thread.join();
        }
    }
}
