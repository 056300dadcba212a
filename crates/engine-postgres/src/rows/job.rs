//! Where a job stands, and its attempts.

use onefold_core::{
    Attempt, AttemptEnd, DeadReason, Exchange, FencingToken, Job, JobError, JobId, JobSpec, LateWrites,
    Outcome as AttemptOutcome, Progress, QueueName, State, Timestamp, WorkerName,
};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{Coded, Columns, RowPlace, count_code, duration, duration_code, job_id, seq_code, spec, time};
use crate::error::{Outcome, corrupt};
use crate::params;
use crate::pool::Params;

/// The number of a queue, which it keeps for ever.
pub(crate) type QueueNumber = i32;

/// A line of a queue: its number, and the lane, 0 for workers.
pub(crate) type LineNumber = (QueueNumber, i32);

/// A job as it is stored, its payload apart.
pub(crate) struct JobRow {
    pub(crate) queue: QueueNumber,
    pub(crate) job: Job,
    pub(crate) spec: JobSpec,
}

/// What else there is to an attempt, seldom anything.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JobError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<Box<Exchange>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<String>,
    #[serde(skip_serializing_if = "LateWrites::is_empty")]
    late_success: LateWrites,
    #[serde(skip_serializing_if = "LateWrites::is_empty")]
    late_failure: LateWrites,
}

pub(crate) fn more_json(attempt: &Attempt) -> Option<String> {
    let more = More {
        error: attempt.end.as_ref().and_then(|end| end.error.clone()),
        progress: attempt.progress.clone(),
        exchange: attempt.exchange.clone(),
        log: attempt.log.clone(),
        late_success: attempt.late_success,
        late_failure: attempt.late_failure,
    };
    if more == More::default() { None } else { serde_json::to_string(&more).ok() }
}

/// Reads an attempt; `None` if there was none yet.
fn read_attempt(columns: &mut Columns<'_>) -> Outcome<Option<Attempt>> {
    let number: Option<i32> = columns.take()?;
    let token: Option<i64> = columns.take()?;
    let worker: Option<&str> = columns.take()?;
    let started_at = columns.time_opt()?;
    let lease: Option<i64> = columns.take()?;
    let lease_until = columns.time_opt()?;
    let deadline = columns.time_opt()?;
    let poll: Option<i64> = columns.take()?;
    let ended_at = columns.time_opt()?;
    let outcome: Option<i16> = columns.take()?;
    let end_state: Option<i16> = columns.take()?;
    let content: Option<i64> = columns.take()?;
    let more: Option<&str> = columns.take()?;
    let (
        Some(number),
        Some(token),
        Some(worker),
        Some(started_at),
        Some(lease),
        Some(lease_until),
        Some(deadline),
    ) = (number, token, worker, started_at, lease, lease_until, deadline)
    else {
        return Ok(None);
    };
    let more: More = match more {
        Some(text) => serde_json::from_str(text).map_err(|error| corrupt(&format!("an attempt: {error}")))?,
        None => More::default(),
    };
    let end = match (ended_at, outcome, end_state) {
        (Some(at), Some(outcome), Some(state)) => Some(AttemptEnd {
            at,
            outcome: AttemptOutcome::of(outcome)?,
            error: more.error,
            state: State::of(state)?,
            content: content.map(i64::cast_unsigned),
        }),
        _ => None,
    };
    let token = u64::try_from(token).ok().and_then(FencingToken::new);
    Ok(Some(Attempt {
        number: u32::try_from(number).map_err(|_| corrupt("a negative attempt number"))?,
        token: token.ok_or_else(|| corrupt("a fencing token out of range"))?,
        worker: WorkerName::new(worker).map_err(|_| corrupt("a worker's name that is none"))?,
        started_at,
        lease: duration(lease)?,
        lease_until,
        deadline,
        poll: poll.map(i64::cast_unsigned),
        end,
        progress: more.progress,
        exchange: more.exchange,
        log: more.log,
        late_success: more.late_success,
        late_failure: more.late_failure,
    }))
}

/// Reads a row of earlier attempts: its job's sequence, and the attempt.
pub(crate) fn read_attempt_row(row: &Row) -> Outcome<(i64, Attempt)> {
    let mut columns = Columns::of(row);
    let seq = columns.take()?;
    let attempt = read_attempt(&mut columns)?.ok_or_else(|| corrupt("an attempt without a number"))?;
    Ok((seq, attempt))
}

pub(crate) fn read_job(row: &Row) -> Outcome<JobRow> {
    let mut columns = Columns::of(row);
    let (seq, created_ms): (i64, i64) = (columns.take()?, columns.take()?);
    let queue: QueueNumber = columns.take()?;
    let name = QueueName::new(columns.take::<&str>()?).map_err(|_| corrupt("a queue's name that is none"))?;
    let (job, _) = read_place(&mut columns, job_id(created_ms, seq)?, name)?;
    let (spec, _) = spec::read(&mut columns)?;
    Ok(JobRow { queue, job, spec })
}

/// A job's own row under its lock.
pub(crate) struct LockedRow {
    pub(crate) queue: QueueNumber,
    pub(crate) job: Job,
    pub(crate) blocks: bool,
    /// The end of an attempt needs nothing of its spec.
    pub(crate) plain: bool,
    pub(crate) place: RowPlace,
}

/// Reads a row that was locked, of a queue with this name.
pub(crate) fn read_locked(row: &Row, name: &QueueName) -> Outcome<LockedRow> {
    let mut columns = Columns::of(row);
    let (seq, created_ms): (i64, i64) = (columns.take()?, columns.take()?);
    let queue: QueueNumber = columns.take()?;
    let (job, blocks) = read_place(&mut columns, job_id(created_ms, seq)?, name.clone())?;
    Ok(LockedRow { queue, job, blocks, plain: columns.take()?, place: columns.take()? })
}

fn read_place(columns: &mut Columns<'_>, id: JobId, queue: QueueName) -> Outcome<(Job, bool)> {
    let state = State::of(columns.take()?)?;
    let reason = columns.take::<Option<i16>>()?.map(DeadReason::of).transpose()?;
    let priority = columns.take()?;
    let run_at = columns.time()?;
    let (max_attempts, failures, lost_leases) = (columns.count()?, columns.count()?, columns.count()?);
    let recent_losses: Vec<i64> = columns.take()?;
    let recent_losses = recent_losses.into_iter().map(time).collect::<Outcome<Vec<Timestamp>>>()?;
    let retry_until = columns.time_opt()?;
    let cancel_requested = columns.take()?;
    let finished_at = columns.time_opt()?;
    let group_order = columns.take::<Option<i64>>()?.map(i64::cast_unsigned);
    let blocks = columns.take()?;
    let (duplicates, mismatches) = (columns.count()?, columns.count()?);
    let attempt = read_attempt(columns)?;
    let job = Job {
        id,
        queue,
        state,
        reason,
        priority,
        run_at,
        max_attempts,
        failures,
        lost_leases,
        recent_losses,
        retry_until,
        cancel_requested,
        finished_at,
        group_order,
        attempt,
        duplicates,
        mismatches,
    };
    Ok((job, blocks))
}

fn attempt_columns(attempts: &[Option<&Attempt>]) -> Params {
    fn column<T>(attempts: &[Option<&Attempt>], value: impl Fn(&Attempt) -> Option<T>) -> Vec<Option<T>> {
        attempts.iter().map(|attempt| attempt.and_then(&value)).collect()
    }
    let end = |attempt: &Attempt| attempt.end.clone();
    params![
        column(attempts, |a| Some(count_code(a.number))),
        column(attempts, |a| Some(a.token.get().cast_signed())),
        column(attempts, |a| Some(a.worker.as_str().to_owned())),
        column(attempts, |a| Some(a.started_at.as_unix_ms())),
        column(attempts, |a| Some(duration_code(a.lease))),
        column(attempts, |a| Some(a.lease_until.as_unix_ms())),
        column(attempts, |a| Some(a.deadline.as_unix_ms())),
        column(attempts, |a| a.poll.map(u64::cast_signed)),
        column(attempts, |a| end(a).map(|e| e.at.as_unix_ms())),
        column(attempts, |a| end(a).map(|e| e.outcome.code())),
        column(attempts, |a| end(a).map(|e| e.state.code())),
        column(attempts, |a| end(a).and_then(|e| e.content).map(u64::cast_signed)),
        column(attempts, more_json),
    ]
}

/// The columns of earlier attempts.
pub(crate) fn attempt_row_columns(attempts: &[(i64, &Attempt)]) -> Params {
    let seqs: Vec<i64> = attempts.iter().map(|(seq, _)| *seq).collect();
    let attempts: Vec<_> = attempts.iter().map(|(_, attempt)| Some(*attempt)).collect();
    let mut all = params![seqs];
    all.extend(attempt_columns(&attempts));
    all
}

/// A job to be written.
#[derive(Clone, Copy)]
pub(crate) struct JobToWrite<'a> {
    pub(crate) plain: bool,
    pub(crate) queue: QueueNumber,
    pub(crate) job: &'a Job,
    pub(crate) blocks: bool,
}

/// The columns of jobs that were just leased, and nothing else.
pub(crate) fn leased_columns(now: Timestamp, jobs: &[(i64, i64, &Attempt)]) -> Params {
    fn column<T>(jobs: &[(i64, i64, &Attempt)], value: impl Fn(&Attempt) -> T) -> Vec<T> {
        jobs.iter().map(|(_, _, attempt)| value(attempt)).collect()
    }
    params![
        now.as_unix_ms(),
        jobs.iter().map(|(seq, _, _)| *seq).collect::<Vec<_>>(),
        column(jobs, |a| count_code(a.number)),
        column(jobs, |a| a.token.get().cast_signed()),
        column(jobs, |a| a.worker.as_str().to_owned()),
        column(jobs, |a| duration_code(a.lease)),
        column(jobs, |a| a.lease_until.as_unix_ms()),
        column(jobs, |a| a.deadline.as_unix_ms()),
        column(jobs, |a| a.poll.map(u64::cast_signed)),
        jobs.iter().map(|(_, until, _)| *until).collect::<Vec<_>>(),
    ]
}

/// Whether nothing happened to a new job yet.
pub(crate) fn is_as_accepted(write: &JobToWrite<'_>) -> bool {
    let job = write.job;
    let happened =
        [job.failures, job.lost_leases, job.duplicates, job.mismatches].iter().any(|count| *count > 0);
    let is_open = job.reason.is_none() && job.retry_until.is_none() && job.finished_at.is_none();
    is_open
        && !happened
        && !write.blocks
        && !job.cancel_requested
        && job.attempt.is_none()
        && job.recent_losses.is_empty()
}

/// The columns of jobs to which nothing happened yet, all accepted now.
pub(crate) fn new_job_columns(now: Timestamp, jobs: &[JobToWrite<'_>]) -> Params {
    fn column<T>(jobs: &[JobToWrite<'_>], value: impl Fn(&Job) -> T) -> Vec<T> {
        jobs.iter().map(|write| value(write.job)).collect()
    }
    params![
        now.as_unix_ms(),
        column(jobs, |j| seq_code(j.id)),
        jobs.iter().map(|write| write.queue).collect::<Vec<_>>(),
        column(jobs, |j| j.state.code()),
        column(jobs, |j| j.priority),
        column(jobs, |j| j.run_at.as_unix_ms()),
        column(jobs, |j| count_code(j.max_attempts)),
        column(jobs, |j| j.group_order.map(u64::cast_signed)),
        jobs.iter().map(|write| write.plain).collect::<Vec<_>>(),
    ]
}

/// The columns of jobs: `new` also those that never change.
pub(crate) fn job_columns(jobs: &[JobToWrite<'_>], new: bool) -> Params {
    fn column<T>(jobs: &[JobToWrite<'_>], value: impl Fn(&Job) -> T) -> Vec<T> {
        jobs.iter().map(|write| value(write.job)).collect()
    }
    let losses = |job: &Job| {
        let losses: Vec<String> = job.recent_losses.iter().map(|at| at.as_unix_ms().to_string()).collect();
        format!("{{{}}}", losses.join(","))
    };
    let mut all = params![column(jobs, |j| seq_code(j.id))];
    if new {
        all.extend(params![
            column(jobs, |j| j.id.accepted_unix_ms()),
            jobs.iter().map(|write| write.queue).collect::<Vec<_>>(),
        ]);
    }
    all.extend(params![
        column(jobs, |j| j.state.code()),
        column(jobs, |j| j.reason.map(Coded::code)),
        column(jobs, |j| j.priority),
        column(jobs, |j| j.run_at.as_unix_ms()),
        column(jobs, |j| count_code(j.max_attempts)),
        column(jobs, |j| count_code(j.failures)),
        column(jobs, |j| count_code(j.lost_leases)),
        column(jobs, losses),
        column(jobs, |j| j.retry_until.map(Timestamp::as_unix_ms)),
        column(jobs, |j| j.cancel_requested),
        column(jobs, |j| j.finished_at.map(Timestamp::as_unix_ms)),
        column(jobs, |j| j.group_order.map(u64::cast_signed)),
        jobs.iter().map(|write| write.blocks).collect::<Vec<_>>(),
        column(jobs, |j| count_code(j.duplicates)),
        column(jobs, |j| count_code(j.mismatches)),
    ]);
    let attempts: Vec<_> = jobs.iter().map(|write| write.job.attempt.as_ref()).collect();
    all.extend(attempt_columns(&attempts));
    all
}
