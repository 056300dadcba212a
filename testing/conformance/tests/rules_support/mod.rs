//! Jobs for the tests of the rules, and everything that can happen to one.

use bytes::Bytes;
use onefold_conformance::{ms, queue};
use onefold_core::rules;
use onefold_core::{
    Backoff, DurationMs, End, Event, FencingToken, Job, JobError, JobId, RetryPolicy, SeededEntropy, Seq,
    State, Timestamp, WorkerName,
};
use proptest::prelude::*;

/// Kinds of steps.
pub(crate) const WHATS: u8 = 13;

/// Something that happens to a job, a while after what happened before.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) what: u8,
    pub(crate) after_ms: u64,
    pub(crate) span_ms: u64,
    pub(crate) flag: bool,
}

impl Step {
    pub(crate) const COMPLETE: u8 = 5;

    pub(crate) fn lease() -> Step {
        Step { what: 6, after_ms: 0, span_ms: 30_000, flag: true }
    }

    /// What the table calls it.
    pub(crate) fn events(&self) -> &'static [Event] {
        match self.what {
            0 => &[Event::Failed],
            1 => &[Event::LeaseLost],
            2 => &[Event::Snoozed],
            3 => &[Event::Released],
            4 => &[Event::Failed],
            Step::COMPLETE => &[Event::Completed],
            6 => &[Event::Leased],
            7 => &[Event::Due],
            8 => &[Event::Retried],
            9 => &[Event::Rescheduled],
            10 | 11 => &[Event::Cancelled],
            _ => &[Event::Completed],
        }
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    (0..WHATS, prop_oneof![0_u64..60_000, 0_u64..3 * 86_400_000], 0_u64..600_000, any::<bool>())
        .prop_map(|(what, after_ms, span_ms, flag)| Step { what, after_ms, span_ms, flag })
}

pub(crate) fn at(unix_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(unix_ms).unwrap()).unwrap()
}

pub(crate) fn bystander() -> (WorkerName, FencingToken) {
    (WorkerName::new("w").unwrap(), FencingToken::new(1).unwrap())
}

pub(crate) fn fresh(max_attempts: u32) -> Job {
    Job {
        id: JobId::new(at(0), Seq::new(1).unwrap()),
        queue: queue("q"),
        state: State::Available,
        reason: None,
        priority: 0,
        run_at: at(0),
        max_attempts,
        failures: 0,
        lost_leases: 0,
        recent_losses: Vec::new(),
        retry_until: None,
        cancel_requested: false,
        finished_at: None,
        group_order: None,
        attempt: None,
        duplicates: 0,
        mismatches: 0,
    }
}

fn policy(backoff: &Backoff) -> RetryPolicy<'_> {
    RetryPolicy { backoff, timeout: ms(900_000) }
}

fn failure(retry_in: Option<DurationMs>) -> End {
    End::Fail { error: JobError { message: "oops".into(), kind: None }, retryable: true, retry_in }
}

/// Lets `step` happen. `Err` if the rule refuses it.
pub(crate) fn happen(job: &mut Job, step: &Step, now: Timestamp) -> Result<(), ()> {
    let backoff = Backoff::Fixed(ms(step.span_ms));
    let (policy, dice, span) = (policy(&backoff), SeededEntropy::new(1), ms(step.span_ms));
    let end = |job: &mut Job, end: End| rules::end(job, policy, &end, now, &dice).map_err(drop);
    match step.what {
        0 => end(job, failure(step.flag.then_some(span))),
        1 => {
            if let Some(attempt) = job.attempt.as_mut().filter(|_| job.state == State::Running) {
                attempt.deadline = attempt.lease_until.saturating_add(ms(1));
            }
            rules::deadline_passed(job, policy, now, &dice).map_err(drop)
        }
        2 => end(job, End::Snooze { delay: span }),
        3 => end(job, End::Release),
        4 => end(job, failure(None)),
        Step::COMPLETE => end(job, End::Complete { result: None }),
        6 => {
            let (worker, token) = bystander();
            rules::lease(job, policy, token, worker, span, None, now).map_err(drop)
        }
        7 => rules::come_due(job, now).map_err(drop),
        8 => rules::retry(job, policy, true, now).map_err(drop),
        9 => rules::reschedule(job, now.saturating_add(ms(step.span_ms + 1)), now).map_err(drop),
        10 | 11 => rules::cancel(job, step.what == 11, now).map(drop).map_err(drop),
        _ => end(job, End::Complete { result: Some(Bytes::from_static(b"1")) }),
    }
}

/// Ends the attempt of a running job; whether that costs budget.
pub(crate) fn end_attempt(job: &mut Job, what: u8, now: Timestamp) -> bool {
    let step = Step { what, after_ms: 0, span_ms: 0, flag: true };
    happen(job, &step, now).unwrap();
    matches!(what, 0 | 1 | 4)
}

pub(crate) fn lose(job: &mut Job, now: Timestamp) {
    end_attempt(job, 1, now);
}

pub(crate) fn make_available(job: &mut Job, now: Timestamp) {
    if job.state != State::Available {
        rules::come_due(job, now).unwrap();
    }
}

/// A job that got into `state` by itself.
pub(crate) fn in_state(state: State) -> Job {
    let mut job = fresh(20);
    let now = at(0);
    let lease = Step::lease();
    let ways: &[u8] = match state {
        State::Available => &[],
        State::Scheduled => &[9],
        State::Running => &[6],
        State::Retrying => &[6, 0],
        State::Completed => &[6, Step::COMPLETE],
        State::Cancelled => &[10],
        State::Dead => &[6],
    };
    for what in ways {
        happen(&mut job, &Step { what: *what, ..lease.clone() }, now).unwrap();
    }
    if state == State::Dead {
        let end = End::Fail {
            error: JobError { message: "no".into(), kind: None },
            retryable: false,
            retry_in: None,
        };
        rules::end(&mut job, policy(&Backoff::default()), &end, now, &SeededEntropy::new(1)).unwrap();
    }
    assert_eq!(job.state, state);
    job
}

pub(crate) fn backoff() -> impl Strategy<Value = Backoff> {
    let wait = || (0_u64..400_000_000).prop_map(ms);
    prop_oneof![
        (wait(), wait()).prop_map(|(base, max)| Backoff::Exponential { base, max }),
        wait().prop_map(Backoff::Fixed),
        prop::collection::vec(wait(), 1..6).prop_map(Backoff::List),
    ]
}

pub(crate) fn end() -> impl Strategy<Value = End> {
    let text = || prop_oneof![Just(String::new()), Just("a".to_owned()), "[a-c]{0,3}"];
    let small = || (0_u64..3).prop_map(ms);
    prop_oneof![
        prop::option::of(text()).prop_map(|result| End::Complete { result: result.map(Bytes::from) }),
        (text(), prop::option::of(text()), any::<bool>(), prop::option::of(small())).prop_map(
            |(message, kind, retryable, retry_in)| End::Fail {
                error: JobError { message, kind },
                retryable,
                retry_in
            }
        ),
        small().prop_map(|delay| End::Snooze { delay }),
        Just(End::Release),
    ]
}
