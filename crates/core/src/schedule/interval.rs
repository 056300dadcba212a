//! A tick every so often.

use thiserror::Error;

use crate::{DurationMs, Timestamp};

/// A tick every `every` of real time: at the anchor, and at whole multiples of `every` before and after it. No clock
/// change moves them, and evaluating late does not either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    /// At least [`Interval::MIN`].
    every: DurationMs,
    anchor: Timestamp,
}

/// Why an interval was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidInterval {
    /// Shorter than [`Interval::MIN`].
    #[error("an interval is at least 1s and at most 3650d: write it like \"90s\" or \"1h30m\"")]
    TooShort,
}

impl Interval {
    /// The shortest interval. The longest is [`DurationMs::MAX`].
    pub const MIN: DurationMs = DurationMs::from_ms(1000);

    /// A tick every `every`, one of them at `anchor`: the start of the schedule if it has one, otherwise when it was
    /// made, kept for as long as `every` is not changed.
    ///
    /// # Errors
    /// [`InvalidInterval::TooShort`] below [`Interval::MIN`].
    pub fn new(every: DurationMs, anchor: Timestamp) -> Result<Interval, InvalidInterval> {
        if every < Interval::MIN { Err(InvalidInterval::TooShort) } else { Ok(Interval { every, anchor }) }
    }

    /// The time from tick to tick.
    pub fn every(self) -> DurationMs {
        self.every
    }

    /// A tick all others are counted from.
    pub fn anchor(self) -> Timestamp {
        self.anchor
    }

    fn period(self) -> i64 {
        // Ten years in milliseconds fit, and it is at least a second.
        i64::try_from(self.every.as_ms()).unwrap_or(i64::MAX).max(1)
    }

    /// The first tick at `from` or later.
    pub(super) fn next(self, from: Timestamp) -> Option<Timestamp> {
        let since = from.as_unix_ms() - self.anchor.as_unix_ms();
        // How far `from` is short of a tick.
        let missing = (-since).rem_euclid(self.period());
        Timestamp::from_unix_ms(from.as_unix_ms() + missing)
    }

    /// The last tick at `until` or earlier.
    pub(super) fn previous(self, until: Timestamp) -> Option<Timestamp> {
        let since = until.as_unix_ms() - self.anchor.as_unix_ms();
        Timestamp::from_unix_ms(until.as_unix_ms() - since.rem_euclid(self.period()))
    }

    /// How many ticks there are from `first`, one of them, to `last`, another or the same.
    pub(super) fn count(self, first: Timestamp, last: Timestamp) -> u64 {
        let between = last.as_unix_ms().saturating_sub(first.as_unix_ms());
        u64::try_from(between / self.period()).map_or(0, |gaps| gaps + 1)
    }
}
