//! Groups (I8).

use onefold_core::{
    End, EventCursor, EventKind, GroupHead, JobId, LeaseParams, OnDead, QueuePatch, State, Waiting, limits,
};

use crate::{Build, Harness, Lease, call, complete, fail_for, fail_for_good, hours, job, secs, snooze};

fn head_policy(head: GroupHead) -> QueuePatch {
    QueuePatch { group_head: Some(Some(head)), ..QueuePatch::default() }
}

fn on_dead(on_dead: OnDead) -> QueuePatch {
    QueuePatch { on_dead: Some(Some(on_dead)), ..QueuePatch::default() }
}

/// I8: jobs of a group are leased one at a time, in order of acceptance, however many are asked
/// for; those behind say they wait for their group.
pub async fn i8_a_group_runs_one_at_a_time_in_order(h: &mut dyn Harness) {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(h.add("q", job().group("g")).await);
    }
    for (n, id) in ids.iter().enumerate() {
        let leased = h.lease_by(LeaseParams { max: 10, ..call("q") }).await;
        assert_eq!(leased.iter().map(|l| l.job.id).collect::<Vec<_>>(), [*id]);
        assert!(h.nothing_to_lease("q").await);
        for behind in &ids[n + 1..] {
            let view = h.view(*behind).await;
            assert_eq!((view.job.state, view.waiting), (State::Available, Some(Waiting::Group)));
        }
        h.end((&leased[0]).into(), complete()).await;
    }
}

/// I8: priority does not reorder a group.
pub async fn i8_priority_does_not_reorder_a_group(h: &mut dyn Harness) {
    let first = h.add("q", job().group("g").priority(100)).await;
    let second = h.add("q", job().group("g").priority(-100)).await;
    let third = h.add("q", job().group("g")).await;
    let alone = h.add("q", job().priority(50)).await;
    assert_eq!(h.lease_ids("q", 9).await, [alone, first]);
    for (before, id) in [(first, second), (second, third)] {
        let token = h.view(before).await.job.attempt.unwrap().token;
        h.end(Lease { id: before, token }, complete()).await;
        assert_eq!(h.lease_ids("q", 9).await, [id]);
    }
}

/// I8: groups go their own ways, a group belongs to its queue, and jobs without one are not held.
pub async fn i8_groups_do_not_hold_each_other(h: &mut dyn Harness) {
    let a = h.add("q", job().group("a")).await;
    h.add("q", job().group("a")).await;
    let b = h.add("q", job().group("b")).await;
    let alone = [h.add("q", job()).await, h.add("q", job()).await];
    assert_eq!(h.lease_ids("q", 9).await, [a, b, alone[0], alone[1]]);
    let elsewhere = h.add("other", job().group("a")).await;
    assert_eq!(h.take("other").await.id, elsewhere);
}

/// I8: under `hold`, the default, a delayed, retrying or snoozed head holds its group.
pub async fn i8_a_waiting_head_holds_its_group(h: &mut dyn Harness) {
    let head = h.add("q", job().group("g").after(secs(10))).await;
    let behind = h.add("q", job().group("g")).await;
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.view(behind).await.waiting, Some(Waiting::Group));
    h.pass(secs(10)).await;
    for end in [fail_for(secs(10)), snooze(secs(10)), End::Release] {
        assert_eq!(h.work("q", end.clone()).await, head);
        if end != End::Release {
            assert!(h.nothing_to_lease("q").await);
            h.pass(secs(10)).await;
        }
    }
    assert_eq!(h.lose("q").await.id, head);
    assert_eq!(h.work("q", complete()).await, head);
    assert_eq!(h.take("q").await.id, behind);
}

/// I8: under `skip` a delayed, retrying or snoozed head is passed; when it is due again it is first
/// in line, but still one at a time.
pub async fn i8_a_waiting_head_is_passed_under_skip(h: &mut dyn Harness) {
    h.set("q", head_policy(GroupHead::Skip)).await;
    let head = h.add("q", job().group("g").after(secs(10))).await;
    let second = h.add("q", job().group("g")).await;
    let third = h.add("q", job().group("g")).await;
    let lease = h.take("q").await;
    assert_eq!(lease.id, second);
    h.pass(secs(10)).await;
    assert_eq!(h.state(head).await, State::Available);
    assert!(h.nothing_to_lease("q").await, "one at a time");
    h.end(lease, complete()).await;
    for end in [fail_for(hours(1)), snooze(hours(1))] {
        assert_eq!(h.work("q", end).await, head);
        let passing = h.take("q").await;
        assert_eq!(passing.id, third);
        h.end(passing, End::Release).await;
        h.pass(hours(1)).await;
    }
    assert_eq!(h.work("q", complete()).await, head);
    assert_eq!(h.take("q").await.id, third);
}

/// I8: under `skip` an available head is not passed, not even by higher priority.
pub async fn i8_skip_passes_no_available_head(h: &mut dyn Harness) {
    h.set("q", head_policy(GroupHead::Skip)).await;
    let head = h.add("q", job().group("g").priority(9)).await;
    h.add("q", job().group("g").priority(-9)).await;
    assert_eq!(h.lease_ids("q", 9).await, [head]);
}

/// I8: changing the policy counts at once for jobs that wait.
pub async fn i8_the_policy_counts_at_once(h: &mut dyn Harness) {
    h.add("q", job().group("g").after(hours(1))).await;
    let second = h.add("q", job().group("g")).await;
    assert!(h.nothing_to_lease("q").await);
    h.set("q", head_policy(GroupHead::Skip)).await;
    let lease = h.take("q").await;
    assert_eq!(lease.id, second);
    h.end(lease, End::Release).await;
    h.set("q", head_policy(GroupHead::Hold)).await;
    assert!(h.nothing_to_lease("q").await);
}

/// I8: by default a dead or cancelled head lets its group go on, with an event.
pub async fn i8_a_dead_or_cancelled_head_lets_the_group_go_on(h: &mut dyn Harness) {
    let dead = h.add("q", job().group("g")).await;
    let cancelled = h.add("q", job().group("g")).await;
    let last = h.add("q", job().group("g")).await;
    let cursor = h.last_event().await;
    h.work("q", fail_for_good()).await;
    h.cancel(cancelled).await.unwrap();
    let passed: Vec<_> = h.events_since(cursor).await;
    let passed: Vec<_> =
        passed.iter().filter(|e| e.kind == EventKind::GroupPassed).map(|e| e.job.unwrap()).collect();
    assert_eq!(passed, [dead, cancelled]);
    let lease = h.take("q").await;
    assert_eq!(lease.id, last);
    let cursor = h.last_event().await;
    h.end(lease, complete()).await;
    assert!(h.events_since(cursor).await.iter().all(|e| e.kind != EventKind::GroupPassed));
}

/// The jobs that groups passed since `cursor`.
async fn passed_since(h: &mut dyn Harness, cursor: EventCursor) -> Vec<JobId> {
    let events = h.events_since(cursor).await;
    events.iter().filter(|e| e.kind == EventKind::GroupPassed).map(|e| e.job.unwrap()).collect()
}

/// I8: under `on_dead: block` a dead or cancelled head holds its group until it is deleted; that the
/// group goes on then has its event.
pub async fn i8_a_dead_head_blocks_until_it_is_deleted(h: &mut dyn Harness) {
    h.set("q", on_dead(OnDead::Block)).await;
    let cursor = h.last_event().await;
    let dead = h.add_dead("q", job().group("g")).await;
    let cancelled = h.add("q", job().group("g")).await;
    let last = h.add("q", job().group("g")).await;
    h.cancel(cancelled).await.unwrap();
    for head in [dead, cancelled] {
        assert!(h.nothing_to_lease("q").await);
        assert_eq!(h.view(last).await.waiting, Some(Waiting::Group));
        h.delete(head).await.unwrap();
    }
    assert_eq!(h.take("q").await.id, last);
    assert_eq!(passed_since(h, cursor).await, [dead, cancelled]);
}

/// I8: a head that blocks its group until its retention is over lets it go on with an event; one
/// with nobody behind it passes nobody.
pub async fn i8_a_dead_head_blocks_until_it_is_purged(h: &mut dyn Harness) {
    h.set("q", on_dead(OnDead::Block)).await;
    let head = h.add_dead("q", job().group("g").retain(secs(1))).await;
    let behind = h.add("q", job().group("g")).await;
    h.add_dead("q", job().group("alone").retain(secs(1))).await;
    let cursor = h.last_event().await;
    h.pass(secs(1)).await;
    assert_eq!(passed_since(h, cursor).await, [head]);
    assert_eq!(h.take("q").await.id, behind);
}

/// I8: under `on_dead: block` a head that is run again goes to the back and unblocks its group.
pub async fn i8_a_dead_head_blocks_until_it_is_run_again(h: &mut dyn Harness) {
    h.set("q", on_dead(OnDead::Block)).await;
    let head = h.add_dead("q", job().group("g")).await;
    let behind = h.add("q", job().group("g")).await;
    h.reopen_after_crash().await;
    assert!(h.nothing_to_lease("q").await);
    h.retry(head).await.unwrap();
    assert_eq!(h.work("q", complete()).await, behind);
    assert_eq!(h.work("q", complete()).await, head);
}

/// I8: whether a head blocks is decided when it ends: a group that went on is not stopped by a later
/// `block`; a group that is blocked is let go by a later `continue`.
pub async fn i8_whether_a_head_blocks_is_decided_when_it_ends(h: &mut dyn Harness) {
    h.add_dead("q", job().group("g")).await;
    let behind = h.add("q", job().group("g")).await;
    h.set("q", on_dead(OnDead::Block)).await;
    assert_eq!(h.work("q", fail_for_good()).await, behind, "it had gone on");
    let last = h.add("q", job().group("g")).await;
    assert!(h.nothing_to_lease("q").await);
    h.add_dead("q", job().group("alone")).await;
    let cursor = h.last_event().await;
    h.set("q", on_dead(OnDead::Continue)).await;
    assert_eq!(passed_since(h, cursor).await, [behind]);
    h.set("q", on_dead(OnDead::Block)).await;
    assert_eq!(h.take("q").await.id, last);
}

/// I8: under `on_dead: block` a completed head, of course, lets its group go on.
pub async fn i8_a_completed_head_never_blocks(h: &mut dyn Harness) {
    h.set("q", on_dead(OnDead::Block)).await;
    for _ in 0..3 {
        h.add("q", job().group("g")).await;
    }
    for _ in 0..3 {
        h.work("q", complete()).await;
    }
}

/// I8: a head that loses its lease is first again, also after a crash; a running head holds its
/// group over a crash.
pub async fn i8_the_order_survives_lost_leases_and_crashes(h: &mut dyn Harness) {
    let head = h.add("q", job().group("g")).await;
    let behind = h.add("q", job().group("g")).await;
    assert_eq!(h.lose("q").await.id, head);
    h.reopen_after_crash().await;
    assert_eq!(h.take("q").await.id, head);
    h.reopen_after_crash().await;
    assert!(h.nothing_to_lease("q").await);
    h.pass(limits::LEASE_DEFAULT).await;
    assert_eq!(h.work("q", complete()).await, head);
    assert_eq!(h.take("q").await.id, behind);
}
