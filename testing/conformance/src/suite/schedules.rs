//! What is asked of schedules: pausing, changing, running now, deleting, listing.

use onefold_core::schedule::{ListSchedules, Overlap};
use onefold_core::{EventKind, Payload, Refusal, State};

use crate::{Build, Harness, after, asked, cron, every, hours, job, schedule_id, secs, template};

/// Schedules: a paused schedule does not tick, and begins anew when it is resumed; resuming what runs changes nothing.
pub async fn a_pause_is_nobodys_time(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|_| {}).await;
    let view = h.pause_schedule("s", true).await.unwrap();
    assert_eq!((view.schedule.paused, view.schedule.next()), (true, None));
    h.pass(secs(90)).await;
    let view = h.pause_schedule("s", false).await.unwrap();
    assert_eq!(view.schedule.next().map(|tick| tick.at()), Some(start.saturating_add(secs(120))));
    assert_eq!(h.tick().await.ticks, 0);
    h.wait(secs(30));
    h.pause_schedule("s", false).await.unwrap();
    h.tick().await;
    assert_eq!(h.ticks_of("q").await, after(start, &[120]));
    let told: Vec<_> = h.events_of_schedules().await.iter().map(|event| event.kind).collect();
    assert_eq!(told, [EventKind::ScheduleChanged; 3]);
    assert_eq!(h.pause_schedule("none", true).await, Err(Refusal::ScheduleNotFound));
}

/// T-11: with another timing a schedule begins anew; with the same one it stays where it is. Both add the new job from
/// then on.
pub async fn t11_an_edit_adds_the_old_tick_or_the_new_one(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|new| new.job = template(job().content("old"))).await;
    h.wait(secs(60));
    // The tick is due, and not yet noticed.
    let mut new = asked(every(secs(60), start));
    new.job = template(job().content("new"));
    let put = h.put_schedule("s", new.clone()).await;
    assert!(!put.created && put.view.schedule.created_at == start);
    h.tick().await;
    let leased = h.take_full("q").await;
    assert_eq!(leased.spec.payload, new.job.spec.payload);
    h.wait(secs(60));
    new.timing = every(secs(60), start.saturating_add(secs(30)));
    let put = h.put_schedule("s", new).await;
    assert_eq!(put.view.schedule.counts.added, 1);
    assert_eq!(h.tick().await.ticks, 0);
    h.pass(secs(30)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[60, 150]));
}

/// Schedules: whoever puts its schedules at every start changes nothing and is told to nobody.
pub async fn the_same_again_changes_nothing(h: &mut dyn Harness) {
    let mut new = asked(cron("0 3 * * *", "Europe/Berlin"));
    new.job = template(job().content("x").priority(2));
    let first = h.put_schedule("s", new.clone()).await;
    h.pass(hours(20)).await;
    h.pause_schedule("s", true).await.unwrap();
    let before = h.find_schedule("s").await;
    let again = h.put_schedule("s", new).await;
    assert_eq!((again.created, Some(again.view)), (false, before.clone()));
    assert_eq!(h.find_schedule("s").await, before);
    assert!(first.created);
    let changed = h.events_of_schedules().await.into_iter();
    assert_eq!(changed.filter(|event| event.kind == EventKind::ScheduleChanged).count(), 2);
}

/// Run now: a job beside the ticks, also of a paused schedule, that settles none.
pub async fn run_now_adds_a_job_beside_the_ticks(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|new| new.job = template(job().content("x"))).await;
    let by_hand = h.run_schedule("s").await.unwrap();
    let view = h.view(by_hand).await;
    assert_eq!(view.spec.headers, [("schedule-id".to_owned(), "s".to_owned())]);
    assert_eq!(view.spec.payload, job().content("x").spec.payload);
    h.pause_schedule("s", true).await.unwrap();
    let other = h.run_schedule("s").await.unwrap();
    assert_ne!(by_hand, other);
    h.pause_schedule("s", false).await.unwrap();
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[60]));
    assert_eq!(h.a_schedule("s").await.counts.added, 1);
    assert_eq!(h.counts("q").await.accepted, 3);
    assert_eq!(h.run_schedule("none").await, Err(Refusal::ScheduleNotFound));
}

/// Schedules: run now meets the overlap as a tick does, and the next tick meets its job.
pub async fn run_now_meets_the_overlap(h: &mut dyn Harness) {
    let start = h.now();
    h.put_minutely(|new| new.overlap = Overlap::Skip).await;
    let by_hand = h.run_schedule("s").await.unwrap();
    assert_eq!(h.run_schedule("s").await, Err(Refusal::ScheduleJobUnfinished { job: by_hand }));
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, []);
    h.cancel(by_hand).await.unwrap();
    h.pass(secs(60)).await;
    assert_eq!(h.ticks_of("q").await, after(start, &[120]));
}

/// Schedules: a deleted schedule does not tick; its jobs stay.
pub async fn deleting_a_schedule_leaves_its_jobs(h: &mut dyn Harness) {
    h.put_minutely(|new| new.job = template(job().content("x"))).await;
    h.pass(secs(60)).await;
    h.wait(secs(60));
    let view = h.find_schedule("s").await.unwrap();
    assert_eq!(h.delete_schedule("s").await.unwrap(), view);
    h.tick().await;
    assert_eq!(h.ticks_of("q").await.len(), 1);
    assert_eq!(h.state(view.schedule.last_job.unwrap()).await, State::Available);
    assert_eq!(h.delete_schedule("s").await, Err(Refusal::ScheduleNotFound));
    let last = h.events_of_schedules().await.pop().unwrap();
    assert_eq!((last.kind, last.schedule.unwrap().id), (EventKind::ScheduleDeleted, schedule_id("s")));
}

/// Schedules: schedules are listed by their ids, page by page, without payloads.
pub async fn schedules_are_listed_by_id(h: &mut dyn Harness) {
    let start = h.now();
    for name in ["b", "a", "c", "B"] {
        let mut new = asked(every(secs(60), start));
        new.job = template(job().content(name).kind("k"));
        h.put_schedule(name, new).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = h.engine().schedules(ListSchedules { after, limit: 3 }).await.unwrap();
        for view in &page.schedules {
            assert_eq!((&view.job.payload, view.job.kind.is_some()), (&Payload::Absent, true));
        }
        seen.extend(page.schedules.iter().map(|view| view.schedule.id.as_str().to_owned()));
        after = page.schedules.last().map(|view| view.schedule.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, ["B", "a", "b", "c"]);
    assert!(matches!(h.find_schedule("a").await.unwrap().job.payload, Payload::Json(_)));
}
