//! The same work for many indices on all cores.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::control::Control;
use crate::error::{Error, Result};

/// More threads than this cost memory and find no faster disk.
const THREADS_MAX: usize = 12;

/// The number of threads asked for, or one per core; at most [`THREADS_MAX`].
pub(super) fn default_threads(asked: Option<NonZeroUsize>) -> usize {
    asked
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
        .min(THREADS_MAX)
}

/// Calls `work` once for each of `indices`, on `threads` threads that each have a `state`.
/// Stops at the first error, which is the one returned.
///
/// # Errors
/// The first error of `work`, or [`Control::check`]'s.
pub(super) fn each<S>(
    threads: usize,
    indices: &[usize],
    control: &Control,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let run = || {
        let mut state = state();
        while let Some(index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = control.check().and_then(|()| work(&mut state, *index)) {
                next.store(indices.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    };
    let panicked = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(indices.len())).map(|_| scope.spawn(run)).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).count() > 0
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if panicked => Err(Error::internal("a thread that reads an archive panicked")),
        None => Ok(()),
    }
}
