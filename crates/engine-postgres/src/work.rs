//! The unit of work: a transaction that loads jobs under their locks, changes them by the rules of
//! the core, and writes what follows from that in one go.

mod changes;
mod flush;
mod groups;
mod holds;
mod moves;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use onefold_core::schedule::ScheduleEvent;
use onefold_core::{
    Attempt, Backoff, DurationMs, Entropy, EventKind, EvidenceKind, Job, JobId, JobSpec,
    Outcome as AttemptOutcome, QueueName, QueueSettings, RetryPolicy, Timestamp,
};
use tokio_postgres::Row;

pub(crate) use groups::GroupPlace;
pub(crate) use holds::{KeyPlace, NO_QUEUE, Space};
pub(crate) use moves::Lists;

use crate::error::{Fault, Outcome, corrupt};
use crate::floors::{Floors, LineMoves, LinePlace};
use crate::place::Places;
use crate::pool::{Params, Transaction};
use crate::rows::{
    LineNumber, LoadedSpec, LockedRow, QueueNumber, RowPlace, duration, job_id, lane_code, read_attempt_row,
    read_locked, read_spec, seq_code, time,
};
use crate::{params, sql};

/// A queue as it is read.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) name: QueueName,
    pub(crate) alive: bool,
    pub(crate) settings: QueueSettings,
}

/// A job of this transaction, under its lock.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) queue: QueueNumber,
    pub(crate) job: Job,
    pub(crate) spec: JobSpec,
    /// It ended as a dead or cancelled head that blocks its group.
    pub(crate) blocks: bool,
    pub(crate) payload_bytes: usize,
    /// Once [`Work::weigh_checkpoints`] has looked.
    checkpoint_bytes: usize,
    /// The payload is in the spec.
    pub(crate) has_payload: bool,
    /// The stored row says that ends need nothing of the spec.
    plain: bool,
    /// There is a row in `leases`.
    is_extended: bool,
    /// Where its row stands, if it was locked and not written since.
    place: Option<RowPlace>,
    pub(crate) backoff: Backoff,
    /// As the database has it; `None` for a new one.
    stored: Option<Stored>,
    write_spec: WriteSpec,
    /// Attempts that gave way to a later one.
    earlier: Vec<Attempt>,
}

#[derive(Debug, Clone)]
struct Stored {
    job: Job,
    blocks: bool,
    places: Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteSpec {
    Nothing,
    Labels,
    All,
}

impl Record {
    pub(crate) fn split(&mut self) -> (&mut Job, RetryPolicy<'_>) {
        let timeout = self.timeout();
        (&mut self.job, RetryPolicy { backoff: &self.backoff, timeout })
    }

    /// What it takes of a lease reply.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.payload_bytes + self.checkpoint_bytes
    }

    pub(crate) fn timeout(&self) -> DurationMs {
        self.spec.attempt_timeout()
    }

    pub(crate) fn places(&self) -> Places {
        Places::of(&self.job, self.blocks, self.spec.retain, lane_code(self.spec.target.lane()))
    }

    fn loaded(read: LockedRow, spec: LoadedSpec, is_extended: bool) -> Record {
        let lane = lane_code(spec.spec.target.lane());
        let places = Places::of(&read.job, read.blocks, spec.spec.retain, lane);
        Record {
            queue: read.queue,
            backoff: spec.spec.backoff.clone().unwrap_or_default(),
            stored: Some(Stored { job: read.job.clone(), blocks: read.blocks, places }),
            job: read.job,
            blocks: read.blocks,
            plain: read.plain,
            is_extended,
            place: Some(read.place),
            payload_bytes: spec.payload_bytes,
            checkpoint_bytes: 0,
            has_payload: spec.has_payload,
            spec: spec.spec,
            write_spec: WriteSpec::Nothing,
            earlier: Vec::new(),
        }
    }

    fn group(&self) -> Option<GroupPlace> {
        let group = self.spec.group.as_ref()?;
        Some((self.queue, group.as_str().to_owned()))
    }
}

/// What is loaded of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    ForEnds,
    ForClaim,
}

/// Payloads up to so many bytes are loaded with their jobs.
const PAYLOAD_INLINE: i32 = 8 * 1024;
/// Queues that are read in advance because jobs may be of them.
const QUEUES_GUESSED: usize = 100;

/// One damaged job keeps nobody from the others, where they are passed by anyway.
fn pass_by<T>(passes_by: bool, row: &Row, read: Outcome<T>) -> Outcome<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(fault) if passes_by => {
            tracing::error!(seq = row.try_get::<_, i64>(0)?, ?fault, "a damaged job is passed over");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// What others are to be told once the transaction is durable.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Queues in which something may have become leasable.
    pub(crate) leasable: BTreeSet<QueueName>,
    /// There may be something new to deliver.
    pub(crate) deliveries: bool,
    /// Jobs that finished or are gone.
    pub(crate) finished: Vec<JobId>,
    /// There are new events.
    pub(crate) told: bool,
    /// The earliest time at which something becomes due that did not before.
    pub(crate) due: Option<Timestamp>,
    /// Attempts that ended.
    pub(crate) outcomes: BTreeMap<AttemptOutcome, u64>,
    /// What it did to lines.
    pub(crate) lines: LineMoves,
}

struct EventRow {
    kind: EventKind,
    queue: QueueNumber,
    job: Option<JobId>,
    reason: Option<i16>,
    attempt: u32,
    schedule: Option<ScheduleEvent>,
}

struct EvidenceRow {
    seq: i64,
    kind: EvidenceKind,
    /// `None`: the next of its kind.
    number: Option<u32>,
    note: Option<String>,
}

/// The columns of counts, in the order of the table.
pub(crate) const COUNTS: usize = 13;
pub(crate) const ACCEPTED: usize = 0;
/// States follow in their order.
pub(crate) const FIRST_STATE: usize = 1;
pub(crate) const PURGED_RETENTION: usize = 8;
pub(crate) const PURGED_DELETED: usize = 9;
pub(crate) const DUPLICATES: usize = 10;
pub(crate) const MISMATCHES: usize = 11;
pub(crate) const LATE_WRITES: usize = 12;

/// Jobs of a segment at the most.
pub(crate) const SEGMENT: usize = 32;

/// See the [module](self).
pub(crate) struct Work {
    pub(crate) tx: Transaction,
    pub(crate) now: Timestamp,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) effects: Effects,
    pub(crate) floors: Arc<Floors>,
    queues: HashMap<QueueNumber, Queue>,
    records: BTreeMap<i64, Box<Record>>,
    history: BTreeMap<i64, Vec<Attempt>>,
    late_attempts: BTreeSet<(i64, u32)>,
    groups: groups::Groups,
    holds: holds::Holds,
    events: Vec<EventRow>,
    evidence: Vec<EvidenceRow>,
    counts: BTreeMap<QueueNumber, [i64; COUNTS]>,
    results: BTreeMap<i64, Option<Bytes>>,
    checkpoints: BTreeMap<i64, Bytes>,
    free_keys: Vec<(QueueNumber, String, i64)>,
    dropped_keys: Vec<KeyPlace>,
    /// Jobs that finished and of whose end somebody is to be told.
    to_tell: Vec<i64>,
    stale_ready: Vec<(LineNumber, i16, i64)>,
    /// Jobs of this transaction that stand in segments it claimed.
    pub(crate) in_segments: HashSet<i64>,
    /// What it leaves of those.
    segments_left: Vec<(LineNumber, LinePlace, Vec<i64>)>,
}

impl Work {
    pub(crate) fn new(
        tx: Transaction,
        now: Timestamp,
        entropy: Arc<dyn Entropy>,
        floors: Arc<Floors>,
    ) -> Work {
        Work {
            tx,
            now,
            entropy,
            effects: Effects::default(),
            floors,
            queues: HashMap::new(),
            records: BTreeMap::new(),
            history: BTreeMap::new(),
            late_attempts: BTreeSet::new(),
            groups: groups::Groups::default(),
            holds: holds::Holds::default(),
            events: Vec::new(),
            evidence: Vec::new(),
            counts: BTreeMap::new(),
            results: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            free_keys: Vec::new(),
            dropped_keys: Vec::new(),
            to_tell: Vec::new(),
            stale_ready: Vec::new(),
            in_segments: HashSet::new(),
            segments_left: Vec::new(),
        }
    }

    pub(crate) async fn rows(&mut self, sql: sql::Sql, params: Params) -> Outcome<Vec<Row>> {
        self.tx.rows(sql, params).await
    }

    /// Reads queues into this transaction. Gives their numbers.
    pub(crate) fn read_queues(&mut self, rows: &[Row]) -> Outcome<Vec<QueueNumber>> {
        rows.iter()
            .map(|row| {
                let number: QueueNumber = row.try_get(0)?;
                let name = QueueName::new(row.try_get::<_, &str>(1)?);
                let name = name.map_err(|_| corrupt("a queue's name that is none"))?;
                let settings = serde_json::from_str(row.try_get(3)?);
                let settings =
                    settings.map_err(|error| corrupt(&format!("the settings of {name}: {error}")))?;
                self.queues.insert(number, Queue { name, alive: row.try_get(2)?, settings });
                Ok(number)
            })
            .collect()
    }

    /// The number of a queue by its name, if there ever was one.
    pub(crate) async fn queue_number(&mut self, name: &QueueName) -> Outcome<Option<QueueNumber>> {
        let rows = self.rows(sql::QUEUES_BY_NAME, params![vec![name.as_str().to_owned()]]).await?;
        Ok(self.read_queues(&rows)?.pop())
    }

    /// A queue that was read.
    pub(crate) fn queue(&self, number: QueueNumber) -> Outcome<&Queue> {
        self.queues.get(&number).ok_or_else(|| corrupt("a queue that is not there"))
    }

    pub(crate) fn queue_mut(&mut self, number: QueueNumber) -> Outcome<&mut Queue> {
        self.queues.get_mut(&number).ok_or_else(|| corrupt("a queue that is not there"))
    }

    /// Locks jobs, waiting for whoever has them, and loads those that are there.
    pub(crate) async fn load(&mut self, seqs: Vec<i64>) -> Outcome<()> {
        self.load_by(sql::LOCK_JOBS, seqs, Wanted::All).await.map(drop)
    }

    /// The same for ends of attempts: without specs of which those need nothing.
    pub(crate) async fn load_for_ends(&mut self, seqs: Vec<i64>) -> Outcome<()> {
        self.load_by(sql::LOCK_JOBS, seqs, Wanted::ForEnds).await.map(drop)
    }

    /// Locks and loads those jobs nobody else has locked. Gives their sequences.
    pub(crate) async fn load_free(&mut self, seqs: Vec<i64>) -> Outcome<BTreeSet<i64>> {
        self.load_by(sql::LOCK_FREE_JOBS, seqs, Wanted::All).await
    }

    /// The same for claims: with payloads, without leases.
    pub(crate) async fn load_for_claim(&mut self, seqs: Vec<i64>) -> Outcome<BTreeSet<i64>> {
        self.load_by(sql::LOCK_FREE_JOBS, seqs, Wanted::ForClaim).await
    }

    /// Learns how large the checkpoints of these are; only who ran before can have one.
    pub(crate) async fn weigh_checkpoints(&mut self, mut seqs: Vec<i64>) -> Outcome<()> {
        seqs.retain(|seq| self.record(*seq).is_some_and(|record| record.job.attempt.is_some()));
        if seqs.is_empty() {
            return Ok(());
        }
        for row in self.rows(sql::CHECKPOINT_BYTES, params![seqs]).await? {
            let (seq, bytes): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(record) = self.records.get_mut(&seq) {
                record.checkpoint_bytes = usize::try_from(bytes).unwrap_or(0);
            }
        }
        Ok(())
    }

    async fn load_by(
        &mut self,
        lock: sql::Sql,
        mut seqs: Vec<i64>,
        wanted: Wanted,
    ) -> Outcome<BTreeSet<i64>> {
        let passes_by = lock == sql::LOCK_FREE_JOBS;
        seqs.retain(|seq| !self.records.contains_key(seq));
        seqs.sort_unstable();
        seqs.dedup();
        if seqs.is_empty() {
            return Ok(BTreeSet::new());
        }
        // What is loaded by a statement of its own is as new as the locks.
        let mut batch = vec![(lock, params![seqs.clone()])];
        if wanted != Wanted::ForEnds {
            let inline = if wanted == Wanted::ForClaim { PAYLOAD_INLINE } else { -1 };
            batch.push((sql::LOAD_SPECS, params![seqs.clone(), inline]));
        }
        if wanted != Wanted::ForClaim {
            let mut queues = self.floors.queues();
            queues.retain(|queue| !self.queues.contains_key(queue));
            let queues: Vec<QueueNumber> = queues.into_iter().take(QUEUES_GUESSED).collect();
            batch.push((sql::LOAD_LEASES, params![seqs]));
            batch.push((sql::QUEUES_BY_NUMBER, params![queues]));
        }
        let mut replies = self.tx.pipeline(batch).await?.into_iter();
        let mut next = || replies.next().map(|reply| reply.rows).unwrap_or_default();
        let locked = next();
        let mut specs = if wanted == Wanted::ForEnds { Vec::new() } else { next() };
        let (leases, queues) =
            if wanted == Wanted::ForClaim { (Vec::new(), Vec::new()) } else { (next(), next()) };
        self.read_queues(&queues)?;
        self.read_queues_of(&locked).await?;
        let mut rows = BTreeMap::new();
        for row in &locked {
            let name = &self.queue(row.try_get(2)?)?.name;
            if let Some(read) = pass_by(passes_by, row, read_locked(row, name))? {
                rows.insert(seq_code(read.job.id), read);
            }
        }
        for row in &leases {
            if let Some(attempt) = rows.get_mut(&row.try_get(0)?).and_then(|read| read.job.attempt.as_mut()) {
                attempt.lease = duration(row.try_get(1)?)?;
                (attempt.lease_until, attempt.deadline) = (time(row.try_get(2)?)?, time(row.try_get(3)?)?);
            }
        }
        let extended: BTreeSet<i64> = leases.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if wanted == Wanted::ForEnds {
            let others = rows.iter().filter(|(_, read)| !read.plain).map(|(seq, _)| *seq);
            let others: Vec<i64> = others.collect();
            if !others.is_empty() {
                specs = self.rows(sql::LOAD_SPECS, params![others, -1]).await?;
            }
        }
        let mut loaded = HashMap::with_capacity(specs.len());
        for row in &specs {
            if let Some(spec) = pass_by(passes_by, row, read_spec(row))? {
                loaded.insert(spec.seq, spec);
            }
        }
        let mut there = BTreeSet::new();
        for (seq, read) in rows {
            let spec = match loaded.remove(&seq) {
                Some(spec) => spec,
                None if wanted == Wanted::ForEnds && read.plain => LoadedSpec::default(),
                None => continue,
            };
            there.insert(seq);
            let is_extended = extended.contains(&seq);
            self.records.insert(seq, Box::new(Record::loaded(read, spec, is_extended)));
        }
        Ok(there)
    }

    /// Reads the queues of locked jobs that are not known yet.
    async fn read_queues_of(&mut self, locked: &[Row]) -> Outcome<()> {
        let mut missing = BTreeSet::new();
        for row in locked {
            let queue: QueueNumber = row.try_get(2)?;
            if !self.queues.contains_key(&queue) {
                missing.insert(queue);
            }
        }
        if !missing.is_empty() {
            let missing: Vec<QueueNumber> = missing.into_iter().collect();
            let rows = self.rows(sql::QUEUES_BY_NUMBER, params![missing]).await?;
            self.read_queues(&rows)?;
        }
        Ok(())
    }

    /// A job by its id, if it was loaded and is there.
    pub(crate) fn find(&self, id: JobId) -> Option<&Record> {
        self.record(seq_code(id)).filter(|record| record.job.id == id)
    }

    pub(crate) fn record(&self, seq: i64) -> Option<&Record> {
        self.records.get(&seq).map(Box::as_ref)
    }

    /// Loads the earlier attempts of jobs.
    pub(crate) async fn load_history(&mut self, seqs: Vec<i64>) -> Outcome<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        for row in self.rows(sql::ATTEMPTS, params![seqs]).await? {
            let (seq, attempt) = read_attempt_row(&row)?;
            self.history.entry(seq).or_default().push(attempt);
        }
        Ok(())
    }

    /// Draws sequences for jobs.
    pub(crate) async fn take_seqs(&mut self, count: usize) -> Outcome<std::vec::IntoIter<i64>> {
        if count == 0 {
            return Ok(Vec::new().into_iter());
        }
        let count = i32::try_from(count).map_err(|_| Fault::Engine(onefold_core::EngineError::Busy))?;
        let rows = self.rows(sql::SEQ_TAKE, params![count]).await?;
        let mut seqs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        seqs.sort_unstable();
        Ok(seqs.into_iter())
    }

    pub(crate) fn new_id(&self, seq: i64) -> Outcome<JobId> {
        job_id(self.now.as_unix_ms(), seq)
    }
}
