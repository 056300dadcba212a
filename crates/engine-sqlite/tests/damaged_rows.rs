//! A damaged row is the trouble of those who name its job, and of nobody else.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod kit;

use kit::{GatedClock, add, after, call, damage, days, end, ids, keyed, open, queue, secs, waiting_call};
use onefold_core::{End, Engine, EngineError, NewJob};

/// Who asks for the damaged job is told; leases of the queue pass it over.
#[tokio::test]
async fn a_damaged_head_does_not_stop_its_queue() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, NewJob::default()).await;
    let second = add(&engine, NewJob::default()).await;
    damage(dir.path(), first);
    let leased = engine.lease(call(9)).await.unwrap();
    assert_eq!(ids(&leased), [second]);
    kit::settle(&engine, end(&leased[0], End::Complete { result: None })).await.unwrap().unwrap();
    assert!(matches!(engine.get(first).await, Err(EngineError::Corrupt(_))));
    assert!(matches!(engine.cancel(first, false).await, Err(EngineError::Corrupt(_))));
    let view = engine.queue(queue("q")).await.unwrap().unwrap();
    assert_eq!((view.counts.available, view.oldest_available), (1, None), "it is counted, not served");
}

/// Looking at the queues works although the oldest job cannot be read.
#[tokio::test]
async fn a_damaged_head_does_not_hide_the_queues() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, NewJob::default()).await;
    clock.advance(secs(5));
    let second = add(&engine, NewJob::default()).await;
    damage(dir.path(), first);
    let view = engine.queues().await.unwrap().remove(0);
    assert_eq!(view.oldest_available, Some(engine.get(second).await.unwrap().unwrap().job.created_at()));
}

/// Ticks go on when the next job to come due is damaged.
#[tokio::test]
async fn a_damaged_job_that_comes_due_does_not_stop_the_ticks() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, after(secs(1))).await;
    let second = add(&engine, after(secs(2))).await;
    damage(dir.path(), first);
    clock.advance(secs(2));
    let ticked = engine.tick().await.unwrap();
    assert_eq!(ticked.due, 1);
    assert_eq!(ids(&engine.lease(call(9)).await.unwrap()), [second]);
    assert!(
        engine.tick().await.unwrap().next > onefold_core::Clock::now(clock.as_ref()),
        "and does not come up again"
    );
}

/// Retention passes over a damaged job.
#[tokio::test]
async fn a_damaged_finished_job_does_not_stop_retention() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let group = |name| {
        let mut job = NewJob::default();
        job.spec.group = Some(onefold_core::Group::new(name).unwrap());
        job
    };
    let first = add(&engine, group("a")).await;
    let second = add(&engine, group("b")).await;
    for leased in engine.lease(call(2)).await.unwrap() {
        kit::settle(&engine, end(&leased, End::Complete { result: None })).await.unwrap().unwrap();
    }
    damage(dir.path(), first);
    clock.advance(days(8));
    let mut purged = 0;
    for _ in 0..4 {
        purged += engine.tick().await.unwrap().purged;
    }
    assert_eq!((purged, engine.get(second).await.unwrap()), (1, None));
}

/// An add is not refused because a parked poll meets a damaged job ahead of the new one.
#[tokio::test]
async fn a_parked_poll_that_meets_damage_does_not_fail_the_add_that_woke_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let first = add(&engine, NewJob::default()).await;
    let poll = {
        let held = engine.lease(call(1)).await.unwrap().remove(0);
        let poll = engine.lease(waiting_call(1));
        engine.stats().await.unwrap();
        kit::settle(&engine, end(&held, End::Snooze { delay: secs(1) })).await.unwrap().unwrap();
        poll
    };
    damage(dir.path(), first);
    // The head comes due while another is added: both are looked at for the poll.
    clock.advance(secs(1));
    clock.shut();
    let held_up = engine.stats();
    clock.wait_for_the_writer();
    let ticked = engine.tick();
    let added = engine.add(kit::jobs(vec![keyed("b")]));
    clock.open();
    held_up.await.unwrap();
    ticked.await.unwrap();
    let added = added.await.unwrap().remove(0).unwrap();
    assert_eq!(ids(&poll.await.unwrap()), [added.id]);
}

/// A damaged entry of the dedup ledger keeps its key from being added again, and nobody else's.
#[tokio::test]
async fn a_damaged_ledger_entry_refuses_only_its_own_key() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, keyed("a")).await;
    add(&engine, keyed("b")).await;
    for leased in engine.lease(call(2)).await.unwrap() {
        kit::settle(&engine, end(&leased, End::Complete { result: None })).await.unwrap().unwrap();
    }
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    assert_eq!(conn.execute("UPDATE onefold_ledger SET until = until + 1 WHERE key = 'a'", []).unwrap(), 1);
    drop(conn);
    assert!(matches!(engine.add(kit::jobs(vec![keyed("a")])).await, Err(EngineError::Corrupt(_))));
    clock.advance(days(8));
    engine.tick().await.unwrap();
    let again = engine.add(kit::jobs(vec![keyed("b")])).await.unwrap().remove(0).unwrap();
    assert!(!again.duplicate, "its window is over");
    assert!(matches!(engine.add(kit::jobs(vec![keyed("a")])).await, Err(EngineError::Corrupt(_))));
}
