//! Writes with an old token (I5).

use bytes::Bytes;
use onefold_core::{
    End, EvidenceKind, FencingToken, JobId, Progress, Refusal, Seq, SettleAction, State, limits,
};

use crate::{
    Build, Harness, Lease, call, complete, complete_with, fail, fail_for, job, ms, queue, secs, snooze,
};

/// Every write there is.
fn every_write() -> Vec<SettleAction> {
    vec![
        SettleAction::Extend(secs(60)),
        SettleAction::Progress(Progress { percent: Some(1), message: None }),
        SettleAction::Checkpoint(Bytes::from_static(b"1")),
        SettleAction::Log(vec!["late".into()]),
        SettleAction::End(complete()),
        SettleAction::End(fail()),
        SettleAction::End(snooze(secs(1))),
        SettleAction::End(End::Release),
    ]
}

/// I5: whatever is written with a token that is no longer current is refused with `lease-lost` and
/// changes nothing, in whatever state the job is by now.
pub async fn i5_an_old_token_changes_nothing(h: &mut dyn Harness) {
    let id = h.add("q", job().max_attempts(100)).await;
    let stale = h.lose("q").await;
    let current = h.take("q").await;
    let mut states = vec![(State::Running, None)];
    states.push((State::Retrying, Some(fail_for(secs(1)))));
    states.push((State::Completed, None));
    for (state, end) in states {
        if let Some(end) = end {
            h.end(current, end).await;
        } else if state == State::Completed {
            h.pass(secs(1)).await;
            h.work("q", complete_with("2")).await;
        }
        let before = h.view(id).await;
        for action in every_write() {
            let refused = h.settle(stale, action.clone()).await;
            assert_eq!(refused, Err(Refusal::LeaseLost { state }), "{action:?}");
        }
        let after = h.view(id).await;
        assert_eq!((&after.job, &after.result), (&before.job, &before.result));
        assert_eq!((&after.checkpoint, &after.evidence), (&before.checkpoint, &before.evidence));
        assert_eq!(after.attempts[1..], before.attempts[1..]);
        assert_eq!(after.attempts[0].end, before.attempts[0].end);
    }
}

/// I5: the same after a job ended for good by cancel or death.
pub async fn i5_an_old_token_changes_nothing_on_a_dead_or_cancelled_job(h: &mut dyn Harness) {
    for state in [State::Dead, State::Cancelled] {
        let id = h.add("q", job()).await;
        let lease = h.take("q").await;
        match state {
            State::Dead => drop(h.end(lease, crate::fail_for_good()).await),
            _ => drop(h.force_cancel(id).await.unwrap()),
        }
        for action in every_write() {
            assert_eq!(h.settle(lease, action).await, Err(Refusal::LeaseLost { state }));
        }
        assert_eq!(h.state(id).await, state);
    }
}

/// I5: late ends leave evidence in the history of their own attempt, counted per token, with the
/// first and last time.
pub async fn i5_late_ends_leave_evidence(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lost = [h.lose("q").await, h.lose("q").await];
    let current = h.take("q").await;
    h.wait(secs(1));
    let first_at = h.now();
    for n in 0..3 {
        if n > 0 {
            h.wait(secs(1));
        }
        h.try_end(lost[0], complete()).await.unwrap_err();
    }
    let last_at = h.now();
    h.try_end(lost[1], fail()).await.unwrap_err();
    h.try_end(lost[1], complete()).await.unwrap_err();
    h.try_end(lost[1], End::Release).await.unwrap_err();
    let [first, second, third] = <[_; 3]>::try_from(h.view(id).await.attempts).unwrap();
    let success = first.late_success;
    assert_eq!((success.count, success.first_at, success.last_at), (3, Some(first_at), Some(last_at)));
    assert!(first.late_failure.is_empty());
    assert_eq!((second.late_success.count, second.late_failure.count), (1, 1));
    assert!(third.late_success.is_empty() && third.late_failure.is_empty());
    assert_eq!(h.counts("q").await.late_writes, 6);
    assert_eq!(h.end(current, complete()).await, State::Completed);
}

/// I1, I5: evidence of late ends is there after a crash.
pub async fn i5_evidence_survives_a_crash(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lost = h.lose("q").await;
    h.try_end(lost, complete()).await.unwrap_err();
    let before = h.view(id).await;
    h.reopen_after_crash().await;
    assert_eq!(h.view(id).await, before);
    assert_eq!(h.counts("q").await.late_writes, 1);
}

/// I5: a token that never was this job's is refused and noted on the job, even if it is current
/// for another.
pub async fn i5_a_foreign_token_is_refused_and_noted(h: &mut dyn Harness) {
    let ids = [h.add("q", job()).await, h.add("q", job()).await];
    let leases = [h.take("q").await, h.take("q").await];
    let crossed = Lease { id: ids[0], token: leases[1].token };
    let invented = Lease { id: ids[0], token: FencingToken::new(1).unwrap() };
    for lease in [crossed, invented] {
        let refused = h.try_end(lease, complete()).await;
        assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Running }));
    }
    let view = h.view(ids[0]).await;
    let noted: Vec<_> = view.evidence.iter().map(|e| (e.kind, e.number)).collect();
    assert_eq!(noted, [(EvidenceKind::ForeignToken, 1), (EvidenceKind::ForeignToken, 2)]);
    for lease in leases {
        assert_eq!(h.end(lease, complete()).await, State::Completed);
    }
}

/// I5: an unknown job is `job-not-found`, not a lost lease.
pub async fn an_unknown_job_is_not_found(h: &mut dyn Harness) {
    let token = FencingToken::new(1).unwrap();
    let unknown = Lease { id: JobId::new(h.now(), Seq::new(12_345).unwrap()), token };
    assert_eq!(h.try_end(unknown, complete()).await, Err(Refusal::JobNotFound));
    let id = h.add("q", job()).await;
    let other_time = JobId::new(h.now().saturating_add(ms(1)), id.seq());
    let lease = h.take("q").await;
    let misspelt = Lease { id: other_time, token: lease.token };
    assert_eq!(h.try_end(misspelt, complete()).await, Err(Refusal::JobNotFound));
    assert_eq!(h.find(other_time).await, None);
    assert_eq!(h.state(id).await, State::Running);
}

/// I4, I5: an attempt that was given back is over: its token is as old as a lost one.
pub async fn i5_a_token_is_old_after_its_own_end(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.end(lease, End::Release).await;
    let refused = h.extend(lease, secs(60)).await;
    assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Available }));
    let refused = h.try_end(lease, complete()).await;
    assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Available }));
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.attempts[0].late_success.count), (State::Available, 1));
}

/// I4, I5: a token from before a crash is current as long as nobody else leased the job.
pub async fn i5_a_holder_goes_on_after_a_crash(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let lease = h.take("q").await;
    h.reopen_after_crash().await;
    h.extend(lease, secs(30)).await.unwrap();
    h.pass(secs(30)).await;
    let next = h.take("q").await;
    assert!(next.token > lease.token);
    assert!(h.extend(lease, secs(30)).await.is_err());
    assert_eq!(h.end(next, complete()).await, State::Completed);
}

/// I5: losing a lease on a queue that was deleted meanwhile is `job-not-found`; a late write
/// recreates nothing.
pub async fn a_late_write_recreates_nothing(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let lease = h.take("q").await;
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    for action in every_write() {
        assert_eq!(h.settle(lease, action).await, Err(Refusal::JobNotFound));
    }
    assert_eq!(h.engine().queue(queue("q")).await.unwrap(), None);
    assert!(h.lease_by(call("q")).await.is_empty());
    assert_eq!(h.pass(limits::LEASE_DEFAULT).await.expired, 0);
}
