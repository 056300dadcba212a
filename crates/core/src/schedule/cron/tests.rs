use jiff::civil::{Date, Weekday};
use proptest::prelude::*;

use super::super::{Field, Timing};
use super::*;
use crate::schedule::Pattern;

fn refused(text: &str) -> InvalidCron {
    text.parse::<Cron>().map(|_| ()).expect_err(text)
}

fn timing(text: &str) -> Timing {
    let pattern = Pattern::cron(text, None).unwrap_or_else(|error| panic!("{text}: {error}"));
    Timing::new(pattern, None, None).unwrap()
}

/// The first ticks after `after`, to the minute, in UTC.
fn ticks<const N: usize>(text: &str, after: &str) -> [String; N] {
    let timing = timing(text);
    let mut ticks = timing.ticks_after(format!("{after}Z").parse().unwrap());
    std::array::from_fn(|_| {
        ticks.next().map_or("never".to_owned(), |tick| tick.at().to_string()[..16].to_owned())
    })
}

#[test]
fn five_fields_say_which_minutes_match() {
    for (text, expected) in [
        ("30 2 * * *", ["2026-01-01T02:30", "2026-01-02T02:30", "2026-01-03T02:30"]),
        ("0,30 9-10 * * *", ["2026-01-01T09:00", "2026-01-01T09:30", "2026-01-01T10:00"]),
        ("*/25 0 * * *", ["2026-01-01T00:25", "2026-01-01T00:50", "2026-01-02T00:00"]),
        ("50/4 0 * * *", ["2026-01-01T00:50", "2026-01-01T00:54", "2026-01-01T00:58"]),
        ("10-20/5 6 * * *", ["2026-01-01T06:10", "2026-01-01T06:15", "2026-01-01T06:20"]),
        ("05 08 01 02 *", ["2026-02-01T08:05", "2027-02-01T08:05", "2028-02-01T08:05"]),
        ("0 0 1 jan,JUL *", ["2026-07-01T00:00", "2027-01-01T00:00", "2027-07-01T00:00"]),
        ("0 0 1 */5 *", ["2026-06-01T00:00", "2026-11-01T00:00", "2027-01-01T00:00"]),
        ("0 0 * * Fri-sun", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        ("0 0 ? * 7", ["2026-01-04T00:00", "2026-01-11T00:00", "2026-01-18T00:00"]),
        ("0 0 * * 5-7", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        ("0 0 31 * ?", ["2026-01-31T00:00", "2026-03-31T00:00", "2026-05-31T00:00"]),
        ("  0\t0   29 2 *  ", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("@Hourly", ["2026-01-01T01:00", "2026-01-01T02:00", "2026-01-01T03:00"]),
        ("@daily", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        ("@midnight", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00"]),
        ("@weekly", ["2026-01-04T00:00", "2026-01-11T00:00", "2026-01-18T00:00"]),
        ("@monthly", ["2026-02-01T00:00", "2026-03-01T00:00", "2026-04-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
        ("@annually", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
    ] {
        assert_eq!(ticks(text, "2026-01-01T00:00:00"), expected, "{text}");
    }
}

#[test]
fn the_ends_of_months_workdays_and_nth_weekdays_match() {
    for (text, expected) in [
        ("0 0 L * *", ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"]),
        ("0 0 l-2 * *", ["2026-01-29T00:00", "2026-02-26T00:00", "2026-03-29T00:00"]),
        // Only months of 31 days have a day 30 days before their last.
        ("0 0 L-30 * *", ["2026-03-01T00:00", "2026-05-01T00:00", "2026-07-01T00:00"]),
        ("0 0 LW 1-3 *", ["2026-01-30T00:00", "2026-02-27T00:00", "2026-03-31T00:00"]),
        // The 1st is a Sunday in February and March, the 15th too: forward, and never into another month.
        ("0 0 1W 2,3,8 *", ["2026-02-02T00:00", "2026-03-02T00:00", "2026-08-03T00:00"]),
        ("0 0 15W 2,3,8 *", ["2026-02-16T00:00", "2026-03-16T00:00", "2026-08-14T00:00"]),
        // 31 January 2026 is a Saturday, 31 May a Sunday; April has no 31st.
        ("0 0 31W 1,4,5 *", ["2026-01-30T00:00", "2026-05-29T00:00", "2027-01-29T00:00"]),
        // 28 February is a Saturday, a Sunday and a Monday.
        ("0 0 28W 2 *", ["2026-02-27T00:00", "2027-02-26T00:00", "2028-02-28T00:00"]),
        ("0 0 1,15W,L 1 *", ["2026-01-15T00:00", "2026-01-31T00:00", "2027-01-01T00:00"]),
        ("0 0 * * fri#1", ["2026-01-02T00:00", "2026-02-06T00:00", "2026-03-06T00:00"]),
        ("0 0 * * 7#5", ["2026-03-29T00:00", "2026-05-31T00:00", "2026-08-30T00:00"]),
        ("0 0 * * monL", ["2026-01-26T00:00", "2026-02-23T00:00", "2026-03-30T00:00"]),
        ("0 0 * * 7L,1#1", ["2026-01-05T00:00", "2026-01-25T00:00", "2026-02-02T00:00"]),
    ] {
        assert_eq!(ticks(text, "2026-01-01T00:00:00"), expected, "{text}");
    }
}

#[test]
fn two_restricted_day_fields_are_alternatives_and_a_starred_one_is_a_condition() {
    for (text, expected) in [
        ("0 0 13 * fri", ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]),
        ("0 0 */2 * fri", ["2026-01-09T00:00", "2026-01-23T00:00", "2026-02-13T00:00"]),
        ("0 0 13 * */1", ["2026-01-13T00:00", "2026-02-13T00:00", "2026-03-13T00:00"]),
        ("0 0 1-31/2 * fri", ["2026-01-02T00:00", "2026-01-03T00:00", "2026-01-05T00:00"]),
        ("0 0 29 2 */6", ["2032-02-29T00:00", "2048-02-29T00:00", "2060-02-29T00:00"]),
    ] {
        assert_eq!(ticks(text, "2026-01-01T00:00:00"), expected, "{text}");
    }
}

/// The rarest there are: a fifth Sunday in February is 40 years away when a century without a leap day lies between.
#[test]
fn the_rarest_dates_are_found() {
    let expected = ["2032-02-29T00:00", "2060-02-29T00:00", "2088-02-29T00:00", "2128-02-29T00:00"];
    assert_eq!(ticks("0 0 * 2 sun#5", "2026-01-01T00:00:00"), expected);
}

/// T-05: what no date matches is refused when it is read, not searched for.
#[test]
fn dates_that_never_come_are_refused() {
    for text in
        ["0 0 31 2 *", "0 0 30 2 *", "0 0 30,31 feb *", "0 0 31 2,4,6,9,11 *", "0 0 L-29 2 *", "0 0 31W 6 *"]
    {
        assert_eq!(refused(text), InvalidCron::NoSuchDate, "{text}");
    }
    // Day of week is an alternative here, not a condition.
    assert_eq!(ticks("0 0 31 2 1", "2026-01-01T00:00:00"), ["2026-02-02T00:00", "2026-02-09T00:00"]);
    assert_eq!(ticks("0 0 L-28 2 *", "2026-01-01T00:00:00"), ["2028-02-01T00:00", "2032-02-01T00:00"]);
}

/// T-06: each is refused, with its place and with what to write.
#[test]
fn what_is_no_cron_expression_is_refused_with_its_reason() {
    use Field::*;
    use InvalidCron::*;
    for (text, expected) in [
        ("", FieldCount { found: 0 }),
        ("* * * *", FieldCount { found: 4 }),
        ("0 * * * * *", FieldCount { found: 6 }),
        ("0 0 * * * * 2026", FieldCount { found: 7 }),
        ("@", UnknownNickname),
        ("@every 90s", UnknownNickname),
        ("@reboot", UnknownNickname),
        ("@daily *", UnknownNickname),
        ("60 * * * *", Item { field: Minute, at: 1 }),
        ("* 24 * * *", Item { field: Hour, at: 3 }),
        ("* * 0 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * 32 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * * 0 *", Item { field: Month, at: 7 }),
        ("* * * 13 *", Item { field: Month, at: 7 }),
        ("* * * * 8", Item { field: DayOfWeek, at: 9 }),
        ("-1 * * * *", Item { field: Minute, at: 1 }),
        ("+1 * * * *", Item { field: Minute, at: 1 }),
        ("1.5 * * * *", Item { field: Minute, at: 1 }),
        ("0x1 * * * *", Item { field: Minute, at: 1 }),
        ("007 * * * *", Item { field: Minute, at: 1 }),
        ("18446744073709551616 * * * *", Item { field: Minute, at: 1 }),
        ("٣ * * * *", Item { field: Minute, at: 1 }),
        ("１ * * * *", Item { field: Minute, at: 1 }),
        ("1,,2 * * * *", Item { field: Minute, at: 3 }),
        (", * * * *", Item { field: Minute, at: 1 }),
        ("1, * * * *", Item { field: Minute, at: 3 }),
        ("1- * * * *", Item { field: Minute, at: 1 }),
        ("- * * * *", Item { field: Minute, at: 1 }),
        ("1-2-3 * * * *", Item { field: Minute, at: 1 }),
        ("*-5 * * * *", Item { field: Minute, at: 1 }),
        ("** * * * *", Item { field: Minute, at: 1 }),
        ("? * * * *", Item { field: Minute, at: 1 }),
        ("L * * * *", Item { field: Minute, at: 1 }),
        ("* * ?,5 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * 5,mon * *", Item { field: DayOfMonth, at: 7 }),
        ("* * W * *", Item { field: DayOfMonth, at: 5 }),
        ("* * 0W * *", Item { field: DayOfMonth, at: 5 }),
        ("* * 1-5W * *", Item { field: DayOfMonth, at: 5 }),
        ("* * L-0 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * L-31 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * L/2 * *", Item { field: DayOfMonth, at: 5 }),
        ("* * 5L * *", Item { field: DayOfMonth, at: 5 }),
        ("* * * monday *", Item { field: Month, at: 7 }),
        ("* * * janfeb *", Item { field: Month, at: 7 }),
        ("* * * * monday", Item { field: DayOfWeek, at: 9 }),
        ("* * * * jan", Item { field: DayOfWeek, at: 9 }),
        ("* * * * L", Item { field: DayOfWeek, at: 9 }),
        ("* * * * 5W", Item { field: DayOfWeek, at: 9 }),
        ("* * * * 1#0", Item { field: DayOfWeek, at: 9 }),
        ("* * * * 1#6", Item { field: DayOfWeek, at: 9 }),
        ("* * * * #1", Item { field: DayOfWeek, at: 9 }),
        ("* * * * 1#1#1", Item { field: DayOfWeek, at: 9 }),
        ("5-1 * * * *", RangeOrder { field: Minute, at: 1 }),
        ("0 0 * * fri-mon", RangeOrder { field: DayOfWeek, at: 9 }),
        ("0 0 * * 6-0", RangeOrder { field: DayOfWeek, at: 9 }),
        ("*/0 * * * *", Step { field: Minute, at: 1 }),
        ("*/ * * * *", Step { field: Minute, at: 1 }),
        ("*/-5 * * * *", Step { field: Minute, at: 1 }),
        ("*/5/5 * * * *", Step { field: Minute, at: 1 }),
        ("*/60 * * * *", Step { field: Minute, at: 1 }),
        ("*/90 * * * *", Step { field: Minute, at: 1 }),
        ("*/18446744073709551616 * * * *", Step { field: Minute, at: 1 }),
        ("0 */24 * * *", Step { field: Hour, at: 3 }),
        ("0 0 1,*/31 * *", Step { field: DayOfMonth, at: 7 }),
        ("0 0 1 */12 *", Step { field: Month, at: 7 }),
        ("0 0 * * */7", Step { field: DayOfWeek, at: 9 }),
    ] {
        assert_eq!(refused(text), expected, "{text}");
        let sentence = expected.to_string();
        assert!(sentence.contains("write ") || sentence.contains("use an interval"), "{sentence}");
    }
    for (text, expected) in [("*/59 * * * *", 2), ("0 */23 * * *", 2), ("0 0 * * */6", 2)] {
        let mut days = timing(text);
        days =
            Timing::new(days.pattern().clone(), None, Some("1970-01-07T23:59:59Z".parse().unwrap())).unwrap();
        assert!(days.ticks_after(crate::Timestamp::EPOCH).count() >= expected, "the longest step of {text}");
    }
}

/// T-06: length is looked at before anything else.
#[test]
fn long_texts_are_refused_without_being_read() {
    let list = |count: usize| vec!["1"; count].join(",");
    assert!(format!("{} * * * *", list(500)).parse::<Cron>().is_ok());
    assert_eq!(refused(&format!("{} * * * *", list(10_000))), InvalidCron::TooLong);
    assert_eq!(refused(&"*".repeat(1 << 20)), InvalidCron::TooLong);
    assert_eq!(refused(&" ".repeat(Cron::LENGTH_MAX + 1)), InvalidCron::TooLong);
    let longest = format!("{:>1$}", "* * * * *", Cron::LENGTH_MAX);
    assert_eq!(longest.parse::<Cron>().unwrap().source(), "* * * * *");
}

/// The rule that decides how clock changes are met.
#[test]
fn an_expression_repeats_if_minute_or_hour_has_a_star_or_a_step_or_every_value() {
    for text in [
        "* * * * *",
        "*/15 * * * *",
        "30 * * * *",
        "*/10 2 * * *",
        "0 2-8/3 * * *",
        "0 9,*/6 * * *",
        "@hourly",
    ] {
        assert!(text.parse::<Cron>().unwrap().is_repeating(), "{text}");
    }
    for text in ["0 0-23 * * *", "0-59 1 * * *", "0-29,30-59 1 * * *"] {
        assert!(text.parse::<Cron>().unwrap().is_repeating(), "{text}");
    }
    for text in ["30 2 * * *", "0,15,30,45 1 * * *", "0 1-5 * * *", "0 0 */2 * *", "0 0 * */3 */2", "@daily"]
    {
        assert!(!text.parse::<Cron>().unwrap().is_repeating(), "{text}");
    }
}

#[test]
fn an_expression_is_its_text() {
    let cron: Cron = " */10 * * * * ".parse().unwrap();
    assert_eq!((cron.source(), cron.to_string()), ("*/10 * * * *", "*/10 * * * *".to_owned()));
    let json = serde_json::to_string(&cron).unwrap();
    assert_eq!(serde_json::from_str::<Cron>(&json).unwrap(), cron);
    let error = serde_json::from_str::<Cron>("\"61 * * * *\"").unwrap_err().to_string();
    assert!(error.contains("not a minute"), "{error}");
}

/// An item of a day field, as this test understands it: evaluated by asking of one date, where the code under
/// test makes sets of whole months.
#[derive(Debug, Clone)]
enum Item {
    Plain { first: u8, last: u8, step: u8 },
    BeforeLast(u8),
    Near(u8),
    LastWorkday,
    Last(u8),
    Nth(u8, u8),
}

fn plain_item(least: u8, most: u8) -> impl Strategy<Value = Item> {
    (least..=most, least..=most, 1..=(most - least).max(1)).prop_map(|(a, b, step)| Item::Plain {
        first: a.min(b),
        last: a.max(b),
        step,
    })
}

fn day_items() -> impl Strategy<Value = Vec<Item>> {
    let special = prop_oneof![
        (0..=30_u8).prop_map(Item::BeforeLast),
        (1..=31_u8).prop_map(Item::Near),
        Just(Item::LastWorkday)
    ];
    prop::collection::vec(prop_oneof![plain_item(1, 31), special], 0..4)
}

fn weekday_items() -> impl Strategy<Value = Vec<Item>> {
    let special = prop_oneof![
        (0..=7_u8).prop_map(Item::Last),
        (0..=7_u8, 1..=5_u8).prop_map(|(day, nth)| Item::Nth(day, nth))
    ];
    prop::collection::vec(prop_oneof![plain_item(0, 6), special], 0..4)
}

fn written(items: &[Item], star: &str) -> String {
    let item = |item: &Item| match item {
        Item::Plain { first, last, step } => format!("{first}-{last}/{step}"),
        Item::BeforeLast(0) => "L".to_owned(),
        Item::BeforeLast(days) => format!("L-{days}"),
        Item::Near(day) => format!("{day}W"),
        Item::LastWorkday => "LW".to_owned(),
        Item::Last(weekday) => format!("{weekday}L"),
        Item::Nth(weekday, nth) => format!("{weekday}#{nth}"),
    };
    if items.is_empty() { star.to_owned() } else { items.iter().map(item).collect::<Vec<_>>().join(",") }
}

fn matches(item: &Item, date: Date) -> bool {
    let weekday = date.weekday().to_sunday_zero_offset();
    let workday = |date: Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    let in_steps = |value: i8, first: u8, last: u8, step: u8| {
        let value = value as u8;
        (first..=last).contains(&value) && (value - first).is_multiple_of(step)
    };
    match *item {
        Item::Plain { first, last, step } => in_steps(date.day(), first, last, step),
        Item::BeforeLast(days) => date.day() + days as i8 == date.days_in_month(),
        Item::LastWorkday => {
            let mut last = date.last_of_month();
            while !workday(last) {
                last = last.yesterday().unwrap();
            }
            date == last
        }
        Item::Near(day) => {
            let Ok(named) = Date::new(date.year(), date.month(), day as i8) else { return false };
            let distance = |other: Date| (other.day() - named.day()).abs();
            // No other workday of the month is nearer.
            let mut workdays: Vec<Date> = (1..=date.days_in_month())
                .map(|day| Date::new(date.year(), date.month(), day).unwrap())
                .filter(|day| workday(*day))
                .collect();
            workdays.sort_by_key(|day| distance(*day));
            workdays[0] == date
        }
        Item::Last(day) => weekday == (day % 7) as i8 && date.day() + 7 > date.days_in_month(),
        Item::Nth(day, nth) => {
            let counted = (1..=date.day())
                .filter(|day| Date::new(date.year(), date.month(), *day).unwrap().weekday() == date.weekday())
                .count();
            weekday == (day % 7) as i8 && counted == usize::from(nth)
        }
    }
}

fn matches_weekday(item: &Item, date: Date) -> bool {
    match *item {
        Item::Plain { first, last, step } => {
            let weekday = date.weekday().to_sunday_zero_offset() as u8;
            (first..=last).contains(&weekday) && (weekday - first).is_multiple_of(step)
        }
        _ => matches(item, date),
    }
}

proptest! {
    /// Dates against an evaluation that knows nothing of sets, day by day over four years.
    #[test]
    fn dates_are_those_that_one_by_one_match(days in day_items(), weekdays in weekday_items(), months in plain_item(1, 12), year in 1971..2200_i16) {
        let text = format!("0 0 {} {} {}", written(&days, "?"), written(std::slice::from_ref(&months), "*"), written(&weekdays, "*"));
        let expected = |date: Date| {
            let month = Date::new(2000, 1, date.month()).unwrap();
            let by_day = days.iter().any(|item| matches(item, date));
            let by_weekday = weekdays.iter().any(|item| matches_weekday(item, date));
            matches(&months, month) && match (days.is_empty(), weekdays.is_empty()) {
                (true, true) => true,
                (true, false) => by_weekday,
                (false, true) => by_day,
                (false, false) => by_day || by_weekday,
            }
        };
        let first = Date::new(year, 1, 1).unwrap();
        let all: Vec<Date> = std::iter::successors(Some(first), |date| date.tomorrow().ok())
            .take_while(|date| date.year() < year + 4)
            .filter(|date| expected(*date))
            .collect();
        match text.parse::<Cron>() {
            Err(error) => {
                prop_assert_eq!(error, InvalidCron::NoSuchDate, "{}", text);
                prop_assert!(all.is_empty(), "{} has {:?}", text, all);
            }
            Ok(_) => {
                let timing = timing(&text);
                let time = |text: String| text.parse::<crate::Timestamp>().unwrap();
                let (start, end) = (time(format!("{}-12-31T23:59:00Z", year - 1)), time(format!("{}-01-01T00:00:00Z", year + 4)));
                let ticks: Vec<_> = timing.ticks_after(start).map(|tick| tick.at()).take_while(|tick| *tick < end).collect();
                let all: Vec<_> = all.iter().map(|date| time(format!("{date}T00:00:00Z"))).collect();
                prop_assert_eq!(ticks, all, "{}", text);
            }
        }
    }

    /// T-06: any text is read or refused; what was read ticks without panic, at both ends of time too.
    #[test]
    fn any_text_is_accepted_or_refused(
        text in prop_oneof![
            "\\PC{0,40}",
            "([0-9*?LW#/,-]{1,5} ){4}[0-9*?LW#/,-]{1,5}",
            "[0-9*/,-]{1,4} [0-9*/,-]{1,4} (L|LW|[0-9]{1,2}W|L-[0-9]{1,3}|[0-9*/,-]{1,6}) [a-zA-Z0-9*]{1,3} [a-z0-9#L*-]{1,7}",
        ],
        ms in 0..=crate::Timestamp::MAX.as_unix_ms(),
    ) {
        if let Ok(cron) = text.parse::<Cron>() {
            prop_assert_eq!(&cron.source().parse::<Cron>().unwrap(), &cron);
            let timing = timing(cron.source());
            for at in [crate::Timestamp::EPOCH, crate::Timestamp::from_unix_ms(ms).unwrap(), crate::Timestamp::MAX] {
                if let Some(tick) = timing.next_after(at) {
                    prop_assert!(tick.at() > at);
                    prop_assert_eq!(timing.latest_until(tick.at()), Some(tick));
                    prop_assert!(timing.before(tick).is_none_or(|before| before.at() <= at));
                }
            }
        }
    }
}
