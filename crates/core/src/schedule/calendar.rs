//! Local time as a calendar: what a clock on a wall shows, whatever its zone.

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

/// What a clock on a wall shows, as the seconds since it showed the start of 1970 if nobody ever set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Local(i64);

/// A point in time, in whole unix seconds: where an offset turns a [`Local`] to and from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unix(pub(super) i64);

impl Unix {
    pub(super) fn plus(self, seconds: i64) -> Unix {
        Unix(self.0 + seconds)
    }

    pub(super) fn local(self, offset: Offset) -> Local {
        Local(self.0 + i64::from(offset.seconds()))
    }

    /// `None` beyond what jiff counts, of which the last day of 9999 is a part.
    pub(super) fn jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(self.0).ok()
    }
}

impl Local {
    pub(super) fn unix(self, offset: Offset) -> Unix {
        Unix(self.0 - i64::from(offset.seconds()))
    }

    /// The time at which a clock behind or ahead of UTC by `seconds` shows it.
    pub(super) fn unix_by(self, seconds: i64) -> Unix {
        Unix(self.0 - seconds)
    }

    pub(super) fn plus(self, seconds: i64) -> Local {
        Local(self.0 + seconds)
    }

    /// The first whole minute from here on.
    fn ceil_to_minute(self) -> Local {
        Local(self.0.div_euclid(60) * 60 + if self.0.rem_euclid(60) == 0 { 0 } else { 60 })
    }

    /// Date and time of day; seconds are cut off. `None` outside of what jiff counts.
    fn date_time(self) -> Option<DateTime> {
        Some(Offset::UTC.to_datetime(Unix(self.0).jiff()?))
    }

    fn at(date: Date, hour: u32, minute: u32) -> Option<Local> {
        let midnight = date.at(0, 0, 0, 0);
        let seconds = Offset::UTC.to_timestamp(midnight).ok()?.as_second();
        Some(Local(seconds + i64::from(hour) * 3600 + i64::from(minute) * 60))
    }
}

/// The dates and times of day a cron expression matches, as sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Calendar {
    /// Bits 0 to 59. Never empty, and neither are the others.
    pub(super) minutes: u64,
    /// Bits 0 to 23.
    pub(super) hours: u64,
    /// Bits 1 to 12.
    pub(super) months: u64,
    pub(super) days: MonthDays,
}

/// The days that match, bits 1 to 31, of every form a month can have: of 28 to 31 days, its first a Sunday
/// to Saturday. `L`, `W`, `#` and weekdays come down to this.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MonthDays([[u32; 7]; 4]);

impl MonthDays {
    /// `days(length, weekday of the first)`, weekdays from 0 for Sunday.
    pub(super) fn new(days: impl Fn(u32, u32) -> u32) -> MonthDays {
        let form = |length| std::array::from_fn(|first| days(length, first as u32));
        MonthDays([form(28), form(29), form(30), form(31)])
    }

    /// Those of the month `date` is in.
    fn of(&self, date: Date) -> u64 {
        let length = (date.days_in_month() - 28).unsigned_abs() as usize;
        let first = date.first_of_month().weekday().to_sunday_zero_offset().unsigned_abs() as usize;
        u64::from(self.0.get(length).and_then(|forms| forms.get(first)).copied().unwrap_or(0))
    }
}

impl Calendar {
    /// Whether there is a date at all. Every month begins on every weekday within the 400 years after which the
    /// calendar repeats, so that looking at the forms of the months is enough.
    pub(super) fn has_dates(&self) -> bool {
        let MonthDays([of_28, of_29, of_30, of_31]) = &self.days;
        let any = |forms: &[u32; 7]| forms.iter().any(|days| *days != 0);
        bits(self.months).any(|month| match month {
            2 => any(of_28) || any(of_29),
            4 | 6 | 9 | 11 => any(of_30),
            _ => any(of_31),
        })
    }

    /// The first match at `from` or later.
    pub(super) fn next(&self, from: Local) -> Option<Local> {
        let from = from.ceil_to_minute().date_time()?;
        let (hour, minute) = time_of_day(from);
        let today = if self.has_day(from.date()) { self.time_at_or_after(hour, minute) } else { None };
        match today {
            Some((hour, minute)) => Local::at(from.date(), hour, minute),
            None => {
                let (hour, minute) = self.time_at_or_after(0, 0)?;
                Local::at(self.next_date(from.date())?, hour, minute)
            }
        }
    }

    /// The last match at `from` or earlier.
    pub(super) fn previous(&self, from: Local) -> Option<Local> {
        let from = from.date_time()?;
        let (hour, minute) = time_of_day(from);
        let today = if self.has_day(from.date()) { self.time_at_or_before(hour, minute) } else { None };
        match today {
            Some((hour, minute)) => Local::at(from.date(), hour, minute),
            None => {
                let (hour, minute) = self.time_at_or_before(23, 59)?;
                Local::at(self.previous_date(from.date())?, hour, minute)
            }
        }
    }

    fn time_at_or_after(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        let within_hour = if has(self.hours, hour) { at_or_after(self.minutes, minute) } else { None };
        match within_hour {
            Some(minute) => Some((hour, minute)),
            None => Some((at_or_after(self.hours, hour + 1)?, at_or_after(self.minutes, 0)?)),
        }
    }

    fn time_at_or_before(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        let within_hour = if has(self.hours, hour) { at_or_before(self.minutes, minute) } else { None };
        match within_hour {
            Some(minute) => Some((hour, minute)),
            None => Some((at_or_before(self.hours, hour.checked_sub(1)?)?, at_or_before(self.minutes, 59)?)),
        }
    }

    fn has_day(&self, date: Date) -> bool {
        has(self.in_month(date), date.day().unsigned_abs().into())
    }

    /// Days of the month `date` is in; none if that month is not in the pattern.
    fn in_month(&self, date: Date) -> u64 {
        if has(self.months, date.month().unsigned_abs().into()) { self.days.of(date) } else { 0 }
    }

    /// The first date after `date`. The rarest there are, a 29 February that must be a certain weekday, are at most 40
    /// years apart, so that no more than 41 × 12 months are looked at.
    fn next_date(&self, date: Date) -> Option<Date> {
        if let Some(day) = at_or_after(self.in_month(date), u32::from(date.day().unsigned_abs()) + 1) {
            return on(date, day);
        }
        let mut first = date.first_of_month();
        loop {
            let (year, month) = match at_or_after(self.months, u32::from(first.month().unsigned_abs()) + 1) {
                Some(month) => (first.year(), month),
                None => (first.year().checked_add(1)?, at_or_after(self.months, 1)?),
            };
            first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
            if let Some(day) = at_or_after(self.in_month(first), 1) {
                return on(first, day);
            }
        }
    }

    /// The last date before `date`.
    fn previous_date(&self, date: Date) -> Option<Date> {
        if let Some(day) = at_or_before(self.in_month(date), u32::from(date.day().unsigned_abs()) - 1) {
            return on(date, day);
        }
        let mut first = date.first_of_month();
        loop {
            let (year, month) = match at_or_before(self.months, u32::from(first.month().unsigned_abs()) - 1) {
                Some(month) => (first.year(), month),
                None => (first.year().checked_sub(1)?, at_or_before(self.months, 12)?),
            };
            first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
            if let Some(day) = at_or_before(self.in_month(first), 31) {
                return on(first, day);
            }
        }
    }
}

/// Hour and minute.
fn time_of_day(at: DateTime) -> (u32, u32) {
    (at.hour().unsigned_abs().into(), at.minute().unsigned_abs().into())
}

/// That day of the month `date` is in.
fn on(date: Date, day: u32) -> Option<Date> {
    Date::new(date.year(), date.month(), i8::try_from(day).ok()?).ok()
}

/// The members of a set, in order.
pub(super) fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |member| has(set, *member))
}

fn has(set: u64, member: u32) -> bool {
    set & (1 << member) != 0
}

/// The smallest member of `set` from `least` on. `least` is at most 63.
fn at_or_after(set: u64, least: u32) -> Option<u32> {
    let rest = set & (u64::MAX << least);
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The largest member of `set` up to `most`, which is at most 63.
fn at_or_before(set: u64, most: u32) -> Option<u32> {
    let rest = set & (u64::MAX >> (63 - most));
    rest.checked_ilog2()
}
