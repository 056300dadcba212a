//! How many leases of a queue may begin in a time.

use onefold_core::{End, LeaseParams, ListParams, QueuePatch, Rate, State, Waiting, limits};

use crate::{Harness, call, complete, fail_for, hours, job, ms, queue, secs, snooze};

fn rate(limit: u32, seconds: u64) -> QueuePatch {
    QueuePatch { rate: Some(Some(Rate { limit, per: secs(seconds) })), ..QueuePatch::default() }
}

fn waiting(from: &str) -> LeaseParams {
    LeaseParams { wait: limits::WAIT_MAX, ..call(from) }
}

fn no_rate() -> QueuePatch {
    QueuePatch { rate: Some(None), ..QueuePatch::default() }
}

/// Limits: whenever a stretch of the rate's time begins, no more leases begin in it than the rate allows, within one call
/// and over many, and there is room again when the time is over.
pub async fn no_stretch_of_time_has_more_leases_than_the_rate(h: &mut dyn Harness) {
    h.set("q", rate(3, 60)).await;
    h.add_all("q", vec![job(); 9]).await;
    assert_eq!(h.lease_ids("q", 2).await.len(), 2);
    h.pass(secs(50)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    assert!(h.nothing_to_lease("q").await);
    h.pass(ms(9_999)).await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(ms(1)).await;
    // One of the last minute began ten seconds ago.
    assert_eq!(h.lease_ids("q", 9).await.len(), 2);
    h.pass(ms(49_999)).await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(ms(1)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
}

/// States: an available job says that it waits for the rate, one of another queue does not; a pause and a full queue
/// are said first.
pub async fn jobs_say_that_the_rate_is_used_up(h: &mut dyn Harness) {
    h.set("q", rate(1, 60)).await;
    let ids: Vec<_> =
        h.add_all("q", vec![job(); 2]).await.into_iter().map(|added| added.unwrap().id).collect();
    assert_eq!(h.view(ids[1]).await.waiting, None);
    let lease = h.take("q").await;
    assert_eq!(lease.id, ids[0]);
    assert_eq!(h.view(ids[1]).await.waiting, Some(Waiting::Rate));
    let all = ListParams { filter: Default::default(), limit: 9, before: None };
    assert_eq!(h.engine().list(all).await.unwrap().jobs[0].waiting, Some(Waiting::Rate));
    let other = h.add("other", job()).await;
    assert_eq!(h.view(other).await.waiting, None);
    h.set("q", QueuePatch { concurrency: Some(Some(1)), ..QueuePatch::default() }).await;
    assert_eq!(h.view(ids[1]).await.waiting, Some(Waiting::Concurrency));
    h.set("q", QueuePatch { paused: Some(true), ..QueuePatch::default() }).await;
    assert_eq!(h.view(ids[1]).await.waiting, Some(Waiting::Paused));
}

/// I1: what began before a crash counts after it.
pub async fn a_rate_outlives_a_crash(h: &mut dyn Harness) {
    h.set("q", rate(2, 3_600)).await;
    h.add_all("q", vec![job(); 5]).await;
    assert_eq!(h.lease_ids("q", 1).await.len(), 1);
    h.reopen_after_crash().await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    h.reopen_after_crash().await;
    assert!(h.nothing_to_lease("q").await);
    h.reopen_cleanly().await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(hours(1)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 2);
}

/// Limits: a parked call is handed a job as soon as the rate has room, in a tick that the engine asked for.
pub async fn room_under_a_rate_wakes_a_parked_call(h: &mut dyn Harness) {
    h.set("q", rate(1, 20)).await;
    h.add_all("q", vec![job(); 3]).await;
    h.take("q").await;
    let poll = h.park(waiting("q")).await;
    let ticked = h.tick().await;
    assert_eq!(ticked.next, h.now().saturating_add(secs(20)));
    h.pass(secs(20)).await;
    poll.job().await;
    let poll = h.park(waiting("q")).await;
    h.set("q", no_rate()).await;
    poll.job().await;
}

/// Limits: another rate counts what began under the one before.
pub async fn a_changed_rate_counts_what_began_before(h: &mut dyn Harness) {
    h.set("q", rate(5, 60)).await;
    h.add_all("q", vec![job(); 9]).await;
    assert_eq!(h.lease_ids("q", 3).await.len(), 3);
    h.set("q", rate(2, 60)).await;
    assert!(h.nothing_to_lease("q").await);
    h.set("q", rate(4, 60)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 1);
    h.set("q", rate(4, 120)).await;
    h.pass(secs(119)).await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(secs(1)).await;
    assert_eq!(h.lease_ids("q", 9).await.len(), 4);
}

/// Limits: a lease counts from its beginning, whatever becomes of it, and a second one of the same job counts again.
pub async fn every_lease_counts_whatever_becomes_of_it(h: &mut dyn Harness) {
    h.set("q", rate(4, 3_600)).await;
    h.add_all("q", vec![job(); 6]).await;
    for end in [complete(), End::Release, snooze(secs(1)), fail_for(secs(1))] {
        let lease = h.take("q").await;
        h.end(lease, end).await;
    }
    h.pass(secs(2)).await;
    assert!(h.nothing_to_lease("q").await);
}

/// Limits: nobody waits longer than the rate's time because the clock was set back.
pub async fn a_clock_set_back_costs_one_time_of_the_rate(h: &mut dyn Harness) {
    if !h.flags().clock_steps {
        return;
    }
    h.set("q", rate(1, 60)).await;
    h.add_all("q", vec![job(); 3]).await;
    let lease = h.take("q").await;
    h.end(lease, complete()).await;
    h.world().clock.step_to(h.now().saturating_sub(hours(5)));
    h.tick().await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(secs(60)).await;
    let lease = h.take("q").await;
    assert_eq!(h.end(lease, complete()).await, State::Completed);
    assert!(h.nothing_to_lease("q").await);
}

/// Queues: a queue that is made again begins anew.
pub async fn a_deleted_queue_takes_its_rate_with_it(h: &mut dyn Harness) {
    h.set("q", rate(1, 3_600)).await;
    h.add_all("q", vec![job(); 2]).await;
    h.take("q").await;
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    h.set("q", rate(1, 3_600)).await;
    h.add("q", job()).await;
    assert_eq!(h.lease_by(call("q")).await.len(), 1);
}
