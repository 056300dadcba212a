//! Lengths of time as callers write them: `"1h30m"`, `"250ms"`, or a number of milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A length of time in whole milliseconds, from 0 to [`DurationMs::MAX`].
///
/// As text: numbers with the units `w d h m s ms`, largest first, each at most once, without spaces.
/// A number may have a fraction that comes out in whole milliseconds: `1.5s`, but not `0.5ms`.
///
/// In JSON it is written as that text, and read from it or from an integer of milliseconds.
///
/// ```
/// # use onefold_core::DurationMs;
/// let duration: DurationMs = "1h30m".parse()?;
/// assert_eq!((duration.as_ms(), duration.to_string()), (5_400_000, "1h30m".to_owned()));
/// # Ok::<(), onefold_core::InvalidDuration>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationMs(u64);

/// Why a duration was refused. The sentence shows a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidDuration {
    /// Nothing at all.
    #[error("a duration must not be empty: write it like \"1h30m\" or \"250ms\", or as milliseconds")]
    Empty,
    /// Below zero.
    #[error("a duration must not be negative: write it like \"1h30m\", or 0 for none")]
    Negative,
    /// Something else where a number must stand.
    #[error("a duration is made of numbers and units without spaces: write it like \"1h30m\" or \"1.5s\"")]
    ExpectedNumber,
    /// A number without a unit.
    #[error("every number of a duration needs a unit, w d h m s or ms: write it like \"1h30m\"")]
    MissingUnit,
    /// Not one of `w d h m s ms`.
    #[error("the units of a duration are w d h m s ms, without spaces: write it like \"1h30m\" or \"250ms\"")]
    UnknownUnit,
    /// A unit twice, or after a smaller one.
    #[error("the units of a duration go from large to small, each once: write it like \"1h30m\"")]
    UnitOrder,
    /// Not a whole number of milliseconds.
    #[error("a duration must come out in whole milliseconds: write it like \"1.5s\" or \"250ms\"")]
    FinerThanMs,
    /// More than [`DurationMs::MAX`].
    #[error("a duration is at most 10 years: write \"3650d\" or less")]
    TooLong,
}

/// Units from large to small, in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl DurationMs {
    /// None.
    pub const ZERO: DurationMs = DurationMs(0);
    /// The longest: ten years of 365 days.
    pub const MAX: DurationMs = DurationMs(10 * 365 * 86_400_000);

    /// `ms` milliseconds, or [`DurationMs::MAX`] if that is less: for values of our own. What a caller
    /// gave goes through [`DurationMs::try_from_ms`].
    pub const fn from_ms(ms: u64) -> DurationMs {
        if ms < DurationMs::MAX.0 { DurationMs(ms) } else { DurationMs::MAX }
    }

    /// `ms` milliseconds.
    ///
    /// # Errors
    /// [`InvalidDuration::TooLong`] above [`DurationMs::MAX`].
    pub const fn try_from_ms(ms: u64) -> Result<DurationMs, InvalidDuration> {
        if ms > DurationMs::MAX.0 { Err(InvalidDuration::TooLong) } else { Ok(DurationMs(ms)) }
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Whether it is none.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, at most [`DurationMs::MAX`].
    pub const fn saturating_add(self, other: DurationMs) -> DurationMs {
        DurationMs::from_ms(self.0.saturating_add(other.0))
    }

    /// The difference, at least none.
    pub const fn saturating_sub(self, other: DurationMs) -> DurationMs {
        DurationMs(self.0.saturating_sub(other.0))
    }
}

impl From<DurationMs> for std::time::Duration {
    fn from(duration: DurationMs) -> std::time::Duration {
        std::time::Duration::from_millis(duration.0)
    }
}

impl FromStr for DurationMs {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<DurationMs, InvalidDuration> {
        if text.is_empty() {
            return Err(InvalidDuration::Empty);
        }
        if text.starts_with('-') {
            return Err(InvalidDuration::Negative);
        }
        let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest)?;
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_digits(after)?,
                None => ("", after),
            };
            let (name, after) =
                after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
            // Looking only among the smaller units that are left keeps them in order and unique.
            let unit = units.find(|unit| unit.0 == name).ok_or_else(|| bad_unit(name))?.1;
            let part = whole_ms(whole, unit)?.saturating_add(fraction_ms(fraction, unit)?);
            total = total.saturating_add(part);
            rest = after;
        }
        DurationMs::try_from_ms(total)
    }
}

/// The digits `text` starts with, of which there must be one, and what follows.
fn split_digits(text: &str) -> Result<(&str, &str), InvalidDuration> {
    match text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())) {
        ("", _) => Err(InvalidDuration::ExpectedNumber),
        split => Ok(split),
    }
}

fn bad_unit(name: &str) -> InvalidDuration {
    match name {
        "" => InvalidDuration::MissingUnit,
        known if UNITS.iter().any(|unit| unit.0 == known) => InvalidDuration::UnitOrder,
        _ => InvalidDuration::UnknownUnit,
    }
}

fn whole_ms(digits: &str, unit: u64) -> Result<u64, InvalidDuration> {
    let count: Option<u64> = digits.parse().ok();
    count.and_then(|count| count.checked_mul(unit)).ok_or(InvalidDuration::TooLong)
}

/// Milliseconds of `0.digits` units.
fn fraction_ms(digits: &str, unit: u64) -> Result<u64, InvalidDuration> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // Every unit divides 2^10 × 5^5 × 189, so that no longer fraction comes out even.
    if digits.len() > 10 {
        return Err(InvalidDuration::FinerThanMs);
    }
    let scale = 10_u64.pow(digits.len() as u32);
    let scaled: u64 = digits.parse::<u64>().map_err(|_| InvalidDuration::FinerThanMs)? * unit;
    if scaled.is_multiple_of(scale) { Ok(scaled / scale) } else { Err(InvalidDuration::FinerThanMs) }
}

impl fmt::Display for DurationMs {
    /// Days are the largest unit: a week is `7d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (name, unit) in &UNITS[1..] {
            let count = left / unit;
            left %= unit;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for DurationMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DurationMs, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = DurationMs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"1h30m\" or \"250ms\", or a whole number of milliseconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationMs, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<DurationMs, E> {
                DurationMs::try_from_ms(ms).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<DurationMs, E> {
                self.visit_u64(u64::try_from(ms).map_err(|_| E::custom(InvalidDuration::Negative))?)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: u64 = 365 * 86_400_000;

    fn ms(text: &str) -> Result<u64, InvalidDuration> {
        text.parse().map(DurationMs::as_ms)
    }

    #[test]
    fn units_add_up() {
        for (text, expected) in [
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("0s", 0),
            ("0w0ms", 0),
            ("1w1d1h1m1s1ms", 694_861_001),
            ("90m", 5_400_000),
            ("007s", 7000),
            ("1.5s", 1500),
            ("0.001s", 1),
            ("1.0ms", 1),
            ("0.25h0.5m", 930_000),
            ("1.50000000000000000000s", 1500),
            ("0.0009765625w", 590_625),
            ("3650d", 10 * YEAR),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        use InvalidDuration::*;
        for (text, expected) in [
            ("", Empty),
            ("-1s", Negative),
            ("-", Negative),
            ("+1s", ExpectedNumber),
            (" 1s", ExpectedNumber),
            ("1s ", UnknownUnit),
            ("1h 30m", UnknownUnit),
            ("1 h", UnknownUnit),
            ("h", ExpectedNumber),
            (".5s", ExpectedNumber),
            ("1.s", ExpectedNumber),
            ("1.5.5s", UnknownUnit),
            ("1,5s", UnknownUnit),
            ("5", MissingUnit),
            ("0", MissingUnit),
            ("1h30", MissingUnit),
            ("5y", UnknownUnit),
            ("5µs", UnknownUnit),
            ("5H", UnknownUnit),
            ("5sec", UnknownUnit),
            ("1e3s", UnknownUnit),
            ("٣s", ExpectedNumber),
            ("1٣s", UnknownUnit),
            ("30m1h", UnitOrder),
            ("1h1h", UnitOrder),
            ("1ms1s", UnitOrder),
            ("0.5ms", FinerThanMs),
            ("0.0001s", FinerThanMs),
            ("0.00000000001w", FinerThanMs),
            ("0.123456789012345678901234567890w", FinerThanMs),
            ("3651d", TooLong),
            ("3650d1ms", TooLong),
            ("18446744073709551615ms", TooLong),
            ("18446744073709551616ms", TooLong),
            ("99999999999999999999999999w", TooLong),
            ("30500568905w30500568905d", TooLong),
        ] {
            assert_eq!(ms(text), Err(expected), "{text}");
            assert!(expected.to_string().contains("write "), "{expected}");
        }
        assert!(ms(&"9".repeat(100_000)).is_err());
    }

    #[test]
    fn json_is_text_or_whole_milliseconds() {
        let read = |json: &str| serde_json::from_str::<DurationMs>(json).map(DurationMs::as_ms);
        assert_eq!(read("\"1h30m\"").unwrap(), 5_400_000);
        assert_eq!(read("1500").unwrap(), 1500);
        assert_eq!(read("0").unwrap(), 0);
        for bad in [
            "-1",
            "1.0",
            "1e3",
            "\"1500\"",
            "315360000001",
            "99999999999999999999",
            "null",
            "true",
            "[1]",
            "{}",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("\"1h30m\"") || error.contains("\"3650d\""), "{bad}: {error}");
        }
        assert_eq!(serde_json::to_string(&DurationMs::from_ms(5_400_000)).unwrap(), "\"1h30m\"");
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        for text in ["0s", "1ms", "1h30m", "7d", "1d1h1m1s1ms", "999ms", "3650d"] {
            assert_eq!(text.parse::<DurationMs>().unwrap().to_string(), text);
        }
        assert_eq!("1w".parse::<DurationMs>().unwrap().to_string(), "7d");
        assert_eq!("1.5s".parse::<DurationMs>().unwrap().to_string(), "1s500ms");
    }

    #[test]
    fn arithmetic_stays_within_bounds() {
        let (one, max) = (DurationMs::from_ms(1), DurationMs::MAX);
        assert_eq!(DurationMs::from_ms(10 * YEAR), max);
        assert_eq!(DurationMs::from_ms(u64::MAX), max);
        assert_eq!(DurationMs::try_from_ms(10 * YEAR), Ok(max));
        assert_eq!(DurationMs::try_from_ms(10 * YEAR + 1), Err(InvalidDuration::TooLong));
        assert_eq!(max.saturating_add(one), max);
        assert_eq!(DurationMs::ZERO.saturating_sub(one), DurationMs::ZERO);
        assert_eq!(std::time::Duration::from(one), std::time::Duration::from_millis(1));
    }

    proptest! {
        #[test]
        fn every_duration_survives_its_text(ms in prop_oneof![0..=10 * YEAR, 0..200_000_u64]) {
            let duration = DurationMs::from_ms(ms);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let json = serde_json::to_string(&duration).unwrap();
            prop_assert_eq!(serde_json::from_str::<DurationMs>(&json).unwrap(), duration);
        }

        #[test]
        fn any_text_is_accepted_or_refused(text in "(\\PC{0,8}|[0-9.wdhms -]{0,12})") {
            if let Ok(duration) = text.parse::<DurationMs>() {
                prop_assert!(duration <= DurationMs::MAX);
            }
        }
    }
}
