//! Calls for jobs that wait, and the hints that end the wait.

use onefold_core::{End, LeaseParams, QueuePatch, State, limits};

use crate::{
    Build, Harness, Lease, ParkedPoll, call, complete, fail_for, job, ms, peek, queue, secs, snooze,
};

fn waiting(from: &str) -> LeaseParams {
    LeaseParams { wait: limits::WAIT_MAX, ..call(from) }
}

async fn is_parked(poll: &mut ParkedPoll) -> bool {
    poll.peek().await.is_none()
}

/// Defaults: an add wakes a parked call.
pub async fn an_add_wakes_a_parked_call(h: &mut dyn Harness) {
    let poll = h.park(waiting("q")).await;
    let id = h.add("q", job()).await;
    assert_eq!(poll.job().await.id, id);
    assert_eq!(h.state(id).await, State::Running);
}

/// Lease: a parked call for several queues is woken by any of them, and gets one answer.
pub async fn a_parked_call_is_woken_by_any_of_its_queues(h: &mut dyn Harness) {
    let queues = ["a", "b", "c"].map(queue).to_vec();
    let poll = h.park(LeaseParams { queues, ..waiting("a") }).await;
    h.add("elsewhere", job()).await;
    let id = h.add("b", job()).await;
    assert_eq!(poll.job().await.id, id);
    h.add("c", job()).await;
    assert_eq!(h.lease_ids("c", 1).await.len(), 1);
}

/// Defaults: a tick that makes a job due wakes a parked call.
pub async fn a_job_coming_due_wakes_a_parked_call(h: &mut dyn Harness) {
    let id = h.add("q", job().after(secs(5))).await;
    let poll = h.park(waiting("q")).await;
    h.pass(secs(5)).await;
    assert_eq!(poll.job().await.id, id);
}

/// Defaults: whatever makes a job leasable wakes a parked call: release, a failure's backoff, a
/// snooze, a lost lease, retry, redrive.
pub async fn whatever_makes_a_job_leasable_wakes_a_parked_call(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let mut lease = h.take("q").await;
    for (end, pass) in [(End::Release, 0), (fail_for(secs(1)), 1), (snooze(secs(2)), 2)] {
        let poll = h.park(waiting("q")).await;
        h.end(lease, end).await;
        if pass > 0 {
            h.pass(secs(pass)).await;
        }
        lease = poll.job().await;
        assert_eq!(lease.id, id);
    }
    let poll = h.park(waiting("q")).await;
    h.pass(limits::LEASE_DEFAULT).await;
    lease = poll.job().await;
    h.force_cancel(lease.id).await.unwrap();
    let poll = h.park(waiting("q")).await;
    h.retry(id).await.unwrap();
    lease = poll.job().await;
    h.end(lease, crate::fail_for_good()).await;
    let poll = h.park(waiting("q")).await;
    assert_eq!(h.redrive("q").await.redriven, 1);
    assert_eq!(poll.job().await.id, id);
}

/// Defaults: what stood in the way of an available job, once gone, wakes a parked call: a pause, a
/// full queue, the head of its group, a time in the future.
pub async fn whatever_clears_the_way_wakes_a_parked_call(h: &mut dyn Harness) {
    let pause = |paused| QueuePatch { paused: Some(paused), ..QueuePatch::default() };
    let limit = |n| QueuePatch { concurrency: Some(n), ..QueuePatch::default() };
    h.set("q", pause(true)).await;
    h.add("q", job().group("g")).await;
    let poll = h.park(waiting("q")).await;
    h.set("q", pause(false)).await;
    let head = poll.job().await;

    let behind = h.add("q", job().group("g")).await;
    let poll = h.park(waiting("q")).await;
    h.end(head, complete()).await;
    let lease = poll.job().await;
    assert_eq!(lease.id, behind);

    h.set("q", limit(Some(1))).await;
    let next = h.add("q", job()).await;
    let poll = h.park(waiting("q")).await;
    h.end(lease, complete()).await;
    let lease = poll.job().await;
    assert_eq!(lease.id, next);

    let next = h.add("q", job()).await;
    let poll = h.park(waiting("q")).await;
    h.set("q", limit(None)).await;
    assert_eq!(poll.job().await.id, next);
    h.end(lease, complete()).await;

    let next = h.add("q", job().after(secs(3600))).await;
    let poll = h.park(waiting("q")).await;
    let edit = onefold_core::JobEdit { run_at: Some(h.now()), ..Default::default() };
    h.engine().edit(next, edit).await.unwrap().unwrap();
    assert_eq!(poll.job().await.id, next);
}

/// Lease: a parked call ends empty at the first tick after its wait, not earlier.
pub async fn a_tick_ends_a_wait_that_is_over(h: &mut dyn Harness) {
    let mut poll = h.park(LeaseParams { wait: secs(20), ..call("q") }).await;
    h.pass(ms(19_999)).await;
    assert!(is_parked(&mut poll).await);
    let ticked = h.pass(ms(1)).await;
    assert!(poll.answer().await.is_empty());
    assert_eq!((ticked.due, ticked.expired), (0, 0));
}

/// Lease: one job wakes one call; the others stay parked for the next.
pub async fn one_job_wakes_one_call(h: &mut dyn Harness) {
    let first = h.park(waiting("q")).await;
    let mut second = h.park(waiting("q")).await;
    h.add("q", job()).await;
    let a = first.job().await;
    assert!(is_parked(&mut second).await);
    h.add("q", job()).await;
    let b = second.job().await;
    assert_ne!(a.id, b.id);
    assert!(a.token < b.token);
}

/// Lease: a batch added while calls are parked is spread over them up to their `max`.
pub async fn a_batch_is_spread_over_parked_calls(h: &mut dyn Harness) {
    let two = LeaseParams { max: 2, ..waiting("q") };
    let polls = [h.park(two.clone()).await, h.park(two).await];
    h.add_all("q", vec![job(); 3]).await;
    let mut given = 0;
    for poll in polls {
        given += poll.answer().await.len();
    }
    assert_eq!(given, 3);
}

/// API: a client that disconnects while parked is given nothing: the job goes to the next who asks.
pub async fn a_dropped_call_is_given_nothing(h: &mut dyn Harness) {
    let poll = h.park(waiting("q")).await;
    drop(poll);
    let id = h.add("q", job()).await;
    // Parked, because an engine may find out about the disconnect only now.
    let lease = h.send(waiting("q")).job().await;
    assert_eq!(lease.id, id);
    assert_eq!(h.view(id).await.job.attempts(), 1);
    assert_eq!(h.end(lease, complete()).await, State::Completed);
}

/// API, budgets: what was handed to a call that is gone before it read the answer is released at
/// no cost.
pub async fn an_unclaimed_hand_out_is_released_at_no_cost(h: &mut dyn Harness) {
    let poll = h.park(LeaseParams { max: 2, ..waiting("q") }).await;
    let added = h.add_all("q", vec![job().max_attempts(1); 2]).await;
    // The answer is there or on its way; nobody reads it.
    drop(poll);
    for outcome in added {
        let lease = h.send(waiting("q")).job().await;
        assert_eq!(lease.id, outcome.unwrap().id);
        let view = h.view(lease.id).await;
        assert_eq!((view.job.failures, view.job.lost_leases), (0, 0));
        h.end(lease, complete()).await;
    }
}

/// API: the repeat of a poll that is still parked ends the first with an empty list and takes its
/// place.
pub async fn a_repeated_poll_ends_the_parked_one(h: &mut dyn Harness) {
    let poll = LeaseParams { poll: Some(7), ..waiting("q") };
    let first = h.park(poll.clone()).await;
    let mut other = h.park(LeaseParams { poll: Some(8), ..waiting("other") }).await;
    let mut second = h.send(poll);
    assert!(is_parked(&mut second).await);
    assert!(first.answer().await.is_empty());
    let id = h.add("q", job()).await;
    assert_eq!(second.job().await.id, id);
    assert!(is_parked(&mut other).await);
}

/// Serving: draining hands out no new leases: parked calls end empty, new ones do not park;
/// everything else goes on.
pub async fn a_draining_store_hands_out_nothing(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let poll_id = LeaseParams { poll: Some(1), ..call("q") };
    let lease = Lease::from(&h.lease_by(poll_id.clone()).await[0]);
    let poll = h.park(waiting("q")).await;
    h.engine().drain().await.unwrap();
    assert!(poll.answer().await.is_empty());
    h.add("q", job()).await;
    assert!(h.lease_by(waiting("q")).await.is_empty());
    let held = h.lease_by(poll_id).await;
    assert_eq!(held.iter().map(Lease::from).collect::<Vec<_>>(), [lease], "a repeat is no new lease");
    h.extend(lease, secs(30)).await.unwrap();
    assert_eq!(h.end(lease, complete()).await, State::Completed);
    assert_eq!(h.counts("q").await.available, 1);
    h.reopen_cleanly().await;
    h.take("q").await;
}

/// Lease: whoever waits for a job's end hears of it, however it ends, and of one that is over or
/// unknown at once.
pub async fn whoever_waits_for_the_end_hears_of_it(h: &mut dyn Harness) {
    let ids = [h.add("q", job()).await, h.add("q", job()).await, h.add("q", job()).await];
    let engine = h.engine();
    for (n, id) in ids.into_iter().enumerate() {
        let mut waiter = engine.finished(id);
        assert_eq!(peek(waiter.as_mut()).await, None);
        match n {
            0 => drop(h.work("q", complete()).await),
            1 => drop(h.work("q", crate::fail_for_good()).await),
            _ => drop(h.cancel(id).await.unwrap()),
        }
        waiter.await.unwrap();
        engine.finished(id).await.unwrap();
        h.delete(id).await.unwrap();
        engine.finished(id).await.unwrap();
    }
    let id = h.add("gone", job()).await;
    let waiter = engine.finished(id);
    engine.delete_queue(queue("gone"), true).await.unwrap().unwrap();
    waiter.await.unwrap();
}
