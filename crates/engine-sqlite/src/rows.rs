//! Rows and what they mean: jobs, specs, attempts and ledger entries, each with a checksum over
//! its columns that is verified on every read.

use bytes::Bytes;
use onefold_core::{
    Attempt, AttemptEnd, Backoff, DeadReason, Dedup, DurationMs, FencingToken, Fingerprint, FreeOn, Group,
    Hold, Job, JobError, JobId, JobSpec, Key, Kind, Label, LateWrites, OnDuplicate, OnMismatch, Outcome,
    Payload, Progress, QueueName, Seq, State, Timestamp, TraceParent, WorkerName,
};
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};
use serde::{Deserialize, Serialize};

use crate::error::{StoreError, StoreResult};

/// Collects a row's columns for its checksum: CRC-32 over tags, lengths and values.
struct Checksum(Vec<u8>);

impl Checksum {
    fn new() -> Checksum {
        Checksum(Vec::with_capacity(512))
    }

    fn int(&mut self, value: Option<i64>) -> &mut Checksum {
        match value {
            Some(value) => self.0.extend_from_slice(&value.to_le_bytes()),
            None => self.0.push(0xff),
        }
        self
    }

    fn bytes(&mut self, value: Option<&[u8]>) -> &mut Checksum {
        match value {
            Some(value) => {
                self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.0.extend_from_slice(value);
            }
            None => self.0.push(0xff),
        }
        self
    }

    fn finish(&self) -> i64 {
        i64::from(crc32fast::hash(&self.0))
    }
}

/// The checksum of a single value that belongs to `seq`.
pub(crate) fn value_crc(seq: u64, value: &[u8]) -> i64 {
    Checksum::new().int(Some(seq as i64)).bytes(Some(value)).finish()
}

fn corrupt(what: &'static str, seq: i64) -> StoreError {
    StoreError::corrupt(format!("{what} of sequence {seq} does not match its checksum"))
}

fn int(row: &Row<'_>, column: usize) -> StoreResult<i64> {
    Ok(row.get_ref(column)?.as_i64()?)
}

fn opt_int(row: &Row<'_>, column: usize) -> StoreResult<Option<i64>> {
    Ok(row.get_ref(column)?.as_i64_or_null()?)
}

fn opt_bytes<'a>(row: &'a Row<'_>, column: usize) -> StoreResult<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes)),
        ValueRef::Integer(_) | ValueRef::Real(_) => {
            Err(StoreError::corrupt("a column has the wrong type".to_owned()))
        }
    }
}

fn text(bytes: &[u8]) -> StoreResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| StoreError::corrupt("a text is not UTF-8".to_owned()))
}

fn bad(what: &str) -> StoreError {
    StoreError::corrupt(format!("a stored {what} cannot be read"))
}

fn time(ms: i64) -> StoreResult<Timestamp> {
    Timestamp::from_unix_ms(ms).ok_or_else(|| bad("time"))
}

pub(crate) fn seq(value: i64) -> StoreResult<Seq> {
    u64::try_from(value).ok().and_then(Seq::new).ok_or_else(|| bad("sequence"))
}

/// Enums are stored as their place in the declaration, from 1.
macro_rules! codes {
    ($to:ident, $from:ident, $type:ty) => {
        pub(crate) fn $to(value: $type) -> i64 {
            <$type>::ALL.iter().position(|other| *other == value).map_or(0, |at| at as i64 + 1)
        }
        pub(crate) fn $from(code: i64) -> StoreResult<$type> {
            let at = usize::try_from(code - 1).map_err(|_| bad(stringify!($type)))?;
            <$type>::ALL.get(at).copied().ok_or_else(|| bad(stringify!($type)))
        }
    };
}
codes!(state_code, state_of, State);
codes!(reason_code, reason_of, DeadReason);
codes!(outcome_code, outcome_of, Outcome);
codes!(evidence_code, evidence_of, onefold_core::EvidenceKind);
codes!(event_code, event_of, onefold_core::EventKind);

/// What else there is to an attempt, seldom anything.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct AttemptRest {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JobError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
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
            && attempt.log.is_empty()
            && attempt.late_success.is_empty()
            && attempt.late_failure.is_empty();
        if nothing {
            return None;
        }
        let rest = AttemptRest {
            error,
            progress: attempt.progress.clone(),
            log: attempt.log.clone(),
            late_success: attempt.late_success,
            late_failure: attempt.late_failure,
        };
        serde_json::to_string(&rest).ok()
    }
}

/// The columns of `onefold_jobs` that are not `seq` or `crc`, in order, as integers; texts and
/// blobs apart.
struct JobColumns {
    ints: [Option<i64>; 27],
    losses: Option<Vec<u8>>,
    worker: Option<WorkerName>,
    rest: Option<String>,
}

/// Where a job row's length is kept by padding, so that an update overwrites it in place. A row
/// that outgrows it moves to the next multiple.
const ROW_STEP: usize = 40;
const ROW_MIN: usize = 160;

impl JobColumns {
    fn of(job: &Job, queue: i64, retain: Option<DurationMs>) -> JobColumns {
        let at = |time: Timestamp| Some(time.as_unix_ms());
        let attempt = job.attempt.as_ref();
        let end = attempt.and_then(|attempt| attempt.end.as_ref());
        let ints = [
            Some(job.id.accepted_unix_ms()),
            Some(queue),
            Some(state_code(job.state)),
            job.reason.map(reason_code),
            Some(i64::from(job.priority)),
            at(job.run_at),
            Some(i64::from(job.max_attempts)),
            Some(i64::from(job.failures)),
            Some(i64::from(job.lost_leases)),
            job.retry_until.and_then(at),
            Some(i64::from(job.cancel_requested)),
            job.finished_at.and_then(at),
            job.group_order.map(|order| order as i64),
            Some(i64::from(job.duplicates)),
            Some(i64::from(job.mismatches)),
            retain.map(|retain| retain.as_ms() as i64),
            attempt.map(|a| i64::from(a.number)),
            attempt.map(|a| a.token.get() as i64),
            attempt.and_then(|a| at(a.started_at)),
            attempt.map(|a| a.lease.as_ms() as i64),
            attempt.and_then(|a| at(a.lease_until)),
            attempt.and_then(|a| at(a.deadline)),
            attempt.and_then(|a| a.poll.map(|poll| poll as i64)),
            end.and_then(|end| at(end.at)),
            end.map(|end| outcome_code(end.outcome)),
            end.map(|end| state_code(end.state)),
            end.and_then(|end| end.content.map(|content| content as i64)),
        ];
        let losses = (!job.recent_losses.is_empty())
            .then(|| job.recent_losses.iter().flat_map(|at| at.as_unix_ms().to_be_bytes()).collect());
        let worker = attempt.map(|attempt| attempt.worker.clone());
        JobColumns { ints, losses, worker, rest: attempt.and_then(AttemptRest::of) }
    }

    fn crc(&self, seq: i64) -> i64 {
        let mut sum = Checksum::new();
        sum.int(Some(seq));
        for value in self.ints {
            sum.int(value);
        }
        sum.bytes(self.losses.as_deref());
        sum.bytes(self.worker.as_ref().map(|worker| worker.as_str().as_bytes()));
        sum.bytes(self.rest.as_deref().map(str::as_bytes));
        sum.finish()
    }

    /// Bytes of padding that bring the record to a fixed length (SQLite file format, section 2.1:
    /// integers take 0, 1, 2, 3, 4, 6 or 8 bytes).
    fn padding(&self, crc: i64) -> usize {
        let ints: usize =
            self.ints.iter().flatten().chain([&crc]).map(|value| stored_int_bytes(*value)).sum();
        let texts = self.losses.as_ref().map_or(0, Vec::len)
            + self.worker.as_ref().map_or(0, |worker| worker.as_str().len())
            + self.rest.as_ref().map_or(0, String::len);
        // Two bytes for the type of the padding itself, and of a long text or blob.
        let long = |len: usize| usize::from(len > 57);
        let types = long(self.losses.as_ref().map_or(0, Vec::len))
            + long(self.worker.as_ref().map_or(0, |w| w.as_str().len()))
            + long(self.rest.as_ref().map_or(0, String::len));
        let used = ints + texts + types;
        let mut target = ROW_MIN;
        while target < used {
            target += ROW_STEP;
        }
        let pad = target - used;
        if pad > 58 { pad - 1 } else { pad }
    }
}

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

/// Writes a job with `job_insert` or `job_update`, whose parameters are alike.
pub(crate) fn write_job(
    stmt: &mut Statement<'_>,
    job: &Job,
    queue: i64,
    retain: Option<DurationMs>,
) -> StoreResult<()> {
    let columns = JobColumns::of(job, queue, retain);
    let seq = job.id.seq().get() as i64;
    let crc = columns.crc(seq);
    stmt.raw_bind_parameter(1, seq)?;
    let mut place = 2;
    for (n, value) in columns.ints.iter().enumerate() {
        // The texts and the blob stand between the integers as in the table.
        match n {
            9 => {
                stmt.raw_bind_parameter(place, columns.losses.as_deref())?;
                place += 1;
            }
            18 => {
                stmt.raw_bind_parameter(place, columns.worker.as_ref().map(WorkerName::as_str))?;
                place += 1;
            }
            _ => {}
        }
        stmt.raw_bind_parameter(place, *value)?;
        place += 1;
    }
    stmt.raw_bind_parameter(place, columns.rest.as_deref())?;
    stmt.raw_bind_parameter(place + 1, crc)?;
    stmt.raw_bind_parameter(place + 2, rusqlite::blob::ZeroBlob(columns.padding(crc) as u64))?;
    stmt.raw_execute()?;
    Ok(())
}

/// A job row as read: the job, its queue's number, and how long it wants to be kept.
pub(crate) struct JobRow {
    pub(crate) job: Job,
    pub(crate) queue: i64,
    pub(crate) retain: Option<DurationMs>,
}

/// Reads a job selected by `job_select`, `job_range` or `job_page`.
pub(crate) fn read_job(
    row: &Row<'_>,
    queue_name: impl FnOnce(i64) -> Option<QueueName>,
) -> StoreResult<JobRow> {
    let seq_stored = int(row, 0)?;
    let mut ints = [None; 27];
    let mut place = 1;
    for (n, value) in ints.iter_mut().enumerate() {
        if n == 9 || n == 18 {
            place += 1;
        }
        *value = opt_int(row, place)?;
        place += 1;
    }
    let losses = opt_bytes(row, 10)?;
    let worker = opt_bytes(row, 20)?;
    let rest = opt_bytes(row, 30)?;
    let mut sum = Checksum::new();
    sum.int(Some(seq_stored));
    for value in ints {
        sum.int(value);
    }
    sum.bytes(losses).bytes(worker).bytes(rest);
    if sum.finish() != int(row, 31)? {
        return Err(corrupt("the job row", seq_stored));
    }
    let [
        created,
        queue,
        state,
        reason,
        priority,
        run_at,
        max_attempts,
        failures,
        lost,
        retry_until,
        cancel,
        finished_at,
        group_order,
        duplicates,
        mismatches,
        retain,
        number,
        token,
        started,
        lease,
        lease_until,
        deadline,
        poll,
        ended,
        outcome,
        end_state,
        content,
    ] = ints;
    let must = |value: Option<i64>| value.ok_or_else(|| bad("job"));
    let count = |value: Option<i64>| must(value).and_then(|v| u32::try_from(v).map_err(|_| bad("count")));
    let length = |value: Option<i64>| {
        must(value).and_then(|v| u64::try_from(v).map(DurationMs::from_ms).map_err(|_| bad("duration")))
    };
    let when = |value: Option<i64>| value.map(time).transpose();
    let queue = must(queue)?;
    let attempt = match token {
        None => None,
        Some(token) => {
            let rest: AttemptRest = match rest {
                Some(rest) => serde_json::from_slice(rest).map_err(|_| bad("attempt"))?,
                None => AttemptRest::default(),
            };
            let end = match when(ended)? {
                None => None,
                Some(at) => Some(AttemptEnd {
                    at,
                    outcome: outcome_of(must(outcome)?)?,
                    error: rest.error,
                    state: state_of(must(end_state)?)?,
                    content: content.map(|content| content as u64),
                }),
            };
            Some(Attempt {
                number: count(number)?,
                token: u64::try_from(token).ok().and_then(FencingToken::new).ok_or_else(|| bad("token"))?,
                worker: WorkerName::new(text(worker.unwrap_or_default())?).map_err(|_| bad("worker name"))?,
                started_at: time(must(started)?)?,
                lease: length(lease)?,
                lease_until: time(must(lease_until)?)?,
                deadline: time(must(deadline)?)?,
                poll: poll.map(|poll| poll as u64),
                end,
                progress: rest.progress,
                log: rest.log,
                late_success: rest.late_success,
                late_failure: rest.late_failure,
            })
        }
    };
    let recent_losses = losses
        .unwrap_or_default()
        .chunks_exact(8)
        .map(|chunk| chunk.try_into().map_err(|_| bad("time")).and_then(|ms| time(i64::from_be_bytes(ms))))
        .collect::<StoreResult<_>>()?;
    let job = Job {
        id: JobId::new(time(must(created)?)?, seq(seq_stored)?),
        queue: queue_name(queue).ok_or_else(|| bad("queue number"))?,
        state: state_of(must(state)?)?,
        reason: reason.map(reason_of).transpose()?,
        priority: i16::try_from(must(priority)?).map_err(|_| bad("priority"))?,
        run_at: time(must(run_at)?)?,
        max_attempts: count(max_attempts)?,
        failures: count(failures)?,
        lost_leases: count(lost)?,
        recent_losses,
        retry_until: when(retry_until)?,
        cancel_requested: cancel == Some(1),
        finished_at: when(finished_at)?,
        group_order: group_order.map(|order| order as u64),
        attempt,
        duplicates: count(duplicates)?,
        mismatches: count(mismatches)?,
    };
    let retain = retain.map(|_| length(retain)).transpose()?;
    Ok(JobRow { job, queue, retain })
}

/// What else a caller may ask for, where it differs from the defaults.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct SpecOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup: Option<Dedup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<DurationMs>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<DurationMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
}

fn options_of(spec: &JobSpec) -> StoreResult<Option<String>> {
    let dedup_is_default = spec.dedup.on_duplicate == OnDuplicate::Return
        && spec.dedup.on_mismatch == OnMismatch::Reject
        && spec.dedup == Dedup::default();
    let options = SpecOptions {
        dedup: (!dedup_is_default).then(|| spec.dedup.clone()),
        fingerprint: None,
        backoff: spec.backoff.clone(),
        timeout: spec.timeout,
        headers: spec.headers.clone(),
        labels: spec.labels.clone(),
        retain: spec.retain,
        traceparent: spec.traceparent.clone(),
    };
    if options == SpecOptions::default() {
        return Ok(None);
    }
    serde_json::to_string(&options).map(Some).map_err(|_| bad("job"))
}

fn spec_crc(
    seq: i64,
    texts: [Option<&[u8]>; 4],
    form: i64,
    options: Option<&[u8]>,
    fingerprint: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> i64 {
    let mut sum = Checksum::new();
    sum.int(Some(seq)).int(Some(form));
    for value in texts {
        sum.bytes(value);
    }
    sum.bytes(options).bytes(fingerprint);
    let payload = payload.map_or(0, |payload| crc32fast::hash(payload).wrapping_add(1));
    sum.int(Some(i64::from(payload))).finish()
}

/// Writes what was asked for with `spec_insert`.
pub(crate) fn write_spec(stmt: &mut Statement<'_>, seq: Seq, spec: &JobSpec) -> StoreResult<()> {
    let seq = seq.get() as i64;
    let (form, content_type, payload) = match &spec.payload {
        Payload::Absent => (0, None, None),
        Payload::Json(bytes) => (1, None, Some(&bytes[..])),
        Payload::Raw { bytes, content_type } => (2, Some(content_type.as_str()), Some(&bytes[..])),
    };
    let options = options_of(spec)?;
    let kind = spec.kind.as_ref().map(Kind::as_str);
    let key = spec.key.as_ref().map(Key::as_str);
    let group = spec.group.as_ref().map(Group::as_str);
    let fingerprint = spec.fingerprint.as_ref().map(|fingerprint| &fingerprint.as_bytes()[..]);
    let texts = [kind, key, group, content_type].map(|text| text.map(str::as_bytes));
    let crc = spec_crc(seq, texts, form, options.as_deref().map(str::as_bytes), fingerprint, payload);
    stmt.raw_bind_parameter(1, seq)?;
    stmt.raw_bind_parameter(2, kind)?;
    stmt.raw_bind_parameter(3, key)?;
    stmt.raw_bind_parameter(4, group)?;
    stmt.raw_bind_parameter(5, form)?;
    stmt.raw_bind_parameter(6, content_type)?;
    stmt.raw_bind_parameter(7, options.as_deref())?;
    stmt.raw_bind_parameter(8, fingerprint)?;
    stmt.raw_bind_parameter(9, payload)?;
    stmt.raw_bind_parameter(10, crc)?;
    stmt.raw_execute()?;
    Ok(())
}

/// Reads a spec selected by `spec_select`.
pub(crate) fn read_spec(row: &Row<'_>) -> StoreResult<JobSpec> {
    let seq = int(row, 0)?;
    let [kind, key, group] = [opt_bytes(row, 1)?, opt_bytes(row, 2)?, opt_bytes(row, 3)?];
    let form = int(row, 4)?;
    let (content_type, options, fingerprint) = (opt_bytes(row, 5)?, opt_bytes(row, 6)?, opt_bytes(row, 7)?);
    let payload = opt_bytes(row, 8)?;
    if spec_crc(seq, [kind, key, group, content_type], form, options, fingerprint, payload) != int(row, 9)? {
        return Err(corrupt("what was asked for", seq));
    }
    let options: SpecOptions = match options {
        Some(json) => serde_json::from_slice(json).map_err(|_| bad("job"))?,
        None => SpecOptions::default(),
    };
    let payload = payload.map(Bytes::copy_from_slice).unwrap_or_default();
    let payload = match form {
        0 => Payload::Absent,
        1 => Payload::Json(payload),
        2 => {
            Payload::Raw { bytes: payload, content_type: text(content_type.unwrap_or_default())?.to_owned() }
        }
        _ => return Err(bad("payload form")),
    };
    Ok(JobSpec {
        kind: kind.map(text).transpose()?.map(Kind::new).transpose().map_err(|_| bad("kind"))?,
        payload,
        key: key.map(text).transpose()?.map(Key::new).transpose().map_err(|_| bad("key"))?,
        fingerprint: fingerprint.map(fingerprint_of).transpose()?,
        dedup: options.dedup.unwrap_or_default(),
        group: group.map(text).transpose()?.map(Group::new).transpose().map_err(|_| bad("group"))?,
        backoff: options.backoff,
        timeout: options.timeout,
        headers: options.headers,
        labels: options.labels,
        retain: options.retain,
        traceparent: options.traceparent,
    })
}

fn fingerprint_of(bytes: &[u8]) -> StoreResult<Fingerprint> {
    Fingerprint::from_bytes(bytes).map_err(|_| bad("fingerprint"))
}

/// Writes an attempt that is not the latest any more, with `attempt_insert`.
pub(crate) fn write_attempt(stmt: &mut Statement<'_>, seq: Seq, attempt: &Attempt) -> StoreResult<()> {
    let json = serde_json::to_string(attempt).map_err(|_| bad("attempt"))?;
    let (seq, token) = (seq.get(), attempt.token.get() as i64);
    stmt.execute((seq as i64, attempt.number, token, &json, value_crc(seq, json.as_bytes())))?;
    Ok(())
}

/// Reads an attempt selected by `attempt_select` for `seq`.
pub(crate) fn read_attempt(row: &Row<'_>, seq: Seq) -> StoreResult<Attempt> {
    let json = opt_bytes(row, 1)?.unwrap_or_default();
    if value_crc(seq.get(), json) != int(row, 2)? {
        return Err(corrupt("an attempt", seq.get() as i64));
    }
    serde_json::from_slice(json).map_err(|_| bad("attempt"))
}

/// Reads a value of `seq` selected with its checksum: a result or a checkpoint.
pub(crate) fn read_value(row: &Row<'_>, seq: Seq) -> StoreResult<Bytes> {
    let value = opt_bytes(row, 0)?.unwrap_or_default();
    if value_crc(seq.get(), value) != int(row, 1)? {
        return Err(corrupt("a result or checkpoint", seq.get() as i64));
    }
    Ok(Bytes::copy_from_slice(value))
}

/// An entry of the dedup ledger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LedgerRow {
    pub(crate) lid: u64,
    pub(crate) space: u8,
    pub(crate) queue: i64,
    pub(crate) key: Key,
    pub(crate) hold: Hold,
    pub(crate) hash: i64,
}

impl LedgerRow {
    fn crc(&self, fingerprint: &[u8]) -> i64 {
        let mut sum = Checksum::new();
        sum.int(Some(self.lid as i64)).int(Some(i64::from(self.space))).int(Some(self.queue));
        sum.bytes(Some(self.key.as_str().as_bytes()));
        sum.int(Some(self.hold.job.seq().get() as i64)).int(Some(self.hold.job.accepted_unix_ms()));
        sum.bytes(Some(fingerprint)).int(Some(self.hold.until.as_unix_ms()));
        sum.int(Some(i64::from(self.hold.free_on.bits()))).int(Some(self.hash)).finish()
    }

    /// Writes it with `ledger_insert`.
    pub(crate) fn write(&self, stmt: &mut Statement<'_>) -> StoreResult<()> {
        let fingerprint = self.hold.fingerprint.as_bytes();
        stmt.raw_bind_parameter(1, self.lid as i64)?;
        stmt.raw_bind_parameter(2, self.space)?;
        stmt.raw_bind_parameter(3, self.queue)?;
        stmt.raw_bind_parameter(4, self.key.as_str())?;
        stmt.raw_bind_parameter(5, self.hold.job.seq().get() as i64)?;
        stmt.raw_bind_parameter(6, self.hold.job.accepted_unix_ms())?;
        stmt.raw_bind_parameter(7, &fingerprint[..])?;
        stmt.raw_bind_parameter(8, self.hold.until.as_unix_ms())?;
        stmt.raw_bind_parameter(9, self.hold.free_on.bits())?;
        stmt.raw_bind_parameter(10, self.hash)?;
        stmt.raw_bind_parameter(11, self.crc(fingerprint))?;
        stmt.raw_execute()?;
        Ok(())
    }

    /// Reads one selected by `ledger_select` or `ledger_head`.
    pub(crate) fn read(row: &Row<'_>) -> StoreResult<LedgerRow> {
        let fingerprint = opt_bytes(row, 6)?.unwrap_or_default();
        let hold = Hold {
            job: JobId::new(time(int(row, 5)?)?, seq(int(row, 4)?)?),
            fingerprint: fingerprint_of(fingerprint)?,
            until: time(int(row, 7)?)?,
            free_on: FreeOn::from_bits(int(row, 8)? as u8),
        };
        let entry = LedgerRow {
            lid: int(row, 0)? as u64,
            space: int(row, 1)? as u8,
            queue: int(row, 2)?,
            key: Key::new(text(opt_bytes(row, 3)?.unwrap_or_default())?).map_err(|_| bad("key"))?,
            hold,
            hash: int(row, 9)?,
        };
        if entry.crc(fingerprint) != int(row, 10)? {
            return Err(corrupt("a ledger entry", entry.hold.job.seq().get() as i64));
        }
        Ok(entry)
    }
}
