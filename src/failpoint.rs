//! Places where a test lets the disk fail or the process die.
//!
//! Every call of [`fsx`](crate::fsx) and of `restore` that changes a disk passes through
//! [`hit`] first. Calls are numbered from 1 over the whole process:
//!
//! | variable | effect |
//! |---|---|
//! | `POCKETVAULT_CRASH_AT=N` | SIGKILL to this process just before call N |
//! | `POCKETVAULT_FAIL_AT=N:ENOSPC` (or `:EIO`) | call N fails with that error |
//! | `POCKETVAULT_FAIL_AT=N+:ENOSPC` | call N and all later ones fail |
//! | `POCKETVAULT_TRACE=FILE` | one line per call in FILE; what call N replaces, in FILE.N |
//!
//! Release builds without the feature `failpoints` contain none of it.

use std::io;
use std::path::Path;

/// Counts one call of the disk, and fails or dies when a test asked for it.
///
/// # Errors
/// The error that the test asked for.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub fn hit(call: &str, paths: &[&Path]) -> io::Result<()> {
    armed::hit(call, paths)
}

/// Does nothing in this build.
///
/// # Errors
/// Never.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub fn hit(_call: &str, _paths: &[&Path]) -> io::Result<()> {
    Ok(())
}

/// How many calls were counted so far; `None` in builds without fail points.
pub fn calls() -> Option<u64> {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return Some(armed::calls());
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    None
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    use std::fs::OpenOptions;
    use std::io::{self, Write};
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    static CALLS: AtomicU64 = AtomicU64::new(0);
    static PLAN: OnceLock<Plan> = OnceLock::new();

    /// What the environment asked for when the first call was made.
    #[derive(Debug, Default, PartialEq)]
    struct Plan {
        crash_at: Option<u64>,
        fail: Option<Fail>,
        trace: Option<PathBuf>,
    }

    #[derive(Debug, PartialEq)]
    struct Fail {
        at: u64,
        onwards: bool,
        error: Errno,
    }

    pub(super) fn calls() -> u64 {
        CALLS.load(Ordering::SeqCst)
    }

    pub(super) fn hit(call: &str, paths: &[&Path]) -> io::Result<()> {
        let plan = PLAN.get_or_init(Plan::from_environment);
        let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
        if plan.crash_at == Some(number) {
            // SIGKILL, not an abort: no destructor and no handler may tidy up.
            kill_process(getpid(), Signal::KILL)?;
        }
        if let Some(fail) = &plan.fail
            && (fail.at == number || (fail.onwards && number > fail.at))
        {
            return Err(fail.error.into());
        }
        match &plan.trace {
            Some(file) => trace(file, number, call, paths),
            None => Ok(()),
        }
    }

    fn trace(file: &Path, number: u64, call: &str, paths: &[&Path]) -> io::Result<()> {
        if let ("replace", [_, target]) = (call, paths)
            && target.exists()
        {
            // What a power cut could bring back.
            std::fs::copy(target, file.with_extension(number.to_string()))?;
        }
        let mut line = call.to_owned();
        for path in paths {
            line.push('\t');
            line.push_str(&path.to_string_lossy());
        }
        line.push('\n');
        OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
    }

    impl Plan {
        fn from_environment() -> Self {
            let variable = |name: &str| std::env::var(name).ok();
            Self {
                crash_at: variable("POCKETVAULT_CRASH_AT").and_then(|text| text.parse().ok()),
                fail: variable("POCKETVAULT_FAIL_AT").and_then(|text| Fail::parse(&text)),
                trace: variable("POCKETVAULT_TRACE").map(PathBuf::from),
            }
        }
    }

    impl Fail {
        fn parse(text: &str) -> Option<Self> {
            let (at, error) = text.split_once(':')?;
            let onwards = at.ends_with('+');
            let error = match error {
                "ENOSPC" => Errno::NOSPC,
                "EIO" => Errno::IO,
                _ => return None,
            };
            Some(Self { at: at.trim_end_matches('+').parse().ok()?, onwards, error })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn faults_are_parsed() {
            let fail = |at, onwards, error| Some(Fail { at, onwards, error });
            assert_eq!(Fail::parse("7:EIO"), fail(7, false, Errno::IO));
            assert_eq!(Fail::parse("7+:ENOSPC"), fail(7, true, Errno::NOSPC));
            for text in ["", "7", "7:", "x:EIO", "7:EPERM"] {
                assert_eq!(Fail::parse(text), None, "{text:?}");
            }
        }
    }
}
