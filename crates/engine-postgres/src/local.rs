//! What a node keeps in memory: who waits for what. Nothing here is needed to be right, only to be
//! quick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use onefold_core::promise::{Promise, Resolver, promise};
use onefold_core::{
    Clock, DurationMs, EngineError, EventCursor, JobId, LeaseParams, LeasedJob, Outcome as AttemptOutcome,
    QueueName, StepDetector, Timestamp,
};

use crate::notify::News;

/// A parked call for jobs.
pub(crate) struct Parked {
    pub(crate) params: LeaseParams,
    /// By the monotonic clock: nobody waits longer because the wall clock was set.
    pub(crate) until: DurationMs,
    /// It may have been given jobs in a commit that was never answered.
    pub(crate) in_doubt: bool,
    pub(crate) answer: Resolver<Vec<LeasedJob>>,
}

/// What the clock the store lives by and this machine's monotonic clock showed at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) now: Timestamp,
    pub(crate) monotonic: DurationMs,
}

impl Clock for Reading {
    fn now(&self) -> Timestamp {
        self.now
    }
    fn monotonic(&self) -> DurationMs {
        self.monotonic
    }
}

struct Inner {
    /// In order of arrival, by a number that counts them.
    parked: BTreeMap<u64, Parked>,
    arrived: u64,
    finished: Vec<(JobId, Resolver<()>)>,
    events: Vec<(EventCursor, Resolver<()>)>,
    ticks: Vec<Resolver<()>>,
    /// Counts commits of this node after which there may have been a delivery to lease.
    deliveries: u64,
    delivery_waiters: Vec<Resolver<u64>>,
    /// When the last tick said the next one has to come.
    next_tick: Timestamp,
    /// The earliest time known since at which something becomes due.
    due: Option<Timestamp>,
    /// Since the first reading.
    steps: Option<StepDetector>,
    /// When it was last looked for finished jobs that are kept no longer, by the monotonic clock.
    retired: Option<DurationMs>,
    draining: bool,
    closed: bool,
    outcomes: BTreeMap<AttemptOutcome, u64>,
    commits: u64,
}

/// See the [module](self).
pub(crate) struct Local {
    inner: Mutex<Inner>,
    /// What other nodes should hear of.
    pub(crate) news: News,
}

fn resolve_all<K>(waiters: Vec<(K, Resolver<()>)>) {
    for (_, waiter) in waiters {
        // Whoever is gone needs no hint.
        let _ = waiter.resolve(());
    }
}

fn answer_empty(polls: impl IntoIterator<Item = Parked>) {
    for poll in polls {
        let _ = poll.answer.resolve(Vec::new());
    }
}

impl Inner {
    /// When a tick has to come for what this node knows.
    fn need(&self, clock: &dyn Clock) -> Option<Timestamp> {
        let left = |until: DurationMs| until.as_ms().saturating_sub(clock.monotonic().as_ms());
        let poll = self.parked.values().map(|parked| left(parked.until)).min();
        let poll = poll.map(|left| clock.now().saturating_add(DurationMs::from_ms(left)));
        [self.due, poll].into_iter().flatten().min()
    }

    /// Ends parked calls with an empty answer.
    fn end(&mut self, is_over: impl Fn(&Parked) -> bool) {
        let over: Vec<u64> =
            self.parked.iter().filter(|(_, p)| is_over(p)).map(|(number, _)| *number).collect();
        answer_empty(over.into_iter().filter_map(|number| self.parked.remove(&number)));
    }

    fn tick_is_late(&self, clock: &dyn Clock) -> bool {
        self.need(clock).is_some_and(|due| due < self.next_tick)
    }

    fn hurry(&mut self, clock: &dyn Clock) {
        if !self.ticks.is_empty() && self.tick_is_late(clock) {
            self.wake_ticks();
        }
    }

    fn wake_ticks(&mut self) {
        for waiter in self.ticks.drain(..) {
            let _ = waiter.resolve(());
        }
    }
}

impl Local {
    pub(crate) fn new() -> Local {
        let inner = Mutex::new(Inner {
            parked: BTreeMap::new(),
            arrived: 0,
            finished: Vec::new(),
            events: Vec::new(),
            ticks: Vec::new(),
            deliveries: 0,
            delivery_waiters: Vec::new(),
            next_tick: Timestamp::EPOCH,
            due: None,
            steps: None,
            retired: None,
            draining: false,
            closed: false,
            outcomes: BTreeMap::new(),
            commits: 0,
        });
        Local { inner, news: News::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> Result<(), EngineError> {
        if self.lock().closed { Err(EngineError::Closed) } else { Ok(()) }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Takes in what a commit brought.
    pub(crate) fn committed(&self, effects: &crate::work::Effects, clock: &dyn Clock) {
        self.news.add(&effects.leasable);
        let mut inner = self.lock();
        inner.commits += 1;
        for (outcome, count) in &effects.outcomes {
            *inner.outcomes.entry(*outcome).or_default() += count;
        }
        if let Some(due) = effects.due {
            inner.due = Some(inner.due.map_or(due, |earlier| earlier.min(due)));
        }
        if !effects.finished.is_empty() {
            let is_over = |id: &JobId| effects.finished.contains(id);
            let (over, waiting) = inner.finished.drain(..).partition(|(id, _)| is_over(id));
            inner.finished = waiting;
            resolve_all(over);
        }
        if effects.deliveries {
            inner.deliveries += 1;
            for waiter in std::mem::take(&mut inner.delivery_waiters) {
                let _ = waiter.resolve(inner.deliveries);
            }
        }
        if effects.told {
            resolve_all(std::mem::take(&mut inner.events));
        }
        inner.hurry(clock);
    }

    /// Parks a call, unless the store is closing.
    pub(crate) fn park(&self, parked: Parked, clock: &dyn Clock) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        if inner.draining {
            return answer_empty([parked]);
        }
        inner.arrived += 1;
        let number = inner.arrived;
        inner.parked.insert(number, parked);
        inner.hurry(clock);
    }

    /// Ends a parked call that is made again.
    pub(crate) fn end_parked(&self, poll: u64) {
        self.lock().end(|parked| parked.params.poll == Some(poll));
    }

    /// Parked calls that may be served from these queues, `None` meaning any, in order of arrival.
    pub(crate) fn to_serve(&self, queues: Option<&BTreeSet<QueueName>>) -> Vec<(u64, LeaseParams)> {
        let mut inner = self.lock();
        inner.parked.retain(|_, parked| !parked.answer.is_abandoned());
        let wanted = |parked: &&Parked| {
            queues.is_none_or(|queues| parked.params.queues.iter().any(|queue| queues.contains(queue)))
        };
        let served = inner.parked.iter().filter(|(_, parked)| wanted(parked));
        served.map(|(number, parked)| (*number, parked.params.clone())).collect()
    }

    /// Whether a call still waits.
    pub(crate) fn waits(&self, number: u64) -> bool {
        self.lock().parked.get(&number).is_some_and(|parked| !parked.answer.is_abandoned())
    }

    /// A commit was never answered in which these calls may have been given jobs.
    pub(crate) fn doubt(&self, numbers: impl Iterator<Item = u64>) {
        let mut inner = self.lock();
        for number in numbers {
            if let Some(parked) = inner.parked.get_mut(&number) {
                parked.in_doubt = true;
            }
        }
    }

    /// Whether what a call with its poll id holds may have been given to this one.
    pub(crate) fn is_in_doubt(&self, number: u64) -> bool {
        self.lock().parked.get(&number).is_some_and(|parked| parked.in_doubt)
    }

    /// Answers a parked call. Gives the jobs back if it is gone.
    pub(crate) fn give(&self, number: u64, leased: Vec<LeasedJob>) -> Result<(), Vec<LeasedJob>> {
        let parked = self.lock().parked.remove(&number);
        match parked {
            Some(parked) => parked.answer.resolve(leased),
            None => Err(leased),
        }
    }

    /// Ends the waits that are over.
    pub(crate) fn end_waits(&self, monotonic: DurationMs) {
        self.lock().end(|parked| parked.until <= monotonic);
    }

    /// Whether the clock the store lives by was stepped since the last reading.
    pub(crate) fn stepped(&self, reading: &Reading) -> bool {
        let mut inner = self.lock();
        match &mut inner.steps {
            Some(steps) => steps.stepped(reading),
            none => {
                *none = Some(StepDetector::new(reading));
                false
            }
        }
    }

    /// Whether to look again for what is kept no longer.
    pub(crate) fn is_time_to_retire(&self, monotonic: DurationMs, slack: DurationMs) -> bool {
        let mut inner = self.lock();
        let is_time = inner.retired.is_none_or(|last| monotonic.saturating_sub(last) >= slack);
        if is_time {
            inner.retired = Some(monotonic);
        }
        is_time
    }

    /// There was more than one look could do.
    pub(crate) fn retire_again(&self) {
        self.lock().retired = None;
    }

    /// What becomes due from now on is noted anew: a tick is about to look for itself.
    pub(crate) fn forget_due(&self) {
        self.lock().due = None;
    }

    /// Ends a tick that found this to be due next. Gives when to come again.
    pub(crate) fn ticked(&self, found: Timestamp, clock: &dyn Clock) -> Timestamp {
        let mut inner = self.lock();
        let next = inner.need(clock).map_or(found, |need| need.min(found));
        inner.next_tick = next;
        next
    }

    pub(crate) fn wait_tick(&self, clock: &dyn Clock) -> Option<Promise<()>> {
        let mut inner = self.lock();
        if inner.tick_is_late(clock) {
            return None;
        }
        let (resolver, promise) = promise();
        inner.ticks.push(resolver);
        Some(promise)
    }

    /// Has a tick come: another node may know of something earlier.
    pub(crate) fn wake_ticks(&self) {
        self.lock().wake_ticks();
    }

    /// Resolves when there may be a delivery to lease that was not there when `seen` was told.
    pub(crate) fn wait_deliveries(&self, seen: u64) -> Promise<u64> {
        let (resolver, promise) = promise();
        let mut inner = self.lock();
        if inner.deliveries > seen {
            let _ = resolver.resolve(inner.deliveries);
        } else if !inner.closed {
            inner.delivery_waiters.retain(|waiter| !waiter.is_abandoned());
            inner.delivery_waiters.push(resolver);
        }
        promise
    }

    pub(crate) fn wait_finished(&self, id: JobId) -> Promise<()> {
        let (resolver, promise) = promise();
        let mut inner = self.lock();
        if !inner.closed {
            inner.finished.push((id, resolver));
        }
        promise
    }

    /// Jobs whose end somebody waits for.
    pub(crate) fn awaited(&self) -> BTreeSet<JobId> {
        let mut inner = self.lock();
        inner.finished.retain(|(_, waiter)| !waiter.is_abandoned());
        inner.finished.iter().map(|(id, _)| *id).collect()
    }

    pub(crate) fn tell_finished(&self, ids: &BTreeSet<JobId>) {
        let mut inner = self.lock();
        let (over, waiting) = inner.finished.drain(..).partition(|(id, _)| ids.contains(id));
        inner.finished = waiting;
        resolve_all(over);
    }

    pub(crate) fn wait_events(&self, cursor: EventCursor) -> Promise<()> {
        let (resolver, promise) = promise();
        let mut inner = self.lock();
        if !inner.closed {
            inner.events.push((cursor, resolver));
        }
        promise
    }

    /// Whether somebody waits for events.
    pub(crate) fn awaits_events(&self) -> bool {
        let mut inner = self.lock();
        inner.events.retain(|(_, waiter)| !waiter.is_abandoned());
        !inner.events.is_empty()
    }

    /// Tells those who wait for events after a cursor before `last`.
    pub(crate) fn tell_events(&self, last: EventCursor) {
        let mut inner = self.lock();
        let (over, waiting) = inner.events.drain(..).partition(|(cursor, _)| *cursor < last);
        inner.events = waiting;
        resolve_all(over);
    }

    pub(crate) fn figures(&self) -> (u64, Vec<(AttemptOutcome, u64)>, u64) {
        let inner = self.lock();
        let outcomes = inner.outcomes.iter().map(|(outcome, count)| (*outcome, *count)).collect();
        (inner.parked.len() as u64, outcomes, inner.commits)
    }

    pub(crate) fn drain(&self) {
        let mut inner = self.lock();
        inner.draining = true;
        inner.end(|_| true);
    }

    /// Drops everybody who waits. Whether this was the first time.
    pub(crate) fn close(&self) -> bool {
        let mut inner = self.lock();
        inner.parked.clear();
        inner.finished.clear();
        inner.events.clear();
        inner.ticks.clear();
        inner.delivery_waiters.clear();
        !std::mem::replace(&mut inner.closed, true)
    }
}
