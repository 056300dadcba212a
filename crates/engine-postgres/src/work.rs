//! The unit of work: a transaction that loads jobs under their locks, changes them by the rules of
//! the core, and writes what follows from that in one go.

mod changes;
mod flush;
mod groups;
mod holds;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    Attempt, Backoff, DurationMs, Entropy, EventKind, EvidenceKind, Job, JobId, JobSpec,
    Outcome as AttemptOutcome, QueueName, QueueSettings, RetryPolicy, Timestamp, limits,
};
use tokio_postgres::Row;

pub(crate) use groups::GroupPlace;
pub(crate) use holds::{KeyPlace, Space};

use crate::error::{Fault, Outcome, corrupt};
use crate::floors::{Floors, LineMoves, LinePlace};
use crate::place::Places;
use crate::pool::{Params, Transaction};
use crate::rows::{QueueNumber, job_id, read_attempt_row, read_job, seq_code};
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

    pub(crate) fn timeout(&self) -> DurationMs {
        self.spec.timeout.unwrap_or(limits::ATTEMPT_TIMEOUT)
    }

    pub(crate) fn places(&self) -> Places {
        Places::of(&self.job, self.blocks, self.spec.retain)
    }

    fn group(&self) -> Option<GroupPlace> {
        let group = self.spec.group.as_ref()?;
        Some((self.queue, group.as_str().to_owned()))
    }
}

/// What others are to be told once the transaction is durable.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Queues in which something may have become leasable.
    pub(crate) leasable: BTreeSet<QueueName>,
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
    records: BTreeMap<i64, Record>,
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
    stale_ready: Vec<(QueueNumber, i16, i64)>,
    /// Jobs of this transaction that stand in segments it claimed.
    pub(crate) in_segments: HashSet<i64>,
    /// What it leaves of those.
    segments_left: Vec<(QueueNumber, LinePlace, Vec<i64>)>,
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
        self.load_by(sql::LOCK_JOBS, seqs, false).await.map(drop)
    }

    /// Locks and loads those jobs nobody else has locked. Gives their sequences.
    pub(crate) async fn load_free(&mut self, seqs: Vec<i64>) -> Outcome<BTreeSet<i64>> {
        self.load_by(sql::LOCK_FREE_JOBS, seqs, true).await
    }

    async fn load_by(
        &mut self,
        lock: sql::Sql,
        mut seqs: Vec<i64>,
        passes_by: bool,
    ) -> Outcome<BTreeSet<i64>> {
        seqs.retain(|seq| !self.records.contains_key(seq));
        seqs.sort_unstable();
        seqs.dedup();
        if seqs.is_empty() {
            return Ok(BTreeSet::new());
        }
        // What is loaded by a statement of its own is as new as the locks.
        let batch = vec![
            (lock, params![seqs.clone()]),
            (sql::LOAD_JOBS, params![seqs.clone()]),
            (sql::QUEUES_OF_JOBS, params![seqs]),
        ];
        let mut replies = self.tx.pipeline(batch).await?.into_iter();
        let mut next = || replies.next().map(|reply| reply.rows).unwrap_or_default();
        let (locked, loaded, queues) = (next(), next(), next());
        let locked: BTreeSet<i64> = locked.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.read_queues(&queues)?;
        let mut there = BTreeSet::new();
        for row in &loaded {
            let read = match read_job(row) {
                Ok(read) => read,
                // One damaged job keeps nobody from the others.
                Err(fault) if passes_by => {
                    tracing::error!(seq = row.try_get::<_, i64>(0)?, ?fault, "a damaged job is passed over");
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let seq = seq_code(read.job.id);
            if !locked.contains(&seq) {
                continue;
            }
            there.insert(seq);
            let places = Places::of(&read.job, read.blocks, read.spec.retain);
            let record = Record {
                queue: read.queue,
                backoff: read.spec.backoff.clone().unwrap_or_default(),
                stored: Some(Stored { job: read.job.clone(), blocks: read.blocks, places }),
                job: read.job,
                spec: read.spec,
                blocks: read.blocks,
                payload_bytes: read.payload_bytes,
                write_spec: WriteSpec::Nothing,
                earlier: Vec::new(),
            };
            self.records.insert(seq, record);
        }
        Ok(there)
    }

    /// A job by its id, if it was loaded and is there.
    pub(crate) fn find(&self, id: JobId) -> Option<&Record> {
        self.records.get(&seq_code(id)).filter(|record| record.job.id == id)
    }

    pub(crate) fn record(&self, seq: i64) -> Option<&Record> {
        self.records.get(&seq)
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
