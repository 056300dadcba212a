//! Times as people give and read them.

use std::str::FromStr;

use onefold_core::{Clock, DurationMs, Timestamp};
use onefold_runtime::SystemClock;

/// The time by this machine's clock.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// A point in time as a flag: RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(DurationMs),
}

/// Why a moment was refused.
#[derive(Debug, thiserror::Error)]
#[error("a moment is a time like 2026-11-21T09:30:00Z, or how long ago it was, like 1h30m")]
pub(crate) struct InvalidMoment;

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Moment, InvalidMoment> {
        let ago = text.parse().map(Moment::Ago);
        ago.or_else(|_| text.parse().map(Moment::At)).map_err(|_| InvalidMoment)
    }
}

impl Moment {
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::At(time) => time,
            Moment::Ago(duration) => now.saturating_sub(duration),
        }
    }
}

/// A length of time in its largest unit: `250ms`, `12s`, `3m`, `5h`, `9d`.
pub(crate) fn rough(duration: DurationMs) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = duration.as_ms();
    let unit = UNITS.iter().find(|(unit, _)| ms >= *unit);
    unit.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// How a time lies to now: `3m ago`, `in 12s`.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    match time > now {
        true => format!("in {}", rough(time.since(now))),
        false => format!("{} ago", rough(now.since(time))),
    }
}

/// A time as the server gave it; the start of 1970 if it cannot be read.
pub(crate) fn given(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::EPOCH)
}

/// A time for people, in UTC.
pub(crate) fn readable(time: Timestamp) -> String {
    time.to_string().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_told_in_their_largest_unit() {
        let told = |ms| rough(DurationMs::from_ms(ms));
        assert_eq!([told(0), told(999), told(59_999), told(60_000)], ["0ms", "999ms", "59s", "1m"]);
        assert_eq!([told(7_200_000), told(86_400_000 * 9)], ["2h", "9d"]);
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = given("2026-11-21T10:00:00Z");
        assert_eq!("1h".parse::<Moment>().unwrap().before(now), given("2026-11-21T09:00:00Z"));
        assert_eq!(
            "2026-11-20T00:00:00Z".parse::<Moment>().unwrap().before(now),
            given("2026-11-20T00:00:00Z")
        );
        assert!("yesterday".parse::<Moment>().is_err());
        assert_eq!(relative(given("2026-11-21T10:00:12Z"), now), "in 12s");
        assert_eq!(relative(given("2026-11-21T09:57:00Z"), now), "3m ago");
    }
}
