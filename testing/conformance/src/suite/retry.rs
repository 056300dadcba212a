//! Running dead, cancelled and retrying jobs again.

use onefold_core::{
    End, EvidenceKind, FreeOn, JobFilter, JobId, RedriveParams, Redriven, Refusal, Seq, State,
};

use crate::{
    Build, Harness, complete, complete_with, days, fail, fail_for, hours, job, key, keyed, kind, label, ms,
    queue, redrive, secs,
};

/// Retry: a dead job runs again with its id, budgets renewed; its attempts go on counting.
pub async fn a_dead_job_runs_again_with_budgets_renewed(h: &mut dyn Harness) {
    let id = h.add("q", job().max_attempts(2)).await;
    h.lose("q").await;
    h.work("q", fail()).await;
    assert_eq!(h.state(id).await, State::Dead);
    let until = h.view(id).await.job.retry_until;
    h.wait(secs(1));
    let view = h.retry(id).await.unwrap();
    assert_eq!((view.job.state, view.job.run_at), (State::Available, h.now()));
    assert_eq!((view.job.failures, view.job.lost_leases), (0, 0));
    assert_eq!((view.job.reason, view.job.finished_at), (None, None));
    assert_eq!(view.job.retry_until, until, "the window is not renewed");
    assert!(view.evidence.iter().any(|e| e.kind == EvidenceKind::Retried));
    assert_eq!(view.attempts.len(), 2);
    let leased = h.take_full("q").await;
    assert_eq!((leased.job.id, leased.job.attempts()), (id, 3));
    assert_eq!(h.end((&leased).into(), fail_for(secs(0))).await, State::Retrying, "one of two");
    h.tick().await;
    h.work("q", complete()).await;
    assert_eq!(h.view(id).await.attempts.len(), 4);
}

/// Budgets: a retry forgets the losses of a crash loop.
pub async fn a_retry_forgets_the_crash_loop(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    for _ in 0..6 {
        h.lose("q").await;
    }
    assert_eq!(h.state(id).await, State::Dead);
    h.retry(id).await.unwrap();
    for _ in 0..5 {
        h.lose("q").await;
    }
    assert_eq!(h.state(id).await, State::Available);
}

/// Retry: a cancelled job runs again, and the old cancel is forgotten.
pub async fn a_cancelled_job_runs_again(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.cancel(id).await.unwrap();
    h.end(lease, fail()).await;
    h.retry(id).await.unwrap();
    let lease = h.take("q").await;
    assert!(!h.extend(lease, secs(30)).await.unwrap().cancel);
    assert_eq!(h.end(lease, End::Release).await, State::Available);
}

/// Retry: a retrying job runs at once instead of waiting for its backoff.
pub async fn a_retrying_job_runs_at_once(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    h.work("q", fail_for(hours(5))).await;
    assert_eq!(h.retry(id).await.unwrap().job.state, State::Available);
    assert_eq!(h.take("q").await.id, id);
    assert_eq!(h.pass(hours(5)).await.due, 0, "the old time is forgotten");
}

/// Retry: other states are refused: a completed job is never run again.
pub async fn other_states_are_refused(h: &mut dyn Harness) {
    let completed = h.add("q", job()).await;
    h.work("q", complete()).await;
    let running = h.add("q", job()).await;
    h.take("q").await;
    let available = h.add("q", job()).await;
    let scheduled = h.add("q", job().after(hours(1))).await;
    let cases = [
        (completed, State::Completed),
        (running, State::Running),
        (available, State::Available),
        (scheduled, State::Scheduled),
    ];
    for (id, state) in cases {
        for accept_duplicates in [false, true] {
            let refused = h.engine().retry(id, accept_duplicates).await.unwrap();
            assert_eq!(refused, Err(Refusal::JobNotRetryable { state }));
        }
        assert_eq!(h.state(id).await, state);
    }
    let unknown = JobId::new(h.now(), Seq::new(77_777).unwrap());
    assert_eq!(h.retry(unknown).await, Err(Refusal::JobNotFound));
}

/// Retry, I3: the job's key is claimed again, though it was freed at its end or its window is over.
pub async fn i3_a_retry_claims_the_key_again(h: &mut dyn Harness) {
    let freed = keyed("freed", "x").free_on(FreeOn::DONE);
    let short = keyed("short", "x").window(secs(1));
    for (text, new) in [("freed", freed), ("short", short)] {
        let id = h.add_dead("q", new).await;
        h.pass(secs(1)).await;
        assert_eq!(h.holder("q", text).await, None);
        h.retry(id).await.unwrap();
        assert_eq!(h.repeat("q", keyed(text, "x")).await.id, id);
        h.reopen_after_crash().await;
        assert_eq!(h.repeat("q", keyed(text, "x")).await.id, id);
        h.work("q", complete()).await;
        assert_eq!(h.holder("q", text).await, None, "and freed again");
    }
}

/// Retry, I3: if another job holds the key by now, the retry is refused with `key-taken`, naming
/// it, and changes nothing.
pub async fn i3_a_taken_key_refuses_the_retry(h: &mut dyn Harness) {
    let old = h.add_dead("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    let new = h.add("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    let before = h.view(old).await;
    assert_eq!(h.retry(old).await, Err(Refusal::KeyTaken { by: new }));
    assert_eq!(h.view(old).await, before);
    assert_eq!(h.redrive("q").await.refused, [(old, Refusal::KeyTaken { by: new })]);
    assert_eq!(h.holder("q", "k").await.unwrap().job, new);
    h.work("q", complete()).await;
    h.retry(old).await.unwrap();
    assert_eq!(h.holder("q", "k").await.unwrap().job, old);
}

/// Retry, I11: after `retry_until` a retry needs `accept_duplicates`, and then gets a new one.
pub async fn i11_after_retry_until_a_retry_needs_accept_duplicates(h: &mut dyn Harness) {
    let id = h.add_dead("q", job()).await;
    let until = h.view(id).await.job.retry_until.unwrap();
    h.pass(days(7)).await;
    assert_eq!(h.now(), until);
    h.retry(id).await.unwrap();
    h.work("q", crate::fail_for_good()).await;
    h.pass(ms(1)).await;
    assert_eq!(h.retry(id).await, Err(Refusal::RetryWindowPassed { until }));
    assert_eq!(h.redrive("q").await.refused, [(id, Refusal::RetryWindowPassed { until })]);
    assert_eq!(h.state(id).await, State::Dead);
    let view = h.engine().retry(id, true).await.unwrap().unwrap();
    assert_eq!(view.job.retry_until, Some(h.now().saturating_add(days(7))));
    assert_eq!(h.take("q").await.id, id);
}

/// I8: a job that is run again after its end goes to the back of its group.
pub async fn i8_a_retried_job_goes_to_the_back_of_its_group(h: &mut dyn Harness) {
    let first = h.add_dead("q", job().group("g")).await;
    let second = h.add("q", job().group("g")).await;
    let cancelled = h.add("q", job().group("g")).await;
    h.cancel(cancelled).await.unwrap();
    h.retry(first).await.unwrap();
    h.retry(cancelled).await.unwrap();
    let last = h.add("q", job().group("g")).await;
    h.reopen_after_crash().await;
    for id in [second, first, cancelled, last] {
        assert_eq!(h.lease_ids("q", 9).await, [id]);
        let lease = h.view(id).await.job.attempt.unwrap();
        h.end(crate::Lease { id, token: lease.token }, complete()).await;
    }
}

/// Redrive: the dead jobs of a queue run again, oldest first, up to the limit; other queues and
/// states are left alone.
pub async fn a_redrive_takes_the_oldest_dead_jobs(h: &mut dyn Harness) {
    let elsewhere = h.add_dead("other", job()).await;
    let cancelled = h.add("q", job()).await;
    h.cancel(cancelled).await.unwrap();
    let mut dead = Vec::new();
    for _ in 0..3 {
        dead.push(h.add_dead("q", job()).await);
    }
    let done = h.redrive_by(RedriveParams { limit: 2, ..redrive("q") }).await.unwrap();
    assert_eq!(done, Redriven { redriven: 2, refused: vec![] });
    assert_eq!(h.lease_ids("q", 9).await, dead[..2]);
    assert_eq!(h.state(dead[2]).await, State::Dead);
    assert_eq!(h.state(elsewhere).await, State::Dead);
    assert_eq!(h.state(cancelled).await, State::Cancelled);
    assert_eq!(h.redrive("q").await.redriven, 1);
    assert_eq!(h.redrive("q").await.redriven, 0);
}

/// Redrive: only the states asked for, of which only dead and cancelled count, and only jobs that
/// match the filter.
pub async fn a_redrive_is_filtered(h: &mut dyn Harness) {
    let mail = h.add_dead("q", job().kind("mail")).await;
    let red = h.add_dead("q", job().kind("sms").label("red")).await;
    let cancelled = h.add("q", job().kind("mail")).await;
    h.cancel(cancelled).await.unwrap();
    let retrying = h.add("q", job().kind("mail")).await;
    h.work("q", fail_for(hours(1))).await;
    let filtered =
        |filter, states: &[State]| RedriveParams { filter, states: states.to_vec(), ..redrive("q") };
    let by_kind = || JobFilter { kind: Some(kind("mail")), ..JobFilter::default() };
    let by_label = JobFilter { label: Some(label("red")), ..JobFilter::default() };

    let running_only = filtered(by_kind(), &[State::Retrying, State::Running, State::Completed]);
    assert_eq!(h.redrive_by(running_only).await.unwrap().redriven, 0);
    assert_eq!(h.redrive_by(filtered(by_label, &[State::Dead])).await.unwrap().redriven, 1);
    assert_eq!(h.take("q").await.id, red);
    let both = filtered(by_kind(), &[State::Dead, State::Cancelled]);
    assert_eq!(h.redrive_by(both).await.unwrap().redriven, 2);
    assert_eq!(h.lease_ids("q", 9).await, [mail, cancelled]);
    assert_eq!(h.state(retrying).await, State::Retrying);
}

/// Redrive: an unknown queue is refused.
pub async fn a_redrive_of_an_unknown_queue_is_refused(h: &mut dyn Harness) {
    assert_eq!(h.redrive_by(redrive("nowhere")).await, Err(Refusal::QueueNotFound));
    assert_eq!(h.engine().queue(queue("nowhere")).await.unwrap(), None);
}

/// Redrive, I3: of two jobs that want one key, the older gets it and the younger is told.
pub async fn i3_a_redrive_gives_each_key_to_one_job(h: &mut dyn Harness) {
    let old = h.add_dead("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    let young = h.add_dead("q", keyed("k", "x").free_on(FreeOn::DONE)).await;
    let done = h.redrive("q").await;
    assert_eq!((done.redriven, done.refused), (1, vec![(young, Refusal::KeyTaken { by: old })]));
    let held = h.engine().key(queue("q"), key("k")).await.unwrap().unwrap();
    assert_eq!(held.job, old);
}

/// I1: retries and redrives are there after a crash.
pub async fn i1_a_retry_survives_a_crash(h: &mut dyn Harness) {
    let retried = h.add_dead("q", job()).await;
    h.retry(retried).await.unwrap();
    let redriven = h.add_dead("other", job()).await;
    h.redrive("other").await;
    let before = [h.view(retried).await, h.view(redriven).await];
    h.reopen_after_crash().await;
    assert_eq!([h.view(retried).await, h.view(redriven).await], before);
    assert_eq!(h.take("q").await.id, retried);
    assert_eq!(h.take("other").await.id, redriven);
}

/// Retry: what an earlier run returned is gone, and the retention counts from the new end.
pub async fn a_retried_job_is_kept_from_its_new_end(h: &mut dyn Harness) {
    let id = h.add_dead("q", job()).await;
    h.pass(days(6)).await;
    h.retry(id).await.unwrap();
    assert_eq!(h.view(id).await.result, None);
    h.work("q", complete_with("1")).await;
    h.pass(ms(7 * 24 * 3_600_000 - 1)).await;
    assert_eq!(h.state(id).await, State::Completed);
    h.pass(ms(1)).await;
    assert_eq!(h.find(id).await, None);
}
