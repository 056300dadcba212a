//! The store of the reference engine: plain maps, searched from end to end, so that there is
//! little to be wrong. Slow on purpose.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use crate::rules::{self, RetryRefusal};
use crate::schedule::{ScheduleEvent, ScheduleId, ScheduleView, Tick, TickKey};
use crate::{
    AddParams, Added, Attempt, Backoff, DeliveryParams, DurationMs, Effect, EffectName, Entropy, Event,
    EventCursor, EventKind, Evidence, EvidenceKind, FencingToken, Fingerprint, GroupHead, Hold, Holder,
    ItemResult, Job, JobEdit, JobFilter, JobId, JobSpec, JobStatus, JobView, Key, Lane, LeaseParams,
    LeasedJob, NewJob, OnDead, Outcome, QueueCounts, QueueName, QueueSettings, Refusal, RepeatDecision,
    RetryPolicy, Seq, Setting, SettleAction, SettleOp, Settled, Starts, State, StoreEvent, Timestamp,
    TokenSequence, Waiting, WorkerName, callback, decide_repeat, limits, replaced_run_at, run_at,
};

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) job: Job,
    pub(super) spec: JobSpec,
    pub(super) earlier: Vec<Attempt>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) result: Option<Bytes>,
    pub(super) checkpoint: Option<Bytes>,
    /// It ended as a dead or cancelled head that blocks its group.
    blocks: bool,
    backoff: Backoff,
}

impl Record {
    /// What it takes of a lease reply.
    fn reply_bytes(&self) -> usize {
        self.spec.payload.len() + self.checkpoint.as_ref().map_or(0, Bytes::len)
    }

    fn split(&mut self) -> (&mut Job, RetryPolicy<'_>) {
        let timeout = self.spec.attempt_timeout();
        (&mut self.job, RetryPolicy { backoff: &self.backoff, timeout })
    }

    pub(super) fn note(&mut self, kind: EvidenceKind, note: Option<String>, now: Timestamp) -> u32 {
        let last = self.evidence.iter().filter(|e| e.kind == kind).map(|e| e.number).max().unwrap_or(0);
        let number = last + 1;
        self.evidence.push(Evidence { kind, number, at: now, note });
        let kept = |e: &Evidence| {
            e.kind != kind || e.number <= limits::EVIDENCE_KEPT || e.number + limits::EVIDENCE_KEPT > number
        };
        self.evidence.retain(kept);
        number
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    pub(super) settings: QueueSettings,
    pub(super) counts: QueueCounts,
    /// For the queue's rate.
    starts: Starts,
}

/// The two spaces of the ledger: keys of jobs, and identities of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Space {
    Job,
    Request,
}

/// What is remembered of an ended attempt once its job's row is gone (I6).
#[derive(Debug, Clone)]
struct Receipt {
    job: JobId,
    content: Option<u64>,
    state: State,
    until: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<Seq, Record>,
    pub(super) queues: BTreeMap<QueueName, Queue>,
    ledger: HashMap<(Space, QueueName, Key), Hold>,
    pub(super) schedules: BTreeMap<ScheduleId, ScheduleView>,
    /// The ledger's space of ticks: no caller's key reaches it, and it belongs to no queue.
    pub(super) ticks: HashMap<TickKey, Hold>,
    receipts: BTreeMap<FencingToken, Receipt>,
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) events: Vec<StoreEvent>,
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    next_seq: Seq,
    next_event: EventCursor,
    pub(super) tokens: TokenSequence,
    pub(super) effects: BTreeMap<EffectName, Effect>,
    pub(super) finished: Vec<JobId>,
    /// The line deliveries were last leased from.
    last_delivery_line: Option<(QueueName, Lane)>,
}

impl Model {
    pub(super) fn opened(now: Timestamp) -> Model {
        Model {
            jobs: BTreeMap::new(),
            queues: BTreeMap::new(),
            ledger: HashMap::new(),
            schedules: BTreeMap::new(),
            ticks: HashMap::new(),
            receipts: BTreeMap::new(),
            settings: BTreeMap::new(),
            events: Vec::new(),
            outcomes: BTreeMap::new(),
            next_seq: Seq::new(1).unwrap_or(Seq::MAX),
            next_event: 1,
            tokens: TokenSequence::opened(0, now),
            effects: BTreeMap::new(),
            finished: Vec::new(),
            last_delivery_line: None,
        }
    }

    /// What opening a store again does: tokens jump, live leases get their full length.
    pub(super) fn reopened(&mut self, now: Timestamp) {
        self.tokens = TokenSequence::opened(self.tokens.high_water(), now);
        self.outcomes.clear();
        self.renew_leases(now);
    }

    pub(super) fn renew_leases(&mut self, now: Timestamp) {
        for record in self.jobs.values_mut().filter(|r| r.job.state == State::Running) {
            let (job, policy) = record.split();
            rules::renew_lease(job, policy.timeout, now);
        }
        self.renew_effect_leases(now);
    }

    fn take_seq(&mut self) -> Seq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        seq
    }

    pub(super) fn emit(&mut self, kind: EventKind, queue: &QueueName, job: Option<&Job>, now: Timestamp) {
        self.events.push(StoreEvent {
            cursor: self.next_event,
            at: now,
            kind,
            queue: queue.clone(),
            job: job.map(|job| job.id),
            reason: job.and_then(|job| job.reason).filter(|_| kind == EventKind::Dead),
            attempt: job.map(Job::attempts).filter(|number| *number > 0),
            schedule: None,
        });
        self.next_event += 1;
    }

    pub(super) fn emit_schedule(&mut self, kind: EventKind, about: ScheduleEvent, now: Timestamp) {
        let Some(view) = self.schedules.get(&about.id) else { return };
        let queue = view.schedule.queue.clone();
        self.queue_mut(&queue);
        self.emit(kind, &queue, None, now);
        if let Some(event) = self.events.last_mut() {
            event.schedule = Some(about);
        }
    }

    pub(super) fn queue_mut(&mut self, name: &QueueName) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    pub(super) fn find(&self, id: JobId) -> Option<&Record> {
        self.jobs.get(&id.seq()).filter(|record| record.job.id == id)
    }

    /// Applies `change` to a job and records what follows from where it went.
    pub(super) fn change<E>(
        &mut self,
        id: JobId,
        now: Timestamp,
        change: impl FnOnce(&mut Record) -> Result<Option<Event>, E>,
    ) -> Result<(), E> {
        let blocks = self.find(id).is_some_and(|record| self.on_dead(&record.job.queue) == OnDead::Block);
        let Some(record) = self.jobs.get_mut(&id.seq()) else { return Ok(()) };
        let from = record.job.state;
        let was_open = record.job.attempt.as_ref().is_some_and(|a| a.end.is_none());
        let event = change(record)?;
        if record.job.state != from {
            // Decided once: what the queue says later only lets go.
            record.blocks = blocks && matches!(record.job.state, State::Dead | State::Cancelled);
        }
        let (job, free_on, key) = (record.job.clone(), record.spec.dedup.free_on, record.spec.key.clone());
        if let Some(end) = job.attempt.as_ref().filter(|_| was_open).and_then(|a| a.end.as_ref()) {
            *self.outcomes.entry(end.outcome).or_default() += 1;
        }
        if job.state != from {
            self.queue_mut(&job.queue).counts.shift(Some(from), Some(job.state));
        }
        let told = match job.state {
            State::Completed => Some(EventKind::Completed),
            State::Dead => Some(EventKind::Dead),
            State::Cancelled => Some(EventKind::Cancelled),
            _ => event.map(EventKind::of),
        };
        if let Some(kind) = told.filter(|_| event.is_some()) {
            self.emit(kind, &job.queue.clone(), Some(&job), now);
        }
        if job.state.is_finished() && !from.is_finished() {
            self.finished.push(id);
            if free_on.frees(job.state) {
                self.free_key(&job.queue, key.as_ref(), id);
            }
            self.tell_group_passed(&job, now);
            let told =
                self.find(id).and_then(|ended| callback(&ended.job, &ended.spec, ended.result.as_ref()));
            if let Some(mut new) = told {
                self.queue_mut(&job.queue).settings.clone().apply_to(&mut new);
                self.insert(&job.queue, new, now);
            }
        }
        Ok(())
    }

    fn free_key(&mut self, queue: &QueueName, key: Option<&Key>, id: JobId) {
        let Some(key) = key else { return };
        let place = (Space::Job, queue.clone(), key.clone());
        if self.ledger.get(&place).is_some_and(|hold| hold.job == id) {
            self.ledger.remove(&place);
        }
    }

    fn tell_group_passed(&mut self, job: &Job, now: Timestamp) {
        let Some(order) = job.group_order else { return };
        let passes = job.state != State::Completed && self.on_dead(&job.queue) == OnDead::Continue;
        let mates = self.mates(job);
        let was_head = mates.iter().all(|mate| mate.group_order > Some(order));
        if passes && was_head && !mates.is_empty() {
            self.emit(EventKind::GroupPassed, &job.queue.clone(), Some(job), now);
        }
    }

    /// Tells that a group goes on because its finished head, which blocked it, is about to go.
    fn tell_group_unblocked(&mut self, id: JobId, now: Timestamp) {
        let Some(job) = self.find(id).filter(|record| record.blocks).map(|record| record.job.clone()) else {
            return;
        };
        let mates = self.mates(&job);
        if !mates.is_empty() && mates.iter().all(|mate| mate.group_order > job.group_order) {
            self.emit(EventKind::GroupPassed, &job.queue.clone(), Some(&job), now);
        }
    }

    fn on_dead(&self, queue: &QueueName) -> OnDead {
        self.queues.get(queue).and_then(|q| q.settings.on_dead).unwrap_or(OnDead::Continue)
    }

    /// The other jobs of a job's group that still count: unfinished ones, and those that block it.
    fn mates(&self, job: &Job) -> Vec<&Job> {
        let group = self.find(job.id).and_then(|record| record.spec.group.clone());
        self.jobs
            .values()
            .filter(|r| group.is_some() && r.spec.group == group && r.job.queue == job.queue)
            .filter(|r| r.job.id != job.id && (r.blocks || !r.job.state.is_finished()))
            .map(|r| &r.job)
            .collect()
    }

    fn waits_for_group(&self, job: &Job) -> bool {
        if job.group_order.is_none() {
            return false;
        }
        let head = self.queues.get(&job.queue).and_then(|q| q.settings.group_head).unwrap_or(GroupHead::Hold);
        self.mates(job).iter().any(|mate| match mate.state {
            State::Running => true,
            _ if mate.group_order > job.group_order => false,
            State::Scheduled | State::Retrying => head == GroupHead::Hold,
            State::Available | State::Dead | State::Cancelled | State::Completed => true,
        })
    }

    pub(super) fn waiting(&self, job: &Job, now: Timestamp) -> Option<Waiting> {
        if job.state != State::Available {
            return None;
        }
        let queue = self.queues.get(&job.queue)?;
        let full = queue.settings.concurrency.is_some_and(|limit| queue.counts.running >= u64::from(limit));
        if self.waits_for_group(job) {
            Some(Waiting::Group)
        } else if queue.settings.paused {
            Some(Waiting::Paused)
        } else if full {
            Some(Waiting::Concurrency)
        } else if queue.settings.rate.is_some_and(|rate| queue.starts.room(rate, now) == 0) {
            Some(Waiting::Rate)
        } else {
            None
        }
    }

    pub(super) fn is_unfinished(&self, id: JobId) -> bool {
        self.find(id).is_some_and(|record| !record.job.state.is_finished())
    }

    pub(super) fn view(&self, id: JobId, now: Timestamp) -> Option<JobView> {
        let record = self.find(id)?;
        let mut attempts = record.earlier.clone();
        attempts.extend(record.job.attempt.clone());
        let mut evidence = record.evidence.clone();
        evidence.sort_by_key(|e| (e.at, e.kind, e.number));
        Some(JobView {
            job: record.job.clone(),
            spec: record.spec.clone(),
            attempts,
            evidence,
            waiting: self.waiting(&record.job, now),
            result: record.result.clone(),
            checkpoint: record.checkpoint.clone(),
            effects: self.effects_of(id),
        })
    }

    fn held(&self, space: Space, queue: &QueueName, key: &Key, now: Timestamp) -> Option<Hold> {
        let hold = self.ledger.get(&(space, queue.clone(), key.clone()))?;
        let state = self.find(hold.job).map(|record| record.job.state).filter(|_| space == Space::Job);
        hold.is_held(state, now).then(|| hold.clone())
    }

    pub(super) fn status(&self, id: JobId) -> JobStatus {
        self.find(id).map_or(JobStatus::Purged, |record| JobStatus::Known(record.job.state))
    }

    pub(super) fn key(&self, queue: &QueueName, key: &Key, now: Timestamp) -> Option<Hold> {
        self.held(Space::Job, queue, key, now)
    }

    pub(super) fn release_key(&mut self, queue: &QueueName, key: &Key, now: Timestamp) -> Option<Hold> {
        let hold = self.held(Space::Job, queue, key, now)?;
        self.ledger.remove(&(Space::Job, queue.clone(), key.clone()));
        let job = self.jobs.get_mut(&hold.job.seq()).filter(|r| r.job.id == hold.job).map(|record| {
            record.note(EvidenceKind::KeyReleased, None, now);
            record.job.clone()
        });
        self.emit(EventKind::KeyReleased, queue, job.as_ref(), now);
        Some(hold)
    }

    pub(super) fn add(&mut self, params: AddParams, now: Timestamp) -> Vec<ItemResult<Added>> {
        let before = params.atomic.then(|| self.clone());
        self.queue_mut(&params.queue);
        let count = params.jobs.len();
        let outcomes: Vec<_> =
            params.jobs.into_iter().map(|job| self.add_one(&params.queue, job, now)).collect();
        let refused = outcomes.iter().position(Result::is_err);
        match (before, refused) {
            (Some(before), Some(item)) => {
                *self = before;
                let refusal = outcomes.into_iter().nth(item).and_then(Result::err);
                let other = || Refusal::AtomicBatch { item };
                (0..count).map(|i| Err(refusal.clone().filter(|_| i == item).unwrap_or_else(other))).collect()
            }
            _ => outcomes,
        }
    }

    fn add_one(&mut self, queue: &QueueName, mut new: NewJob, now: Timestamp) -> ItemResult<Added> {
        self.queue_mut(queue).settings.clone().apply_to(&mut new);
        if let Some(request) = &new.request
            && let Some(hold) = self.held(Space::Request, queue, &request.key, now)
        {
            return if hold.fingerprint == request.fingerprint {
                Ok(self.duplicate(queue, hold.job, None, now))
            } else {
                Err(self.mismatch(queue, hold.job, now))
            };
        }
        let request = new.request.take();
        let added = self.add_by_key(queue, new, now)?;
        if let Some(request) = request {
            let until = now.saturating_add(limits::REQUEST_IDENTITY_WINDOW);
            let hold =
                Hold { job: added.id, fingerprint: request.fingerprint, until, free_on: Default::default() };
            self.ledger.insert((Space::Request, queue.clone(), request.key), hold);
        }
        Ok(added)
    }

    fn add_by_key(&mut self, queue: &QueueName, new: NewJob, now: Timestamp) -> ItemResult<Added> {
        let Some(key) = new.spec.key.clone() else { return Ok(self.insert(queue, new, now)) };
        let Some(hold) = self.held(Space::Job, queue, &key, now) else {
            return Ok(self.insert(queue, new, now));
        };
        let fingerprint = new.spec.fingerprint.clone().unwrap_or_else(|| hold.fingerprint.clone());
        let record = self.find(hold.job);
        let holder = Holder {
            hold: &hold,
            not_started: record.is_some_and(|r| r.job.not_started()),
            version: record.and_then(|r| r.spec.dedup.version),
        };
        match decide_repeat(&new.spec.dedup, &fingerprint, holder) {
            RepeatDecision::Return => Ok(self.duplicate(queue, hold.job, None, now)),
            RepeatDecision::ReturnNotReplaced => Ok(self.duplicate(queue, hold.job, Some(false), now)),
            RepeatDecision::Replace => Ok(self.replace(queue, hold, new, fingerprint, now)),
            RepeatDecision::RejectDuplicate => {
                self.duplicate(queue, hold.job, None, now);
                Err(Refusal::DuplicateKey { existing: hold.job })
            }
            RepeatDecision::RejectMismatch => Err(self.mismatch(queue, hold.job, now)),
            RepeatDecision::RejectStaleVersion => Err(Refusal::VersionStale { existing: hold.job }),
        }
    }

    pub(super) fn insert(&mut self, queue: &QueueName, new: NewJob, now: Timestamp) -> Added {
        let seq = self.take_seq();
        let id = JobId::new(now, seq);
        let run_at = run_at(new.when, now);
        let state = if run_at > now { State::Scheduled } else { State::Available };
        if let (Some(key), Some(fingerprint)) = (&new.spec.key, &new.spec.fingerprint) {
            let until = now.saturating_add(new.spec.dedup.window);
            let hold =
                Hold { job: id, fingerprint: fingerprint.clone(), until, free_on: new.spec.dedup.free_on };
            self.ledger.insert((Space::Job, queue.clone(), key.clone()), hold);
        }
        let job = Job {
            id,
            queue: queue.clone(),
            state,
            reason: None,
            priority: new.priority,
            run_at,
            max_attempts: new.max_attempts.unwrap_or(limits::MAX_ATTEMPTS),
            failures: 0,
            lost_leases: 0,
            recent_losses: Vec::new(),
            retry_until: None,
            cancel_requested: false,
            finished_at: None,
            group_order: new.spec.group.as_ref().map(|_| seq.get()),
            attempt: None,
            duplicates: 0,
            mismatches: 0,
        };
        let counts = &mut self.queue_mut(queue).counts;
        counts.accepted += 1;
        counts.shift(None, Some(state));
        self.emit(EventKind::Added, queue, Some(&job), now);
        let backoff = new.spec.backoff.clone().unwrap_or_default();
        let record = Record {
            job,
            spec: new.spec,
            earlier: Vec::new(),
            evidence: Vec::new(),
            result: None,
            checkpoint: None,
            blocks: false,
            backoff,
        };
        self.jobs.insert(seq, record);
        Added { id, status: JobStatus::Known(state), run_at: Some(run_at), duplicate: false, replaced: None }
    }

    fn duplicate(&mut self, queue: &QueueName, id: JobId, replaced: Option<bool>, now: Timestamp) -> Added {
        self.queue_mut(queue).counts.duplicates += 1;
        let job = self.jobs.get_mut(&id.seq()).filter(|r| r.job.id == id).map(|record| {
            record.job.duplicates = record.note(EvidenceKind::DuplicateAdd, None, now);
            record.job.clone()
        });
        self.emit(EventKind::Duplicate, queue, job.as_ref(), now);
        Added { id, status: self.status(id), run_at: job.map(|job| job.run_at), duplicate: true, replaced }
    }

    fn mismatch(&mut self, queue: &QueueName, id: JobId, now: Timestamp) -> Refusal {
        self.queue_mut(queue).counts.mismatches += 1;
        let job = self.jobs.get_mut(&id.seq()).filter(|r| r.job.id == id).map(|record| {
            record.job.mismatches = record.note(EvidenceKind::Mismatch, None, now);
            record.job.clone()
        });
        self.emit(EventKind::Mismatch, queue, job.as_ref(), now);
        Refusal::KeyReused { existing: id }
    }

    fn replace(
        &mut self,
        queue: &QueueName,
        hold: Hold,
        new: NewJob,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Added {
        let id = hold.job;
        let Some(record) = self.jobs.get_mut(&id.seq()) else {
            return self.duplicate(queue, id, Some(false), now);
        };
        let run_at = replaced_run_at(&new.spec.dedup, record.job.created_at(), run_at(new.when, now));
        let mut spec = JobSpec { key: record.spec.key.clone(), group: record.spec.group.clone(), ..new.spec };
        spec.dedup.version = spec.dedup.version.or(record.spec.dedup.version);
        record.backoff = spec.backoff.clone().unwrap_or_default();
        record.spec = spec;
        record.job.priority = new.priority;
        record.job.max_attempts = new.max_attempts.unwrap_or(limits::MAX_ATTEMPTS);
        record.note(EvidenceKind::Replaced, None, now);
        record.job.duplicates = record.note(EvidenceKind::DuplicateAdd, None, now);
        let (key, free_on) = (record.spec.key.clone(), record.spec.dedup.free_on);
        let until = record.job.created_at().saturating_add(record.spec.dedup.window);
        if let Some(key) = key {
            self.ledger
                .insert((Space::Job, queue.clone(), key), Hold { job: id, fingerprint, until, free_on });
        }
        self.queue_mut(queue).counts.duplicates += 1;
        let _ = self.change(id, now, |record| {
            rules::reschedule(&mut record.job, run_at, now).map(|()| Some(Event::Rescheduled))
        });
        let run_at = self.find(id).map(|record| record.job.run_at);
        Added { id, status: self.status(id), run_at, duplicate: true, replaced: Some(true) }
    }

    /// As many as there are tokens for.
    pub(super) fn lease(&mut self, params: &LeaseParams, now: Timestamp) -> Vec<LeasedJob> {
        let mut leased = Vec::new();
        let mut bytes = 0;
        let mut turn = (self.tokens.high_water() % params.queues.len().max(1) as u64) as usize;
        let mut empty = BTreeSet::new();
        let queues: Vec<_> = params.queues.clone();
        while leased.len() < params.max as usize && empty.len() < queues.len() {
            let place = if params.fair { turn % queues.len() } else { empty.len() };
            turn += 1;
            if empty.contains(&place) {
                continue;
            }
            let Some(id) = queues.get(place).and_then(|queue| self.first_leasable(queue, Lane::PULL, now))
            else {
                empty.insert(place);
                continue;
            };
            let size = self.find(id).map_or(0, Record::reply_bytes);
            if !leased.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                break;
            }
            bytes += size;
            let Some(job) = self.lease_one(id, &params.worker, params.lease, params.poll, now) else { break };
            leased.push(job);
        }
        leased
    }

    /// Jobs to deliver: one of each line after the other, a line being a lane of a queue.
    pub(super) fn lease_deliveries(&mut self, params: &DeliveryParams, now: Timestamp) -> Vec<LeasedJob> {
        let in_line =
            |record: &Record| record.job.state == State::Available && record.spec.target.lane().is_http();
        let waiting = self.jobs.values().filter(|record| in_line(record));
        let lines: BTreeSet<(QueueName, Lane)> =
            waiting.map(|record| (record.job.queue.clone(), record.spec.target.lane())).collect();
        let mut lines: VecDeque<(QueueName, Lane)> = lines.into_iter().collect();
        let last = self.last_delivery_line.clone();
        let had_its_turn =
            lines.iter().filter(|line| last.as_ref().is_some_and(|last| **line <= *last)).count();
        lines.rotate_left(had_its_turn);
        let mut given: BTreeMap<Lane, u32> = BTreeMap::new();
        let (mut leased, mut bytes) = (Vec::new(), 0);
        while let Some((queue, lane)) = lines.pop_front().filter(|_| leased.len() < params.max as usize) {
            if given.get(&lane).copied().unwrap_or(0) >= params.room_of(lane) {
                continue;
            }
            self.last_delivery_line = Some((queue.clone(), lane));
            let Some(id) = self.first_leasable(&queue, lane, now) else { continue };
            let size = self.find(id).map_or(0, Record::reply_bytes);
            if !leased.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                break;
            }
            bytes += size;
            let Some(job) = self.lease_one(id, &params.worker, params.lease, None, now) else { break };
            leased.push(job);
            *given.entry(lane).or_default() += 1;
            lines.push_back((queue, lane));
        }
        leased
    }

    /// The next job of a line; those whose last moment to start has passed die on the way.
    fn first_leasable(&mut self, queue: &QueueName, lane: Lane, now: Timestamp) -> Option<JobId> {
        loop {
            let mut candidates: Vec<&Job> = self
                .jobs
                .values()
                .filter(|record| record.spec.target.lane() == lane)
                .map(|record| &record.job)
                .filter(|job| {
                    job.queue == *queue && job.state == State::Available && self.waiting(job, now).is_none()
                })
                .collect();
            candidates.sort_by_key(|job| (job.priority, job.id.seq()));
            let job = (*candidates.first()?).clone();
            if !rules::is_expired(&job, now) {
                return Some(job.id);
            }
            self.expire(job.id, now);
        }
    }

    fn expire(&mut self, id: JobId, now: Timestamp) {
        let _ =
            self.change(id, now, |record| rules::expire(&mut record.job, now).map(|()| Some(Event::Died)));
    }

    fn lease_one(
        &mut self,
        id: JobId,
        worker: &WorkerName,
        lease: DurationMs,
        poll: Option<u64>,
        now: Timestamp,
    ) -> Option<LeasedJob> {
        let token = self.tokens.take()?;
        let _ = self.change(id, now, |record| {
            let last = record.job.attempt.clone();
            let (job, policy) = record.split();
            rules::lease(job, policy, token, worker.clone(), lease, poll, now)?;
            record.earlier.extend(last);
            Ok::<_, crate::IllegalTransition>(Some(Event::Leased))
        });
        let queue = self.find(id)?.job.queue.clone();
        let queue = self.queue_mut(&queue);
        if let Some(rate) = queue.settings.rate {
            queue.starts.add(rate, now, 1);
        }
        self.leased_view(id)
    }

    fn leased_view(&self, id: JobId) -> Option<LeasedJob> {
        let record = self.find(id)?;
        Some(LeasedJob {
            job: record.job.clone(),
            spec: record.spec.clone(),
            checkpoint: record.checkpoint.clone(),
        })
    }

    /// The jobs an earlier call with the same poll id was given and still holds.
    pub(super) fn held_by_poll(&self, poll: u64) -> Vec<LeasedJob> {
        let held = |record: &&Record| {
            record.job.state == State::Running
                && record.job.attempt.as_ref().is_some_and(|a| a.poll == Some(poll))
        };
        self.jobs.values().filter(held).filter_map(|record| self.leased_view(record.job.id)).collect()
    }

    pub(super) fn settle(
        &mut self,
        op: SettleOp,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> ItemResult<Settled> {
        let Some(record) = self.find(op.id) else { return self.settle_purged(&op, now) };
        if !record.job.held_by(op.token) {
            return self.settle_stale(&op, now);
        }
        let _ = self.change(op.id, now, |record| {
            let event = match &op.action {
                SettleAction::End(end) => {
                    let (job, policy) = record.split();
                    rules::end(job, policy, end, now, entropy)?;
                    if let crate::End::Complete { result } = end {
                        record.result.clone_from(result);
                    }
                    Some(match end {
                        crate::End::Complete { .. } => Event::Completed,
                        crate::End::Fail { .. } => Event::Failed,
                        crate::End::Snooze { .. } => Event::Snoozed,
                        crate::End::Release => Event::Released,
                    })
                }
                SettleAction::Extend(lease) => {
                    rules::extend(&mut record.job, *lease, now);
                    None
                }
                SettleAction::Progress(progress) => {
                    rules::record_progress(&mut record.job, progress.clone());
                    None
                }
                SettleAction::Exchange(exchange) => {
                    rules::record_exchange(&mut record.job, exchange.as_ref().clone());
                    None
                }
                SettleAction::Checkpoint(value) => {
                    record.checkpoint = Some(value.clone());
                    None
                }
                SettleAction::Log(lines) => {
                    rules::append_log(&mut record.job, lines);
                    None
                }
            };
            Ok::<_, crate::IllegalTransition>(event)
        });
        let job = self.find(op.id).map(|record| &record.job).ok_or(Refusal::JobNotFound)?;
        let running = job.state == State::Running;
        let lease_until = job.attempt.as_ref().filter(|_| running).map(|attempt| attempt.lease_until);
        Ok(Settled { state: job.state, cancel: job.cancel_requested, lease_until })
    }

    fn settle_purged(&self, op: &SettleOp, now: Timestamp) -> ItemResult<Settled> {
        let SettleAction::End(end) = &op.action else { return Err(Refusal::JobNotFound) };
        let receipt = self.receipts.get(&op.token).filter(|r| r.job == op.id && now < r.until);
        match receipt {
            Some(first) if first.content == Some(end.content()) => {
                Ok(Settled { state: first.state, cancel: false, lease_until: None })
            }
            Some(first) => Err(Refusal::LeaseLost { state: first.state }),
            None => Err(Refusal::JobNotFound),
        }
    }

    fn settle_stale(&mut self, op: &SettleOp, now: Timestamp) -> ItemResult<Settled> {
        let Some(record) = self.jobs.get_mut(&op.id.seq()) else { return Err(Refusal::JobNotFound) };
        let state = record.job.state;
        let attempt = record.earlier.iter_mut().chain(&mut record.job.attempt).find(|a| a.token == op.token);
        match (attempt, &op.action) {
            (Some(attempt), SettleAction::End(end)) => {
                if let Some(state) = attempt.replay(end) {
                    return Ok(Settled { state, cancel: false, lease_until: None });
                }
                if let Some(evidence) = end.late_evidence() {
                    attempt.record_late(evidence, now);
                }
            }
            (Some(_), _) => {}
            (None, _) => {
                record.note(EvidenceKind::ForeignToken, None, now);
            }
        }
        let job = record.job.clone();
        self.queue_mut(&job.queue).counts.late_writes += 1;
        self.emit(EventKind::LateWrite, &job.queue, Some(&job), now);
        Err(Refusal::LeaseLost { state })
    }

    pub(super) fn cancel(&mut self, id: JobId, force: bool, now: Timestamp) -> ItemResult<()> {
        self.find(id).ok_or(Refusal::JobNotFound)?;
        let mut requested = None;
        self.change(id, now, |record| {
            let changed = rules::cancel(&mut record.job, force, now)?;
            if changed {
                record.note(EvidenceKind::CancelRequested, force.then(|| "force".to_owned()), now);
            }
            if changed && record.job.state == State::Running {
                requested = Some(record.job.clone());
            }
            Ok((changed && record.job.state == State::Cancelled).then_some(Event::Cancelled))
        })
        .map_err(|illegal: crate::IllegalTransition| Refusal::JobFinished { state: illegal.from })?;
        if let Some(job) = requested {
            self.emit(EventKind::CancelRequested, &job.queue, Some(&job), now);
        }
        Ok(())
    }

    pub(super) fn retry(&mut self, id: JobId, accept_duplicates: bool, now: Timestamp) -> ItemResult<()> {
        let record = self.find(id).ok_or(Refusal::JobNotFound)?;
        let (queue, key) = (record.job.queue.clone(), record.spec.key.clone());
        if let Some(by) = key.as_ref().and_then(|key| self.held(Space::Job, &queue, key, now))
            && by.job != id
            && crate::transition(record.job.state, Event::Retried).is_ok()
        {
            return Err(Refusal::KeyTaken { by: by.job });
        }
        let fresh_order = self.next_seq;
        let mut moved = false;
        self.change(id, now, |record| {
            let was_finished = record.job.state.is_finished();
            let (job, policy) = record.split();
            rules::retry(job, policy, accept_duplicates, now)?;
            if was_finished && job.group_order.is_some() {
                job.group_order = Some(fresh_order.get());
                moved = true;
            }
            record.result = None;
            record.note(EvidenceKind::Retried, None, now);
            Ok(Some(Event::Retried))
        })
        .map_err(|refusal| match refusal {
            RetryRefusal::State(state) => Refusal::JobNotRetryable { state },
            RetryRefusal::WindowPassed(until) => Refusal::RetryWindowPassed { until },
        })?;
        if moved {
            self.take_seq();
        }
        if let (Some(key), Some(record)) = (key, self.find(id))
            && let Some(fingerprint) = record.spec.fingerprint.clone()
        {
            let until = record.job.created_at().saturating_add(record.spec.dedup.window);
            let hold = Hold { job: id, fingerprint, until, free_on: record.spec.dedup.free_on };
            self.ledger.insert((Space::Job, queue, key), hold);
        }
        Ok(())
    }

    /// Ids of the jobs `filter` means, oldest first.
    pub(super) fn matching(&self, filter: &JobFilter, limit: usize) -> Vec<JobId> {
        let matches = |record: &&Record| filter.matches(&record.job, &record.spec);
        self.jobs.values().filter(matches).take(limit).map(|record| record.job.id).collect()
    }

    pub(super) fn edit(&mut self, id: JobId, edit: JobEdit, now: Timestamp) -> ItemResult<()> {
        let record = self.find(id).ok_or(Refusal::JobNotFound)?;
        let state = record.job.state;
        if !record.job.not_started() {
            return Err(Refusal::JobStarted { state });
        }
        self.change(id, now, |record| {
            if let Some(run_at) = edit.run_at {
                rules::reschedule(&mut record.job, run_at, now)?;
            }
            record.job.priority = edit.priority.unwrap_or(record.job.priority);
            if let Some(labels) = edit.labels {
                record.spec.labels = labels;
            }
            record.note(EvidenceKind::Edited, None, now);
            Ok(Some(Event::Rescheduled))
        })
        .map_err(|illegal: crate::IllegalTransition| Refusal::JobStarted { state: illegal.from })
    }

    pub(super) fn delete(&mut self, id: JobId, now: Timestamp) -> ItemResult<JobView> {
        let view = self.view(id, now).ok_or(Refusal::JobNotFound)?;
        if !view.job.state.is_finished() {
            return Err(Refusal::JobNotFinished { state: view.job.state });
        }
        self.emit(EventKind::Deleted, &view.job.queue, Some(&view.job), now);
        self.tell_group_unblocked(id, now);
        self.purge(id, now, |counts| counts.purged_deleted += 1);
        Ok(view)
    }

    fn purge(&mut self, id: JobId, now: Timestamp, count: impl FnOnce(&mut QueueCounts)) {
        let Some(record) = self.jobs.remove(&id.seq()) else { return };
        for attempt in record.earlier.iter().chain(&record.job.attempt) {
            let Some(end) = &attempt.end else { continue };
            let until = end.at.saturating_add(limits::FINISH_REPLAY);
            if end.content.is_some() && now < until {
                let receipt = Receipt { job: id, content: end.content, state: end.state, until };
                self.receipts.insert(attempt.token, receipt);
            }
        }
        self.forget_effects_of(id);
        let counts = &mut self.queue_mut(&record.job.queue).counts;
        counts.shift(Some(record.job.state), None);
        count(counts);
    }

    pub(super) fn delete_queue(&mut self, name: &QueueName, force: bool, now: Timestamp) -> ItemResult<u64> {
        let queue = self.queues.get(name).ok_or(Refusal::QueueNotFound)?;
        let unfinished = queue.counts.unfinished();
        if unfinished > 0 && !force {
            return Err(Refusal::QueueNotEmpty { unfinished });
        }
        let revoked = queue.counts.running;
        if revoked > 0 {
            *self.outcomes.entry(Outcome::Revoked).or_default() += revoked;
        }
        let ids: Vec<JobId> = self.jobs.values().filter(|r| r.job.queue == *name).map(|r| r.job.id).collect();
        for id in &ids {
            self.purge(*id, now, |counts| counts.purged_deleted += 1);
            self.finished.push(*id);
        }
        self.ledger.retain(|(_, queue, _), _| queue != name);
        self.queues.remove(name);
        self.emit(EventKind::QueueDeleted, name, None, now);
        Ok(ids.len() as u64)
    }

    pub(super) fn queue_changed(&mut self, name: &QueueName, now: Timestamp) {
        if self.on_dead(name) == OnDead::Continue {
            let passed: Vec<Job> = self
                .jobs
                .values()
                .filter(|r| r.job.queue == *name && r.blocks)
                .map(|r| &r.job)
                .filter(|job| {
                    let mates = self.mates(job);
                    let leads =
                        mates.iter().all(|m| m.state.is_finished() || m.group_order > job.group_order);
                    leads && mates.iter().any(|mate| !mate.state.is_finished())
                })
                .cloned()
                .collect();
            for record in self.jobs.values_mut().filter(|record| record.job.queue == *name) {
                record.blocks = false;
            }
            for job in passed {
                self.emit(EventKind::GroupPassed, name, Some(&job), now);
            }
        }
        self.emit(EventKind::QueueChanged, name, None, now);
    }

    /// Jobs whose time has come. Returns how many.
    pub(super) fn come_due(&mut self, now: Timestamp) -> u64 {
        let mut due: Vec<(Timestamp, JobId)> = self
            .jobs
            .values()
            .filter(|r| matches!(r.job.state, State::Scheduled | State::Retrying) && r.job.run_at <= now)
            .map(|r| (r.job.run_at, r.job.id))
            .collect();
        due.sort();
        for (_, id) in &due {
            let _ = self
                .change(*id, now, |record| rules::come_due(&mut record.job, now).map(|()| Some(Event::Due)));
        }
        let overdue = |r: &&Record| r.job.state == State::Available && rules::is_expired(&r.job, now);
        let overdue: Vec<JobId> = self.jobs.values().filter(overdue).map(|r| r.job.id).collect();
        for id in overdue {
            self.expire(id, now);
        }
        due.len() as u64
    }

    /// Attempts whose deadline passed. Returns how many.
    pub(super) fn pass_deadlines(&mut self, now: Timestamp, entropy: &dyn Entropy) -> u64 {
        let mut passed: Vec<(Timestamp, JobId)> = self
            .jobs
            .values()
            .filter(|r| r.job.state == State::Running)
            .filter_map(|r| r.job.attempt.as_ref().map(|a| (a.lease_until.min(a.deadline), r.job.id)))
            .filter(|(at, _)| *at <= now)
            .collect();
        passed.sort();
        for (_, id) in &passed {
            let _ = self.change(*id, now, |record| {
                let (job, policy) = record.split();
                rules::deadline_passed(job, policy, now, entropy)?;
                let timed_out = job.state == State::Retrying;
                Ok::<_, crate::IllegalTransition>(Some(if timed_out {
                    Event::Failed
                } else {
                    Event::LeaseLost
                }))
            });
        }
        passed.len() as u64
    }

    /// Finished jobs whose retention is over, and what else is kept for a time only.
    pub(super) fn retire(&mut self, now: Timestamp) -> u64 {
        let mut over = Vec::new();
        for record in self.jobs.values() {
            let Some(finished_at) = record.job.finished_at else { continue };
            let settings = self.queues.get(&record.job.queue).map(|q| &q.settings);
            let queue_keeps = settings.map(|s| s.retention(record.job.state));
            let keep = record.spec.retain.or(queue_keeps).unwrap_or(limits::RETAIN_COMPLETED);
            if finished_at.saturating_add(keep) <= now {
                over.push(record.job.id);
            }
        }
        for id in &over {
            self.tell_group_unblocked(*id, now);
            self.purge(*id, now, |counts| counts.purged_retention += 1);
        }
        self.retire_effects(now);
        self.receipts.retain(|_, receipt| now < receipt.until);
        let events_from = now.saturating_sub(limits::EVENTS_KEPT);
        self.events.retain(|event| event.at > events_from);
        over.len() as u64
    }

    /// The next time anything becomes due.
    /// What began in a future that was taken back with the clock counts from now on.
    pub(super) fn settle_rates(&mut self, now: Timestamp) {
        self.queues.values_mut().for_each(|queue| queue.starts.settle(now));
    }

    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let of = |record: &Record| match record.job.state {
            State::Scheduled | State::Retrying => Some(record.job.run_at),
            State::Running => record.job.attempt.as_ref().map(|a| a.lease_until.min(a.deadline)),
            State::Available | State::Completed | State::Dead | State::Cancelled => None,
        };
        let jobs = self.jobs.values().filter_map(of).min();
        let rates = self
            .queues
            .values()
            .filter(|queue| queue.counts.available > 0)
            .filter_map(|queue| queue.settings.rate.and_then(|rate| queue.starts.full_until(rate, now)));
        let ticks = self.schedules.values().filter_map(|view| view.schedule.next()).map(Tick::at);
        rates.chain(jobs).chain(self.next_effect_due()).chain(ticks).min()
    }

    pub(super) fn oldest_available(&self, queue: &QueueName) -> Option<Timestamp> {
        let in_line =
            |job: &&Job| job.queue == *queue && job.state == State::Available && !self.waits_for_group(job);
        self.jobs.values().map(|record| &record.job).find(in_line).map(Job::created_at)
    }

    pub(super) fn last_event(&self) -> EventCursor {
        self.next_event - 1
    }

    pub(super) fn keys(&self) -> u64 {
        (self.ledger.len() + self.ticks.len()) as u64
    }
}
