//! Time: ticks, steps of the clock, restarts.

use onefold_core::{FencingToken, LeaseParams, State, limits};

use crate::{Build, Harness, call, complete, days, fail_for, hours, job, ms, peek, secs};

/// Tick: only a tick moves time on in an engine; until then nothing is due, lost or over.
pub async fn only_a_tick_moves_time_on(h: &mut dyn Harness) {
    let delayed = h.add("q", job().after(secs(1))).await;
    let leased = h.add("q", job()).await;
    h.take("q").await;
    h.wait(days(1));
    assert_eq!(h.state(delayed).await, State::Scheduled);
    assert_eq!(h.state(leased).await, State::Running);
    let ticked = h.tick().await;
    assert_eq!((ticked.due, ticked.expired), (1, 1));
}

/// Tick: it says when to come again: not after the next thing that is due, and not in the past when
/// there is nothing left to do.
pub async fn a_tick_says_when_to_come_again(h: &mut dyn Harness) {
    let idle = h.tick().await;
    assert!(idle.next > h.now() && idle.next <= h.now().saturating_add(secs(60)));
    h.add("q", job().after(secs(9))).await;
    assert!(h.tick().await.next <= h.now().saturating_add(secs(9)));
    h.add("q", job().priority(-1)).await;
    h.lease_by(LeaseParams { lease: secs(5), ..call("q") }).await;
    assert!(h.tick().await.next <= h.now().saturating_add(secs(5)));
    let poll = h.park(LeaseParams { wait: secs(2), ..call("idle") }).await;
    assert!(h.tick().await.next <= h.now().saturating_add(secs(2)));
    h.pass(secs(5)).await;
    assert!(poll.answer().await.is_empty());
    h.work("q", fail_for(secs(1))).await;
    assert!(h.tick().await.next <= h.now().saturating_add(secs(1)));
}

/// Tick: whoever waits for the next tick is told when it has to come earlier than was said, also if
/// that happened before they began to wait.
pub async fn an_earlier_need_calls_for_a_tick(h: &mut dyn Harness) {
    let engine = h.engine();
    h.add("q", job().after(secs(50))).await;
    h.tick().await;
    let waiting = engine.tick_sooner();
    h.add("q", job().after(secs(5))).await;
    waiting.await;
    engine.tick_sooner().await; // until there was a tick, it is still needed
    assert!(h.tick().await.next <= h.now().saturating_add(secs(5)));
    h.add("q", job().after(secs(2))).await;
    engine.tick_sooner().await;
    h.tick().await;
    h.add("q", job()).await;
    h.lease_by(LeaseParams { lease: secs(1), ..call("q") }).await;
    engine.tick_sooner().await;
    h.tick().await;
    let poll = h.park(LeaseParams { wait: ms(500), ..call("q") }).await;
    engine.tick_sooner().await;
    drop(poll);
}

/// Budgets: after a step of the clock forward, live leases get their full length again from then,
/// and the tick says that it noticed.
pub async fn a_step_forward_costs_no_lease(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.pass(secs(10)).await;
    h.world().clock.step_to(h.now().saturating_add(days(30)));
    let ticked = h.tick().await;
    assert!(ticked.clock_stepped);
    assert_eq!(ticked.expired, 0);
    let attempt = h.view(id).await.job.attempt.unwrap();
    assert_eq!(attempt.lease_until, h.now().saturating_add(limits::LEASE_DEFAULT));
    let ticked = h.pass(ms(29_999)).await;
    assert_eq!((ticked.clock_stepped, ticked.expired), (false, 0));
    h.extend(lease, secs(30)).await.unwrap();
    assert_eq!(h.end(lease, complete()).await, State::Completed);
}

/// Budgets: after a step back, a lease ends after its full length, not when the clock is where it was.
pub async fn a_step_back_makes_no_lease_endless(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let id = h.add("q", job()).await;
    h.take("q").await;
    h.pass(secs(10)).await;
    h.world().clock.step_to(h.now().saturating_sub(days(30)));
    assert!(h.tick().await.clock_stepped);
    assert_eq!(h.pass(ms(29_999)).await.expired, 0);
    assert_eq!(h.pass(ms(1)).await.expired, 1);
    assert_eq!(h.state(id).await, State::Available);
}

/// Budgets: the hard limit moves with a step back too.
pub async fn a_step_back_makes_no_attempt_endless(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let id = h.add("q", job().timeout(secs(60))).await;
    let lease = h.take("q").await;
    h.world().clock.step_to(h.now().saturating_sub(days(30)));
    h.tick().await;
    for _ in 0..3 {
        h.extend(lease, limits::LEASE_MAX).await.unwrap();
        h.pass(secs(20)).await;
    }
    assert_eq!(h.view(id).await.job.failures, 1);
}

/// Time: a small drift is no step.
pub async fn a_small_drift_is_no_step(h: &mut dyn Harness) {
    h.tick().await;
    h.world().clock.step_to(h.now().saturating_add(ms(500)));
    assert!(!h.tick().await.clock_stepped);
    h.world().clock.step_to(h.now().saturating_sub(ms(500)));
    assert!(!h.tick().await.clock_stepped);
    assert!(!h.pass(days(3)).await.clock_stepped);
}

/// Time: times of jobs are times of the wall clock: a step forward makes them due.
pub async fn a_step_forward_makes_delayed_jobs_due(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let id = h.add("q", job().after(hours(1))).await;
    h.world().clock.step_to(h.now().saturating_add(hours(1)));
    assert_eq!(h.tick().await.due, 1);
    assert_eq!(h.take("q").await.id, id);
}

/// Defaults: a parked call waits as long as it asked for, though the clock was set back or forward.
pub async fn a_step_changes_no_wait(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    for forward in [false, true] {
        let mut poll = h.park(LeaseParams { wait: secs(20), ..call("q") }).await;
        h.tick().await;
        let now = h.now();
        let then = if forward { now.saturating_add(days(1)) } else { now.saturating_sub(days(1)) };
        h.world().clock.step_to(then);
        assert!(h.tick().await.next <= h.now().saturating_add(secs(20)));
        h.pass(ms(19_999)).await;
        assert_eq!(poll.peek().await, None);
        h.pass(ms(1)).await;
        assert!(poll.answer().await.is_empty());
    }
}

/// Budgets: after the store was closed, and time went by, live leases get their full length again;
/// delayed jobs are due at once.
pub async fn a_reopened_store_gives_leases_their_full_length(h: &mut dyn Harness) {
    for crash in [true, false] {
        let id = h.add("q", job()).await;
        let lease = h.take("q").await;
        let delayed = h.add("q", job().after(secs(100))).await;
        h.wait(secs(100));
        if crash {
            h.reopen_after_crash().await;
        } else {
            h.reopen_cleanly().await;
        }
        let attempt = h.view(id).await.job.attempt.unwrap();
        assert_eq!(attempt.lease_until, h.now().saturating_add(limits::LEASE_DEFAULT));
        let ticked = h.pass(ms(29_999)).await;
        assert_eq!((ticked.expired, ticked.due), (0, 1));
        assert_eq!(h.pass(ms(1)).await.expired, 1);
        let view = h.view(id).await;
        assert_eq!((view.job.state, view.job.lost_leases), (State::Available, 1));
        assert_eq!(h.work("q", complete()).await, id);
        assert_eq!(h.work("q", complete()).await, delayed);
        assert!(h.try_end(lease, complete()).await.is_err());
    }
}

/// Budgets: a long attempt goes on after a restart that outlasted its hard limit: it has its lease
/// to say so.
pub async fn a_reopened_store_leaves_room_for_the_lease(h: &mut dyn Harness) {
    h.add("q", job().timeout(secs(60))).await;
    let lease = h.take("q").await;
    h.wait(secs(600));
    h.reopen_after_crash().await;
    assert_eq!(h.tick().await.expired, 0);
    h.extend(lease, secs(30)).await.unwrap();
    assert_eq!(h.end(lease, complete()).await, State::Completed);
}

/// I4: tokens grow over crashes and clean restarts, and jump to the clock: next = max(high water,
/// unix seconds × 2^20), so that an old copy of the store never hands out a token again.
pub async fn i4_tokens_grow_over_every_reopening(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 9]).await;
    let mut last = 0;
    for round in 0..8 {
        let floor = u64::try_from(h.now().as_unix_ms() / 1000).unwrap() << 20;
        let token = h.take("q").await.token.get();
        assert!(token > last && token < FencingToken::LIMIT);
        assert!(token >= floor, "{token} is below the clock's {floor}");
        last = token;
        h.wait(secs(round % 3));
        if round % 2 == 0 {
            h.reopen_after_crash().await;
        } else {
            h.reopen_cleanly().await;
        }
    }
}

/// I4: tokens grow even if the clock was set back between two openings.
pub async fn i4_tokens_grow_though_the_clock_was_set_back(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    h.add_all("q", vec![job(); 5]).await;
    let mut last = 0;
    for _ in 0..5 {
        let token = h.take("q").await.token.get();
        assert!(token > last);
        last = token;
        h.world().clock.step_to(h.now().saturating_sub(days(100)));
        h.reopen_after_crash().await;
    }
}

/// I4: a crash right after opening, before any lease, spends no token twice.
pub async fn i4_reopening_twice_at_once_repeats_no_token(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 3]).await;
    let first = h.take("q").await.token;
    h.reopen_after_crash().await;
    h.reopen_after_crash().await;
    let second = h.take("q").await.token;
    h.reopen_cleanly().await;
    h.reopen_after_crash().await;
    let third = h.take("q").await.token;
    assert!(first < second && second < third);
}

/// Time: a job accepted before the clock was set back keeps its times and its place.
pub async fn a_step_back_changes_no_accepted_job(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    let first = h.add("q", job()).await;
    let before = h.view(first).await;
    h.world().clock.step_to(h.now().saturating_sub(hours(1)));
    h.tick().await;
    let second = h.add("q", job()).await;
    assert_eq!(h.view(first).await, before);
    assert!(first.seq() < second.seq());
    assert_eq!(h.lease_ids("q", 9).await, [first, second]);
}

/// Tick: nobody is called without need.
pub async fn no_need_calls_for_no_tick(h: &mut dyn Harness) {
    if !h.flags().alone {
        return;
    }
    let engine = h.engine();
    h.add("q", job().after(secs(5))).await;
    h.tick().await;
    let mut waiting = engine.tick_sooner();
    h.add("q", job()).await;
    h.add("q", job().after(secs(50))).await;
    assert_eq!(peek(waiting.as_mut()).await, None);
}
