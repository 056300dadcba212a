//! Where a job stands, as it is stored: what is searched and scanned by in columns, the rest
//! packed into `body`, padded so that the row keeps its length and an update overwrites it in place.

use onefold_core::{
    Attempt, AttemptEnd, DurationMs, Exchange, FencingToken, Job, JobError, JobId, LateWrites, Progress,
    QueueName, Timestamp, WorkerName,
};
use rusqlite::{Row, Statement};
use serde::{Deserialize, Serialize};

use super::{
    bad, corrupt, int, opt_bytes, opt_int, outcome_code, outcome_of, reason_code, reason_of, seq, state_code,
};
use super::{state_of, text, time};
use crate::error::StoreResult;
use crate::varint::{get, put, unzigzag, zigzag};

/// The form of `body` that this program writes.
const BODY_VERSION: u8 = 1;
/// Bytes of the checksum at the start of `body`.
const CRC_BYTES: usize = 4;
/// The length of columns and body together is brought to this, or to the next multiple of
/// [`ROW_STEP`] above it.
const ROW_MIN: usize = 128;
const ROW_STEP: usize = 32;

/// What else there is to an attempt, seldom anything.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct AttemptRest {
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

impl AttemptRest {
    fn of(attempt: &Attempt) -> Option<String> {
        let error = attempt.end.as_ref().and_then(|end| end.error.clone());
        let nothing = error.is_none()
            && attempt.progress.is_none()
            && attempt.exchange.is_none()
            && attempt.log.is_empty()
            && attempt.late_success.is_empty()
            && attempt.late_failure.is_empty();
        if nothing {
            return None;
        }
        let rest = AttemptRest {
            error,
            progress: attempt.progress.clone(),
            exchange: attempt.exchange.clone(),
            log: attempt.log.clone(),
            late_success: attempt.late_success,
            late_failure: attempt.late_failure,
        };
        serde_json::to_string(&rest).ok()
    }
}

/// The columns beside `seq` and `body`, in the order of the table.
fn columns(job: &Job, queue: i64, retain: Option<DurationMs>) -> [Option<i64>; 8] {
    [
        Some(job.id.accepted_unix_ms()),
        Some(queue),
        Some(state_code(job.state)),
        Some(i64::from(job.priority)),
        Some(job.run_at.as_unix_ms()),
        job.finished_at.map(Timestamp::as_unix_ms),
        job.group_order.map(|order| order as i64),
        retain.map(|retain| retain.as_ms() as i64),
    ]
}

fn checksum(seq: i64, columns: &[Option<i64>; 8], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let mut fixed = [0xff_u8; 9 * 8];
    for (place, value) in fixed.chunks_exact_mut(8).zip([Some(seq)].into_iter().chain(*columns)) {
        if let Some(value) = value {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    sum.update(&fixed);
    sum.update(body);
    sum.finalize()
}

/// How many bytes SQLite stores an integer in (file format, section 2.1).
fn stored_int_bytes(value: i64) -> usize {
    match value {
        0 | 1 => 0,
        -0x80..=0x7f => 1,
        -0x8000..=0x7fff => 2,
        -0x80_0000..=0x7f_ffff => 3,
        -0x8000_0000..=0x7fff_ffff => 4,
        -0x8000_0000_0000..=0x7fff_ffff_ffff => 6,
        _ => 8,
    }
}

fn put_time(body: &mut Vec<u8>, at: Option<Timestamp>, base: Timestamp) {
    put(body, at.map_or(0, |at| zigzag(at.as_unix_ms() - base.as_unix_ms()).saturating_add(1)));
}

fn write_body(body: &mut Vec<u8>, job: &Job) {
    let created = job.created_at();
    body.push(BODY_VERSION);
    put(body, job.reason.map_or(0, reason_code) as u64);
    put(body, u64::from(job.max_attempts));
    put(body, u64::from(job.failures));
    put(body, u64::from(job.lost_leases));
    put(body, u64::from(job.cancel_requested));
    put(body, u64::from(job.duplicates));
    put(body, u64::from(job.mismatches));
    put_time(body, job.retry_until, created);
    put(body, job.recent_losses.len() as u64);
    for at in &job.recent_losses {
        put_time(body, Some(*at), created);
    }
    let Some(attempt) = &job.attempt else {
        return put(body, 0);
    };
    put(body, u64::from(attempt.number));
    put(body, attempt.token.get());
    put_time(body, Some(attempt.started_at), created);
    put(body, attempt.lease.as_ms());
    put_time(body, Some(attempt.lease_until), attempt.started_at);
    put_time(body, Some(attempt.deadline), attempt.started_at);
    put_number(body, attempt.poll);
    put(body, attempt.worker.as_str().len() as u64);
    body.extend_from_slice(attempt.worker.as_str().as_bytes());
    put_time(body, attempt.end.as_ref().map(|end| end.at), attempt.started_at);
    if let Some(end) = &attempt.end {
        put(body, outcome_code(end.outcome) as u64);
        put(body, state_code(end.state) as u64);
        put_number(body, end.content);
    }
    let rest = AttemptRest::of(attempt).unwrap_or_default();
    put(body, rest.len() as u64);
    body.extend_from_slice(rest.as_bytes());
}

/// A number that is as likely large as small.
fn put_number(body: &mut Vec<u8>, number: Option<u64>) {
    body.push(u8::from(number.is_some()));
    if let Some(number) = number {
        body.extend_from_slice(&number.to_le_bytes());
    }
}

/// Writes a job with `job_insert` or `job_update`, whose parameters are alike.
pub(crate) fn write_job(
    stmt: &mut Statement<'_>,
    job: &Job,
    queue: i64,
    retain: Option<DurationMs>,
    buffer: &mut Vec<u8>,
) -> StoreResult<()> {
    let seq = job.id.seq().get() as i64;
    let columns = columns(job, queue, retain);
    buffer.clear();
    buffer.extend_from_slice(&[0; CRC_BYTES]);
    write_body(buffer, job);
    let ints: usize = columns.iter().flatten().map(|value| stored_int_bytes(*value)).sum();
    let mut length = ROW_MIN;
    while length < ints + buffer.len() {
        length += ROW_STEP;
    }
    buffer.resize(length - ints, 0);
    let crc = checksum(seq, &columns, buffer.get(CRC_BYTES..).unwrap_or_default());
    if let Some(place) = buffer.first_chunk_mut::<CRC_BYTES>() {
        *place = crc.to_le_bytes();
    }
    stmt.raw_bind_parameter(1, seq)?;
    for (n, value) in columns.iter().enumerate() {
        stmt.raw_bind_parameter(n + 2, *value)?;
    }
    stmt.raw_bind_parameter(10, &buffer[..])?;
    stmt.raw_execute()?;
    Ok(())
}

/// A job row as read: the job, its queue's number, and how long it wants to be kept.
pub(crate) struct JobRow {
    pub(crate) job: Job,
    pub(crate) queue: i64,
    pub(crate) retain: Option<DurationMs>,
}

/// Reads a job selected by `job_select`, `job_page` or `job_scan`.
pub(crate) fn read_job(
    row: &Row<'_>,
    queue_name: impl FnOnce(i64) -> Option<QueueName>,
) -> StoreResult<JobRow> {
    let seq_stored = int(row, 0)?;
    let mut columns = [None; 8];
    for (n, value) in columns.iter_mut().enumerate() {
        *value = opt_int(row, n + 1)?;
    }
    let body = opt_bytes(row, 9)?.unwrap_or_default();
    let (crc, body) = body.split_first_chunk::<CRC_BYTES>().ok_or_else(|| bad("job"))?;
    if checksum(seq_stored, &columns, body) != u32::from_le_bytes(*crc) {
        return Err(corrupt("the job row", seq_stored));
    }
    let [created, queue, state, priority, run_at, finished_at, group_order, retain] = columns;
    let must = |value: Option<i64>| value.ok_or_else(|| bad("job"));
    let created = time(must(created)?)?;
    let queue = must(queue)?;
    let packed = Packed { rest: body }.read(created).ok_or_else(|| bad("job"))?;
    let retain = retain
        .map(|ms| u64::try_from(ms).map(DurationMs::from_ms).map_err(|_| bad("duration")))
        .transpose()?;
    let job = Job {
        id: JobId::new(created, seq(seq_stored)?),
        queue: queue_name(queue).ok_or_else(|| bad("queue number"))?,
        state: state_of(must(state)?)?,
        priority: i16::try_from(must(priority)?).map_err(|_| bad("priority"))?,
        run_at: time(must(run_at)?)?,
        finished_at: finished_at.map(time).transpose()?,
        group_order: group_order.map(|order| order as u64),
        ..packed
    };
    Ok(JobRow { job, queue, retain })
}

/// Reads what [`write_body`] wrote; `None` if it is something else.
struct Packed<'a> {
    rest: &'a [u8],
}

impl<'a> Packed<'a> {
    /// The job, with the fields that have columns of their own left at some value.
    fn read(mut self, created: Timestamp) -> Option<Job> {
        let (version, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *version != BODY_VERSION {
            return None;
        }
        let reason = self.code(|code| reason_of(code).ok())?;
        let max_attempts = self.count()?;
        let failures = self.count()?;
        let lost_leases = self.count()?;
        let cancel_requested = self.count()? == 1;
        let duplicates = self.count()?;
        let mismatches = self.count()?;
        let retry_until = self.time(created)?;
        let losses = self.count()?;
        let recent_losses = (0..losses).map(|_| self.time(created)?).collect::<Option<Vec<Timestamp>>>()?;
        Some(Job {
            id: JobId::new(created, onefold_core::Seq::MAX),
            queue: QueueName::new("-").ok()?,
            state: onefold_core::State::Scheduled,
            reason,
            priority: 0,
            run_at: created,
            max_attempts,
            failures,
            lost_leases,
            recent_losses,
            retry_until,
            cancel_requested,
            finished_at: None,
            group_order: None,
            attempt: self.attempt(created)?,
            duplicates,
            mismatches,
        })
    }

    fn attempt(&mut self, created: Timestamp) -> Option<Option<Attempt>> {
        let number = self.count()?;
        if number == 0 {
            return Some(None);
        }
        let token = FencingToken::new(get(&mut self.rest)?)?;
        let started_at = self.time(created)??;
        let lease = DurationMs::from_ms(get(&mut self.rest)?);
        let lease_until = self.time(started_at)??;
        let deadline = self.time(started_at)??;
        let poll = self.number()?;
        let worker = WorkerName::new(text(self.bytes()?).ok()?).ok()?;
        let ended_at = self.time(started_at)?;
        let mut end = match ended_at {
            None => None,
            Some(at) => Some(AttemptEnd {
                at,
                outcome: self.code(|code| outcome_of(code).ok())??,
                error: None,
                state: self.code(|code| state_of(code).ok())??,
                content: self.number()?,
            }),
        };
        let rest = self.bytes()?;
        let rest: AttemptRest =
            if rest.is_empty() { AttemptRest::default() } else { serde_json::from_slice(rest).ok()? };
        if let Some(end) = &mut end {
            end.error = rest.error;
        }
        Some(Some(Attempt {
            number,
            token,
            worker,
            started_at,
            lease,
            lease_until,
            deadline,
            poll,
            end,
            progress: rest.progress,
            exchange: rest.exchange,
            log: rest.log,
            late_success: rest.late_success,
            late_failure: rest.late_failure,
        }))
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(get(&mut self.rest)?).ok()
    }

    /// An enum's code, 0 for none.
    fn code<T>(&mut self, of: impl FnOnce(i64) -> Option<T>) -> Option<Option<T>> {
        match get(&mut self.rest)? {
            0 => Some(None),
            code => of(i64::try_from(code).ok()?).map(Some),
        }
    }

    fn time(&mut self, base: Timestamp) -> Option<Option<Timestamp>> {
        match get(&mut self.rest)? {
            0 => Some(None),
            stored => Timestamp::from_unix_ms(base.as_unix_ms().checked_add(unzigzag(stored - 1))?).map(Some),
        }
    }

    fn number(&mut self) -> Option<Option<u64>> {
        let (there, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *there == 0 {
            return Some(None);
        }
        let (number, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(Some(u64::from_le_bytes(*number)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(get(&mut self.rest)?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}
