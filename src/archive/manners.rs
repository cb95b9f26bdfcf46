//! How much of the machine a backup may take: the priorities of its threads, and a limit on
//! what it reads per second.

#![expect(unsafe_code, reason = "no safe crate sets the I/O priority of a thread")]

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::IoClass;
use crate::error::Result;

/// Longest sleep between two looks at the cancel flag.
const NAP_MAX: Duration = Duration::from_millis(50);
/// So much of an unused allowance is kept.
const BURST: Duration = Duration::from_millis(100);

/// What a backup may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manners {
    /// By how much the CPU priority of its threads is lowered, 0 to 19.
    pub nice: u8,
    /// Their I/O priority.
    pub io: IoClass,
    /// Most bytes read per second, in megabytes (10^6 bytes); `None` for no limit.
    pub rate_limit_mb_s: Option<NonZeroU32>,
}

impl Manners {
    /// Lowers the priorities of this thread, for its whole life. A system that refuses leaves
    /// them as they are: a backup at full speed is better than none.
    pub(super) fn adopt(&self) {
        if self.nice > 0
            && let Err(error) = rustix::process::setpriority_process(None, i32::from(self.nice))
        {
            tracing::warn!(%error, "the CPU priority of the backup stays as it is");
        }
        if self.io != IoClass::Normal
            && let Err(error) = set_io_priority(self.io)
        {
            tracing::warn!(%error, "the I/O priority of the backup stays as it is");
        }
    }
}

/// Class in the upper bits, level within the class below, as `ioprio_set` wants it.
fn io_priority(class: IoClass) -> libc::c_int {
    const CLASS_SHIFT: u32 = 13;
    const BEST_EFFORT: libc::c_int = 2;
    const IDLE: libc::c_int = 3;
    const LOWEST: libc::c_int = 7;
    match class {
        IoClass::Normal => 0,
        IoClass::Low => (BEST_EFFORT << CLASS_SHIFT) | LOWEST,
        IoClass::Idle => IDLE << CLASS_SHIFT,
    }
}

/// `IOPRIO_WHO_PROCESS`; with the id 0 it means the calling thread.
const WHO_PROCESS: libc::c_int = 1;

fn set_io_priority(class: IoClass) -> std::io::Result<()> {
    // SAFETY: three integers, no memory of ours.
    let code = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, io_priority(class)) };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A limit that all threads of one write share.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_s: f64,
    /// When all that was read so far may have been read.
    due: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(manners: &Manners) -> Option<Self> {
        let bytes_per_s = f64::from(manners.rate_limit_mb_s?.get()) * 1e6;
        Some(Self { bytes_per_s, due: Mutex::new(Instant::now()) })
    }

    /// Waits until `bytes` more may have been read; `check` is asked often.
    ///
    /// # Errors
    /// The first one of `check`.
    pub(super) fn wait(&self, bytes: u64, check: impl Fn() -> Result<()>) -> Result<()> {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *due = (*due).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *due
        };
        loop {
            check()?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(NAP_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_thread_adopts_its_manners_and_its_neighbours_do_not() {
        let priorities = || {
            let nice = rustix::process::getpriority_process(None).expect("told");
            // SAFETY: two integers, no memory of ours.
            let io = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
            (nice, io)
        };
        let (nice, before) = priorities();
        let polite = Manners { nice: 19, io: IoClass::Idle, rate_limit_mb_s: None };
        let adopted = thread::spawn(move || {
            polite.adopt();
            priorities()
        });
        assert_eq!(adopted.join().expect("joined"), (19, 3 << 13));
        let low = Manners { io: IoClass::Low, ..Manners::default() };
        let adopted = thread::spawn(move || {
            low.adopt();
            priorities()
        });
        assert_eq!(adopted.join().expect("joined"), (nice, (2 << 13) | 7));
        assert_eq!(priorities(), (nice, before));
    }

    #[test]
    fn all_threads_together_keep_the_limit() {
        let manners = Manners { rate_limit_mb_s: NonZeroU32::new(10), ..Manners::default() };
        let throttle = Throttle::new(&manners).expect("a limit");
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        throttle.wait(100_000, || Ok(())).expect("waited");
                    }
                });
            }
        });
        // 4 MB at 10 MB/s, less the burst.
        assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_wait_of_hours_ends_when_the_check_says_so() {
        let manners = Manners { rate_limit_mb_s: NonZeroU32::new(1), ..Manners::default() };
        let throttle = Throttle::new(&manners).expect("a limit");
        let begun = Instant::now();
        let check = || match begun.elapsed() > Duration::from_millis(100) {
            true => Err(Error::internal("stop")),
            false => Ok(()),
        };
        throttle.wait(1 << 40, check).expect_err("stopped");
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    }
}
