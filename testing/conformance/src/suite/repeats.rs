//! The same end again (I6).

use onefold_core::{End, ItemResult, JobError, Refusal, Settled, State, limits};

use crate::{
    Build, Harness, Lease, complete, complete_with, error, fail, fail_for, fail_for_good, hours, job, ms,
    queue, secs, snooze,
};

/// Every end there is, with what it leads to.
fn every_end() -> [(End, State); 5] {
    [
        (complete_with("{\"a\":1}"), State::Completed),
        (fail_for(secs(5)), State::Retrying),
        (fail_for_good(), State::Dead),
        (snooze(secs(5)), State::Scheduled),
        (End::Release, State::Available),
    ]
}

async fn leased(h: &mut dyn Harness, queue_name: &str) -> Lease {
    h.add(queue_name, job()).await;
    h.take(queue_name).await
}

fn lost(state: State) -> ItemResult<Settled> {
    Err(Refusal::LeaseLost { state })
}

/// I6: the same end with the same token again gets the first answer and does nothing more.
pub async fn i6_the_same_end_again_gets_the_first_answer(h: &mut dyn Harness) {
    for (end, state) in every_end() {
        let lease = leased(h, state.as_str()).await;
        let first = h.try_end(lease, end.clone()).await;
        let before = h.view(lease.id).await;
        h.wait(ms(1));
        assert_eq!(h.try_end(lease, end.clone()).await, first);
        assert_eq!(h.try_end(lease, end).await, first);
        assert_eq!(h.view(lease.id).await, before);
        assert_eq!(h.counts(state.as_str()).await.late_writes, 0);
    }
}

/// I6: whatever happened since: leased by another, ended otherwise, cancelled, restarted, the
/// first answer stays the answer.
pub async fn i6_the_first_answer_stays_whatever_happened_since(h: &mut dyn Harness) {
    let ends = [(fail_for(secs(5)), State::Retrying), (snooze(secs(5)), State::Scheduled)];
    for (end, state) in ends.into_iter().chain([(End::Release, State::Available)]) {
        let name = state.as_str();
        let lease = leased(h, name).await;
        let first = h.try_end(lease, end.clone()).await;
        assert_eq!(first.as_ref().unwrap().state, state);
        h.pass(secs(5)).await;
        assert_eq!(h.try_end(lease, end.clone()).await, first, "available");
        let second = h.take(name).await;
        assert_eq!(h.try_end(lease, end.clone()).await, first, "leased by another");
        h.extend(second, secs(60)).await.unwrap();
        h.reopen_after_crash().await;
        assert_eq!(h.try_end(lease, end.clone()).await, first, "after a crash");
        h.end(second, fail_for_good()).await;
        assert_eq!(h.try_end(lease, end.clone()).await, first, "dead");
        h.retry(lease.id).await.unwrap();
        h.cancel(lease.id).await.unwrap();
        assert_eq!(h.try_end(lease, end).await, first, "retried and cancelled");
        assert_eq!(h.try_end(second, fail_for_good()).await.unwrap().state, State::Dead);
    }
}

/// I6: an end whose job runs again after a retry still gets its first answer.
pub async fn i6_a_dead_end_is_repeated_after_a_retry(h: &mut dyn Harness) {
    let lease = leased(h, "q").await;
    let first = h.try_end(lease, fail_for_good()).await;
    h.retry(lease.id).await.unwrap();
    h.work("q", complete()).await;
    assert_eq!(h.try_end(lease, fail_for_good()).await, first);
    assert_eq!(h.state(lease.id).await, State::Completed);
}

/// I6: a different end by the same token is `lease-lost`; so is the same end with other content.
pub async fn i6_a_different_end_is_refused(h: &mut dyn Harness) {
    for (n, (first, state)) in every_end().into_iter().enumerate() {
        let name = state.as_str();
        let lease = leased(h, name).await;
        h.end(lease, first.clone()).await;
        for (m, (other, _)) in every_end().into_iter().enumerate() {
            if n != m {
                assert_eq!(h.try_end(lease, other).await, lost(state));
            }
        }
        assert_eq!(h.end(lease, first).await, state);
    }
    let variants: [(End, End); 6] = [
        (complete(), complete_with("null")),
        (complete_with("1"), complete_with("2")),
        (fail(), fail_for(secs(5))),
        (fail_for(secs(5)), fail_for(secs(6))),
        (snooze(secs(5)), snooze(secs(6))),
        (
            fail_for_good(),
            End::Fail {
                error: JobError { kind: Some("k".into()), ..error("no way") },
                retryable: false,
                retry_in: None,
            },
        ),
    ];
    for (first, other) in variants {
        let lease = leased(h, "variants").await;
        let state = h.end(lease, first).await;
        assert_eq!(h.try_end(lease, other).await, lost(state));
        h.cancel(lease.id).await.ok();
    }
}

/// I6: a late complete after a failure by the same token is evidence of success, not success.
pub async fn i6_a_different_end_leaves_evidence(h: &mut dyn Harness) {
    let lease = leased(h, "q").await;
    h.end(lease, fail_for(secs(60))).await;
    h.try_end(lease, complete()).await.unwrap_err();
    let view = h.view(lease.id).await;
    assert_eq!((view.job.state, view.attempts[0].late_success.count), (State::Retrying, 1));
    assert_eq!(h.counts("q").await.late_writes, 1);
}

/// I6: the first answer is given for 24 h though the row is gone earlier, over a crash, and by
/// delete as by retention; afterwards the job is not found, never ok.
pub async fn i6_the_first_answer_outlives_the_row(h: &mut dyn Harness) {
    h.add("q", job().retain(secs(1))).await;
    let released = h.take("q").await;
    let release = h.try_end(released, End::Release).await;
    let purged = h.take("q").await;
    let first = h.try_end(purged, complete_with("1")).await;
    let deleted = leased(h, "q").await;
    let death = h.try_end(deleted, fail_for_good()).await;
    h.delete(deleted.id).await.unwrap();
    h.pass(secs(1)).await;
    assert_eq!(h.find(purged.id).await, None);
    for hour in [0, 23] {
        h.pass(hours(hour)).await;
        assert_eq!(h.try_end(purged, complete_with("1")).await, first);
        assert_eq!(h.try_end(released, End::Release).await, release, "an earlier attempt");
        assert_eq!(h.try_end(deleted, fail_for_good()).await, death);
        h.reopen_after_crash().await;
    }
    h.pass(ms(3_600_000 - 1_000 - 1)).await;
    assert_eq!(h.try_end(purged, complete_with("1")).await, first, "at the last millisecond");
    h.pass(hours(48)).await;
    for (lease, end) in [(purged, complete_with("1")), (released, End::Release), (deleted, fail_for_good())] {
        assert_eq!(h.try_end(lease, end).await, Err(Refusal::JobNotFound));
    }
}

/// I6: when the row is gone, a different end, an extension or another's token are refused.
pub async fn i6_nothing_else_is_ok_when_the_row_is_gone(h: &mut dyn Harness) {
    let lease = leased(h, "q").await;
    h.end(lease, complete()).await;
    h.delete(lease.id).await.unwrap();
    for end in [complete_with("1"), fail(), End::Release] {
        let refused = h.try_end(lease, end).await;
        assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Completed }));
    }
    h.extend(lease, secs(1)).await.unwrap_err();
    let other = leased(h, "q").await;
    let crossed = Lease { id: lease.id, token: other.token };
    assert_eq!(h.try_end(crossed, complete()).await, Err(Refusal::JobNotFound));
    let crossed = Lease { id: other.id, token: lease.token };
    assert_eq!(h.try_end(crossed, complete()).await, lost(State::Running));
}

/// I6: the first answer is given after its queue was deleted.
pub async fn i6_the_first_answer_outlives_the_queue(h: &mut dyn Harness) {
    let lease = leased(h, "q").await;
    let first = h.try_end(lease, complete()).await;
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    assert_eq!(h.try_end(lease, complete()).await, first);
    h.reopen_after_crash().await;
    assert_eq!(h.try_end(lease, complete()).await, first);
}

/// I6: an end the engine made (a lost lease, a revoked one, the hard limit) is nobody's first
/// answer: whatever its holder says is late.
pub async fn i6_an_end_by_the_engine_is_nobodys_first_answer(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let lost_lease = h.lose("q").await;
    assert_eq!(h.try_end(lost_lease, End::Release).await, lost(State::Available));
    let revoked = h.take("q").await;
    h.force_cancel(revoked.id).await.unwrap();
    assert_eq!(h.try_end(revoked, complete()).await, lost(State::Cancelled));
    h.add("q", job().timeout(secs(1))).await;
    let timed_out = h.take("q").await;
    h.pass(secs(1)).await;
    assert_eq!(h.try_end(timed_out, fail()).await, lost(State::Retrying));
    assert_eq!(h.counts("q").await.late_writes, 3);
}

/// I6: `extend`, `progress`, `checkpoint` and `log` are executed each time while the token is current.
pub async fn i6_the_other_writes_are_executed_each_time(h: &mut dyn Harness) {
    let lease = leased(h, "q").await;
    for _ in 0..2 {
        h.wait(secs(1));
        let settled = h.extend(lease, limits::LEASE_DEFAULT).await.unwrap();
        assert_eq!(settled.lease_until, Some(h.now().saturating_add(limits::LEASE_DEFAULT)));
        h.settle(lease, onefold_core::SettleAction::Log(vec!["line".into()])).await.unwrap();
    }
    assert_eq!(h.view(lease.id).await.job.attempt.unwrap().log, ["line", "line"]);
}
