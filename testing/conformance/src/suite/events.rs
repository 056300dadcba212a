//! Events.

use onefold_core::{
    DeadReason, End, EventKind, EventsParams, FreeOn, JobEdit, JobId, OnDuplicate, QueuePatch, limits,
};

use crate::{
    Build, Harness, complete, days, fail_for, fail_for_good, hours, job, key, keyed, ms, peek, queue, secs,
    snooze,
};

async fn kinds_of(h: &dyn Harness, id: JobId) -> Vec<EventKind> {
    let events = h.events_since(0).await;
    events.iter().filter(|event| event.job == Some(id)).map(|event| event.kind).collect()
}

/// I10: every transition of a job has its event, in order, with time, queue and attempt.
pub async fn i10_every_transition_has_its_event(h: &mut dyn Harness) {
    use EventKind as E;
    let id = h.add("q", job().after(secs(1)).max_attempts(9)).await;
    h.pass(secs(1)).await;
    h.work("q", End::Release).await;
    h.work("q", snooze(secs(1))).await;
    h.pass(secs(1)).await;
    h.work("q", fail_for(secs(1))).await;
    h.pass(secs(1)).await;
    h.lose("q").await;
    h.work("q", fail_for_good()).await;
    h.retry(id).await.unwrap();
    h.cancel(id).await.unwrap();
    h.retry(id).await.unwrap();
    h.work("q", complete()).await;
    let expected = [
        (E::Added, None),
        (E::Available, None),
        (E::Leased, Some(1)),
        (E::Released, Some(1)),
        (E::Leased, Some(2)),
        (E::Snoozed, Some(2)),
        (E::Available, Some(2)),
        (E::Leased, Some(3)),
        (E::Retrying, Some(3)),
        (E::Available, Some(3)),
        (E::Leased, Some(4)),
        (E::LeaseLost, Some(4)),
        (E::Leased, Some(5)),
        (E::Dead, Some(5)),
        (E::Retried, Some(5)),
        (E::Cancelled, Some(5)),
        (E::Retried, Some(5)),
        (E::Leased, Some(6)),
        (E::Completed, Some(6)),
    ];
    let events = h.events_since(0).await;
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.attempt)).collect();
    assert_eq!(told, expected);
    assert!(events.iter().all(|event| event.job == Some(id) && event.queue == queue("q")));
    assert!(events.windows(2).all(|pair| pair[0].cursor < pair[1].cursor && pair[0].at <= pair[1].at));
    assert_eq!(events.last().unwrap().at, h.now());
}

/// I10: a job that dies tells its reason in its event.
pub async fn i10_a_dead_job_tells_its_reason(h: &mut dyn Harness) {
    let permanent = h.add_dead("q", job()).await;
    let attempts = h.add("q", job().max_attempts(1)).await;
    h.lose("q").await;
    let crash_loop = h.add("q", job()).await;
    for _ in 0..=limits::CRASH_LOOP_LOSSES {
        h.lose("q").await;
    }
    let expired = h.add("q", job()).await;
    h.work("q", snooze(days(8))).await;
    let expected = [
        (permanent, DeadReason::Permanent),
        (attempts, DeadReason::Attempts),
        (crash_loop, DeadReason::CrashLoop),
        (expired, DeadReason::Expired),
    ];
    let events = h.events_since(0).await;
    let dead: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::Dead)
        .map(|event| (event.job.unwrap(), event.reason.unwrap()))
        .collect();
    assert_eq!(dead, expected);
    assert!(events.iter().all(|event| event.reason.is_some() == (event.kind == EventKind::Dead)));
}

/// I10: what happens beside transitions has events too: repeats, mismatches, replacements, edits,
/// late writes, keys freed by hand, settings, deletions.
pub async fn i10_what_happens_beside_transitions_has_events(h: &mut dyn Harness) {
    use EventKind as E;
    let id = h.add("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    h.repeat("q", keyed("k", "x")).await;
    h.try_add("q", keyed("k", "y")).await.unwrap_err();
    h.try_add("q", keyed("k", "x").on_duplicate(OnDuplicate::Reject)).await.unwrap_err();
    h.repeat("q", keyed("k", "x").on_duplicate(OnDuplicate::Replace)).await;
    let edit = JobEdit { priority: Some(1), ..JobEdit::default() };
    h.engine().edit(id, edit).await.unwrap().unwrap();
    let lost = h.lose("q").await;
    h.try_end(lost, complete()).await.unwrap_err();
    h.engine().release_key(queue("q"), key("k")).await.unwrap();
    h.work("q", complete()).await;
    h.delete(id).await.unwrap();
    let expected = [
        E::Added,
        E::Duplicate,
        E::Mismatch,
        E::Duplicate,
        E::Edited,
        E::Edited,
        E::Leased,
        E::LeaseLost,
        E::LateWrite,
        E::KeyReleased,
        E::Leased,
        E::Completed,
        E::Deleted,
    ];
    assert_eq!(kinds_of(h, id).await, expected);
    let cursor = h.last_event().await;
    h.set("q", QueuePatch { paused: Some(true), ..QueuePatch::default() }).await;
    h.engine().delete_queue(queue("q"), false).await.unwrap().unwrap();
    let told: Vec<_> =
        h.events_since(cursor).await.iter().map(|e| (e.kind, e.queue.clone(), e.job)).collect();
    assert_eq!(told, [(E::QueueChanged, queue("q"), None), (E::QueueDeleted, queue("q"), None)]);
}

/// API: a reader goes on from any cursor and misses nothing, whatever the size of its pages; a
/// refused atomic batch told nothing.
pub async fn a_reader_goes_on_from_any_cursor(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 30]).await;
    h.add("q", keyed("k", "x")).await;
    h.add_atomic("q", vec![job(), keyed("k", "y")]).await;
    h.lease_ids("q", 10).await;
    let events = h.events_since(0).await;
    assert_eq!(events.len(), 41);
    for (n, event) in events.iter().enumerate() {
        let params = EventsParams { after: event.cursor, limit: 3 };
        let page = h.engine().events(params).await.unwrap();
        let rest = &events[n + 1..];
        assert!(page.events.len() <= 3 && (!page.events.is_empty() || rest.is_empty()));
        assert_eq!(page.events, rest[..page.events.len()]);
        assert_eq!(page.next, page.events.last().unwrap_or(event).cursor);
        assert!(page.oldest <= events[0].cursor);
        assert_eq!(h.events_since(event.cursor).await, rest);
    }
}

/// API: events can be resumed for 24 h, over crashes; a reader that comes later is told that it
/// missed some.
pub async fn events_can_be_resumed_for_a_day(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 5]).await;
    let early = h.events_since(0).await;
    h.reopen_after_crash().await;
    h.pass(ms(24 * 3_600_000 - 1)).await;
    assert_eq!(h.events_since(0).await, early);
    assert_eq!(h.events_since(early[2].cursor).await, early[3..]);
    h.pass(hours(48)).await;
    h.add("q", job()).await;
    h.reopen_cleanly().await;
    let page = h.engine().events(EventsParams { after: early[2].cursor, limit: 100 }).await.unwrap();
    assert_eq!(page.events.last().unwrap().kind, EventKind::Added);
    assert!(page.events.last().unwrap().cursor > early[4].cursor, "cursors are not given again");
    let nothing_missed = page.events[0] == early[3];
    assert_eq!(page.oldest <= early[2].cursor + 1, nothing_missed, "{page:?}");
}

/// API: a reader at the end is woken by the next event, and at once if there is one already.
pub async fn a_reader_at_the_end_is_woken(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let engine = h.engine();
    engine.events_after(0).await.unwrap();
    let cursor = h.last_event().await;
    let mut waiting = engine.events_after(cursor);
    assert_eq!(peek(waiting.as_mut()).await, None);
    h.add("q", job()).await;
    waiting.await.unwrap();
    engine.events_after(cursor).await.unwrap();
    assert_eq!(h.events_since(cursor).await.len(), 1);
}

/// I10: what a refused write leaves in the history is also an event of its own, with the queue it
/// concerns.
pub async fn i10_late_writes_have_events(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lost = h.lose("q").await;
    let cursor = h.last_event().await;
    h.try_end(lost, complete()).await.unwrap_err();
    h.extend(lost, secs(1)).await.unwrap_err();
    let told: Vec<_> = h.events_since(cursor).await.iter().map(|e| (e.kind, e.job)).collect();
    assert_eq!(told, [(EventKind::LateWrite, Some(id)); 2]);
}
