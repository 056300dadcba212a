//! The text of cron expressions.
//!
//! ```text
//! expression = nickname | minute hour day-of-month month day-of-week
//! field      = item { "," item }
//! item       = ( "*" | value [ "-" value ] ) [ "/" step ]
//! item       = "L" [ "-" days ] | "LW" | day "W"       in day-of-month
//! item       = weekday "L" | weekday "#" 1-5           in day-of-week
//! field      = "?"                                     in day-of-month and day-of-week, the same as "*"
//! ```

use std::fmt;

use thiserror::Error;

use super::calendar::{Calendar, MonthDays, bits};
use super::cron::Cron;

/// A field of a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The first.
    Minute,
    /// The second.
    Hour,
    /// The third.
    DayOfMonth,
    /// The fourth.
    Month,
    /// The fifth.
    DayOfWeek,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Field {
    /// First and last value. Sunday is 0, and 7 too.
    const fn bounds(self) -> (u8, u8) {
        match self {
            Field::Minute => (0, 59),
            Field::Hour => (0, 23),
            Field::DayOfMonth => (1, 31),
            Field::Month => (1, 12),
            Field::DayOfWeek => (0, 7),
        }
    }

    /// The last value of `*`.
    const fn last(self) -> u8 {
        match self {
            Field::DayOfWeek => 6,
            other => other.bounds().1,
        }
    }

    /// The longest step after which there is still a second value.
    const fn step_max(self) -> u8 {
        self.last() - self.bounds().0
    }

    const fn takes(self) -> &'static str {
        match self {
            Field::Minute => "0-59, as in 30, 0,15,30,45 or */15",
            Field::Hour => "0-23, as in 9, 8-18 or */2",
            Field::DayOfMonth => "1-31, L (the last day), L-3, LW or 15W, as in 1,15",
            Field::Month => "1-12 or jan-dec, as in 3,6,9,12 or */3",
            Field::DayOfWeek => "0-7 or sun-sat, as in mon-fri, friL (the last one) or mon#2 (the second)",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day-of-month",
            Field::Month => "month",
            Field::DayOfWeek => "day-of-week",
        })
    }
}

/// Why a cron expression was refused. Places are counted in bytes, from 1. The sentence says what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidCron {
    /// Longer than [`Cron::LENGTH_MAX`].
    #[error("a cron expression has at most {max} bytes: use ranges and steps, or several schedules", max = Cron::LENGTH_MAX)]
    TooLong,
    /// Not five fields, and no nickname.
    #[error(
        "a cron expression has five fields, minute hour day-of-month month day-of-week, like \"30 2 * * mon-fri\", not \
         {found}; for seconds use an interval, like \"90s\""
    )]
    FieldCount {
        /// How many fields there are.
        found: usize,
    },
    /// An `@` and something unknown.
    #[error(
        "write @yearly, @monthly, @weekly, @daily or @hourly, or five fields; instead of @every use an interval, and for \
         @reboot there is nothing"
    )]
    UnknownNickname,
    /// An item that does not belong into its field.
    #[error("character {at}: not a {field}: write {takes}", takes = field.takes())]
    Item {
        /// The field.
        field: Field,
        /// Where the item begins.
        at: usize,
    },
    /// A range from a larger to a smaller value.
    #[error(
        "character {at}: a range of the {field} goes from small to large: write \"5-7,1\" instead of \"5-1\""
    )]
    RangeOrder {
        /// The field.
        field: Field,
        /// Where the item begins.
        at: usize,
    },
    /// A step of nothing, or one that never gets to a second value, such as `*/90` in minutes.
    #[error(
        "character {at}: a step of the {field} is 1 to {max}; for another rhythm, such as every 90 minutes, use an \
         interval, like \"90m\"",
        max = field.step_max()
    )]
    Step {
        /// The field.
        field: Field,
        /// Where the item begins.
        at: usize,
    },
    /// There is no such date.
    #[error(
        "no date matches: none of these months ever has such a day, as in 30 February; for the last day of a month \
         write L"
    )]
    NoSuchDate,
}

/// The values of a field, and how they were written.
struct Values {
    set: u64,
    /// It begins with `*` or `?`: what Vixie cron calls unrestricted.
    starred: bool,
    /// It has a `*` or a step, or names every value there is.
    repeating: bool,
}

/// What day-of-month and day-of-week have beyond plain values.
#[derive(Default)]
struct Special {
    /// `L-n`: bit n.
    before_last: u32,
    /// `nW`: bit n.
    near: u32,
    /// `LW`.
    last_workday: bool,
    /// `xL`: bit x.
    last: u64,
    /// `x#n`: bit x of entry n − 1.
    nth: [u64; 5],
}

pub(super) fn parse(text: &str) -> Result<Cron, InvalidCron> {
    if text.len() > Cron::LENGTH_MAX {
        return Err(InvalidCron::TooLong);
    }
    let text = text.trim_ascii();
    let written = if text.starts_with('@') { nickname(text)? } else { text };
    let fields: Vec<&str> = written.split_ascii_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(InvalidCron::FieldCount { found: fields.len() });
    };
    // Fields are parts of what was written.
    let at = |field: &str| field.as_ptr().addr() - written.as_ptr().addr() + 1;
    let mut special = Special::default();
    let minutes = values(Field::Minute, minute, at(minute), &mut special)?;
    let hours = values(Field::Hour, hour, at(hour), &mut special)?;
    let days = values(Field::DayOfMonth, day, at(day), &mut special)?;
    let months = values(Field::Month, month, at(month), &mut special)?;
    let weekdays = values(Field::DayOfWeek, weekday, at(weekday), &mut special)?;

    let calendar = Calendar {
        minutes: minutes.set,
        hours: hours.set,
        months: months.set,
        days: MonthDays::new(|length, first| {
            let by_day = special.by_day(days.set, length, first);
            let by_weekday = special.by_weekday(weekdays.set, length, first);
            if days.starred || weekdays.starred { by_day & by_weekday } else { by_day | by_weekday }
        }),
    };
    if !calendar.has_dates() {
        return Err(InvalidCron::NoSuchDate);
    }
    Ok(Cron { source: text.into(), calendar, repeating: minutes.repeating || hours.repeating })
}

fn nickname(text: &str) -> Result<&'static str, InvalidCron> {
    const NICKNAMES: [(&str, &str); 7] = [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ];
    let known = NICKNAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map(|(_, fields)| *fields).ok_or(InvalidCron::UnknownNickname)
}

fn values(field: Field, text: &str, at: usize, special: &mut Special) -> Result<Values, InvalidCron> {
    let days = matches!(field, Field::DayOfMonth | Field::DayOfWeek);
    if days && text == "?" {
        return values(field, "*", at, special);
    }
    let mut values = Values { set: 0, starred: text.starts_with('*'), repeating: text.contains(['*', '/']) };
    let mut at = at;
    for item in text.split(',') {
        if !special.take(field, item) {
            values.set |= plain(field, item, at)?;
        }
        at += item.len() + 1;
    }
    if field == Field::DayOfWeek && values.set & (1 << 7) != 0 {
        values.set = values.set & !(1 << 7) | 1;
    }
    values.repeating |= bits(values.set).count() == usize::from(field.step_max()) + 1;
    Ok(values)
}

/// An item of plain values: `*`, `5`, `mon`, `1-5`, and all of these with a step.
fn plain(field: Field, item: &str, at: usize) -> Result<u64, InvalidCron> {
    let bad = InvalidCron::Item { field, at };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (first, last) = if range == "*" {
        (field.bounds().0, field.last())
    } else if let Some((first, last)) = range.split_once('-') {
        let (first, last) = (value(field, first).ok_or(bad)?, (last, value(field, last).ok_or(bad)?));
        // A week may end with its Sunday.
        let ends_on_sunday = field == Field::DayOfWeek && last.0.eq_ignore_ascii_case("sun") && first > 0;
        (first, if ends_on_sunday { 7 } else { last.1 })
    } else {
        let first = value(field, range).ok_or(bad)?;
        (first, if step.is_some() { field.last() } else { first })
    };
    if first > last {
        return Err(InvalidCron::RangeOrder { field, at });
    }
    let step = match step {
        Some(step) => number(step)
            .filter(|step| (1..=field.step_max()).contains(step))
            .ok_or(InvalidCron::Step { field, at })?,
        None => 1,
    };
    Ok((first..=last).step_by(step.into()).fold(0, |set, value| set | 1 << value))
}

/// A number or a name of the field.
fn value(field: Field, text: &str) -> Option<u8> {
    let (first, last) = field.bounds();
    let names: &[&str] = match field {
        Field::Month => &MONTHS,
        Field::DayOfWeek => &WEEKDAYS,
        Field::Minute | Field::Hour | Field::DayOfMonth => &[],
    };
    match names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        Some(index) => u8::try_from(index).ok().map(|index| index + first),
        None => number(text).filter(|number| (first..=last).contains(number)),
    }
}

/// One or two ASCII digits.
fn number(text: &str) -> Option<u8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl Special {
    /// Takes `item` if it is a special one of `field`.
    fn take(&mut self, field: Field, item: &str) -> bool {
        match field {
            Field::DayOfMonth => self.take_day(&item.to_ascii_lowercase()).is_some(),
            Field::DayOfWeek => self.take_weekday(&item.to_ascii_lowercase()).is_some(),
            Field::Minute | Field::Hour | Field::Month => false,
        }
    }

    fn take_day(&mut self, item: &str) -> Option<()> {
        match item {
            "l" => self.before_last |= 1,
            "lw" | "wl" => self.last_workday = true,
            _ => {
                if let Some(before) = item.strip_prefix("l-") {
                    // A month has at most 30 days before its last.
                    self.before_last |= 1 << number(before).filter(|before| (1..=30).contains(before))?;
                } else {
                    self.near |= 1 << value(Field::DayOfMonth, item.strip_suffix('w')?)?;
                }
            }
        }
        Some(())
    }

    fn take_weekday(&mut self, item: &str) -> Option<()> {
        if let Some(weekday) = item.strip_suffix('l') {
            self.last |= 1 << (value(Field::DayOfWeek, weekday)? % 7);
        } else {
            let (weekday, nth) = item.split_once('#')?;
            let index = usize::from(number(nth)?.checked_sub(1)?);
            *self.nth.get_mut(index)? |= 1 << (value(Field::DayOfWeek, weekday)? % 7);
        }
        Some(())
    }

    /// Days of a month of `length` days, its first a `first`, that match day-of-month.
    fn by_day(&self, plain: u64, length: u32, first: u32) -> u32 {
        let weekday = |day: u32| (first + day - 1) % 7;
        let workday = |day: &u32| !matches!(weekday(*day), 0 | 6);
        let mut days = 0;
        for day in 1..=length {
            if plain & (1 << day) != 0 || self.before_last & (1 << (length - day)) != 0 {
                days |= 1 << day;
            }
            if self.near & (1 << day) != 0 {
                // Nearest first, never in another month: a Saturday's neighbour is Friday, a Sunday's Monday.
                let neighbours = [day, day - 1, day + 1, day + 2, day.saturating_sub(2)];
                let nearest = neighbours.into_iter().filter(|day| (1..=length).contains(day)).find(workday);
                days |= nearest.map_or(0, |day| 1 << day);
            }
        }
        if self.last_workday {
            days |= (1..=length).rev().find(workday).map_or(0, |day| 1 << day);
        }
        days
    }

    /// Days of a month of `length` days, its first a `first`, that match day-of-week.
    fn by_weekday(&self, plain: u64, length: u32, first: u32) -> u32 {
        let matches = |day: &u32| {
            let weekday = 1 << ((first + day - 1) % 7);
            let nth = self.nth.get(((day - 1) / 7) as usize).copied().unwrap_or(0);
            let last = if day + 7 > length { self.last } else { 0 };
            (plain | nth | last) & weekday != 0
        };
        (1..=length).filter(matches).fold(0, |days, day| days | 1 << day)
    }
}
