//! Schedules: when they tick, what a tick adds, and that it adds it once (I9).

use std::collections::BTreeSet;

use onefold_core::schedule::{DropReason, DroppedTicks, Interval, Missed, Overlap, Pattern, Timing};
use onefold_core::{DurationMs, EventKind, QueuePatch};

use crate::{
    Build, Harness, after, asked, complete, cron, days, every, fail_for_good, group, hours, job, key, keyed,
    queue, secs, template,
};

/// Schedules: a tick adds what the schedule was given, at its time, not earlier, and says which tick it is.
pub async fn a_tick_adds_the_job_at_its_time(h: &mut dyn Harness) {
    let start = h.now();
    let wanted =
        job().content("hello").priority(3).max_attempts(7).group("g").label("nightly").timeout(secs(9));
    let put = h.put_minutely(|new| new.job = template(wanted.clone())).await;
    assert!(put.created);
    assert_eq!(put.view.schedule.next().map(|tick| tick.at()), Some(start.saturating_add(secs(60))));
    h.pass(DurationMs::from_ms(59_999)).await;
    assert_eq!(h.ticks_of("q").await, []);
    let ticked = h.pass(DurationMs::from_ms(1)).await;
    assert_eq!(ticked.ticks, 1);
    let leased = h.take_full("q").await;
    assert_eq!(leased.spec.payload, wanted.spec.payload);
    assert_eq!((leased.job.priority, leased.job.max_attempts), (3, 7));
    assert_eq!((leased.spec.group, leased.spec.timeout), (Some(group("g")), Some(secs(9))));
    assert_eq!((leased.spec.labels, leased.spec.key), (wanted.spec.labels, None));
    let tick = start.saturating_add(secs(60)).to_string();
    let headers = [("schedule-id".to_owned(), "s".to_owned()), ("schedule-tick".to_owned(), tick)];
    assert_eq!(leased.spec.headers, headers);
    let schedule = h.a_schedule("s").await;
    assert_eq!((schedule.last_job, schedule.counts.added), (Some(leased.job.id), 1));
    assert_eq!(schedule.last_tick, Some(start.saturating_add(secs(60))));
    h.pass(secs(60)).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[60, 120, 180]));
    assert_eq!(h.counts("q").await.accepted, 3);
}

/// Schedules: a tick says when the next schedule is due, and an earlier one calls for a tick.
pub async fn ticks_come_when_schedules_are_due(h: &mut dyn Harness) {
    let start = h.now();
    h.put_schedule("later", asked(every(secs(30), start))).await;
    let ticked = h.tick().await;
    assert_eq!(ticked.next, start.saturating_add(secs(30)));
    let engine = h.engine();
    let sooner = tokio::spawn(async move { engine.tick_sooner().await });
    h.put_schedule("sooner", asked(every(secs(10), start))).await;
    sooner.await.unwrap();
    assert_eq!(h.tick().await.next, start.saturating_add(secs(10)));
    h.pause_schedule("sooner", true).await.unwrap();
    h.delete_schedule("later").await.unwrap();
    assert!(h.tick().await.next > start.saturating_add(secs(30)));
}

/// I9: however many evaluate, and however often, a tick has one job.
pub async fn i9_one_tick_has_one_job(h: &mut dyn Harness) {
    let start = h.now();
    for n in 0..20 {
        h.put_schedule(&format!("s{n}"), asked(every(secs(60), start))).await;
    }
    for round in 1..=3 {
        h.wait(secs(60));
        let calls = [(); 4].map(|()| {
            let engine = h.engine();
            tokio::spawn(async move { engine.tick().await.unwrap().ticks })
        });
        let mut added = 0;
        for call in calls {
            added += call.await.unwrap();
        }
        // What one of them was at when another looked is left to the next.
        added += h.tick().await.ticks;
        assert_eq!(added, 20);
        assert_eq!(h.tick().await.ticks, 0);
        assert_eq!(h.ticks_of("q").await.len(), 20 * round);
    }
}

/// I9, I1: schedules and what is settled survive crashes: no tick is lost, and none comes twice.
pub async fn i9_a_crash_loses_no_tick_and_repeats_none(h: &mut dyn Harness) {
    let start = h.now();
    let put = h.put_minutely(|new| new.job = template(job().content("x"))).await;
    h.reopen_after_crash().await;
    assert_eq!(h.find_schedule("s").await, Some(put.view));
    h.wait(secs(60));
    h.reopen_after_crash().await;
    h.tick().await;
    h.reopen_after_crash().await;
    h.tick().await;
    h.reopen_cleanly().await;
    h.tick().await;
    assert_eq!(h.ticks_of("q").await, after(start, &[60]));
    h.pause_schedule("s", true).await.unwrap();
    h.reopen_after_crash().await;
    assert!(h.a_schedule("s").await.paused);
    h.delete_schedule("s").await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.find_schedule("s").await, None);
}

/// I9: a clock that is set back makes no tick come twice.
pub async fn i9_a_step_back_repeats_no_tick(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let start = h.now();
    h.put_minutely(|_| {}).await;
    h.pass(secs(180)).await;
    h.step_back(secs(150));
    h.tick().await;
    h.pass(secs(60)).await;
    assert_eq!(h.a_schedule("s").await.last_tick, Some(start.saturating_add(secs(180))));
    h.pass(secs(150)).await;
    let ticks = h.ticks_of("q").await;
    assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len());
    assert_eq!(ticks.last(), Some(&start.saturating_add(secs(240))));
}

/// I9: the ledger knows a tick even if its schedule was deleted and made again, for another queue.
pub async fn i9_a_tick_of_a_schedule_made_again_is_the_same(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let start = h.now();
    h.put_minutely(|_| {}).await;
    h.pass(secs(60)).await;
    h.step_back(secs(30));
    h.tick().await;
    h.delete_schedule("s").await.unwrap();
    let mut again = asked(every(secs(60), start));
    again.queue = queue("other");
    h.put_schedule("s", again).await;
    h.pass(secs(30)).await;
    assert_eq!(h.ticks_of("other").await, []);
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("other").await, after(start, &[120]));
}

/// I9: the key of a tick is out of callers' reach: the same text as a key of theirs is another key.
pub async fn i9_no_caller_uses_or_frees_the_key_of_a_tick(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|_| {}).await;
    let text = format!("s@{}", start.saturating_add(secs(60)));
    let own = h.add("q", keyed(&text, "mine")).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await.len(), 1);
    assert_eq!(h.repeat("q", keyed(&text, "mine")).await.id, own);
    assert_eq!(h.holder("q", &text).await.map(|view| view.job), Some(own));
    h.engine().release_key(queue("q"), key(&text)).await.unwrap();
    assert_eq!(h.engine().release_key(queue("q"), key(&text)).await.unwrap(), None);
    if !h.flags().clock_steps {
        return;
    }
    h.step_back(secs(30));
    h.delete_schedule("s").await.unwrap();
    h.put_schedule("s", asked(every(secs(60), start))).await;
    h.pass(secs(30)).await;
    assert_eq!(h.ticks_of("q").await.len(), 1);
}

/// I9: what is remembered of ticks does not go with the queue; the next tick makes that again.
pub async fn i9_ticks_outlive_their_queue(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|_| {}).await;
    h.pass(secs(60)).await;
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    h.tick().await;
    assert_eq!(h.ticks_of("q").await, []);
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[120]));
    assert_eq!(h.counts("q").await.accepted, 1);
    if !h.flags().clock_steps {
        return;
    }
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    h.step_back(secs(90));
    h.delete_schedule("s").await.unwrap();
    h.put_schedule("s", asked(every(secs(60), start))).await;
    h.pass(secs(30)).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, []);
}

/// T-07: of the ticks that nobody was there for, one gets a job, or none, or each; the others are told (I10).
pub async fn i10_missed_ticks_are_caught_up_as_asked_and_told(h: &mut dyn Harness) {
    let start = h.now();
    for (name, missed) in [("once", Missed::Once), ("skip", Missed::Skip), ("all", Missed::All)] {
        let mut new = asked(every(secs(600), start));
        (new.queue, new.missed) = (queue(name), missed);
        h.put_schedule(name, new).await;
    }
    h.reopen_after_crash().await;
    h.pass(secs(1_900)).await;
    assert_eq!(h.ticks_of("once").await, after(start, &[1_800]));
    assert_eq!(h.ticks_of("skip").await, []);
    assert_eq!(h.ticks_of("all").await, after(start, &[600, 1_200, 1_800]));
    let dropped = |count, last| DroppedTicks {
        reason: DropReason::Missed,
        count,
        more: false,
        first: start.saturating_add(secs(600)),
        last: start.saturating_add(secs(last)),
    };
    let events = h.events_of_schedules().await;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::TicksDropped)
        .map(|event| (event.queue.as_str(), event.schedule.as_ref().unwrap().id.as_str()))
        .collect();
    assert_eq!(BTreeSet::from_iter(told), BTreeSet::from([("once", "once"), ("skip", "skip")]));
    let all: BTreeSet<_> = h.dropped().await.iter().map(|told| (told.count, told.first, told.last)).collect();
    let [once, skip] = [dropped(2, 1_200), dropped(3, 1_800)];
    assert_eq!(all, BTreeSet::from([(2, once.first, once.last), (3, skip.first, skip.last)]));
    assert_eq!(h.a_schedule("skip").await.counts.missed, 3);
    assert_eq!(h.a_schedule("once").await.counts.missed, 2);
}

/// T-12: beside an unfinished job a tick adds another, is dropped and told, or adds one that waits its turn (I8).
pub async fn t12_overlap_is_met_as_asked(h: &mut dyn Harness) {
    let start = h.now();
    for (name, overlap) in [("allow", Overlap::Allow), ("skip", Overlap::Skip), ("queue", Overlap::Queue)] {
        let mut new = asked(every(secs(60), start));
        (new.queue, new.overlap) = (queue(name), overlap);
        h.put_schedule(name, new).await;
    }
    h.pass(secs(60)).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("allow").await.len(), 2);
    assert_eq!(h.lease_ids("allow", 10).await.len(), 2);
    assert_eq!(h.ticks_of("skip").await, after(start, &[60]));
    assert_eq!(h.ticks_of("queue").await.len(), 2);
    let first = h.take("queue").await;
    assert!(h.nothing_to_lease("queue").await);
    h.end(first, complete()).await;
    assert_eq!(h.lease_ids("queue", 10).await.len(), 1);
    let told = DroppedTicks {
        reason: DropReason::Overlap,
        count: 1,
        more: false,
        first: start.saturating_add(secs(120)),
        last: start.saturating_add(secs(120)),
    };
    assert_eq!(h.dropped().await, [told]);
    assert_eq!(h.a_schedule("skip").await.counts.overlapped, 1);
    // Whatever way it ended.
    h.work("skip", fail_for_good()).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("skip").await, after(start, &[60, 180]));
    // A retrying job is unfinished.
    h.work("skip", crate::fail_for(hours(1))).await;
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("skip").await, after(start, &[60, 180]));
}

/// T-12: ticks that are caught up together meet the rule one after another.
pub async fn t12_ticks_caught_up_together_overlap(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|new| (new.missed, new.overlap) = (Missed::All, Overlap::Skip)).await;
    h.pass(secs(300)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[60]));
    assert_eq!(h.a_schedule("s").await.counts.overlapped, 4);
}

/// Schedules: after its end a schedule does not tick, and stays to be looked at.
pub async fn no_tick_comes_after_the_end(h: &mut dyn Harness) {
    let start = h.now();
    let end = start.saturating_add(secs(120));
    let pattern = Pattern::Every(Interval::new(secs(60), start).unwrap());
    h.put_schedule("s", asked(Timing::new(pattern, None, Some(end)).unwrap())).await;
    for _ in 0..4 {
        h.pass(secs(60)).await;
    }
    assert_eq!(h.ticks_of("q").await, after(start, &[60, 120]));
    assert_eq!(h.a_schedule("s").await.next(), None);
}

/// Clocks are changed by the rules of the zone: in New York's skipped hour a fixed time ticks once, at its end.
pub async fn a_zones_clock_is_followed(h: &mut dyn Harness) {
    let mut new = asked(cron("30 2 * * *", "America/New_York"));
    new.missed = Missed::All;
    h.put_schedule("s", new).await;
    h.pass(days(120)).await;
    let ticks = h.ticks_of("q").await;
    assert_eq!(ticks.len(), 120);
    let on_the_day: Vec<_> =
        ticks.iter().map(ToString::to_string).filter(|tick| tick.starts_with("2027-03-14")).collect();
    assert_eq!(on_the_day, ["2027-03-14T07:00:00.000Z"]);
}

/// Schedules: the queue's settings count for a schedule's jobs as for any, at the time of the tick.
pub async fn a_queues_settings_are_those_of_its_jobs(h: &mut dyn Harness) {
    h.put_minutely(|_| {}).await;
    h.set("q", QueuePatch { max_attempts: Some(Some(3)), ..QueuePatch::default() }).await;
    h.pass(secs(60)).await;
    assert_eq!(h.take_full("q").await.job.max_attempts, 3);
}

/// Schedules: many schedules that are due at once are all evaluated, a bounded number in each tick, each once.
pub async fn many_due_at_once_are_all_evaluated(h: &mut dyn Harness) {
    let start = h.now();
    for n in 0..700 {
        h.put_schedule(&format!("s{n}"), asked(every(secs(60), start))).await;
    }
    assert_eq!(h.pass(secs(60)).await.ticks, 700);
    assert_eq!(h.pass(secs(1)).await.ticks, 0);
    assert_eq!(h.counts("q").await.accepted, 700);
}
