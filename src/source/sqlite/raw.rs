//! The only place of this crate that calls SQLite's C interface: connections, rows, the
//! online backup, and the file handles that SQLite itself holds on a database.
//!
//! Reading through those handles (`sqlite3_file.pMethods->xRead`) instead of handles of our own
//! matters: POSIX drops every lock of a process on a file as soon as *any* of its descriptors
//! on that file is closed, so a plain open and close beside SQLite would unlock the database.

#![expect(unsafe_code, reason = "SQLite is a C library; every call of it is in this module")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use libsqlite3_sys as ffi;

use super::fault::{SqliteFault, fault};
use super::uri::immutable_uri;
use crate::error::{Error, Kind, Result};

/// How long SQLite waits for a lock of another connection, in milliseconds.
const BUSY_TIMEOUT_MS: c_int = if cfg!(test) { 2_000 } else { 10_000 };
/// Virtual machine steps, or pages of a check, between two questions whether to stop.
const PROGRESS_STEPS: c_int = 1_000;
/// Bytes of one region of a WAL-index, fixed by the file format.
const SHM_REGION_BYTES: c_int = 32 * 1024;
/// 32-bit words of the WAL-index header: two copies of it (12 words each) and the
/// checkpoint information up to `nBackfill`.
pub(super) const WAL_INDEX_WORDS: usize = 25;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read a database that is there.
    ReadOnly,
    /// Read and write a database that is there.
    ReadWrite,
    /// Read a file that nobody writes and that has no log, without locks and side files.
    Immutable,
}

/// One of the two files that make a database in WAL mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The database file.
    Main,
    /// Its write-ahead log.
    Wal,
}

/// One connection, used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    db: NonNull<ffi::sqlite3>,
    /// The file's name, for messages.
    name: String,
}

// SAFETY: the library is built thread-safe (SQLITE_THREADSAFE=1); a connection opened with
// SQLITE_OPEN_NOMUTEX may move between threads as long as two never use it at once, which
// ownership guarantees: the type is not Sync and no handle of it leaves this module.
unsafe impl Send for Connection {}

impl Connection {
    /// Opens the database at `path`, which must be absolute.
    ///
    /// # Errors
    /// SQLite's refusal. Most faults of the file show only at the first read.
    pub(crate) fn open(path: &Path, mode: Mode) -> Result<Self> {
        let text = match mode {
            Mode::Immutable => immutable_uri(path.as_os_str().as_bytes()),
            Mode::ReadOnly | Mode::ReadWrite => path.as_os_str().as_bytes().to_vec(),
        };
        let text =
            CString::new(text).map_err(|_| Error::internal("a database path holds a NUL byte"))?;
        let flags = ffi::SQLITE_OPEN_NOMUTEX
            | match mode {
                Mode::ReadOnly => ffi::SQLITE_OPEN_READONLY,
                Mode::ReadWrite => ffi::SQLITE_OPEN_READWRITE,
                Mode::Immutable => ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_URI,
            };
        let mut db = ptr::null_mut();
        // SAFETY: `text` is NUL-terminated and lives through the call, `db` is a valid place.
        let code = unsafe { ffi::sqlite3_open_v2(text.as_ptr(), &mut db, flags, ptr::null()) };
        let Some(db) = NonNull::new(db) else {
            return Err(Error::internal("no memory for a database connection"));
        };
        // From here on dropping the connection closes it, also after a failed open.
        let name = path.file_name().unwrap_or_default().display().to_string();
        let connection = Self { db, name };
        if code != ffi::SQLITE_OK {
            return Err(connection.fault("cannot open"));
        }
        // SAFETY: the connection is open.
        unsafe { ffi::sqlite3_busy_timeout(db.as_ptr(), BUSY_TIMEOUT_MS) };
        Ok(connection)
    }

    /// Runs one statement and passes each row to `each`, which answers whether to go on.
    /// `bind` becomes `?1`.
    ///
    /// # Errors
    /// SQLite's, or those of `each`.
    pub(crate) fn rows(
        &self,
        sql: &str,
        bind: Option<i64>,
        each: &mut dyn FnMut(&Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let text = CString::new(sql).map_err(|_| Error::internal("a statement holds a NUL"))?;
        let mut raw = ptr::null_mut();
        // SAFETY: open connection, NUL-terminated text, valid place for the statement.
        let code = unsafe {
            ffi::sqlite3_prepare_v2(self.db.as_ptr(), text.as_ptr(), -1, &mut raw, ptr::null_mut())
        };
        if code != ffi::SQLITE_OK {
            return Err(self.fault("cannot read"));
        }
        let statement = Statement(raw, self);
        if let Some(value) = bind {
            // SAFETY: the statement is prepared; a wrong index is an error code, no more.
            if unsafe { ffi::sqlite3_bind_int64(raw, 1, value) } != ffi::SQLITE_OK {
                return Err(self.fault("cannot read"));
            }
        }
        loop {
            // SAFETY: the statement lives until `statement` is dropped.
            match unsafe { ffi::sqlite3_step(raw) } {
                ffi::SQLITE_ROW => {
                    if !each(&Row(&statement))? {
                        return Ok(());
                    }
                }
                ffi::SQLITE_DONE => return Ok(()),
                _ => return Err(self.fault("cannot read")),
            }
        }
    }

    /// Runs one statement and ignores its rows.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn exec(&self, sql: &str) -> Result<()> {
        self.rows(sql, None, &mut |_| Ok(true))
    }

    /// The first column of the first row, 0 without a row.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn integer(&self, sql: &str) -> Result<i64> {
        let mut value = 0;
        self.rows(sql, None, &mut |row| {
            value = row.integer(0);
            Ok(false)
        })?;
        Ok(value)
    }

    /// The first column of the first row as text, empty without a row.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn text(&self, sql: &str) -> Result<String> {
        let mut value = String::new();
        self.rows(sql, None, &mut |row| {
            value = String::from_utf8_lossy(row.bytes(0)).into_owned();
            Ok(false)
        })?;
        Ok(value)
    }

    /// [`Connection::text`], given up with an error soon after `stop` answers yes.
    ///
    /// # Errors
    /// SQLite's; an interruption is one of them.
    pub(crate) fn text_until(&self, sql: &str, stop: &dyn Fn() -> bool) -> Result<String> {
        unsafe extern "C" fn ask(stop: *mut c_void) -> c_int {
            // SAFETY: the pointer set below, only followed while `text_until` runs.
            c_int::from(unsafe { (*stop.cast::<&dyn Fn() -> bool>())() })
        }
        let mut stop = stop;
        let place = (&raw mut stop).cast::<c_void>();
        // SAFETY: open connection; `stop` outlives the statement, and the handler is removed
        // before it goes.
        unsafe {
            ffi::sqlite3_progress_handler(self.db.as_ptr(), PROGRESS_STEPS, Some(ask), place);
        }
        let answer = self.text(sql);
        // SAFETY: open connection; this removes the handler.
        unsafe { ffi::sqlite3_progress_handler(self.db.as_ptr(), 0, None, ptr::null_mut()) };
        answer
    }

    /// Makes the close neither checkpoint nor delete the log, even where no lock shows that
    /// others use it: a PocketBase that has made a backup holds none any more.
    ///
    /// # Errors
    /// SQLite refuses, as no version does.
    pub(crate) fn keep_log(&self) -> Result<()> {
        let (on, mut is_on): (c_int, c_int) = (1, 0);
        // SAFETY: open connection; this option takes one int and one place for an int, which
        // SQLite does not keep.
        let code = unsafe {
            let option = ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            ffi::sqlite3_db_config(self.db.as_ptr(), option, on, &raw mut is_on)
        };
        if code == ffi::SQLITE_OK && is_on == on {
            return Ok(());
        }
        Err(self.fault_of("cannot keep the log of", SqliteFault::of_code(code)))
    }

    /// Reads exactly `buffer.len()` bytes at `offset` through SQLite's own handle; what lies
    /// behind the end of the file reads as zeros, as it does for SQLite.
    ///
    /// # Errors
    /// The file cannot be read, or SQLite holds no such handle.
    pub(super) fn read_at(&self, part: Part, buffer: &mut [u8], offset: u64) -> Result<()> {
        let (file, methods) = self.file(part).ok_or_else(no_handle)?;
        let read = methods.xRead.ok_or_else(no_handle)?;
        let (Ok(length), Ok(offset)) = (c_int::try_from(buffer.len()), i64::try_from(offset))
        else {
            return Err(Error::internal("a read of a database is out of SQLite's range"));
        };
        // SAFETY: `file` is the live handle of this connection, used by this thread only;
        // the buffer is writable for `length` bytes.
        let code = unsafe { read(file.as_ptr(), buffer.as_mut_ptr().cast(), length, offset) };
        match code {
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(()),
            code => Err(self.fault_of("cannot read a block of", SqliteFault::of_code(code))),
        }
    }

    /// The WAL-index header as it is in shared memory now; `None` when the database is not in
    /// WAL mode or its WAL-index is not shared memory.
    pub(super) fn wal_index(&self) -> Option<[u32; WAL_INDEX_WORDS]> {
        let (file, methods) = self.file(Part::Main)?;
        self.file(Part::Wal)?;
        let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
        let mut region: *mut c_void = ptr::null_mut();
        // SAFETY: the live handle of the database file, used by this thread only. The region
        // size is the only one that SQLite's WAL code ever uses; without "extend" nothing is
        // created, and an absent region is a null pointer.
        let code = unsafe { map(file.as_ptr(), 0, SHM_REGION_BYTES, 0, &mut region) };
        // SQLITE_READONLY: mapped, but not writable for us; that is enough to read.
        let mapped = matches!(code, ffi::SQLITE_OK | ffi::SQLITE_READONLY);
        let words = NonNull::new(region).filter(|_| mapped)?.cast::<u32>();
        let mut header = [0_u32; WAL_INDEX_WORDS];
        // `nBackfill` before the header that vouches for it; then the first copy before the
        // second, because writers write them the other way round: a torn first copy can then
        // never equal the second.
        for part in [24..25, 0..12, 12..24] {
            for index in part {
                // SAFETY: the mapping is page-aligned, 32 KiB long, and stays while the
                // connection is open; other processes write it, hence the atomic.
                let word = unsafe { AtomicU32::from_ptr(words.as_ptr().add(index)) };
                header[index] = word.load(Ordering::Relaxed);
            }
            fence(Ordering::SeqCst);
        }
        Some(header)
    }

    /// Copies the whole database into `target`, `pages` at a time; `between` runs before
    /// every step. Inside a read transaction of `self` no foreign write restarts it.
    ///
    /// # Errors
    /// SQLite's, or those of `between`.
    pub(super) fn copy_to(
        &self,
        target: &Self,
        pages: u32,
        between: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let pages = c_int::try_from(pages).unwrap_or(c_int::MAX);
        // SAFETY: two different open connections, constant names.
        let backup = unsafe {
            ffi::sqlite3_backup_init(
                target.db.as_ptr(),
                MAIN.as_ptr(),
                self.db.as_ptr(),
                MAIN.as_ptr(),
            )
        };
        if backup.is_null() {
            return Err(target.fault("cannot begin to copy"));
        }
        let outcome = loop {
            if let Err(error) = between() {
                break Err(error);
            }
            // SAFETY: the backup is live until its finish below.
            match unsafe { ffi::sqlite3_backup_step(backup, pages) } {
                ffi::SQLITE_OK => {}
                ffi::SQLITE_DONE => break Ok(()),
                code => {
                    break Err(self.fault_of("cannot copy", SqliteFault::of_code(code)));
                }
            }
        };
        // SAFETY: finished exactly once, on every path.
        let code = unsafe { ffi::sqlite3_backup_finish(backup) };
        outcome?;
        if code != ffi::SQLITE_OK {
            return Err(target.fault("cannot finish to copy"));
        }
        Ok(())
    }

    /// SQLite's handle of one file and its methods, while it holds one.
    fn file(&self, part: Part) -> Option<(NonNull<ffi::sqlite3_file>, &ffi::sqlite3_io_methods)> {
        let operation = match part {
            Part::Main => ffi::SQLITE_FCNTL_FILE_POINTER,
            Part::Wal => ffi::SQLITE_FCNTL_JOURNAL_POINTER,
        };
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: both operations write one pointer to the given place and keep nothing.
        let code = unsafe {
            ffi::sqlite3_file_control(
                self.db.as_ptr(),
                MAIN.as_ptr(),
                operation,
                ptr::from_mut(&mut file).cast(),
            )
        };
        let file = NonNull::new(file).filter(|_| code == ffi::SQLITE_OK)?;
        // SAFETY: SQLite's file objects live as long as the connection; a closed one has null
        // methods. The method tables themselves are static.
        let methods = unsafe { (*file.as_ptr()).pMethods.as_ref() }?;
        Some((file, methods))
    }

    fn fault_of(&self, failed: &str, cause: SqliteFault) -> Error {
        fault(format!("{failed} the database {}", self.name), cause)
    }

    fn fault(&self, failed: &str) -> Error {
        // SAFETY: the connection is open; the message is copied before the next call.
        let (code, text) = unsafe {
            let code = ffi::sqlite3_extended_errcode(self.db.as_ptr());
            let text = CStr::from_ptr(ffi::sqlite3_errmsg(self.db.as_ptr()));
            (code, text.to_string_lossy().into_owned())
        };
        self.fault_of(failed, SqliteFault::new(code, text))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: closed exactly once; statements and backups never outlive their method.
        unsafe { ffi::sqlite3_close(self.db.as_ptr()) };
    }
}

/// A prepared statement, finalized on drop. It borrows its connection.
struct Statement<'a>(
    *mut ffi::sqlite3_stmt,
    #[expect(dead_code, reason = "borrow")] &'a Connection,
);

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        // SAFETY: prepared by `rows`, finalized exactly once; null is allowed.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}

/// The current row of a statement.
pub(crate) struct Row<'a>(&'a Statement<'a>);

impl Row<'_> {
    /// A column as an integer.
    pub(crate) fn integer(&self, column: c_int) -> i64 {
        // SAFETY: a row is current; an unknown column reads as 0.
        unsafe { ffi::sqlite3_column_int64(self.0.0, column) }
    }

    /// A column's bytes, those of its text form for numbers; empty for NULL.
    pub(crate) fn bytes(&self, column: c_int) -> &[u8] {
        // SAFETY: a row is current. The pointer is valid for the length until the next call on
        // this column or the next step; `rows` steps only after the row's borrow has ended.
        unsafe {
            let data = ffi::sqlite3_column_blob(self.0.0, column).cast::<u8>();
            let length = usize::try_from(ffi::sqlite3_column_bytes(self.0.0, column));
            match (data.is_null(), length) {
                (false, Ok(length)) => std::slice::from_raw_parts(data, length),
                _ => &[],
            }
        }
    }
}

fn no_handle() -> Error {
    Error::new(Kind::Internal, "SQLite holds no handle of that file")
}

const MAIN: &CStr = c"main";
