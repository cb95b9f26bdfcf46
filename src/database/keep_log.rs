//! The one switch of a connection that neither SQL nor sqlx has: to leave the write-ahead log
//! alone when the connection is closed.

#![expect(unsafe_code, reason = "only SQLite's C interface has this switch")]

use std::ffi::c_int;

use libsqlite3_sys::{SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, SQLITE_OK, sqlite3_db_config};
use sqlx::sqlite::{LockedSqliteHandle, SqliteConnection};

/// Makes the close of `connection` neither checkpoint nor delete the log, whether it is the
/// last one or only believes so.
///
/// # Errors
/// The connection's thread is gone, or SQLite refuses (as no version does).
pub(super) async fn keep_log(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    switch(&mut connection.lock_handle().await?)
}

fn switch(connection: &mut LockedSqliteHandle<'_>) -> sqlx::Result<()> {
    let on: c_int = 1;
    let mut is_on: c_int = 0;
    // SAFETY: the handle is open, and while `connection` is borrowed sqlx's thread makes no
    // call on it (sqlx opens connections without a mutex of their own). sqlx is pinned, so
    // both crates mean the same C library. This option takes exactly one int by value and one
    // place for an int, which SQLite does not keep.
    let code = unsafe {
        sqlite3_db_config(
            connection.as_raw_handle().as_ptr(),
            SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
            on,
            &raw mut is_on,
        )
    };
    if code == SQLITE_OK && is_on == on {
        Ok(())
    } else {
        let message = format!("a connection cannot be told to keep its log: code {code}");
        Err(sqlx::Error::Configuration(message.into()))
    }
}
