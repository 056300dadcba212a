//! What the holder of a lease says: ends, extensions, progress, checkpoints, log lines.

use bytes::Bytes;
use onefold_core::{
    DeadReason, End, JobError, Outcome, Progress, Refusal, SettleAction, SettleOp, Settled, State, limits,
};

use crate::{
    Build, Harness, Lease, complete, complete_with, error, fail, fail_for, fail_for_good, job, ms, secs,
    snooze,
};

fn op(lease: Lease, action: SettleAction) -> SettleOp {
    SettleOp { id: lease.id, token: lease.token, action }
}

/// Settle: complete ends the job with its result.
pub async fn complete_ends_the_job_with_its_result(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.wait(secs(3));
    let settled = h.try_end(lease, complete_with("{\"sum\": 3}")).await.unwrap();
    assert_eq!(settled, Settled { state: State::Completed, cancel: false, lease_until: None });
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.job.reason), (State::Completed, None));
    assert_eq!(view.job.finished_at, Some(h.now()));
    assert_eq!(view.result.as_deref(), Some(b"{\"sum\": 3}".as_slice()));
    let end = view.job.attempt.unwrap().end.unwrap();
    assert_eq!((end.at, end.outcome, end.state), (h.now(), Outcome::Completed, State::Completed));
    assert_eq!(h.counts("q").await.completed, 1);
    assert!(h.nothing_to_lease("q").await);
}

/// Settle, budgets: a failure is kept with its error and waits.
pub async fn a_failure_waits_with_its_error(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let error = JobError { message: "no route".into(), kind: Some("Network".into()) };
    let end = End::Fail { error: error.clone(), retryable: true, retry_in: Some(secs(9)) };
    assert_eq!(h.end(lease, end).await, State::Retrying);
    let view = h.view(id).await;
    assert_eq!((view.job.failures, view.job.run_at), (1, h.now().saturating_add(secs(9))));
    let end = view.job.attempt.unwrap().end.unwrap();
    assert_eq!((end.outcome, end.error), (Outcome::Failed, Some(error)));
    assert_eq!(h.pass(ms(8_999)).await.due, 0);
    assert!(h.nothing_to_lease("q").await);
    assert_eq!(h.pass(ms(1)).await.due, 1);
    assert_eq!(h.take("q").await.id, id);
}

/// I10: a failure that cannot be mended makes the job dead, with that reason.
pub async fn i10_a_permanent_failure_makes_the_job_dead(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    assert_eq!(h.end(lease, fail_for_good()).await, State::Dead);
    let view = h.view(id).await;
    assert_eq!(view.job.reason, Some(DeadReason::Permanent));
    assert_eq!((view.job.failures, view.job.finished_at), (1, Some(h.now())));
    assert_eq!(view.attempts[0].end.as_ref().unwrap().error, Some(error("no way")));
}

/// States: a snoozed job is scheduled, and comes back at its time.
pub async fn a_snoozed_job_comes_back_at_its_time(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    assert_eq!(h.end(lease, snooze(secs(60))).await, State::Scheduled);
    let view = h.view(id).await;
    assert_eq!(view.job.run_at, h.now().saturating_add(secs(60)));
    assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, Outcome::Snoozed);
    assert_eq!(h.pass(ms(59_999)).await.due, 0);
    assert_eq!(h.pass(ms(1)).await.due, 1);
    assert_eq!(h.take("q").await.id, id);
}

/// States: a released job is available at once.
pub async fn a_released_job_is_available_at_once(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    assert_eq!(h.end(lease, End::Release).await, State::Available);
    let view = h.view(id).await;
    assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, Outcome::Released);
    assert_eq!(h.take("q").await.id, id);
}

/// Lease: an extension runs from now on, with its own length, and the old end no longer counts.
pub async fn an_extension_counts_from_now(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.wait(secs(20));
    let until = h.now().saturating_add(secs(15));
    let settled = h.extend(lease, secs(15)).await.unwrap();
    assert_eq!(settled, Settled { state: State::Running, cancel: false, lease_until: Some(until) });
    let attempt = h.view(id).await.job.attempt.unwrap();
    assert_eq!((attempt.lease_until, attempt.lease), (until, secs(15)));
    assert_eq!(h.pass(ms(14_999)).await.expired, 0);
    assert_eq!(h.state(id).await, State::Running);
    assert_eq!(h.pass(ms(1)).await.expired, 1);
    assert_eq!(h.state(id).await, State::Available);
}

/// Lease: an extension may also shorten a lease.
pub async fn an_extension_may_shorten(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.extend(lease, ms(100)).await.unwrap();
    assert_eq!(h.pass(ms(100)).await.expired, 1);
    assert_eq!(h.state(id).await, State::Available);
}

/// Budgets: no extension reaches past the hard attempt limit.
pub async fn no_extension_reaches_past_the_hard_limit(h: &mut dyn Harness) {
    h.add("q", job().timeout(secs(40))).await;
    let lease = h.take("q").await;
    let limit = h.now().saturating_add(secs(40));
    h.wait(secs(25));
    let settled = h.extend(lease, secs(30)).await.unwrap();
    assert_eq!(settled.lease_until, Some(limit));
}

/// API: a checkpoint is handed to the next attempt, the last one given; progress and log lines are
/// the attempt's.
pub async fn checkpoint_progress_and_log(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let progress = |percent, message: &str| {
        SettleAction::Progress(Progress { percent: Some(percent), message: Some(message.to_owned()) })
    };
    let checkpoint = |json: &'static str| SettleAction::Checkpoint(Bytes::from_static(json.as_bytes()));
    let log = |line: &str| SettleAction::Log(vec![line.to_owned()]);
    let said = [
        progress(10, "begun"),
        log("one"),
        checkpoint("{\"at\":1}"),
        log("two"),
        checkpoint("{\"at\":2}"),
        progress(20, "on"),
    ];
    let ops = said.into_iter().map(|action| op(lease, action)).collect();
    let running = Settled {
        state: State::Running,
        cancel: false,
        lease_until: Some(h.now().saturating_add(limits::LEASE_DEFAULT)),
    };
    for outcome in h.engine().settle(ops).await.unwrap() {
        assert_eq!(outcome, Ok(running));
    }
    let view = h.view(id).await;
    let attempt = view.job.attempt.unwrap();
    let shown = attempt.progress.unwrap();
    assert_eq!((shown.percent, shown.message.as_deref()), (Some(20), Some("on")));
    assert_eq!(attempt.log, ["one", "two"]);
    assert_eq!(view.checkpoint.as_deref(), Some(b"{\"at\":2}".as_slice()));
    h.end(lease, End::Release).await;
    let next = h.take_full("q").await;
    assert_eq!(next.checkpoint.as_deref(), Some(b"{\"at\":2}".as_slice()));
    assert_eq!((&next.attempt().unwrap().progress, next.attempt().unwrap().log.len()), (&None, 0));
    assert_eq!(h.view(id).await.attempts[0].log, ["one", "two"], "the history keeps them");
}

/// I1: a checkpoint is durable when it is acknowledged.
pub async fn i1_a_checkpoint_survives_a_crash(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.settle(lease, SettleAction::Checkpoint(Bytes::from_static(b"7"))).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.view(id).await.checkpoint.as_deref(), Some(b"7".as_slice()));
}

/// Limits: of an attempt's log the last lines are kept, each cut at a character.
pub async fn the_last_log_lines_are_kept(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let lines: Vec<String> = (0..limits::LOG_LINES_MAX + 3).map(|n| n.to_string()).collect();
    let (first, second) = lines.split_at(50);
    for lines in [first, second] {
        h.settle(lease, SettleAction::Log(lines.to_vec())).await.unwrap();
    }
    let log = h.view(id).await.job.attempt.unwrap().log;
    assert_eq!(log, lines[3..]);
    let long = "é".repeat(limits::LOG_LINE_BYTES_MAX);
    h.settle(lease, SettleAction::Log(vec![long.clone()])).await.unwrap();
    let log = h.view(id).await.job.attempt.unwrap().log;
    assert_eq!(log.last().unwrap().as_str(), &long[..limits::LOG_LINE_BYTES_MAX]);
}

/// Settle: a batch has one outcome for each item, in order; a refused item does not touch its
/// neighbours.
pub async fn a_batch_of_settles_answers_each_item(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 3]).await;
    let leases = [h.take("q").await, h.take("q").await, h.take("q").await];
    let mixed = Lease { id: leases[2].id, token: leases[0].token };
    let ops = vec![
        op(leases[0], SettleAction::End(complete())),
        op(mixed, SettleAction::End(complete())),
        op(leases[1], SettleAction::End(fail())),
        op(leases[2], SettleAction::Extend(secs(60))),
        op(leases[2], SettleAction::End(complete())),
    ];
    let outcomes = h.engine().settle(ops).await.unwrap();
    let states: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map(|s| s.state)).collect();
    let lost = Refusal::LeaseLost { state: State::Running };
    let expected =
        [Ok(State::Completed), Err(&lost), Ok(State::Retrying), Ok(State::Running), Ok(State::Completed)];
    assert_eq!(states, expected);
}

/// I6: of two ends by one token in one batch the first counts; the same again gets its answer, a
/// different one is refused.
pub async fn i6_the_first_end_in_a_batch_counts(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    let ends = [complete(), complete(), fail(), End::Release];
    let ops = ends.into_iter().map(|end| op(lease, SettleAction::End(end))).collect();
    let outcomes = h.engine().settle(ops).await.unwrap();
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].as_ref().unwrap().state, State::Completed);
    let lost = Err(Refusal::LeaseLost { state: State::Completed });
    assert_eq!(outcomes[2..], [lost.clone(), lost]);
    assert_eq!(h.view(id).await.attempts.len(), 1);
}

/// I1: each acknowledged end of an attempt is there after a crash.
pub async fn i1_every_end_survives_a_crash(h: &mut dyn Harness) {
    let ends = [
        (complete_with("1"), State::Completed),
        (fail_for(secs(60)), State::Retrying),
        (fail_for_good(), State::Dead),
        (snooze(secs(60)), State::Scheduled),
        (End::Release, State::Available),
    ];
    for (end, state) in ends {
        let name = state.as_str();
        let id = h.add(name, job()).await;
        let lease = h.take(name).await;
        assert_eq!(h.end(lease, end.clone()).await, state);
        let before = h.view(id).await;
        h.reopen_after_crash().await;
        assert_eq!(h.view(id).await, before);
        assert_eq!(h.end(lease, end).await, state, "the first answer again");
    }
}

/// I1: an extension is there after a crash, and the lease it gave runs in full from the reopening.
pub async fn i1_an_extension_survives_a_crash(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.extend(lease, secs(300)).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.pass(secs(299)).await.expired, 0);
    assert_eq!(h.state(id).await, State::Running);
    assert_eq!(h.pass(secs(1)).await.expired, 1);
}
