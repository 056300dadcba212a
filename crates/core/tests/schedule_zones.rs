//! Daylight saving and every other change of every clock of the tz database, against an oracle that shares no code with the
//! room under test: jiff's own reading of local times, minute by minute around each change.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use onefold_core::Timestamp;
use onefold_core::schedule::{Pattern, Tick, Timing, Zone};
use proptest::prelude::*;

/// A pattern, and the same as a question about one local time. All minutes and hours that matter around a change.
struct Sample {
    cron: &'static str,
    repeating: bool,
    matches: fn(DateTime) -> bool,
}

const SAMPLES: [Sample; 7] = [
    Sample { cron: "*/15 * * * *", repeating: true, matches: |at| at.minute() % 15 == 0 },
    Sample { cron: "30 * * * *", repeating: true, matches: |at| at.minute() == 30 },
    Sample {
        cron: "10,50 0-8/2 * * *",
        repeating: true,
        matches: |at| matches!(at.minute(), 10 | 50) && at.hour() <= 8 && at.hour() % 2 == 0,
    },
    Sample {
        cron: "0,30 0,1,2,3,4,5,22,23 * * *",
        repeating: false,
        matches: |at| at.minute() % 30 == 0 && !(6..22).contains(&at.hour()),
    },
    Sample {
        cron: "5,20,40 0-12 * * *",
        repeating: false,
        matches: |at| matches!(at.minute(), 5 | 20 | 40) && at.hour() <= 12,
    },
    Sample { cron: "30 2 * * *", repeating: false, matches: |at| (at.hour(), at.minute()) == (2, 30) },
    Sample { cron: "0 0,12 * * *", repeating: false, matches: |at| at.hour() % 12 == 0 && at.minute() == 0 },
];

fn timing(cron: &str, zone: &str) -> Timing {
    Timing::new(Pattern::cron(cron, Some(zone.parse().unwrap())).unwrap(), None, None).unwrap()
}

fn seconds(time: Timestamp) -> i64 {
    assert_eq!(time.as_unix_ms() % 1000, 0);
    time.as_unix_ms() / 1000
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(seconds * 1000).unwrap()
}

fn instant(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(seconds).unwrap()
}

/// A change of a zone's clock: when, and the offset before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    at: i64,
    before: i32,
    after: i32,
}

fn changes(zone: &TimeZone, from: i64, to: i64) -> Vec<Change> {
    zone.following(instant(from))
        .map(|change| change.timestamp().as_second())
        .take_while(|at| *at < to)
        .map(|at| Change {
            at,
            before: zone.to_offset(instant(at - 1)).seconds(),
            after: zone.to_offset(instant(at)).seconds(),
        })
        .filter(|change| change.before != change.after)
        .collect()
}

/// What a clock shows around some moment, asked of jiff minute by minute. Samples tick at multiples of five minutes only.
struct Clock {
    /// Each real time and what is shown then.
    shown: Vec<(i64, DateTime)>,
    /// Each local time, and when it is shown first or jumped over.
    reached: Vec<(i64, DateTime)>,
}

impl Clock {
    /// Of `zone`, from `from` to before `to`, with all changes of some days before and after them.
    fn new(zone: &TimeZone, from: i64, to: i64, changes: &[Change]) -> Clock {
        let shown = (from.div_euclid(30) * 30..to)
            .step_by(30)
            .map(|at| (at, zone.to_datetime(instant(at))))
            .filter(|(at, shown)| *at >= from && shown.second() == 0 && shown.minute() % 5 == 0);
        // No clock is further from UTC than that.
        let bound = 27 * 3600;
        let reached = ((from - bound).div_euclid(300) * 300..to + bound)
            .step_by(300)
            .map(|local| (first_reached(zone, local, changes), Offset::UTC.to_datetime(instant(local))))
            .filter(|(at, _)| (from..to).contains(at));
        Clock { shown: shown.collect(), reached: reached.collect() }
    }

    /// What must tick, by the rules as docs/guide/schedules.md has them.
    fn expected(&self, sample: &Sample) -> BTreeSet<i64> {
        let times = if sample.repeating { &self.shown } else { &self.reached };
        times.iter().filter(|(_, local)| (sample.matches)(*local)).map(|(at, _)| *at).collect()
    }
}

/// When a clock shows `local` first, or jumps over it. `local` is in seconds, as if its clock showed UTC.
fn first_reached(zone: &TimeZone, local: i64, changes: &[Change]) -> i64 {
    match zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(instant(local))).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            local - i64::from(offset.seconds())
        }
        AmbiguousOffset::Gap { before, after } => {
            let jumped_over = |change: &&Change| {
                (change.before, change.after) == (before.seconds(), after.seconds())
                    && change.at + i64::from(change.before) <= local
                    && local < change.at + i64::from(change.after)
            };
            changes.iter().find(jumped_over).expect("a gap is a change").at
        }
    }
}

fn forward(timing: &Timing, from: i64, to: i64) -> Vec<i64> {
    timing.ticks_after(timestamp(from - 1)).map(|tick| seconds(tick.at())).take_while(|at| *at < to).collect()
}

fn backward(timing: &Timing, from: i64, to: i64) -> Vec<i64> {
    let step = |at: i64| timing.latest_until(timestamp(at - 1)).map(|tick| seconds(tick.at()));
    let mut ticks: Vec<i64> =
        std::iter::successors(step(to), |at| step(*at)).take_while(|at| *at >= from).collect();
    ticks.reverse();
    ticks
}

/// Every zone, every change from 1990 to 2050, every sample pattern, in both directions. Zones that share a history
/// around a change share its check.
#[test]
fn every_change_of_every_clock_from_1990_to_2050_is_met_by_the_rules() {
    let (start, end) =
        (seconds("1990-01-01T00:00:00Z".parse().unwrap()), seconds("2050-01-01T00:00:00Z".parse().unwrap()));
    let database = TimeZoneDatabase::bundled();
    let mut around: BTreeMap<Vec<Change>, String> = BTreeMap::new();
    let (mut zones, mut seen) = (0, 0);
    for name in Zone::names() {
        let zone = database.get(&name).unwrap();
        let all = changes(&zone, start, end);
        for change in &all {
            // What another change within three days does to it is part of its history.
            let near = all.iter().filter(|other| (other.at - change.at).abs() < 3 * 86_400);
            let mut history = vec![*change];
            history.extend(near);
            around.entry(history).or_insert_with(|| name.clone());
        }
        (zones, seen) = (zones + 1, seen + all.len());
    }
    assert!(
        zones > 590 && seen > 20_000 && around.len() > 2_000,
        "{zones} zones, {seen} changes, {}",
        around.len()
    );

    for (history, name) in &around {
        let zone = database.get(name).unwrap();
        let change = history[0];
        let reach = i64::from((change.after - change.before).abs()) + 2 * 3600;
        let (from, to) = (change.at - reach, change.at + reach);
        let clock = Clock::new(&zone, from, to, &history[1..]);
        for sample in &SAMPLES {
            let timing = timing(sample.cron, name);
            let expected: Vec<i64> = clock.expected(sample).into_iter().collect();
            assert_eq!(forward(&timing, from, to), expected, "{} in {name} around {change:?}", sample.cron);
            assert_eq!(
                backward(&timing, from, to),
                expected,
                "{} in {name} back over {change:?}",
                sample.cron
            );
            // Asked at any moment, also within an hour that is repeated, after a step of the clock.
            for at in (from..to).step_by(607) {
                let next = expected.iter().find(|tick| **tick > at).copied();
                let found = timing.next_after(timestamp(at)).map(|tick| seconds(tick.at()));
                let found = found.filter(|tick| *tick < to);
                assert_eq!(found, next, "{} in {name} after {at} near {change:?}", sample.cron);
                let latest = expected.iter().rfind(|tick| **tick <= at).copied();
                let found = timing.latest_until(timestamp(at)).map(|tick| seconds(tick.at()));
                let found = found.filter(|tick| *tick >= from);
                assert_eq!(found, latest, "{} in {name} until {at} near {change:?}", sample.cron);
            }
        }
    }
}

/// The changes people write bug reports about, by their local times. T-01 to T-04.
#[test]
fn famous_changes() {
    let shown = |cron: &str, zone: &str, after: &str, count: usize| -> Vec<String> {
        let (timing, zone) = (timing(cron, zone), zone.parse::<Zone>().unwrap());
        timing
            .ticks_after(after.parse().unwrap())
            .take(count)
            .map(|tick: Tick| zone.show(tick.at()))
            .collect()
    };
    // T-01: at the documented instant, and as usual on the next day.
    assert_eq!(
        shown("30 2 * * *", "America/New_York", "2026-03-07T12:00:00-05:00", 2),
        ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]
    );
    // Several matches in one gap, and one right behind it: one tick.
    assert_eq!(
        shown("0,20,40 2,3 * * *", "America/New_York", "2026-03-08T00:00:00-05:00", 3),
        ["2026-03-08T03:00:00-04:00", "2026-03-08T03:20:00-04:00", "2026-03-08T03:40:00-04:00"]
    );
    // T-02: once, the first time.
    assert_eq!(
        shown("30 1 * * *", "America/New_York", "2026-11-01T00:00:00-04:00", 2),
        ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]
    );
    // T-03: every real quarter of an hour, on both days.
    let quarters = shown("*/15 * * * *", "America/New_York", "2026-11-01T00:45:00-04:00", 9);
    assert_eq!((&*quarters[0], &*quarters[8]), ("2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00"));
    let quarters = shown("*/15 * * * *", "America/New_York", "2026-03-08T01:30:00-05:00", 2);
    assert_eq!(quarters, ["2026-03-08T01:45:00-05:00", "2026-03-08T03:00:00-04:00"]);
    // A repeating pattern within the skipped hour has no real time that day.
    assert_eq!(
        shown("*/30 2 * * *", "America/New_York", "2026-03-08T00:00:00-05:00", 1),
        ["2026-03-09T02:00:00-04:00"]
    );
    // T-04: half an hour on Lord Howe, and clocks that change at midnight.
    assert_eq!(
        shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", 2),
        ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
    );
    assert_eq!(
        shown("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00+11:00", 2),
        ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]
    );
    assert_eq!(
        shown("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00+02:00", 2),
        ["2026-03-29T01:00:00+03:00", "2026-03-30T00:00:00+03:00"]
    );
    assert_eq!(
        shown("0 0 * * *", "America/Havana", "2026-10-31T12:00:00-04:00", 2),
        ["2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"]
    );
    // A whole day that Samoa never had.
    assert_eq!(
        shown("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00-10:00", 3),
        ["2011-12-29T09:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"]
    );
}

proptest! {
    /// Far from changes and near them, in any zone: `next_after` is the first of what must tick.
    #[test]
    fn the_next_tick_is_the_first_there_is(
        zone in prop::sample::select(Zone::names().collect::<Vec<_>>()),
        sample in 0..SAMPLES.len(),
        after in 0..4_000_000_000_i64,
    ) {
        let (sample, database) = (&SAMPLES[sample], TimeZoneDatabase::bundled());
        let tz = database.get(&zone).unwrap();
        let to = after + 2 * 86_400;
        let history = changes(&tz, after - 4 * 86_400, to + 4 * 86_400);
        let expected = Clock::new(&tz, after + 1, to, &history).expected(sample);
        let next = timing(sample.cron, &zone).next_after(timestamp(after)).map(|tick| seconds(tick.at()));
        match expected.first() {
            Some(first) => prop_assert_eq!(next, Some(*first), "{} in {}", sample.cron, zone),
            None => prop_assert!(next.is_none_or(|next| next >= to), "{} in {}", sample.cron, zone),
        }
    }
}
