//! Cancelling.

use onefold_core::{
    End, EventKind, EvidenceKind, JobId, Outcome, Progress, Refusal, Seq, SettleAction, State, limits,
};

use crate::{
    Build, Harness, complete, complete_with, fail, fail_for, fail_for_good, hours, job, secs, snooze,
};

/// Cancel: a job that does not run is cancelled at once, whatever it waits for.
pub async fn a_job_that_does_not_run_is_cancelled_at_once(h: &mut dyn Harness) {
    let available = h.add("q", job()).await;
    let retrying = h.add("q", job().priority(-1)).await;
    h.work("q", fail_for(hours(1))).await;
    let scheduled = h.add("q", job().after(hours(1))).await;
    for id in [available, retrying, scheduled] {
        let view = h.cancel(id).await.unwrap();
        assert_eq!((view.job.state, view.job.finished_at), (State::Cancelled, Some(h.now())));
        assert_eq!((view.job.reason, view.job.cancel_requested), (None, false));
        assert!(view.evidence.iter().any(|e| e.kind == EvidenceKind::CancelRequested));
        assert_eq!(h.view(id).await, view);
    }
    assert_eq!(h.pass(hours(1)).await.due, 0);
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.counts("q").await.cancelled, 3);
}

/// Cancel: of a running job it is a request, which its holder hears of at the next heartbeat; its
/// complete still wins.
pub async fn a_running_job_is_asked_and_its_complete_wins(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    assert!(!h.extend(lease, secs(30)).await.unwrap().cancel);
    let view = h.cancel(id).await.unwrap();
    assert_eq!((view.job.state, view.job.cancel_requested), (State::Running, true));
    let progress = SettleAction::Progress(Progress { percent: Some(50), message: None });
    for write in [SettleAction::Extend(secs(30)), progress] {
        let settled = h.settle(lease, write).await.unwrap();
        assert_eq!((settled.state, settled.cancel), (State::Running, true));
    }
    assert_eq!(h.end(lease, complete_with("1")).await, State::Completed);
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.job.cancel_requested), (State::Completed, false));
    assert!(view.result.is_some());
}

/// Cancel: any other end of a job that was asked is `cancelled`.
pub async fn any_other_end_of_an_asked_job_is_cancelled(h: &mut dyn Harness) {
    for end in [fail(), fail_for_good(), snooze(secs(1)), End::Release] {
        let id = h.add("q", job()).await;
        let lease = h.take("q").await;
        h.cancel(id).await.unwrap();
        assert_eq!(h.end(lease, end.clone()).await, State::Cancelled, "{end:?}");
        let view = h.view(id).await;
        assert_eq!((view.job.reason, view.job.finished_at), (None, Some(h.now())));
        assert_eq!(h.end(lease, end).await, State::Cancelled, "I6: the first answer again");
    }
    for (new, outcome) in [(job(), Outcome::LeaseLost), (job().timeout(secs(1)), Outcome::TimedOut)] {
        let id = h.add("q", new).await;
        h.take("q").await;
        h.cancel(id).await.unwrap();
        h.pass(limits::LEASE_DEFAULT).await;
        let view = h.view(id).await;
        assert_eq!(view.job.state, State::Cancelled);
        assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, outcome);
    }
}

/// Cancel, I5: `force` revokes the lease at once; what the holder still writes is late.
pub async fn force_revokes_the_lease_at_once(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let view = h.force_cancel(id).await.unwrap();
    assert_eq!(view.job.state, State::Cancelled);
    assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, Outcome::Revoked);
    let refused = h.extend(lease, secs(30)).await;
    assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Cancelled }));
    h.try_end(lease, complete()).await.unwrap_err();
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.attempts[0].late_success.count), (State::Cancelled, 1));
    assert!(view.result.is_none());
}

/// Cancel: force after a request revokes too, and force on a job that does not run is a plain cancel.
pub async fn force_after_a_request_and_without_a_lease(h: &mut dyn Harness) {
    let asked = h.add("q", job()).await;
    h.take("q").await;
    h.cancel(asked).await.unwrap();
    assert_eq!(h.force_cancel(asked).await.unwrap().job.state, State::Cancelled);
    let waiting = h.add("q", job()).await;
    assert_eq!(h.force_cancel(waiting).await.unwrap().job.state, State::Cancelled);
    assert_eq!(h.view(waiting).await.attempts.len(), 0);
}

/// Cancel: again changes nothing; a completed or dead job, and an unknown one, are refused.
pub async fn cancelling_again_changes_nothing(h: &mut dyn Harness) {
    let running = h.add("q", job()).await;
    h.take("q").await;
    let waiting = h.add("q", job()).await;
    for id in [running, waiting] {
        let first = h.cancel(id).await.unwrap();
        let cursor = h.last_event().await;
        h.wait(secs(1));
        assert_eq!(h.cancel(id).await.unwrap(), first);
        assert!(h.events_since(cursor).await.is_empty());
    }
    let completed = h.add("q", job()).await;
    h.work("q", complete()).await;
    let dead = h.add_dead("q", job()).await;
    for (id, state) in [(completed, State::Completed), (dead, State::Dead)] {
        for force in [false, true] {
            let refused = h.engine().cancel(id, force).await.unwrap();
            assert_eq!(refused, Err(Refusal::JobFinished { state }));
        }
    }
    let unknown = JobId::new(h.now(), Seq::new(77_777).unwrap());
    assert_eq!(h.cancel(unknown).await, Err(Refusal::JobNotFound));
}

/// I1: a cancel and a request for one are there after a crash.
pub async fn i1_a_cancel_survives_a_crash(h: &mut dyn Harness) {
    let asked = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.cancel(asked).await.unwrap();
    let waiting = h.add("q", job()).await;
    h.cancel(waiting).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.state(waiting).await, State::Cancelled);
    assert!(h.extend(lease, secs(30)).await.unwrap().cancel);
    assert_eq!(h.end(lease, fail()).await, State::Cancelled);
}

/// I10: a request and a cancel each have their event.
pub async fn i10_cancels_have_events(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let cursor = h.last_event().await;
    h.cancel(id).await.unwrap();
    h.end(lease, fail()).await;
    let kinds: Vec<_> = h.events_since(cursor).await.iter().map(|e| (e.kind, e.job)).collect();
    assert_eq!(kinds, [(EventKind::CancelRequested, Some(id)), (EventKind::Cancelled, Some(id))]);
}
