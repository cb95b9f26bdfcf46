//! The flight: one create or restore at a time, decided in one atomic step.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backup::Key;
use crate::error::{Error, Kind, Result};

/// What holds the flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A backup is being made.
    Create,
    /// A backup is being restored.
    Restore,
}

/// The holder, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// What it does.
    pub operation: Operation,
    /// With which key.
    pub key: Key,
}

/// The lock. Cheap to clone; clones are the same lock.
#[derive(Debug, Clone, Default)]
pub struct Flight(Arc<Mutex<Option<Busy>>>);

impl Flight {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Kind::Busy`] with PocketBase's text when it is held.
    pub fn begin(&self, operation: Operation, key: &Key) -> Result<Ticket> {
        let mut holder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holder.is_some() {
            return Err(busy());
        }
        *holder = Some(Busy { operation, key: key.clone() });
        Ok(Ticket(self.clone()))
    }

    /// Who holds it.
    pub fn current(&self) -> Option<Busy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails when it is held, for faces that answer "busy" before they look at anything else.
    ///
    /// # Errors
    /// [`Kind::Busy`].
    pub fn check(&self) -> Result<()> {
        if self.current().is_some() { Err(busy()) } else { Ok(()) }
    }
}

/// The right to work; dropping it releases the flight.
#[derive(Debug)]
pub struct Ticket(Flight);

impl Ticket {
    /// Names the key anew, once a generated one is settled.
    pub fn rename(&self, key: &Key) {
        if let Some(holder) = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            holder.key = key.clone();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn busy() -> Error {
    Error::new(
        Kind::Busy,
        "Try again later - another backup/restore process has already been started.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_threads_and_one_winner() {
        let flight = Flight::default();
        let key = Key::named("a.zip").expect("a key");
        let tickets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| flight.begin(Operation::Create, &key).ok()))
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("joined")).collect()
        });
        assert_eq!(tickets.len(), 1);
        assert_eq!(flight.current().map(|busy| busy.operation), Some(Operation::Create));
        drop(tickets);
        assert!(flight.check().is_ok());
    }
}
