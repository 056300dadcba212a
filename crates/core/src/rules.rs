//! What may happen to a job and what it does: pure functions over [`Job`].
//!
//! Every function changes the job in place along the transition table and returns what an
//! engine has to record. Engines persist; they decide nothing.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    Attempt, AttemptEnd, Backoff, DeadReason, DurationMs, Entropy, Event, Exchange, FencingToken,
    IllegalTransition, Job, JobError, Outcome, Progress, State, Timestamp, WorkerName, limits, retry_until,
    transition,
};

/// The retry policy of a job, resolved.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy<'a> {
    /// Waits after failures.
    pub backoff: &'a Backoff,
    /// Hard limit of one attempt.
    pub timeout: DurationMs,
}

/// The end of an attempt, as its holder says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is done.
    Complete {
        /// What the handler returned: a JSON text.
        result: Option<Bytes>,
    },
    /// It went wrong.
    Fail {
        /// How.
        error: JobError,
        /// Whether trying again can help.
        retryable: bool,
        /// Wait this long instead of the backoff.
        retry_in: Option<DurationMs>,
    },
    /// Not now: again after `delay`, at no cost.
    Snooze {
        /// How long.
        delay: DurationMs,
    },
    /// Not me: at once, at no cost.
    Release,
}

impl End {
    /// Tells the same end from a different one when it comes again (I6): the first 64 bits of a SHA-256 over the kind of
    /// end and all it carries, each field preceded by its length as in a [fingerprint](crate::Fingerprint). SQL functions
    /// compute it, too.
    pub fn content(&self) -> u64 {
        let mut hash = Sha256::new();
        let mut field = |bytes: Option<&[u8]>| {
            hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        match self {
            End::Complete { result } => {
                field(Some(b"complete"));
                field(result.as_deref());
            }
            End::Fail { error, retryable, retry_in } => {
                field(Some(b"fail"));
                field(Some(error.message.as_bytes()));
                field(error.kind.as_deref().map(str::as_bytes));
                field(Some(&[u8::from(*retryable)]));
                field(retry_in.map(|d| d.as_ms().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
            }
            End::Snooze { delay } => {
                field(Some(b"snooze"));
                field(Some(&delay.as_ms().to_be_bytes()));
            }
            End::Release => field(Some(b"release")),
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether this end, come too late, is evidence that the work was done (`late_success`) or
    /// failed (`late_failure`); the others say nothing about the work.
    pub const fn late_evidence(&self) -> Option<LateEvidence> {
        match self {
            End::Complete { .. } => Some(LateEvidence::Success),
            End::Fail { .. } => Some(LateEvidence::Failure),
            End::Snooze { .. } | End::Release => None,
        }
    }
}

/// What a late end says about the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateEvidence {
    /// It was done.
    Success,
    /// It failed.
    Failure,
}

impl Attempt {
    /// Records an end that came with this attempt's token after the lease was gone (I5).
    pub fn record_late(&mut self, evidence: LateEvidence, now: Timestamp) {
        match evidence {
            LateEvidence::Success => self.late_success.record(now),
            LateEvidence::Failure => self.late_failure.record(now),
        }
    }

    /// Whether what ends this attempt, if nobody does, is its hard limit and not its lease.
    pub fn ends_at_hard_limit(&self) -> bool {
        self.lease_until >= self.deadline
    }

    /// The first answer to `end`, if this attempt was ended by exactly that (I6).
    pub fn replay(&self, end: &End) -> Option<State> {
        let ended = self.end.as_ref()?;
        (ended.content == Some(end.content())).then_some(ended.state)
    }
}

fn step(job: &mut Job, event: Event) -> Result<(), IllegalTransition> {
    job.state = transition(job.state, event)?;
    Ok(())
}

fn finish(
    job: &mut Job,
    event: Event,
    reason: Option<DeadReason>,
    now: Timestamp,
) -> Result<(), IllegalTransition> {
    step(job, event)?;
    job.reason = reason;
    job.finished_at = Some(now);
    job.cancel_requested = false;
    Ok(())
}

/// Leases the job. The caller has made sure that it is not [expired](is_expired).
///
/// # Errors
/// [`IllegalTransition`] unless it is available.
#[allow(clippy::too_many_arguments, reason = "one lease is exactly these things")]
pub fn lease(
    job: &mut Job,
    policy: RetryPolicy<'_>,
    token: FencingToken,
    worker: WorkerName,
    lease: DurationMs,
    poll: Option<u64>,
    now: Timestamp,
) -> Result<(), IllegalTransition> {
    step(job, Event::Leased)?;
    job.retry_until =
        job.retry_until.or_else(|| Some(retry_until(now, policy.backoff, job.max_attempts, policy.timeout)));
    job.attempt = Some(Attempt {
        number: job.attempts().saturating_add(1),
        token,
        worker,
        started_at: now,
        lease,
        lease_until: now.saturating_add(lease.min(policy.timeout)),
        deadline: now.saturating_add(policy.timeout),
        poll,
        end: None,
        progress: None,
        exchange: None,
        log: Vec::new(),
        late_success: Default::default(),
        late_failure: Default::default(),
    });
    Ok(())
}

/// Whether the job may no longer start by itself.
pub fn is_expired(job: &Job, now: Timestamp) -> bool {
    job.retry_until.is_some_and(|until| now > until)
}

/// Ends a job whose last moment to start has passed.
///
/// # Errors
/// [`IllegalTransition`] if it is running or finished.
pub fn expire(job: &mut Job, now: Timestamp) -> Result<(), IllegalTransition> {
    if job.state == State::Running {
        return Err(IllegalTransition { from: job.state, event: Event::Died });
    }
    finish(job, Event::Died, Some(DeadReason::Expired), now)
}

/// Makes a job available whose time has come, or dead if it came too late.
///
/// # Errors
/// [`IllegalTransition`] unless it is scheduled or retrying.
pub fn come_due(job: &mut Job, now: Timestamp) -> Result<(), IllegalTransition> {
    if is_expired(job, now) {
        return expire(job, now);
    }
    step(job, Event::Due)
}

/// Where a job goes that is to run again at `run_at`: not at all if a cancel was asked for or
/// its last moment to start would have passed.
fn again(job: &mut Job, event: Event, run_at: Timestamp, now: Timestamp) -> Result<(), IllegalTransition> {
    if job.cancel_requested {
        return finish(job, Event::Cancelled, None, now);
    }
    if is_expired(job, run_at) {
        return finish(job, Event::Died, Some(DeadReason::Expired), now);
    }
    step(job, event)?;
    job.run_at = run_at;
    Ok(())
}

fn fail(
    job: &mut Job,
    policy: RetryPolicy<'_>,
    retryable: bool,
    retry_in: Option<DurationMs>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), IllegalTransition> {
    job.failures = job.failures.saturating_add(1);
    if job.cancel_requested {
        return finish(job, Event::Cancelled, None, now);
    }
    if !retryable {
        return finish(job, Event::Died, Some(DeadReason::Permanent), now);
    }
    if job.failures.saturating_add(job.lost_leases) >= job.max_attempts {
        return finish(job, Event::Died, Some(DeadReason::Attempts), now);
    }
    let wait = retry_in.unwrap_or_else(|| policy.backoff.wait(job.failures, entropy));
    again(job, Event::Failed, now.saturating_add(wait), now)
}

/// Ends the current attempt as its holder says.
///
/// The caller has compared the token.
///
/// # Errors
/// [`IllegalTransition`] unless it is running.
pub fn end(
    job: &mut Job,
    policy: RetryPolicy<'_>,
    end: &End,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), IllegalTransition> {
    if job.state != State::Running {
        return Err(IllegalTransition { from: job.state, event: Event::Completed });
    }
    let (outcome, error) = match end {
        End::Complete { .. } => {
            finish(job, Event::Completed, None, now)?;
            (Outcome::Completed, None)
        }
        End::Fail { error, retryable, retry_in } => {
            fail(job, policy, *retryable, *retry_in, now, entropy)?;
            (Outcome::Failed, Some(error.clone()))
        }
        End::Snooze { delay } => {
            again(job, Event::Snoozed, now.saturating_add(*delay), now)?;
            (Outcome::Snoozed, None)
        }
        End::Release => {
            again(job, Event::Released, now, now)?;
            (Outcome::Released, None)
        }
    };
    close_attempt(job, outcome, error, Some(end.content()), now);
    Ok(())
}

fn close_attempt(
    job: &mut Job,
    outcome: Outcome,
    error: Option<JobError>,
    content: Option<u64>,
    now: Timestamp,
) {
    let state = job.state;
    if let Some(attempt) = &mut job.attempt {
        attempt.end = Some(AttemptEnd { at: now, outcome, error, state, content });
    }
}

/// Ends the current attempt because its lease or its hard limit passed, whichever came first: a
/// failure if the lease reached up to the hard limit, else a lost lease, which makes the job
/// available at once or ends it. How late this is noticed makes no difference.
///
/// # Errors
/// [`IllegalTransition`] unless it is running.
pub fn deadline_passed(
    job: &mut Job,
    policy: RetryPolicy<'_>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), IllegalTransition> {
    let Some(attempt) = job.attempt.as_ref().filter(|_| job.state == State::Running) else {
        return Err(IllegalTransition { from: job.state, event: Event::LeaseLost });
    };
    if attempt.ends_at_hard_limit() {
        let message = format!("the attempt ran into its hard limit of {}", policy.timeout);
        fail(job, policy, true, None, now, entropy)?;
        close_attempt(
            job,
            Outcome::TimedOut,
            Some(JobError { message, kind: Some("timeout".into()) }),
            None,
            now,
        );
        return Ok(());
    }
    job.lost_leases = job.lost_leases.saturating_add(1);
    let window_start = now.saturating_sub(limits::CRASH_LOOP_WINDOW);
    job.recent_losses.retain(|at| *at > window_start);
    job.recent_losses.push(now);
    if job.cancel_requested {
        finish(job, Event::Cancelled, None, now)?;
    } else if job.failures.saturating_add(job.lost_leases) >= job.max_attempts {
        finish(job, Event::Died, Some(DeadReason::Attempts), now)?;
    } else if job.recent_losses.len() > limits::CRASH_LOOP_LOSSES {
        finish(job, Event::Died, Some(DeadReason::CrashLoop), now)?;
    } else {
        again(job, Event::LeaseLost, now, now)?;
    }
    close_attempt(job, Outcome::LeaseLost, None, None, now);
    Ok(())
}

/// Ends a job because nobody knows whether one of its effects happened, and it may not be executed again: dead, or
/// cancelled if that was asked for. The open attempt, if any, ends as a failure that says which effect.
///
/// # Errors
/// [`IllegalTransition`] unless it is running.
pub fn end_indeterminate(job: &mut Job, effect: &str, now: Timestamp) -> Result<(), IllegalTransition> {
    if job.state != State::Running {
        return Err(IllegalTransition { from: job.state, event: Event::Died });
    }
    job.failures = job.failures.saturating_add(1);
    if job.cancel_requested {
        finish(job, Event::Cancelled, None, now)?;
    } else {
        finish(job, Event::Died, Some(DeadReason::Indeterminate), now)?;
    }
    let message = format!("nobody knows whether the effect {effect} happened");
    let error = JobError { message, kind: Some("indeterminate".into()) };
    close_attempt(job, Outcome::Failed, Some(error), None, now);
    Ok(())
}

/// Extends the lease of a running job to `lease` from now, never past its hard limit.
pub fn extend(job: &mut Job, lease: DurationMs, now: Timestamp) {
    if let Some(attempt) = &mut job.attempt {
        attempt.lease = lease;
        attempt.lease_until = now.saturating_add(lease).min(attempt.deadline);
    }
}

/// Gives a live lease its full length again: after a time in which nobody served the store, or a
/// step of the clock, nobody can tell how much of it was used. The hard limit leaves room for it.
pub fn renew_lease(job: &mut Job, timeout: DurationMs, now: Timestamp) {
    if let Some(attempt) = &mut job.attempt {
        attempt.lease_until = now.saturating_add(attempt.lease.min(timeout));
        attempt.deadline = attempt.deadline.max(attempt.lease_until).min(now.saturating_add(timeout));
    }
}

/// Records how far the handler is.
pub fn record_progress(job: &mut Job, progress: Progress) {
    if let Some(attempt) = &mut job.attempt {
        attempt.progress = Some(progress);
    }
}

/// Records what an HTTP delivery was.
pub fn record_exchange(job: &mut Job, exchange: Exchange) {
    if let Some(attempt) = &mut job.attempt {
        attempt.exchange = Some(Box::new(exchange));
    }
}

/// Appends log lines, keeping the last [`limits::LOG_LINES_MAX`], each cut to
/// [`limits::LOG_LINE_BYTES_MAX`].
pub fn append_log(job: &mut Job, lines: &[String]) {
    if let Some(attempt) = &mut job.attempt {
        attempt.log.extend(lines.iter().map(|line| cut(line, limits::LOG_LINE_BYTES_MAX).to_owned()));
        let over = attempt.log.len().saturating_sub(limits::LOG_LINES_MAX);
        attempt.log.drain(..over);
    }
}

/// The longest prefix of `text` of at most `max` bytes that ends at a character.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Cancels the job: at once if it does not run or `force` is given, else as a request that its
/// holder hears of. Cancelling a cancelled job changes nothing. Returns whether anything changed.
///
/// # Errors
/// [`IllegalTransition`] if it is completed or dead.
pub fn cancel(job: &mut Job, force: bool, now: Timestamp) -> Result<bool, IllegalTransition> {
    match job.state {
        State::Cancelled => Ok(false),
        State::Running if !force => {
            let first = !job.cancel_requested;
            job.cancel_requested = true;
            Ok(first)
        }
        State::Running => {
            finish(job, Event::Cancelled, None, now)?;
            close_attempt(job, Outcome::Revoked, None, None, now);
            Ok(true)
        }
        State::Scheduled | State::Available | State::Retrying | State::Completed | State::Dead => {
            finish(job, Event::Cancelled, None, now)?;
            Ok(true)
        }
    }
}

/// Why an operator's retry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryRefusal {
    /// Only dead, cancelled and retrying jobs are retried.
    State(State),
    /// `retry_until` has passed and `accept_duplicates` was not given: receivers may have
    /// forgotten the job's idempotency key by now.
    WindowPassed(Timestamp),
}

/// Makes a dead, cancelled or retrying job available again, budgets renewed, attempt numbers
/// going on. The caller has claimed its key again.
///
/// # Errors
/// [`RetryRefusal`].
pub fn retry(
    job: &mut Job,
    policy: RetryPolicy<'_>,
    accept_duplicates: bool,
    now: Timestamp,
) -> Result<(), RetryRefusal> {
    let from = job.state;
    let to = transition(from, Event::Retried).map_err(|illegal| RetryRefusal::State(illegal.from))?;
    if let Some(until) = job.retry_until.filter(|until| now > *until) {
        if !accept_duplicates {
            return Err(RetryRefusal::WindowPassed(until));
        }
        job.retry_until = Some(retry_until(now, policy.backoff, job.max_attempts, policy.timeout));
    }
    job.state = to;
    job.reason = None;
    job.finished_at = None;
    job.run_at = now;
    job.failures = 0;
    job.lost_leases = 0;
    job.recent_losses.clear();
    Ok(())
}

/// Moves a job that has not started to `run_at`.
///
/// # Errors
/// [`IllegalTransition`] unless it is scheduled or available.
pub fn reschedule(job: &mut Job, run_at: Timestamp, now: Timestamp) -> Result<(), IllegalTransition> {
    if run_at > now {
        step(job, Event::Rescheduled)?;
    } else if job.state == State::Scheduled {
        step(job, Event::Due)?;
    }
    job.run_at = run_at.max(job.created_at());
    Ok(())
}
