use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::schedule::{Interval, ScheduleId};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn cron(text: &str) -> Timing {
    Timing::new(Pattern::cron(text, None).unwrap(), None, None).unwrap()
}

fn every(ms: u64) -> Timing {
    let interval = Interval::new(DurationMs::from_ms(ms), Timestamp::EPOCH).unwrap();
    Timing::new(Pattern::Every(interval), None, None).unwrap()
}

fn due(timing: &Timing, missed: Missed, settled: &str, now: &str) -> Due {
    timing.due(missed, Settled::up_to(at(settled)), at(now))
}

fn run(due: &Due) -> Vec<String> {
    due.run.iter().map(|tick| tick.at().to_string()[11..19].to_owned()).collect()
}

/// T-07: three hours without a server, twelve ticks missed.
#[test]
fn missed_ticks_become_one_job_none_or_one_each() {
    let timing = cron("*/15 * * * *");
    let found = |missed| due(&timing, missed, "2026-01-01T09:00:00Z", "2026-01-01T12:05:00Z");
    let [once, skip, all] = [Missed::Once, Missed::Skip, Missed::All].map(found);
    assert_eq!(run(&once), ["12:00:00"]);
    assert_eq!(run(&skip), [""; 0]);
    assert_eq!(run(&all).len(), 12);
    assert_eq!((&*run(&all)[0], &*run(&all)[11]), ("09:15:00", "12:00:00"));
    let dropped =
        |due: &Due| due.dropped.map(|dropped| (dropped.count, dropped.first.at(), dropped.last.at()));
    let first = at("2026-01-01T09:15:00Z");
    assert_eq!(dropped(&once), Some((11, first, at("2026-01-01T11:45:00Z"))));
    assert_eq!(dropped(&skip), Some((12, first, at("2026-01-01T12:00:00Z"))));
    assert_eq!(dropped(&all), None);
    for due in [once, skip, all] {
        assert_eq!(due.settled.time(), at("2026-01-01T12:00:00Z"));
        assert_eq!(due.next.unwrap().at(), at("2026-01-01T12:15:00Z"));
    }
}

#[test]
fn a_tick_on_time_runs_under_every_policy_and_stands_for_the_missed() {
    let timing = cron("*/15 * * * *");
    for missed in Missed::ALL.iter().copied() {
        let found = due(&timing, missed, "2026-01-01T09:00:00Z", "2026-01-01T09:15:59.999Z");
        assert_eq!((run(&found), found.dropped), (vec!["09:15:00".to_owned()], None), "{missed}");
    }
    let once = due(&timing, Missed::Once, "2026-01-01T09:00:00Z", "2026-01-01T10:00:01Z");
    assert_eq!((run(&once), once.dropped.unwrap().count), (vec!["10:00:00".to_owned()], 3));
    // At the limit it was missed.
    let skip = due(&timing, Missed::Skip, "2026-01-01T09:00:00Z", "2026-01-01T09:16:00Z");
    assert_eq!((run(&skip).len(), skip.dropped.unwrap().count), (0, 1));
    // Nothing is lost to a restart of half a minute.
    let often = due(&every(1000), Missed::Skip, "2026-01-01T09:00:00Z", "2026-01-01T09:00:30Z");
    assert_eq!((often.run.len(), often.dropped), (30, None));
}

#[test]
fn before_the_next_tick_there_is_nothing_to_do() {
    let found = due(&cron("*/15 * * * *"), Missed::All, "2026-01-01T09:00:00Z", "2026-01-01T09:14:59.999Z");
    assert_eq!((found.run.len(), found.dropped), (0, None));
    assert_eq!(found.settled.time(), at("2026-01-01T09:00:00Z"));
    assert_eq!(found.next.unwrap().at(), at("2026-01-01T09:15:00Z"));
    let ended =
        Timing::new(Pattern::cron("@daily", None).unwrap(), None, Some(at("2026-01-01T00:00:00Z"))).unwrap();
    let found = due(&ended, Missed::All, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    assert_eq!((found.run.len(), found.next), (0, None));
}

/// `all` is bounded, the oldest are dropped, and what is dropped is said.
#[test]
fn at_most_the_latest_thousand_are_caught_up() {
    let found = due(&cron("* * * * *"), Missed::All, "2026-01-01T00:00:00Z", "2026-01-01T16:40:30Z");
    assert_eq!((found.run.len(), found.dropped), (Timing::DUE_MAX, None));
    let found = due(&cron("* * * * *"), Missed::All, "2026-01-01T00:00:00Z", "2026-01-01T16:41:30Z");
    assert_eq!((found.run.len(), &*run(&found)[0]), (Timing::DUE_MAX, "00:02:00"));
    let first = Tick(at("2026-01-01T00:01:00Z"));
    assert_eq!(found.dropped, Some(Dropped { count: 1, more: false, first, last: first }));
}

#[test]
fn dropped_ticks_are_counted_to_a_limit() {
    let dropped =
        |now: &str| due(&cron("* * * * *"), Missed::Skip, "2026-01-01T00:00:00Z", now).dropped.unwrap();
    let exactly = dropped("2026-01-01T16:41:00Z");
    assert_eq!((exactly.count, exactly.more), (Timing::COUNTED_MAX, false));
    let more = dropped("2026-01-01T16:42:00Z");
    assert_eq!((more.count, more.more), (Timing::COUNTED_MAX, true));
    assert_eq!(more.last.at(), at("2026-01-01T16:41:00Z"));
    let interval =
        due(&every(1000), Missed::Skip, "2016-01-01T00:00:00Z", "2026-01-01T00:00:00Z").dropped.unwrap();
    assert_eq!((interval.count, interval.more), (315_619_200 - 60, false));
}

/// T-13: the clock is set back ten minutes behind what is settled.
#[test]
fn a_clock_set_back_makes_no_tick_come_twice() {
    let timing = cron("*/5 * * * *");
    let before = due(&timing, Missed::Once, "2026-01-01T11:55:00Z", "2026-01-01T12:00:10Z");
    assert_eq!(run(&before), ["12:00:00"]);
    for now in
        ["2026-01-01T11:50:10Z", "2026-01-01T11:55:00Z", "2026-01-01T12:00:00Z", "2026-01-01T12:04:59Z"]
    {
        let after = timing.due(Missed::All, before.settled, at(now));
        assert_eq!((after.run.len(), after.dropped, after.settled), (0, None, before.settled), "{now}");
        assert_eq!(after.next.unwrap().at(), at("2026-01-01T12:05:00Z"));
    }
}

/// T-11, and resume: a new timing finds nothing to catch up before it was given.
#[test]
fn what_a_pause_or_a_new_timing_would_have_wanted_is_not_missed() {
    let settled = Settled::up_to(at("2026-01-01T09:00:00Z"));
    let resumed = settled.renewed(at("2026-01-01T12:05:00Z"));
    let found = cron("*/15 * * * *").due(Missed::All, resumed, at("2026-01-01T12:16:00Z"));
    assert_eq!(run(&found), ["12:15:00"]);
    assert_eq!(resumed.renewed(at("2026-01-01T12:00:00Z")), resumed, "never back");
    // Edited from */15 to */20 at the moment both tick, after the old one fired: the new one does not fire, too.
    let fired = due(&cron("*/15 * * * *"), Missed::Once, "2026-01-01T11:45:00Z", "2026-01-01T12:00:00Z");
    let edited = fired.settled.renewed(at("2026-01-01T12:00:00Z"));
    let found = cron("*/20 * * * *").due(Missed::Once, edited, at("2026-01-01T12:20:00Z"));
    assert_eq!(run(&found), ["12:20:00"]);
}

proptest! {
    /// I9: whatever the clock does and how often it is looked at, no tick runs twice, `settled` never goes back, and under
    /// `all` no tick up to the latest time seen is left out as long as its bound is not reached.
    #[test]
    fn each_tick_runs_at_most_once_over_clock_steps(
        steps in prop::collection::vec(-900_000..1_800_000_i64, 1..60),
        missed in prop::sample::select(Missed::ALL),
        text in prop::sample::select(vec!["*/5 * * * *", "0,7,13 * * * *", "CRON_TZ=America/New_York */15 * * * *"]),
    ) {
        // Four hours before New York sets its clocks back.
        let start = at("2026-11-01T02:00:00Z");
        let (timing, id): (Timing, ScheduleId) = (cron(text), "s".parse().unwrap());
        let (mut now, mut furthest, mut settled) = (start, start, Settled::up_to(start));
        let (mut keys, mut ran) = (BTreeSet::new(), Vec::new());
        for step in steps {
            now = Timestamp::from_unix_ms(now.as_unix_ms() + step).unwrap();
            furthest = furthest.max(now);
            let found = timing.due(missed, settled, now);
            prop_assert!(found.settled >= settled);
            prop_assert!(found.run.iter().all(|tick| tick.at() <= now && tick.at() > settled.time()));
            prop_assert!(found.next.is_none_or(|next| next.at() > now.max(settled.time())));
            for tick in &found.run {
                prop_assert!(keys.insert(id.key_of(*tick)), "{:?} twice", tick);
            }
            ran.extend(found.run);
            settled = found.settled;
        }
        prop_assert!(ran.is_sorted());
        if missed == Missed::All {
            let expected: Vec<Tick> = timing.ticks_after(start).take_while(|tick| tick.at() <= furthest).collect();
            prop_assert_eq!(ran, expected);
        }
    }

    /// T-08: two evaluate at their own pace and with clocks apart. Each claims a tick by its key, as the ledger does.
    #[test]
    fn two_evaluators_with_one_ledger_make_one_job_per_tick(looks in prop::collection::vec((any::<bool>(), 0..400_000_i64), 1..60)) {
        let start = at("2026-03-08T05:00:00Z");
        let timing = cron("CRON_TZ=America/New_York */5 * * * *");
        let id: ScheduleId = "s".parse().unwrap();
        let mut nodes = [(start, Settled::up_to(start)); 2];
        let (mut ledger, mut jobs) = (BTreeSet::new(), Vec::new());
        for (second, step) in looks {
            let (now, settled) = &mut nodes[usize::from(second)];
            *now = Timestamp::from_unix_ms(now.as_unix_ms() + step).unwrap();
            let found = timing.due(Missed::All, *settled, *now);
            *settled = found.settled;
            jobs.extend(found.run.into_iter().filter(|tick| ledger.insert(id.key_of(*tick))));
        }
        let furthest = nodes.map(|(now, _)| now).into_iter().max().unwrap();
        jobs.sort();
        let expected: Vec<Tick> = timing.ticks_after(start).take_while(|tick| tick.at() <= furthest).collect();
        prop_assert_eq!(jobs, expected);
    }
}
