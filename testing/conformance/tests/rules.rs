//! The pure rules of core, with whatever they may be given.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod rules_support;

use onefold_conformance::{fingerprint, ms};
use onefold_core::rules::{self, LateEvidence};
use onefold_core::{
    Backoff, DeadReason, Dedup, DurationMs, End, Event, FreeOn, Hold, Holder, JobId, OnDuplicate, OnMismatch,
    Outcome, RepeatDecision, RetryPolicy, SeededEntropy, Seq, State, TRANSITIONS, When, decide_repeat,
    limits, replaced_run_at, retry_until, run_at,
};
use proptest::prelude::*;
use rules_support::{Step, at, backoff, bystander, end, fresh, happen, step};

const DAY: u64 = 86_400_000;

proptest! {
    // What fails is printed with its smallest input; files of seeds would only pile up.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// States: whatever happens, a job goes along the table or stays; what is refused changes
    /// nothing; and a job is finished, dead or running in all its fields or in none.
    #[test]
    fn rules_go_along_the_table_or_change_nothing(steps in prop::collection::vec(step(), 1..60), max in 1_u32..6) {
        let mut job = fresh(max);
        let mut now = 0;
        for step in steps {
            let before = job.clone();
            now += step.after_ms;
            let done = happen(&mut job, &step, at(now));
            let along = TRANSITIONS.iter().any(|(from, _, to)| (*from, *to) == (before.state, job.state));
            prop_assert!(job.state == before.state || along, "{} to {} by {step:?}", before.state, job.state);
            prop_assert!(done.is_ok() || job == before, "refused, but changed by {step:?}");
            prop_assert_eq!(job.finished_at.is_some(), job.state.is_finished());
            prop_assert_eq!(job.reason.is_some(), job.state == State::Dead);
            let open = job.attempt.as_ref().is_some_and(|attempt| attempt.end.is_none());
            prop_assert_eq!(open, job.state == State::Running);
            prop_assert!(!job.cancel_requested || job.state == State::Running);
            prop_assert!(job.attempts() >= before.attempts(), "attempt numbers never go back");
            prop_assert_eq!(job.retry_until.is_some(), job.attempts() > 0);
            prop_assert!(before.state != State::Completed || job.state == State::Completed);
        }
    }

    /// Budgets: failures and lost leases end a job exactly when there are `max_attempts` of them;
    /// snoozes and releases never do.
    #[test]
    fn budgets_end_a_job_exactly_when_they_are_used_up(
        ends in prop::collection::vec(0_u8..4, 1..80),
        max in 1_u32..10,
    ) {
        let mut job = fresh(max);
        let mut spent = 0;
        for (n, end) in ends.into_iter().enumerate() {
            // A lease a day: never a crash loop, and `retry_until` is kept out of the way.
            let now = at(n as u64 * DAY);
            let mut step = Step::lease();
            happen(&mut job, &step, now).unwrap();
            job.retry_until = None;
            step.what = end;
            let costs = rules_support::end_attempt(&mut job, end, now);
            spent += u32::from(costs);
            prop_assert_eq!(job.failures + job.lost_leases, spent);
            prop_assert_eq!(job.state == State::Dead, spent >= max);
            if job.state == State::Dead {
                prop_assert_eq!(job.reason, Some(DeadReason::Attempts));
                break;
            }
            rules_support::make_available(&mut job, now);
        }
    }

    /// Budgets: a job is a crash loop exactly when a lost lease is the sixth in 24 h.
    #[test]
    fn six_losses_in_a_day_are_a_crash_loop(gaps in prop::collection::vec(0_u64..2 * DAY / 5, 1..40)) {
        let mut job = fresh(limits::MAX_ATTEMPTS_MAX);
        let mut losses: Vec<u64> = Vec::new();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            happen(&mut job, &Step::lease(), at(now)).unwrap();
            job.retry_until = None;
            now += 30_000;
            losses.push(now);
            rules_support::lose(&mut job, at(now));
            let in_a_day = losses.iter().filter(|lost| *lost + DAY > now).count();
            prop_assert_eq!(job.reason == Some(DeadReason::CrashLoop), in_a_day > limits::CRASH_LOOP_LOSSES);
            if job.state == State::Dead {
                break;
            }
        }
    }

    /// I11: `retry_until` covers whatever the policy can take and at least a week, and more of
    /// anything never makes it earlier.
    #[test]
    fn i11_retry_until_covers_the_policy(
        backoff in backoff(),
        attempts in 1_u32..60,
        timeout in 1_u64..4_000_000,
        start in 0_u64..DAY,
        seed: u64,
    ) {
        let until = retry_until(at(start), &backoff, attempts, ms(timeout));
        prop_assert!(until >= at(start).saturating_add(limits::RETRY_FOR_MIN));
        let dice = SeededEntropy::new(seed);
        let waits: u64 = (1..attempts).map(|n| backoff.wait(n, &dice).as_ms()).sum();
        let taken = waits + timeout * u64::from(attempts);
        prop_assert!(until >= at(start + taken), "{taken} ms of waits and attempts");
        prop_assert!(retry_until(at(start), &backoff, attempts + 1, ms(timeout)) >= until);
        prop_assert!(retry_until(at(start), &backoff, attempts, ms(timeout + 1)) >= until);
        prop_assert!(retry_until(at(start + 1), &backoff, attempts, ms(timeout)) > until);
    }

    /// Defaults: a wait is between half of the longest and the longest; exponential waits never
    /// shrink and never pass their maximum.
    #[test]
    fn waits_stay_within_their_bounds(backoff in backoff(), n in 1_u32..200, seed: u64) {
        let longest = backoff.longest_wait(n);
        let wait = backoff.wait(n, &SeededEntropy::new(seed));
        prop_assert!(wait <= longest);
        match &backoff {
            Backoff::Exponential { max, .. } => {
                prop_assert!(wait.as_ms() >= longest.as_ms() / 2);
                prop_assert!(longest <= *max && longest <= backoff.longest_wait(n + 1));
            }
            Backoff::Fixed(_) | Backoff::List(_) => prop_assert_eq!(wait, longest),
        }
    }

    /// I6: two ends have the same content exactly when they are the same.
    #[test]
    fn i6_content_tells_ends_apart(a in end(), b in end()) {
        prop_assert_eq!(a.content() == b.content(), a == b);
        prop_assert_eq!(a.content(), a.clone().content());
    }

    /// Budgets: a lease that is handed out, extended or renewed never reaches past the hard limit,
    /// and a renewed one has its full length again.
    #[test]
    fn leases_stay_within_the_hard_limit(
        lease in 100_u64..3_600_000,
        timeout in 100_u64..3_600_000,
        extension in 100_u64..3_600_000,
        pause in 0_u64..DAY,
        back: bool,
    ) {
        let policy = RetryPolicy { backoff: &Backoff::default(), timeout: ms(timeout) };
        let mut job = fresh(20);
        let start = at(2 * DAY);
        rules::lease(&mut job, policy, bystander().1, bystander().0, ms(lease), None, start).unwrap();
        let attempt = job.attempt.clone().unwrap();
        prop_assert_eq!(attempt.deadline, start.saturating_add(ms(timeout)));
        prop_assert_eq!(attempt.lease_until, start.saturating_add(ms(lease.min(timeout))));
        rules::extend(&mut job, ms(extension), start);
        let attempt = job.attempt.clone().unwrap();
        prop_assert!(attempt.lease_until <= attempt.deadline);
        let now = if back { start.saturating_sub(ms(pause)) } else { start.saturating_add(ms(pause)) };
        rules::renew_lease(&mut job, ms(timeout), now);
        let attempt = job.attempt.unwrap();
        prop_assert_eq!(attempt.lease_until, now.saturating_add(ms(extension.min(timeout))));
        prop_assert!(attempt.lease_until <= attempt.deadline);
        prop_assert!(attempt.deadline <= now.saturating_add(ms(timeout)));
    }

    /// Dedup options: a new job never runs before now, a rolling delay never moves past `max_delay`.
    #[test]
    fn times_of_jobs_are_bounded(now in 0_u64..DAY, time in 0_u64..2 * DAY, max in prop::option::of(0_u64..DAY)) {
        let run = run_at(When::At(at(time)), at(now));
        prop_assert!(run >= at(now) && (run == at(time) || time <= now));
        prop_assert_eq!(run_at(When::After(ms(time)), at(now)), at(now + time));
        let dedup = Dedup { max_delay: max.map(ms), ..Dedup::default() };
        let moved = max.map_or(at(time), |max| at(time.min(now + max)));
        prop_assert_eq!(replaced_run_at(&dedup, at(now), at(time)), moved);
    }
}

/// I3: every case of a repeat there is, against the sentences of the contract.
#[test]
fn i3_every_case_of_a_repeat() {
    let versions = [None, Some(4), Some(5), Some(6)];
    let mut cases = 0;
    for on_duplicate in OnDuplicate::ALL {
        for on_mismatch in OnMismatch::ALL {
            for (same, not_started) in [(true, true), (true, false), (false, true), (false, false)] {
                for (new, old) in versions.iter().flat_map(|new| versions.map(|old| (*new, old))) {
                    let dedup = Dedup {
                        on_duplicate: *on_duplicate,
                        on_mismatch: *on_mismatch,
                        version: new,
                        ..Dedup::default()
                    };
                    let hold = Hold {
                        job: JobId::new(at(0), Seq::new(1).unwrap()),
                        fingerprint: fingerprint("first"),
                        until: at(1),
                        free_on: FreeOn::default(),
                    };
                    let print = fingerprint(if same { "first" } else { "other" });
                    let decided =
                        decide_repeat(&dedup, &print, Holder { hold: &hold, not_started, version: old });
                    let older = new.is_some() && old.is_some() && new < old;
                    let expected = match (on_duplicate, on_mismatch) {
                        (OnDuplicate::Replace, _) if older => RepeatDecision::RejectStaleVersion,
                        (OnDuplicate::Replace, _) if not_started => RepeatDecision::Replace,
                        (OnDuplicate::Replace, _) => RepeatDecision::ReturnNotReplaced,
                        (_, OnMismatch::Reject) if !same => RepeatDecision::RejectMismatch,
                        (OnDuplicate::Return, _) => RepeatDecision::Return,
                        (OnDuplicate::Reject, _) => RepeatDecision::RejectDuplicate,
                    };
                    assert_eq!(
                        decided, expected,
                        "{dedup:?}, same {same}, not started {not_started}, {old:?}"
                    );
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 3 * 2 * 4 * 16);
}

/// I3: a key is held until its window is over, and beyond it while its job is unfinished.
#[test]
fn i3_every_case_of_a_held_key() {
    let hold = Hold {
        job: JobId::new(at(0), Seq::new(1).unwrap()),
        fingerprint: fingerprint("x"),
        until: at(1_000),
        free_on: FreeOn::default(),
    };
    for state in State::ALL.iter().map(|state| Some(*state)).chain([None]) {
        assert!(hold.is_held(state, at(999)), "{state:?}");
        let unfinished = state.is_some_and(|state| !state.is_finished());
        assert_eq!(hold.is_held(state, at(1_000)), unfinished, "{state:?}");
    }
}

/// I3: only ends free a key, each by its own bit, and the bits survive storage.
#[test]
fn i3_only_ends_free_a_key() {
    for bits in 0..8 {
        let free_on = FreeOn::from_bits(bits);
        assert_eq!(free_on.bits(), bits);
        for state in State::ALL {
            let bit = match state {
                State::Completed => 1,
                State::Dead => 2,
                State::Cancelled => 4,
                _ => 0,
            };
            assert_eq!(free_on.frees(*state), bits & bit != 0, "{bits} {state}");
        }
    }
}

/// States: from every state, every event does what the table says in the rule that brings it.
#[test]
fn every_rule_refuses_what_the_table_does_not_have() {
    for state in State::ALL {
        for what in 0..rules_support::WHATS {
            let mut job = rules_support::in_state(*state);
            let before = job.clone();
            let step = Step { what, ..Step::lease() };
            let done = happen(&mut job, &step, at(DAY));
            let legal = step.events().iter().any(|event| onefold_core::transition(*state, *event).is_ok());
            let cancelled_again = *state == State::Cancelled && step.events() == [Event::Cancelled];
            assert_eq!(done.is_ok(), legal || cancelled_again, "{step:?} on a {state} job");
            assert!(done.is_ok() || job == before);
        }
    }
}

/// I5: of the ends only a complete and a failure say something about the work.
#[test]
fn i5_late_ends_are_evidence_of_what_they_say() {
    let fail = onefold_conformance::fail();
    assert_eq!(onefold_conformance::complete().late_evidence(), Some(LateEvidence::Success));
    assert_eq!(fail.late_evidence(), Some(LateEvidence::Failure));
    assert_eq!(End::Release.late_evidence(), None);
    assert_eq!(End::Snooze { delay: DurationMs::ZERO }.late_evidence(), None);
}

/// Cancel: whatever ends the attempt of a job that was asked to stop, but a complete, cancels it.
#[test]
fn a_cancel_request_wins_over_every_end_but_complete() {
    for what in 0..5 {
        let mut job = rules_support::in_state(State::Running);
        rules::cancel(&mut job, false, at(1)).unwrap();
        rules_support::end_attempt(&mut job, what, at(2));
        assert_eq!(job.state, State::Cancelled, "{what}");
    }
    let mut job = rules_support::in_state(State::Running);
    rules::cancel(&mut job, false, at(1)).unwrap();
    let completed = Step { what: Step::COMPLETE, ..Step::lease() };
    happen(&mut job, &completed, at(2)).unwrap();
    assert_eq!(job.state, State::Completed);
    assert_eq!(job.attempt.unwrap().end.unwrap().outcome, Outcome::Completed);
    assert!(Event::ALL.iter().all(|event| onefold_core::transition(State::Completed, *event).is_err()));
}
