//! Commands of several callers share one transaction. None may notice, whatever the others ask for
//! and even if the transaction is rolled back over one of them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod kit;

use kit::{GatedClock, add, after, call, damage, end, ids, keyed, open, secs, waiting_call};
use onefold_core::{DurationMs, End, Engine, EngineError, LeaseParams, NewJob};

/// Asks `$first` and `$second` so that both are in one group commit, in this order.
macro_rules! in_one_group {
    ($engine:ident, $clock:ident, $first:expr, $second:expr) => {{
        $clock.shut();
        let held_up = $engine.stats();
        $clock.wait_for_the_writer();
        let (first, second) = ($first, $second);
        $clock.open();
        held_up.await.unwrap();
        (first, second)
    }};
}

/// A poll that stands before the job it wants in one group is given it.
#[tokio::test]
async fn a_poll_gets_a_job_added_in_its_own_group() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, after(secs(9))).await;
    let (poll, added) =
        in_one_group!(engine, clock, engine.lease(waiting_call(1)), engine.add(kit::jobs(vec![keyed("a")])));
    let added = added.await.unwrap().remove(0).unwrap();
    assert_eq!(ids(&poll.await.unwrap()), [added.id]);
}

/// Drain: a poll behind it in one group gets nothing, neither parked nor a job of the same group.
#[tokio::test]
async fn a_poll_behind_a_drain_in_one_group_ends_at_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, NewJob::default()).await;
    let (drained, poll) = in_one_group!(engine, clock, engine.drain(), engine.lease(waiting_call(1)));
    drained.await.unwrap();
    assert!(poll.await.unwrap().is_empty());
}

/// Drain: polls parked before get nothing of what the drain's own group makes available.
#[tokio::test]
async fn a_drain_ends_parked_polls_empty() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let poll = engine.lease(waiting_call(1));
    engine.stats().await.unwrap();
    let (drained, added) =
        in_one_group!(engine, clock, engine.drain(), engine.add(kit::jobs(vec![keyed("a")])));
    drained.await.unwrap();
    added.await.unwrap().remove(0).unwrap();
    assert!(poll.await.unwrap().is_empty());
}

/// What a tick did in a group that is rolled back over another's damaged job is done all the same:
/// timers of the time it looked ahead to are loaded again.
#[tokio::test]
async fn a_rolled_back_tick_forgets_no_timer() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, NewJob::default()).await;
    let far = add(&engine, after(secs(3_600))).await;
    damage(dir.path(), bad);
    clock.advance(secs(3_600));
    let (ticked, refused) = in_one_group!(engine, clock, engine.tick(), engine.cancel(bad, false));
    assert!(matches!(refused.await, Err(EngineError::Corrupt(_))));
    assert_eq!(ticked.await.unwrap().due, 1);
    assert_eq!(ids(&engine.lease(call(9)).await.unwrap()), [far]);
}

/// A step of the clock that a rolled-back tick saw is acted on by the next.
#[tokio::test]
async fn a_rolled_back_tick_forgets_no_clock_step() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let bad = add(&engine, after(secs(90_000))).await;
    add(&engine, NewJob::default()).await;
    let held = engine.lease(call(1)).await.unwrap().remove(0);
    damage(dir.path(), bad);
    clock.step_by(secs(600));
    let (ticked, refused) = in_one_group!(engine, clock, engine.tick(), engine.cancel(bad, false));
    assert!(matches!(refused.await, Err(EngineError::Corrupt(_))));
    let ticked = ticked.await.unwrap();
    assert_eq!((ticked.clock_stepped, ticked.expired), (true, 0), "the lease has its full length again");
    assert!(!engine.tick().await.unwrap().clock_stepped, "and that once");
    kit::settle(&engine, end(&held, End::Complete { result: None })).await.unwrap().unwrap();
}

/// A job given to the repeat of a poll stays with it when the first call is dropped unread.
#[tokio::test]
async fn dropping_the_first_call_of_a_repeated_poll_releases_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, NewJob::default()).await;
    let poll = LeaseParams { poll: Some(7), ..waiting_call(1) };
    let first = engine.lease(poll.clone());
    engine.stats().await.unwrap();
    let held = engine.lease(poll).await.unwrap().remove(0);
    drop(first);
    engine.stats().await.unwrap();
    let settled = kit::settle(&engine, end(&held, End::Complete { result: None })).await.unwrap();
    assert!(settled.is_ok(), "{settled:?}");
}

/// A call without a poll id that is dropped unread gives its jobs back at no cost.
#[tokio::test]
async fn a_dropped_call_gives_its_jobs_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let id = add(&engine, NewJob::default()).await;
    let unread = engine.lease(call(1));
    engine.stats().await.unwrap();
    drop(unread);
    let again = engine.lease(LeaseParams { wait: DurationMs::from_ms(1_000), ..call(1) }).await.unwrap();
    assert_eq!(ids(&again), [id]);
    assert_eq!(again[0].job.failures + again[0].job.lost_leases, 0);
}

/// Once a close is answered, the directory can be opened by another.
#[tokio::test]
async fn a_closed_directory_is_free() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let mut before = open(dir.path(), &clock);
    for _ in 0..20 {
        before.close().await.unwrap();
        let next = open(dir.path(), &clock);
        before = next;
    }
}

/// The repeat of a poll is given what its first call was given in the same group.
#[tokio::test]
async fn a_repeated_poll_gets_the_job_of_its_group() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let poll = LeaseParams { poll: Some(7), ..waiting_call(1) };
    let first = engine.lease(poll.clone());
    engine.stats().await.unwrap();
    let (second, added) =
        in_one_group!(engine, clock, engine.lease(poll), engine.add(kit::jobs(vec![NewJob::default()])));
    let id = added.await.unwrap().remove(0).unwrap().id;
    drop(first);
    let got = tokio::time::timeout(std::time::Duration::from_secs(2), second).await;
    assert_eq!(ids(&got.unwrap().unwrap()), [id]);
}
