//! Cron expressions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::calendar::{Calendar, Unix};
use super::zone::Zone;
use super::{InvalidCron, grammar};

/// A cron expression of five fields: minute, hour, day of month, month, day of week; or `@yearly`, `@monthly`, `@weekly`,
/// `@daily`, `@hourly`. At least one date matches it.
///
/// **Days.** If neither day field begins with `*` or `?`, a day has to match one of them; otherwise both, as in Vixie cron.
///
/// **Clock changes.** An expression is *repeating* if its minute or hour has a `*` or a step or names every value: it
/// ticks at every real time at which the clock shows a match, so twice in a repeated hour and not at all in a skipped
/// one. Any other names *fixed times*: it ticks when the clock first gets to a match, so once in a repeated hour, the first
/// time, and for all matches in a skipped hour together once, at the first instant after it.
///
/// ```
/// # use onefold_core::schedule::Cron;
/// let cron: Cron = "30 2 * * mon-fri".parse()?;
/// assert!(!cron.is_repeating());
/// let refusal = "0 0 30 2 *".parse::<Cron>().unwrap_err().to_string();
/// assert!(refusal.starts_with("no date matches"));
/// # Ok::<(), onefold_core::schedule::InvalidCron>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cron {
    pub(super) source: Box<str>,
    pub(super) calendar: Calendar,
    pub(super) repeating: bool,
}

impl Cron {
    /// Bytes of an expression, at the most.
    pub const LENGTH_MAX: usize = 1024;

    /// The text it was read from, without surrounding blanks.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it ticks at every real time at which the clock shows a match, instead of once for each.
    pub fn is_repeating(&self) -> bool {
        self.repeating
    }

    /// The first tick at `from` or later.
    pub(super) fn next(&self, zone: &Zone, from: Unix) -> Option<Unix> {
        if self.repeating {
            zone.next_shown(&self.calendar, from)
        } else {
            zone.next_reached(&self.calendar, from)
        }
    }

    /// The last tick at `until` or earlier.
    pub(super) fn previous(&self, zone: &Zone, until: Unix) -> Option<Unix> {
        if self.repeating {
            zone.previous_shown(&self.calendar, until)
        } else {
            zone.previous_reached(&self.calendar, until)
        }
    }
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Cron, InvalidCron> {
        grammar::parse(text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cron, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
