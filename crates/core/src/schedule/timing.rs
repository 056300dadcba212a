//! A pattern between a start and an end, and the ticks that follow from it.

use std::iter::FusedIterator;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::calendar::Unix;
use super::{Cron, Interval, InvalidCron, InvalidInterval, InvalidZone, Zone};
use crate::{DurationMs, Timestamp};

/// A moment at which a schedule wants a job: its nominal time, whenever it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub(super) Timestamp);

impl Tick {
    /// The nominal time.
    pub const fn at(self) -> Timestamp {
        self.0
    }
}

/// What repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A cron expression, read by the clock of a zone.
    Cron {
        /// The expression.
        cron: Cron,
        /// Where its clock hangs.
        zone: Zone,
    },
    /// A length of real time.
    Every(Interval),
}

/// When a schedule ticks: a pattern from an optional start to an optional end, both included. It has at least
/// one tick.
///
/// As JSON: `{"cron", "timezone"}` or `{"every", "anchor"}`, with `start` and `end` if it has them.
///
/// ```
/// # use onefold_core::schedule::{Pattern, Timing};
/// let pattern = Pattern::cron("30 2 * * *", Some("America/New_York".parse()?))?;
/// let timing = Timing::new(pattern, None, None)?;
/// // 2:30 does not exist on this day: the clock goes from 2:00 to 3:00.
/// let tick = timing.next_after("2026-03-08T00:00:00-05:00".parse()?);
/// assert_eq!(tick.map(|tick| tick.at()), Some("2026-03-08T03:00:00-04:00".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Timing {
    pattern: Pattern,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// Why a timing was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTiming {
    /// The expression.
    #[error(transparent)]
    Cron(#[from] InvalidCron),
    /// The zone.
    #[error(transparent)]
    Zone(#[from] InvalidZone),
    /// The interval.
    #[error(transparent)]
    Interval(#[from] InvalidInterval),
    /// A zone beside `CRON_TZ=` of another.
    #[error("the time zone is given twice: leave out CRON_TZ= in the expression, or the field")]
    TwoZones,
    /// Not one of `cron` and `every`.
    #[error("a schedule has either a cron expression or an interval: give cron or every")]
    NotOnePattern,
    /// `every` without an anchor, or `cron` with one.
    #[error(
        "an interval has an anchor, one of its ticks, and a cron expression has none: give anchor with every only"
    )]
    Anchor,
    /// No tick from `start` to `end`.
    #[error("there is no tick between start and end: move end, or leave it out")]
    NeverTicks,
}

impl Pattern {
    /// A cron expression in a zone, which may also stand before it as `CRON_TZ=Europe/Berlin` or `TZ=…`. UTC if it is
    /// given nowhere.
    ///
    /// # Errors
    /// [`InvalidTiming::Cron`], [`InvalidTiming::Zone`], and [`InvalidTiming::TwoZones`] for two that differ.
    pub fn cron(text: &str, zone: Option<Zone>) -> Result<Pattern, InvalidTiming> {
        let text = text.trim_ascii();
        let prefixed = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="));
        let (zone, text) = match prefixed {
            None => (zone.unwrap_or_default(), text),
            Some(rest) => {
                let (name, expression) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
                let named: Zone = name.parse()?;
                if zone.is_some_and(|zone| zone != named) {
                    return Err(InvalidTiming::TwoZones);
                }
                (named, expression)
            }
        };
        Ok(Pattern::Cron { cron: text.parse()?, zone })
    }

    /// The first tick at `from` or later.
    fn next(&self, from: Timestamp) -> Option<Timestamp> {
        match self {
            Pattern::Every(interval) => interval.next(from),
            Pattern::Cron { cron, zone } => {
                let from = Unix((from.as_unix_ms() + 999).div_euclid(1000));
                from_seconds(cron.next(zone, from)?)
            }
        }
    }

    /// The last tick at `until` or earlier.
    fn previous(&self, until: Timestamp) -> Option<Timestamp> {
        match self {
            Pattern::Every(interval) => interval.previous(until),
            Pattern::Cron { cron, zone } => {
                let until = Unix(until.as_unix_ms().div_euclid(1000).min(LAST_SECOND));
                from_seconds(cron.previous(zone, until)?)
            }
        }
    }
}

/// What is behind it is also the last day of 9999 somewhere, where calendars end.
const LAST_SECOND: i64 = Timestamp::MAX.as_unix_ms() / 1000 - 3 * 86_400;

fn from_seconds(seconds: Unix) -> Option<Timestamp> {
    Timestamp::from_unix_ms(seconds.0.checked_mul(1000)?)
}

impl Timing {
    /// A pattern from `start` to `end`, both included.
    ///
    /// # Errors
    /// [`InvalidTiming::NeverTicks`] if no tick lies between them.
    pub fn new(
        pattern: Pattern,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<Timing, InvalidTiming> {
        let timing = Timing { pattern, start, end };
        if timing.next_from(Timestamp::EPOCH).is_some() { Ok(timing) } else { Err(InvalidTiming::NeverTicks) }
    }

    /// What repeats.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// No tick comes earlier.
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// No tick comes later.
    pub fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// The zone whose clock it goes by; none for an interval.
    pub fn zone(&self) -> Option<&Zone> {
        match &self.pattern {
            Pattern::Cron { zone, .. } => Some(zone),
            Pattern::Every(_) => None,
        }
    }

    /// The first tick after `after`. `None` after the end, and in the last days of 9999.
    pub fn next_after(&self, after: Timestamp) -> Option<Tick> {
        self.next_from(Timestamp::from_unix_ms(after.as_unix_ms() + 1)?)
    }

    /// The first tick at `from` or later.
    fn next_from(&self, from: Timestamp) -> Option<Tick> {
        let from = self.start.map_or(from, |start| start.max(from));
        let tick = self.pattern.next(from)?;
        if self.end.is_some_and(|end| end < tick) { None } else { Some(Tick(tick)) }
    }

    /// The last tick at `until` or earlier. `None` before the first.
    pub fn latest_until(&self, until: Timestamp) -> Option<Tick> {
        let until = self.end.map_or(until, |end| end.min(until));
        let tick = self.pattern.previous(until)?;
        if self.start.is_some_and(|start| tick < start) { None } else { Some(Tick(tick)) }
    }

    /// The tick before `tick`.
    pub(super) fn before(&self, tick: Tick) -> Option<Tick> {
        self.latest_until(Timestamp::from_unix_ms(tick.at().as_unix_ms() - 1)?)
    }

    /// The ticks after `after`, in order: for a preview, take some.
    pub fn ticks_after(&self, after: Timestamp) -> Ticks<'_> {
        Ticks { timing: self, after: Some(after) }
    }
}

/// The ticks of a [`Timing`] in order. There may be no end to them.
#[derive(Debug, Clone)]
pub struct Ticks<'a> {
    timing: &'a Timing,
    after: Option<Timestamp>,
}

impl Iterator for Ticks<'_> {
    type Item = Tick;

    fn next(&mut self) -> Option<Tick> {
        let tick = self.timing.next_after(self.after?);
        self.after = tick.map(Tick::at);
        tick
    }
}

impl FusedIterator for Ticks<'_> {}

/// A timing as it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cron: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<Zone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<DurationMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
}

impl TryFrom<Written> for Timing {
    type Error = InvalidTiming;

    fn try_from(written: Written) -> Result<Timing, InvalidTiming> {
        let Written { cron, timezone, every, anchor, start, end } = written;
        let pattern = match (cron, every, anchor) {
            (Some(cron), None, None) => Pattern::cron(&cron, timezone)?,
            (None, Some(every), Some(anchor)) => Pattern::Every(Interval::new(every, anchor)?),
            (Some(_), None, Some(_)) | (None, Some(_), None) => return Err(InvalidTiming::Anchor),
            (Some(_), Some(_), _) | (None, None, _) => return Err(InvalidTiming::NotOnePattern),
        };
        Timing::new(pattern, start, end)
    }
}

impl From<Timing> for Written {
    fn from(timing: Timing) -> Written {
        let Timing { pattern, start, end } = timing;
        let (cron, timezone, every, anchor) = match pattern {
            Pattern::Cron { cron, zone } => (Some(cron.source().into()), Some(zone), None, None),
            Pattern::Every(interval) => (None, None, Some(interval.every()), Some(interval.anchor())),
        };
        Written { cron, timezone, every, anchor, start, end }
    }
}

#[cfg(test)]
mod tests;
