//! The reference engine: the contract in its plainest form, in memory. It is what other engines
//! are compared with, and good for tests of handlers; it does not survive its process, except
//! through [`ReferenceEngine::crash_and_reopen`], which plays a durable store's restart.

mod effects;
mod model;
mod schedules;

use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::promise::{Promise, Resolver, promise, promise_or_return};
use crate::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, Clock, DeletedQueue, DeliveryParams, DurationMs,
    Effect, EffectName, EffectOp, EffectPage, EffectResult, End, Engine, EngineError, EngineResult, Entropy,
    EventCursor, EventPage, EventsParams, Hold, ItemResult, JobEdit, JobId, JobPage, JobSummary, JobView,
    Key, KeyView, LeaseParams, LeasedJob, ListEffects, ListParams, Payload, QueueName, QueuePatch, QueueView,
    RedriveParams, Redriven, Refusal, Setting, SettleAction, SettleOp, Settled, State, StepDetector,
    StoreStats, Ticked, Timestamp, limits,
};
use model::Model;

/// See the [module](self).
#[derive(Clone)]
pub struct ReferenceEngine {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    inner: Mutex<Inner>,
}

struct Inner {
    model: Model,
    parked: Vec<Parked>,
    finished_waiters: Vec<(JobId, Resolver<()>)>,
    event_waiters: Vec<(EventCursor, Resolver<()>)>,
    /// Counts operations: after any there may be something to deliver.
    delivery_hint: u64,
    delivery_waiters: Vec<Resolver<u64>>,
    tick_waiters: Vec<Resolver<()>>,
    /// When the last tick said the next one has to come.
    next_tick: Timestamp,
    steps: StepDetector,
    draining: bool,
    closed: bool,
}

impl Inner {
    fn next_due(&self, clock: &dyn Clock) -> Option<Timestamp> {
        let left = |until: DurationMs| until.as_ms().saturating_sub(clock.monotonic().as_ms());
        let next_poll = self.parked.iter().map(|parked| left(parked.until)).min();
        let next_poll = next_poll.map(|left| clock.now().saturating_add(DurationMs::from_ms(left)));
        [self.model.next_due(clock.now()), next_poll].into_iter().flatten().min()
    }

    /// Whether a tick has to come earlier than the last one said.
    fn tick_is_late(&self, clock: &dyn Clock) -> bool {
        self.next_due(clock).is_some_and(|due| due < self.next_tick)
    }

    fn hurry_tick(&mut self, clock: &dyn Clock) {
        if !self.tick_waiters.is_empty() && self.tick_is_late(clock) {
            for waiter in self.tick_waiters.drain(..) {
                let _ = waiter.resolve(());
            }
        }
    }
}

struct Parked {
    params: LeaseParams,
    /// By the monotonic clock: nobody waits longer because the wall clock was set.
    until: DurationMs,
    answer: Resolver<Vec<LeasedJob>>,
}

impl ReferenceEngine {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> ReferenceEngine {
        let inner = Inner {
            model: Model::opened(clock.now()),
            parked: Vec::new(),
            finished_waiters: Vec::new(),
            event_waiters: Vec::new(),
            delivery_hint: 0,
            delivery_waiters: Vec::new(),
            tick_waiters: Vec::new(),
            next_tick: Timestamp::EPOCH,
            steps: StepDetector::new(clock.as_ref()),
            draining: false,
            closed: false,
        };
        ReferenceEngine { shared: Arc::new(Shared { clock, entropy, inner: Mutex::new(inner) }) }
    }

    /// Plays a crash and a restart of a durable store: everything acknowledged is there, parked
    /// calls are gone, tokens jump and live leases get their full length again.
    pub fn crash_and_reopen(&self) {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        inner.parked.clear();
        inner.finished_waiters.clear();
        inner.event_waiters.clear();
        inner.delivery_waiters.clear();
        inner.tick_waiters.clear();
        inner.next_tick = Timestamp::EPOCH;
        inner.steps = StepDetector::new(self.shared.clock.as_ref());
        (inner.draining, inner.closed) = (false, false);
        inner.model.reopened(now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation, then hands out what it made available and wakes who waits for it.
    fn run<T>(&self, operation: impl FnOnce(&mut Model, Timestamp) -> T) -> BoxFuture<'_, EngineResult<T>>
    where
        T: Send + 'static,
    {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        if inner.closed {
            return Box::pin(ready(Err(EngineError::Closed)));
        }
        let outcome = operation(&mut inner.model, now);
        self.after(&mut inner, now);
        Box::pin(ready(Ok(outcome)))
    }

    fn after(&self, inner: &mut Inner, now: Timestamp) {
        self.serve_parked(inner, now);
        inner.delivery_hint += 1;
        for waiter in inner.delivery_waiters.drain(..) {
            let _ = waiter.resolve(inner.delivery_hint);
        }
        for id in std::mem::take(&mut inner.model.finished) {
            let (done, waiting) = inner.finished_waiters.drain(..).partition(|(waiter, _)| *waiter == id);
            inner.finished_waiters = waiting;
            resolve_all(done);
        }
        let last = inner.model.last_event();
        let (done, waiting) = inner.event_waiters.drain(..).partition(|(cursor, _)| *cursor < last);
        inner.event_waiters = waiting;
        resolve_all(done);
        inner.hurry_tick(self.shared.clock.as_ref());
    }

    fn serve_parked(&self, inner: &mut Inner, now: Timestamp) {
        let mut still = Vec::new();
        for parked in std::mem::take(&mut inner.parked) {
            if parked.answer.is_abandoned() {
                continue;
            }
            let leased = inner.model.lease(&parked.params, now);
            if leased.is_empty() {
                still.push(parked);
            } else if let Err(unwanted) = parked.answer.resolve(leased) {
                release(&mut inner.model, unwanted, now, self.shared.entropy.as_ref());
            }
        }
        inner.parked = still;
    }

    fn lease_or_park(
        &self,
        params: LeaseParams,
    ) -> EngineResult<Result<Vec<LeasedJob>, Promise<Vec<LeasedJob>>>> {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        if inner.closed {
            return Err(EngineError::Closed);
        }
        let held = params.poll.map(|poll| inner.model.held_by_poll(poll)).unwrap_or_default();
        if !held.is_empty() || inner.draining {
            return Ok(Ok(held));
        }
        if let Some(poll) = params.poll {
            let (same, others) = inner.parked.drain(..).partition(|p: &Parked| p.params.poll == Some(poll));
            inner.parked = others;
            answer_empty(same);
        }
        if inner.model.tokens.is_exhausted() {
            return Err(EngineError::TokensExhausted);
        }
        let leased = inner.model.lease(&params, now);
        self.after(&mut inner, now);
        if !leased.is_empty() || params.wait.is_zero() {
            return Ok(Ok(leased));
        }
        let engine = self.clone();
        let (answer, promise) = promise_or_return(move |unclaimed| {
            let now = engine.shared.clock.now();
            let mut inner = engine.lock();
            release(&mut inner.model, unclaimed, now, engine.shared.entropy.as_ref());
            engine.after(&mut inner, now);
        });
        let until = self.shared.clock.monotonic().saturating_add(params.wait);
        inner.parked.push(Parked { params, until, answer });
        inner.hurry_tick(self.shared.clock.as_ref());
        Ok(Err(promise))
    }

    fn tick_now(&self) -> EngineResult<Ticked> {
        let now = self.shared.clock.now();
        let entropy = self.shared.entropy.as_ref();
        let mut inner = self.lock();
        if inner.closed {
            return Err(EngineError::Closed);
        }
        let clock_stepped = inner.steps.stepped(self.shared.clock.as_ref());
        if clock_stepped {
            inner.model.renew_leases(now);
        }
        inner.model.settle_rates(now);
        let ticks = inner.model.evaluate_schedules(now);
        let due = inner.model.come_due(now);
        let expired = inner.model.pass_deadlines(now, entropy);
        let purged = inner.model.retire(now);
        self.after(&mut inner, now);
        let monotonic = self.shared.clock.monotonic();
        let (over, waiting) = inner.parked.drain(..).partition(|parked| parked.until <= monotonic);
        inner.parked = waiting;
        answer_empty(over);
        let a_minute = now.saturating_add(limits::WAIT_MAX);
        let next = inner.next_due(self.shared.clock.as_ref()).map_or(a_minute, |due| due.min(a_minute));
        inner.next_tick = next;
        Ok(Ticked { next, due, ticks, expired, purged, clock_stepped })
    }
}

fn release(model: &mut Model, unwanted: Vec<LeasedJob>, now: Timestamp, entropy: &dyn Entropy) {
    for leased in unwanted {
        if let Some(attempt) = leased.attempt() {
            let op =
                SettleOp { id: leased.job.id, token: attempt.token, action: SettleAction::End(End::Release) };
            let _ = model.settle(op, now, entropy);
        }
    }
}

fn answer_empty(polls: Vec<Parked>) {
    for poll in polls {
        let _ = poll.answer.resolve(Vec::new());
    }
}

fn resolve_all<K>(waiters: Vec<(K, Resolver<()>)>) {
    for (_, waiter) in waiters {
        let _ = waiter.resolve(());
    }
}

fn key_view(model: &Model, hold: Hold) -> KeyView {
    KeyView { job: hold.job, status: model.status(hold.job), until: hold.until, free_on: hold.free_on }
}

fn queue_view(model: &Model, name: &QueueName) -> Option<QueueView> {
    let queue = model.queues.get(name)?;
    Some(QueueView {
        name: name.clone(),
        settings: queue.settings.clone(),
        counts: queue.counts,
        oldest_available: model.oldest_available(name),
    })
}

impl Engine for ReferenceEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: false, multi_process: false, backup: false }
    }

    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        self.run(|model, now| model.add(params, now))
    }

    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        match self.lease_or_park(params) {
            Err(error) => Box::pin(ready(Err(error))),
            Ok(Ok(leased)) => Box::pin(ready(Ok(leased))),
            Ok(Err(parked)) => Box::pin(async move { parked.await.ok_or(EngineError::Closed) }),
        }
    }

    fn lease_deliveries(&self, params: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let now = self.shared.clock.now();
        let mut inner = self.lock();
        let leased = if inner.closed {
            Err(EngineError::Closed)
        } else if inner.draining {
            Ok(Vec::new())
        } else if inner.model.tokens.is_exhausted() {
            Err(EngineError::TokensExhausted)
        } else {
            Ok(inner.model.lease_deliveries(&params, now))
        };
        if leased.as_ref().is_ok_and(|leased| !leased.is_empty()) {
            self.after(&mut inner, now);
        }
        Box::pin(ready(leased))
    }

    fn deliveries_after(&self, seen: u64) -> BoxFuture<'_, u64> {
        let mut inner = self.lock();
        if inner.delivery_hint > seen || inner.closed {
            return Box::pin(ready(inner.delivery_hint.max(seen)));
        }
        let (resolver, promise) = promise();
        inner.delivery_waiters.push(resolver);
        Box::pin(async move { promise.await.unwrap_or(seen) })
    }

    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        let entropy = Arc::clone(&self.shared.entropy);
        self.run(move |model, now| {
            ops.into_iter().map(|op| model.settle(op, now, entropy.as_ref())).collect()
        })
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |model, now| {
            model.cancel(id, force, now)?;
            model.view(id, now).ok_or(Refusal::JobNotFound)
        })
    }

    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |model, now| {
            model.retry(id, accept_duplicates, now)?;
            model.view(id, now).ok_or(Refusal::JobNotFound)
        })
    }

    fn redrive(&self, params: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>> {
        self.run(move |model, now| {
            if !model.queues.contains_key(&params.queue) {
                return Err(Refusal::QueueNotFound);
            }
            let mut filter = params.filter;
            (filter.queue, filter.states) = (Some(params.queue), params.states);
            filter.states.retain(|state| matches!(state, State::Dead | State::Cancelled));
            if filter.states.is_empty() {
                return Ok(Redriven::default());
            }
            let mut done = Redriven::default();
            for id in model.matching(&filter, params.limit as usize) {
                match model.retry(id, params.accept_duplicates, now) {
                    Ok(()) => done.redriven += 1,
                    Err(refusal) => done.refused.push((id, refusal)),
                }
            }
            Ok(done)
        })
    }

    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |model, now| {
            model.edit(id, edit, now)?;
            model.view(id, now).ok_or(Refusal::JobNotFound)
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.run(move |model, now| model.delete(id, now))
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>> {
        self.run(move |model, now| model.view(id, now))
    }

    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>> {
        self.run(move |model, now| {
            let before = |seq: crate::Seq| params.before.is_none_or(|before| seq < before);
            let newest_first = model.jobs.iter().rev().filter(|(seq, _)| before(**seq));
            let mut matching = newest_first
                .filter(|(_, r)| params.filter.matches(&r.job, &r.spec))
                .map(|(seq, r)| (*seq, r));
            let jobs: Vec<_> = matching
                .by_ref()
                .take(params.limit as usize)
                .map(|(seq, record)| {
                    let mut spec = record.spec.clone();
                    spec.payload = Payload::Absent;
                    (
                        seq,
                        JobSummary {
                            job: record.job.clone(),
                            spec,
                            waiting: model.waiting(&record.job, now),
                        },
                    )
                })
                .collect();
            let next = if matching.next().is_some() { jobs.last().map(|(seq, _)| *seq) } else { None };
            JobPage { jobs: jobs.into_iter().map(|(_, summary)| summary).collect(), next }
        })
    }

    fn finished(&self, id: JobId) -> BoxFuture<'_, EngineResult<()>> {
        let mut inner = self.lock();
        let unfinished = inner.model.is_unfinished(id);
        if !unfinished {
            return Box::pin(ready(Ok(())));
        }
        let (resolver, promise) = promise();
        inner.finished_waiters.push((id, resolver));
        Box::pin(async move { promise.await.ok_or(EngineError::Closed) })
    }

    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>> {
        self.run(|model, _| model.queues.keys().filter_map(|name| queue_view(model, name)).collect())
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>> {
        self.run(move |model, _| queue_view(model, &name))
    }

    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>> {
        self.run(move |model, now| {
            let queue = model.queues.entry(name.clone()).or_default();
            patch.apply_to(&mut queue.settings);
            let (settings, counts) = (queue.settings.clone(), queue.counts);
            model.queue_changed(&name, now);
            let oldest_available = model.oldest_available(&name);
            QueueView { name, settings, counts, oldest_available }
        })
    }

    fn delete_queue(
        &self,
        name: QueueName,
        force: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>> {
        self.run(move |model, now| model.delete_queue(&name, force, now).map(|jobs| DeletedQueue { jobs }))
    }

    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.run(move |model, now| model.key(&queue, &key, now).map(|hold| key_view(model, hold)))
    }

    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.run(move |model, now| model.release_key(&queue, &key, now).map(|hold| key_view(model, hold)))
    }

    fn setting(&self, name: String) -> BoxFuture<'_, EngineResult<Option<Setting>>> {
        self.run(move |model, _| model.settings.get(&name).cloned())
    }

    fn set_setting(
        &self,
        name: String,
        value: Bytes,
        expected: u64,
    ) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>> {
        self.run(move |model, _| match model.settings.get(&name) {
            Some(other) if other.version != expected => Err(other.clone()),
            None if expected != 0 => Err(Setting { value: Bytes::new(), version: 0 }),
            Some(_) | None => {
                model.settings.insert(name, Setting { value, version: expected + 1 });
                Ok(expected + 1)
            }
        })
    }

    fn effects(&self, ops: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>> {
        let done = self.run(|model, now| model.effects(ops, now));
        Box::pin(async move { done.await? })
    }

    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>> {
        self.run(move |model, _| model.effects.get(&name).cloned())
    }

    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>> {
        self.run(move |model, _| model.list_effects(&params))
    }

    fn events(&self, params: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>> {
        self.run(move |model, _| {
            let after = model.events.iter().filter(|event| event.cursor > params.after);
            let events: Vec<_> = after.take(params.limit as usize).cloned().collect();
            let next = events.last().map_or(params.after.min(model.last_event()), |event| event.cursor);
            let oldest = model.events.first().map_or(model.last_event() + 1, |event| event.cursor);
            EventPage { events, next, oldest }
        })
    }

    fn events_after(&self, cursor: EventCursor) -> BoxFuture<'_, EngineResult<()>> {
        let mut inner = self.lock();
        if inner.model.last_event() > cursor {
            return Box::pin(ready(Ok(())));
        }
        let (resolver, promise) = promise();
        inner.event_waiters.push((cursor, resolver));
        Box::pin(async move { promise.await.ok_or(EngineError::Closed) })
    }

    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        Box::pin(ready(self.tick_now()))
    }

    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        let mut inner = self.lock();
        if inner.tick_is_late(self.shared.clock.as_ref()) {
            return Box::pin(ready(()));
        }
        let (resolver, promise) = promise();
        inner.tick_waiters.push(resolver);
        Box::pin(async move {
            promise.await;
        })
    }

    fn backup(&self, _to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>> {
        Box::pin(ready(Err(EngineError::Io("the reference engine has no file to back up".to_owned()))))
    }

    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        let parked_polls = self.lock().parked.len() as u64;
        self.run(move |model, _| StoreStats {
            attempts: model.outcomes.iter().map(|(outcome, count)| (*outcome, *count)).collect(),
            parked_polls,
            keys: model.keys(),
            keys_in_memory: model.keys(),
            ..StoreStats::default()
        })
    }

    fn drain(&self) -> BoxFuture<'_, EngineResult<()>> {
        let mut inner = self.lock();
        inner.draining = true;
        answer_empty(std::mem::take(&mut inner.parked));
        Box::pin(ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.parked.clear();
        inner.finished_waiters.clear();
        inner.event_waiters.clear();
        inner.tick_waiters.clear();
        Box::pin(ready(Ok(())))
    }
}
