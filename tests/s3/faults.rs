//! What goes wrong, when, and how often.

use std::time::Duration;

use super::operations::Operation;
use super::sums::Checksums;

/// A fault that strikes matching requests a number of times.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    on: Operation,
    part: Option<usize>,
    effect: Effect,
    times: usize,
}

impl Fault {
    /// Strikes the next request of that kind, once.
    pub(crate) fn on(on: Operation, effect: Effect) -> Self {
        Self { on, part: None, effect, times: 1 }
    }

    /// Strikes only uploads of that part, counted from 1.
    pub(crate) fn part(mut self, number: usize) -> Self {
        self.part = Some(number);
        self
    }

    /// Strikes so often.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Strikes always.
    pub(crate) fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// The effect, if this request is struck; counts it.
    pub(crate) fn strike(&mut self, operation: Operation, part: Option<usize>) -> Option<Effect> {
        let matches = self.on == operation && (self.part.is_none() || self.part == part);
        if !matches || self.times == 0 {
            return None;
        }
        if self.times != usize::MAX {
            self.times -= 1;
        }
        Some(self.effect.clone())
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// An error instead of the work, with that code.
    Status(u16, &'static str),
    /// The connection is reset when so many bytes of the body have been read.
    ResetAfterBytes(usize),
    /// The work is done, and the connection is reset instead of an answer.
    ResetInsteadOfAnswer,
    /// The answer's body ends after so many bytes, and the connection with it.
    TruncateAfterBytes(usize),
    /// The answer names another ETag.
    WrongEtag,
    /// Of the body, only so many bytes are kept.
    KeepOnlyBytes(usize),
    /// Of the body, the last byte is kept wrong.
    SpoilLastByte,
    /// Status 200 with an error in the body, and no work done.
    ErrorInside(&'static str),
    /// Nothing is answered for so long.
    Silence(Duration),
    /// Bodies pass at so many bytes a second.
    BytesPerSecond(u64),
    /// The answer asks for more than any XML parser should give.
    NotXml,
}

/// What the server does all the time.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    /// Connections are reset at once.
    pub(crate) down: bool,
    /// Writes are refused.
    pub(crate) read_only: bool,
    /// How far its clock is ahead of the true time, in seconds.
    pub(crate) clock_ahead_s: i64,
    /// What it makes of `If-None-Match: *`.
    pub(crate) conditions: Conditions,
    /// ETags are no MD5 sums (as with KMS keys).
    pub(crate) opaque_etags: bool,
    /// Custom metadata is not given back.
    pub(crate) forgets_metadata: bool,
    /// Keys per page of a list.
    pub(crate) page_keys: usize,
    /// Smallest part but the last, in bytes.
    pub(crate) part_bytes_min: u64,
    /// Bodies are counted and not kept.
    pub(crate) discards_bodies: bool,
    /// What it makes of checksums.
    pub(crate) checksums: Checksums,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            down: false,
            read_only: false,
            clock_ahead_s: 0,
            conditions: Conditions::Kept,
            opaque_etags: false,
            forgets_metadata: false,
            page_keys: 1000,
            part_bytes_min: 5 << 20,
            discards_bodies: false,
            checksums: Checksums::Ignored,
        }
    }
}

/// What a server makes of conditional writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// They hold.
    Kept,
    /// They are not noticed.
    Ignored,
    /// They are answered with 501.
    Refused,
}
