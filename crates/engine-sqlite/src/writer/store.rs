//! The writer's view of the store inside a transaction: jobs by sequence, every change along the
//! rules of the core, and everything that follows from a change (sets, timers, counts, groups,
//! keys, events), flushed to the file before the commit.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use onefold_core::schedule::ScheduleEvent;
use onefold_core::{
    Backoff, DurationMs, Entropy, Event, EventKind, EvidenceKind, FreeOn, Group, Job, JobSpec, Key, Lane,
    Outcome as AttemptOutcome, QueueName, RetryPolicy, Seq, Starts, State, Timestamp, TokenSequence, limits,
};

use super::memory::{Counters, Line, Memory, QueueId, SetName};
use super::queue::Queue;
use super::schedules::DueSchedules;
use crate::error::StoreResult;
use crate::events::{EventLog, NewEvent};
use crate::key_index::KeyHasher;
use crate::ledger_id::LedgerId;
use crate::rows::{self, JobRow};
use crate::sets::bucket_of;
use crate::statements::Statements;

/// Events of one commit go to a new row after so many.
pub(crate) const EVENTS_PER_ROW: u32 = 4_096;

/// What of a job's spec its life depends on.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) key: Option<Key>,
    pub(crate) free_on: FreeOn,
    pub(crate) group: Option<Group>,
    pub(crate) lane: Lane,
    /// Somebody is to be told of its end.
    tells: bool,
    backoff: Option<Arc<Backoff>>,
    timeout: DurationMs,
}

impl Terms {
    pub(crate) fn of(spec: &JobSpec) -> Terms {
        Terms {
            key: spec.key.clone(),
            free_on: spec.dedup.free_on,
            group: spec.group.clone(),
            backoff: spec.backoff.clone().map(Arc::new),
            lane: spec.target.lane(),
            tells: spec.on_success.is_some() || spec.on_failure.is_some(),
            timeout: spec.attempt_timeout(),
        }
    }

    pub(crate) fn timeout(&self) -> DurationMs {
        self.timeout
    }
}

/// How a job in memory differs from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    Nothing,
    Insert,
    Update,
}

/// A job in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) queue: QueueId,
    pub(crate) retain: Option<DurationMs>,
    pub(crate) terms: Terms,
    /// Kept only within the transaction that added or read it.
    pub(crate) spec: Option<JobSpec>,
    pub(super) pending: Pending,
}

impl Entry {
    pub(crate) fn new(job: Job, queue: QueueId, spec: JobSpec) -> Entry {
        let terms = Terms::of(&spec);
        Entry { job, queue, retain: spec.retain, terms, spec: Some(spec), pending: Pending::Insert }
    }

    /// As it was stored.
    pub(super) fn read(row: JobRow, spec: JobSpec) -> Entry {
        let terms = Terms::of(&spec);
        let JobRow { job, queue, retain } = row;
        Entry { job, queue, retain, terms, spec: Some(spec), pending: Pending::Nothing }
    }

    pub(crate) fn seq(&self) -> u64 {
        self.job.id.seq().get()
    }

    /// Where it stands in line when it does.
    pub(crate) fn line(&self) -> Line {
        Line { queue: self.queue, lane: self.terms.lane }
    }

    /// Marks the row as different from the one on disk.
    pub(crate) fn touch(&mut self) {
        if self.pending == Pending::Nothing {
            self.pending = Pending::Update;
        }
    }
}

/// Where a job stands in memory's indexes; a function of the job alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) state: State,
    /// In the ready set unless its group says otherwise.
    pub(super) ready: Option<i16>,
    pub(super) timer: Option<Timestamp>,
    pub(super) deadline: Option<Timestamp>,
}

impl Places {
    pub(super) fn of(job: &Job) -> Places {
        let one_ms = DurationMs::from_ms(1);
        let timer = match job.state {
            State::Scheduled | State::Retrying => Some(job.run_at),
            State::Available => job.retry_until.map(|until| until.saturating_add(one_ms)),
            State::Running | State::Completed | State::Dead | State::Cancelled => None,
        };
        let running = job.attempt.as_ref().filter(|_| job.state == State::Running);
        Places {
            state: job.state,
            ready: (job.state == State::Available).then_some(job.priority),
            timer,
            deadline: running.map(|attempt| attempt.lease_until.min(attempt.deadline)),
        }
    }
}

/// See the [module](self).
pub(crate) struct Store<'c> {
    pub(crate) stmts: Statements<'c>,
    pub(crate) mem: Memory,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) hasher: KeyHasher,
    pub(crate) tokens: TokenSequence,
    /// The one time of a transaction.
    pub(crate) now: Timestamp,
    pub(super) cache: HashMap<u64, Box<Entry>>,
    pub(super) touched: Vec<u64>,
    /// A row being put together.
    pub(super) buffer: Vec<u8>,
    pub(super) default_backoff: Backoff,
    pub(super) events: EventLog,
    /// Jobs that finished in this transaction.
    pub(crate) finished: Vec<u64>,
    /// Jobs that finished and of whose end somebody is to be told.
    pub(super) to_tell: Vec<u64>,
    /// Attempts that ended in this transaction.
    pub(crate) ended: Vec<AttemptOutcome>,
    /// Timers up to this bucket are in memory; and when the transaction began.
    pub(crate) timers_loaded: i64,
    pub(super) timers_loaded_before: i64,
    /// Queues changed by the transaction, to be shown to readers.
    pub(super) shown: Vec<QueueId>,
    /// The numbers as they are on disk.
    pub(super) stored: (Counters, u64),
    /// The job that is looked at because of where it stands, not because somebody named it. If
    /// its rows are damaged, nobody is told, and the others go on without it.
    pub(super) in_turn: Option<u64>,
    /// Ledger entries that cannot be read: each is told once, not with every tick.
    pub(super) damaged_entries: HashSet<LedgerId>,
    /// The line deliveries were last leased from: the next turn is of the one behind it.
    pub(super) last_delivery_line: Option<Line>,
    /// Memory the key index may take.
    pub(super) key_index_bytes: usize,
    /// The next time an effect has to be looked at, or earlier.
    pub(super) effects_due: Option<Timestamp>,
    /// When schedules are to be evaluated.
    pub(super) schedules: DueSchedules,
}

impl<'c> Store<'c> {
    #[allow(clippy::too_many_arguments, reason = "the parts of one store, put together once")]
    pub(crate) fn new(
        stmts: Statements<'c>,
        mem: Memory,
        entropy: Arc<dyn Entropy>,
        hasher: KeyHasher,
        tokens: TokenSequence,
        now: Timestamp,
        key_index_bytes: usize,
    ) -> Store<'c> {
        let stored = (mem.counters, 0);
        Store {
            stmts,
            mem,
            entropy,
            hasher,
            tokens,
            now,
            cache: HashMap::new(),
            touched: Vec::new(),
            buffer: Vec::new(),
            default_backoff: Backoff::default(),
            events: EventLog::default(),
            finished: Vec::new(),
            to_tell: Vec::new(),
            ended: Vec::new(),
            timers_loaded: -1,
            timers_loaded_before: -1,
            shown: Vec::new(),
            stored,
            in_turn: None,
            damaged_entries: HashSet::new(),
            last_delivery_line: None,
            key_index_bytes,
            effects_due: Some(Timestamp::EPOCH),
            schedules: DueSchedules::default(),
        }
    }

    // Changes.

    /// Applies `change` to a job and brings everything that follows from it up to date. `event`
    /// is what the change is; finished states speak for themselves.
    pub(crate) fn change<E>(
        &mut self,
        entry: &mut Entry,
        event: Option<Event>,
        change: impl FnOnce(&mut Job, RetryPolicy<'_>, &dyn Entropy, Timestamp) -> Result<(), E>,
    ) -> StoreResult<Result<(), E>> {
        let before = Places::of(&entry.job);
        let was_open = entry.job.attempt.as_ref().is_some_and(|attempt| attempt.end.is_none());
        let group = entry.terms.group.clone();
        let head_before = match &group {
            Some(group) => self.group_head(entry, group)?,
            None => None,
        };
        let backoff = entry.terms.backoff.clone();
        let policy = RetryPolicy {
            backoff: backoff.as_deref().unwrap_or(&self.default_backoff),
            timeout: entry.terms.timeout(),
        };
        if let Err(refused) = change(&mut entry.job, policy, self.entropy.as_ref(), self.now) {
            return Ok(Err(refused));
        }
        entry.touch();
        let after = Places::of(&entry.job);
        let seq = entry.seq();
        self.move_places(entry, &before, &after, group.is_none())?;
        if let Some(group) = &group {
            self.move_group(entry, group, &before, &after, head_before)?;
        }
        if let Some(end) = entry.job.attempt.as_ref().filter(|_| was_open).and_then(|a| a.end.as_ref()) {
            self.ended.push(end.outcome);
        }
        if let Some(event) = event {
            self.emit(told_as(event, after.state), entry.queue, Some(&entry.job));
        }
        if after.state.is_finished() && !before.state.is_finished() {
            self.finished.push(seq);
            // Without an event it goes with its queue.
            if entry.terms.tells && event.is_some() {
                self.to_tell.push(seq);
            }
            self.note_retention(entry);
            if entry.terms.free_on.frees(after.state) {
                self.free_key_of(entry)?;
            }
            // Without an event the job goes with its queue, and nobody goes on.
            if let Some(group) = group.as_ref().filter(|_| event.is_some()) {
                self.tell_group_passed(entry, group, after.state)?;
            }
        }
        if self.events_pending() >= EVENTS_PER_ROW {
            self.flush_events()?;
        }
        Ok(Ok(()))
    }

    /// Enters a job that was just made.
    pub(crate) fn enter(&mut self, entry: &mut Entry) -> StoreResult<()> {
        let places = Places::of(&entry.job);
        let seq = entry.seq();
        if let Some(counts) = self.mem.counts(entry.queue) {
            counts.accepted += 1;
            counts.shift(None, Some(places.state));
        }
        if let Some(at) = places.timer {
            self.insert_timer(at, seq)?;
        }
        match (entry.terms.group.clone(), entry.job.group_order) {
            (Some(group), Some(order)) => {
                let head_before = self.group_head(entry, &group)?;
                self.stmts.group_put.execute((entry.queue, group.as_str(), order as i64, seq as i64))?;
                self.regroup(entry, &group, head_before)?;
            }
            _ => {
                if let Some(priority) = places.ready {
                    self.mem.insert(SetName::Ready(entry.line(), priority), seq);
                }
            }
        }
        self.emit(EventKind::Added, entry.queue, Some(&entry.job));
        Ok(())
    }

    /// Gives a job that has not started other terms, which may be another line.
    pub(crate) fn replace_terms(&mut self, entry: &mut Entry, terms: Terms) -> StoreResult<()> {
        let (places, seq, line) = (Places::of(&entry.job), entry.seq(), entry.line());
        let group = entry.terms.group.clone();
        let head_before = match &group {
            Some(group) => self.group_head(entry, group)?,
            None => None,
        };
        entry.terms = terms;
        match (&group, places.ready) {
            (Some(group), _) => self.regroup(entry, group, head_before)?,
            (None, Some(priority)) if entry.line() != line => {
                self.mem.remove(SetName::Ready(line, priority), seq);
                self.mem.insert(SetName::Ready(entry.line(), priority), seq);
            }
            (None, _) => {}
        }
        Ok(())
    }

    fn move_places(
        &mut self,
        entry: &Entry,
        before: &Places,
        after: &Places,
        ungrouped: bool,
    ) -> StoreResult<()> {
        let (seq, queue) = (entry.seq(), entry.queue);
        if before.state != after.state {
            if let Some(counts) = self.mem.counts(queue) {
                counts.shift(Some(before.state), Some(after.state));
            }
            if before.state == State::Running {
                self.mem.remove(SetName::Running, seq);
                if self.mem.queue(queue).is_some_and(|queue| queue.settings.concurrency.is_some()) {
                    self.mem.wake(queue);
                }
            }
            if after.state == State::Running {
                self.mem.insert(SetName::Running, seq);
            }
        }
        if ungrouped && before.ready != after.ready {
            if let Some(priority) = before.ready {
                self.mem.remove(SetName::Ready(entry.line(), priority), seq);
            }
            if let Some(priority) = after.ready {
                self.mem.insert(SetName::Ready(entry.line(), priority), seq);
            }
        }
        if before.timer != after.timer {
            if let Some(at) = before.timer {
                self.remove_timer(at, seq)?;
            }
            if let Some(at) = after.timer {
                self.insert_timer(at, seq)?;
            }
        }
        if before.deadline != after.deadline {
            if let Some(at) = before.deadline {
                self.mem.remove_deadline(at, seq);
            }
            if let Some(at) = after.deadline {
                self.mem.insert_deadline(at, seq);
            }
        }
        Ok(())
    }

    fn note_retention(&mut self, entry: &Entry) {
        let Some(finished_at) = entry.job.finished_at else { return };
        let queue_keeps = self.mem.queue(entry.queue).map(|queue| queue.settings.retention(entry.job.state));
        let keep = entry.retain.or(queue_keeps).unwrap_or(limits::RETAIN_COMPLETED);
        let at = finished_at.saturating_add(keep);
        let bucket = bucket_of(entry.seq());
        if self.mem.retention(bucket).is_none_or(|known| at < known) {
            self.mem.set_retention(bucket, Some(at));
        }
    }

    // Events and evidence.

    pub(crate) fn emit(&mut self, kind: EventKind, queue: QueueId, job: Option<&Job>) {
        let reason = job.and_then(|job| job.reason).filter(|_| kind == EventKind::Dead);
        let attempt = job.map_or(0, Job::attempts);
        let job = job.map(|job| job.id);
        self.events.push(NewEvent { kind, queue, job, reason, attempt, schedule: None }, self.now);
        self.mem.counters.next_event += 1;
    }

    pub(super) fn emit_schedule(&mut self, kind: EventKind, queue: QueueId, about: ScheduleEvent) {
        let schedule = Some(about);
        self.events.push(NewEvent { kind, queue, job: None, reason: None, attempt: 0, schedule }, self.now);
        self.mem.counters.next_event += 1;
    }

    /// Notes something that happened to a job, with its number among those of its kind.
    pub(crate) fn note(
        &mut self,
        seq: u64,
        kind: EvidenceKind,
        number: u32,
        note: Option<&str>,
    ) -> StoreResult<()> {
        let kept = limits::EVIDENCE_KEPT;
        let slot = if number <= kept { number - 1 } else { kept + (number - kept - 1) % kept };
        let columns = (seq as i64, rows::evidence_code(kind), slot, number, self.now.as_unix_ms(), note);
        self.stmts.evidence_put.execute(columns)?;
        Ok(())
    }

    /// Notes something of a seldom kind.
    pub(crate) fn note_next(&mut self, seq: u64, kind: EvidenceKind, note: Option<&str>) -> StoreResult<()> {
        let code = rows::evidence_code(kind);
        let last: u32 = self.stmts.evidence_last.query_row((seq as i64, code), |row| row.get(0))?;
        self.note(seq, kind, last.saturating_add(1), note)
    }

    // Numbers and queues.

    pub(crate) fn take_seq(&mut self) -> u64 {
        let seq = self.mem.counters.next_seq;
        self.mem.counters.next_seq = Seq::new(seq).map_or(seq, |seq| seq.next().get());
        seq
    }

    /// The queue of that name, made if there is none.
    pub(crate) fn queue_made(&mut self, name: &QueueName) -> StoreResult<QueueId> {
        if let Some(id) = self.mem.queue_id(name) {
            return Ok(id);
        }
        let id = self.mem.counters.next_queue;
        self.mem.counters.next_queue += 1;
        let queue = Queue {
            name: name.clone(),
            settings: Arc::default(),
            counts: Default::default(),
            starts: Starts::default(),
        };
        let (settings, counts, starts) = queue.stored()?;
        self.stmts.queue_insert.execute((id, name.as_str(), settings, counts, starts))?;
        self.mem.put_queue(id, Some(queue));
        Ok(id)
    }
}

/// The event that tells of `event` once it led to `state`.
fn told_as(event: Event, state: State) -> EventKind {
    match state {
        State::Completed => EventKind::Completed,
        State::Dead => EventKind::Dead,
        State::Cancelled => EventKind::Cancelled,
        State::Scheduled | State::Available | State::Running | State::Retrying => EventKind::of(event),
    }
}
