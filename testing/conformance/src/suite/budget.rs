//! Budgets: what a job may cost before it is dead, and when it runs again.

use onefold_core::{Backoff, DeadReason, End, JobView, Outcome, QueuePatch, State, limits};

use crate::{Build, Harness, complete, days, fail, fail_for, hours, job, ms, secs, snooze};

fn is_dead(view: &JobView, reason: DeadReason) -> bool {
    view.job.state == State::Dead && view.job.reason == Some(reason)
}

/// Budgets, I10: failures use up `max_attempts`; the last one makes the job dead, reason `attempts`.
pub async fn i10_failures_use_up_max_attempts(h: &mut dyn Harness) {
    let id = h.add("q", job().max_attempts(3)).await;
    for n in 1..3 {
        h.work("q", fail_for(secs(1))).await;
        let view = h.view(id).await;
        assert_eq!((view.job.state, view.job.failures), (State::Retrying, n));
        h.pass(secs(1)).await;
    }
    h.work("q", fail_for(secs(1))).await;
    let view = h.view(id).await;
    assert!(is_dead(&view, DeadReason::Attempts), "{:?}", view.job);
    assert_eq!((view.job.failures, view.job.finished_at), (3, Some(h.now())));
    assert!(h.pass(days(1)).await.due == 0 && h.nothing_to_lease("q").await);
}

/// Budgets: failures and lost leases share the budget.
pub async fn failures_and_lost_leases_share_the_budget(h: &mut dyn Harness) {
    let id = h.add("q", job().max_attempts(3)).await;
    h.lose("q").await;
    h.work("q", fail_for(secs(0))).await;
    h.tick().await;
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.job.failures, view.job.lost_leases), (State::Available, 1, 1));
    h.lose("q").await;
    assert!(is_dead(&h.view(id).await, DeadReason::Attempts));
}

/// Budgets: `max_attempts` 1 means at most one delivery, whether it fails, is lost or runs into its
/// hard limit.
pub async fn one_attempt_is_one_delivery(h: &mut dyn Harness) {
    let failed = h.add("q", job().max_attempts(1)).await;
    h.work("q", fail()).await;
    let lost = h.add("q", job().max_attempts(1)).await;
    h.lose("q").await;
    let slow = h.add("q", job().max_attempts(1).timeout(secs(2))).await;
    h.take("q").await;
    h.pass(secs(2)).await;
    for id in [failed, lost, slow] {
        let view = h.view(id).await;
        assert!(is_dead(&view, DeadReason::Attempts), "{:?}", view.job);
        assert_eq!(view.attempts.len(), 1);
    }
}

/// Defaults: twenty failures and lost leases end a job that does not say.
pub async fn the_default_is_twenty(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    assert_eq!(h.view(id).await.job.max_attempts, 20);
    for _ in 1..20 {
        h.work("q", fail_for(secs(0))).await;
        h.tick().await;
    }
    assert_eq!(h.state(id).await, State::Available);
    h.work("q", fail_for(secs(0))).await;
    assert!(is_dead(&h.view(id).await, DeadReason::Attempts));
}

/// Budgets: a lost lease makes the job available at once, and is in the history as such.
pub async fn a_lost_lease_makes_the_job_available_at_once(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    h.lose("q").await;
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.job.run_at), (State::Available, h.now()));
    assert_eq!((view.job.failures, view.job.lost_leases), (0, 1));
    assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, Outcome::LeaseLost);
}

/// Budgets, I10: five lost leases within 24 h are borne, the sixth is a crash loop.
pub async fn i10_the_sixth_lost_lease_in_a_day_is_a_crash_loop(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    for _ in 0..5 {
        h.lose("q").await;
    }
    assert_eq!(h.state(id).await, State::Available);
    h.lose("q").await;
    let view = h.view(id).await;
    assert!(is_dead(&view, DeadReason::CrashLoop), "{:?}", view.job);
    assert_eq!(view.job.lost_leases, 6);
}

/// Budgets: leases lost more than 24 h ago are no part of a crash loop; they still cost the budget.
pub async fn losses_of_yesterday_are_no_crash_loop(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    for _ in 0..5 {
        h.lose("q").await;
    }
    h.pass(hours(24)).await;
    for _ in 0..5 {
        h.lose("q").await;
    }
    let view = h.view(id).await;
    assert_eq!((view.job.state, view.job.lost_leases), (State::Available, 10));
    h.reopen_after_crash().await;
    h.lose("q").await;
    assert!(is_dead(&h.view(id).await, DeadReason::CrashLoop), "losses are remembered over a crash");
}

/// Budgets: failures are no part of a crash loop.
pub async fn failures_are_no_crash_loop(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    for _ in 0..10 {
        h.work("q", fail_for(secs(0))).await;
        h.tick().await;
    }
    assert_eq!(h.state(id).await, State::Available);
}

/// Budgets: snoozed and released leases cost nothing, however many; their attempts are counted.
pub async fn snoozed_and_released_leases_cost_nothing(h: &mut dyn Harness) {
    let id = h.add("q", job().max_attempts(1)).await;
    for _ in 0..15 {
        h.work("q", End::Release).await;
        h.work("q", snooze(secs(1))).await;
        h.pass(secs(1)).await;
    }
    let view = h.view(id).await;
    assert_eq!((view.job.failures, view.job.lost_leases, view.job.attempts()), (0, 0, 30));
    assert_eq!(h.work("q", complete()).await, id);
}

/// Defaults: after failure n the wait is between d/2 and d, d = min(6 h, 5 s × 2^(n−1)), both ends
/// included, drawn anew each time.
pub async fn the_default_backoff_doubles_from_five_seconds(h: &mut dyn Harness) {
    let dice = h.world().dice.clone();
    let id = h.add("q", job().max_attempts(100)).await;
    for n in 1..=18 {
        let longest = (5_000_u64 << (n - 1)).min(6 * 3_600_000);
        let half = longest / 2;
        let drawn = match n % 3 {
            0 => 0,
            1 => longest - half,
            _ => 1_234,
        };
        dice.load(Some(drawn));
        h.work("q", fail()).await;
        let view = h.view(id).await;
        assert_eq!(view.job.run_at, h.now().saturating_add(ms(half + drawn)), "failure {n}");
        h.pass(ms(longest)).await;
    }
}

/// Defaults: waits of jobs that failed together differ.
pub async fn waits_are_drawn_apart(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 20]).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        let id = h.work("q", fail()).await;
        let wait = h.view(id).await.job.run_at.as_unix_ms() - h.now().as_unix_ms();
        assert!((2_500..=5_000).contains(&wait), "{wait}");
        waits.push(wait);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "{waits:?}");
}

/// Defaults: fixed backoff, a list whose last wait repeats, and an exponential one of one's own.
pub async fn backoff_of_ones_own(h: &mut dyn Harness) {
    h.world().dice.load(Some(0));
    let cases = [
        (Backoff::Fixed(ms(70)), [70, 70, 70, 70]),
        (Backoff::List(vec![secs(1), secs(3), secs(2)]), [1_000, 3_000, 2_000, 2_000]),
        (Backoff::Exponential { base: secs(2), max: secs(6) }, [1_000, 2_000, 3_000, 3_000]),
    ];
    for (backoff, waits) in cases {
        let id = h.add("q", job().backoff(backoff.clone())).await;
        for wait in waits {
            h.work("q", fail()).await;
            let expected = h.now().saturating_add(ms(wait));
            assert_eq!(h.view(id).await.job.run_at, expected, "{backoff:?}");
            h.pass(ms(wait)).await;
        }
        h.work("q", complete()).await;
    }
}

/// Budgets: a lost lease does not make the next backoff longer: n counts failures.
pub async fn only_failures_lengthen_the_backoff(h: &mut dyn Harness) {
    let waits = Backoff::List(vec![secs(1), secs(2), secs(3)]);
    let id = h.add("q", job().backoff(waits)).await;
    h.lose("q").await;
    h.lose("q").await;
    h.work("q", fail()).await;
    assert_eq!(h.view(id).await.job.run_at, h.now().saturating_add(secs(1)));
}

/// Budgets: the hard attempt limit ends an attempt as a failure, however often it is extended;
/// 15 minutes unless the job says otherwise.
pub async fn the_hard_limit_ends_an_attempt_as_a_failure(h: &mut dyn Harness) {
    h.world().dice.load(Some(0));
    for (new, minutes) in [(job(), 15), (job().timeout(secs(120)), 2)] {
        let id = h.add("q", new).await;
        let lease = h.take("q").await;
        for _ in 0..minutes {
            h.extend(lease, limits::LEASE_MAX).await.unwrap();
            h.wait(secs(59));
            assert_eq!(h.pass(ms(999)).await.expired, 0);
            h.wait(ms(1));
        }
        assert_eq!(h.tick().await.expired, 1);
        let view = h.view(id).await;
        assert_eq!((view.job.state, view.job.failures, view.job.lost_leases), (State::Retrying, 1, 0));
        assert_eq!(view.job.run_at, h.now().saturating_add(ms(2_500)));
        let end = view.attempts[0].end.as_ref().unwrap();
        assert_eq!(end.outcome, Outcome::TimedOut);
        assert!(end.error.is_some(), "it says why");
        h.cancel(id).await.unwrap();
    }
}

/// Budgets: a lease that ran out before the hard limit is a lost lease, whenever the tick comes.
pub async fn what_ran_out_first_counts_whenever_the_tick_comes(h: &mut dyn Harness) {
    let id = h.add("q", job().timeout(secs(60))).await;
    h.take("q").await;
    h.pass(secs(61)).await;
    let view = h.view(id).await;
    assert_eq!((view.job.failures, view.job.lost_leases), (0, 1));
    assert_eq!(view.attempts[0].end.as_ref().unwrap().outcome, Outcome::LeaseLost);
}

/// I11: `retry_until` is set at the first start to what the policy can take, at least 7 days, and
/// later attempts do not move it.
pub async fn i11_retry_until_is_set_at_the_first_start(h: &mut dyn Harness) {
    let daily = job().backoff(Backoff::Fixed(days(1))).max_attempts(10).timeout(hours(1));
    let policy = days(9).saturating_add(hours(10));
    for (new, horizon) in [(job(), days(7)), (daily, policy)] {
        let id = h.add("q", new).await;
        assert_eq!(h.view(id).await.job.retry_until, None);
        h.wait(secs(5));
        let until = Some(h.now().saturating_add(horizon));
        h.work("q", fail_for(hours(1))).await;
        h.pass(hours(1)).await;
        assert_eq!(h.view(id).await.job.retry_until, until);
        assert_eq!(h.take_full("q").await.job.retry_until, until, "it travels with every delivery");
        h.force_cancel(id).await.unwrap();
    }
}

/// Time to live, I10: an attempt that would start after `retry_until` never does: the job is dead,
/// `expired`, as soon as that is known.
pub async fn i10_no_attempt_starts_after_retry_until(h: &mut dyn Harness) {
    for end in [fail_for(days(8)), snooze(days(8))] {
        let id = h.add("q", job()).await;
        h.work("q", end).await;
        assert!(is_dead(&h.view(id).await, DeadReason::Expired));
    }
    let exactly = h.add("q", job()).await;
    h.work("q", snooze(days(7))).await;
    assert_eq!(h.pass(days(7)).await.due, 1);
    assert_eq!(h.take("q").await.id, exactly, "at retry_until is not after it");
}

/// Time to live: a job that waits beyond `retry_until`, here because its queue is paused, dies; a job
/// that never started has no such limit.
pub async fn waiting_beyond_retry_until_is_death(h: &mut dyn Harness) {
    let pause = |paused| QueuePatch { paused: Some(paused), ..QueuePatch::default() };
    let never_started = h.add("q", job().priority(1)).await;
    let released = h.add("q", job()).await;
    assert_eq!(h.work("q", End::Release).await, released);
    h.set("q", pause(true)).await;
    h.pass(days(7)).await;
    assert_eq!(h.state(released).await, State::Available);
    h.pass(ms(1)).await;
    assert!(is_dead(&h.view(released).await, DeadReason::Expired));
    h.set("q", pause(false)).await;
    assert_eq!(h.take("q").await.id, never_started);
}

/// Time to live: even without a tick no lease is handed out after `retry_until`.
pub async fn no_lease_after_retry_until_without_a_tick(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    h.work("q", End::Release).await;
    h.wait(days(7));
    h.wait(ms(1));
    assert!(h.nothing_to_lease("q").await);
    h.tick().await;
    assert!(is_dead(&h.view(id).await, DeadReason::Expired));
}
