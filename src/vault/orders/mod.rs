//! Orders: backups that are asked for now and made when their turn comes. An order has an id
//! from the moment it is placed, waits until nobody else works on its target, and survives the
//! process. Backups that nobody ordered here are listed with ids that follow from their keys.

mod book;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::RngExt;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::backup::{Backup, Key};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::state::StateDb;
use crate::vault::jobs::Method;

use self::book::{Book, Row};

pub use book::{Daily, OrderState};
pub use target::Target;

/// Orders of one target that may wait.
const WAITING_MAX: usize = 10;
/// Pause before a target that is busy, or a storage that does not answer, is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an order waits for a target that is busy.
const BUSY_MAX: Duration = Duration::from_secs(6 * 3600);
/// How often the hours of daily orders are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Bytes of an id.
const ID_BYTES: usize = 12;

/// All orders. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    book: Book,
    clock: Clock,
    runtime: Handle,
    lines: Arc<[Line]>,
    stopped: Arc<AtomicBool>,
}

/// The orders of one target, made one after the other.
#[derive(Debug)]
struct Line {
    target: Target,
    placed: Notify,
}

/// A backup that was ordered, or one that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Who asked.
    pub method: Method,
    /// How far it is.
    pub state: OrderState,
    /// The backup, once it is being made.
    pub key: Option<Key>,
    /// Its size in bytes, once it is made.
    pub size_bytes: Option<u64>,
    /// When it was asked for.
    pub placed: DateTime<Utc>,
    /// When its making began.
    pub started: Option<DateTime<Utc>>,
}

impl Orders {
    /// Orders of these targets. [`Orders::begin`] starts the work.
    pub fn new(state: StateDb, clock: Clock, runtime: Handle, targets: Vec<Target>) -> Self {
        let line = |target| Line { target, placed: Notify::new() };
        let lines = targets.into_iter().map(line).collect();
        Self { book: Book(state), clock, runtime, lines, stopped: Arc::default() }
    }

    /// Starts making what waits, and placing what is due, in tasks of their own.
    pub fn begin(&self) {
        for at in 0..self.lines.len() {
            let orders = self.clone();
            self.runtime.spawn(async move { orders.work(at).await });
        }
        let orders = self.clone();
        self.runtime.spawn(async move {
            while !orders.stopped.load(Ordering::Acquire) {
                orders.place_due().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Begins nothing more: the process is about to go.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// The target of that name.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.line(name).ok().map(|line| &line.target)
    }

    /// Places an order.
    ///
    /// # Errors
    /// [`Kind::Busy`] when too many wait; [`Kind::NotFound`] for a target that is none.
    pub async fn place(&self, target: &str, method: Method) -> Result<Order> {
        let line = self.line(target)?;
        if self.book.count(target, OrderState::Waiting).await? >= WAITING_MAX {
            let message = format!("{WAITING_MAX} backups of this database wait already");
            return Err(Error::new(Kind::Busy, message));
        }
        let row = Row {
            id: hex(&rand::rng().random::<[u8; ID_BYTES]>()),
            target: target.to_owned(),
            method,
            state: OrderState::Waiting,
            key: None,
            placed: self.clock.now(),
            started: None,
        };
        self.book.insert(&row).await?;
        line.placed.notify_one();
        Ok(Order::of(row, None))
    }

    /// All backups and orders of a target, newest first. What was made here and is there no
    /// more is not listed.
    ///
    /// # Errors
    /// The storage or our own database cannot be read.
    pub async fn list(&self, target: &str) -> Result<Vec<Order>> {
        let line = self.line(target)?;
        // In this order: what ends in between is seen as running, and not twice.
        let rows = self.book.of(target).await?;
        let stored = line.target.list().await?;
        let mut stored: BTreeMap<Key, Backup> =
            stored.into_iter().map(|backup| (backup.key.clone(), backup)).collect();
        let mut orders = Vec::new();
        for row in rows {
            // The name of one that failed is free, and may be another's by now.
            let made = row.key.as_ref().filter(|_| row.state != OrderState::Failed);
            let stored = made.and_then(|key| stored.remove(key));
            match (row.state, stored) {
                (OrderState::Done, Some(backup)) => {
                    orders.push(Order::of(row, Some(backup.size_bytes)));
                }
                (OrderState::Done, None) => {}
                _ => orders.push(Order::of(row, None)),
            }
        }
        orders.extend(stored.into_values().map(|backup| line.found(backup)));
        orders.sort_by(|a, b| b.placed.cmp(&a.placed).then_with(|| b.id.cmp(&a.id)));
        Ok(orders)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; as [`Orders::list`].
    pub async fn find(&self, target: &str, id: &str) -> Result<Order> {
        let none = || Error::new(Kind::NotFound, format!("there is no backup {id}"));
        let line = self.line(target)?;
        let Some(row) = self.book.find(target, id).await? else {
            let mut listed = self.list(target).await?.into_iter();
            return listed.find(|order| order.id == id).ok_or_else(none);
        };
        let Some(key) = row.key.as_ref().filter(|_| row.state == OrderState::Done) else {
            return Ok(Order::of(row, None));
        };
        let (_, backup) = line.target.locate(key).await?;
        Ok(Order::of(row, Some(backup.size_bytes)))
    }

    /// Removes a backup, an order that waits, or one that failed.
    ///
    /// # Errors
    /// [`Kind::InUse`] while it is being made; as [`Orders::find`].
    pub async fn delete(&self, target: &str, id: &str) -> Result<()> {
        let order = self.find(target, id).await?;
        match (order.state, &order.key) {
            (OrderState::Running, _) => {
                let message = "The backup is being made and cannot be deleted.";
                return Err(Error::new(Kind::InUse, message));
            }
            (OrderState::Done, Some(key)) => self.line(target)?.target.delete(key).await?,
            _ => {}
        }
        self.book.remove(id).await.map(drop)
    }

    /// When a backup is made each day.
    ///
    /// # Errors
    /// Our own database cannot be read.
    pub async fn daily(&self, target: &str) -> Result<Option<Daily>> {
        self.book.daily(target).await
    }

    /// Makes one each day from now on, or no more.
    ///
    /// # Errors
    /// Our own database cannot be written.
    pub async fn set_daily(&self, target: &str, daily: Daily) -> Result<()> {
        self.line(target)?;
        self.book.set_daily(target, daily, self.clock.now()).await
    }

    /// Places the daily orders whose hour struck.
    async fn place_due(&self) {
        let due = match self.book.take_due(self.clock.now()).await {
            Ok(due) => due,
            Err(error) => return tracing::error!(error = error.full(), "no daily backup is made"),
        };
        for target in due {
            // Targets that the configuration has no more are left alone.
            if self.line(&target).is_err() {
                continue;
            }
            if let Err(error) = self.place(&target, Method::Scheduled).await {
                tracing::error!(target, error = error.full(), "a daily backup is not made");
            }
        }
    }

    fn line(&self, target: &str) -> Result<&Line> {
        let found = self.lines.iter().find(|line| line.target.name() == target);
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no database {target}")))
    }

    async fn work(self, at: usize) {
        let line = &self.lines[at];
        while let Err(error) = self.settle(line).await {
            tracing::warn!(error = error.full(), "orders from before the start are not settled");
            tokio::time::sleep(PAUSE * 15).await;
        }
        while !self.stopped.load(Ordering::Acquire) {
            match self.book.next(line.target.name()).await {
                Ok(Some(row)) => {
                    if let Err(error) = self.make(line, &row).await {
                        let (order, error) = (row.id, error.full());
                        tracing::error!(order, error, "a backup that was ordered was not made");
                    }
                }
                Ok(None) => line.placed.notified().await,
                Err(error) => {
                    tracing::error!(error = error.full(), "orders cannot be read");
                    tokio::time::sleep(PAUSE * 15).await;
                }
            }
        }
    }

    /// What the process before this one was making is there, or was broken off.
    async fn settle(&self, line: &Line) -> Result<()> {
        for row in self.book.of(line.target.name()).await? {
            let (OrderState::Running, Some(key)) = (row.state, &row.key) else { continue };
            let state = match line.target.locate(key).await {
                Ok(_) => OrderState::Done,
                Err(error) if error.kind() == &Kind::NotFound => OrderState::Failed,
                Err(error) => return Err(error),
            };
            self.book.end(&row.id, state).await?;
        }
        Ok(())
    }

    async fn make(&self, line: &Line, row: &Row) -> Result<()> {
        let begun = Instant::now();
        let making = loop {
            match line.target.begin(row.method).await {
                Err(error) if error.kind() == &Kind::Busy && begun.elapsed() < BUSY_MAX => {
                    tokio::time::sleep(PAUSE).await;
                    let is_over = self.stopped.load(Ordering::Acquire);
                    if is_over || self.book.find(&row.target, &row.id).await?.is_none() {
                        // It waits for the next process, or was deleted while it waited.
                        return Ok(());
                    }
                }
                Ok(making) => break making,
                Err(error) => {
                    self.book.end(&row.id, OrderState::Failed).await?;
                    return Err(error);
                }
            }
        };
        if !self.book.start(&row.id, making.key(), self.clock.now()).await? {
            // It was deleted in this moment: the job's record says that it was broken off.
            return Ok(());
        }
        let key = making.key().clone();
        let made = making.make().await;
        // One that no destination took may be there after all, in the spool.
        let is_there = made.is_ok() || line.target.locate(&key).await.is_ok();
        let state = if is_there { OrderState::Done } else { OrderState::Failed };
        self.book.end(&row.id, state).await?;
        made
    }
}

impl Line {
    /// A backup that nobody ordered here.
    fn found(&self, backup: Backup) -> Order {
        let name = format!("{}/{}", self.target.name(), backup.key);
        Order {
            id: hex(&Sha256::digest(name)[..ID_BYTES]),
            method: self.target.method_of(&backup.key),
            state: OrderState::Done,
            size_bytes: Some(backup.size_bytes),
            placed: backup.modified,
            started: Some(backup.modified),
            key: Some(backup.key),
        }
    }
}

impl Order {
    fn of(row: Row, size_bytes: Option<u64>) -> Self {
        let Row { id, method, state, key, placed, started, .. } = row;
        Self { id, method, state, key, size_bytes, placed, started }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
