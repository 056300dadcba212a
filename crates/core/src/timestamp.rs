//! Points in time, in RFC 3339 at the edge and as unix milliseconds within.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::DurationMs;

/// A point in time, in whole unix milliseconds of the years 1970 to 9999.
///
/// As text and in JSON: RFC 3339, read with any offset and fraction (what is finer than a millisecond is
/// cut off, a leap second is the second before it), written in UTC with milliseconds.
///
/// ```
/// # use onefold_core::Timestamp;
/// let time: Timestamp = "2026-11-21T10:30:00.1239+01:00".parse()?;
/// assert_eq!(time.to_string(), "2026-11-21T09:30:00.123Z");
/// # Ok::<(), onefold_core::InvalidTimestamp>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a time was refused. The sentence shows a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTimestamp {
    /// Not the form of RFC 3339.
    #[error("a time is RFC 3339 with an offset: write it like \"2026-11-21T09:30:00Z\"")]
    Form,
    /// No such day, hour or offset.
    #[error("there is no such date or time of day: write it like \"2026-11-21T09:30:00Z\"")]
    Calendar,
    /// Not in the years 1970 to 9999.
    #[error("a time must lie in the years 1970 to 9999 in UTC: write it like \"2026-11-21T09:30:00Z\"")]
    Range,
}

const DAY_MS: u64 = 86_400_000;
const UNIX_EPOCH: DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

impl Timestamp {
    /// The start of 1970.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The last millisecond of 9999.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);
    /// Bytes of its text.
    pub const TEXT_LEN: usize = 24;

    /// `ms` milliseconds after the start of 1970; `None` before it or after [`Timestamp::MAX`].
    pub const fn from_unix_ms(ms: i64) -> Option<Timestamp> {
        if 0 <= ms && ms <= Timestamp::MAX.0 { Some(Timestamp(ms)) } else { None }
    }

    /// In milliseconds since the start of 1970.
    pub const fn as_unix_ms(self) -> i64 {
        self.0
    }

    /// `duration` later, at most [`Timestamp::MAX`].
    pub fn saturating_add(self, duration: DurationMs) -> Timestamp {
        Timestamp(self.0.saturating_add_unsigned(duration.as_ms())).min(Timestamp::MAX)
    }

    /// `duration` earlier, at least [`Timestamp::EPOCH`].
    pub fn saturating_sub(self, duration: DurationMs) -> Timestamp {
        Timestamp(self.0.saturating_sub_unsigned(duration.as_ms())).max(Timestamp::EPOCH)
    }

    /// The time from `earlier` until now, `self`: none if that is not earlier, at most [`DurationMs::MAX`].
    pub fn since(self, earlier: Timestamp) -> DurationMs {
        DurationMs::from_ms(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// Its text, without allocation.
    pub fn text(self, buffer: &mut [u8; Timestamp::TEXT_LEN]) -> &str {
        let ms = self.0.unsigned_abs();
        let (year, month, day) = civil(ms / DAY_MS);
        let [y, o, d] = [year / 100, year % 100, day].map(two_digits);
        let in_day = ms % DAY_MS;
        let [h, m, s] = [in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60].map(two_digits);
        let [c, t] = [in_day % 1000 / 10, in_day % 10].map(two_digits);
        let n = two_digits(month);
        #[rustfmt::skip]
        let text = [
            y[0], y[1], o[0], o[1], b'-', n[0], n[1], b'-', d[0], d[1], b'T',
            h[0], h[1], b':', m[0], m[1], b':', s[0], s[1], b'.', c[0], c[1], t[1], b'Z',
        ];
        *buffer = text;
        // Digits are ASCII.
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

/// The two lowest decimal digits of `number`.
fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Year, month and day of a day counted from 1970: `civil_from_days` of Howard Hinnant, "chrono-compatible
/// low-level date algorithms", whose years start in March so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        let form = InvalidTimestamp::Form;
        let (date_time, rest) = text.as_bytes().split_at_checked(19).ok_or(form)?;
        let &[a, b, c, d, b'-', e, f, b'-', g, h, b'T' | b't', i, j, b':', k, l, b':', m, n] = date_time
        else {
            return Err(form);
        };
        let [century, year, month, day] = [[a, b], [c, d], [e, f], [g, h]].map(number);
        let [hour, minute, second] = [[i, j], [k, l], [m, n]].map(number);
        let year = i16::from(century.ok_or(form)?) * 100 + i16::from(year.ok_or(form)?);
        let second = match second.ok_or(form)? {
            60 => 59,
            second => second,
        };
        let (fraction_ms, offset) = split_fraction(rest)?;
        let offset_ms = offset_minutes(offset)? * 60_000;
        let local = DateTime::new(
            year,
            month.ok_or(form)?,
            day.ok_or(form)?,
            hour.ok_or(form)?,
            minute.ok_or(form)?,
            second,
            0,
        )
        .map_err(|_| InvalidTimestamp::Calendar)?;
        let local_ms = local.duration_since(UNIX_EPOCH).as_secs() * 1000 + fraction_ms;
        Timestamp::from_unix_ms(local_ms - offset_ms).ok_or(InvalidTimestamp::Range)
    }
}

fn number(digits: [u8; 2]) -> Option<i8> {
    let [tens, ones] = digits.map(|digit| digit.is_ascii_digit().then_some((digit & 15) as i8));
    Some(tens? * 10 + ones?)
}

/// Milliseconds of the fraction that `text` may start with, and what follows.
fn split_fraction(text: &[u8]) -> Result<(i64, &[u8]), InvalidTimestamp> {
    let Some((b'.', after)) = text.split_first() else { return Ok((0, text)) };
    let length = after.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(after.len());
    if length == 0 {
        return Err(InvalidTimestamp::Form);
    }
    let (digits, rest) = after.split_at(length);
    let padded = digits.iter().chain(b"000").take(3);
    Ok((padded.fold(0, |ms, digit| ms * 10 + i64::from(digit & 15)), rest))
}

/// Minutes east of UTC.
fn offset_minutes(text: &[u8]) -> Result<i64, InvalidTimestamp> {
    let (sign, hours, minutes) = match *text {
        [b'Z' | b'z'] => return Ok(0),
        [b'+', a, b, b':', c, d] => (1, [a, b], [c, d]),
        [b'-', a, b, b':', c, d] => (-1, [a, b], [c, d]),
        _ => return Err(InvalidTimestamp::Form),
    };
    match (number(hours), number(minutes)) {
        (Some(hours @ ..24), Some(minutes @ ..60)) => Ok(sign * (i64::from(hours) * 60 + i64::from(minutes))),
        (Some(_), Some(_)) => Err(InvalidTimestamp::Calendar),
        (None, _) | (_, None) => Err(InvalidTimestamp::Form),
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; Timestamp::TEXT_LEN]))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; Timestamp::TEXT_LEN]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time like \"2026-11-21T09:30:00Z\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(text: &str) -> Result<i64, InvalidTimestamp> {
        text.parse().map(Timestamp::as_unix_ms)
    }

    fn shown(ms: i64) -> String {
        Timestamp::from_unix_ms(ms).unwrap().to_string()
    }

    #[test]
    fn rfc_3339_is_read_with_any_offset_and_fraction() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("2026-11-21T09:30:00.123Z", 1_795_253_400_123),
            ("2026-11-21T09:30:00.1Z", 1_795_253_400_100),
            ("2026-11-21T09:30:00.123999999999999Z", 1_795_253_400_123),
            ("2026-11-21T10:30:00+01:00", 1_795_253_400_000),
            ("2026-11-21T03:00:00.5-06:30", 1_795_253_400_500),
            ("2026-11-21T09:30:00-00:00", 1_795_253_400_000),
            ("1970-01-01T23:59:00+23:59", 0),
            ("1969-12-31T23:00:00-01:00", 0),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_reason() {
        use InvalidTimestamp::*;
        for (text, expected) in [
            ("", Form),
            ("2026-11-21", Form),
            ("2026-11-21T09:30:00", Form),
            ("2026-11-21T09:30Z", Form),
            ("2026-11-21 09:30:00Z", Form),
            (" 2026-11-21T09:30:00Z", Form),
            ("2026-11-21T09:30:00Z ", Form),
            ("2026-11-21T09:30:00.Z", Form),
            ("2026-11-21T09:30:00,5Z", Form),
            ("2026-11-21T09:30:00+01", Form),
            ("2026-11-21T09:30:00+0100", Form),
            ("2026-11-21T09:30:00+1:000", Form),
            ("2026-11-21T09:30:00Z[UTC]", Form),
            ("20261121T093000Z", Form),
            ("+002026-11-21T09:30:00Z", Form),
            ("2026-1a-21T09:30:00Z", Form),
            ("٢٠٢٦-11-21T09:30:00Z", Form),
            ("1795253400", Form),
            ("2026-02-29T00:00:00Z", Calendar),
            ("2026-13-01T00:00:00Z", Calendar),
            ("2026-00-10T00:00:00Z", Calendar),
            ("2026-04-31T00:00:00Z", Calendar),
            ("2026-11-21T24:00:00Z", Calendar),
            ("2026-11-21T09:60:00Z", Calendar),
            ("2026-11-21T09:30:61Z", Calendar),
            ("2026-11-21T09:30:00+24:00", Calendar),
            ("2026-11-21T09:30:00+00:60", Calendar),
            ("1969-12-31T23:59:59.999Z", Range),
            ("1970-01-01T00:00:00+00:01", Range),
            ("9999-12-31T23:59:59-00:01", Range),
            ("0000-01-01T00:00:00Z", Range),
        ] {
            assert_eq!(ms(text), Err(expected), "{text}");
            assert!(expected.to_string().contains("2026-11-21T09:30:00Z"));
        }
    }

    #[test]
    fn it_is_written_in_utc_with_milliseconds() {
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(1_795_253_400_123), "2026-11-21T09:30:00.123Z");
        assert_eq!(shown(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(shown(Timestamp::MAX.as_unix_ms()), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn json_is_its_text() {
        let time = Timestamp::from_unix_ms(1_795_253_400_123).unwrap();
        let json = "\"2026-11-21T09:30:00.123Z\"";
        assert_eq!(serde_json::to_string(&time).unwrap(), json);
        assert_eq!(serde_json::from_str::<Timestamp>(json).unwrap(), time);
        for bad in ["1795253400123", "null", "\"now\"", "1.5"] {
            let error = serde_json::from_str::<Timestamp>(bad).unwrap_err().to_string();
            assert!(error.contains("2026-11-21T09:30:00Z"), "{bad}: {error}");
        }
    }

    #[test]
    fn arithmetic_stays_within_bounds() {
        let (first, last) = (Timestamp::EPOCH, Timestamp::MAX);
        let second = DurationMs::from_ms(1000);
        assert_eq!(first.saturating_add(second).as_unix_ms(), 1000);
        assert_eq!(first.saturating_add(second).saturating_sub(second), first);
        assert_eq!(first.saturating_sub(second), first);
        assert_eq!(last.saturating_add(second), last);
        assert_eq!(first.saturating_add(second).since(first), second);
        assert_eq!(first.since(last), DurationMs::ZERO);
        assert_eq!(last.since(first), DurationMs::MAX);
        assert_eq!(Timestamp::from_unix_ms(-1), None);
        assert_eq!(Timestamp::from_unix_ms(last.as_unix_ms() + 1), None);
        assert_eq!(Timestamp::from_unix_ms(last.as_unix_ms()), Some(last));
    }

    /// The day arithmetic is our own, so every day of the range is compared with jiff's.
    #[test]
    fn every_day_is_the_one_jiff_says() {
        let mut date = UNIX_EPOCH.date();
        let mut days = 0;
        loop {
            let (year, month, day) = civil(days);
            let expected = (date.year() as u64, date.month() as u64, date.day() as u64);
            assert_eq!((year, month, day), expected, "day {days}");
            let Ok(next) = date.tomorrow() else { break };
            (date, days) = (next, days + 1);
        }
        assert_eq!(days, Timestamp::MAX.as_unix_ms() as u64 / DAY_MS);
    }

    proptest! {
        #[test]
        fn every_time_survives_its_text_and_reads_as_jiff_reads_it(ms in 0..=253_402_000_000_000_i64, offset in -1439..1440_i64) {
            let time = Timestamp::from_unix_ms(ms).unwrap();
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            let theirs: jiff::Timestamp = time.to_string().parse().unwrap();
            prop_assert_eq!(theirs.as_millisecond(), ms);
            let local = shown((ms + offset * 60_000).max(0));
            let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
            let sign = if offset < 0 { '-' } else { '+' };
            let there = format!("{}{sign}{hours:02}:{minutes:02}", local.trim_end_matches('Z'));
            let theirs: jiff::Timestamp = there.parse().unwrap();
            prop_assert_eq!(self::ms(&there).ok(), Some(theirs.as_millisecond()).filter(|ms| *ms >= 0));
        }

        /// Whatever we accept, jiff reads as the same time; it accepts more than RFC 3339.
        #[test]
        fn broken_times_are_refused_or_read_as_jiff_reads_them(
            ms in 0..4_000_000_000_000_i64, at in 0..24_usize, with in prop_oneof!["[0-9:TZ.+-]", "\\PC"]
        ) {
            let mut text = shown(ms);
            text.replace_range(at..=at, &with);
            if let Ok(ours) = text.parse::<Timestamp>() {
                let theirs: jiff::Timestamp = text.parse().unwrap();
                prop_assert_eq!(theirs.as_millisecond(), ours.as_unix_ms(), "{}", text);
            }
        }
    }
}
