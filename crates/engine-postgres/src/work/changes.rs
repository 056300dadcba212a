//! What happens to jobs, and what follows from it.

use bytes::Bytes;
use onefold_core::schedule::ScheduleEvent;
use onefold_core::{
    Attempt, Entropy, Event, EventKind, EvidenceKind, Job, JobId, JobSpec, LateEvidence, OnDead, State,
    Timestamp, rules,
};

use super::{
    ACCEPTED, DUPLICATES, EventRow, EvidenceRow, FIRST_STATE, LATE_WRITES, MISMATCHES, Record, Work,
    WriteSpec,
};
use crate::error::{Outcome, corrupt};
use crate::floors::LinePlace;
use crate::rows::{Coded, LineNumber, QueueNumber, seq_code};

fn state_count(state: State) -> usize {
    FIRST_STATE + usize::try_from(state.code()).unwrap_or(0)
}

impl Work {
    pub(crate) fn count(&mut self, queue: QueueNumber, what: usize, by: i64) {
        let counts = self.counts.entry(queue).or_default();
        if let Some(count) = counts.get_mut(what) {
            *count += by;
        }
    }

    pub(crate) fn shift(&mut self, queue: QueueNumber, from: Option<State>, to: Option<State>) {
        if let Some(from) = from {
            self.count(queue, state_count(from), -1);
        }
        if let Some(to) = to {
            self.count(queue, state_count(to), 1);
        }
    }

    pub(crate) fn emit(&mut self, kind: EventKind, queue: QueueNumber, job: Option<&Job>) {
        let reason = job.and_then(|job| job.reason).filter(|_| kind == EventKind::Dead).map(Coded::code);
        let attempt = job.map_or(0, Job::attempts);
        let job = job.map(|job| job.id);
        self.events.push(EventRow { kind, queue, job, reason, attempt, schedule: None });
    }

    /// Like [`Work::emit`], for a job that is not loaded.
    pub(crate) fn emit_of(&mut self, kind: EventKind, queue: QueueNumber, job: JobId, attempt: u32) {
        self.events.push(EventRow { kind, queue, job: Some(job), reason: None, attempt, schedule: None });
    }

    /// An event of a schedule, under its queue.
    pub(crate) fn emit_schedule(&mut self, kind: EventKind, queue: QueueNumber, about: ScheduleEvent) {
        let schedule = Some(about);
        self.events.push(EventRow { kind, queue, job: None, reason: None, attempt: 0, schedule });
    }

    pub(crate) fn note(&mut self, seq: i64, kind: EvidenceKind, number: Option<u32>, note: Option<String>) {
        self.evidence.push(EvidenceRow { seq, kind, number, note });
    }

    /// Applies `change` to a loaded job and records what follows from where it went.
    pub(crate) fn change<E>(
        &mut self,
        seq: i64,
        change: impl FnOnce(&mut Record, Timestamp, &dyn Entropy) -> Result<Option<Event>, E>,
    ) -> Outcome<Result<(), E>> {
        let now = self.now;
        let mut record = self.records.remove(&seq).ok_or_else(|| corrupt("a job that was not loaded"))?;
        let (from, was, priority) = (record.job.state, record.places(), record.job.priority);
        let was_open = record.job.attempt.as_ref().is_some_and(|attempt| attempt.end.is_none());
        let changed = change(&mut record, now, self.entropy.as_ref());
        if let Ok(event) = &changed {
            self.follow(&mut record, *event, from, was_open);
        }
        let (queue, id, state, is) = (record.queue, record.job.id, record.job.state, record.places());
        let (key, frees) = (record.spec.key.clone(), record.spec.dedup.free_on.frees(state));
        let finishes = state.is_finished() && !from.is_finished();
        if finishes {
            self.effects.finished.push(id);
            // Without an event it goes with its queue.
            if record.spec.told_of(state).is_some() && changed.as_ref().is_ok_and(Option::is_some) {
                self.to_tell.push(seq);
            }
            if let Some(key) = key.filter(|_| frees) {
                self.free_key(queue, &key, seq);
            }
            let passes = state != State::Completed && self.on_dead(queue) == OnDead::Continue;
            if passes && self.leads_others(&record) {
                self.emit(EventKind::GroupPassed, queue, Some(&record.job));
            }
        }
        let moved = was.member != is.member || priority != record.job.priority;
        let in_group = record.job.group_order.is_some() && moved;
        let way_cleared = was.lease.is_some() && is.lease.is_none();
        let is_http = record.spec.target.lane().is_http();
        self.records.insert(seq, record);
        if in_group {
            self.move_member(seq, was.member);
        }
        if is.ready.is_some() && was.ready != is.ready || way_cleared {
            self.effects.deliveries |= is_http || self.is_limited(queue);
            self.hint(queue);
        }
        Ok(changed.map(drop))
    }

    fn follow(&mut self, record: &mut Record, event: Option<Event>, from: State, was_open: bool) {
        let state = record.job.state;
        if state != from {
            // Decided once: what the queue says later only lets go.
            let ended_badly = matches!(state, State::Dead | State::Cancelled);
            record.blocks = ended_badly && self.on_dead(record.queue) == OnDead::Block;
            self.shift(record.queue, Some(from), Some(state));
        }
        if let Some(end) =
            record.job.attempt.as_ref().filter(|_| was_open).and_then(|attempt| attempt.end.as_ref())
        {
            *self.effects.outcomes.entry(end.outcome).or_default() += 1;
        }
        let told = event.map(|event| match state {
            State::Completed => EventKind::Completed,
            State::Dead => EventKind::Dead,
            State::Cancelled => EventKind::Cancelled,
            State::Scheduled | State::Available | State::Running | State::Retrying => EventKind::of(event),
        });
        if let Some(kind) = told {
            self.emit(kind, record.queue, Some(&record.job));
        }
    }

    /// Whether the end of a job of a queue lets another one run.
    fn is_limited(&self, queue: QueueNumber) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.settings.concurrency.is_some())
    }

    /// Tells that something in a queue may have become leasable.
    pub(crate) fn hint(&mut self, queue: QueueNumber) {
        if let Some(queue) = self.queues.get(&queue) {
            self.effects.leasable.insert(queue.name.clone());
        }
    }

    /// Takes a row out of the line that stands for nobody.
    pub(crate) fn drop_ready(&mut self, line: LineNumber, priority: i16, seq: i64) {
        self.stale_ready.push((line, priority, seq));
    }

    /// Leaves these in a segment, or takes it out of the line.
    pub(crate) fn leave_segment(&mut self, line: LineNumber, at: LinePlace, left: Vec<i64>) {
        self.segments_left.push((line, at, left));
    }

    /// Accepts a new job.
    pub(crate) fn insert(&mut self, queue: QueueNumber, job: Job, spec: JobSpec) {
        let (seq, state) = (seq_code(job.id), job.state);
        self.count(queue, ACCEPTED, 1);
        self.shift(queue, None, Some(state));
        self.emit(EventKind::Added, queue, Some(&job));
        let record = Record {
            queue,
            payload_bytes: spec.payload.len(),
            checkpoint_bytes: 0,
            has_payload: true,
            plain: false,
            is_extended: false,
            place: None,
            backoff: spec.backoff.clone().unwrap_or_default(),
            job,
            spec,
            blocks: false,
            stored: None,
            write_spec: WriteSpec::All,
            earlier: Vec::new(),
        };
        if let Some(group) = record.group().filter(|_| state == State::Available) {
            self.groups.dirty.insert(group);
        }
        if state == State::Available {
            self.effects.deliveries |= record.spec.target.lane().is_http();
            self.hint(queue);
        }
        self.records.insert(seq, Box::new(record));
    }

    /// Changes a loaded job without moving it.
    pub(crate) fn touch(&mut self, seq: i64, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(&seq) {
            change(record);
        }
    }

    /// Puts new content into a job that has not started.
    pub(crate) fn put_spec(&mut self, seq: i64, spec: JobSpec) {
        // Whoever stands in line for a group may stand in another one now.
        let other_line = |record: &&Record| record.spec.target.lane() != spec.target.lane();
        let group = self.record(seq).filter(other_line).and_then(Record::group);
        self.effects.deliveries |= spec.target.lane().is_http();
        if let Some(group) = group {
            self.publish_again(group);
        }
        self.touch(seq, |record| {
            record.backoff = spec.backoff.clone().unwrap_or_default();
            record.payload_bytes = spec.payload.len();
            record.spec = spec;
            record.write_spec = WriteSpec::All;
        });
    }

    pub(crate) fn put_labels(&mut self, seq: i64, labels: Vec<onefold_core::Label>) {
        self.touch(seq, |record| {
            record.spec.labels = labels;
            if record.write_spec == WriteSpec::Nothing {
                record.write_spec = WriteSpec::Labels;
            }
        });
    }

    pub(crate) fn put_result(&mut self, seq: i64, result: Option<Bytes>) {
        self.results.insert(seq, result);
    }

    /// The result this transaction put.
    pub(crate) fn new_result(&self, seq: i64) -> Option<&Bytes> {
        self.results.get(&seq).and_then(Option::as_ref)
    }

    pub(crate) fn take_to_tell(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.to_tell)
    }

    pub(crate) fn put_checkpoint(&mut self, seq: i64, value: Bytes) {
        self.checkpoints.insert(seq, value);
    }

    /// Keeps the attempt that gave way to a new one.
    pub(crate) fn keep_attempt(record: &mut Record, earlier: Option<Attempt>) {
        record.earlier.extend(earlier);
    }

    /// Notes that an add was answered with this job.
    pub(crate) fn duplicate(&mut self, queue: QueueNumber, id: JobId) {
        self.count(queue, DUPLICATES, 1);
        let job = self
            .find(id)
            .is_some()
            .then(|| self.count_on(seq_code(id), EvidenceKind::DuplicateAdd))
            .flatten();
        self.emit(EventKind::Duplicate, queue, job.as_ref());
    }

    /// Notes that an add was refused because this job has its key.
    pub(crate) fn mismatch(&mut self, queue: QueueNumber, id: JobId) {
        self.count(queue, MISMATCHES, 1);
        let job =
            self.find(id).is_some().then(|| self.count_on(seq_code(id), EvidenceKind::Mismatch)).flatten();
        self.emit(EventKind::Mismatch, queue, job.as_ref());
    }

    /// Counts evidence of a kind that jobs count themselves.
    pub(crate) fn count_on(&mut self, seq: i64, kind: EvidenceKind) -> Option<Job> {
        let record = self.records.get_mut(&seq)?;
        let counter = match kind {
            EvidenceKind::Mismatch => &mut record.job.mismatches,
            _ => &mut record.job.duplicates,
        };
        *counter = counter.saturating_add(1);
        let (number, job) = (*counter, record.job.clone());
        self.note(seq, kind, Some(number), None);
        Some(job)
    }

    /// Records a write that came with an old token (I5). Gives the first answer, if it is that write again (I6).
    pub(crate) fn late(&mut self, op: &onefold_core::SettleOp) -> Option<State> {
        let seq = seq_code(op.id);
        let now = self.now;
        let record = self.records.get_mut(&seq)?;
        let earlier = self.history.entry(seq).or_default();
        let attempt = earlier.iter_mut().chain(&mut record.job.attempt).find(|a| a.token == op.token);
        let Some(attempt) = attempt else {
            self.note(seq, EvidenceKind::ForeignToken, None, None);
            return self.refuse_late(seq);
        };
        if let onefold_core::SettleAction::End(end) = &op.action {
            if let Some(state) = attempt.replay(end) {
                return Some(state);
            }
            if let Some(evidence) = end.late_evidence() {
                let (number, late): (u32, LateEvidence) = (attempt.number, evidence);
                attempt.record_late(late, now);
                self.late_attempts.insert((seq, number));
            }
        }
        self.refuse_late(seq)
    }

    fn refuse_late(&mut self, seq: i64) -> Option<State> {
        let (queue, job) = self.records.get(&seq).map(|record| (record.queue, record.job.clone()))?;
        self.count(queue, LATE_WRITES, 1);
        self.emit(EventKind::LateWrite, queue, Some(&job));
        None
    }

    /// Tells that a group goes on because its finished head, which blocked it, is about to go.
    pub(crate) fn tell_group_unblocked(&mut self, seq: i64) {
        let Some(record) = self.records.get(&seq).filter(|record| record.blocks).cloned() else { return };
        if self.leads_others(&record) {
            self.emit(EventKind::GroupPassed, record.queue, Some(&record.job));
        }
    }

    /// Ends a job whose last moment to start has passed.
    pub(crate) fn expire(&mut self, seq: i64) -> Outcome<()> {
        let done = self
            .change(seq, |record, now, _| rules::expire(&mut record.job, now).map(|()| Some(Event::Died)))?;
        done.map_err(|illegal| corrupt(&illegal.to_string()))
    }
}
