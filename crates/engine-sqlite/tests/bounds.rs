//! A tick does a bounded amount of work, says when there is more, and gets to the end of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod kit;

use kit::{GatedClock, add, call, days, end, open, queue};
use onefold_core::{Clock, End, Engine, EngineError, EventsParams, NewJob, QueueName, State};

/// Events and receipts that outlive their time are dropped, however many there are.
#[tokio::test]
async fn ticks_go_on_until_old_events_and_receipts_are_gone() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    // A commit for each, so that each has a row of its own.
    for _ in 0..2_100 {
        add(&engine, NewJob::default()).await;
    }
    clock.advance(days(31));
    let mut ticks = 1;
    while engine.tick().await.unwrap().next <= clock.now() {
        ticks += 1;
        assert!(ticks < 20);
    }
    assert!(ticks > 1, "so many are not done in one");
    let left = engine.events(EventsParams { after: 0, limit: 10 }).await.unwrap();
    assert!(left.events.is_empty(), "{} events are left", left.events.len());
}

/// Jobs whose last moment to start has passed die a bounded number a tick, all in the end.
#[tokio::test]
async fn overdue_jobs_die_a_bounded_number_at_a_time() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    let count = 2_500;
    engine.add(kit::jobs(vec![NewJob::default(); count as usize])).await.unwrap();
    let leased = engine.lease(call(count)).await.unwrap();
    engine.settle(leased.iter().map(|leased| end(leased, End::Release)).collect()).await.unwrap();
    let live = add(&engine, NewJob::default()).await;
    clock.advance(days(400));
    let leased = engine.lease(call(1)).await.unwrap();
    let dead = async || engine.queue(queue("q")).await.unwrap().unwrap().counts.dead;
    let by_the_lease = dead().await;
    assert!(by_the_lease < u64::from(count), "{by_the_lease}");
    engine.tick().await.unwrap();
    let by_one_tick = dead().await - by_the_lease;
    assert!(by_one_tick <= 2_000, "{by_one_tick}");
    while engine.tick().await.unwrap().next <= clock.now() {}
    assert_eq!(dead().await, u64::from(count));
    let leased = if leased.is_empty() { engine.lease(call(1)).await.unwrap() } else { leased };
    assert_eq!(kit::ids(&leased), [live]);
}

/// Pages of events follow each other through a commit of very many.
#[tokio::test]
async fn no_event_is_skipped_in_a_large_commit() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    engine.add(kit::jobs(vec![NewJob::default(); 9_000])).await.unwrap();
    engine.lease(call(9_000)).await.unwrap();
    let mut after = 0;
    loop {
        let page = engine.events(EventsParams { after, limit: 700 }).await.unwrap();
        for event in &page.events {
            assert_eq!(event.cursor, after + 1);
            after = event.cursor;
        }
        if page.events.is_empty() {
            break;
        }
    }
    assert_eq!(after, 18_000);
}

/// The number of a deleted queue is not given to another, over its last event and a restart: events
/// that name it stay true.
#[tokio::test]
async fn a_deleted_queues_number_is_never_given_again() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let number = |name: &str| -> i64 {
        let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
        conn.query_row("SELECT max(id) FROM onefold_queues WHERE name = ?1", [name], |row| row.get(0))
            .unwrap()
    };
    let engine = open(dir.path(), &clock);
    let mut numbers = Vec::new();
    for name in ["a", "b"] {
        let name: QueueName = queue(name);
        engine.set_queue(name.clone(), onefold_core::QueuePatch::default()).await.unwrap();
        numbers.push(number(name.as_str()));
        engine.delete_queue(name, true).await.unwrap().unwrap();
    }
    clock.advance(days(31));
    while engine.tick().await.unwrap().next <= clock.now() {}
    drop(engine);
    let engine = open(dir.path(), &clock);
    engine.set_queue(queue("c"), onefold_core::QueuePatch::default()).await.unwrap();
    assert!(!numbers.contains(&number("c")), "{numbers:?} {}", number("c"));
}

/// A job due at the very beginning of time, on a clock that was never set, comes due.
#[tokio::test]
async fn timers_of_the_first_minutes_of_1970_fire() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    clock.set(onefold_core::Timestamp::EPOCH);
    let engine = open(dir.path(), &clock);
    let id = add(&engine, kit::after(kit::secs(100))).await;
    drop(engine);
    let engine = open(dir.path(), &clock);
    clock.advance(kit::secs(100));
    engine.tick().await.unwrap();
    assert_eq!(engine.get(id).await.unwrap().unwrap().job.state, State::Available);
}

/// I4: once every token was handed out, leases are refused with an error of their own, and all else
/// goes on.
#[tokio::test]
async fn without_tokens_there_is_an_error_and_not_an_empty_queue() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), GatedClock::new());
    let engine = open(dir.path(), &clock);
    add(&engine, NewJob::default()).await;
    add(&engine, NewJob::default()).await;
    drop(engine);
    let conn = rusqlite::Connection::open(dir.path().join("onefold.db")).unwrap();
    conn.execute("UPDATE onefold_meta SET next_token = ?1", [(1_i64 << 53) - 1]).unwrap();
    drop(conn);
    let engine = open(dir.path(), &clock);
    let last = engine.lease(call(9)).await.unwrap();
    assert_eq!(last.len(), 1, "one token was left");
    assert_eq!(engine.lease(call(9)).await, Err(EngineError::TokensExhausted));
    kit::settle(&engine, end(&last[0], End::Complete { result: None })).await.unwrap().unwrap();
    add(&engine, NewJob::default()).await;
    assert_eq!(engine.lease(kit::waiting_call(9)).await, Err(EngineError::TokensExhausted));
}
